"""The interface between arrays and SimpleITK: conversion of one volume, and resampling from one grid to another.

Functions take and return arrays (z, y, x) and affines in RAS+ millimetres; ITK's LPS+ is used only internally.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import SettingsError
from napari_medseq.geometry import Affine, Volume
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.iterate import map_volumes
from napari_medseq.volumes.labelled import Box, grown, value_boxes

if TYPE_CHECKING:
    import SimpleITK as sitk

Interpolation = Literal["linear", "bspline", "nearest", "label"]

_TIE = 1e-5  # shares of labels that differ by no more are equal, but for rounding

_guard = threading.Lock()
_inside: list[int] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Run ITK on one thread, so that sums are added in one order and results are equal bit for bit.

    Some of ITK's inner filters use only the process-wide number, which is therefore set, and restored when the last
    user leaves.
    """
    import SimpleITK as sitk

    with _guard:
        _inside.append(sitk.ProcessObject.GetGlobalDefaultNumberOfThreads())
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        with _guard:
            own = _inside[0]
            _inside.pop()
            if not _inside:
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(own)


def to_itk(volume: Volume, affine: Affine, *, frame: Affine = geometry.RAS_LPS) -> sitk.Image:
    """A SimpleITK image of a (z, y, x) volume.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
    affine : ndarray, shape (4, 4)
        Voxel (x, y, z) → RAS+ mm.
    frame : ndarray, shape (4, 4)
        RAS+ mm → the coordinates of the image; ITK's own LPS+ by default.
    """
    import SimpleITK as sitk

    array = np.asarray(volume)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
    placed = np.asarray(frame @ affine, dtype=np.float64)
    spacing = geometry.spacing(placed)
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in placed[:3, 3]])
    image.SetDirection([float(v) for v in (placed[:3, :3] / spacing).ravel()])
    return image


def affine_of(image: sitk.Image) -> Affine:
    """Voxel (x, y, z) → coordinates of a SimpleITK image (its own frame; LPS+ unless made otherwise), 4×4."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine


def itk_affine(matrix: Affine) -> sitk.AffineTransform:
    """A 4×4 matrix, in ITK's coordinates, as a SimpleITK transform."""
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetMatrix([float(v) for v in matrix[:3, :3].ravel()])
    transform.SetTranslation([float(v) for v in matrix[:3, 3]])
    return transform


