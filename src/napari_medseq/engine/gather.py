"""From study folders to training cases, and whether they can teach what is asked."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from napari_medseq.engine.cases import Case, make_case
from napari_medseq.engine.config import TrainConfig
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import ImageSequence, Visit

#: (patient, visit or "") → answer per class
Answers = dict[tuple[str, str], Tensor]


def read_cases(c: TrainConfig, cancelled: Cancelled | None = None) -> list[Case]:
    """The real cases of a config: every visit that has what is needed, but for held-out patients.

    Raises
    ------
    MedseqError
        If a folder holds no case.
    """
    from napari_medseq.io import read_study

    answers = read_answers(Path(c.targets), c.classes) if c.targets is not None else None
    cases: list[Case] = []
    for folder in c.data:
        before, left_out = len(cases), 0
        inside = sorted(p for p in Path(folder).glob("*/") if any(p.iterdir()))
        is_study = any(p.name.startswith("ses-") for p in inside) or not inside
        for patient in [Path(folder)] if is_study else inside:
            check(cancelled)
            if patient.name in c.hold_out:
                left_out += 1
                continue
            cases += [k for v in read_study(patient).visits for k in _case(patient.name, v, c, answers)]
        if len(cases) == before and not left_out:
            image = c.image if not c.channels else " and ".join(c.channels.values())
            needed = f" and labels like {c.labels!r}" if _needs_labels(c) else ""
            raise MedseqError(f"{folder} holds no visit with an image like {image!r}{needed}.")
    return cases


def _needs_labels(c: TrainConfig) -> bool:
    return c.task == "segmentation" or (c.task == "classification" and c.targets is None)


def _case(patient: str, visit: Visit, c: TrainConfig, answers: Answers | None) -> list[Case]:
    """The case of a visit, if it has one."""
    target = None
    if answers is not None:
        target = answers.get((patient, visit.name), answers.get((patient, "")))
        if target is None:
            return []
    patterns = list(c.channels.values()) or [c.image]
    channels = [_only(visit, visit.images, p) for p in patterns]
    labels = _only(visit, visit.labels, c.labels) if _needs_labels(c) else None
    found = [i for i in channels if i is not None]
    if len(found) < len(channels) or (labels is None and _needs_labels(c)):
        return []
    return [
        make_case(
            patient,
            found,
            labels,
            along=c.inference.along,
            pixel_mm=c.inference.pixel_mm,
            unlabelled=c.unlabelled,
            # one class takes in every label, be it 1 of a segmentation or the question of a classifier
            merge=len(c.classes) == 1 and min(c.classes) <= 1,
            sparse=c.sparse,
            target=target,
        )
    ]


def _only(visit: Visit, images: Sequence[ImageSequence], pattern: str) -> ImageSequence | None:
    found = [i for i in images if fnmatchcase(i.name, pattern)]
    if len(found) > 1:
        names = ", ".join(i.name for i in found)
        notes = " ".join(f"({w})" for i in found for w in i.warnings)
        raise MedseqError(
            f"{visit.name}: several images or labels fit ({names}); narrow image=, channels= or labels= down. {notes}".strip()
        )
    return found[0] if found else None


def read_answers(path: Path, classes: dict[int, str]) -> Answers:
    """What each exam shows, from a CSV file with columns patient, class and perhaps visit.

    Raises
    ------
    SettingsError
        If the file cannot be read, a column is missing or a class is not known.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            rows = list(csv.DictReader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path} cannot be read as CSV: {error}") from None
    if not rows or not {"patient", "class"} <= set(rows[0]):
        raise SettingsError(f"{path} needs the columns patient and class (and visit, where visits differ).")
    answers: Answers = {}
    index = {name: k for k, name in classes.items()} | {str(k): k for k in classes}
    for row in rows:
        said = [s.strip() for s in (row["class"] or "").split(";") if s.strip()]
        unknown = [s for s in said if s not in index]
        if unknown:
            raise SettingsError(f"{path}: {row['patient']} is {unknown[0]!r}, but the classes are {classes}.")
        target = torch.zeros(len(classes))
        target[[index[s] for s in said]] = 1.0
        answers[row["patient"], (row.get("visit") or "").strip()] = target
    return answers


def check_cases(c: TrainConfig, cases: Sequence[Case]) -> None:
    """Refuse cases from which the task cannot be learned.

    Raises
    ------
    MedseqError
        If there is no case, a class is in none of them, or one holds a label that is no class.
    """
    if not cases:
        raise MedseqError("There is no training case; give at least one image with labels.")
    if c.task in ("denoising", "autoencoder"):
        return
    if c.targets is not None:
        answers = torch.stack([x.target for x in cases if x.target is not None])
        for k, name in c.classes.items():
            if len(set(answers[:, k].tolist())) == 1:
                raise MedseqError(
                    f"Every training exam gives the same answer for class {k} ({name}); nothing can be learned of it. "
                    "Add exams of the other kind, or leave the class out."
                )
        return
    shift = 1 if c.task == "classification" else 0  # class k of a classifier is label k + 1
    known = {k + shift: name for k, name in c.classes.items()}
    there: set[int] = set()
    for case in cases:
        values = {v for v in case.labels.unique().tolist() if v > 0}
        if values - set(known):
            raise MedseqError(
                f"The labels of {case.name} ({case.patient}) hold {sorted(values - set(known))}, which classes= does not name "
                f"({known}); name them, or say which value means unlabelled."
            )
        there |= values
    absent = {k: name for k, name in known.items() if k not in there}
    if absent:
        raise MedseqError(
            f"No training case holds the class {', '.join(f'{k} ({n})' for k, n in absent.items())}; "
            "leave it out of classes, or add a case that has it."
        )
    if not any(bool((case.labels == 0).any()) for case in cases) and c.task == "segmentation":
        raise MedseqError(
            "No training voxel is background; with a few labelled slices label them whole (0 where nothing is)."
        )


def balanced_weights(cases: Sequence[Case], classes: int) -> Tensor:
    """Weights inverse to each class's share of the labelled voxels, their mean over the voxels 1.

    Parameters
    ----------
    cases : sequence of Case
    classes : int
        With background.

    Returns
    -------
    Tensor, shape (class,)
    """
    counts = torch.zeros(classes, dtype=torch.float64)
    for case in cases:
        counts += torch.bincount(case.labels[case.labels >= 0].long(), minlength=classes)[:classes]
    present = counts > 0
    weights = torch.where(present, counts.sum() / (counts.clamp_min(1) * present.sum()), torch.zeros(()).double())
    return weights.float()
