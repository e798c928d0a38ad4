"""Whether a few painted slices should adapt the network of `ms.propagate` to the image: `ms.teach` with ``start_from="propagate"``.

    python benchmarks/propagate_adapt.py --cases 1           # one image of each set, about a minute of processor time for each object

Objects, slices and Dice as in `propagate.py`, by patients of hippocampus, ACDC and FLAIR; three and five painted slices. "alone": the
network as it ships. "adapted": after `ms.teach`, which keeps what it learned only where painted slices that were held back gained.
"always adapted": whatever was learned is kept. "teach alone": a new network for the image, as `ms.teach` makes one without a start,
for ``--minutes`` (0: left out).
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.evaluation.intervals import paired
from napari_medseq.models.library import Model
from napari_medseq.training.prompted.adapting import AdaptSettings, adapt
from propagate import dice, propagated, protocols, signed, taught
from propagate_cases import Case, cases

Mask = NDArray[np.bool_]
SETS = ("hippocampus", "acdc", "flair")
METHODS = ("alone", "adapted", "always adapted", "teach alone")


def with_weights(model: Model, weights: dict[str, torch.Tensor]) -> Model:
    """The model with other weights."""
    network = type(model.network)(**{k: v for k, v in model.network_definition.items() if k != "_target_"})  # type: ignore[arg-type]
    network.load_state_dict(weights)
    return Model(model.info, network.eval(), model.inference, model.network_definition)


def one(
    case: Case, truth: Mask, painted: list[int], model: Model, minutes: float
) -> tuple[dict[str, float], float, bool]:
    """Dice of each method, processor seconds of adapting, and whether it was kept."""
    drawn = np.zeros(truth.shape, np.uint8)
    drawn[painted] = truth[painted]
    labels = case.image.labels_like(drawn, name="painted", label_names={1: "object"})
    rest = np.setdiff1d(np.arange(len(truth)), painted)

    def scored(network: Model) -> float:
        found = np.asarray(propagated(case, truth, painted, network, "z").labels.data) > 0
        return dice(found[rest], truth[rest])

    began = time.process_time()
    forced = adapt(model, case.image, labels, settings=AdaptSettings(gain=-1.0))
    seconds = time.process_time() - began
    kept = max(forced.held_back.values()) - forced.held_back[0] > AdaptSettings().gain
    alone = scored(model)
    always = scored(with_weights(model, forced.weights)) if forced.iterations else alone
    found = {"alone": alone, "adapted": always if kept else alone, "always adapted": always}
    if minutes:
        found["teach alone"] = dice(taught(case, truth, painted, minutes)[rest], truth[rest])
    return found, seconds, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--cases", type=int, default=1, help="images per set, at most")
    parser.add_argument("--counts", nargs="*", type=int, default=[3, 5])
    parser.add_argument("--minutes", type=float, default=0.0, help="of ms.teach without a start")
    a = parser.parse_args()
    model = ms.load_model("propagate")
    print("| set | object | slices | alone | adapted | always adapted | teach alone | adapting kept | CPU s |")
    print("|---|---|---:|---:|---:|---:|---:|---|---:|")
    rows: dict[int, list[dict[str, float]]] = {}
    for name in a.sets:
        for case in islice(cases(name), a.cases):
            for called, truth, painted in protocols(case, a.counts):
                count = len(painted)
                found, seconds, kept = one(case, truth, painted, model, a.minutes)
                rows.setdefault(count, []).append(found)
                cells = " | ".join(f"{found[m]:.3f}" if m in found else "" for m in METHODS)
                print(
                    f"| {name} | {called} | {count} | {cells} | {'yes' if kept else 'no'} | {seconds:.0f} |",
                    flush=True,
                )
    print("\n| slices | compared | mean difference of objects (95 % interval) | better / worse |")
    print("|---:|---|---|---:|")
    for count, found_by in rows.items():
        for first, other in (("adapted", "alone"), ("always adapted", "alone"), ("adapted", "teach alone")):
            if all(first in r and other in r for r in found_by):
                p = paired([r[first] for r in found_by], [r[other] for r in found_by])
                d, mean = p.difference, statistics.mean(r[first] for r in found_by)
                interval = f"{signed(d)}, n = {d.n}"
                print(f"| {count} | {first} ({mean:.3f}) − {other} | {interval} | {p.better} / {p.worse} |")


if __name__ == "__main__":
    main()
