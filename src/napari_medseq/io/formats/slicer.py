"""3D Slicer's segmentations (``.seg.nrrd``): names, colours and layers both ways, so that work moves to and fro.

Source: Slicer's documentation of the segmentation file format (keys ``SegmentN_…`` in an NRRD).
"""

from __future__ import annotations

import re
from colorsys import hsv_to_rgb
from pathlib import Path

import numpy as np

from napari_medseq.errors import WriteError
from napari_medseq.io import naming
from napari_medseq.io.formats.nrrd_block import facts_of, write_block
from napari_medseq.io.formats.nrrd_header import Header
from napari_medseq.io.label_values import as_labels
from napari_medseq.io.placing import place, restored
from napari_medseq.sequence import ImageSequence, Voxels
from napari_medseq.volumes.labelled import value_boxes


def segments(header: Header, array: Voxels) -> list[ImageSequence]:
    """One label sequence per layer; overlapping segments lie in different layers."""
    layers: dict[int, dict[int, dict[str, str]]] = {}
    by_number: dict[int, dict[str, str]] = {}
    for key, value in header.keys.items():
        match = re.fullmatch(r"Segment(\d{1,5})_(\w+)", key)
        if match:
            by_number.setdefault(int(match[1]), {})[match[2]] = value.strip()
    for number, facts in sorted(by_number.items()):
        old = "LabelValue" not in facts  # before Slicer 4.11: one layer per segment, value 1
        layer = _whole(facts.get("Layer"), number if old else 0)
        layers.setdefault(layer, {})[_whole(facts.get("LabelValue"), 1)] = facts
    others = [k for k in range(len(header.sizes)) if k not in header.domain]
    rank = len(header.sizes)
    order = [rank - 1 - k for k in (*others, *reversed(header.domain))]
    volume = array.transpose(order)
    if not others:
        volume = volume[np.newaxis]
    notes = list(header.warnings)
    out = []
    name = naming.readable(naming.stem(header.path))
    for layer, members in sorted(layers.items()):
        if not 0 <= layer < volume.shape[0]:
            notes.append(f"Layer {layer} is named but not there; its segments are left out.")
            continue
        values, whole = as_labels(volume[layer], notes)
        if not whole:
            notes.append("The voxels of a segmentation are not whole numbers; they were rounded.")
            values = np.rint(np.nan_to_num(np.asarray(values))).astype(np.int32)
        meta = facts_of(header)
        meta["colors"] = {v: _colour(f.get("Color", ""), v) for v, f in members.items()}
        meta["segment_ids"] = {v: f.get("ID", "") for v, f in members.items()}
        names = {v: f.get("Name", f"Segment_{v}") for v, f in members.items()}
        out.append(
            place(
                values, ("z", "y", "x")[-len(header.domain) :], header.affine, oriented=header.oriented, kind="labels",
                label_names=names, name=name if len(layers) == 1 else f"{name}_layer{layer + 1}", meta=meta,
            )
        )  # fmt: skip
    if notes and out:
        out[0] = out[0].replace(warnings=tuple(notes))
    return out


def _whole(text: str | None, default: int) -> int:
    try:
        return int(float(text)) if text is not None else default
    except (ValueError, OverflowError):
        return default


def _colour(text: str, value: int) -> list[float]:
    try:
        parts = [min(max(float(v), 0.0), 1.0) for v in text.split()]
    except ValueError:
        parts = []
    return parts if len(parts) == 3 else list(hsv_to_rgb((value * 0.381966) % 1.0, 0.65, 0.95))


def write(seq: ImageSequence, path: Path) -> None:
    """Write labels as a Slicer segmentation, one segment per value, in one layer.

    Raises
    ------
    WriteError
        If the labels have frames in time.
    """
    if "t" in seq.axes:
        raise WriteError(f"{seq.name}: a segmentation has no time axis; write its frames one by one, or .seq.nrrd.")
    array, axes, affine = restored(seq)
    block = np.asarray(array).transpose([axes.index(a) for a in ("z", "y", "x")])
    if int(block.min(initial=0)) < 0:
        raise WriteError(f"{seq.name}: labels below zero cannot be segments; make them positive.")
    top = int(block.max(initial=0))
    block = block.astype(next(t for t in (np.uint8, np.int16, np.int32, np.int64) if top <= np.iinfo(t).max))
    boxes = value_boxes(block)
    values = sorted({*boxes, *(int(v) for v in seq.label_names if int(v) > 0)})
    colours, ids = seq.meta.get("colors", {}), seq.meta.get("segment_ids", {})
    keys = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": "",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for number, value in enumerate(values):
        extent = [f"{s.start} {s.stop - 1}" for s in reversed(boxes.get(value, (slice(0, 0),) * 3))]
        colour = colours.get(value) or colours.get(str(value)) or _colour("", value)
        about = {
            "ID": ids.get(value) or ids.get(str(value)) or f"Segment_{value}",
            "Name": seq.label_names.get(value, f"Segment_{value}"),
            "Color": " ".join(f"{float(c):.6g}" for c in colour),
            "LabelValue": str(value),
            "Layer": "0",
            "Extent": " ".join(extent),
            "NameAutoGenerated": "0",
            "ColorAutoGenerated": "0",
            "Tags": "",
        }
        keys.update({f"Segment{number}_{k}": v for k, v in about.items()})
    write_block(path, block, affine, seq.oriented, ["x", "y", "z"], ["domain"] * 3, keys)
