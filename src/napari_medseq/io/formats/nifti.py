"""NIfTI-1 and -2 and Analyze pairs: every field of the header doubted; voxels by `raw`.

Rules for the place in the patient are nibabel's: sform if its code is set, else qform, else pixdim alone (orientation
unknown). Sources: NIfTI-1 standard (nifti1.h), nibabel's documentation of the NIfTI header.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import GeometryError, ReadError
from napari_medseq.geometry import Affine, apply_points, as_affine, corners
from napari_medseq.io import frame_times, naming
from napari_medseq.io.formats import nifti_header
from napari_medseq.io.formats.nifti_header import RawHeader
from napari_medseq.io.formats.raw import Laziness, block, decided, head, is_gzip
from napari_medseq.io.formats.reader import Facts
from napari_medseq.io.label_values import labels_or_image
from napari_medseq.io.placing import place
from napari_medseq.progress import Cancelled
from napari_medseq.sequence import ImageSequence, Kind, Voxels
from napari_medseq.unread import is_lazy

_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_TO_SECONDS = {0: 1.0, 8: 1.0, 16: 1e-3, 24: 1e-6}
_LABEL_INTENT, _VECTOR_INTENTS = 1002, (1006, 1007, 1011)
_OURS = "napari-medseq"
_MOST_EXTENSION = 1 << 20


@dataclass
class Header:
    """A checked NIfTI header, with `shape` in the file's (x, y, z, t, …) order."""

    path: Path
    data_path: Path
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int
    affine: Affine
    oriented: bool
    slope: float | None
    inter: float
    intent: int
    format: str
    times: NDArray[np.float64] | None = None
    has_times: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def _pair(path: Path) -> tuple[Path, Path]:
    """Header and data file of a .hdr/.img pair, or the file itself twice."""
    name = path.name
    gz = ".gz" if name.lower().endswith(".gz") else ""
    base = name[: len(name) - len(gz)]
    if not base.lower().endswith((".hdr", ".img")):
        return path, path
    files = []
    for ending in (".hdr", ".img"):
        options = [path.with_name(base[:-4] + e + g) for e in (ending, ending.upper()) for g in (gz, "", ".gz")]
        hit = next((p for p in options if p.is_file()), None)
        if hit is None:
            raise ReadError(f"{path}: the {ending} file of the pair is missing; put both files side by side.")
        files.append(hit)
    return files[0], files[1]


def read_header(path: str | Path) -> Header:
    """Parse and check a NIfTI header without touching the voxels.

    Raises
    ------
    ReadError
        If the file is not a NIfTI, or its size or type cannot be true.
    """
    path, data_path = _pair(Path(path))
    raw = nifti_header.parse(head(path, nifti_header.SIZE), path)
    name, size, dtype, shape = raw.name, raw.size, raw.dtype, raw.shape
    if dtype is None:
        raise ReadError(
            f"{path}: voxel type {raw.datatype} is not supported; convert it to a whole-number or float type."
        )
    if len(shape) < 2 or any(n < 1 for n in shape):
        raise ReadError(f"{path}: the header says its size is {shape}, which is not an image; export the file again.")
    notes: list[str] = []
    single = path == data_path
    offset = float(raw.offset)
    least = size + 4 if single and raw.is_nifti else 0
    if not np.isfinite(offset) or offset < least or offset != int(offset):
        if offset != 0:
            notes.append(f"The voxel offset {offset:g} in the header cannot be true; {least} is used.")
        offset = least
    affine, oriented = _affine(raw, shape, notes)
    slope, inter = _scaling(raw, notes)
    header = Header(
        path,
        data_path,
        dtype,
        shape,
        int(offset),
        affine,
        oriented,
        slope,
        inter,
        raw.intent,
        name,
        warnings=notes,
    )
    if single and raw.is_nifti and offset > least:
        header.extra = _our_extension(path, size, int(offset), raw.order)
        if not oriented:
            header.affine = _own_affine(header.extra.get("affine"), affine)
    if len(shape) > 3 and shape[3] > 1:
        header.times, header.has_times = _times(header, raw)
    return header


