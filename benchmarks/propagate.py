"""How good `ms.propagate` is after 1, 3 and 5 painted slices, beside what one could do instead.

    python benchmarks/propagate.py --models runs/propagate             # all sets; goes on where it was stopped
    python benchmarks/propagate.py --cases 4 --sets hippocampus flair  # four cases of two sets
    python benchmarks/propagate.py --table                             # only the tables, of what is there

One slice: the largest. Three: at 1/6, 1/2 and 5/6 of the object's extent. Five: at 0.1, 0.3 … 0.9. Judged is Dice over the pooled
voxels of all slices that are not annotated, those beyond the object's ends included. Each set is judged by a network that never saw
it (`propagate_cases.NETWORKS`; the folder of ``--models`` holds their bundles). In the same run: the nearest slice copied, outlines
interpolated, demons from slice to slice, a random walker; with ``--teach`` also `ms.teach`. The shipped network was trained for longer
than any other; "short", the same network, "without-recurrence" and "volume" (a promptable 3D U-Net) saw the same examples for the same
time; "one pass" is the shipped network that looks once, without carrying objects on from its own answers; "together" is given all objects
of an image at once; "earlier network" are rows of the networks before this one (of commit a98fb17), kept to be compared with. Then:
visits, and frames. How many slices until it is good enough: `propagate_corrections.py`.
Rows are kept in ``--work`` as they come. Writes ``docs/benchmarks/propagate.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.evaluation.intervals import Interval, bootstrap, paired
from propagate_cases import HERE, NETWORKS, Case, cases, videos, visit_pairs
from propagate_rivals import METHODS

OUT = HERE.parent / "docs" / "benchmarks" / "propagate.json"
COUNTS = (1, 3, 5)
FRACTIONS = {3: (1 / 6, 1 / 2, 5 / 6), 5: (0.1, 0.3, 0.5, 0.7, 0.9)}
UNSEEN = ("hippocampus", "acdc", "flair")  # sets that no network of ours was trained on
RIVALS = ("short", "without-recurrence", "volume")  # trained for the same time
#: the same network without what is carried on from its own answers, and without the rule for evenly painted objects
ONE_PASS: dict[str, Any] = {"rounds": 0, "even_ends": False}

Mask = NDArray[np.bool_]


def protocol(truth: Mask, count: int) -> list[int]:
    """The steps that are painted, or fewer where the object is too short."""
    area = truth.sum((1, 2))
    filled = np.flatnonzero(area)
    if count == 1:
        return [int(area.argmax())]
    wanted = [filled[0] + f * (filled[-1] + 1 - filled[0]) - 0.5 for f in FRACTIONS[count]]
    return sorted({int(filled[np.abs(filled - w).argmin()]) for w in wanted})


def dice(found: Mask, truth: Mask) -> float:
    both = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / both if both else 1.0


def protocols(case: Case, counts: Sequence[int] = COUNTS) -> Iterator[tuple[str, Mask, list[int]]]:
    """Name and truth of each object of a case, and the steps painted of it, of which each leaves steps to judge."""
    for value, called in case.objects.items():
        truth = case.truth == value
        for count in counts if truth.any() else ():
            painted = protocol(truth, count)
            if len(painted) == count < np.count_nonzero(truth.any((1, 2))):
                yield called, truth, painted


def signed(difference: Interval) -> str:
    """A difference with its 95 % interval."""
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def propagated(case: Case, truth: Mask, painted: list[int], model: ms.Model, axis: str) -> ms.Propagation:
    """What `ms.propagate` makes of the painted steps, which may be empty."""
    drawn = np.zeros(truth.shape, np.uint8)
    drawn[painted] = truth[painted]
    labels = case.image.labels_like(drawn, name="painted", label_names={1: "object"})
    return ms.propagate(case.image, labels, model, annotated=painted, axis=axis, device="cpu")


def _found(case: Case, truth: Mask, painted: list[int], model: ms.Model) -> Mask:
    return np.asarray(propagated(case, truth, painted, model, "z").labels.data) > 0


def taught(case: Case, truth: Mask, painted: list[int], minutes: float) -> Mask:
    """What `ms.teach` makes of them."""
    from napari_medseq.training import teach

    drawn = np.zeros(truth.shape, np.uint8)
    drawn[painted] = truth[painted]
    labels = case.image.labels_like(drawn, name="painted", label_names={1: "object"})
    with tempfile.TemporaryDirectory() as folder:
        settings = {"out": f"{folder}/taught", "steps": tuple(painted), "minutes": minutes, "device": "cpu"}
        model = teach(case.image, labels, settings).model
        return np.asarray(ms.segment(case.image, model, device="cpu").labels.data) > 0


class Rows:
    """Results, one line each in a file, so that a run goes on where it was stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.all: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def get(self, key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of a key, made if it is not there."""
        for row in self.all:
            if all(row.get(k) == v for k, v in key.items()):
                return row
        began = time.perf_counter()
        row = {**key, **make(), "seconds": round(time.perf_counter() - began, 2)}
        self.all.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        return row


class Benchmark:
    """All parts, over the cases asked for."""

    def __init__(
        self, rows: Rows, folder: Path | None, most: int, minutes: float | None, methods: list[str] | None
    ) -> None:
        self.rows, self.folder, self.most, self.minutes, self.methods = rows, folder, most, minutes, methods
        self._loaded: dict[str, ms.Model | None] = {}

    def model(self, name: str) -> ms.Model | None:
        """A network, or None where its bundle is not there."""
        if name not in self._loaded:
            there = self.folder is not None and (self.folder / name).is_dir()
            found = ms.load_model(self.folder / name) if there and self.folder is not None else None
            self._loaded[name] = ms.load_model(name) if found is None and name == "propagate" else found
        return self._loaded[name]

    def judged(self, name: str) -> None:
        """Dice of every method on a set."""
        for case in islice(cases(name), self.most):
            for called, truth, painted in protocols(case):
                self._one(name, case, called, truth, painted)
            model = self.model(NETWORKS[name])
            if model is not None and (self.methods is None or "together" in self.methods):
                for count in COUNTS:
                    self._together(name, case, count, model)

    def _together(self, name: str, case: Case, count: int, model: ms.Model) -> None:
        """The network, given all objects of an image at once, as people paint: where two claim a voxel, the likelier has it."""
        painted = {k: protocol(case.truth == k, count) for k in case.objects if (case.truth == k).any()}
        painted = {k: steps for k, steps in painted.items() if len(steps) == count}
        if len(painted) < 2:
            return
        found = cache(partial(_all_found, case, painted, model))
        for value, steps in painted.items():
            truth = case.truth == value
            rest = np.setdiff1d(np.arange(len(truth)), steps)
            if truth[rest].any():
                key = {"part": "slices", "set": name, "case": case.name, "patient": case.patient}
                key |= {"object": case.objects[value], "count": count, "method": "together"}
                self.rows.get(key, lambda v=value, r=rest, t=truth: _scored(found()[r] == v, t[r]))  # type: ignore[misc]

    def _one(self, name: str, case: Case, called: str, truth: Mask, painted: list[int]) -> None:
        rest = np.setdiff1d(np.arange(len(truth)), painted)
        key = {"part": "slices", "set": name, "case": case.name, "patient": case.patient, "object": called}
        key["count"] = len(painted)

        image = np.asarray(case.image.data, np.float32)
        drawn = truth & np.isin(np.arange(len(truth)), painted)[:, None, None]
        spacing = case.image.spacing["z"], case.image.spacing["y"], case.image.spacing["x"]
        finders: dict[str, Callable[[], Mask]] = {}
        networks = [("network", NETWORKS[name]), *((n, n) for n in RIVALS if name in UNSEEN)]
        for method, bundle in networks:
            model = self.model(bundle)
            if model is not None:
                finders[method] = partial(_found, case, truth, painted, model)
                if method == "network":
                    alone = replace(model, inference={**model.inference, **ONE_PASS})
                    finders["one pass"] = partial(_found, case, truth, painted, alone)
        for method, find in METHODS.items():
            finders[method] = partial(find, image, drawn, painted, spacing)
        if self.minutes is not None:
            finders["teach"] = partial(taught, case, truth, painted, self.minutes)
        for method, finder in finders.items():
            if self.methods is None or method in self.methods:
                self.rows.get({**key, "method": method}, lambda f=finder: _scored(f()[rest], truth[rest]))  # type: ignore[misc]

    def visits(self) -> None:
        """The first visit's mask as the only prompt, Dice at the second."""
        model = self.model("without-brains")
        for patient, pair in islice(visit_pairs(), self.most):
            if len(pair) < 2 or not (pair[0].labels and pair[1].labels):
                continue
            before, after = pair[0].labels[0], pair[1].labels[0]
            truth = np.asarray(after.data) > 0
            key = {"part": "visits", "case": patient, "patient": patient}
            if model is not None:
                self.rows.get({**key, "method": "network"}, partial(_later_visit, pair, before, truth, model))
            self.rows.get({**key, "method": "earlier mask"}, partial(_scored, _onto(before, after), truth))

    def frames(self) -> None:
        """The first frame's labels carried to the others, each class by itself."""
        model = self.model("without-hearts-larynx")
        for case in videos():
            for value, called in case.objects.items():
                truth = case.truth == value
                key = {"part": "frames", "case": case.name, "patient": case.patient, "object": called}
                if model is not None:
                    self.rows.get({**key, "method": "network"}, partial(_later_frames, case, truth, model))
                first = np.repeat(truth[:1], len(truth) - 1, axis=0)
                self.rows.get({**key, "method": "first frame"}, partial(_scored, first, truth[1:]))


def _all_found(case: Case, painted: dict[int, list[int]], model: ms.Model) -> NDArray[np.int64]:
    drawn = np.zeros(case.truth.shape, np.uint8)
    for value, steps in painted.items():
        drawn[steps] = np.where(case.truth[steps] == value, value, drawn[steps])
    labels = case.image.labels_like(drawn, name="painted", label_names=case.objects)
    return np.asarray(ms.propagate(case.image, labels, model, annotated=painted, axis="z", device="cpu").labels.data)


def _scored(found: Mask, truth: Mask) -> dict[str, Any]:
    return {"dice": dice(found, truth)}


def _later_visit(pair: list[ms.Visit], before: ms.ImageSequence, truth: Mask, model: ms.Model) -> dict[str, Any]:
    there = [None, None]  # the source has registered them
    found = ms.propagate(pair, before, model, transforms=there, device="cpu")
    return _scored(np.asarray(found[1].labels.data) > 0, truth)


def _later_frames(case: Case, truth: Mask, model: ms.Model) -> dict[str, Any]:
    return _scored(np.asarray(propagated(case, truth, [0], model, "t").labels.data)[1:] > 0, truth[1:])


def _onto(labels: ms.ImageSequence, other: ms.ImageSequence) -> Mask:
    """A mask on the grid of another."""
    from napari_medseq.volumes.grid import resample

    if labels.same_grid(other):
        return np.asarray(labels.data) > 0
    return np.asarray(resample(labels, other.affine, other.grid).data) > 0


# -- tables ------------------------------------------------------------------------------------------------------------
def by_patient(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean Dice of each patient's objects."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["patient"], []).append(row["dice"])
    return {p: statistics.mean(v) for p, v in found.items()}


def slices_table(rows: list[dict[str, Any]], sets: list[str]) -> Iterator[str]:
    """Mean over objects per set, method and number of slices; in brackets how many objects, where a method has others."""
    rows = [r for r in rows if r["part"] == "slices" and r["set"] in sets]
    methods = list(dict.fromkeys(r["method"] for r in rows))
    yield "| set | objects | slices | " + " | ".join(methods) + " |"
    yield "|---|---:|---:|" + "---:|" * len(methods)
    for name in sets:
        for count in COUNTS:
            here = [r for r in rows if r["set"] == name and r["count"] == count]
            objects = len([r for r in here if r["method"] == "network"])
            cells = []
            for m in methods:
                v = [r["dice"] for r in here if r["method"] == m]
                cells.append(f"{statistics.mean(v):.3f}" + ("" if len(v) == objects else f" ({len(v)})") if v else "")
            if here:
                yield f"| {name} | {objects} | {count} | " + " | ".join(cells) + " |"


def difference_table(rows: list[dict[str, Any]], sets: list[str]) -> Iterator[str]:
    """Differences of patients of all `sets`: the network and each method, and the networks that were trained for the same time."""
    rows = [r for r in rows if r["part"] == "slices" and r["set"] in sets]
    yield "| slices | compared | mean difference of patients (95 % interval) | better / worse |"
    yield "|---:|---|---|---:|"
    for count in COUNTS:
        here = [r for r in rows if r["count"] == count]
        methods = list(dict.fromkeys(r["method"] for r in here))
        pairs = [("network", m) for m in methods if m not in ("network", *RIVALS)]
        pairs += [(RIVALS[0], m) for m in RIVALS[1:]]
        for one, other in pairs:
            ours, theirs = (by_patient([r for r in here if r["method"] == m]) for m in (one, other))
            both = sorted(ours.keys() & theirs.keys())
            if both:
                p = paired([ours[k] for k in both], [theirs[k] for k in both])
                d = p.difference
                interval = f"{signed(d)}, n = {d.n}"
                yield f"| {count} | {one} − {other} | {interval} | {p.better} / {p.worse} |"


def other_tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Visits and frames, and what the network gains over each other method, by patient (frames: by sequence)."""
    for part in ("visits", "frames"):
        here = [r for r in rows if r["part"] == part]
        if here:
            yield f"\n| {part} | n | mean Dice (95 % interval) | network minus it, paired (95 % interval) | better / worse |"
            yield "|---|---:|---|---|---:|"
        ours = by_patient([r for r in here if r["method"] == "network"])
        for method in dict.fromkeys(r["method"] for r in here):
            rows_of_method = [r for r in here if r["method"] == method]
            i = bootstrap([r["dice"] for r in rows_of_method])
            theirs = by_patient(rows_of_method)
            both = sorted(ours.keys() & theirs.keys())
            gain = " | "
            if method != "network" and both:
                p = paired([ours[k] for k in both], [theirs[k] for k in both])
                gain = f"{signed(p.difference)}, n = {p.difference.n} | {p.better} / {p.worse}"
            yield f"| {method} | {len(rows_of_method)} | {i.value:.3f} ({i.low:.3f} to {i.high:.3f}) | {gain} |"


def tables(rows: list[dict[str, Any]]) -> str:
    sets = [s for s in NETWORKS if any(r.get("set") == s for r in rows)]
    unseen = [s for s in sets if s in UNSEEN]
    return "\n".join([*slices_table(rows, sets), "", *difference_table(rows, unseen), *other_tables(rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of bundles; without it only the shipped network")
    parser.add_argument("--sets", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--cases", type=int, default=1000, help="images per set, at most")
    parser.add_argument("--parts", nargs="*", default=["slices", "visits", "frames"])
    parser.add_argument("--methods", nargs="*", help="of the slices; default all")
    parser.add_argument("--teach", type=float, metavar="MINUTES", help="also ms.teach, for so many minutes each")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--work", type=Path, default=Path("runs/propagate-benchmark/rows.jsonl"))
    parser.add_argument("--out", type=Path, default=OUT)
    a = parser.parse_args()
    rows = Rows(a.work)
    if not a.table:
        run = Benchmark(rows, a.models, a.cases, a.teach, a.methods)
        for name in a.sets if "slices" in a.parts else ():
            run.judged(name)
        for part in ("visits", "frames"):
            if part in a.parts:
                getattr(run, part)()
    print(tables(rows.all))
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps({"rows": rows.all}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
