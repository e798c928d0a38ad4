"""Curves over a threshold: ROC with its area and interval, precision and recall, and FROC of detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.intervals import Interval, check_level, checked_values, quantiles

Values = NDArray[np.float64]


def scored(scores: ArrayLike, truths: ArrayLike, noun: str = "scores") -> tuple[Values, NDArray[np.bool_]]:
    """Scores and truths of the same cases, as flat arrays.

    Raises
    ------
    MedseqError
        If their numbers differ, a score is NaN, or a truth is neither 0 nor 1; the message calls the scores `noun`.
    """
    s, t = checked_values(scores, noun), checked_values(truths, "truths")
    if s.shape != t.shape:
        raise MedseqError(f"{s.size} {noun} for {t.size} truths; give one of each per case.")
    if np.isnan(s).any():
        raise MedseqError("A score is NaN; leave that case out, or find out why the model gave none.")
    if not np.isin(t, (0.0, 1.0)).all():
        raise MedseqError("Truths must be 0 or 1 (or False and True), one class against the rest.")
    return s, t.astype(bool)


def _descending(scores: Values, truths: NDArray[np.bool_]) -> tuple[Values, NDArray[np.bool_], NDArray[np.intp]]:
    """Scores and truths from the highest score to the lowest, and the last place of each distinct score."""
    order = np.argsort(-scores, kind="stable")
    s, t = scores[order], truths[order]
    last = np.append(np.flatnonzero(s[1:] != s[:-1]), s.size - 1)  # not by differences: scores may be infinite
    return s, t, last


def auc(scores: ArrayLike, truths: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a positive case scores above a negative one, with ties counting
    half.

    It is computed by midranks (Mann and Whitney 1947; DeLong et al. 1988) in O(n log n).

    Raises
    ------
    MedseqError
        If there is only one class, or the numbers of scores and truths differ.
    """
    s, t = scored(scores, truths)
    positives, negatives = int(t.sum()), int((~t).sum())
    if not positives or not negatives:
        raise MedseqError(f"An AUC needs both classes; there are {positives} positive and {negatives} negative cases.")
    from scipy import stats

    ranks = stats.rankdata(s)
    return float((ranks[t].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def delong(scores: ArrayLike, truths: ArrayLike, *, level: float = 0.95) -> Interval:
    """AUC with DeLong's interval (DeLong et al. 1988, doi:10.2307/2531595), by midranks (Sun and Xu 2014, doi:10.1109/LSP.2014.2337313).

    It is for independent cases, one per patient; for several cases per patient use `auc_by_patient`. The interval is
    computed on the logit scale, so that it stays within 0–1; for perfect separation, where DeLong's variance is 0, it
    is 1–1 or 0–0.
    """
    from scipy import stats

    s, t = scored(scores, truths)
    value = auc(s, t)
    check_level(level)
    x, y = s[t], s[~t]
    m, n = x.size, y.size
    both = stats.rankdata(np.concatenate([x, y]))
    v10 = (both[:m] - stats.rankdata(x)) / n
    v01 = 1 - (both[m:] - stats.rankdata(y)) / m
    variance = (float(v10.var(ddof=1)) / m if m > 1 else 0.0) + (float(v01.var(ddof=1)) / n if n > 1 else 0.0)
    if m < 2 or n < 2:
        return Interval(value, 0.0, 1.0, level, m + n)  # one case gives no estimate of the spread of its class
    if value in (0.0, 1.0) or variance == 0:
        return Interval(value, value, value, level, m + n)
    half = float(stats.norm.ppf(0.5 + level / 2)) * float(np.sqrt(variance)) / (value * (1 - value))
    centre = float(np.log(value / (1 - value)))
    low, high = (1 / (1 + np.exp(-(centre + sign * half))) for sign in (-1, 1))
    return Interval(value, float(low), float(high), level, m + n)


def auc_by_patient(
    scores: ArrayLike,
    truths: ArrayLike,
    patients: Sequence[object] | NDArray[np.generic],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """AUC of cases (slices) of which each patient has several, with a bootstrap interval over patients.

    Whole patients are drawn with replacement (the cluster bootstrap; Field and Welsh 2007,
    doi:10.1111/j.1467-9868.2007.00593.x), because slices of one patient are not independent. Draws with only one class
    are left out.
    """
    s, t = scored(scores, truths)
    value = auc(s, t)
    check_level(level)
    names, member = np.unique(np.asarray([str(p) for p in patients]), return_inverse=True)
    if member.size != s.size:
        raise MedseqError(f"{member.size} patient names for {s.size} cases; give one per case.")
    cases = [np.flatnonzero(member == k) for k in range(names.size)]
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(resamples):
        drawn = np.concatenate([cases[k] for k in rng.integers(0, names.size, names.size)])
        if 0 < t[drawn].sum() < drawn.size:
            areas.append(auc(s[drawn], t[drawn]))
    low, high = quantiles(np.array(areas), level)
    return Interval(value, low, high, level, int(names.size))


@dataclass(frozen=True)
class Roc:
    """Points of an ROC curve, from (0, 0) to (1, 1).

    Attributes
    ----------
    false_positive_rate, true_positive_rate, thresholds : ndarray
        A case counts as positive at or above the threshold; the first threshold is infinite.
    """

    false_positive_rate: Values
    true_positive_rate: Values
    thresholds: Values


def roc(scores: ArrayLike, truths: ArrayLike) -> Roc:
    """The ROC curve, one point per distinct score.

    Raises
    ------
    MedseqError
        If there is only one class.
    """
    s, t = scored(scores, truths)
    auc(s, t)
    s, t, last = _descending(s, t)
    true = np.cumsum(t)[last]
    false = last + 1 - true
    return Roc(
        np.concatenate([[0.0], false / (~t).sum()]),
        np.concatenate([[0.0], true / t.sum()]),
        np.concatenate([[np.inf], s[last]]),
    )


def precision_recall(scores: ArrayLike, truths: ArrayLike) -> tuple[Values, Values, Values]:
    """Precision, recall and threshold, one point per distinct score in descending order.

    Raises
    ------
    MedseqError
        If there is no positive case, a score is NaN, or the numbers of scores and truths differ.
    """
    s, t = scored(scores, truths)
    if not t.any():
        raise MedseqError("Recall needs at least one positive case; there is none.")
    s, t, last = _descending(s, t)
    true = np.cumsum(t)[last]
    return true / (last + 1), true / t.sum(), s[last]


def average_precision(scores: ArrayLike, truths: ArrayLike) -> float:
    """Area under the precision–recall curve as a sum of steps: Σ (Rₖ − Rₖ₋₁)·Pₖ."""
    precision, recall, _ = precision_recall(scores, truths)
    return float((np.diff(np.concatenate([[0.0], recall])) * precision).sum())


@dataclass(frozen=True)
class Froc:
    """Free-response ROC: sensitivity for lesions against false detections per image.

    Attributes
    ----------
    false_per_image, sensitivity, thresholds : ndarray
    """

    false_per_image: Values
    sensitivity: Values
    thresholds: Values

    def at(self, false_per_image: float) -> float:
        """Highest sensitivity with no more than this number of false detections per image."""
        allowed = self.sensitivity[self.false_per_image <= false_per_image]
        return float(allowed.max(initial=0.0))

    @property
    def score(self) -> float:
        """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false detections per image (LUNA16; Setio et al. 2017)."""
        return float(np.mean([self.at(2.0**k) for k in range(-3, 4)]))


def froc(scores: ArrayLike, lesions: Sequence[object], *, total_lesions: int, images: int) -> Froc:
    """FROC of detections.

    Parameters
    ----------
    scores : array_like, shape (detections,)
    lesions : sequence, shape (detections,)
        The lesion (any name that is unique over images) that each detection hits; None for a false one. A lesion that
        is hit twice counts once, and the second hit is not a false detection.
    total_lesions, images : int

    Raises
    ------
    MedseqError
        If a score is NaN, the numbers do not fit each other, or more lesions are hit than there are.
    """
    s = checked_values(scores, "scores", 0)
    if np.isnan(s).any():
        raise MedseqError("A detection's score is NaN; leave it out, or find out why the model gave none.")
    if len(lesions) != s.size or total_lesions < 1 or images < 1:
        raise MedseqError("FROC needs one lesion or None per detection, and at least one lesion and one image.")
    seen: set[object] = set()
    false, points = 0, [(0.0, 0.0, float("inf"))]
    order = np.argsort(-s, kind="stable")
    for place, k in enumerate(order):
        if lesions[k] is None:
            false += 1
        else:
            seen.add(lesions[k])
        if place + 1 == s.size or s[order[place + 1]] != s[k]:
            points.append((false / images, len(seen) / total_lesions, float(s[k])))
    if len(seen) > total_lesions:
        raise MedseqError(f"Detections hit {len(seen)} lesions, but total_lesions is {total_lesions}.")
    x, y, z = np.array(points).T
    return Froc(x, y, z)