def _affine(raw: RawHeader, shape: tuple[int, ...], notes: list[str]) -> tuple[Affine, bool]:
    """Place in the patient in mm, and whether the file really says so."""
    pixdim = np.array(raw.pixdim[1:4], dtype=np.float64)
    bad = ~np.isfinite(pixdim) | (pixdim == 0)
    bad[min(len(shape), 3) :] = False
    if bad.any():
        notes.append(
            f"pixdim {pixdim.tolist()} has zero or undefined spacing; 1 mm is used there where nothing better is known."
        )
    if (pixdim[: len(shape)] < 0).any():
        notes.append(f"pixdim {pixdim.tolist()} has negative spacing; its magnitude is used.")
    pixdim = np.abs(np.where(np.isfinite(pixdim) & (pixdim != 0), pixdim, 1.0))
    to_mm = np.diag([*(_TO_MM.get(raw.units & 7, 1.0),) * 3, 1.0])
    sform = qform = None
    if raw.sform_code > 0:
        sform = _usable(raw.sform(), "sform", notes)
    if raw.qform_code > 0:
        try:
            qform = _usable(raw.qform(pixdim), "qform", notes)
        except ValueError as error:
            notes.append(f"The qform is not a rotation ({error}); it is not used.")
    if sform is not None:
        if qform is not None and np.abs(_corners(sform, shape) - _corners(qform, shape)).max() > 0.1 * pixdim.min():
            notes.append("sform and qform place the image differently; the sform is used.")
        return as_affine(to_mm @ sform), True
    if qform is not None:
        return as_affine(to_mm @ qform), True
    notes.append("The file does not say how the image lies in the patient; spacing alone is used, orientation unknown.")
    # nibabel's base affine: x towards the patient's left, centred on the grid
    base = np.diag([-pixdim[0], pixdim[1], pixdim[2], 1.0])
    centre = (np.array([*shape[:3], 1, 1, 1][:3]) - 1) / 2
    base[:3, 3] = -base[:3, :3] @ centre
    return as_affine(to_mm @ base), False


def _own_affine(stored: object, derived: Affine) -> Affine:
    """The affine that `writing` stored for an image of unknown orientation; the derived one if it is none, or if its voxels have another
    size, because another program has changed the image since."""
    try:
        affine = as_affine(np.array(stored, dtype=np.float64))
    except (GeometryError, ValueError, TypeError):
        return derived
    steps, own = (np.linalg.norm(a[:3, :3], axis=0) for a in (derived, affine))
    return affine if np.allclose(steps, own, rtol=1e-4) else derived


