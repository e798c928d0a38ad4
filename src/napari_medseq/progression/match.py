"""Matching lesions between two visits: a many-to-many graph by overlap that grows through dilations, then by distance.

Dilating before matching, and assigning what is left by cost, is the scheme of Santoro-Fernandes et al., Phys Med Biol 2021, 66:155017;
here dilation grows in rounds and only lesions without a partner go on, so that it bridges misalignment without making false merges.
The 10 % overlap that links two lesions is that of MSSEG-2 (Commowick et al., 2021). Optimal transport (Qahqaie et al., arXiv
2602.09933) solves the same many-to-many problem with soft plans; counted overlap was preferred because each link can be explained.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_medseq import geometry
from napari_medseq.progression.components import Key, Lesion
from napari_medseq.progression.overlap import Pair, units_zyx
from napari_medseq.progression.settings import TrackSettings

#: a lesion left alone joins a partner that is taken if, one voxel larger, they share this much of either: the least where the
#: partner has more volume than all its pieces: beyond this share of it
_JOINING, _JOINING_APART, _JOINING_ROOM, _ROOM = 0.5, 0.75, 0.35, 0.75


@dataclass(frozen=True)
class Edge:
    """A lesion flows into another at a later visit.

    Parameters
    ----------
    parent, child : Key
        (visit, number) of the earlier and the later lesion.
    certainty : float
        1: half of either lesion or more lies in the other; 0.5 and less: only within the registration error.
    how : {"overlap", "dilation", "distance", "manual"}
        What linked them.
    share : float
        Share of the child that lies in the parent, or of the parent in the child, whichever is larger.
    """

    parent: Key
    child: Key
    certainty: float
    how: str = "overlap"
    share: float = 0.0


def _close_pairs(
    before: Sequence[Lesion], after: Sequence[Lesion], reach: float, error_mm: float | None
) -> Iterator[tuple[int, int]]:
    """Pairs of equal class whose bounding boxes, grown by `reach` voxel units, meet in common space."""
    if not before or not after:
        return
    unit = float(units_zyx(before[0], after[0], error_mm).max())
    lows_a, highs_a = (np.array(side) for side in zip(*(a.bounds for a in before), strict=True))
    lows_b, highs_b = (np.array(side) for side in zip(*(b.bounds for b in after), strict=True))
    grow = reach * unit
    order = np.argsort(lows_b[:, 0], kind="stable")
    sorted_low = lows_b[order, 0]
    widest = float((highs_b[:, 0] - lows_b[:, 0]).max())
    for i, a in enumerate(before):
        first = np.searchsorted(sorted_low, lows_a[i, 0] - grow - widest, "left")
        last = np.searchsorted(sorted_low, highs_a[i, 0] + grow, "right")
        near = order[first:last]
        meet = ((lows_b[near] <= highs_a[i] + grow) & (highs_b[near] >= lows_a[i] - grow)).all(axis=1)
        for j in sorted(near[meet].tolist()):
            if after[j].label == a.label:
                yield i, j


def match(
    before: Sequence[Lesion], after: Sequence[Lesion], settings: TrackSettings, *, bridging: bool = False
) -> list[Edge]:
    """Edges from the lesions of one visit to those of a later one, by overlap.

    Rounds: lesions that overlap by more than ``min_overlap`` of either are linked, many to many; those that found no partner go on
    to the next round, where lesions are one voxel larger, up to ``max_dilation``. What is left is for `match_left`.

    Parameters
    ----------
    before, after : sequence of Lesion
        Each of one visit.
    settings : TrackSettings
    bridging : bool
        Whether a visit lies between; then one round less is trusted.

    Returns
    -------
    list of Edge
        Ordered by child, then parent.
    """
    error, reach = settings.registration_error_mm, settings.max_dilation
    touching = {(i, j): Pair(before[i], after[j], error) for i, j in _close_pairs(before, after, 0.0, error)}
    edges: dict[tuple[int, int], Edge] = {}

    def put(i: int, j: int, certainty: float, how: str, share: float) -> None:
        edges[i, j] = Edge(before[i].key, after[j].key, round(float(np.clip(certainty, 0, 1)), 3), how, share)

    for (i, j), pair in touching.items():
        if pair.share > settings.min_overlap:
            put(i, j, 0.5 + pair.share, "overlap", pair.share)

    near = _free_pairs(before, after, edges, reach, error)
    limit = reach - 1 if bridging else reach
    for radius in np.arange(1.0, limit + 0.5):
        used_before, used_after = {i for i, _ in edges}, {j for _, j in edges}
        near = {(i, j): p for (i, j), p in near.items() if i not in used_before and j not in used_after}
        for (i, j), pair in near.items():
            share = pair.dilated_share(float(radius), reach)
            if share > settings.min_overlap:
                put(i, j, 0.5 * share / radius, "dilation", pair.share)

    for i, j, share, pair in _joining(before, after, edges, error, reach):
        put(i, j, 0.5 * share, "dilation", pair.share)
    return sorted(edges.values(), key=lambda e: (e.child, e.parent))


def _joining(
    before: Sequence[Lesion],
    after: Sequence[Lesion],
    matched: Collection[tuple[int, int]],
    error_mm: float | None,
    reach: float,
) -> list[tuple[int, int, float, Pair]]:
    """Lesions without an edge that belong to one with edges: a further piece of it, or a further part that flowed into it.

    That is where, one voxel larger, they share half of either (three quarters where they do not overlap yet). Where the partner's
    volume has room for one more beside its known ones (a large lesion that left one small piece must have left others), a
    third is enough.
    """
    used_before, used_after = {i for i, _ in matched}, {j for _, j in matched}
    into: dict[int, float] = {}
    out: dict[int, float] = {}
    for i, j in matched:
        into[j] = into.get(j, 0.0) + before[i].volume_mm3
        out[i] = out.get(i, 0.0) + after[j].volume_mm3
    joined = []
    for lone, side in (((used_before, False), (used_after, True)), ((used_before, True), (used_after, False))):
        rows = [i for i in range(len(before)) if (i in lone[0]) == lone[1]]
        columns = [j for j in range(len(after)) if (j in side[0]) == side[1]]
        for r, c in _close_pairs([before[i] for i in rows], [after[j] for j in columns], 1.0, error_mm):
            i, j = rows[r], columns[c]
            pair = Pair(before[i], after[j], error_mm)
            share = pair.dilated_share(1.0, reach)
            if side[1]:
                room = into[j] + before[i].volume_mm3 <= _ROOM * after[j].volume_mm3
            else:
                room = out[i] + after[j].volume_mm3 <= _ROOM * before[i].volume_mm3
            if share >= (_JOINING_ROOM if room else _JOINING if pair.share > 0 else _JOINING_APART):
                joined.append((i, j, share, pair))
    return joined


def _free_pairs(
    before: Sequence[Lesion],
    after: Sequence[Lesion],
    matched: Collection[tuple[int, int]],
    reach: float,
    error_mm: float | None,
) -> dict[tuple[int, int], Pair]:
    """Close pairs among the lesions that have no edge yet."""
    used_before, used_after = {i for i, _ in matched}, {j for _, j in matched}
    rows = [i for i in range(len(before)) if i not in used_before]
    columns = [j for j in range(len(after)) if j not in used_after]
    close = _close_pairs([before[i] for i in rows], [after[j] for j in columns], reach, error_mm)
    return {(rows[i], columns[j]): Pair(before[rows[i]], after[columns[j]], error_mm) for i, j in close}


def match_left(
    before: Sequence[Lesion],
    after: Sequence[Lesion],
    settings: TrackSettings,
    appearance: Callable[[Lesion], float] | None = None,
) -> list[Edge]:
    """One-to-one edges among lesions that no overlap linked: cheapest sum of distance, size and appearance.

    Gated by how far registration is trusted: centroids within ``max_dilation`` voxels (or registration errors), volumes
    within a factor of four, brightness ranks within a half.

    Parameters
    ----------
    before, after : sequence of Lesion
        Without an edge; each of one visit.
    settings : TrackSettings
    appearance : callable, optional
        Brightness of a lesion as a rank in its image, 0 to 1; NaN where unknown.

    Returns
    -------
    list of Edge
    """
    error, reach = settings.registration_error_mm, max(settings.max_dilation, 1e-9)
    free = list(_close_pairs(before, after, settings.max_dilation, error))
    if not free:
        return []
    rows, columns = sorted({i for i, _ in free}), sorted({j for _, j in free})
    row, column = {i: k for k, i in enumerate(rows)}, {j: k for k, j in enumerate(columns)}
    cost = np.full((len(rows), len(columns)), 10.0)
    for i, j in free:
        a, b = before[i], after[j]
        place = geometry.apply_points(np.asarray(np.linalg.inv(b.common_affine)), a.common_centroid[None])[0, ::-1]
        apart = np.linalg.norm((place - b.index.mean(axis=0)) * b.spacing_zyx / units_zyx(a, b, error)) / reach
        size = abs(np.log(a.volume_mm3 / b.volume_mm3)) / np.log(4.0)
        looks = abs(appearance(a) - appearance(b)) / 0.5 if appearance is not None else 0.0
        if apart <= 1 and size <= 1 and not looks > 1:
            cost[row[i], column[j]] = apart + 0.5 * size + 0.5 * np.nan_to_num(looks)
    from scipy.optimize import linear_sum_assignment

    edges = []
    for r, c in zip(*linear_sum_assignment(cost), strict=True):
        if cost[r, c] < 10:
            certainty = round(float(0.25 * (1 - cost[r, c] / 2)), 3)
            edges.append(Edge(before[rows[r]].key, after[columns[c]].key, certainty, "distance"))
    return edges
