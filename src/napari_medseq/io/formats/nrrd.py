"""NRRD: read without a library (sheared grids, lists, sequences and Slicer's keys are lost by others), and written.

Source: the NRRD format definition (teem.sourceforge.net/nrrd/format.html); Slicer's ``.seq.nrrd`` keys as its
documentation of the sequence storage node names them.
"""

from __future__ import annotations

import bz2
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io import label_names, naming
from napari_medseq.io.formats.nrrd_block import facts_of, write_block
from napari_medseq.io.formats.nrrd_header import Header, read_header, time_step
from napari_medseq.io.formats.packing import cannot_hold
from napari_medseq.io.formats.raw import (
    Laziness,
    block,
    decided,
    lazy_packed,
    load_packed,
    native,
    on_demand,
)
from napari_medseq.io.formats.reader import Facts
from napari_medseq.io.frame_times import doubt_step
from napari_medseq.io.label_values import labels_or_image
from napari_medseq.io.placing import place, restored
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import ImageSequence, Kind, Voxels

_COLOURS = {"rgb-color": 3, "3-color": 3, "rgba-color": 4, "4-color": 4}


def load(header: Header, *, lazy: Laziness = False) -> Voxels:
    """The voxels in C order (slowest axis first).

    Raises
    ------
    ReadError
        If they are cut short, damaged, or in an encoding that is not known.
    """
    shape, path = tuple(reversed(header.sizes)), header.data_path
    byte_count = int(np.prod(shape, dtype=object)) * header.dtype.itemsize
    size = path.stat().st_size
    if header.encoding == "raw":
        return block(path, header.offset, header.dtype, shape, lazy=lazy)
    if header.encoding not in ("gzip", "gz", "bzip2", "bz2", "ascii", "text", "txt"):
        raise ReadError(f"{path}: encoding {header.encoding!r} is not known; save it as raw or gzip.")
    if header.encoding in ("gzip", "gz"):
        return (lazy_packed if lazy is True else load_packed)(path, header.offset, header.dtype, shape)
    if cannot_hold(size, byte_count):
        raise ReadError(
            f"{path}: the header promises {byte_count:,} bytes of voxels, which {size:,} bytes cannot hold; save it again."
        )
    return on_demand(partial(_slowly, header, shape), header.dtype, shape) if lazy is True else _slowly(header, shape)


