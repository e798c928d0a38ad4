"""`ms.propagate` of objects in parts: distant pieces and oblique stretches in windows of their own, beside all in one window.

    python benchmarks/propagate_parts.py [--hearts 114] [--abdomens 3]

Both kidneys of drawn abdomens (`propagate_organs.py`) as one label; drawn vessels that run obliquely through the slices; both cavities of
ACDC hearts as one label; tumours of brain-tumor-progression, from which the network learned, so that only the difference counts. Rows are
the objects that are carried in parts; steps and Dice as in `propagate.py`. The rules (`inference/prompts/parts.py`) were chosen on the
tumours, on the first ten images of hearts, on the first two abdomens, and on vessels of other courses; all but the tumours are left out.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.evaluation.intervals import paired
from napari_medseq.inference.prompts.objects import PromptedObject
from napari_medseq.inference.prompts.parts import in_parts
from napari_medseq.sequence import affine_from
from propagate import COUNTS, dice, protocols, signed
from propagate_cases import Case, cases
from propagate_organs import drawn_cases

SEEN_HEARTS, SEEN_ABDOMENS = 10, 2  # images and bodies on which the rule was chosen
METHODS = ("one window", "network")


def vessel(number: int) -> Case:
    """A bent vessel in textured tissue: 90 slices of 2.5 mm, 240 × 240 pixels of 1 mm."""
    shape, spacing = (90, 240, 240), (2.5, 1.0, 1.0)
    radius, way = ((4.0, 7.0, 11.0)[number % 3], (70.0, 110.0, 160.0)[number // 3])
    rng = np.random.default_rng(number)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    along = (z - 12) / 65
    y_of = 120 + rng.choice((-1, 1)) * way * (along - 0.5) + 5 * np.sin(5 * along + rng.uniform(0, 6))
    x_of = 120 + rng.uniform(-1, 1) * way * (along - 0.5) + 5 * np.sin(4 * along + rng.uniform(0, 6))
    inside = ((y - y_of) ** 2 + (x - x_of) ** 2 < radius**2) & (along >= 0) & (along < 1)
    tissue = ndimage.gaussian_filter(rng.normal(size=shape).astype(np.float32), (1, 4, 4))
    scan = ndimage.gaussian_filter(40 + 15 * tissue / tissue.std() + 60 * inside, (0.3, 0.8, 0.8))
    scan = (scan + rng.normal(0, 12, shape)).astype(np.float32)
    image = ms.ImageSequence(scan, ("z", "y", "x"), affine_from(spacing[::-1]), name=f"vessel-{number}")
    return Case(image.name, image, inside.astype(np.int64), {1: "vessel"})


def chosen(hearts: int, abdomens: int) -> Iterator[tuple[str, Case]]:
    """What is carried, and the name of its row."""
    for name, case in drawn_cases(SEEN_ABDOMENS + abdomens):
        if name == "kidneys" and int(case.patient.removeprefix("abdomen-")) > SEEN_ABDOMENS:
            yield "drawn kidneys", case
    for number in range(9):
        yield "drawn vessels", vessel(number)
    for case in islice(cases("acdc"), SEEN_HEARTS, SEEN_HEARTS + hearts):
        both = np.isin(case.truth, (1, 3)).astype(np.int64)
        yield "both cavities of hearts", replace(case, truth=both, objects={1: "both cavities"})
    for case in cases("brain"):
        yield "brain tumours", replace(case, truth=(case.truth > 0).astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hearts", type=int, default=114)
    parser.add_argument("--abdomens", type=int, default=3)
    a = parser.parse_args()
    shipped = ms.load_model("propagate")
    models = {"one window": replace(shipped, inference={**shipped.inference, "parts": False}), "network": shipped}
    found: dict[tuple[str, int], dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for name, case in chosen(a.hearts, a.abdomens):
        spacing = case.image.spacing["z"], case.image.spacing["y"], case.image.spacing["x"]
        for _, truth, painted in protocols(case):
            shown = truth & np.isin(np.arange(len(truth)), painted)[:, None, None]
            whole = PromptedObject(1, (), np.array(painted), shown.any(0), (0, len(truth)))
            if len(in_parts([whole], shown, spacing)) < 2:
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
