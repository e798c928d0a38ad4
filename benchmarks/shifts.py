"""The models that ship, on patients whose images were changed: layout, grid, field of view, contrast and noise.

    python benchmarks/shifts.py [--only brain-tumor hippocampus …] [--patients 8]   # what is missing, then the tables
    python benchmarks/shifts.py --table                                             # the tables of what is there

Each patient's answer on the changed image is judged against the truth changed alike, and compared with that of the same patient's own
image. What is done is kept in ``docs/benchmarks/shifts.json`` and not done again. Deterministic; inference alone, one thread, about ten
processor minutes. `doubts.py` asks the same models about images of another kind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import hippocampus
import left_ventricle_paired
import napari_medseq as ms
import propagate_cases
import shift_images
import ship
from napari_medseq import files
from napari_medseq.evaluation import intervals
from shift_images import Shift

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))
OUT = HERE.parent / "docs" / "benchmarks" / "shifts.json"
PLAIN, TURNED, BEFORE = "as it is", "47 other orders of axes, the worst", ", before it was mended"
SAME = 0.002  # a voxel or two at the border, by rounding
#: what `inference/doubts.py` says
DOUBT = re.compile("Check that modality")
#: patient → shift → score, and 1 where the answer was doubted
Scores = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, eq=False)
class Case:
    """A patient's images by channel, each with its truth."""

    patient: str
    pairs: dict[str, shift_images.Pair]


@dataclass(frozen=True)
class Judged:
    """A model, its patients, and how its answer is judged.

    Attributes
    ----------
    model : str
    cases : callable
        All patients' cases.
    answer : callable
        Of a case and the model: the label volume or the probabilities.
    score : callable
        Of an answer and a truth on the same grid.
    unseen : bool
        Whether the model has never seen these patients.
    patients : int
        How many are judged.
    measure : str
        What the score is.
    scaled : bool
        Whether each image is scaled by itself.
    mended : bool
        Whether the model is run otherwise than before these shifts were looked at.
    turns : int
        Patients whose images are turned in all ways.
    shifts : tuple of Shift
        Beside the ones of all models.
    thin : int
        Patients whose slices are made thinner.
    """

    model: str
    cases: Callable[[], Iterator[Case]]
    answer: Callable[[Case, ms.Model], ms.ImageSequence | NDArray[np.floating]]
    score: Callable[..., float]
    unseen: bool
    patients: int
    measure: str = "Dice"
    scaled: bool = True
    mended: bool = True
    turns: int = 2
    shifts: tuple[Shift, ...] = ()
    thin: int = 0


def read(images: Mapping[str, tuple[Path, Path]], modalities: Mapping[str, str]) -> dict[str, shift_images.Pair]:
    return {
        c: (ms.read(i, kind="image")[0].replace(modality=modalities[c]), ms.read(m, kind="labels")[0])
        for c, (i, m) in images.items()
    }


# -- patients --------------------------------------------------------------------------------------------------------
def brains() -> Iterator[Case]:
    for folder in sorted((DATA / "brain-tumor-progression").glob("sub-*")):
        image = sorted(folder.glob("*/*_T1post.nii.gz"))[0]
        mask = image.with_name(image.name.replace("_T1post", "_tumor"))
        yield Case(folder.name, read({"image": (image, mask)}, {"image": "MR"}))


def hippocampi() -> Iterator[Case]:
    root = DATA / "hippocampus"
    for name in hippocampus.patients()[1]:
        paths = (root / "images" / f"{name}.nii.gz", root / "labels" / f"{name}.nii.gz")
        yield Case(name, read({"image": paths}, {"image": "MR"}))


def hearts() -> Iterator[Case]:
    judges = left_ventricle_paired.judges()
    for folder in judges[::2] + judges[1::2]:  # they lie in the order of their diagnoses
        pair = read({"image": (folder / "ED.nii.gz", folder / "ED_labels.nii.gz")}, {"image": "MR"})["image"]
        cavity = (pair[1].volume_zyx() == 3).astype(np.uint8)
        yield Case(folder.name, {"image": (pair[0], pair[1].replace(data=cavity))})


def nodules() -> Iterator[Case]:
    for patient in sorted(p.name for p in (DATA / "lung-nodules").glob("LIDC-*")):
        _, images, labels = ship.case_files("lung-nodule", patient)[0]
        yield Case(patient, read({"image": (images["image"], labels)}, {"image": "CT"}))


def sarcomas() -> Iterator[Case]:
    for folder in sorted((DATA / "sarcoma" / "nifti").iterdir()):
        files_of = {"CT": "CT", "PET": "PET", "MR": "MR_T1"}
        paths = {c: (folder / f"{f}_image.nii.gz", folder / f"{f}_mask.nii.gz") for c, f in files_of.items()}
        yield Case(folder.name, read(paths, {"CT": "CT", "PET": "PT", "MR": "MR"}))


