"""New and enlarged lesions in multiple sclerosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.progression.response.common import Assessment, Sightings, Verdict, percent

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

SOURCE = (
    "new: 3 mm or more (Thompson et al., Lancet Neurol 2018, 17:162); enlarged: beyond the variability of measured areas, "
    "+45.2 % under 0.67 cm² and +24.2 % above (Arch Neurol 1992, 49:261)"
)
SMALLEST_MM, AREA_MM2, SMALL_PERCENT, LARGE_PERCENT = 3.0, 67.0, 45.2, 24.2


def ms_new_enlarged(progression: Tracked) -> Assessment:
    """Counts of new and enlarged lesions at each visit since the one before.

    Returns
    -------
    Assessment
        "active" or "not active"; the value is the number of new and enlarged lesions.
    """
    seen = Sightings(progression)
    verdicts = []
    for visit in range(1, seen.visits):
        why = []
        for lesion in seen.lesions:
            row, earlier = seen.row(lesion, visit), seen.row(lesion, visit - 1)
            if not row or not row["volume_ml"] > 0 or not row["measured"]:
                continue
            if row["event"] == "new" and np.nan_to_num(row["longest_3d_mm"]) >= SMALLEST_MM:
                why.append(f"lesion {lesion} is new ({row['longest_3d_mm']:.1f} mm)")
            elif row["event"] == "reappeared":
                why.append(f"lesion {lesion} came back")
            elif earlier and earlier["measured"] and row["event"] == "growing":
                area, before = np.pi / 4 * row["product_mm2"], np.pi / 4 * earlier["product_mm2"]
                limit = SMALL_PERCENT if before < AREA_MM2 else LARGE_PERCENT
                if percent(area, before) > limit:
                    why.append(f"lesion {lesion} is enlarged: area {before:.0f} → {area:.0f} mm² (limit +{limit} %)")
        nan = float("nan")
        verdicts.append(
            Verdict(
                visit,
                seen.dates[visit],
                "active" if why else "not active",
                float(len(why)),
                nan,
                nan,
                tuple(why or ["no new or enlarged lesion"]),
            )
        )
    return Assessment("MS new/enlarged", SOURCE, "new and enlarged lesions", (), tuple(verdicts))
