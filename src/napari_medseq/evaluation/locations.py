"""Evaluation of locations: free-response ROC, the landmarks' distance from the truth in mm, and the overlap of the
boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.curves import Froc, froc
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import SPACE, ImageSequence, check_same_grid

if TYPE_CHECKING:
    import pandas as pd

Box = Mapping[str, tuple[int, int]]
_COLUMNS = ("case", "lesion", "volume_ml", "hit", "score", "error_mm", "box_iou")


class Location(Protocol):
    """One located object: its score, its landmark (RAS+ mm), and its box (axis → start, stop)."""

    @property
    def score(self) -> float: ...
    @property
    def centre_mm(self) -> NDArray[np.float64]: ...
    @property
    def box(self) -> Box: ...


@runtime_checkable
class Locations(Protocol):
    """The objects located in one image, as `ms.locate` returns them."""

    @property
    def found(self) -> Sequence[Location]: ...
    @property
    def image(self) -> ImageSequence: ...


@dataclass(frozen=True, eq=False)
class LocationScores:
    """The result of `ms.evaluate` for locations.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per lesion that counts: ``case``, ``lesion`` (its number in the image), ``volume_ml``, ``hit``; and for
        the most certain location that hit it ``score``, ``error_mm`` (landmark to the lesion's centre) and ``box_iou``
        (both boxes' intersection over union, in voxels); NaN if none did.
    froc : Froc
        Sensitivity for lesions against false locations per image.
    images : int
    """

    table: pd.DataFrame
    froc: Froc
    images: int

    @property
    def lesions(self) -> int:
        """Number of lesions."""
        return len(self.table)

    @property
    def hit(self) -> int:
        """Number of lesions that were hit."""
        return int(self.table["hit"].sum())

    @property
    def mean_error_mm(self) -> float:
        """Mean distance between a lesion's centre and the landmark that hit it; NaN if none was hit."""
        return float(self.table["error_mm"].mean())

    @property
    def mean_box_iou(self) -> float:
        """Mean intersection over union of a lesion's box and the box that hit it; NaN if none was hit."""
        return float(self.table["box_iou"].mean())

    def __repr__(self) -> str:
        return (
            f"<LocationScores {self.hit} of {self.lesions} lesions hit in {self.images} images, landmarks "
            f"{self.mean_error_mm:.1f} mm off, boxes overlap {self.mean_box_iou:.2f}>"
        )


@dataclass(frozen=True, eq=False)
class _Lesion:
    """A connected component of a truth: its voxels' positions in RAS+ mm, its box and its size."""

    points_mm: NDArray[np.float64]
    box: dict[str, tuple[int, int]]
    volume_ml: float


def score_locations(
    predictions: Mapping[str, Locations],
    truths: Mapping[str, ImageSequence],
    *,
    within_mm: float = 5.0,
    min_volume_ml: float = 0.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> LocationScores:
    """Score locations against known lesions.

    Parameters
    ----------
    predictions : mapping of case to Locations
    truths : mapping of case to ImageSequence
        Labels on the grid of the image; each connected component (26-connected) is a lesion.
    within_mm : float
        A landmark hits the nearest lesion if its distance is not larger than this.
    min_volume_ml : float
        Smaller lesions need not be located; a landmark that hits one is ignored.

    Raises
    ------
    GeometryError
        If a truth lies on another grid than its image.
    MedseqError
        If there is no lesion.
    """
    import pandas as pd
    from scipy.spatial import cKDTree

    scores: list[float] = []
    hits: list[object] = []
    rows: list[dict[str, object]] = []
    for case, truth in with_progress(truths.items(), len(truths), "Evaluating", progress, cancelled):
        check_same_grid(predictions[case].image, truth, frames=False, tolerance_mm=1e-2, where=case)
        lesions = list(_lesions(truth))
        counted = {k for k, lesion in enumerate(lesions) if lesion.volume_ml >= min_volume_ml}
        trees = [cKDTree(lesion.points_mm) for lesion in lesions]
        best: dict[int, tuple[float, float, float]] = {}
        for location in predictions[case].found:
            apart = [float(tree.query(location.centre_mm)[0]) for tree in trees]
            nearest = int(np.argmin(apart)) if apart and min(apart) <= within_mm else None
            if nearest is not None and nearest not in counted:
                continue
            scores.append(location.score)
            hits.append(None if nearest is None else (case, nearest))
            if nearest is not None and (nearest not in best or location.score > best[nearest][0]):
                lesion = lesions[nearest]
                error = float(np.linalg.norm(lesion.points_mm.mean(axis=0) - location.centre_mm))
                best[nearest] = (location.score, error, box_iou(lesion.box, location.box))
        for k in sorted(counted):
            score = best.get(k, (np.nan, np.nan, np.nan))
            facts = (case, k + 1, lesions[k].volume_ml, k in best, *score)
            rows.append(dict(zip(_COLUMNS, facts, strict=True)))
    if not rows:
        raise MedseqError("There is no lesion in the truths, so there is nothing to be found.")
    curve = froc(scores, hits, total_lesions=len(rows), images=len(truths))
    return LocationScores(pd.DataFrame(rows, columns=list(_COLUMNS)), curve, len(truths))


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes of voxels; an axis that one of them lacks counts as one common voxel."""
    shared = [(one[a], other[a]) for a in SPACE if a in one and a in other]
    inner = prod(max(0, min(p[1], q[1]) - max(p[0], q[0])) for p, q in shared)
    sizes = [prod(b[a][1] - b[a][0] for a in SPACE if a in b) for b in (one, other)]
    union = sum(sizes) - inner
    return inner / union if union else 0.0


def _lesions(truth: ImageSequence) -> Iterator[_Lesion]:
    from scipy import ndimage

    mask = np.asarray(truth.data) > 0
    parts, _ = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    voxel_ml = geometry.voxel_volume_mm3(truth.affine) / 1000
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        box = {axis: (part.start, part.stop) for axis, part in zip(truth.axes, where, strict=True)}
        index = np.argwhere(parts[where] == number) + [part.start for part in where]
        xyz = np.zeros((len(index), 3))
        for k, axis in enumerate(("x", "y", "z")):
            if axis in truth.axes:
                xyz[:, k] = index[:, truth.axis(axis)]
        yield _Lesion(geometry.apply_points(truth.affine, xyz), box, len(index) * voxel_ml)