def painted(name: str) -> Callable[[], Iterator[Case]]:
    """One object of each patient of a set from which `propagate` has learned nothing."""

    def cases() -> Iterator[Case]:
        seen = set()
        for case in propagate_cases.cases(name):
            if case.patient in seen:
                continue
            seen.add(case.patient)
            value = max(case.objects)
            mask = (case.truth == value).astype(np.uint8)
            drawn = case.image.like(mask, kind="labels", name="truth", modality=None)
            yield Case(case.patient, {"image": (case.image.replace(modality="MR"), drawn)})

    return cases


# -- answers ---------------------------------------------------------------------------------------------------------
def segmented(case: Case, model: ms.Model) -> ms.ImageSequence:
    images = {c: image for c, (image, _) in case.pairs.items()}
    return ms.segment(images if len(images) > 1 else next(iter(images.values())), model, device="cpu").labels


def classified(case: Case, model: ms.Model) -> NDArray[np.floating]:
    image, _ = next(iter(case.pairs.values()))
    return ms.classify(image, model, device="cpu").per_step[:, 0]


def carried(case: Case, model: ms.Model) -> ms.ImageSequence:
    image, truth = next(iter(case.pairs.values()))
    drawn = truth.replace(data=_painted(truth))
    return ms.propagate(image, drawn, model, axis=image.slice_axis, device="cpu").labels


