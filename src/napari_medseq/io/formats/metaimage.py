"""MetaImage (``.mha``, ``.mhd``): read by itself, written through SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseq.errors import GeometryError, ReadError, WriteError
from napari_medseq.geometry import RAS_LPS, Affine, as_affine
from napari_medseq.io import label_names, naming
from napari_medseq.io.formats.metaimage_header import ORIENTED, Header, load, read_header
from napari_medseq.io.formats.raw import Laziness, decided, storable
from napari_medseq.io.formats.reader import Facts
from napari_medseq.io.frame_times import doubt_step
from napari_medseq.io.label_values import labels_or_image
from napari_medseq.io.placing import place, restored
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import ImageSequence, Kind


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[-200:]


def _affine(spacing: Any, origin: Any, direction: Any, dimension: int) -> Affine:
    matrix = np.eye(4)
    n = min(dimension, 3)
    cosines = np.asarray(direction, float).reshape(dimension, dimension)[:n, :n]
    matrix[:n, :n] = cosines * np.asarray(spacing, float)[:n]
    matrix[:n, 3] = np.asarray(origin, float)[:n]
    return as_affine(RAS_LPS @ matrix)


def read(
    path: Path, *, lazy: Laziness = False, kind: Kind | None = None, cancelled: Cancelled | None = None
) -> list[ImageSequence]:
    """Read a MetaImage.

    Raises
    ------
    ReadError
        If its header cannot be true, its data files are missing, lie elsewhere, or are damaged.
    """
    grid = read_header(path)
    if lazy == "auto":
        labelled = kind == "labels" or (kind is None and _says_labels(grid))
        size = int(np.prod(grid.shape, dtype=object)) * grid.dtype.itemsize
        frames = grid.sizes[3] if len(grid.sizes) > 3 else 1
        lazy = decided(lazy, size, frames, in_parts=not labelled and not grid.packed)
    check(cancelled)
    array = load(grid, lazy=lazy)
    dimension, components = len(grid.sizes), grid.components
    notes = list(grid.notes)
    axes: tuple[str, ...] = ("t", "z", "y", "x")[-dimension:]
    if components > 1:
        if components in (3, 4) and array.dtype in (np.uint8, np.uint16):
            axes = (*axes, "c")
        elif dimension < 4:
            array, axes = array.transpose([dimension, *range(dimension)]), ("t", *axes)
            notes.append("Axis t holds the components of a vector, not time.")
        else:
            raise ReadError(f"{path}: vectors in time are not read; split the components first.")
    times = None
    if "t" in axes:
        step = grid.spacing[3] if dimension == 4 and grid.spacing[3] > 0 else 1.0
        times = np.arange(array.shape[0]) * step
        if len(grid.times) == len(times) and (np.diff(grid.times) > 0).all():
            times = np.array(grid.times) - grid.times[0]
        elif dimension == 4 and (doubt := doubt_step(float(step), len(times))):
            notes.append(doubt)
    try:
        affine = _affine(grid.spacing, grid.origin, grid.direction, dimension)
    except GeometryError as error:
        raise ReadError(f"{path}: {error}") from error
    labels = kind == "labels" or (kind is None and _says_labels(grid) and "c" not in axes)
    if labels:
        timed = bool(grid.times) or (dimension == 4 and grid.spacing[3] not in (0.0, 1.0))
        array, axes, labels = labels_or_image(
            array, axes, where=path, labels_asked=kind == "labels", notes=notes, has_times=timed
        )
        times = times if "t" in axes else None
    meta = {
        "source": str(path),
        "dtype": str(array.dtype),
        "format": "MetaImage",
    }
    return [
        place(array, axes, affine, oriented=dimension > 2 and grid.oriented, times=times, kind="labels" if labels else "image",
              name=naming.readable(naming.stem(path)), warnings=tuple(notes), meta=meta,
              label_names=(grid.label_names or {}) if labels else {})
    ]  # fmt: skip


def _says_labels(header: Header) -> bool:
    """Whether the file's name, or a field that `write` adds, says that it holds labels."""
    return naming.names_labels(header.path) or header.label_names is not None


def facts(path: Path) -> list[Facts]:
    """Header facts of one file for `info`."""
    header = read_header(path)
    return [
        Facts(
            name=naming.stem(path),
            kind="labels" if _says_labels(header) else "image",
            format="MetaImage",
            source=str(path),
            shape=tuple(header.sizes),
            spacing_mm=tuple(header.spacing[:3]),
            frames=header.sizes[3] if len(header.sizes) > 3 else 1,
            warnings=tuple(header.notes),
        )
    ]


def write(seq: ImageSequence, path: Path) -> None:
    """Write a MetaImage.

    Raises
    ------
    WriteError
        If the grid is sheared, which MetaImage cannot say, or SimpleITK refuses.
    """
    import SimpleITK as sitk

    array, axes, affine = restored(seq)
    lps = RAS_LPS @ affine
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = lps[:3, :3] / steps
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-4:
        raise WriteError(
            f"{seq.name}: its grid is sheared (tilted gantry), which MetaImage cannot store; use .nrrd or .nii.gz."
        )
    order = [a for a in ("t", "z", "y", "x", "c") if a in axes]
    block = storable(array).transpose([axes.index(a) for a in order])
    image = sitk.GetImageFromArray(np.ascontiguousarray(block), isVector="c" in axes)
    spacing, origin, direction = [float(s) for s in steps], [float(o) for o in lps[:3, 3]], cosines
    if "t" in axes:
        gaps = np.diff(seq.times) if seq.times is not None and len(seq.times) > 1 else np.array([1.0])
        spacing, origin = [*spacing, float(max(gaps.mean(), 1e-6))], [*origin, 0.0]
        if seq.times is not None and (float(np.ptp(gaps)) > 1e-6 or seq.kind == "labels"):
            image.SetMetaData("FrameTimes", " ".join(repr(float(t)) for t in seq.times))
        direction = np.eye(4)
        direction[:3, :3] = cosines
    if not seq.oriented:
        image.SetMetaData(ORIENTED, "False")
    if seq.kind == "labels":
        image.SetMetaData(label_names.FIELD, label_names.as_text(seq.label_names))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection([float(v) for v in direction.ravel()])
    try:
        sitk.WriteImage(image, str(path), True)
    except RuntimeError as error:
        refused = re.search(r"cannot be written: .*Reason: ([^\n]+)", str(error), re.DOTALL)
        if refused:  # by the disk, not by the format
            raise _refused(seq, refused[1].strip()) from error
        raise WriteError(f"{seq.name}: MetaImage cannot hold this ({_short(error)}); use .nrrd.") from error
    if not _is_whole(path):  # SimpleITK 2.3 does not notice
        raise _refused(seq, "the file is incomplete, as on a full disk")


def _refused(seq: ImageSequence, why: str) -> WriteError:
    return WriteError(f"{seq.name} could not be written: {why}. Choose a folder you may write to, with space left.")


def _is_whole(path: Path) -> bool:
    """Whether a compressed file holds as much as its header says."""
    with path.open("rb") as file:
        head = file.read(1 << 24)  # thousands of times and names fit
    size, data = re.search(rb"CompressedDataSize = (\d+)", head), re.search(rb"ElementDataFile = LOCAL\r?\n", head)
    return size is not None and data is not None and path.stat().st_size >= data.end() + int(size[1])
