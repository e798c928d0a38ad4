"""A patient's visits for `propagate`: each visit with the others and their masks brought onto its grid, visits as frames.

Masks of other visits are brought over as prompts only: no mask of the visit itself is ever resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.inference.inputs import visits
from napari_medseq.inference.inputs.intensity import Intensity
from napari_medseq.inference.prompts.objects import one_label_image
from napari_medseq.progress import Cancelled
from napari_medseq.sequence import ImageSequence, describe_grid
from napari_medseq.wording import how_many


@dataclass(frozen=True, eq=False)
class PromptedVisit:
    """One visit among the others.

    Attributes
    ----------
    number : int
        Number of the visit among those with an image.
    image, labels : ImageSequence
        The visits as frames on this visit's grid, intensities of each visit about its own centre, and what is painted on them.
    painted : list of int
        The frames that are painted.
    frame : int
        The visit's own.
    """

    number: int
    image: ImageSequence
    labels: ImageSequence
    painted: list[int]
    frame: int


def labels_by_visit(
    prompts: ImageSequence | Sequence[ImageSequence | None], patient: visits.Patient, count: int
) -> dict[int, ImageSequence]:
    """The label image of each visit that has one, by the visit's number among those with an image.

    Parameters
    ----------
    prompts : ImageSequence, or sequence of ImageSequence or None
    patient : Patient
    count : int
        Visits that were handed in.

    Raises
    ------
    MedseqError
        If a label image fits no visit, or several and does not say of which day it is, there is not one entry per visit, or nothing is
        painted at all.
    """
    images = [channels[0] for channels in patient.exams]
    if isinstance(prompts, ImageSequence):
        fitting = [number for number, image in enumerate(images) if image.same_grid(prompts)]
        if len(fitting) > 1 and prompts.acquired is not None:
            day = prompts.acquired.date().toordinal()
            fitting = [number for number in fitting if patient.days[number] == day] or fitting
        if len(fitting) == 1:
            return {fitting[0]: one_label_image(prompts, images[fitting[0]])}
        if fitting:
            names = ", ".join(images[number].name for number in fitting)
            raise MedseqError(
                f"{prompts.name} is on the grid of several visits ({names}), so it is not known on which it was painted; give a list "
                "with one label image or None per visit."
            )
        grids = "; ".join(f"{i.name} {describe_grid(i)}" for i in images)
        raise MedseqError(f"{prompts.name} ({describe_grid(prompts)}) is on the grid of no visit: {grids}.")
    entries = list(prompts)
    if len(entries) != count:
        raise MedseqError(
            f"{how_many(len(entries), 'label image')} for {how_many(count, 'visit')}; give one or None per visit."
        )
    by_visit = {}
    for number, at in enumerate(patient.index):
        labels = entries[at]
        if labels is not None:
            by_visit[number] = one_label_image(labels, images[number])
    if not by_visit:
        raise MedseqError("No visit is painted; paint the object at one visit, then propagate.")
    return by_visit


def prompted_visits(
    patient: visits.Patient, labels: Mapping[int, ImageSequence], cancelled: Cancelled | None
) -> Iterator[PromptedVisit]:
    """Each visit that is not painted itself.

    Parameters
    ----------
    patient : Patient
    labels : mapping of int to ImageSequence
        See `labels_by_visit`.
    cancelled : callable, optional
    """
    for stack in visits.stack_visits(patient.exams, patient.days, patient.to_common, cancelled):
        unpainted = [f for f in stack.own if stack.visits[f] not in labels]
        if not unpainted:
            continue
        image = _levelled(stack.channels[0], [each[0] for each in stack.each])
        frames, painted = [], []
        base = stack.visits[stack.own[0]]
        for frame, visit in enumerate(stack.visits):
            if visit not in labels:
                frames.append(np.zeros(image.data.shape[1:], np.int32))
                continue
            own = labels[visit]
            if frame not in stack.own:
                onto = np.linalg.inv(patient.to_common[visit]) @ patient.to_common[base]
                own = visits.brought(own, patient.exams[base][0], onto, cancelled)
            frames.append(np.asarray(own.data, np.int32).reshape(image.data.shape[1:]))
            painted.append(frame)
        any_labels = next(iter(labels.values()))
        drawn = image.labels_like(np.stack(frames), name=any_labels.name, label_names=any_labels.label_names)
        for frame in unpainted:
            yield PromptedVisit(stack.visits[frame], image, drawn, painted, frame)


def _levelled(image: ImageSequence, each: Sequence[Intensity]) -> ImageSequence:
    """Frames with the intensities of each about its own centre: the scale of MR changes from visit to visit."""
    data: NDArray[np.float32] = np.asarray(image.data, np.float32)
    centre, scale = (np.array(v, np.float32) for v in zip(*((e.centre, e.scale) for e in each), strict=True))
    wide = (-1,) + (1,) * (data.ndim - 1)
    return image.replace(data=(data - centre.reshape(wide)) / scale.reshape(wide))
