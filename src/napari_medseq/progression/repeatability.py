"""Repeatability: what was found when one scan was measured again and again, and the smallest change of volume that is real.

The within-lesion standard deviation is that of a one-way analysis of variance (Bland & Altman, BMJ 1996, 313:744). The repeatability
coefficient, RC = 1.96 · √2 · wSD, is the difference that two measurements of an unchanged lesion stay below in 95 % (Bland & Altman,
Stat Methods Med Res 1999, 8:135; as %RC of the within-lesion coefficient of variation: Raunig et al., Stat Methods Med Res 2015, 24:27).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.progression.change import Z95
from napari_medseq.settings import problems
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    import pandas as pd

#: two-sided confidence of the interval of the repeatability coefficient
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Retested:
    """One lesion of the patient: its volume in the scan as it is, then in each retest.

    Attributes
    ----------
    lesion : int
    volumes_ml : tuple of float
        0 where it was not found again, or not as one lesion of its own.
    """

    lesion: int
    volumes_ml: tuple[float, ...]


@dataclass(frozen=True)
class Implant:
    """One lesion whose growth is known, as it was put into the scan; what was found of it.

    Attributes
    ----------
    true_before_ml, true_after_ml : float
        True volumes; for one of the patient's own lesions the first is that measured in the scan.
    found_before_ml, found_after_ml : float
        0 where it was not found.
    own : bool
        Whether it is one of the patient's own, grown where it lies; otherwise it was put in.
    """

    true_before_ml: float
    true_after_ml: float
    found_before_ml: float
    found_after_ml: float
    own: bool = False

    @property
    def found(self) -> bool:
        """Whether it was found before and after its growth."""
        return self.found_before_ml > 0 and self.found_after_ml > 0


@dataclass(frozen=True)
class Agreement:
    """Limits of agreement of two series of measurements (Bland & Altman, Lancet 1986, 327:307)."""

    bias: float
    lower: float
    upper: float
    pairs: int


def agreement(first: Sequence[float], second: Sequence[float]) -> Agreement:
    """Bias and 95 % limits of agreement of `second` − `first`; NaN with fewer than two pairs."""
    difference = np.asarray(second, float) - np.asarray(first, float)
    difference = difference[np.isfinite(difference)]
    if len(difference) < 2:
        return Agreement(math.nan, math.nan, math.nan, len(difference))
    bias, spread = float(difference.mean()), Z95 * float(difference.std(ddof=1))
    return Agreement(bias, bias - spread, bias + spread, len(difference))


@dataclass(frozen=True)
class Repeatability:
    """The result of `retest`, saved with a result, whose tables and report then tell which changes are real.

    Attributes
    ----------
    lesions : tuple of Retested
        The patient's own lesions.
    implants : tuple of Implant
        Lesions that were put in.
    image, model : str
        Names of the image that was measured and of the model.
    settings : dict
        Settings of `retest`.
    warnings : tuple of str
    """

    lesions: tuple[Retested, ...]
    implants: tuple[Implant, ...] = ()
    image: str = ""
    model: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    # -- statistics ---------------------------------------------------------------------------------------------
    @cached_property
    def _groups(self) -> list[NDArray[np.float64]]:
        """The volumes of each lesion that was found twice or more."""
        per_lesion = [np.array([v for v in one.volumes_ml if v > 0]) for one in self.lesions]
        return [volumes for volumes in per_lesion if len(volumes) > 1]

    @property
    def degrees_of_freedom(self) -> int:
        """How many measurements beyond the first of each lesion there are."""
        return sum(len(volumes) - 1 for volumes in self._groups)

    def _pooled(self, power: float) -> float:
        """Within-lesion sums of squares, each over its mean volume to `power`, per degree of freedom."""
        df = self.degrees_of_freedom
        squares = [float(((v - v.mean()) ** 2).sum()) / float(v.mean()) ** power for v in self._groups]
        return sum(squares) / df if df else math.nan

    @property
    def wsd_ml(self) -> float:
        """Within-lesion standard deviation in mL; NaN where nothing was measured twice."""
        return math.sqrt(self._pooled(0))

    @property
    def wcv_percent(self) -> float:
        """Within-lesion coefficient of variation in percent (root mean square)."""
        return 100 * math.sqrt(self._pooled(2))

    @property
    def rc_ml(self) -> float:
        """Repeatability coefficient in mL, all lesions together."""
        return Z95 * math.sqrt(2) * self.wsd_ml

    @property
    def rc_percent(self) -> float:
        """Repeatability coefficient in percent of the volume, all lesions together."""
        return Z95 * math.sqrt(2) * self.wcv_percent

    @property
    def rc_percent_interval(self) -> tuple[float, float]:
        """95 % confidence interval of `rc_percent`, from the χ² distribution of a variance."""
        from scipy import stats

        df = self.degrees_of_freedom
        if not df:
            return math.nan, math.nan
        tail = (1 - _CONFIDENCE) / 2
        low, high = (math.sqrt(df / float(stats.chi2.ppf(q, df))) for q in (1 - tail, tail))
        return self.rc_percent * low, self.rc_percent * high

    def smallest_change_ml(self, volume_ml: float) -> float:
        """The change that a lesion of this volume must exceed to be real (95 %).

        The variance is taken to grow as the volume does, as `noise_bound` has it; so a small lesion has the larger share.
        """
        return Z95 * math.sqrt(2 * self._pooled(1) * max(volume_ml, 0.0)) if self.degrees_of_freedom else math.nan

    @property
    def limits(self) -> Agreement:
        """Limits of agreement of the retests with the scan as it is, in percent; lesions that were not found again are left out."""
        first = [one.volumes_ml[0] for one in self.lesions for _ in one.volumes_ml[1:]]
        repeats = [v for one in self.lesions for v in one.volumes_ml[1:]]
        return agreement(
            [0.0] * len(repeats),
            [100 * (b - a) / a if a > 0 and b > 0 else math.nan for a, b in zip(first, repeats, strict=True)],
        )

    @property
    def found_share(self) -> float:
        """Share of the retests in which a lesion was found again as one of its own."""
        repeats = [v > 0 for one in self.lesions for v in one.volumes_ml[1:]]
        return sum(repeats) / len(repeats) if repeats else math.nan

    def is_real(self, before_ml: float, after_ml: float) -> bool | None:
        """Whether a change is larger than what measuring again may give; None where nothing is known."""
        bound = self.smallest_change_ml((before_ml + after_ml) / 2)
        return abs(after_ml - before_ml) > bound if math.isfinite(bound) else None

    def beside(self, lesions: pd.DataFrame) -> pd.DataFrame:
        """The lesion table with two more columns: the smallest real change at that volume, and whether the change was one.

        ``smallest_change_ml`` is of the lesion's own volume (of the one before, where it is gone); ``real_change`` is "yes" or "no"
        by the mean of both volumes, "" where there is no earlier one.
        """
        before = (lesions["volume_ml"] - lesions["change_ml"]).to_numpy(float)
        after = lesions["volume_ml"].to_numpy(float)
        size = [b if a == 0 and b > 0 else a for b, a in zip(before, after, strict=True)]
        words = {True: "yes", False: "no", None: ""}
        real = [words[self.is_real(b, a)] if math.isfinite(b) else "" for b, a in zip(before, after, strict=True)]
        return lesions.assign(smallest_change_ml=[self.smallest_change_ml(v) for v in size], real_change=real)

    # -- for people -----------------------------------------------------------------------------------------------
    @property
    def table(self) -> pd.DataFrame:
        """One row per lesion: volumes, mean, standard deviation and smallest real change."""
        import pandas as pd

        rows = []
        for lesion in self.lesions:
            volumes = np.array([v for v in lesion.volumes_ml if v > 0])
            mean = float(volumes.mean()) if len(volumes) else math.nan
            rows.append(
                {
                    "lesion": lesion.lesion,
                    "scan_ml": lesion.volumes_ml[0],
                    "mean_ml": mean,
                    "sd_ml": float(volumes.std(ddof=1)) if len(volumes) > 1 else math.nan,
                    "found": f"{max(len(volumes) - 1, 0)} of {len(lesion.volumes_ml) - 1}",
                    "smallest_change_ml": self.smallest_change_ml(mean) if len(volumes) else math.nan,
                    "smallest_change_percent": 100 * self.smallest_change_ml(mean) / mean if len(volumes) else math.nan,
                }
            )
        return pd.DataFrame(rows)

    @property
    def recovery(self) -> pd.DataFrame:
        """One row per lesion that was put in: its true growth, and what was found of it."""
        import pandas as pd

        rows = []
        for implant in sorted(self.implants, key=lambda i: i.true_after_ml / i.true_before_ml):
            real = self.is_real(implant.found_before_ml, implant.found_after_ml) if implant.found else None
            rows.append(
                {
                    "lesion": "own" if implant.own else "put in",
                    "true_before_ml": implant.true_before_ml,
                    "true_change_percent": 100 * (implant.true_after_ml / implant.true_before_ml - 1),
                    "found_before_ml": implant.found_before_ml,
                    "found_after_ml": implant.found_after_ml,
                    "found_change_percent": 100 * (implant.found_after_ml / implant.found_before_ml - 1)
                    if implant.found
                    else math.nan,
                    "called_real": "not found"
                    if not implant.found
                    else ""
                    if real is None
                    else "yes"
                    if real
                    else "no",
                }
            )
        return pd.DataFrame(rows)

    def sentences(self) -> list[str]:
        """The main findings in plain sentences."""
        runs = max((len(one.volumes_ml) for one in self.lesions), default=1) - 1
        if not self.degrees_of_freedom:
            lines = ["No lesion was found twice, so nothing is known of the smallest real change."]
        else:
            low, high = self.rc_percent_interval
            lines = [
                f"The scan {self.image} was moved, resampled and given noise {runs} times and measured again"
                f"{f' by {self.model}' if self.model else ''}: {how_many(len(self._groups), 'lesion')}, "
                f"{100 * self.found_share:.0f} % found again.",
                f"Repeatability coefficient: {self.rc_percent:.0f} % of the volume (95 % interval {low:.0f} to {high:.0f} %), "
                f"{self.rc_ml:.2g} mL; within-lesion standard deviation {self.wsd_ml:.2g} mL, coefficient of variation "
                f"{self.wcv_percent:.1f} %.",
            ]
            limits = self.limits
            if math.isfinite(limits.bias):
                lines.append(
                    f"Retests differ from the scan by {limits.bias:+.1f} % on average (95 % limits of agreement "
                    f"{limits.lower:+.1f} to {limits.upper:+.1f} %)."
                )
        for own, kind in (
            (True, "growths of the patient's own lesion"),
            (False, "lesions that were put into the scan"),
        ):
            implants = [one for one in self.implants if one.own == own]
            recovered = [one for one in implants if one.found]
            if implants:
                true = sum(one.true_after_ml - one.true_before_ml for one in recovered)
                seen = sum(one.found_after_ml - one.found_before_ml for one in recovered)
                share = f"; {100 * seen / true:.0f} % of the growth was recovered." if true > 0 else "."
                lines.append(f"Of {len(implants)} {kind} {len(recovered)} were found{share}")
        return [*lines, *self.warnings]

    # -- on disk -------------------------------------------------------------------------------------------------
    def as_dict(self) -> dict[str, object]:
        """Plain values, which `from_dict` takes."""
        return {**asdict(self), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, object]) -> Repeatability:
        """The object that `as_dict` described.

        Raises
        ------
        ReadError
            If it is something else.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(facts)
        except ValidationError as error:
            raise ReadError(f"The repeatability in it is broken: {problems(error)} Run retest again.") from None
