"""What a sequence of visits, or of frames, is worth: the same network with and without recurrence, and with and without the days.

    python benchmarks/visit_sequence.py                  # three seeds: about 4 minutes on one thread
    python benchmarks/visit_sequence.py --quick          # one seed, a shorter training
    python benchmarks/visit_sequence.py --cardiac DATA   # the frames of hearts too; DATA holds patientNNN/ED.nii.gz and so on

Visits: synthetic patients in whom one visit says nothing. Round spots gain brightness, and those that do so fast are to be
labelled; how bright a spot is at any one visit is the same for both kinds. Between the two visits lie about 60 or about 240 days,
and the fast ones gain in 60 days what the slow ones gain in 240: without the days half of the spots are a matter of chance.
Everything goes through files, `ms.train` and `ms.segment`; test patients are seen in the test only. Beside the three networks
stand two ablations of the best: each visit by itself (no state), and the visits with each other's dates (wrong gaps).

Frames (``--cardiac``): end-diastole and end-systole of cine MR as a sequence along t; Dice of the three structures on patients
who were held out, paired, after a short training of both (three minutes more): which of them learns faster, not how far either
comes in the end. The weights are thrown away.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.sequence import affine_from

SIZE, SLICES, SPOTS = 24, 2, 2
FAST, SLOW = 3.0, 0.75  # brightness gained in 90 days; the texture of the head has a standard deviation of 3
NETWORKS: dict[str, dict[str, Any]] = {
    "recurrent, with days": {"rnn": "gru", "gap_unit": 30.0},
    "recurrent, without days": {"rnn": "gru"},
    "each visit by itself": {"rnn": "none"},
}


# -- visits ----------------------------------------------------------------------------------------------------------
def patient(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], list[int]]:
    """Images and labels (visit, z, y, x) of two visits, and the day of each."""
    rng = np.random.default_rng(seed)
    days = np.array([0, round(float(rng.choice([60, 240]) * np.exp(rng.uniform(-0.2, 0.2))))])
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2, indexing="ij"))
    images = np.zeros((2, SLICES, SIZE, SIZE), np.float32)
    labels = np.zeros(images.shape, np.uint8)
    for z in range(SLICES):
        texture = 10 + 3 * rng.standard_normal((SIZE, SIZE))
        images[:, z] = np.where((at**2).sum(0) < 0.9, texture, 0) + 0.3 * rng.standard_normal((2, SIZE, SIZE))
        middles = rng.uniform(0.22, 0.78, (SPOTS, 2)) * SIZE
        while np.hypot(*(middles[0] - middles[1])) < 0.25 * SIZE:
            middles = rng.uniform(0.22, 0.78, (SPOTS, 2)) * SIZE
        for middle in middles:
            fast = bool(rng.random() < 0.5)
            spot = np.hypot(*(np.indices((SIZE, SIZE)) - middle[:, None, None])) < rng.uniform(0.06, 0.09) * SIZE
            # met at either end of its course: at every visit both kinds are as bright
            course = (FAST if fast else SLOW) / 90 * (days - rng.choice(days)) + rng.uniform(3, 8)
            images[:, z][:, spot] += course[:, None].astype(np.float32)
            labels[:, z, spot] |= fast
    return images, labels, [int(d) for d in days]


def write_patients(folder: Path, seeds: Sequence[int]) -> None:
    """A study folder per patient, a folder per visit."""
    for seed in seeds:
        images, labels, days = patient(seed)
        for image, label, day in zip(images, labels, days, strict=True):
            where = folder / f"sub-{seed:05d}" / f"ses-{date(2020, 1, 1) + timedelta(day):%Y%m%d}"
            where.mkdir(parents=True)
            seq = ms.ImageSequence(image, ("z", "y", "x"), affine_from((1, 1, 3)), name="T1", modality="MR")
            ms.write(seq, where / "T1.nii.gz")
            ms.write(seq.labels_like(label, name="T1_seg", label_names={1: "fast"}), where / "T1_seg.nii.gz")


def dice(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """Dice over all voxels of all pairs (answer, truth): a patient without anything to find counts too."""
    both = sum(int(a.sum()) + int(b.sum()) for a, b in pairs)
    return 2 * sum(int((a & b).sum()) for a, b in pairs) / both if both else float("nan")


def judged(model: Any, studies: Sequence[Any], change: Callable[[list[ms.Visit]], list[list[ms.Visit]]]) -> float:
    """Dice over patients whose visits are handed in as `change` says: lists that are segmented together."""
    pairs = []
    for study in studies:
        truths = [np.asarray(v.labels[0].data) > 0 for v in study.visits]
        found = [
            s
            for group in change(list(study.visits))
            for s in ms.segment(group, model, transforms=[None] * len(group), device="cpu")
        ]
        pairs += [(np.asarray(f.labels.data) > 0, t) for f, t in zip(found, truths, strict=True)]
    return dice(pairs)


def other_gap(visits: list[ms.Visit]) -> list[list[ms.Visit]]:
    """The same visits with the gap of the other kind of patient."""
    assert visits[0].date is not None
    assert visits[1].date is not None
    short = (visits[1].date - visits[0].date).days < 120
    second = visits[0].date + timedelta(240 if short else 60)
    return [[visits[0], ms.Visit(second, visits[1].images, (), visits[1].name)]]


def visits(seed: int, patients: int, tests: int, iterations: int) -> dict[str, float]:
    """Dice of each network on unseen patients, with the seed for patients and weights."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = 10_000 * (seed + 1)
        write_patients(folder / "train", range(first, first + patients))
        write_patients(folder / "test", range(first + patients, first + patients + tests))
        studies = [ms.read_study(p) for p in sorted((folder / "test").iterdir())]
        for label, network in NETWORKS.items():
            shared = {"widths": [8, 16], "neighbours": 0, "rnn_levels": [0], "hidden": 12, "ahead": 1, "dropout": 0.0}
            still = dict.fromkeys(("rotate_degrees", "zoom", "stretch", "elastic", "bias", "gain", "shift", "gamma"), 0)
            config = {
                "name": "visits",
                "data": [str(folder / "train")],
                "image": "T1",
                "network": {"_target_": "RecurrentUNet", **shared, **network},
                "inference": {"along": "visit"},
                "align": "none",
                "loop": {
                    "iterations": iterations,
                    "batch": 4,
                    "steps": 2,
                    "size": [SIZE, SIZE],
                    "rate": 1e-2,
                    "average": 0.98,
                    "seed": seed,
                    "augment": {**still, "noise": 0, "blur": 0, "move": 0},
                },
                "device": "cpu",
                "out": str(folder / "model" / network["rnn"] / str("gap_unit" in network)),
            }
            model = ms.train(config).model
            found[label] = judged(model, studies, lambda v: [v])
            if "gap_unit" in network:
                found["  of it: each visit alone"] = judged(model, studies, lambda v: [[x] for x in v])
                found["  of it: wrong days"] = judged(model, studies, other_gap)
    return found


