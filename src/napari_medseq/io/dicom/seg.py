"""Reading DICOM segmentations (binary, fractional, label map) as labels.

They are read with pydicom: frames are placed by their functional groups, frames that were left out because they are
empty are restored, and overlapping segments become several label sequences. `seg_write` writes them through highdicom.
highdicom reads the same voxels (``segread(...).get_volume()``). Measured alternately on the same files, this parser
took 0.43 to 0.86 of its time to read one, and half of its time as a process (2.1–2.6 s against 4.5–5.3 s,
`benchmarks/seg_reading.py`). In addition, files with missing or doubtful attributes open here with a warning. If
neither holds any longer, this parser may be removed. Source: DICOM PS3.3 C.8.20.2 (segmentation image module),
C.8.20.4 (segment description).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.geometry import RAS_LPS
from napari_medseq.io import naming, overlay
from napari_medseq.io.dicom import decoding, enhanced, series, stored
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.frames import frames_of
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.privacy import pseudonym, without_identifiers
from napari_medseq.io.dicom.stacks import Stack
from napari_medseq.io.dicom.values import first_item, integer, number, numbers, text, value
from napari_medseq.io.placing import place
from napari_medseq.sequence import ImageSequence

_MOST_SEGMENTS = 65535


def read(file: FileHeader, stacks: Sequence[tuple[Stack, str]]) -> list[ImageSequence]:
    """Read all segments of one file, on the grid of the referenced series if it is available and fits, else on their
    own.

    Raises
    ------
    ReadError
        If the frames have no position or do not lie on an even grid, or the pixels are damaged.
    """
    ds = file.ds
    notes = list(file.notes)
    doubt = stored.check_promise(file)
    if doubt:
        notes.append(doubt)
    frames = frames_of(file)
    if not frames or any(f.position is None or f.row is None for f in frames):
        raise ReadError(f"{file.path}: its frames have no position in the patient; export the segmentation again.")
    affine, shape, slots = _grid(file, frames, stacks, notes)
    names, colours, tracking = _described(ds)
    layers = overlay.layered(_masks(file, frames, slots, shape, notes), shape, max([*names, 1]))
    reference = _reference(file, stacks)
    base = naming.readable(
        without_identifiers(text(ds, "ContentLabel") or text(ds, "SeriesDescription"), ds) or file.name
    )
    out = []
    for k, layer in enumerate(layers):
        renamed = _own_values(ds, layer, tracking)
        meta = _facts(file, layer)
        refers = first_item(ds, "ReferencedSeriesSequence")
        if refers is not None:
            meta["referenced_series_uid"] = text(refers, "SeriesInstanceUID")
        meta["colors"] = {renamed.get(v, v): colours[v] for v in layer.values if v in colours}
        meta["tracking"] = {renamed.get(v, v): tracking[v] for v in layer.values if v in tracking}
        out.append(
            place(
                layer.array, ("z", "y", "x"), affine, kind="labels", name=base if len(layers) == 1 else f"{base}_layer{k + 1}",
                label_names={renamed.get(v, v): names.get(v, f"Segment {v}") for v in layer.values}, meta=meta,
                modality=text(reference.first.file.ds, "Modality") if reference else None,
                slice_axis=series.slice_axis_of(reference) if reference else None,
                acquired=reference.first.acquired if reference else frames[0].acquired, warnings=tuple(notes) if k == 0 else (),
            )
        )  # fmt: skip
    return out


def _facts(file: FileHeader, layer: overlay.Layer) -> dict[str, Any]:
    ds = file.ds
    meta: dict[str, Any] = {"source": file.path, "format": "DICOM SEG", "dtype": str(layer.array.dtype)}
    meta["patient"] = pseudonym(ds)
    for key, keyword in series.FACTS.items():
        if text(ds, keyword):
            meta[key] = text(ds, keyword)
    return meta


def _reference(file: FileHeader, stacks: Sequence[tuple[Stack, str]]) -> Stack | None:
    uids = {text(one, "SeriesInstanceUID") for one in value(file.ds, "ReferencedSeriesSequence") or []} - {""}
    fitting = [s for s, _ in stacks if s.oriented and text(s.first.file.ds, "SeriesInstanceUID") in uids]
    return next(iter(series.nearest(file, fitting)), None)


def _grid(
    file: FileHeader, frames: list[Frame], stacks: Sequence[tuple[Stack, str]], notes: list[str]
) -> tuple[NDArray[np.float64], tuple[int, int, int], list[int]]:
    """Affine, (z, y, x) shape, and each frame's slice."""
    places = np.array([f.plane[0] for f in frames])
    reference = _reference(file, stacks)
    if reference is not None and reference.first.shape == frames[0].shape:
        ras = places * (-1, -1, 1)
        at = np.linalg.solve(reference.affine[:3, :3], (ras - reference.affine[:3, 3]).T).T
        if np.abs(at - np.rint(at)).max() < 0.1 and np.abs(at[:, :2]).max() < 0.1:
            slots = [int(k) for k in np.rint(at[:, 2])]
            depth = len(reference.grid[0])
            if min(slots) >= 0 and max(slots) < depth and _same_axes(reference, frames[0]):
                return reference.affine, (depth, *frames[0].shape), slots
    start, row, column = frames[0].plane
    normal = np.cross(row, column)
    depths = (places - start) @ normal
    order = np.unique(np.round(depths, 3))
    steps = np.diff(order)
    steps = steps[steps > 1e-2]
    step = float(steps.min()) if len(steps) else frames[0].between or frames[0].thickness or 1.0
    between = frames[0].between
    if between and len(steps) and abs(step / between - round(step / between)) < 0.05 and step / between > 1.5:
        step = between  # every second slice may be empty
    count = round((order[-1] - order[0]) / step) + 1
    slots = [round((d - order[0]) / step) for d in depths]
    off = max(abs((d - order[0]) / step - k) for d, k in zip(depths, slots, strict=True))
    if off > 0.1:
        raise ReadError(
            f"{file.path}: its slices are unevenly spaced; open it together with the series that it was drawn on."
        )
    if count > 4 * len(order) + 256:
        raise ReadError(
            f"{file.path}: its {len(order)} slices are spread over {count} places; these positions are not plausible."
        )
    down, along = frames[0].spacing or (1.0, 1.0)
    if frames[0].spacing is None:
        notes.append("No usable PixelSpacing: one voxel counts as 1 mm, so sizes in mm are not to be trusted.")
    low, high = places[int(np.argmin(depths))], places[int(np.argmax(depths))]
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 3] = row * along, column * down, low
    lps[:3, 2] = (high - low) / (count - 1) if count > 1 else normal * step
    return RAS_LPS @ lps, (count, *frames[0].shape), slots


