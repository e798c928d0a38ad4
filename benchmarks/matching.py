"""Matching of lesions between visits against a generator with known truth, beside two simple matchers, in one run.

Prints tables and writes JSON: edge F1 and event recall at registration errors up to two voxels, against lesion load and
spacing, with two generators of different making.

    python benchmarks/matching.py [--series 30] [--json matching.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

import napari_medseq as ms
from blob_series import make_blobs
from label_series import Node, Series, make_series
from napari_medseq import geometry

Edges = set[tuple[Node, Node]]
COUNTED = ("baseline", "new", "merged", "split", "complex", "reappeared", "growing", "shrinking", "stable", "resolved")


@dataclass
class Scores:
    """Counts over one or many series."""

    hit: int = 0
    extra: int = 0
    missing: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __iadd__(self, other: Scores) -> Scores:
        self.hit += other.hit
        self.extra += other.extra
        self.missing += other.missing
        self.asked += other.asked
        self.right += other.right
        self.seconds += other.seconds
        return self

    @property
    def edge_f1(self) -> float:
        """F1 of edges."""
        return 2 * self.hit / max(2 * self.hit + self.extra + self.missing, 1)

    @property
    def event_recall(self) -> float:
        """Share of true events that were named so, over all kinds but baseline."""
        asked = sum(n for e, n in self.asked.items() if e != "baseline")
        return sum(n for e, n in self.right.items() if e != "baseline") / max(asked, 1)


def scores_of_track(series: Series, *, tell_error: bool = False) -> Scores:
    """What `ms.track` makes of a series, read from its public table and labels alone."""
    begin = time.process_time()
    error = series.error_mm if tell_error else None
    result = ms.track(series.masks, dates=series.dates, registration_error_mm=error)
    table = result.lesions
    seconds = time.process_time() - begin
    node_of: dict[tuple[int, int], Node] = {}
    for visit, (labels, truth) in enumerate(zip(result.labels, series.truth.instances, strict=True)):
        identity = np.asarray(labels.data)
        for value, where in enumerate(ndimage.find_objects(truth), start=1):
            (one,) = np.unique(identity[where][truth[where] == value])
            node_of[visit, int(one)] = (visit, value)
    edges: Edges = set()
    events: dict[Node, str] = {}
    resolved: set[Node] = set()
    for row in table.itertuples():
        if row.volume_ml == 0:
            if row.event == "resolved":
                resolved.add(node_of[row.visit - 1, row.lesion])
            continue
        node = node_of[row.visit, row.lesion]
        events[node] = row.event
        parents = [int(p) for p in row.parents.split(";") if p]
        last = {p: max(v for v, i in node_of if i == p and v < row.visit) for p in parents}
        latest = max(last.values(), default=0)
        edges |= {(node_of[latest, p], node) for p in parents if last[p] == latest}
    return score(series, edges, events, resolved, seconds)


def score(series: Series, edges: Edges, events: dict[Node, str], resolved: set[Node], seconds: float) -> Scores:
    """Compare edges and events with the truth."""
    truth = series.truth
    hit = len(edges & truth.edges)
    scores = Scores(hit, len(edges) - hit, len(truth.edges) - hit, seconds=seconds)
    for node, event in truth.events.items():
        if event != "any":
            scores.asked[event] += 1
            scores.right[event] += events.get(node) == event
    scores.asked["resolved"] += len(truth.resolved)
    scores.right["resolved"] += len(truth.resolved & resolved)
    return scores


def scores_of_pairs(series: Series, matcher: Callable[[Series, int], Edges]) -> Scores:
    """A one-to-one matcher of consecutive visits; its events follow from its edges by the same words."""
    begin = time.process_time()
    edges: Edges = set()
    for visit in range(1, len(series.masks)):
        edges |= matcher(series, visit)
    seconds = time.process_time() - begin
    nodes = list(series.truth.volumes)
    parent = {child: one for one, child in edges}
    child = dict(edges)
    events = {}
    for node in nodes:
        if node[0] == 0:
            events[node] = "baseline"
        elif node not in parent:
            events[node] = "new"
        else:
            ratio = series.truth.volumes[node] / series.truth.volumes[parent[node]]
            events[node] = "growing" if ratio > 1.25 else "shrinking" if ratio < 0.8 else "stable"
    gone = {n for n in nodes if n[0] < len(series.masks) - 1 and n not in child}
    return score(series, edges, events, gone, seconds)


def iou_hungarian(series: Series, visit: int) -> Edges:
    """Best one-to-one sum of intersection over union, both masks on the later grid."""
    before, after = series.masks[visit - 1], series.masks[visit]
    truth = series.truth.instances
    matrix = np.linalg.solve(before.affine, after.affine)
    moved = ndimage.affine_transform(
        truth[visit - 1], matrix[2::-1, 2::-1], matrix[2::-1, 3], output_shape=truth[visit].shape, order=0
    )
    both = (moved > 0) & (truth[visit] > 0)
    pairs, counts = np.unique(np.stack([moved[both], truth[visit][both]]), axis=1, return_counts=True)
    size_a, size_b = np.bincount(moved.ravel()), np.bincount(truth[visit].ravel())
    iou = np.zeros((size_a.size, size_b.size))
    for (a, b), n in zip(pairs.T, counts, strict=True):
        iou[a, b] = n / (size_a[a] + size_b[b] - n)
    rows, columns = linear_sum_assignment(-iou)
    return {((visit - 1, int(a)), (visit, int(b))) for a, b in zip(rows, columns, strict=True) if iou[a, b] > 0}


def nearest_centroid(series: Series, visit: int, gate_mm: float = 10.0) -> Edges:
    """Mutually nearest centroids within a gate."""
    points = []
    for v in (visit - 1, visit):
        truth = series.truth.instances[v]
        centres = np.array(ndimage.center_of_mass(truth > 0, truth, range(1, truth.max() + 1))).reshape(-1, 3)
        points.append(geometry.apply_points(series.masks[v].affine, centres[:, ::-1]))
    if not len(points[0]) or not len(points[1]):
        return set()
    apart = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    return {
        ((visit - 1, i + 1), (visit, int(j) + 1))
        for i, j in enumerate(apart.argmin(axis=1))
        if apart[:, j].argmin() == i and apart[i, j] <= gate_mm
    }


MATCHERS: dict[str, Callable[[Series], Scores]] = {
    "napari-medseq": scores_of_track,
    "IoU-Hungarian": lambda s: scores_of_pairs(s, iou_hungarian),
    "nearest centroid": lambda s: scores_of_pairs(s, nearest_centroid),
}


def sweep(
    n: int,
    name: str,
    options: Sequence[tuple[str, dict[str, object]]],
    first_seed: int,
    make: Callable[..., Series] = make_series,
) -> list[dict[str, object]]:
    """Scores of all matchers at each option, over `n` series each."""
    rows: list[dict[str, object]] = []
    print(f"\n{name:>28}  {'matcher':<18} edge F1  precision  recall  event recall  s/series  by event")
    for label, option in options:
        totals = {matcher: Scores() for matcher in MATCHERS}
        for seed in range(n):
            series = make(first_seed + seed, **option)
            for matcher, function in MATCHERS.items():
                totals[matcher] += function(series)
        for matcher, s in totals.items():
            precision, recall = s.hit / max(s.hit + s.extra, 1), s.hit / max(s.hit + s.missing, 1)
            events = {e: round(s.right[e] / s.asked[e], 3) for e in COUNTED if s.asked[e]}
            row = {
                "sweep": name,
                "at": label,
                "matcher": matcher,
                "edge_f1": round(s.edge_f1, 4),
                "precision": round(precision, 4),
                "recall": round(recall, 4),
                "event_recall": round(s.event_recall, 4),
                "seconds": round(s.seconds / n, 3),
                "events": events,
                "asked": dict(s.asked),
            }
            rows.append(row)
            print(
                f"{label:>28}  {matcher:<18} {s.edge_f1:7.3f}  {precision:9.3f}  {recall:6.3f}  {s.event_recall:12.3f}  "
                f"{s.seconds / n:8.2f}  {events if matcher == 'napari-medseq' else ''}",
                flush=True,
            )
    return rows


def main() -> None:
    """Run the sweeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=20, help="series per point")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--only", choices=["error", "load", "spacing", "harder", "blobs"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sweeps: dict[str, tuple[str, list[tuple[str, dict[str, object]]]]] = {
        "error": ("registration error (voxels)", [(f"{e:g}", {"error_voxels": e}) for e in (0, 0.5, 1, 1.5, 2)]),
        "load": ("lesions", [(f"{k}", {"lesions": k, "box_mm": 120.0}) for k in (5, 15, 40)]),
        "spacing": (
            "spacing (mm)",
            [
                ("×".join(f"{v:g}" for v in s), {"spacings": (s,)})
                for s in ((1.0, 1.0, 1.0), (0.8, 0.8, 3.0), (1.0, 1.0, 5.0))
            ],
        ),
        "harder": (
            "harder",
            [
                ("grids tilted to 12°", {"tilt_deg": 12.0}),
                ("tilted, bent 0.5 voxel", {"tilt_deg": 12.0, "bend_voxels": 0.5}),
                ("lesions of 1.5 to 3 mm", {"radius_mm": (1.5, 3.0), "lesions": 40}),
                ("a quarter missed, 6 visits", {"missed": 0.25, "visits": 6}),
                ("error 3 voxels, 40 lesions", {"error_voxels": 3.0, "lesions": 40}),
            ],
        ),
        "blobs": (
            "second generator",
            [
                ("1 voxel along each axis", {}),
                ("turned by 2°", {"turn_deg": 2.0}),
                ("drift of 0.8 radius", {"drift": 0.8}),
                ("40 crowded", {"lesions": 40, "apart_mm": 1.5, "box_mm": 90.0}),
                ("grids 0.7×0.7×4 to 2×2×2", {"spacings": ((1.0, 1.0, 1.0), (0.7, 0.7, 4.0), (2.0, 2.0, 2.0))}),
                ("radius 1.5 to 3 mm", {"radius_mm": (1.5, 3.0), "lesions": 30}),
                ("2 voxels, 6 visits", {"error_voxels": 2.0, "visits": 6}),
            ],
        ),
    }
    rows: list[dict[str, object]] = []
    for key, (name, options) in sweeps.items():
        if args.only in (None, key):
            rows += sweep(args.series, name, options, args.seed, make_blobs if key == "blobs" else make_series)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
