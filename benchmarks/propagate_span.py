"""How large an object should be in the window of `ms.propagate`: its longest side in pixels, at least and at most.

    python benchmarks/propagate_span.py --sets hippocampus acdc --cases 8

The same shipped network, and spans side by side, after 1, 3 and 5 painted slices as in `propagate.py`. Images are taken from the end of
each set's order, so that none of them stands in that benchmark's table.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import numpy as np

import napari_medseq as ms
from napari_medseq.evaluation.intervals import paired
from propagate import dice, propagated, protocols, signed
from propagate_cases import Case, cases
from propagate_corrections import SETS, Mask

SPANS = ((28, 48), (36, 48), (40, 48), (48, 48), (56, 56), (72, 72))
FORMER, SHIPPED = (28, 48), (40, 48)

#: number of painted slices → patient → Dice of every span, of each object
Table = dict[int, dict[str, list[list[float]]]]


def scores(case: Case, truth: Mask, painted: list[int], models: list[ms.Model]) -> list[float]:
    """Dice of each network on the slices that are not painted."""
    rest = np.setdiff1d(np.arange(len(truth)), painted)
    answers = (np.asarray(propagated(case, truth, painted, model, "z").labels.data) > 0 for model in models)
    return [dice(answer[rest], truth[rest]) for answer in answers]


def measured(name: str, most: int, models: list[ms.Model]) -> Table:
    """The scores of a set's objects that have more slices than are painted."""
    table: Table = {}
    for case in list(cases(name))[-most:]:
        for _, truth, painted in protocols(case):
            by_patient = table.setdefault(len(painted), {})
            by_patient.setdefault(case.patient, []).append(scores(case, truth, painted, models))
    return table


def row(by_patient: dict[str, list[list[float]]]) -> str:
    """Patients, objects, mean of every span, and the paired difference of the shipped span and the former one."""
    objects = [dice_of_spans for several in by_patient.values() for dice_of_spans in several]
    means = " | ".join(f"{statistics.mean(column):.3f}" for column in zip(*objects, strict=True))
    patients = [np.mean(several, axis=0) for several in by_patient.values()]
    now, former = ([float(v[SPANS.index(span)]) for v in patients] for span in (SHIPPED, FORMER))
    p = paired(now, former)
    return f"{len(by_patient)} | {len(objects)} | {means} | {signed(p.difference)} | {p.better} / {p.worse}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--cases", type=int, default=8, help="images per set")
    a = parser.parse_args()
    shipped = ms.load_model("propagate")
    models = [replace(shipped, inference={**shipped.inference, "span": span}) for span in SPANS]
    heads = " | ".join(f"{low}–{high}" for low, high in SPANS)
    difference = f"{SHIPPED[0]}–{SHIPPED[1]} minus {FORMER[0]}–{FORMER[1]}"
    print(
        f"| set | slices | patients | objects | {heads} | {difference} (95 % interval of patients) | better / worse |"
    )
    print("|---|---:|---:|---:|" + "---:|" * len(SPANS) + "---|---:|")
    for name in a.sets:
        for count, by_patient in sorted(measured(name, a.cases, models).items()):
            print(f"| {name} | {count} | {row(by_patient)} |", flush=True)


if __name__ == "__main__":
    main()