def _corners(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return apply_points(affine, corners((*shape[:3], 1, 1)[:3]))


def _usable(matrix: Any, name: str, notes: list[str]) -> Affine | None:
    if matrix is None:
        return None
    try:
        return as_affine(matrix)
    except GeometryError:
        notes.append(f"The {name} holds zeros, NaN or parallel axes; it is not used.")
        return None


def _scaling(raw: RawHeader, notes: list[str]) -> tuple[float | None, float]:
    slope, inter = raw.slope, raw.inter
    if not np.isfinite(slope) or slope == 0 or (slope == 1 and inter == 0):
        return None, 0.0
    if not np.isfinite(inter):
        notes.append(f"scl_inter is {inter}; 0 is used.")
        inter = 0.0
    return slope, inter


def _times(header: Header, raw: RawHeader) -> tuple[NDArray[np.float64], bool]:
    """Seconds of the frames, and whether something says that the fourth axis is time."""
    count, notes = header.shape[3], header.warnings
    stored = header.extra.get("times")
    if isinstance(stored, list) and len(stored) == count and all(isinstance(v, (int, float)) for v in stored):
        return np.array(stored, float), True
    step, unit = float(raw.pixdim[4]), raw.units & 0x38
    step_times = step * _TO_SECONDS[unit] if unit in _TO_SECONDS and np.isfinite(step) and step > 0 else None
    beside = frame_times.from_sidecar(frame_times.sidecar(header.path, inherited=True), count, step_times, notes)
    if beside is not None:
        return beside, True
    if unit not in _TO_SECONDS:
        notes.append("The fourth axis is not time (its unit is a frequency); frames are counted instead.")
    elif step_times is None:
        notes.append("The time between frames is not given; frames are counted as 1 s apart.")
    elif doubt := frame_times.doubt_step(step_times, count):
        notes.append(doubt)
    times = np.arange(count, dtype=np.float64) * (step_times if step_times is not None else 1.0)
    return times, step_times not in (None, 1.0)


def _our_extension(path: Path, size: int, offset: int, endianness: str) -> dict[str, Any]:
    """Times and label names that `writing` stored in a comment (code 6); other comments are ignored."""
    block = head(path, min(offset, size + 4 + _MOST_EXTENSION))[size:]
    order: Any = "little" if endianness == "<" else "big"
    at = 4
    while len(block) >= at + 8 and block[:1] != b"\0":
        length, code = (int.from_bytes(block[at + k : at + k + 4], order) for k in (0, 4))
        if length < 8:
            break
        if code == 6 and _OURS.encode() in block[at + 8 : at + 64]:
            try:
                content = json.loads(block[at + 8 : at + length].rstrip(b"\0").decode())[_OURS]
                return content if isinstance(content, dict) else {}
            except (ValueError, KeyError, TypeError):
                return {}
        at += length
    return {}


def is_labels(header: Header) -> bool:
    """Whether a NIfTI is labels: by its intent code, else by its name or folder; never with RGB or complex voxels."""
    if header.dtype.fields or header.dtype.kind == "c":
        return False
    return header.intent == _LABEL_INTENT or naming.names_labels(header.path)


def read(
    path: Path, *, lazy: Laziness = False, kind: Kind | None = None, cancelled: Cancelled | None = None
) -> list[ImageSequence]:
    """Read a NIfTI file: one sequence, or magnitude and phase of complex data, or one per vector component of a 5D file.

    Raises
    ------
    ReadError
        If the file is cut short or its header cannot be true.
    """
    header = read_header(path)
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    stored_shape = tuple(reversed(shape))
    labels = kind == "labels" or (kind is None and is_labels(header))
    size = int(np.prod(stored_shape, dtype=object)) * header.dtype.itemsize
    frames = shape[3] if len(shape) > 3 else 1
    lazy = decided(lazy, size, frames, in_parts=not labels and not is_gzip(header.data_path))
    array: Any = block(header.data_path, header.offset, header.dtype, stored_shape, lazy=lazy, cancelled=cancelled)
    notes = list(header.warnings)
    axes: tuple[str, ...] = ("z", "y", "x")[-min(len(shape), 3) :]
    parts: list[tuple[str, Voxels]] = [("", array)]
    if len(shape) > 5:
        raise ReadError(
            f"{header.path}: it has {len(shape)} dimensions {shape}; up to 5 (x, y, z, time, component) are read."
        )
    if len(shape) == 4:
        axes = ("t", *axes)
    elif len(shape) == 5:
        axes = ("t", *axes)
        parts = [(f"_{k}", array[k]) for k in range(shape[4])]
        if shape[3] == 1:  # components only: walk through them with the slider
            parts = [("", array[:, 0])]
            notes.append("Axis t holds the components of a vector, not time.")
        elif shape[4] == 1:
            parts = [("", array[0])]
    facts = _facts(header, notes)
    out = []
    for suffix, part in parts:
        for ending, values, names in _values(part, axes, header):
            out.append(_sequence(header, values, names, suffix + ending, kind, facts, notes))
    return out


def _values(part: Any, axes: tuple[str, ...], header: Header) -> list[tuple[str, Voxels, tuple[str, ...]]]:
    """Stored voxels to meaningful ones: RGB to an axis c, complex to magnitude and phase, scaling applied."""
    dtype = header.dtype
    if dtype.fields:
        names = list(dtype.fields)
        if is_lazy(part):
            channels = part.map_blocks(
                _split_fields, len(names), new_axis=part.ndim, chunks=(*part.chunks, (len(names),)), dtype=np.uint8
            )
        else:
            channels = _split_fields(part, len(names))
        return [("", channels, (*axes, "c"))]
    if dtype.kind == "c":
        if header.slope is not None:  # of both parts alike (nifti1.h, on scl_slope)
            part = part * header.slope + complex(header.inter, header.inter)
        return [("", abs(part), axes), ("_phase", np.arctan2(part.imag, part.real), axes)]
    if header.slope is not None:
        wide = dtype.kind in "iu" and dtype.itemsize > 2
        to = np.float64 if dtype.itemsize >= 8 or wide else np.float32
        scale = partial(_scaled, slope=to(header.slope), inter=to(header.inter))
        scaled = part.mapped(scale, np.dtype(to)) if is_lazy(part) else scale(part)
        return [("", scaled, axes)]
    return [("", part, axes)]


def _scaled(block: NDArray[np.generic], slope: np.floating, inter: np.floating) -> NDArray[np.floating]:
    """Stored voxels times a slope, plus an intercept, in the type of the slope."""
    out = block.astype(slope.dtype)
    out *= slope
    out += inter
    return out


def _split_fields(block: NDArray[np.generic], count: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(block).view(np.uint8).reshape(*block.shape, count)


def _facts(header: Header, notes: list[str]) -> dict[str, Any]:
    beside = frame_times.sidecar(header.path)
    modality, stamp = beside.get("Modality"), beside.get("AcquisitionDateTime")
    acquired = None
    if isinstance(stamp, str):
        try:
            acquired = datetime.fromisoformat(stamp)
        except ValueError:
            notes.append("AcquisitionDateTime in the JSON beside the file is not a date; it is not used.")
    meta = {
        "source": str(header.path),
        "dtype": str(header.dtype.newbyteorder("=")) if not header.dtype.fields else "rgb",
        "format": header.format,
    }
    return {
        "modality": modality if isinstance(modality, str) and len(modality) <= 16 else None,
        "acquired": acquired,
        "meta": meta,
    }


def _sequence(
    header: Header,
    values: Voxels,
    axes: tuple[str, ...],
    suffix: str,
    kind: Kind | None,
    facts: dict[str, Any],
    notes: list[str],
) -> ImageSequence:
    notes = list(notes)
    labels = kind == "labels" or (kind is None and suffix == "" and is_labels(header))
    if labels:
        values, axes, labels = labels_or_image(
            values, axes, where=header.path, labels_asked=kind == "labels", notes=notes, has_times=header.has_times
        )
    times = None
    if "t" in axes:
        count = values.shape[axes.index("t")]
        times = header.times if header.times is not None and len(header.times) == count else np.arange(count) * 1.0
    names = {}
    if labels and isinstance(header.extra.get("label_names"), dict):
        names = {int(k): str(v) for k, v in header.extra["label_names"].items() if str(k).lstrip("-").isdigit()}
    return place(
        values, axes, header.affine, oriented=header.oriented, times=times, kind="labels" if labels else "image",
        label_names=names, name=naming.readable(naming.stem(header.path)) + suffix, warnings=tuple(notes),
        meta=facts["meta"], modality=facts["modality"], acquired=facts["acquired"],
    )  # fmt: skip


def facts(path: Path) -> list[Facts]:
    """Header facts of one NIfTI for `info`."""
    header = read_header(path)
    return [
        Facts(
            name=naming.stem(header.path),
            kind="labels" if is_labels(header) else "image",
            format=header.format,
            source=str(header.path),
            shape=header.shape,
            spacing_mm=tuple(float(v) for v in np.linalg.norm(header.affine[:3, :3], axis=0)),
            frames=header.shape[3] if len(header.shape) > 3 else 1,
            dtype=str(header.dtype) if not header.dtype.fields else "rgb",
            compressed=is_gzip(header.data_path),
            warnings=tuple(header.warnings),
        )
    ]