def _slowly(header: Header, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Voxels written as text or packed by bzip2, which hardly anyone does."""
    path, byte_count = header.data_path, int(np.prod(shape, dtype=object)) * header.dtype.itemsize
    with open(path, "rb") as file:
        file.seek(header.offset)
        block = file.read()
    try:
        if header.encoding in ("bzip2", "bz2"):
            data: Any = bz2.BZ2Decompressor().decompress(block, byte_count)
        else:
            data = np.array(block.split(), dtype=header.dtype).tobytes()
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: its voxels are damaged ({error}); copy or save it again.") from error
    if len(data) < byte_count:
        raise ReadError(
            f"{path}: {byte_count - len(data):,} of {byte_count:,} bytes of voxels are missing; the file was cut short."
        )
    return native(np.frombuffer(bytearray(data[:byte_count]), header.dtype).reshape(shape))


def read(
    path: Path, *, lazy: Laziness = False, kind: Kind | None = None, cancelled: Cancelled | None = None
) -> list[ImageSequence]:
    """Read an NRRD: an image, labels, a Slicer sequence (``.seq.nrrd``) or segmentation (``.seg.nrrd``).

    Raises
    ------
    ReadError
        If the header or the voxels cannot be used.
    """
    header = read_header(path)
    if "Segment0_ID" in header.keys or any(re.match(r"Segment\d+_", k) for k in header.keys):
        from napari_medseq.io.formats import slicer

        if kind != "image":
            return slicer.segments(header, load(header, lazy=lazy is True))
    if lazy == "auto":
        size = int(np.prod(header.sizes, dtype=object)) * header.dtype.itemsize
        frames = max((header.sizes[k] for k in range(len(header.sizes)) if k not in header.domain), default=1)
        labelled = kind == "labels" or (kind is None and _says_labels(header))
        lazy = decided(lazy, size, frames, in_parts=header.encoding == "raw" and not labelled)
    check(cancelled)
    array, notes = load(header, lazy=lazy), list(header.warnings)
    others = [k for k in range(len(header.sizes)) if k not in header.domain]
    colour = next((k for k in others if header.sizes[k] in (3, 4) and _is_colour(header, k)), None)
    along = [k for k in others if k != colour]
    if len(along) > 1:
        raise ReadError(f"{path}: it has {len(along)} axes beside space; one (time) is read. Split it first.")
    order = ([along[0]] if along else []) + list(reversed(header.domain)) + ([colour] if colour is not None else [])
    array = array.transpose([len(header.sizes) - 1 - k for k in order])
    axes = (("t",) if along else ()) + ("z", "y", "x")[-len(header.domain) :] + (("c",) if colour is not None else ())
    times = frame_times(header, along[0], notes) if along else None
    timed = times is not None and (times[-1] != len(times) - 1 or "index values" in " ".join(header.keys))
    if (
        along
        and header.kinds[along[0]] in ("vector", "3-vector", "covariant-vector", "3-gradient", "list", "complex")
        and times is None
    ):
        if "index" not in " ".join(header.keys):
            notes.append(f"Axis t holds a {header.kinds[along[0]]}, not time.")
        times = np.arange(header.sizes[along[0]], dtype=float)
    labels = kind == "labels" or (kind is None and _says_labels(header) and colour is None)
    if labels:
        array, axes, labels = labels_or_image(
            array, axes, where=path, labels_asked=kind == "labels", notes=notes, has_times=timed
        )
        times = times if "t" in axes else None
    seq = place(
        array, axes, header.affine, oriented=header.oriented, times=times, kind="labels" if labels else "image",
        name=naming.readable(naming.stem(path)), warnings=tuple(notes), meta=facts_of(header),
        label_names=(label_names.from_text(header.keys.get(label_names.FIELD)) or {}) if labels else {},
    )  # fmt: skip
    return [seq]


def _says_labels(header: Header) -> bool:
    """Whether the file's name, or a field that `write` adds, says that it holds labels."""
    return naming.names_labels(header.path) or label_names.from_text(header.keys.get(label_names.FIELD)) is not None


def _is_colour(header: Header, k: int) -> bool:
    return header.kinds[k] in _COLOURS or (header.kinds[k] == "vector" and header.dtype == np.uint8)


def frame_times(header: Header, k: int, notes: list[str]) -> NDArray[np.float64] | None:
    """Seconds of the frames along axis `k`: Slicer's index values or frame labels, else spacing; None if there is neither."""
    count = header.sizes[k]
    units = re.findall(r'"([^"]*)"', header.fields.get("units", ""))
    unit = units[k] if len(units) == len(header.sizes) else ""
    entry = header.keys.get(f"axis {k} index values") or header.keys.get("axis 0 index values")
    if not entry:  # of Slicer's module MultiVolumeImporter, with a unit of its own, which is mostly milliseconds
        entry = header.keys.get("MultiVolume.FrameLabels")
        unit = header.keys.get("MultiVolume.FrameIdentifyingDICOMTagUnits") or unit if entry else unit
    scale = {"ms": 1e-3, "msec": 1e-3, "us": 1e-6, "min": 60.0}.get(unit.strip().lower(), 1.0)
    if entry is not None:
        try:
            values = np.array([float(v) for v in re.split(r"[\s,]+", entry.strip())])
            if values.shape == (count,) and np.isfinite(values).all():
                return np.asarray((values - values[0]) * scale, dtype=np.float64)
        except ValueError:
            pass
        notes.append("The index values of the sequence are not numbers; frames are counted 1 s apart.")
        return np.arange(count, dtype=np.float64)
    step = time_step(header.fields, k)
    if step is None or not np.isfinite(step) or step <= 0:
        return None
    if doubt := doubt_step(step * scale, count):
        notes.append(doubt)
    return np.arange(count, dtype=np.float64) * (step * scale)


def facts(path: Path) -> list[Facts]:
    """Header facts of one NRRD for `info`."""
    header = read_header(path)
    segments = any(re.match(r"Segment\d+_", k) for k in header.keys)
    others = [
        header.sizes[k] for k in range(len(header.sizes)) if k not in header.domain and header.kinds[k] not in _COLOURS
    ]
    return [
        Facts(
            name=naming.stem(path),
            kind="labels" if segments or _says_labels(header) else "image",
            format="NRRD",
            source=str(path),
            shape=(*(header.sizes[k] for k in header.domain), *others),
            spacing_mm=tuple(float(v) for v in np.linalg.norm(header.affine[:3, :3], axis=0)),
            frames=int(np.prod(others)) if others and not segments else 1,
            dtype=str(header.dtype),
            warnings=tuple(header.warnings),
        )
    ]


def write(seq: ImageSequence, path: Path) -> None:
    """Write an image or labels; time as a list axis with Slicer's index keys.

    Raises
    ------
    WriteError
        If the voxels' type is unknown to NRRD.
    """
    array, axes, affine = restored(seq)
    keys: dict[str, str] = {}
    if seq.kind == "labels":
        keys[label_names.FIELD] = label_names.as_text(seq.label_names)
    lead = ["t"] if "t" in axes else []
    order = (["c"] if "c" in axes else []) + ["x", "y", "z"] + lead
    kinds = ["RGB-color" if seq.size("c") == 3 else "RGBA-color"] if "c" in axes else []
    kinds += ["domain"] * 3 + ["list"] * len(lead)
    if seq.times is not None:
        k = order.index("t")
        keys[f"axis {k} index type"] = "numeric"
        keys[f"axis {k} index values"] = " ".join(repr(float(v)) for v in seq.times)
    block = np.asarray(array).transpose([axes.index(a) for a in reversed(order)])
    units = None
    if lead:
        units = " ".join('"s"' if a == "t" else '""' for a in order)
    write_block(path, block, affine, seq.oriented, order, kinds, keys, units)
