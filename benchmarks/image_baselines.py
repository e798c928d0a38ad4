"""What a network has to beat: threshold, Otsu, k-means. Each turns an image into labels without any training network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, check_same_grid

_NAME = {1: "foreground"}


def _voxels(image: ImageSequence) -> NDArray[np.floating]:
    if image.kind == "labels" or "c" in image.axes:
        raise MedseqError(f"{image.name}: this baseline needs a grey image, not labels or colour.")
    data = np.asarray(image.data)
    if not np.isfinite(data).any():
        raise MedseqError(f"{image.name} has no finite voxel; there is nothing to segment.")
    return data


def _labels(
    image: ImageSequence, mask: NDArray[np.integer] | NDArray[np.bool_], how: str, names: dict[int, str] | None = None
) -> ImageSequence:
    return image.labels_like(mask.astype(np.uint8), name=f"{image.name} {how}", label_names=names or _NAME)


def threshold(image: ImageSequence, value: float, upper: float = np.inf) -> ImageSequence:
    """Label voxels with ``value <= intensity <= upper``."""
    data = _voxels(image)
    with np.errstate(invalid="ignore"):
        return _labels(image, (data >= value) & (data <= upper), "threshold")


def tuned_threshold(image: ImageSequence, truth: ImageSequence, candidates: int = 256) -> tuple[float, float]:
    """The lower threshold with the highest Dice against a truth on the same grid, and that Dice.

    Tuned on one visit and applied to the next it shows how far intensities alone carry.

    Raises
    ------
    GeometryError
        If the truth lies on another grid.
    """
    data = _voxels(image)
    check_same_grid(image, truth)
    positive = np.asarray(truth.data) > 0
    finite = np.isfinite(data)
    values, real = data[finite].astype(np.float64), positive[finite]
    if not real.any():
        raise MedseqError(f"{truth.name} is empty; a threshold cannot be tuned to it.")
    # a grid over the truth's own intensities, where the best threshold lies
    levels = np.unique(np.quantile(values[real], np.linspace(0, 1, candidates)))
    every, mine = np.sort(values), np.sort(values[real])
    above = every.size - np.searchsorted(every, levels, side="left")
    hits = mine.size - np.searchsorted(mine, levels, side="left")
    dice = 2 * hits / (above + positive.sum())
    best = int(dice.argmax())
    return float(levels[best]), float(dice[best])


def otsu(image: ImageSequence) -> ImageSequence:
    """Label what is brighter than Otsu's threshold (Otsu 1979, doi:10.1109/TSMC.1979.4310076)."""
    from napari_medseq.volumes.foreground import otsu as level

    data = _voxels(image)
    with np.errstate(invalid="ignore"):
        return _labels(image, data > level(data), "Otsu")


def kmeans(image: ImageSequence, classes: int = 4, *, seed: int = 0) -> ImageSequence:
    """Cluster intensities into `classes` groups by scikit-learn, labelled 0 (darkest) upwards.

    Raises
    ------
    MedseqError
        If there are fewer distinct intensities than classes.
    """
    from sklearn.cluster import KMeans

    data = _voxels(image)
    finite = np.isfinite(data)
    if not 2 <= classes <= 255:
        raise MedseqError(f"k-means needs 2 to 255 classes, not {classes}.")
    values, weights = _histogram(data[finite])
    if values.size < classes:
        raise MedseqError(f"{image.name} has {values.size} distinct intensities, too few for {classes} classes.")
    found = KMeans(classes, n_init=4, random_state=seed).fit(values[:, None], sample_weight=weights)
    centres = np.sort(found.cluster_centers_[:, 0])
    labels = np.zeros(data.shape, np.uint8)
    labels[finite] = _nearest(data[finite].astype(np.float64), centres)
    names = {k: f"class {k} (around {centres[k]:.4g})" for k in range(1, classes)}
    return _labels(image, labels, "k-means", names)


def _histogram(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distinct intensities and how often each occurs; above 4096 of them, bins."""
    distinct, counts = np.unique(values, return_counts=True)
    if distinct.size > 4096:
        counts, edges = np.histogram(values, bins=4096)
        distinct = (edges[:-1] + edges[1:]) / 2
    kept = counts > 0
    return distinct[kept].astype(np.float64), counts[kept].astype(np.float64)


def _nearest(values: ArrayLike, centres: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, np.asarray(values), side="right")
