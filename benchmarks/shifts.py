"""The models that ship, on patients whose images were changed: layout, grid, field of view, contrast, noise, and images of another kind.

    python benchmarks/shifts.py [--only brain-tumor hippocampus …] [--patients 8]   # what is missing, then the tables
    python benchmarks/shifts.py --table                                             # the tables of what is there

Each patient's answer on the changed image is judged against the truth changed alike, and compared with that of the same patient's own
image. What is done is kept in ``docs/benchmarks/shifts.json`` and not done again. Deterministic; inference alone, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
PLAIN, TURNED = "as it is", "47 other orders of axes"
#: patient → shift → score; of `TURNED` the lowest
Scores = dict[str, dict[str, float]]


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
    cases : callable
        All patients' cases.
    answer : callable
        Of a case, the label volume or the probabilities.
    score : callable
        Of an answer and a truth on the same grid.
    unseen : bool
        Whether the model has never seen these patients.
    scaled : bool
        Whether each image is scaled by itself.
    turns : int
        Patients whose images are turned in all ways.
    shifts : tuple of Shift
        Beside the ones of all models.
    """

    cases: Callable[[], Iterator[Case]]
    answer: Callable[[Case], ms.ImageSequence | NDArray[np.floating]]
    score: Callable[..., float]
    unseen: bool
    scaled: bool = True
    turns: int = 2
    shifts: tuple[Shift, ...] = ()


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
    for folder in left_ventricle_paired.judges():
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
def segmented(name: str) -> Callable[[Case], ms.ImageSequence]:
    def answer(case: Case) -> ms.ImageSequence:
        images = {c: image for c, (image, _) in case.pairs.items()}
        return ms.segment(images if len(images) > 1 else next(iter(images.values())), name, device="cpu").labels

    return answer


def classified(case: Case) -> NDArray[np.floating]:
    image, _ = next(iter(case.pairs.values()))
    return ms.classify(image, "brain-tumor-slices", device="cpu").per_step[:, 0]


def carried(case: Case) -> ms.ImageSequence:
    image, truth = next(iter(case.pairs.values()))
    return ms.propagate(image, truth.replace(data=_painted(truth)), axis=image.slice_axis, device="cpu").labels


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
JUDGED = {
    "hippocampus": Judged(hippocampi, segmented("hippocampus"), dice, unseen=True),
    "left-ventricle": Judged(hearts, segmented("left-ventricle"), dice, unseen=True, shifts=SHORT),
    "brain-tumor": Judged(brains, segmented("brain-tumor"), dice, unseen=False, turns=1),
    "brain-tumor-slices": Judged(brains, classified, ranked, unseen=False, turns=1),
    "lung-nodule": Judged(nodules, segmented("lung-nodule"), dice, unseen=False, scaled=False),
    "sarcoma": Judged(sarcomas, segmented("sarcoma"), dice, unseen=False, scaled=False),
    "propagate, hippocampus": Judged(painted("hippocampus"), carried, dice_beyond, unseen=True),
    "propagate, acdc": Judged(painted("acdc"), carried, dice_beyond, unseen=True, turns=1, shifts=SHORT),
}


def changed(case: Case, shift: Shift) -> Case:
    pairs = {}
    for channel, (image, truth) in case.pairs.items():
        random = np.random.default_rng(zlib.crc32(f"{case.patient} {channel} {shift.name}".encode()))
        pairs[channel] = shift.change(image, truth, random)
    return Case(case.patient, pairs)


def score(judged: Judged, case: Case) -> float:
    truth = next(iter(case.pairs.values()))[1]
    try:
        return judged.score(judged.answer(case), truth)
    except ms.MedseqError as problem:
        print(f"    {case.patient}: {problem}", flush=True)
        return float("nan")


def in_all_orders(judged: Judged, case: Case) -> float:
    """The lowest of the scores of a case stored in the other 47 orders of axes."""
    found = []
    for turn in shift_images.turns():
        pairs = {c: (shift_images.turned(i, turn), shift_images.turned(t, turn)) for c, (i, t) in case.pairs.items()}
        turned = Case(case.patient, pairs)
        if isinstance(judged.score, type(ranked)) and judged.score is ranked:
            found.append(score(judged, turned))
        else:
            found.append(score(judged, turned))
    return float(min(found))


def measure(name: str, patients: int, of_model: Scores, keep: Callable[[], None]) -> None:
    judged = JUDGED[name]
    shifts = (*shift_images.SHIFTS, *judged.shifts)
    for number, case in enumerate(judged.cases()):
        if number >= patients:
            break
        began, of_patient = time.process_time(), of_model.setdefault(case.patient, {})
        if PLAIN not in of_patient:
            of_patient[PLAIN] = score(judged, case)
        for shift in shifts:
            if shift.name not in of_patient:
                of_patient[shift.name] = score(judged, changed(case, shift))
        if TURNED not in of_patient and number < judged.turns:
            of_patient[TURNED] = in_all_orders(judged, case)
        keep()
        print(f"  {name} {case.patient}: {time.process_time() - began:.0f} s of processor time", flush=True)


def table(found: Mapping[str, Scores]) -> str:
    lines = []
    for name, of_model in found.items():
        plain = np.array([p[PLAIN] for p in of_model.values()])
        lines += [f"{name}: {intervals.bootstrap(plain)}", ""]
        for shift in [TURNED] + [s.name for s in (*shift_images.SHIFTS, *JUDGED[name].shifts)]:
            rows = [(p[shift], p[PLAIN]) for p in of_model.values() if shift in p]
            if not rows:
                continue
            new, old = np.array(rows).T
            new = np.nan_to_num(new)
            lines.append(
                f"| {shift} | {new.mean():.3f} | {new.mean() - old.mean():+.4f} | {(new - old).min():+.3f} | {np.abs(new - old).max():.1e}"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=JUDGED, default=list(JUDGED))
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    found: dict[str, Scores] = json.loads(args.out.read_text()) if args.out.exists() else {}
    if not args.table:
        for name in args.only:
            measure(name, args.patients, found.setdefault(name, {}), lambda: files.write_json(args.out, found))
    print(table({n: found[n] for n in args.only if n in found}))


if __name__ == "__main__":
    main()
