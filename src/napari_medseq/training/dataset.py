"""Read study folders into training cases, and check that the task can be learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.inference.inputs.visits import days_of, stack_visits, to_common_space
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import ImageSequence, Visit
from napari_medseq.training.cases import Case, make_case, make_visit_case
from napari_medseq.training.config import TrainConfig
from napari_medseq.training.tables import Table, read_rows, read_table

#: (patient, visit or "") → answer per class
Answers = dict[tuple[str, str], Tensor]


def read_cases(c: TrainConfig, cancelled: Cancelled | None = None) -> list[Case]:
    """The real cases of a config: every visit that has the images and labels needed, without held-out patients.

    Raises
    ------
    MedseqError
        If a folder holds no case.
    """
    from napari_medseq.io import read_study

    answers_given = _Known(
        read_answers(Path(c.targets), c.classes) if c.targets is not None else None,
        read_table(Path(c.table), c.values) if c.table is not None else None,
    )
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
            visits = read_study(patient).visits
            if c.inference.along == "visit":
                cases += _cases_of_visits(patient.name, visits, c, answers_given, cancelled)
            else:
                cases += [k for v in visits for k in _case(patient.name, v, c, answers_given)]
        if len(cases) == before and not left_out:
            image = c.image if not c.channels else " and ".join(c.channels.values())
            needed = f" and labels like {c.labels!r}" if _needs_labels(c) else ""
            raise MedseqError(f"{folder} holds no visit with an image like {image!r}{needed}.")
    return cases


def _needs_labels(c: TrainConfig) -> bool:
    return c.task == "segmentation" or (c.task == "classification" and c.targets is None)


@dataclass(frozen=True)
class _Known:
    """The facts of files about the exams: answers, and values in addition to the images."""

    answers: Answers | None
    table: Table | None

    def target(self, patient: str, *visits: str) -> Tensor | None:
        """The answer for the last of the visits that has one, or else for the patient."""
        answers = self.answers or {}
        return next((answers[patient, v] for v in (*reversed(visits), "") if (patient, v) in answers), None)

    def values(self, patient: str, visit: str) -> Tensor | None:
        return None if self.table is None else self.table.of(patient, visit)


def _found(visit: Visit, c: TrainConfig) -> tuple[list[ImageSequence], ImageSequence | None] | None:
    """A visit's channels and its labels; None where a channel is not there."""
    patterns = list(c.channels.values()) or [c.image]
    channels = [i for p in patterns if (i := _only(visit, visit.images, p)) is not None]
    labels = _only(visit, visit.labels, c.labels) if _needs_labels(c) else None
    return (channels, labels) if len(channels) == len(patterns) else None


def _framing(c: TrainConfig) -> dict[str, Any]:
    """The settings of framing from the config."""
    return {
        "pixel_mm": c.inference.pixel_mm,
        "unlabelled": c.unlabelled,
        # one class takes in every label, be it 1 of a segmentation or the question of a classifier
        "merge": len(c.classes) == 1 and min(c.classes) <= 1,
        "sparse": c.sparse,
    }


def _case(patient: str, visit: Visit, c: TrainConfig, answers: _Known) -> list[Case]:
    """The case of a visit, if it has one."""
    target = answers.target(patient, visit.name)
    images = _found(visit, c)
    if images is None or (answers.answers is not None and target is None) or (images[1] is None and _needs_labels(c)):
        return []
    table = answers.values(patient, visit.name)
    return [
        make_case(
            patient,
            *images,
            along=c.inference.along,
            target=target,
            table=table,
            trimmed=c.inference.trimmed,
            middle_mm=c.inference.middle_mm,
            **_framing(c),
        )
    ]


