"""The two tables: one row per lesion and visit, and one row per visit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date

import numpy as np
import pandas as pd

from napari_medseq.progression import change as _change
from napari_medseq.progression import measures as _measures
from napari_medseq.progression.components import Key, Lesion
from napari_medseq.progression.graph import EVENTS, Graph
from napari_medseq.progression.settings import TrackSettings

#: first columns of the lesion table; measures follow
COLUMNS = (
    "visit",
    "date",
    "lesion",
    "label",
    "volume_ml",
    "longest_mm",
    "perpendicular_mm",
    "centroid_r_mm",
    "centroid_a_mm",
    "centroid_s_mm",
    "event",
    "parents",
    "certainty",
    "measured",
    "cut_off",
)
#: all columns, for a table without rows
EMPTY = [*COLUMNS, *_measures.SIZE[1:], "voxels", *_change.NUMBERS, *_change.TEXTS]
#: columns of text; the last but those of a change is there where `retest` was run
TEXTS = ("label", "event", "parents", "real_change", *_change.TEXTS)
#: measures of each lesion; booleans are numbers
Measures = Mapping[Key, Mapping[str, float]]
#: one row of the lesion table
Row = dict[str, float | str]


def lesion_table(
    graph: Graph,
    measures: Measures,
    dates: Sequence[date | None],
    settings: TrackSettings,
    in_view: Callable[[Lesion, int], bool] = lambda _lesion, _visit: True,
) -> pd.DataFrame:
    """One row per lesion and visit where it is present, and one of volume 0 at the first visit where it is absent.

    Parameters
    ----------
    graph : Graph
    measures : dict of Key to dict
        What `_measures` found for each lesion.
    dates : sequence of date or None
        One per visit.
    settings : TrackSettings
    in_view : callable
        Whether a lesion's place lies within a visit's field of view: where it does not, "new" and "resolved" have certainty 0.

    Returns
    -------
    DataFrame
        Sorted by visit and lesion.
    """

    def changed(before: Key, after: Key) -> str:
        one, other = measures[before], measures[after]
        first, last = one["volume_ml"], other["volume_ml"]
        bound = _change.noise_bound(first, last, one["volume_sd_ml"], other["volume_sd_ml"])
        return _measures.change_word(first, last, bound, settings)

    rows: list[Row] = []
    present: dict[int, list[Key]] = {}
    for key, lesion in graph.lesions.items():
        if key in graph.excluded:
            continue
        identity = graph.identities[key]
        present.setdefault(identity, []).append(key)
        parents = graph.live_parents[key]
        before = graph.seen_before(key[0])
        rows.append(
            {
                "visit": key[0],
                "lesion": identity,
                "label": lesion.label,
                "event": graph.event(key, settings.min_volume_ml, changed),
                "parents": ";".join(str(i) for i in sorted({graph.identities[e.parent] for e in parents})),
                "certainty": min(
                    (e.certainty for e in parents), default=float(before is None or in_view(lesion, before))
                ),
                **measures[key],
                **_since(graph, key, measures, dates, settings),
            }
        )
    for identity, keys in present.items():
        for key, following in zip(keys, [*(k[0] for k in keys[1:]), None], strict=True):
            last_seen = graph.seen_after(key[0])
            if last_seen is not None and following != last_seen:
                rows.append(
                    _gone(graph, key, identity, last_seen, measures[key], in_view(graph.lesions[key], last_seen))
                )
    table = pd.DataFrame(rows, columns=None if rows else EMPTY)
    days = pd.to_datetime(pd.Series(list(dates), dtype="object"))
    table["date"] = days.reindex(table["visit"]).to_numpy()
    table = table.loc[:, ~table.columns.duplicated()]
    other_columns = [c for c in table.columns if c not in COLUMNS]
    table = table[[*COLUMNS, *other_columns]]
    return table.sort_values(["visit", "lesion"], ignore_index=True)


def _since(graph: Graph, key: Key, measures: Measures, dates: Sequence[date | None], settings: TrackSettings) -> Row:
    """Change since the latest sighting: of the sum of all parents where they merged, blank where a lesion split or is cut off."""
    blank: Row = {**dict.fromkeys(_change.NUMBERS, np.nan), **dict.fromkeys(_change.TEXTS, "")}
    parents = graph.live_parents[key]
    if not parents or graph.is_piece(key, settings.min_volume_ml):
        return blank
    earlier, later = dates[parents[0].parent[0]], dates[key[0]]
    days = float((later - earlier).days) if earlier and later else np.nan
    if graph.is_cut_off(key):
        return {**blank, "interval_days": days}
    sources = [measures[e.parent] for e in parents]
    changes = _change.of_volumes(
        sum(m["volume_ml"] for m in sources),
        measures[key]["volume_ml"],
        float(np.sqrt(sum(m["volume_sd_ml"] ** 2 for m in sources))),
        measures[key]["volume_sd_ml"],
        days,
    )
    if len(parents) == 1 and measures[key]["measured"]:
        before = graph.lesions[parents[0].parent]
        changes.update(_change.of_place(before, graph.lesions[key], settings.registration_error_mm))
    return {**blank, **changes}


def growth(lesions: pd.DataFrame) -> pd.DataFrame:
    """One row per lesion: when it was seen, how often and how fast it grew."""
    return pd.DataFrame([_change.growth_row(rows) for _, rows in lesions.groupby("lesion")])


def _gone(graph: Graph, key: Key, identity: int, visit: int, measures: Mapping[str, float], seen: bool) -> Row:
    """The row of volume 0: resolved, or taken up by a merge."""
    children = [e for e in graph.live_children[key] if e.child[0] == visit]
    blank: Row = {name: float("nan") for name, value in measures.items() if isinstance(value, float)}
    blank.update(dict.fromkeys(_change.TEXTS, ""))
    return {
        **blank,
        "visit": visit,
        "lesion": identity,
        "label": graph.lesions[key].label,
        "event": "resolved" if not children else "merged" if len(children) == 1 else "complex",
        "parents": "",
        "certainty": min((e.certainty for e in children), default=float(seen)),
        "volume_ml": 0.0,
        "volume_sd_ml": 0.0,
        "measured": bool(measures["measured"]),
        "cut_off": False,
        "voxels": 0,
        "change_ml": -measures["volume_ml"] if not children else np.nan,
        "change_percent": -100.0 if not children else np.nan,
    }


def summary_table(
    lesions: pd.DataFrame, dates: Sequence[date | None], seen: Sequence[bool] | None = None
) -> pd.DataFrame:
    """One row per visit: burden, its change, and how many lesions had each event (unmeasured specks apart).

    Parameters
    ----------
    lesions : DataFrame
        What `lesion_table` gives.
    dates : sequence of date or None
        One per visit.
    seen : sequence of bool, optional
        Whether each visit has a mask; the numbers of one that has none are blank, and changes are to the visit before it.
    """
    seen = [True] * len(dates) if seen is None else seen
    days = pd.to_datetime(pd.Series(list(dates), dtype="object"))
    rows = []
    for visit, day in enumerate(days):
        at_visit = lesions[lesions["visit"] == visit]
        present = at_visit[at_visit["volume_ml"] > 0]
        measured = present[present["measured"].astype(bool)]
        rows.append(
            {
                "visit": visit,
                "date": day,
                "days": (day - days.iloc[0]).days if pd.notna(day) and pd.notna(days.iloc[0]) else np.nan,
                "lesions": len(measured),
                "unmeasured": len(present) - len(measured),
                "volume_ml": float(present["volume_ml"].sum()),
                "volume_sd_ml": float(np.sqrt((present["volume_sd_ml"].astype(float) ** 2).sum())),
                "longest_sum_mm": float(measured["longest_mm"].sum()),
                **{event: int((measured["event"] == event).sum()) for event in EVENTS[1:] if event != "resolved"},
                "resolved": int((at_visit["measured"].astype(bool) & (at_visit["event"] == "resolved")).sum()),
            }
        )
    table = pd.DataFrame(rows)
    unseen = [not s for s in seen]
    if any(unseen):
        numbers = [c for c in table.columns if c not in ("visit", "date", "days")]
        table[numbers] = table[numbers].astype(float)
        table.loc[unseen, numbers] = np.nan
    before = table["volume_ml"].ffill().shift()
    table.insert(7, "change_ml", table["volume_ml"] - before)
    table.insert(8, "change_percent", (100 * table["change_ml"] / before).where(before > 0))
    return table
