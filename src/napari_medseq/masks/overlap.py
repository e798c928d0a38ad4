"""The overlap of two masks on one grid: voxel counts, and the measures computed from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import MedseqError

Mask = NDArray[np.bool_]


def pair_of(prediction: ArrayLike, truth: ArrayLike) -> tuple[Mask, Mask]:
    """Two masks as boolean arrays.

    Raises
    ------
    MedseqError
        If their shapes differ.
    """
    p, t = np.asarray(prediction).astype(bool), np.asarray(truth).astype(bool)
    if p.shape != t.shape:
        raise MedseqError(f"The masks have shapes {p.shape} and {t.shape}; bring them onto one grid first.")
    return p, t


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of two masks, and the measures computed from them.

    Attributes
    ----------
    both, only_prediction, only_truth : int
        Voxels in both masks, and in only one of them.
    """

    both: int
    only_prediction: int
    only_truth: int

    @classmethod
    def of(cls, prediction: ArrayLike, truth: ArrayLike) -> Overlap:
        """Count two masks of one shape.

        Raises
        ------
        MedseqError
            If their shapes differ.
        """
        p, t = pair_of(prediction, truth)
        both = int(np.count_nonzero(p & t))
        return cls(both, int(np.count_nonzero(p)) - both, int(np.count_nonzero(t)) - both)

    @property
    def is_present(self) -> bool:
        """Whether at least one of the masks holds a voxel."""
        return self.both + self.only_prediction + self.only_truth > 0

    @property
    def dice(self) -> float:
        """2·|A∩B| / (|A|+|B|); 1 if both are empty."""
        total = 2 * self.both + self.only_prediction + self.only_truth
        return 2 * self.both / total if total else 1.0

    @property
    def iou(self) -> float:
        """|A∩B| / |A∪B| (Jaccard); 1 if both are empty."""
        total = self.both + self.only_prediction + self.only_truth
        return self.both / total if total else 1.0

    @property
    def sensitivity(self) -> float:
        """Share of the truth that the prediction holds; NaN if the truth is empty."""
        total = self.both + self.only_truth
        return self.both / total if total else float("nan")

    @property
    def precision(self) -> float:
        """Share of the prediction that is true; NaN if the prediction is empty."""
        total = self.both + self.only_prediction
        return self.both / total if total else float("nan")
