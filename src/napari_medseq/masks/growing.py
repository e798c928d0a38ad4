"""Growing labels from seeds: each label takes what is nearest to its seeds without crossing an edge of the image.

A watershed of the image's gradient from the seeds (Beucher and Meyer 1993; Soille 2003), by scikit-image. With one
label and a range of intensities it is a flood fill: everything within that range that is connected to the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.masks.intensities import finite

LabelArray = NDArray[np.integer]
Range = tuple[float, float]


def grow(
    image: NDArray[np.generic],
    seeds: LabelArray,
    spacing: Sequence[float],
    *,
    within: Range | None = None,
    reach_mm: float = 20.0,
    blur_mm: float = 1.0,
    surroundings: int | None = None,
) -> LabelArray:
    """Grow every label at once from its painted voxels into the background.

    Parameters
    ----------
    image : ndarray
        Intensities; NaN is in no range.
    seeds : ndarray of int, of the same shape
        Labels of the seeds; 0: no seed.
    spacing : sequence of float
        Millimetres per axis.
    within : (low, high), optional
        Only voxels of these intensities, including both ends, are added.
    reach_mm : float
        No voxel farther than this from a seed is added.
    blur_mm : float
        Standard deviation of the Gaussian that smooths the image before edges are detected; 0 for none.
    surroundings : int, optional
        The label that was painted around the object: it grows against the others, and is then removed together with
        its seeds.

    Returns
    -------
    ndarray of int
        The grown labels; seeds, except those of `surroundings`, stay as they are.

    Raises
    ------
    MedseqError
        If there are no seeds, or only those of one label and no range, so that nothing would stop it.
    """
    from skimage.segmentation import watershed

    if image.shape != seeds.shape:
        raise MedseqError(f"Image and mask have different grids ({image.shape} and {seeds.shape} voxels).")
    values = np.unique(seeds[seeds > 0])
    if not len(values):
        raise MedseqError("There are no seeds. Paint a stroke inside the object first.")
    if len(values) < 2 and within is None:
        raise MedseqError(
            "Nothing would stop it: there is one label only. Paint the surroundings as a second label, or give a range of intensities."
        )
    painted = seeds > 0
    (box,) = scipy.ndimage.find_objects(painted.view(np.uint8))
    room = [int(np.ceil(reach_mm / s)) for s in spacing]
    part = tuple(slice(max(b.start - r, 0), b.stop + r) for b, r in zip(box, room, strict=True))
    inner, picture = seeds[part], finite(image[part]).astype(np.float32)
    free = scipy.ndimage.distance_transform_edt(inner == 0, sampling=spacing) <= reach_mm
    if within is not None:
        own = np.asarray(image[part], np.float32)
        free &= (own >= within[0]) & (own <= within[1])  # False for NaN
    edges = _edges(picture, spacing, blur_mm)
    grown = watershed(edges, np.asarray(inner, np.int64), mask=free | (inner > 0))
    out = np.array(seeds)
    out[part] = np.where(inner == 0, grown, inner)
    if surroundings is not None:
        out[out == surroundings] = 0
    return out


def _edges(image: NDArray[np.float32], spacing: Sequence[float], blur_mm: float) -> NDArray[np.float32]:
    """Gradient magnitude of the image, in intensity per mm."""
    smooth = scipy.ndimage.gaussian_filter(image, [blur_mm / s for s in spacing]) if blur_mm > 0 else image
    squares = np.zeros(image.shape, np.float32)
    for axis, step in enumerate(spacing):
        if image.shape[axis] > 1:
            squares += np.gradient(smooth, step, axis=axis) ** 2
    return np.asarray(np.sqrt(squares))
