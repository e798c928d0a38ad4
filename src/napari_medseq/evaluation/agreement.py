"""Two classifiers on the same cases: McNemar's test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.intervals import checked_values


@dataclass(frozen=True)
class McNemar:
    """How often one of two classifiers alone is right.

    Attributes
    ----------
    first_only, second_only : int
        Cases that only the first, or only the second, classifies rightly.
    n : int
        Number of cases.
    p : float
        Two-sided, of the hypothesis that both are right equally often.
    """

    first_only: int
    second_only: int
    n: int
    p: float

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second."""
        return (self.first_only - self.second_only) / self.n

    def __str__(self) -> str:
        return (
            f"accuracy {self.difference:+.3f}, right alone in {self.first_only} and {self.second_only} of {self.n}, "
            f"McNemar p = {self.p:.3g}"
        )


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """McNemar's test of two classifiers on the same cases, exact: a binomial test of the cases in which one alone is right.

    McNemar 1947, doi:10.1007/BF02295996. It is for independent cases, one per patient.

    Parameters
    ----------
    first_right, second_right : array_like, shape (case,)
        1 or True where the classifier is right.

    Raises
    ------
    MedseqError
        If the numbers of cases differ, or a value is neither 0 nor 1.
    """
    a, b = checked_values(first_right, "first classifier's cases"), checked_values(second_right, "second's cases")
    if a.shape != b.shape:
        raise MedseqError(f"{a.size} cases of the first classifier for {b.size} of the second; give the same cases.")
    if not np.isin([*a, *b], (0.0, 1.0)).all():
        raise MedseqError("Give 1 or 0 (or True and False) per case: whether the classifier is right.")
    from scipy import stats

    first_only, second_only = int((a > b).sum()), int((b > a).sum())
    apart = first_only + second_only
    p = float(stats.binomtest(first_only, apart).pvalue) if apart else 1.0
    return McNemar(first_only, second_only, a.size, p)