def _painted(truth: ms.ImageSequence) -> NDArray[np.uint8]:
    """The truth on three slices: the second, the middle one and the last but one of those that hold it."""
    mask, axis = truth.volume_zyx().astype(np.uint8), "zyx".index(truth.slice_axis)
    there = _slices(truth)
    keep = np.zeros(mask.shape[axis], np.uint8)
    keep[[there[k] for k in sorted({min(1, len(there) - 1), len(there) // 2, max(0, len(there) - 2)})]] = 1
    return mask * keep.reshape([-1 if k == axis else 1 for k in range(3)])


def _slices(truth: ms.ImageSequence) -> NDArray[np.intp]:
    axis = "zyx".index(truth.slice_axis)
    return np.flatnonzero((truth.volume_zyx() > 0).any(tuple(k for k in range(3) if k != axis)))


# -- scores ----------------------------------------------------------------------------------------------------------
def dice(found: ms.ImageSequence, truth: ms.ImageSequence) -> float:
    """Mean Dice over the classes of the truth."""
    a, b = found.volume_zyx(), truth.volume_zyx()
    each = [2 * float(((a == k) & (b == k)).sum()) / float((a == k).sum() + (b == k).sum()) for k in np.unique(b) if k]
    return float(np.mean(each))


def dice_beyond(found: ms.ImageSequence, truth: ms.ImageSequence) -> float:
    """Dice on the slices that nobody painted."""
    left = _painted(truth).any(tuple(k for k in range(3) if k != "zyx".index(truth.slice_axis)))
    shape = [-1 if k == "zyx".index(truth.slice_axis) else 1 for k in range(3)]
    beyond = (~left).reshape(shape)
    return dice(found.replace(data=found.volume_zyx() * beyond), truth.replace(data=truth.volume_zyx() * beyond))


def ranked(found: NDArray[np.floating], truth: ms.ImageSequence) -> float:
    """Area under the curve of the slices with tumour against those without."""
    axis = "zyx".index(truth.slice_axis)
    is_tumour = (truth.volume_zyx() > 0).sum(tuple(k for k in range(3) if k != axis)) >= 4
    yes, no = found[is_tumour], found[~is_tumour]
    return float(np.mean((yes[:, None] > no) + 0.5 * (yes[:, None] == no)))


SHORT = (shift_images.SHORT_AXIS,)
AUC = "AUC of slices"
JUDGED = {
    "hippocampus": Judged("hippocampus", hippocampi, segmented, dice, unseen=True, patients=8),
    "left-ventricle": Judged("left-ventricle", hearts, segmented, dice, unseen=True, patients=7, shifts=SHORT),
    "sarcoma": Judged("sarcoma", sarcomas, segmented, dice, unseen=False, patients=3, scaled=False, turns=1),
    "lung-nodule": Judged("lung-nodule", nodules, segmented, dice, unseen=False, patients=2, scaled=False, mended=False, turns=1),
    "propagate, hippocampus": Judged(
        "propagate", painted("hippocampus"), carried, dice_beyond, unseen=True, patients=3, mended=False, turns=1
    ),
    "propagate, hearts": Judged(
        "propagate", painted("acdc"), carried, dice_beyond, unseen=True, patients=2, mended=False, turns=1, shifts=SHORT
    ),
    "brain-tumor-slices": Judged(
        "brain-tumor-slices", brains, classified, ranked, unseen=False, patients=3, measure=AUC, turns=1, thin=8
    ),
    "brain-tumor": Judged("brain-tumor", brains, segmented, dice, unseen=False, patients=2, turns=1, thin=8),
}  # fmt: skip


# -- the runs --------------------------------------------------------------------------------------------------------
def changed(case: Case, shift: Shift) -> Case:
    pairs = {}
    for channel, (image, truth) in case.pairs.items():
        random = np.random.default_rng(zlib.crc32(f"{case.patient} {channel} {shift.name}".encode()))
        pairs[channel] = shift.change(image, truth, random)
    return Case(case.patient, pairs)


def score(judged: Judged, case: Case, model: ms.Model) -> list[float]:
    """The score of a case, 0 where there is no answer, and whether the answer was doubted, or refused."""
    truth = next(iter(case.pairs.values()))[1]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found = judged.score(judged.answer(case, model), truth)
        except ms.MedseqError as problem:
            print(f"    {case.patient}: {problem}", flush=True)
            return [0.0, 1.0]
    return [found, float(any(DOUBT.search(str(w.message)) for w in told))]


def in_all_orders(judged: Judged, case: Case, model: ms.Model) -> list[float]:
    """The score that differs most from that of the case itself, of the case stored in the other 47 orders of axes."""
    own = score(judged, case, model)
    found = [own]
    for turn in shift_images.turns():
        pairs = {c: (shift_images.turned(i, turn), shift_images.turned(t, turn)) for c, (i, t) in case.pairs.items()}
        found.append(score(judged, Case(case.patient, pairs), model))
    return max(found, key=lambda f: abs(f[0] - own[0]))


def unmended(model: ms.Model, shift: Shift) -> ms.Model:
    """The model as it was run before padding was left out, slices were taken as they were acquired and thin ones were averaged."""
    inference = dict(model.inference)
    if shift in shift_images.THIN:
        return replace(model, inference={**inference, "step_mm": None})
    if isinstance(working := inference.get("working"), dict):
        inference["working"] = {**working, "trimmed": False, "own_slices": False}
    elif "trimmed" in inference:
        inference["trimmed"] = False
    return replace(model, inference=inference)


def measure(name: str, patients: int, of_model: Scores, keep: Callable[[], None]) -> None:
    judged = JUDGED[name]
    model = ms.load_model(judged.model)
    for number, case in enumerate(judged.cases()):
        if number >= max(patients, judged.thin):
            break
        began, of_patient = time.process_time(), of_model.setdefault(case.patient, {})
        if PLAIN not in of_patient:
            of_patient[PLAIN] = score(judged, case, model)
        for shift in (
            *(shifts_of(judged) if number < patients else ()),
            *(shift_images.THIN if number < judged.thin else ()),
        ):
            if shift.name not in of_patient:
                of_patient[shift.name] = score(judged, changed(case, shift), model)
            if shift.mended and judged.mended and shift.name + BEFORE not in of_patient:
                of_patient[shift.name + BEFORE] = score(judged, changed(case, shift), unmended(model, shift))
        if TURNED not in of_patient and number < judged.turns:
            of_patient[TURNED] = in_all_orders(judged, case, model)
        keep()
        print(
            f"  {name} {case.patient}: {time.process_time() - began:.0f} s of processor time",
            file=sys.stderr,
            flush=True,
        )


def shifts_of(judged: Judged) -> list[Shift]:
    """Those that say something of a model."""
    return [s for s in (*shift_images.SHIFTS, *judged.shifts) if judged.scaled or not s.scaled]


def table(name: str, of_model: Scores) -> str:
    judged = JUDGED[name]
    plain = np.array([p[PLAIN] for p in of_model.values()])
    seen = (
        "that it has not seen"
        if judged.unseen
        else "that it was trained on, so the level says nothing of others; the differences do"
    )
    lines = [
        f"**{name}**: {judged.measure}, {len(plain)} patients {seen}. As the images are: {intervals.bootstrap(plain[:, 0])}, "
        f"doubted in {int(plain[:, 1].sum())}.",
        "",
        f"| kind | shift | n | {judged.measure} | minus that of the image as it is, paired by patient (95 %) | worst | doubted |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for shift in [replace(shift_images.SHIFTS[0], name=TURNED), *shifts_of(judged), *shift_images.THIN]:
        for key in (shift.name, shift.name + BEFORE):
            rows = np.array([(*p[key], *p[PLAIN]) for p in of_model.values() if key in p])
            if rows.size:
                lines.append(_line(f"{shift.group} | {key}", rows))
    return "\n".join(lines)


def _line(name: str, rows: NDArray[np.float64]) -> str:
    apart = rows[:, 0] - rows[:, 2]
    of_all = intervals.bootstrap(apart)
    same = bool((np.abs(apart) < SAME).all())
    interval = f" ({of_all.low:+.3f} to {of_all.high:+.3f})" if len(rows) > 1 else ""
    told = "the same" if same else f"{of_all.value:+.3f}{interval}"
    worst = "" if same else f"{apart.min():+.3f}"
    return f"| {name} | {len(rows)} | {rows[:, 0].mean():.3f} | {told} | {worst} | {int(rows[:, 1].sum())} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=JUDGED, default=list(JUDGED))
    parser.add_argument("--patients", type=int, nargs="?", help="of each model; default as many as each is judged on")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA.")
    torch.set_num_threads(1)
    found: dict[str, Scores] = json.loads(args.out.read_text()) if args.out.exists() else {}
    if not args.table:
        for name in args.only:
            of_model = found.setdefault(name, {})
            measure(name, args.patients or JUDGED[name].patients, of_model, lambda: files.write_json(args.out, found))
    print("\n\n".join(table(n, found[n]) for n in args.only if found.get(n)))


if __name__ == "__main__":
    main()
