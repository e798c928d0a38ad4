"""A quick mask of the body in an image, for statistics and checks."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine, Reorientation, Volume

Region = Literal["foreground", "nonzero", "all"]

#: of the histogram that Otsu's threshold is taken from
_BINS = 256
#: percentile above which values are bright outliers, which do not move the threshold
_OUTLIERS = 99.0


def otsu(values: Volume) -> float:
    """Otsu's threshold (Otsu 1979, doi:10.1109/TSMC.1979.4310076) of finite values; the minimum if all are equal."""
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return 0.0
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return low
    counts, edges = np.histogram(finite, bins=_BINS, range=(low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = finite.size - below
    mass = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    between[~np.isfinite(between)] = -1
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))  # a gap gives a plateau, whose middle is taken
    return float(edges[1:][best].mean())


def foreground(volume: Volume, affine: Affine | None = None) -> NDArray[np.bool_]:
    """The body in a (z, y, x) volume: the largest component of what is brighter than air, with holes filled slice by slice.

    Brighter than air is what exceeds the middle between Otsu's threshold and the median of what lies below it. Bright outliers
    do not move the threshold. A constant volume has no foreground.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
    affine : ndarray, shape (4, 4), optional
        Where the voxels lie: the slices are then those from foot to head, as readers order them, whatever the order of the array's axes.
        Without it, and of a single slice, they are those along the first axis.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
    """
    from scipy import ndimage

    turn = Reorientation() if affine is None or len(volume) == 1 else geometry.to_codes(affine)
    data = np.nan_to_num(turn.apply_zyx(np.asarray(volume, dtype=np.float32)), nan=0.0, posinf=0.0, neginf=0.0)
    step = max(1, round((data.size / 400_000) ** (1 / 3)))
    sample = data[:: 1 if data.shape[0] < 64 else step, ::step, ::step]
    top = float(np.percentile(sample, _OUTLIERS))
    threshold = otsu(np.minimum(sample, top))
    # Otsu's threshold is high if tissue varies much; half-way between it and the level of air keeps dark tissue
    air = sample[sample <= threshold]
    if air.size and data.max() > data.min():
        threshold = (threshold + float(np.median(air))) / 2
    mask = data > threshold
    if not mask.any() or mask.all():
        return np.asarray(turn.inverse.apply_zyx(mask))
    mask = ndimage.binary_opening(mask, structure=np.ones((1, 3, 3), bool))
    pieces, n = ndimage.label(mask)
    if n > 1:
        counts = np.bincount(pieces.ravel())
        counts[0] = 0
        mask = pieces == counts.argmax()
    for z in range(mask.shape[0]):
        mask[z] = ndimage.binary_fill_holes(mask[z])
    return np.ascontiguousarray(turn.inverse.apply_zyx(mask))


def region(volume: Volume, where: Region, affine: Affine | None = None) -> NDArray[np.bool_]:
    """The finite voxels that a statistic is computed from; all finite ones if `where` would leave fewer than two. `affine` as in
    `foreground`."""
    finite = np.isfinite(volume) if np.asarray(volume).dtype.kind == "f" else np.ones(np.shape(volume), bool)
    if where == "nonzero":
        chosen = finite & (volume != 0)
    elif where == "foreground":
        chosen = finite & foreground(volume, affine)
    else:
        chosen = finite
    return np.asarray(chosen if np.count_nonzero(chosen) > 1 else finite)
