"""What one more painted slice is worth to `ms.propagate`, by which slice it is: the named one, a random one, or the worst.

    python benchmarks/propagate_next.py --cases 2      # two images of each set

After the largest slice, and after the largest and a random second one, every slice between the object's ends, `TRIED` of them where
there are more, is painted in turn. What the named slice gains is compared with the mean of all, which is what a random one gains: one
random slice per object, as `propagate_corrections.py` draws it, says little of random slices. "Worst" has most wrong pixels, which only
the expert knows. Judged is Dice over all slices. Hippocampus, ACDC and FLAIR, on patients on which nothing was chosen.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

import napari_medseq as ms
from napari_medseq.evaluation.intervals import paired
from propagate import dice, propagated, protocol, signed
from propagate_cases import Case
from propagate_corrections import SETS, Mask, objects

TRIED = 8


def gains(case: Case, truth: Mask, painted: list[int], model: ms.Model, rng: np.random.Generator) -> dict[str, float]:
    """Dice gained by one more painted slice: the named one, a random one (the mean of all), the one with most wrong pixels."""
    answer = propagated(case, truth, painted, model, "z")
    found = np.asarray(answer.labels.data) > 0
    there = np.flatnonzero((found | truth).any((1, 2)))
    near = np.setdiff1d(np.arange(there[0], there[-1] + 1), painted)
    tried = sorted(rng.choice(near, min(TRIED, len(near)), replace=False).tolist())
    wrong = (found ^ truth).sum((1, 2)) * ~np.isin(np.arange(len(truth)), painted)
    worst = int(wrong.argmax())
    named = worst if answer.next_step is None else answer.next_step

    def gained(step: int) -> float:
        better = propagated(case, truth, sorted([*painted, step]), model, "z")
        return dice(np.asarray(better.labels.data) > 0, truth) - dice(found, truth)

    by_step = {step: gained(step) for step in sorted({*tried, worst, named})}
    return {
        "named": by_step[named],
        "random": statistics.mean(by_step[step] for step in tried),
        "worst": by_step[worst],
    }


def compare_gains(sets: list[str], most: int, model: ms.Model) -> None:
    """Print what one more slice is worth, by which slice it is."""
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, list[dict[str, float]]]] = {"1": {}, "2": {}}
    for name in sets:
        for case, _, truth in objects(name, most):
            first = protocol(truth, 1)
            second = int(rng.choice(np.setdiff1d(np.flatnonzero(truth.any((1, 2))), first)))
            for count, painted in (("1", first), ("2", sorted([*first, second]))):
                row = gains(case, truth, painted, model, rng)
                found[count].setdefault(case.patient, []).append(row)
    print("| after | patients | objects | named | random | worst | named − random (95 % interval) | better / worse |")
    print("|---|---:|---:|---:|---:|---:|---|---:|")
    for count, patients in found.items():
        mean = {
            way: [statistics.mean(r[way] for r in rows) for rows in patients.values()]
            for way in ("named", "random", "worst")
        }
        p = paired(mean["named"], mean["random"])
        cells = " | ".join(f"{statistics.mean(v):+.3f}" for v in mean.values())
        after, people, n = f"{count} slice{'s' * (count != '1')}", len(patients), sum(map(len, patients.values()))
        print(f"| {after} | {people} | {n} | {cells} | {signed(p.difference)} | {p.better} / {p.worse} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--cases", type=int, default=2, help="images per set, at most")
    a = parser.parse_args()
    compare_gains(list(a.sets), a.cases, ms.load_model("propagate"))


if __name__ == "__main__":
    main()
