"""What SimpleITK reads beside the formats with modules of their own: MetaImage foremost.

Sizes are read from the header and held against the file before any voxel is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_medseq.errors import GeometryError, ReadError, WriteError
from napari_medseq.geometry import RAS_LPS, Affine, as_affine
from napari_medseq.io import naming
from napari_medseq.io.formats import metaimage
from napari_medseq.io.formats.raw import Laziness, is_wanted_lazy, lazily
from napari_medseq.io.frame_times import doubt_step
from napari_medseq.io.label_values import labels_or_image
from napari_medseq.io.placing import place, restored
from napari_medseq.sequence import ImageSequence, Kind


def _opened(path: Path) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ReadError(f"{path}: its header cannot be read ({_short(error)}); export it again.") from error
    voxels = int(np.prod(reader.GetSize(), dtype=object)) * max(reader.GetNumberOfComponents(), 1)
    beside = [p for p in path.parent.glob(path.stem + ".*") if p.is_file()] if path.suffix.lower() == ".mhd" else [path]
    there = sum(p.stat().st_size for p in beside)
    if voxels > there * 1100 + (1 << 20):
        raise ReadError(
            f"{path}: the header promises {voxels:,} voxels, which {there:,} bytes cannot hold; export it again."
        )
    return reader


def _data_file_is_near(path: Path) -> None:
    """Refuse a MetaImage whose data file lies outside its folder."""
    with open(path, "rb") as file:
        lines = file.read(1 << 16).decode("latin-1").splitlines()
    name = next((line.partition("=")[2].strip() for line in lines if line.startswith("ElementDataFile")), "LOCAL")
    if name.upper().startswith(("LOCAL", "LIST")) or "%" in name:
        return
    data = (path.parent / name).resolve()
    if not data.is_relative_to(path.parent.resolve()):
        raise ReadError(f"{path}: its data file {name!r} lies outside the header's folder, which is not followed.")
    if not data.is_file():
        raise ReadError(f"{path}: its data file {name!r} is missing; put it beside the header.")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[-200:]


def _affine(spacing: Any, origin: Any, direction: Any, dimension: int) -> Affine:
    matrix = np.eye(4)
    n = min(dimension, 3)
    cosines = np.asarray(direction, float).reshape(dimension, dimension)[:n, :n]
    matrix[:n, :n] = cosines * np.asarray(spacing, float)[:n]
    matrix[:n, 3] = np.asarray(origin, float)[:n]
    return as_affine(RAS_LPS @ matrix)


def read(path: str | Path, *, lazy: Laziness = False, kind: Kind | None = None) -> list[ImageSequence]:
    """Read a MetaImage or another format of SimpleITK.

    Raises
    ------
    ReadError
        If SimpleITK cannot read it, or it has more axes than an image in time.
    """
    path = Path(path)
    meta_image = path.suffix.lower() in (".mha", ".mhd")
    if meta_image:
        _data_file_is_near(path)
    if lazy == "auto":
        labelled = kind == "labels" or (kind is None and naming.names_labels(path))
        lazy = not labelled and is_wanted_lazy(lazy, path.stat().st_size)
    grid = metaimage.load(path, lazy=lazy) if meta_image else None
    if grid is None:
        grid = _by_simpleitk(path)
    dimension, array, components = len(grid.spacing), grid.array, grid.components
    if dimension > 4:
        raise ReadError(f"{path}: it has {dimension} dimensions; up to 4 (x, y, z, time) are read.")
    notes: list[str] = []
    axes: tuple[str, ...] = ("t", "z", "y", "x")[-dimension:]
    if components > 1:
        if components in (3, 4) and array.dtype == np.uint8:
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
    labels = kind == "labels" or (kind is None and naming.names_labels(path) and "c" not in axes)
    if labels:
        timed = bool(grid.times) or (dimension == 4 and grid.spacing[3] not in (0.0, 1.0))
        array, axes, labels = labels_or_image(
            array, axes, where=path, asked=kind == "labels", notes=notes, has_times=timed
        )
        times = times if "t" in axes else None
    if lazy and not hasattr(array, "dask"):
        array = lazily(array, (1,) * (array.ndim - 2) + array.shape[-2:], array.dtype)
    meta = {
        "source": str(path),
        "dtype": str(array.dtype),
        "format": "MetaImage" if meta_image else "ITK",
    }
    return [
        place(array, axes, affine, oriented=dimension > 2, times=times, kind="labels" if labels else "image",
              name=naming.readable(naming.stem(path)), warnings=tuple(notes), meta=meta)
    ]  # fmt: skip


def _by_simpleitk(path: Path) -> metaimage.Grid:
    import SimpleITK as sitk

    reader = _opened(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ReadError(f"{path}: its voxels cannot be read ({_short(error)}); copy or export it again.") from error
    return metaimage.Grid(
        sitk.GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel(), list(image.GetSpacing()), list(image.GetOrigin()),
        list(image.GetDirection()),
    )  # fmt: skip


def facts(path: str | Path) -> list[dict[str, Any]]:
    """Header facts of one file for `info`."""
    path = Path(path)
    reader = _opened(path)
    size = list(reader.GetSize())
    return [
        {
            "name": naming.stem(path),
            "kind": "labels" if naming.names_labels(path) else "image",
            "format": "MetaImage",
            "shape": [int(n) for n in size],
            "spacing_mm": [round(float(v), 6) for v in reader.GetSpacing()[:3]],
            "frames": int(size[3]) if len(size) > 3 else 1,
            "source": str(path),
            "warnings": [],
        }
    ]


def write(seq: ImageSequence, path: Path) -> None:
    """Write a MetaImage.

    Raises
    ------
    WriteError
        If the grid is sheared, which MetaImage cannot say, or SimpleITK refuses.
    """
    import SimpleITK as sitk

    from napari_medseq.io.writing import storable

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
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection([float(v) for v in direction.ravel()])
    try:
        sitk.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise WriteError(f"{path.name}: MetaImage cannot hold this ({_short(error)}); use .nrrd.") from error