# -- frames ----------------------------------------------------------------------------------------------------------
def hearts(data: Path, seed: int, iterations: int, most: int | None) -> dict[str, list[float]]:
    """Mean Dice of the three structures for each held-out patient, with recurrence along t and without."""
    names = sorted(p.name for p in data.glob("patient*") if (p / "ES_labels.nii.gz").is_file())
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))][:most]
    held = names[: max(2, len(names) // 4)]
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in names:
            where = folder / "data" / one / "ses-20200101"
            where.mkdir(parents=True)
            for kind, stem in (("image", ""), ("labels", "_labels")):
                frames = [ms.read(data / one / f"{f}{stem}.nii.gz", kind=kind)[0] for f in ("ED", "ES")]
                both = np.stack([np.asarray(f.data) for f in frames])
                cine = frames[0].replace(data=both, axes=("t", *frames[0].axes), times=np.array([0.0, 0.35]))
                ms.write(cine, where / f"cine{'_seg' if stem else ''}.nii.gz")
        for label, rnn in (("recurrent along t", "gru"), ("each frame by itself", "none")):
            config = {
                "name": "hearts",
                "data": [str(folder / "data")],
                "image": "cine",
                "hold_out": held,
                "classes": {1: "right ventricle", 2: "myocardium", 3: "left ventricle"},
                "network": {
                    "_target_": "RecurrentUNet",
                    "widths": [8, 16, 32, 64],
                    "neighbours": 0,
                    "rnn": rnn,
                    "rnn_levels": [2, 3],
                    "hidden": 24,
                    "ahead": 1,
                },
                "inference": {"along": "t", "pixel_mm": 2.0},
                "loop": {
                    "iterations": iterations,
                    "batch": 4,
                    "steps": 2,
                    "size": [96, 96],
                    "rate": 4e-3,
                    "average": 0.98,
                    "seed": seed,
                },
                "device": "cpu",
                "out": str(folder / rnn),
            }
            model = ms.train(config).model
            found[label] = []
            for one in held:
                (visit,) = ms.read_study(folder / "data" / one).visits
                answer, truth = ms.segment(visit.images[0], model).labels.data, np.asarray(visit.labels[0].data)
                found[label].append(float(np.mean([dice([(answer == k, truth == k)]) for k in (1, 2, 3)])))
    return found


def main() -> None:
    """Run all seeds, print side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=150, help="to learn from")
    parser.add_argument("--tests", type=int, default=40, help="to judge by")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cardiac", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    if args.quick:
        args.patients, args.tests, args.iterations, args.seeds = 80, 20, 300, 1
    torch.set_num_threads(1)
    began = time.monotonic()
    runs = [visits(seed, args.patients, args.tests, args.iterations) for seed in range(args.seeds)]
    print(f"Visits: Dice on {args.tests} unseen patients, {args.seeds} seed(s), {args.iterations} iterations each")
    print("| network | median | smallest | largest |\n| --- | --- | --- | --- |")
    for label in runs[0]:
        values = [run[label] for run in runs]
        print(f"| {label} | {np.median(values):.3f} | {min(values):.3f} | {max(values):.3f} |")
    result: dict[str, Any] = {"visits": runs}
    if args.cardiac is not None:
        found = hearts(args.cardiac, 0, 60 if args.quick else 600, 12 if args.quick else None)
        result["frames"] = found
        a, b = (np.array(v) for v in found.values())
        print(f"\nFrames: mean Dice of three structures on {len(a)} held-out patients")
        print("| network | mean | standard deviation |\n| --- | --- | --- |")
        for label, values in found.items():
            print(f"| {label} | {np.mean(values):.3f} | {np.std(values, ddof=1):.3f} |")
        print(f"| difference, paired | {np.mean(a - b):+.3f} | {np.std(a - b, ddof=1):.3f} |")
    print(f"\n{time.monotonic() - began:.0f} s on one thread")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
