"""The exams of a table of classes: their channels and shapes, and their cases for the classifier, one per exam."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from napari_medseq.errors import MedseqError, unheard, warn
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.upright import Upright
from napari_medseq.models.info import COLOURS
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.training.automatic.budget import Deadline
from napari_medseq.training.automatic.decoded import Decoded
from napari_medseq.training.automatic.kind import Kind, KindMeasuring
from napari_medseq.training.cases import Case, make_case
from napari_medseq.training.classes.plan import ClassPlan, ExamShape
from napari_medseq.training.layouts import Entry

Along = Literal["slices", "t"]

_MEASURED = 30  # exams that are measured; they represent the shapes of all others
_LEAST_EXAMS = 2  # least exams that are read, even if the time is over


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the exams that were measured have in common.

    Attributes
    ----------
    along : {"slices", "t"}
        Whether most have frames.
    channels : tuple of str
        Names, in the order of the table; the colours where a picture has them.
    modality : str or None
        The modality that all exams share.
    shapes : list of ExamShape
    """

    along: Along
    channels: tuple[str, ...]
    modality: str | None
    shapes: list[ExamShape]


def survey(
    decoded: Decoded,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    late: Deadline | None = None,
    *,
    middle_mm: float | None = None,
) -> Survey:
    """Measure the foreground of some exams.

    Raises
    ------
    MedseqError
        If none can be read.
    """
    modalities: set[str | None] = set()
    colours = False
    shapes: list[tuple[Along, ExamShape]] = []
    entries = decoded.entries[:_MEASURED]
    for entry in with_progress(entries, len(entries), "measuring", progress, cancelled):
        if late is not None and len(shapes) >= _LEAST_EXAMS and late():
            break
        try:
            with unheard():
                images = decoded.images(entry)
                own = exam_shape(images, middle_mm)
        except MedseqError as error:
            decoded.leave_out(entry, error)
            continue
        colours |= set(COLOURS) <= set(images)
        modalities |= {i.modality for i in images.values()}
        shapes.append(own)
    if not shapes:
        raise decoded.nothing_left("No exam could be read")
    along, _ = Counter(a for a, _ in shapes).most_common(1)[0]
    return Survey(
        along=along,
        channels=COLOURS if colours else tuple(decoded.channels),
        modality=next(iter(modalities)) if len(modalities) == 1 else None,
        shapes=[s for a, s in shapes if a == along],
    )


def exam_shape(images: Mapping[str, ImageSequence], middle_mm: float | None = None) -> tuple[Along, ExamShape]:
    """What an exam's sequence is, and its shape.

    Raises
    ------
    MedseqError
        If its channels are not on one grid, or it is empty.
    """
    _, channels = Upright.of_channels(list(images.values()), trimmed=True, middle_mm=middle_mm)
    first = channels[0]
    along: Along = "t" if "t" in first.axes else "slices"
    f = frame(channels, along=along, pixel_mm=None, stride=1)
    row_mm, column_mm = (first.spacing[a] for a in f.axes[1:])
    shape = ExamShape(
        steps=f.steps, slices=f.thick, rows=f.inner[0], columns=f.inner[1], row_mm=row_mm, column_mm=column_mm
    )
    return along, shape


def exam_cases(
    decoded: Decoded,
    plan: ClassPlan,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    late: Deadline | None = None,
) -> tuple[list[Case], Kind]:
    """A case for each exam that can be used, in the order of their names, and what they have in common; a warning says which are left out.

    Raises
    ------
    MedseqError
        If none can be used.
    """
    cases: list[Case] = []
    kind = KindMeasuring()
    entries, unread = list(decoded.entries), 0
    for number, entry in enumerate(with_progress(entries, len(entries), "preparing", progress, cancelled)):
        if late is not None and len(cases) >= _LEAST_EXAMS and late():
            unread = len(entries) - number
            break
        try:
            with unheard():
                cases.append(_case(entry, decoded.images(entry), plan, kind))
        except MedseqError as error:
            decoded.leave_out(entry, error)
    if not cases:
        raise decoded.nothing_left("No exam could be prepared")
    if unread and late is not None:
        warn(
            f"Reading took so long that {unread} of {len(entries)} exams are left out; "
            f"{late.advice(len(entries) - unread, len(entries))}."
        )
    return sorted(cases, key=lambda c: c.name), kind.result


def _case(entry: Entry, images: Mapping[str, ImageSequence], plan: ClassPlan, kind: KindMeasuring) -> Case:
    turn, channels = Upright.of_channels(
        in_channels(images, plan.channels), trimmed=plan.trimmed, middle_mm=plan.middle_mm
    )
    if any(("t" in c.axes) != (plan.along == "t") for c in channels):
        has = "no frames, which the other exams have" if plan.along == "t" else "frames, which the other exams have not"
        raise MedseqError(f"it has {has}")
    of_steps = _of_steps(entry, turn, plan) if entry.steps else None
    if of_steps is None:
        target = torch.zeros(len(plan.classes))
        target[plan.classes.index(entry.answer)] = 1.0
    else:
        target = of_steps.nanmean(0)
    case = make_case(
        entry.patient, channels, None, along=plan.along, pixel_mm=plan.pixel_mm, target=target, least=plan.size
    )
    if case.image.ndim == 5 and case.image.shape[2] > 1 and plan.slices == 1:
        raise MedseqError("its frames are volumes, which those of the other exams are not")
    kind.add(entry.patient, channels[0])
    return replace(case, name=entry.case, of_steps=of_steps)


def check_steps(entry: Entry, image: ImageSequence) -> str:
    """The axis of the steps whose classes a table tells.

    Raises
    ------
    MedseqError
        If the image has no such axis, or fewer steps.
    """
    axis = "t" if entry.numbered == "frame" else image.slice_axis
    if (entry.numbered == "slice" and "t" in image.axes) or axis not in image.axes:
        raise MedseqError(
            f"the table tells the class of its {entry.numbered}s, but it has {'frames' if 't' in image.axes else 'none'}"
        )
    if max(entry.steps) >= image.size(axis):
        raise MedseqError(
            f"the table tells the class of {entry.numbered} {max(entry.steps)}, but there are {image.size(axis)}, counted from 0"
        )
    return axis


def _of_steps(entry: Entry, turn: Upright, plan: ClassPlan) -> Tensor:
    """The class of each step (step, class), NaN where the table says nothing, of the image as the network sees it.

    Raises
    ------
    MedseqError
        As `check_steps`, or if all of these steps are padding.
    """
    axis = turn.axis(check_steps(entry, turn.image))
    steps = turn.box[axis][1] - turn.box[axis][0] if axis in turn.box else turn.image.size(axis)
    out = torch.full((steps, len(plan.classes)), torch.nan)
    for number, answer in entry.steps.items():
        for at in turn.steps([number], axis) or ():
            out[at] = 0.0
            out[at, plan.classes.index(answer)] = 1.0
    if not out.isfinite().any():
        raise MedseqError(f"every {entry.numbered} whose class the table tells has one value alone")
    return out


def in_channels(images: Mapping[str, ImageSequence], names: Sequence[str]) -> list[ImageSequence]:
    """The images in the order of the channels; a grey picture has three colours that are alike.

    Raises
    ------
    MedseqError
        If one is missing.
    """
    if tuple(names) == COLOURS and len(images) == 1:
        return list(images.values()) * len(COLOURS)
    missing = [n for n in names if n not in images]
    if missing:
        raise MedseqError(f"it has no {', '.join(missing)}; the classifier needs every channel")
    return [images[n] for n in names]
