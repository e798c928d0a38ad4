"""How many slices must be painted until `ms.propagate` is good enough, and whether the slice that it names is worth painting next.

    python benchmarks/propagate_corrections.py --cases 2      # two images of each set

Begun with the slice on which the object is largest; then, up to `MOST` slices, the next one is painted by the expert: the slice with most
wrong pixels ("worst", which only the expert knows), the one that the network names ("named": `Propagation.next_step`), or one of
those that are not painted, at random, among those from the first to the last on which the answer or the truth shows the object.
Judged is Dice over all slices, those that are painted too: what somebody is left with. Interpolated outlines, corrected at their worst
slice, stand beside.
Hippocampus, ACDC and FLAIR: nothing was learned from them. What one more slice is worth, over all slices: `propagate_next.py`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.evaluation.intervals import paired
from propagate import dice, propagated, protocol, signed
from propagate_cases import Case, cases
from propagate_rivals import METHODS

Mask = NDArray[np.bool_]
SETS = ("hippocampus", "acdc", "flair")
ENOUGH, MOST = 0.85, 5
WAYS = ("network, worst next", "network, named next", "network, random next", "interpolation, worst next")


def curve(case: Case, truth: Mask, way: str, model: ms.Model) -> list[float]:
    """Dice after one, two … `MOST` painted slices; of an object that is painted throughout, as it was before."""
    rng = np.random.default_rng(0)
    painted, found_by = protocol(truth, 1), list[float]()
    spacing = case.image.spacing["z"], case.image.spacing["y"], case.image.spacing["x"]
    while len(painted) <= MOST and len(painted) < len(truth):
        named: int | None = None
        if way.startswith("network"):
            answer = propagated(case, truth, painted, model, "z")
            found, named = np.asarray(answer.labels.data) > 0, answer.next_step
        else:
            shown = np.isin(np.arange(len(truth)), painted)[:, None, None]
            found = METHODS["interpolation"](np.asarray(case.image.data, np.float32), truth & shown, painted, spacing)
        found_by.append(dice(found, truth))
        wrong = (found ^ truth).sum((1, 2)) * ~np.isin(np.arange(len(truth)), painted)
        there = np.flatnonzero((found | truth).any((1, 2)))
        near = np.setdiff1d(np.arange(there[0], there[-1] + 1), painted)
        if not near.size:
            break
        worst = int(wrong.argmax())
        following = {"worst": worst, "named": worst if named is None else named, "random": int(rng.choice(near))}
        painted = sorted([*painted, following[way.split()[1]]])
    return found_by + found_by[-1:] * (MOST - len(found_by))


def needed(one: list[float]) -> int:
    """Slices until it is good enough; one more than `MOST` where it never is."""
    return next((k for k, d in enumerate(one, 1) if d >= ENOUGH), MOST + 1)


def objects(name: str, most: int) -> Iterator[tuple[Case, str, Mask]]:
    """Objects on six slices and more."""
    for case in islice(cases(name), most):
        for value, called in case.objects.items():
            truth = case.truth == value
            if np.count_nonzero(truth.any((1, 2))) >= 6:
                yield case, called, truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--cases", type=int, default=2, help="images per set, at most")
    a = parser.parse_args()
    model = ms.load_model("propagate")
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    patients: list[str] = []
    for name in a.sets:
        for case, _, truth in objects(name, a.cases):
            patients.append(case.patient)
            for way in WAYS:
                found[way].append(curve(case, truth, way, model))
    print(f"{len(patients)} objects of {len(set(patients))} patients ({', '.join(a.sets)}).\n")
    print(
        f"| method | mean Dice after {' | '.join(map(str, range(1, MOST + 1)))} slices | until Dice ≥ {ENOUGH} (median) | reached |"
    )
    print("|---|" + "---:|" * (MOST + 2))
    for way, curves in found.items():
        means = " | ".join(f"{statistics.mean(c[k] for c in curves):.3f}" for k in range(MOST))
        n = [needed(c) for c in curves]
        median = statistics.median(n)
        print(
            f"| {way} | {means} | {median if median <= MOST else f'more than {MOST}'} | {sum(v <= MOST for v in n)} of {len(n)} |"
        )
    print("\n| slices | compared | mean difference of objects (95 % interval) | better / worse |")
    print("|---:|---|---|---:|")
    for one, other in ((1, 0), (1, 2), (0, 3)):
        for k in (2, 4):
            ours, theirs = ([c[k] for c in found[WAYS[w]]] for w in (one, other))
            p = paired(ours, theirs)
            d = p.difference
            interval = f"{signed(d)}, n = {d.n}"
            print(f"| {k + 1} | {WAYS[one]} − {WAYS[other]} | {interval} | {p.better} / {p.worse} |")


if __name__ == "__main__":
    main()