def _same_axes(reference: Stack, frame: Frame) -> bool:
    _, row, column = reference.first.plane
    _, other_row, other_column = frame.plane
    return bool(row @ other_row > 0.9999 and column @ other_column > 0.9999) and reference.first.spacing is not None


def _described(ds: Attributes) -> tuple[dict[int, str], dict[int, list[float]], dict[int, dict[str, str]]]:
    """Names, colours and tracking of segments, by segment number."""
    names: dict[int, str] = {}
    colours: dict[int, list[float]] = {}
    tracking: dict[int, dict[str, str]] = {}
    for item in (value(ds, "SegmentSequence") or [])[:_MOST_SEGMENTS]:
        k = integer(item, "SegmentNumber", -1)
        if k < 0:
            continue
        names[k] = without_identifiers(text(item, "SegmentLabel"), ds) or f"Segment {k}"
        lab = numbers(item, "RecommendedDisplayCIELabValue", 3)
        if lab is not None:
            colours[k] = _rgb(lab)
        identifier, is_ours = text(item, "TrackingID"), text(ds, "ManufacturerModelName") == "napari-medseq"
        if text(item, "TrackingUID"):
            tracking[k] = {
                "id": identifier if is_ours else without_identifiers(identifier, ds),
                "uid": text(item, "TrackingUID"),
            }
    return names, colours, tracking