def matrix_of(transform: sitk.Transform) -> Affine:
    """A linear SimpleITK transform as a 4×4 matrix, in ITK's coordinates."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for k in range(3):
        matrix[:3, k] = transform.TransformPoint(tuple(float(j == k) for j in range(3)))
        matrix[:3, k] -= matrix[:3, 3]
    return matrix


def resample_volume(
    volume: Volume,
    affine: Affine,
    target_affine: Affine,
    target_grid: tuple[int, int, int],
    *,
    transform: sitk.Transform | None = None,
    interpolation: Interpolation = "linear",
    fill: float = 0.0,
    antialias: bool = False,
) -> Volume:
    """Resample one volume onto another grid.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
    affine, target_affine : ndarray, shape (4, 4)
        Voxel (x, y, z) → RAS+ mm of the volume and of the target grid.
    target_grid : tuple of int
        Voxels of the target along (x, y, z).
    transform : SimpleITK.Transform, optional
        Maps points of the target's space to points of the volume's space, both LPS+.
    interpolation : {"linear", "bspline", "nearest", "label"}
        "label" interpolates each label's share linearly and takes the largest one (of equal ones that of 0, then of the lowest value),
        so that borders are smoother than with "nearest" and no new value appears.
    fill : float
        Value outside the volume.
    antialias : bool
        Smooth first along the axes that become coarser, with the Gaussian that takes the old voxel's point spread to the
        new one's (Cardoso et al. 2015, doi:10.1007/978-3-319-24571-3_81). Images only.

    Returns
    -------
    ndarray, shape (z, y, x)
        float32 (float64 for float64) for "linear" and "bspline", else the volume's own dtype. NaN and infinities stay where they are
        nearest; beside them the smallest finite value counts in their place.
    """
    import SimpleITK as sitk

    array = np.asarray(volume)
    if interpolation == "label":
        return _resample_labels(array, affine, target_affine, target_grid, transform, fill)
    smooth = interpolation in ("linear", "bspline")
    own = array.dtype
    if smooth:
        array = array.astype(np.float64 if own == np.float64 else np.float32, copy=False)
        known = np.isfinite(array)
        if known.any() and not known.all():
            return _beside_unknown(
                array, known, affine, target_affine, target_grid, transform, interpolation, fill, antialias
            )
        if antialias:
            array = _blurred(array, affine, target_affine)
        if interpolation == "bspline" and min(array.shape) < 4:  # ITK's spline needs four samples along each axis
            interpolation = "linear"
    image = to_itk(array, affine)
    code = {
        "linear": sitk.sitkLinear,
        "bspline": sitk.sitkBSpline,
        "nearest": sitk.sitkNearestNeighbor,
    }[interpolation]
    target = geometry.RAS_LPS @ target_affine
    spacing = geometry.spacing(target)
    result = sitk.Resample(
        image,
        [int(n) for n in target_grid],
        transform if transform is not None else sitk.Transform(3, sitk.sitkIdentity),
        code,
        [float(v) for v in target[:3, 3]],
        [float(v) for v in spacing],
        [float(v) for v in (target[:3, :3] / spacing).ravel()],
        float(fill),
        image.GetPixelID(),
    )
    out = sitk.GetArrayFromImage(result)
    return np.asarray(out if smooth else out.astype(own, copy=False))


def _resample_labels(
    array: Volume,
    affine: Affine,
    target_affine: Affine,
    target_grid: tuple[int, int, int],
    transform: sitk.Transform | None,
    fill: float,
) -> Volume:
    """`resample_volume` of labels, each in the box where it lies.

    ITK's ``LabelLinear`` does the same, but asks every label at every voxel: minutes for the hundred labels of a whole-body scan.
    """
    out = np.zeros(target_grid[::-1], array.dtype)
    largest = np.zeros(out.shape, np.float32)  # share of the label that is in `out`
    rest = np.ones(out.shape, np.float32)  # share of the background
    for value, box in value_boxes(array).items():
        near = grown(box, array.shape)
        moved = _shifted(affine, near)
        where = None if transform is not None else _reached(affine, box, target_affine, target_grid)
        part = tuple(slice(0, n) for n in out.shape) if where is None else where
        if any(s.stop <= s.start for s in part):
            continue
        grid = (part[2].stop - part[2].start, part[1].stop - part[1].start, part[0].stop - part[0].start)
        mask = (array[near] == value).astype(np.float32)
        share = resample_volume(mask, moved, _shifted(target_affine, part), grid, transform=transform).astype(
            np.float32
        )
        wins = share > largest[part] + _TIE
        out[part][wins] = value
        largest[part][wins] = share[wins]
        rest[part] -= share
    out[rest >= largest - _TIE] = 0
    if fill:
        grids = (affine, target_affine, target_grid)
        out[
            resample_volume(np.ones(array.shape, np.uint8), *grids, transform=transform, interpolation="nearest") == 0
        ] = fill
    return out


def _shifted(affine: Affine, box: Box) -> Affine:
    """The affine of a box (z, y, x) of a grid."""
    out = affine.copy()
    out[:3, 3] += affine[:3, :3] @ [box[2].start, box[1].start, box[0].start]
    return out


def _reached(affine: Affine, box: Box, target_affine: Affine, target_grid: tuple[int, int, int]) -> Box:
    """The box (z, y, x) of the target grid outside of which nothing of a box (z, y, x) reaches when it is interpolated linearly."""
    ends = [(s.start - 1.0, float(s.stop)) for s in reversed(box)]
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    at = geometry.apply_points(np.linalg.inv(target_affine) @ affine, corners)
    low, high = np.floor(at.min(0)).astype(int), np.ceil(at.max(0)).astype(int) + 1
    spans = [slice(max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, target_grid, strict=True)]
    return tuple(reversed(spans))


def _beside_unknown(
    array: Volume,
    known: NDArray[np.bool_],
    affine: Affine,
    target_affine: Affine,
    target_grid: tuple[int, int, int],
    transform: sitk.Transform | None,
    interpolation: Interpolation,
    fill: float,
    antialias: bool,
) -> Volume:
    """`resample_volume` of a volume with NaN or infinities: they stay where they are nearest, and do not spread into the rest."""
    grids = (affine, target_affine, target_grid)
    filled = np.where(known, array, array[known].min())
    values = resample_volume(
        filled, *grids, transform=transform, interpolation=interpolation, fill=fill, antialias=antialias
    )
    unknown = resample_volume(np.where(known, 0, array), *grids, transform=transform, interpolation="nearest")
    return np.where(np.isfinite(unknown), values, unknown)


def _blurred(volume: Volume, affine: Affine, target_affine: Affine) -> Volume:
    from scipy import ndimage

    # length of one target step along each old axis, in old voxels
    steps = np.abs(np.linalg.inv(affine[:3, :3]) @ target_affine[:3, :3]).max(axis=1)
    sigmas = [0.0 if f <= 1.0 + 1e-6 else float(np.sqrt((f**2 - 1) / (8 * np.log(2)))) for f in steps]
    if not any(sigmas):
        return volume
    return np.asarray(ndimage.gaussian_filter(volume, sigmas[::-1], mode="nearest"))


def resample(
    seq: ImageSequence,
    affine: Affine,
    grid: tuple[int, int, int],
    *,
    transform: sitk.Transform | None = None,
    interpolation: Interpolation | None = None,
    fill: float | None = None,
    antialias: bool = True,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ImageSequence:
    """Resample a sequence onto another grid, frame by frame and channel by channel.

    Parameters
    ----------
    seq : ImageSequence
    affine, grid
        The target grid: voxel (x, y, z) → RAS+ mm, and voxels along (x, y, z).
    transform : SimpleITK.Transform, optional
        From points of the target's space to those of the sequence's, LPS mm; default the identity.
    interpolation : optional
        Default linear for images and nearest for labels.
    fill : float, optional
        Value outside; default the image's smallest finite value, 0 for labels.
    antialias : bool
        Whether an image is smoothed first along axes that become coarser.

    Raises
    ------
    SettingsError
        If labels are to be interpolated like an image, an image like labels, or `fill` does not fit the type of the voxels.
    """
    labels = seq.kind == "labels"
    how: Interpolation = interpolation or ("nearest" if labels else "linear")
    if labels and how in ("linear", "bspline"):
        raise SettingsError(
            f"{seq.name} holds labels, which {how!r} would blend into others; use 'nearest' or 'label'."
        )
    if not labels and how == "label":
        raise SettingsError(f"{seq.name} is an image; interpolation 'label' is for labels. Use 'linear' or 'bspline'.")

    own = np.dtype(seq.data.dtype)
    if fill is not None and how in ("nearest", "label") and own.kind in "iu":
        limits = np.iinfo(own)
        if not limits.min <= fill <= limits.max or fill != round(fill):
            raise SettingsError(
                f"{seq.name} holds {own}, in which the value outside, {fill:g}, cannot be stored; "
                f"choose a whole number from {limits.min} to {limits.max}, or convert the image first."
            )

    def one(volume: Volume) -> Volume:
        outside = fill
        if outside is None:
            finite = volume[np.isfinite(volume)] if volume.dtype.kind == "f" else volume
            outside = 0.0 if labels or not finite.size else float(finite.min())
        return resample_volume(
            volume, seq.affine, affine, grid, transform=transform, interpolation=how, fill=outside, antialias=antialias
        )

    moved = map_volumes(seq, one, message="Resampling", progress=progress, cancelled=cancelled, deep=grid[2] > 1)
    meta = {k: v for k, v in seq.meta.items() if k not in ("stored", "slice_positions_mm")}
    return moved.replace(affine=affine, meta=meta)
