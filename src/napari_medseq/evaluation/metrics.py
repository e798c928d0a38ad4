"""Agreement of two masks on one grid: overlap, volume, surface distance, and detection of lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq import geometry
from napari_medseq.masks.overlap import Mask, pair_of
from napari_medseq.masks.overlap import Overlap as Overlap


def surface_points(mask: ArrayLike, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres, in mm, of the voxels of a mask that touch its outside by a face; the image's border counts as outside.

    Parameters
    ----------
    mask : array_like, shape (z, y, x)
    affine : ndarray, shape (4, 4)

    Returns
    -------
    ndarray, shape (n, 3)
    """
    from scipy import ndimage

    inside = np.asarray(mask).astype(bool)
    structure = ndimage.generate_binary_structure(inside.ndim, 1)
    for axis, n in enumerate(inside.shape):
        if n == 1:  # the surface of a single slice lies in its plane, whichever that is
            structure[tuple(slice(None, None, 2) if k == axis else slice(None) for k in range(inside.ndim))] = False
    edge = inside & ~ndimage.binary_erosion(inside, structure)
    return geometry.apply_points(affine, np.argwhere(edge)[:, ::-1])


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of two masks, mm.

    Attributes
    ----------
    to_truth : ndarray
        For each surface voxel of the prediction, the distance to the nearest one of the truth.
    to_prediction : ndarray
        For each surface voxel of the truth, the distance to the nearest one of the prediction.

    Notes
    -----
    Both are empty if both masks are empty (all measures are 0), and hold one infinity each if only one mask is empty
    (all measures are infinite), because a missed lesion is a large error that must not silently drop out of a mean.
    """

    to_truth: NDArray[np.float64]
    to_prediction: NDArray[np.float64]

    @classmethod
    def of(cls, prediction: ArrayLike, truth: ArrayLike, affine: NDArray[np.float64]) -> SurfaceDistances:
        """Measure two (z, y, x) masks; exact for any affine, sheared ones included."""
        from scipy.spatial import cKDTree

        p, t = pair_of(prediction, truth)
        a, b = surface_points(p, affine), surface_points(t, affine)
        if not len(a) and not len(b):
            return cls(np.zeros(0), np.zeros(0))
        if not len(a) or not len(b):
            return cls(np.array([np.inf]), np.array([np.inf]))
        return cls(np.asarray(cKDTree(b).query(a)[0]), np.asarray(cKDTree(a).query(b)[0]))

    @property
    def hausdorff(self) -> float:
        """The largest distance."""
        return float(max(self.to_truth.max(initial=0.0), self.to_prediction.max(initial=0.0)))

    def percentile(self, q: float = 95.0) -> float:
        """The larger of the two directed `q`-th percentiles: HD95 for 95, as in MONAI and DeepMind's surface-distance."""
        if not self.to_truth.size:
            return 0.0
        if np.isinf(self.to_truth).any():
            return float("inf")
        return float(max(np.percentile(self.to_truth, q), np.percentile(self.to_prediction, q)))

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean over both surfaces' voxels."""
        both = np.concatenate([self.to_truth, self.to_prediction])
        return float(both.mean()) if both.size else 0.0

    def within(self, tolerance_mm: float) -> float:
        """Normalised surface Dice at a tolerance (Nikolov et al. 2021, doi:10.2196/26151), by surface voxels; 1 if both empty."""
        both = np.concatenate([self.to_truth, self.to_prediction])
        return float((both <= tolerance_mm).mean()) if both.size else 1.0


def volume_ml(mask: ArrayLike, affine: NDArray[np.float64]) -> float:
    """Volume of a mask in mL."""
    return float(np.count_nonzero(mask)) * geometry.voxel_volume_mm3(affine) / 1000


@dataclass(frozen=True)
class Detection:
    """Numbers of lesions that were found and missed.

    Attributes
    ----------
    lesions, found : int
        Number of true lesions, and of those that were found.
    predicted, real : int
        Number of predicted lesions, and of those that lie on a true one.
    """

    lesions: int
    found: int
    predicted: int
    real: int

    @property
    def sensitivity(self) -> float:
        """Share of true lesions found; NaN without any."""
        return self.found / self.lesions if self.lesions else float("nan")

    @property
    def precision(self) -> float:
        """Share of predicted lesions that are real; NaN without any."""
        return self.real / self.predicted if self.predicted else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 1 if there was no lesion and none was predicted, 0 if only one of the two
        holds."""
        if not self.lesions and not self.predicted:
            return 1.0
        s = self.found / self.lesions if self.lesions else 0.0
        p = self.real / self.predicted if self.predicted else 0.0
        return 2 * s * p / (s + p) if s + p else 0.0


def detect(
    prediction: ArrayLike,
    truth: ArrayLike,
    affine: NDArray[np.float64],
    *,
    min_overlap: float = 0.1,
    min_volume_ml: float = 0.0,
) -> Detection:
    """Compare lesions, which are 26-connected components.

    A true lesion counts as found if the prediction covers at least `min_overlap` of it; a predicted one is real if the truth
    covers at least as much of it (after Commowick et al. 2018, doi:10.1038/s41598-018-31911-7). Components under
    `min_volume_ml` are not counted, but still cover.
    """
    from scipy import ndimage

    p, t = pair_of(prediction, truth)
    everywhere = np.ones((3,) * p.ndim)
    least = min_volume_ml * 1000 / geometry.voxel_volume_mm3(affine)

    def covered(mask: Mask, by: Mask) -> tuple[int, int]:
        pieces, n = ndimage.label(mask, everywhere)
        if not n:
            return 0, 0
        size = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
        shared = np.bincount(pieces[by].ravel(), minlength=n + 1)[1:]
        counted = size >= max(1.0, least)
        hit = counted & (shared > 0) & (shared >= min_overlap * size)
        return int(counted.sum()), int(hit.sum())

    lesions, detected = covered(t, p)
    predicted, real = covered(p, t)
    return Detection(lesions, detected, predicted, real)


def compare(
    prediction: ArrayLike,
    truth: ArrayLike,
    affine: NDArray[np.float64],
    *,
    min_overlap: float = 0.1,
    min_volume_ml: float = 0.0,
) -> dict[str, float]:
    """All measures of two (z, y, x) masks, under the names of the columns of `Evaluation.table`."""
    overlap = Overlap.of(prediction, truth)
    distances = SurfaceDistances.of(prediction, truth, affine)
    detection = detect(prediction, truth, affine, min_overlap=min_overlap, min_volume_ml=min_volume_ml)
    predicted, real = volume_ml(prediction, affine), volume_ml(truth, affine)
    return {
        "dice": overlap.dice,
        "iou": overlap.iou,
        "sensitivity": overlap.sensitivity,
        "precision": overlap.precision,
        "hd95_mm": distances.percentile(95),
        "assd_mm": distances.assd,
        "volume_ml": predicted,
        "truth_ml": real,
        "volume_difference_ml": predicted - real,
        "volume_difference_percent": 100 * (predicted - real) / real
        if real
        else (0.0 if predicted == 0 else float("inf")),
        "lesions": detection.lesions,
        "lesions_found": detection.found,
        "lesions_predicted": detection.predicted,
        "lesions_real": detection.real,
        "lesion_sensitivity": detection.sensitivity,
        "lesion_precision": detection.precision,
        "lesion_f1": detection.f1,
    }
