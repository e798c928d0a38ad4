"""`ms.propagate` of objects that are painted in pieces: each distant piece in a window of its own, beside all in one window.

    python benchmarks/propagate_pieces.py [--hearts 56] [--abdomens 3]

Both kidneys of drawn abdomens (`propagate_organs.py`) as one label; both cavities of ACDC hearts as one label; tumours of
brain-tumor-progression, from which the network learned, so that only the difference counts. Rows are the objects whose painted slices show
two or more distant pieces; steps and Dice as in `propagate.py`. The rule (`inference/prompt_pieces.py`) was chosen on the tumours, on the
first five hearts and on the first two abdomens; these hearts and abdomens are left out.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

import napari_medseq as ms
from napari_medseq.evaluation.intervals import paired
from napari_medseq.inference.prompt_pieces import distant_pieces
from propagate import COUNTS, dice, protocols, signed
from propagate_cases import Case, cases
from propagate_organs import drawn_cases

SEEN_HEARTS, SEEN_ABDOMENS = 10, 2  # images and bodies on which the rule was chosen
METHODS = ("one window", "network")


def chosen(hearts: int, abdomens: int) -> Iterator[tuple[str, Case]]:
    """What is carried, and the name of its row."""
    for name, case in drawn_cases(SEEN_ABDOMENS + abdomens):
        if name == "kidneys" and int(case.patient.removeprefix("abdomen-")) > SEEN_ABDOMENS:
            yield "drawn kidneys", case
    for case in islice(cases("acdc"), SEEN_HEARTS, SEEN_HEARTS + hearts):
        both = np.isin(case.truth, (1, 3)).astype(np.int64)
        yield "both cavities of hearts", replace(case, truth=both, objects={1: "both cavities"})
    for case in cases("brain"):
        yield "brain tumours", replace(case, truth=(case.truth > 0).astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearts", type=int, default=56)
    parser.add_argument("--abdomens", type=int, default=3)
    a = parser.parse_args()
    shipped = ms.load_model("propagate")
    models = {"one window": replace(shipped, inference={**shipped.inference, "pieces": False}), "network": shipped}
    found: dict[tuple[str, int], dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for name, case in chosen(a.hearts, a.abdomens):
        spacing = case.image.spacing["z"], case.image.spacing["y"], case.image.spacing["x"]
        for _, truth, painted in protocols(case):
            shown = truth & np.isin(np.arange(len(truth)), painted)[:, None, None]
            if len(distant_pieces(shown.any(0), spacing)) < 2:
                continue
            rest = np.setdiff1d(np.arange(len(truth)), painted)
            drawn = case.image.labels_like(shown.astype(np.uint8), name="painted", label_names={1: name})
            row = {}
            for method, model in models.items():
                answer = ms.propagate(case.image, drawn, model, annotated=painted, axis="z", device="cpu")
                row[method] = dice((np.asarray(answer.labels.data) > 0)[rest], truth[rest])
            found[name, len(painted)][case.patient].append(row)
    print(
        "| what | slices | patients | objects | one window | network | difference of patients (95 %) | better / worse |"
    )
    print("|---|---:|---:|---:|---:|---:|---|---:|")
    for name in dict.fromkeys(name for name, _ in found):
        for count in COUNTS:
            patients = found.get((name, count), {})
            if not patients:
                continue
            mean = {m: [float(np.mean([r[m] for r in rows])) for rows in patients.values()] for m in METHODS}
            p = paired(mean["network"], mean["one window"])
            cells = " | ".join(f"{np.mean(mean[m]):.3f}" for m in METHODS)
            n = sum(map(len, patients.values()))
            print(
                f"| {name} | {count} | {len(patients)} | {n} | {cells} | {signed(p.difference)} | {p.better} / {p.worse} |"
            )


if __name__ == "__main__":
    main()