def _cases_of_visits(
    patient: str, visits: Sequence[Visit], c: TrainConfig, answers: _Known, cancelled: Cancelled | None
) -> list[Case]:
    """A patient's visits as one case, or one for each grid among them that has labels; visits without an image are missing."""
    usable = [(v, f) for v in visits if (f := _found(v, c)) is not None]
    labels = {k: f[1] for k, (_, f) in enumerate(usable) if f[1] is not None}
    target = answers.target(patient, *(v.name for v, _ in usable))
    if not usable or (answers.answers is not None and target is None) or (not labels and _needs_labels(c)):
        return []
    exams = [f[0] for _, f in usable]
    first = [e[0] for e in exams]
    to_common = to_common_space(first, None, mode=c.align, cancelled=cancelled)
    groups = stack_visits(exams, days_of([v for v, _ in usable], first), to_common, cancelled)
    labelled = [g for g in groups if any(g.visits[at] in labels for at in g.own)]
    groups = labelled if _needs_labels(c) else groups[:1]  # without labels one grid shows all there is
    table = answers.values(patient, usable[-1][0].name)
    return [make_visit_case(patient, g, labels, target=target, table=table, **_framing(c)) for g in groups]


def _only(visit: Visit, images: Sequence[ImageSequence], pattern: str) -> ImageSequence | None:
    matching = [i for i in images if fnmatchcase(i.name, pattern)]
    if len(matching) > 1:
        names = ", ".join(i.name for i in matching)
        notes = " ".join(f"({w})" for i in matching for w in i.warnings)
        raise MedseqError(
            f"{visit.name}: several images or labels fit ({names}); narrow image=, channels= or labels= down. {notes}".strip()
        )
    return matching[0] if matching else None


def read_answers(path: Path, classes: dict[int, str]) -> Answers:
    """The classes of each exam, from a CSV file with the columns patient, class and optionally visit.

    Raises
    ------
    SettingsError
        If the file cannot be read, a column is missing or a class is not known.
    """
    rows = read_rows(path, ["patient", "class"])
    answers: Answers = {}
    index = {name: k for k, name in classes.items()} | {str(k): k for k in classes}
    for row in rows:
        class_names = [s.strip() for s in row["class"].split(";") if s.strip()]
        unknown = [s for s in class_names if s not in index]
        if unknown:
            raise SettingsError(f"{path}: {row['patient']} is {unknown[0]!r}, but the classes are {classes}.")
        target = torch.zeros(len(classes))
        target[[index[s] for s in class_names]] = 1.0
        answers[row["patient"], row.get("visit", "").strip()] = target
    return answers


def check_cases(c: TrainConfig, cases: Sequence[Case], network: SequenceNetwork | None = None) -> None:
    """Raise if the task cannot be learned from these cases, or not by this network.

    Raises
    ------
    MedseqError
        If there is no case, a class is in none of them, one holds a label that is not a class, or a classifier for slices is to
        read frames or visits of several.
    """
    if not cases:
        raise MedseqError("There is no training case; give at least one image with labels.")
    thick = next((x for x in cases if x.image.ndim == 5 and x.image.shape[2] > 1), None)
    if thick is not None and c.task == "classification" and network is not None and not network.volumes:
        raise MedseqError(
            f"{thick.name} ({thick.patient}) has {thick.image.shape[2]} slices at each step, but the network takes one; set "
            "dimensions: 3 in network, or give single slices."
        )
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
    class_names = {k + shift: name for k, name in c.classes.items()}
    present: set[int] = set()
    for case in cases:
        values = {v for v in case.labels.unique().tolist() if v > 0}
        if values - set(class_names):
            raise MedseqError(
                f"The labels of {case.name} ({case.patient}) hold {sorted(values - set(class_names))}, which classes= does not name "
                f"({class_names}); name them, or say which value means unlabelled."
            )
        present |= values
    absent = {k: name for k, name in class_names.items() if k not in present}
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
    """Class weights inverse to each class's share of the labelled voxels, scaled so that their mean over the voxels
    is 1.

    Parameters
    ----------
    cases : sequence of Case
    classes : int
        Number of classes, the background included.

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
