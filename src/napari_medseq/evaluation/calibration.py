"""Whether probabilities mean what they say: the Brier score and the expected calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.curves import scored
from napari_medseq.evaluation.intervals import checked_values


def brier_score(probabilities: ArrayLike, truths: ArrayLike) -> float:
    """Mean squared difference of probability and truth: 0 is best, and 0.25 is what a constant 0.5 reaches.

    Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, for one class against the rest.

    Parameters
    ----------
    probabilities : array_like, shape (case,)
        Of the class, from 0 to 1.
    truths : array_like, shape (case,)
        1 or True where the case belongs to the class.

    Raises
    ------
    MedseqError
        If the numbers of probabilities and truths differ, a probability is NaN or not from 0 to 1, or a truth is neither 0 nor 1.
    """
    p, t = _checked(probabilities, truths)
    return float(np.mean((p - t) ** 2))


def calibration_error(probabilities: ArrayLike, truths: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error (ECE): how far the share of the class is from its mean probability, averaged over bins of
    equal width and weighed by their cases.

    Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602. It depends on the number of bins, and with few cases it is above 0
    even for perfect probabilities: compare it between methods on the same cases.

    Parameters
    ----------
    probabilities : array_like, shape (case,)
        Of the class, from 0 to 1.
    truths : array_like, shape (case,)
        1 or True where the case belongs to the class.
    bins : int
        Number of bins from 0 to 1; a value on a border belongs to the upper one.

    Raises
    ------
    MedseqError
        As `brier_score`, or if there is no bin.
    """
    p, t = _checked(probabilities, truths)
    if bins < 1:
        raise MedseqError(f"The calibration error needs 1 bin or more, not {bins}.")
    of_bin = np.digitize(p, np.arange(1, bins) / bins)
    differences = np.bincount(of_bin, weights=p - t, minlength=bins)
    return float(np.abs(differences).sum() / p.size)


def _checked(probabilities: ArrayLike, truths: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    p = checked_values(probabilities, "probabilities")
    if not ((p >= 0) & (p <= 1)).all():
        raise MedseqError("Probabilities must be from 0 to 1; scores of another range have no calibration.")
    return scored(p, truths, "probabilities")
