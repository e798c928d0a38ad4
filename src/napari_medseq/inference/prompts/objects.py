"""Painted labels as objects: each label value is one object, with the steps on which it is completely painted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.inference.prompts.planes import Planes
from napari_medseq.masks.imagelike import refuse_image
from napari_medseq.sequence import ImageSequence, check_same_grid

#: steps that are complete, for all objects or value by value
Annotated = Sequence[int] | Mapping[int, Sequence[int]]


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """One object of one sequence of planes.

    Attributes
    ----------
    value : int
        Its label.
    place : tuple of int
        Position of the sequence; see `Planes.across`.
    steps : ndarray of int
        The annotated steps, in order: those where it is painted, and those that are said to be complete.
    painted : ndarray of bool, (row, column)
        The pixels that are painted on some step; those of a part, where an object is carried in parts (`prompts.parts`).
    within : (int, int)
        First and last + 1 of the steps on which it is looked for.
    """

    value: int
    place: tuple[int, ...]
    steps: NDArray[np.intp]
    painted: NDArray[np.bool_]
    within: tuple[int, int]


def one_label_image(prompts: ImageSequence | Sequence[ImageSequence], image: ImageSequence) -> ImageSequence:
    """The painted labels as one label image on the image's grid.

    Raises
    ------
    MedseqError
        If it is not a label image, lies on another grid, is empty, has negative values, or two images claim one voxel.
    """
    sequences = [prompts] if isinstance(prompts, ImageSequence) else list(prompts)
    if not sequences or not all(isinstance(p, ImageSequence) for p in sequences):
        raise MedseqError("prompts must be label images on the image's grid: paint the object on a step or two.")
    for p in sequences:
        if np.dtype(p.data.dtype).kind not in "iub":
            raise MedseqError(f"{p.name} holds {p.data.dtype}; prompts are labels: whole numbers, 0 where nothing is.")
        check_same_grid(image, p)
    data = np.asarray(sequences[0].data)
    for other in sequences[1:]:
        values = np.asarray(other.data)
        twice = (data != 0) & (values != 0) & (data != values)
        if twice.any():
            at = dict(zip(other.axes, (int(i) for i in np.argwhere(twice)[0]), strict=True))
            a, b = (int(x[tuple(at.values())]) for x in (data, values))
            raise MedseqError(
                f"Objects {a} and {b} are both painted on voxel {at} and {int(twice.sum()) - 1} more; erase one of them there."
            )
        data = np.where(values != 0, values, data)
        if data.dtype.kind == "f":  # uint64 and int64
            data = data.astype(np.int64)
    if data.dtype == bool:
        data = data.astype(np.uint8)
    if not data.any():
        raise MedseqError(f"{sequences[0].name} is empty; paint the object on a step or two, then propagate.")
    if data.dtype.kind == "i" and int(data.min()) < 0:
        raise MedseqError(f"{sequences[0].name} holds {int(data.min())}; labels are 0 (nothing) and positive numbers.")
    refuse_image(data, sequences[0].name)
    names = {k: v for p in reversed(sequences) for k, v in p.label_names.items()}
    return sequences[0].replace(data=data, label_names=names, kind="labels")


def objects_of(labels: ImageSequence, planes: Planes, annotated: Annotated | None) -> list[PromptedObject]:
    """The objects of a label image, sequence by sequence, each with its annotated steps.

    Raises
    ------
    MedseqError
        If `annotated` names a step that is not there, or an object that is painted nowhere.
    """
    view = planes.view(np.asarray(labels.data))
    complete, each = _complete(annotated, planes)
    objects = []
    for place in planes.places():
        sequence = view[place]
        where: dict[int, list[int]] = {}
        for step in np.flatnonzero(sequence.any(axis=(1, 2))).tolist():
            for value in np.unique(sequence[step]).tolist():
                if value:
                    where.setdefault(int(value), []).append(step)
        for value, steps in sorted(where.items()):
            every = np.unique(np.array([*steps, *complete, *each.get(value, ())], np.intp))
            painted = np.zeros(planes.size, bool)
            for step in steps:
                painted |= sequence[step] == value
            objects.append(PromptedObject(value, place, every, painted, (0, planes.steps)))
    missing = sorted(set(each) - {o.value for o in objects})
    if missing:
        raise MedseqError(
            f"annotated names object {missing[0]}, which is painted nowhere; there are {sorted({o.value for o in objects})}."
        )
    return objects


def _complete(annotated: Annotated | None, planes: Planes) -> tuple[list[int], dict[int, list[int]]]:
    """Steps that are complete for all objects, and for each."""
    if annotated is None:
        return [], {}
    if isinstance(annotated, Mapping):
        return [], {int(k): checked_steps(v, planes, "annotated") for k, v in annotated.items()}
    return checked_steps(annotated, planes, "annotated"), {}


def checked_steps(steps: Sequence[int | np.integer], planes: Planes, name: str) -> list[int]:
    """Steps as ints, each of which the image has.

    Raises
    ------
    MedseqError
        If the image has no such step; the message names them.
    """
    numbers = list(steps)
    bad = [
        s for s in numbers if isinstance(s, bool) or not isinstance(s, int | np.integer) or not 0 <= s < planes.steps
    ]
    if bad:
        raise MedseqError(
            f"{name}: {planes.image.name} has steps 0 to {planes.steps - 1} along {planes.axis}, not {bad[:5]}."
        )
    return [int(s) for s in numbers]
