"""Teaching in a viewer: corrections in a taught model's answer become painted slices, which a new answer does not
change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.marks import PAINTED, Flags, Values
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.editing.slices import corrected_slices, step_axis
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.showing import show_segmentation
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_medseq.inference.outputs.prediction import Segmentation
    from napari_medseq.sequence import ImageSequence


def take_over(
    viewer: ViewerModel,
    answer: Labels,
    labels: Labels,
    steps: Sequence[int] | None = None,
    axis_name: str | None = None,
) -> list[int]:
    """Copy the slices of an answer that a person corrected into the painted labels as a whole.

    Parameters
    ----------
    viewer : ViewerModel
    answer : Labels
        The answer of a taught model.
    labels : Labels
        The painted labels that the model learned from; they stay, except for voxels that were painted in the answer
        since. From then on the slices belong to this layer: what is painted in it later counts, and the marks of the
        answer are removed.
    steps : sequence of int, optional
        Restrict the corrected slices to these.
    axis_name : str, optional
        As for `editing.slices.step_axis`.

    Returns
    -------
    list of int
        The slices, as indices of the sequence.

    Raises
    ------
    MedseqError
        If the two layers are of different shapes.
    """
    answer, labels = real(answer), real(labels)
    taking = taken_over(viewer, answer, labels, steps, axis_name)
    if taking.steps:
        editing = editing_of(viewer)
        with editing.step(f"taking over {how_many(len(taking.steps), 'corrected slice')}"):
            editing.write(labels, taking.data, flags=taking.flags)
            editing.write(answer, np.asarray(answer.data), flags=taking.left)
    return taking.steps


class TakenOver(NamedTuple):
    """The painted labels with the corrected slices of an answer in them, from `taken_over`.

    Attributes
    ----------
    steps : list of int
        The slices.
    data, flags : ndarray
        The new data and marks of the painted labels.
    left : ndarray of uint8
        The marks that the answer keeps.
    """

    steps: list[int]
    data: Values
    flags: Flags
    left: Flags


def taken_over(
    viewer: ViewerModel,
    answer: Labels,
    labels: Labels,
    steps: Sequence[int] | None = None,
    axis_name: str | None = None,
) -> TakenOver:
    """What `take_over` would write; no layer is changed.

    Raises
    ------
    MedseqError
        If the two layers are of different shapes.
    """
    answer, labels = real(answer), real(labels)
    if answer.data.shape != labels.data.shape:
        raise MedseqError(
            f"{answer.name} and {labels.name} do not lie on the same grid; corrections cannot be taken over."
        )
    editing = editing_of(viewer)
    corrected = [step for step in corrected_slices(viewer, answer, axis_name) if steps is None or step in steps]
    axis = step_axis(answer, axis_name)
    painted, values = editing.marks(answer).painted, np.asarray(answer.data)
    data: Values = np.array(labels.data, dtype=np.promote_types(labels.data.dtype, answer.data.dtype))
    flags, answer_flags = np.array(editing.marks(labels).flags), np.array(editing.marks(answer).flags)
    by_hand = editing.marks(labels).painted
    for step in corrected:
        where = axis.at(step)
        # a voxel that was erased by hand is not a gap
        to_take = painted[where] | ((data[where] == 0) & ~by_hand[where])
        data[where] = np.where(to_take, values[where], data[where])
        flags[where] |= PAINTED
        answer_flags[where] = 0
    return TakenOver(corrected, data, flags, answer_flags)


def with_painted(
    segmentation: Segmentation, painted: ImageSequence, steps: Sequence[int], axis_name: str | None = None
) -> Segmentation:
    """An answer whose slices (or frames) that a person painted are exactly as painted, and that holds every painted voxel of others.

    Parameters
    ----------
    segmentation : Segmentation
    painted : ImageSequence
        The painted labels, on the grid of the answer.
    steps : sequence of int
        The slices that are complete; where they are empty, nothing is labelled.
    axis_name : str, optional
        As for `editing.slices.step_axis`.
    """
    seq = segmentation.labels
    axis = seq.axes.index(axis_name or seq.series_axis)
    data = np.array(seq.data, dtype=np.promote_types(seq.data.dtype, painted.data.dtype))
    where = (slice(None),) * axis + (list(steps),)
    if data.shape == painted.data.shape:
        own = np.asarray(painted.data)
        np.copyto(data, own, where=own != 0)
        data[where] = own[where]
    return replace(segmentation, labels=seq.replace(data=data))


def with_finished(segmentation: Segmentation, before: ImageSequence, finished: Sequence[int]) -> Segmentation:
    """A new answer in which finished objects are exactly as they were in the previous one.

    Parameters
    ----------
    segmentation : Segmentation
    before : ImageSequence
        The previous answer, on the same grid.
    finished : sequence of int
        Labels of objects that a new answer must not change.
    """
    old, new = np.asarray(before.data), np.asarray(segmentation.labels.data)
    if not finished or old.shape != new.shape:
        return segmentation
    is_finished = np.isin(old, list(finished))
    data = np.where(np.isin(new, list(finished)), 0, new).astype(np.promote_types(new.dtype, old.dtype))
    data[is_finished] = old[is_finished]
    names = {**segmentation.labels.label_names, **{k: v for k, v in before.label_names.items() if k in finished}}
    return replace(segmentation, labels=segmentation.labels.replace(data=data, label_names=names))


def interpolated(painted: ImageSequence, axis_name: str | None = None) -> Segmentation:
    """The slices between painted ones by interpolated outlines, without any network; `axis_name` as for `editing.slices.step_axis`.

    Raises
    ------
    MedseqError
        If the labels have frames of volumes, or no label has a gap to fill; see `masks.interpolation.interpolate_slices`.
    """
    from napari_medseq.inference.outputs.prediction import Segmentation  # loads torch
    from napari_medseq.masks.interpolation import interpolate_slices

    data = np.asarray(painted.data)
    if data.ndim != 3:
        raise MedseqError(f"{painted.name} has no slices to interpolate between. Choose one volume, or one cine.")
    axis = painted.axes.index(axis_name or painted.series_axis)
    across = [painted.spacing[a] for k, a in enumerate(painted.axes) if k != axis]
    values = [int(v) for v in np.unique(data) if v]
    if not values:
        raise MedseqError(f"{painted.name} is empty. Paint the object on two slices or more.")
    filled = interpolate_slices(data, values, axis, (across[0], across[1]))
    return Segmentation(painted.replace(data=filled, name=f"{painted.name} interpolated"), None, None, "interpolation")


def show_answer(
    viewer: ViewerModel,
    image: Layer,
    segmentation: Segmentation,
    before: Labels | None = None,
    labels: Labels | None = None,
) -> Labels:
    """Show the answer of a taught model for the image of a layer.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    segmentation : Segmentation
    before : Labels, optional
        The layer of its last answer, which receives the new one except for the voxels that a person corrected in it.
    labels : Labels, optional
        The painted labels, whose colours a new layer takes.

    Returns
    -------
    Labels
        The layer of the answer.
    """
    if before is not None and before in viewer.layers:
        old = real(before)
        visit = old.metadata[_layers.KEY]["visit"]
        data = np.asarray(_layers.to_layer_data(segmentation.labels, visit=visit)[0])
        if data.shape == old.data.shape:
            editing_of(viewer).fill(old, data, name="a new answer")
            old.features = _layers.features(segmentation.labels.label_names)
            return old
    layer: Labels = show_segmentation(viewer, image, replace(segmentation, probability=None, uncertainty=None))[0]
    if labels is not None:
        layer.colormap = real(labels).colormap
    return layer


def slice_doubt(segmentation: Segmentation) -> NDArray[np.float64] | None:
    """How much of each slice (or frame) of an answer is in doubt; None if the model did not say.

    Parameters
    ----------
    segmentation : Segmentation
        An answer with ``uncertainty``, which is summed over each slice, or one of `ms.propagate`, which says it itself.
    """
    doubt = getattr(segmentation, "doubt", None)
    if doubt is None:
        if segmentation.uncertainty is None:
            return None
        seq = segmentation.uncertainty
        axis = seq.axes.index(seq.series_axis)
        doubt = np.asarray(seq.data).sum(axis=tuple(k for k in range(len(seq.axes)) if k != axis))
    return np.array(doubt, dtype=np.float64)


def most_doubtful(doubt: NDArray[np.float64], done: Iterable[int]) -> int | None:
    """The slice with the most doubt among those that are not done; None if none is in doubt.

    A slice that was in doubt and is done now will help its neighbours in the next answer: their doubt counts less, by how much nearer
    the nearest slice that is done has come.
    """
    steps = np.array(sorted(k for k in done if k < len(doubt)), dtype=int)
    left = doubt.copy()
    left[steps] = 0.0
    known = steps[doubt[steps] == 0]  # which the answer was computed from
    if 0 < known.size < steps.size:
        left *= _nearest(len(doubt), steps) / np.maximum(_nearest(len(doubt), known), 1)
    return int(left.argmax()) if len(left) and left.max() > 0 else None


def _nearest(count: int, steps: NDArray[np.int_]) -> NDArray[np.int_]:
    """How many steps each of so many steps is away from the nearest of these."""
    return np.asarray(np.abs(np.arange(count)[:, None] - steps).min(axis=1))


def doubtful_slice(segmentation: Segmentation, done: Sequence[int]) -> int | None:
    """The slice that is most worth looking at next: the most uncertain one among those that are not painted.

    Parameters
    ----------
    segmentation : Segmentation
        An answer with ``uncertainty``, or one of `ms.propagate`, which names the slice itself.
    done : sequence of int
        The slices that a person painted or corrected.

    Returns
    -------
    int or None
        None if nothing is uncertain.
    """
    doubt = slice_doubt(segmentation)
    return None if doubt is None else most_doubtful(doubt, done)
