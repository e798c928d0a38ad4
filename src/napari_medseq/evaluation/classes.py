"""How well a classifier tells classes apart: accuracy, balanced accuracy and the area under each ROC curve, with intervals for few
patients.

All intervals here keep a width when every case is right, where a bootstrap or DeLong's variance would give none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.curves import auc
from napari_medseq.evaluation.intervals import Interval, check_level, checked_values

_TINY = 1e-9


def class_scores(
    probabilities: ArrayLike,
    truths: Sequence[int],
    patients: Sequence[str],
    classes: Sequence[str],
    *,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Measure → value with interval, of exams of which each has one of several classes; the likeliest class is the answer.

    Several exams of a patient are not independent, so the intervals count patients, not exams. Accuracy has Wilson's interval; balanced
    accuracy, the mean share of each class that is right, is put together of Wilson's by squares (Newcombe 1998,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10; Zou and Donner 2008, doi:10.1002/sim.3095); an AUC
    has that of `auc_interval`.

    Parameters
    ----------
    probabilities : array_like, shape (exams, classes)
    truths : sequence of int
        Index of each exam's class.
    patients : sequence of str
        The patient of each exam.
    classes : sequence of str
        Names.
    level : float

    Returns
    -------
    dict of str to Interval
        "accuracy", "balanced accuracy", and "AUC" of two classes or "AUC NAME" of each of more against the others; those that need
        a class that no exam has are left out.

    Raises
    ------
    MedseqError
        If there is no exam, the numbers do not fit each other, a probability is not finite, or a truth is not an index of a class.
    """
    p, given = np.asarray(probabilities, np.float64), checked_values(truths, "truths", 0)
    truth = np.nan_to_num(given, nan=-1).astype(np.int64)
    who = np.array([str(x) for x in patients])
    if not truth.size or p.shape != (truth.size, len(classes)) or who.size != truth.size:
        raise MedseqError(
            f"{p.shape} probabilities, {truth.size} truths and {who.size} patients of {len(classes)} classes do not fit each other."
        )
    if not np.isfinite(p).all():
        raise MedseqError("Some probabilities are not finite: no class is the likeliest of them.")
    if truth.min() < 0 or truth.max() >= len(classes) or (truth != given).any():
        raise MedseqError(f"Truths from {given.min():g} to {given.max():g} are not indices of {len(classes)} classes.")
    right = p.argmax(1) == truth
    out = {"accuracy": _wilson(right, who, level)}
    present = [k for k in range(len(classes)) if (truth == k).any()]
    if len(present) == len(classes):
        each = [_wilson(right[truth == k], who[truth == k], level) for k in present]
        out["balanced accuracy"] = _mean_of(each, level)
    for k in range(1, 2) if len(classes) == 2 else range(len(classes)):
        positive = truth == k
        if 0 < positive.sum() < truth.size:
            counts = (np.unique(who[positive]).size, np.unique(who[~positive]).size)
            name = "AUC" if len(classes) == 2 else f"AUC {classes[k]}"
            out[name] = auc_interval(auc(p[:, k], positive), *counts, level=level)
    return out


def auc_interval(value: float, positives: int, negatives: int, *, level: float = 0.95) -> Interval:
    """The interval of an AUC from its value and the numbers of patients alone (Newcombe 2006, doi:10.1002/sim.2324, method 5).

    It holds every area θ with ``|value − θ| ≤ z · sqrt(V(θ))``, where V is the variance of Hanley and McNeil (1982) with both group
    sizes replaced by their mean; so it is not empty for perfect separation.

    Raises
    ------
    MedseqError
        If a number is no positive one, or the AUC lies outside 0 to 1.
    """
    from scipy import optimize, stats

    if positives < 1 or negatives < 1 or not 0 <= value <= 1:
        raise MedseqError(
            f"An AUC of {value} with {positives} positive and {negatives} negative patients has no interval."
        )
    check_level(level)
    z = float(stats.norm.ppf(0.5 + level / 2))
    more = (positives + negatives) / 2 - 1

    def beyond(area: float) -> float:
        variance = area * (1 - area) * (1 + more * (1 - area) / (2 - area) + more * area / (1 + area))
        return abs(value - area) - z * math.sqrt(variance / (positives * negatives))

    # an area of exactly 0 or 1 is no limit: nothing varies there
    low = 0.0 if value == 0 else float(optimize.brentq(beyond, 0.0, min(value, 1 - _TINY)))
    high = 1.0 if value == 1 else float(optimize.brentq(beyond, max(value, _TINY), 1.0))
    return Interval(value, low, high, level, positives + negatives)


def _wilson(right: NDArray[np.bool_], patients: NDArray[np.str_], level: float) -> Interval:
    """The share that is right, with Wilson's interval for as many observations as there are patients."""
    from scipy import stats

    check_level(level)
    n, share = int(np.unique(patients).size), float(right.mean())
    z = float(stats.norm.ppf(0.5 + level / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), level, n)


def _mean_of(shares: Sequence[Interval], level: float) -> Interval:
    """The mean of independent shares; distances to its limits are the root of the sum of squares of theirs."""
    k = len(shares)
    value = sum(s.value for s in shares) / k
    below = math.sqrt(sum((s.value - s.low) ** 2 for s in shares)) / k
    above = math.sqrt(sum((s.high - s.value) ** 2 for s in shares)) / k
    return Interval(value, max(0.0, value - below), min(1.0, value + above), level, sum(s.n for s in shares))
