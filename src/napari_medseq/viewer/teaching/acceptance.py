"""Accepting or rejecting one slice of a model's answer, which makes it a painted slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.marks import PAINTED
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.editing.slices import step_axis
from napari_medseq.viewer.layers.parts import shown_slice
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.teaching.last_answers import answer_axis

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


def accept_slice(viewer: ViewerModel, answer: Labels, labels: Labels, step: int | None = None) -> int:
    """Copy a slice of an answer into the painted labels as a whole; it counts as painted from then on. One step of
    undo.

    Parameters
    ----------
    viewer : ViewerModel
    answer : Labels
        The answer of a model.
    labels : Labels
        The painted labels that the model learned from, on the same grid.
    step : int, optional
        Index of the slice (or frame) in the sequence, from 0; None: the slice that is shown.

    Returns
    -------
    int
        Index of the slice. If the answer labels nothing in it, it is accepted as empty.

    Raises
    ------
    MedseqError
        If the layers do not share a grid, or the slice that is shown lies outside of them.
    """
    return _settle(viewer, answer, labels, step, accepted=True)


def reject_slice(viewer: ViewerModel, answer: Labels, labels: Labels, step: int | None = None) -> int:
    """Empty a slice both in an answer and in the painted labels; it counts as painted from then on.

    This is one step of undo.

    Parameters
    ----------
    viewer : ViewerModel
    answer, labels : Labels
        As for `accept_slice`.
    step : int, optional
        Index of the slice (or frame) in the sequence, from 0; None: the slice that is shown.

    Returns
    -------
    int
        The slice.

    Raises
    ------
    MedseqError
        If the layers do not share a grid, or the slice that is shown lies outside of them.
    """
    return _settle(viewer, answer, labels, step, accepted=False)


def _settle(viewer: ViewerModel, answer: Labels, labels: Labels, step: int | None, *, accepted: bool) -> int:
    answer, labels = real(answer), real(labels)
    if answer.data.shape != labels.data.shape:
        raise MedseqError(
            f"{answer.name} and {labels.name} do not lie on the same grid. Choose the labels that were painted."
        )
    name = answer_axis(answer)
    step = shown_slice(viewer, answer, name) if step is None else step
    axis = step_axis(answer, name)
    if not 0 <= step < axis.size:
        raise MedseqError(f"{answer.name} has {axis.size} slices; there is no slice {step + 1}.")
    where = axis.at(step)
    data = np.array(labels.data, dtype=np.promote_types(labels.data.dtype, answer.data.dtype))
    flags = np.array(editing_of(viewer).marks(labels).flags)
    values = np.array(answer.data)
    if not accepted:
        values[where] = 0
    data[where] = values[where]
    flags[where] |= PAINTED
    editing = editing_of(viewer)
    answer_flags = np.array(editing.marks(answer).flags)
    answer_flags[where] = 0  # corrections made in the answer belong to the labels from now on
    with editing.step(f"{'accepting' if accepted else 'rejecting'} slice {step + 1}"):
        editing.write(labels, data, flags=flags)
        editing.write(answer, values, flags=answer_flags)
    return step
