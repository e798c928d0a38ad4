"""Plain thresholds on the total volume, with the noise bound as the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq.errors import SettingsError
from napari_medseq.progression.change import noise_bound
from napari_medseq.progression.response.common import (
    Assessment,
    Sightings,
    Verdict,
    compared,
    number,
    out_of_view,
    percent,
)

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

SOURCE = "thresholds of your choice; default −65 % and +40 % (as volumetric RANO 2.0)"


def volumetric(
    progression: Tracked,
    *,
    rise_percent: float = 40.0,
    fall_percent: float = 65.0,
    new_is_progression: bool = False,
) -> Assessment:
    """Progression when the burden rises by `rise_percent` over its nadir, response when it falls by `fall_percent` of baseline.

    A visit at which a lesion was out of view is "not evaluable", unless the others alone say progression; it is no nadir.

    Parameters
    ----------
    progression : Tracked
    rise_percent, fall_percent : float
    new_is_progression : bool
        Whether a new measured lesion is progression by itself.

    Raises
    ------
    SettingsError
        If a threshold is not positive.
    """
    if not (rise_percent > 0 and 0 < fall_percent <= 100):
        raise SettingsError(
            f"Thresholds +{rise_percent} % and −{fall_percent} % are not usable; give positive percentages."
        )
    seen, table = Sightings(progression), progression.summary
    counted = [k for k in seen.lesions if any(seen.measured(k, visit) for visit in range(seen.visits))]
    total, sd = table["volume_ml"].tolist(), table["volume_sd_ml"].tolist()
    verdicts = []
    for visit in range(1, seen.visits):
        least = seen.least(counted, total, visit)
        up, down = percent(total[visit], total[least]), percent(total[visit], total[0])
        beyond = total[visit] - total[least] > noise_bound(total[least], total[visit], sd[least], sd[visit])
        new = seen.new(visit) if new_is_progression else []
        why = [f"lesion {k} is new" for k in new]
        if beyond and (up >= rise_percent or total[least] == 0):
            share = f"{up:+.0f} %" if total[least] > 0 else "from nothing"
            why.append(f"burden rose from its least {number(total[least])} to {number(total[visit])} mL ({share})")
        if why:
            category = "progression"
        elif unseen := seen.unseen(counted, visit):
            category, why = "not evaluable", out_of_view(unseen)
        elif total[0] == 0 and total[visit] == 0:
            category, why = "no lesion", ["no lesion at either visit"]
        elif down <= -fall_percent:
            category, why = (
                "response",
                [f"burden fell from {number(total[0])} to {number(total[visit])} mL ({down:+.0f} %)"],
            )
        else:
            category, why = (
                "stable",
                [
                    f"burden {number(total[visit])} mL: {compared(total[visit], {'baseline': total[0], 'its least': total[least]})}"
                ],
            )
        verdicts.append(Verdict(visit, seen.dates[visit], category, total[visit], down, up, tuple(why)))
    return Assessment("volumetric thresholds", SOURCE, "total volume (mL)", (), tuple(verdicts))
