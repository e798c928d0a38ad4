"""Uncertainty of results: bootstrap intervals of means, agreement of two measurements, and paired comparison of two
methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq.errors import MedseqError

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A number with its confidence interval.

    Attributes
    ----------
    value, low, high : float
    level : float
        Confidence, such as 0.95.
    n : int
        Number of observations (patients).
    """

    value: float
    low: float
    high: float
    level: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.level:.0%} CI {self.low:.3f}–{self.high:.3f}, n = {self.n})"


def checked_values(values: ArrayLike, noun: str, least: int = 1) -> Values:
    """Numbers as a flat float64 array.

    Raises
    ------
    MedseqError
        If they are not numbers, or fewer than `least`; the message calls them `noun`.
    """
    try:
        data = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as problem:
        raise MedseqError(f"The {noun} must be numbers.") from problem
    if data.size < least:
        raise MedseqError(f"The {noun} need at least {least} values; there are {data.size}.")
    return data


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[Values], float] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic over independent values (Efron and Tibshirani 1993, chapter 13).

    Parameters
    ----------
    values : array_like, shape (n,)
        One value per patient; NaN (undefined) is left out, infinities are kept. The mean of both infinities is NaN, and
        has no interval.
    statistic : callable, optional
        Default the mean.
    level : float
        Share of the distribution that the interval holds.
    resamples : int
    seed : int

    Raises
    ------
    MedseqError
        If no value is left.
    """
    data = checked_values(values, "values")
    data = checked_values(data[~np.isnan(data)], "values that are defined")
    check_level(level)
    draws = np.random.default_rng(seed).integers(0, data.size, (resamples, data.size))
    with np.errstate(invalid="ignore"):  # inf − inf
        if statistic is None:
            value, resampled = float(data.mean()), data[draws].mean(axis=1)
        else:
            value, resampled = float(statistic(data)), np.array([statistic(data[d]) for d in draws])
    low, high = (value, value) if np.isnan(value) else quantiles(resampled, level)
    return Interval(value, low, high, level, int(data.size))


def check_level(level: float) -> None:
    """Raise unless a confidence level lies between 0 and 1.

    Raises
    ------
    MedseqError
    """
    if not 0 < level < 1:
        raise MedseqError(f"A confidence level lies between 0 and 1, not at {level}; 0.95 is usual.")


def quantiles(statistics: Values, level: float) -> tuple[float, float]:
    """The two quantiles that enclose the share `level` of the values; NaN is ignored."""
    statistics = np.sort(statistics[~np.isnan(statistics)])
    if not statistics.size:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    if np.isinf(statistics).any():  # interpolating beside an infinity would give NaN, so order statistics are used
        low, high = (statistics[min(statistics.size - 1, round(q * (statistics.size - 1)))] for q in (tail, 1 - tail))
    else:
        low, high = np.quantile(statistics, (tail, 1 - tail))
    return float(low), float(high)


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of two ways to measure the same things (Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8).

    Attributes
    ----------
    means, differences : ndarray
        For each pair the mean of both, and first minus second.
    bias : float
        Mean difference, with its 95 % interval `bias_interval`.
    lower, upper : float
        Limits of agreement: bias ± 1.96 standard deviations.
    sd : float
        Standard deviation of the differences.
    """

    means: Values
    differences: Values
    bias: float
    sd: float
    lower: float
    upper: float
    bias_interval: tuple[float, float]


def bland_altman(first: ArrayLike, second: ArrayLike) -> BlandAltman:
    """Bland–Altman analysis of paired measurements.

    Raises
    ------
    MedseqError
        If there are fewer than two pairs, the numbers differ in length, or one is not finite.
    """
    from scipy import stats

    a, b = checked_values(first, "measurements", 2), checked_values(second, "measurements", 2)
    if a.shape != b.shape:
        raise MedseqError(f"{a.size} and {b.size} measurements cannot be paired.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise MedseqError("Bland–Altman analysis needs finite measurements; leave out pairs with NaN or infinity.")
    differences = a - b
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    half = float(stats.t.ppf(0.975, a.size - 1)) * sd / float(np.sqrt(a.size))
    return BlandAltman(
        (a + b) / 2, differences, bias, sd, bias - 1.96 * sd, bias + 1.96 * sd, (bias - half, bias + half)
    )


@dataclass(frozen=True)
class Paired:
    """Two methods on the same patients.

    Attributes
    ----------
    difference : Interval
        Mean of first minus second, with a bootstrap interval over patients.
    median : float
        Median difference; NaN where it would be the mean of both infinities.
    p : float
        Two-sided Wilcoxon signed-rank p value; 1 if all differences are 0.
    better, worse, equal : int
        Number of patients for whom the first is higher, lower, or equal.
    """

    difference: Interval
    median: float
    p: float
    better: int
    worse: int
    equal: int

    def __str__(self) -> str:
        return f"{self.difference}, Wilcoxon p = {self.p:.3g}, higher in {self.better}, lower in {self.worse}"


def paired(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Paired:
    """Compare two methods patient by patient (Wilcoxon 1945; bootstrap of the mean difference).

    Parameters
    ----------
    first, second : array_like, shape (patients,)
        The scores of each method; pairs with a NaN are left out.
    level : float
        Share of the distribution that the interval holds.
    resamples : int
    seed : int

    Raises
    ------
    MedseqError
        If the lengths differ or no pair is left.
    """
    from scipy import stats

    a, b = checked_values(first, "scores"), checked_values(second, "scores")
    if a.shape != b.shape:
        raise MedseqError(f"{a.size} and {b.size} scores cannot be paired; give one of each per patient.")
    with np.errstate(invalid="ignore"):  # inf − inf: both missed the object, or each method missed one
        d = np.where(a == b, 0.0, a - b)
        d = checked_values(d[~(np.isnan(a) | np.isnan(b))], "pairs that are defined")
        median = float(np.median(d))
    p = 1.0 if not d.any() else float(stats.wilcoxon(d, zero_method="wilcox").pvalue)
    return Paired(
        bootstrap(d, level=level, resamples=resamples, seed=seed),
        median,
        p,
        int((d > 0).sum()),
        int((d < 0).sum()),
        int((d == 0).sum()),
    )
