"""How well things were located: free-response ROC, and the distance of the landmarks from the truth in mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.curves import Froc, froc
from napari_medseq.sequence import ImageSequence


@dataclass(frozen=True)
class LocationScores:
    """What `score_locations` finds.

    Attributes
    ----------
    froc : Froc
    mean_error_mm : float
        Mean distance between a lesion's centre and the landmark of the surest location that hit it; NaN where none was hit.
    hit, lesions, images : int
        Lesions that were hit at all, lesions and images in all.
    """

    froc: Froc
    mean_error_mm: float
    hit: int
    lesions: int
    images: int


def score_locations(
    centres_mm: Sequence[ArrayLike],
    scores: Sequence[ArrayLike],
    truths: Sequence[ImageSequence],
    *,
    within_mm: float = 5.0,
    smallest_ml: float = 0.0,
) -> LocationScores:
    """Score landmarks against known lesions.

    Parameters
    ----------
    centres_mm : sequence of array_like, shape (found, 3)
        Per image, in RAS millimetres.
    scores : sequence of array_like, shape (found,)
        How sure each was.
    truths : sequence of ImageSequence
        Labels per image; each connected component (26-connected) is a lesion.
    within_mm : float
        A landmark hits the lesion that is nearest to it, if that is no farther than this from it.
    smallest_ml : float
        Lesions smaller than this need not be found; a landmark that hits one is passed over.

    Raises
    ------
    MedseqError
        If the three are not of one length, or there is no lesion at all.
    """
    from scipy import ndimage
    from scipy.spatial import cKDTree

    if not len(centres_mm) == len(scores) == len(truths):
        raise MedseqError(
            f"{len(centres_mm)} lists of centres, {len(scores)} of scores and {len(truths)} truths were given."
        )
    all_scores: list[float] = []
    hits: list[object] = []
    nearest: dict[object, tuple[float, float]] = {}
    lesions = 0
    for i, (centres, given, truth) in enumerate(zip(centres_mm, scores, truths, strict=True)):
        points, values = np.reshape(np.asarray(centres, float), (-1, 3)), np.asarray(given, float).ravel()
        if len(points) != len(values):
            raise MedseqError(f"Image {i} has {len(points)} centres but {len(values)} scores.")
        mask = np.asarray(truth.data) > 0
        parts, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
        where = np.argwhere(mask)
        owner = parts[mask]
        world = geometry.apply_points(truth.affine, _xyz(where, truth))
        ml = np.bincount(owner, minlength=count + 1) * geometry.voxel_volume_mm3(truth.affine) / 1000
        large = {k for k in range(1, count + 1) if ml[k] >= smallest_ml}
        lesions += len(large)
        tree = cKDTree(world) if count else None
        for point, value in zip(points, values, strict=True):
            distance, index = tree.query(point) if tree is not None else (np.inf, 0)
            lesion = int(owner[index]) if distance <= within_mm else None
            if lesion is not None and lesion not in large:
                continue
            all_scores.append(float(value))
            hits.append(None if lesion is None else (i, lesion))
            if lesion is not None:
                error = float(np.linalg.norm(world[owner == lesion].mean(0) - point))
                best = nearest.get((i, lesion))
                if best is None or value > best[0]:
                    nearest[i, lesion] = (float(value), error)
    if lesions == 0:
        raise MedseqError("There is no lesion in the truths, so there is nothing to be found.")
    curve = froc(all_scores, hits, total_lesions=lesions, images=len(truths))
    mean = float(np.mean([e for _, e in nearest.values()])) if nearest else float("nan")
    return LocationScores(curve, mean, len(nearest), lesions, len(truths))


def _xyz(
    where: np.ndarray[tuple[int, ...], np.dtype[np.intp]], seq: ImageSequence
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Voxel indices along the sequence's axes as (x, y, z)."""
    out = np.zeros((len(where), 3))
    for k, axis in enumerate(("x", "y", "z")):
        if axis in seq.axes:
            out[:, k] = where[:, seq.axis(axis)]
    return out