def _rgb(stored: NDArray[np.float64]) -> list[float]:
    """sRGB from DICOM's 16-bit CIELab (PS3.3 C.10.7.1.1)."""
    from skimage.color import lab2rgb

    lab = stored / 65535 * (100, 255, 255) - (0, 128, 128)
    return [round(float(v), 4) for v in np.clip(lab2rgb(lab.reshape(1, 1, 3)).ravel(), 0, 1)]


def _own_values(ds: Attributes, layer: overlay.Layer, tracking: dict[int, dict[str, str]]) -> dict[int, int]:
    """In a file of this package, map segment numbers back to label values (kept in the tracking ID), in place."""
    if text(ds, "ManufacturerModelName") != "napari-medseq":
        return {}
    renamed: dict[int, int] = {}
    for k in layer.values:
        number = tracking.get(k, {}).get("id", "").rpartition(" ")[2]
        if number.isdigit() and 0 < int(number) < 2**31:
            renamed[k] = int(number)
    if len(set(renamed.values())) != len(layer.values):
        return {}
    table = np.zeros(max(layer.values, default=0) + 1, np.int32)
    for k, v in renamed.items():
        table[k] = v
    array = table[layer.array]
    layer.array = array.astype(np.uint8) if array.max(initial=0) < 256 else array
    return renamed


def _masks(
    file: FileHeader, frames: list[Frame], slots: list[int], shape: tuple[int, int, int], notes: list[str]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The mask of each segment, one after the other."""
    ds = file.ds
    kind = text(ds, "SegmentationType").upper()
    planes = _planes(file, frames)
    if kind == "LABELMAP":
        background = integer(ds, "PixelPaddingValue", 0)
        volume = np.full(shape, background, np.int32)
        for plane, slot in zip(planes, slots, strict=True):
            volume[slot] = plane
        for value_present in np.unique(volume):
            if value_present not in (0, background):
                yield int(value_present), volume == value_present
        return
    threshold = 1.0
    if kind == "FRACTIONAL":
        threshold = max(0.5 * (number(ds, "MaximumFractionalValue") or 255.0), 1e-6)
        notes.append("A fractional segmentation: voxels of at least one half are in the label.")
    groups = enhanced.groups_of(ds, len(frames))
    by_segment: dict[int, list[int]] = {}
    for k, group in enumerate(groups):
        item = group.item("SegmentIdentificationSequence")
        segment = integer(item, "ReferencedSegmentNumber", 1) if item is not None else 1
        by_segment.setdefault(segment, []).append(k)
    for segment, members in sorted(by_segment.items()):
        mask = np.zeros(shape, bool)
        for k in members:
            mask[slots[k]] |= np.greater_equal(planes[k], threshold)
        yield segment, mask


def _planes(file: FileHeader, frames: list[Frame]) -> Sequence[NDArray[np.generic]] | NDArray[np.uint8]:
    """The pixels of the frames; samples of one bit are unpacked together, because frames do not start at whole
    bytes."""
    if integer(file.ds, "BitsAllocated", 8) != 1 or file.encapsulated:
        return [decoding.decode(f) for f in frames]
    rows, columns = frames[0].shape
    bit_count = len(frames) * rows * columns
    packed = np.frombuffer(file.source.read(file.pixel_at, (bit_count + 7) // 8), np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[:bit_count]
    if bits.size < bit_count:
        bits = np.concatenate([bits, np.zeros(bit_count - bits.size, np.uint8)])
    return bits.reshape(len(frames), rows, columns)
