"""A slice of a model's answer that a person looked at is right, or nothing is there: it becomes a painted one, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.viewer import layers as _layers
from napari_medseq.viewer.editing import editing_of, real
from napari_medseq.viewer.marks import PAINTED
from napari_medseq.viewer.parts import shown_slice

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


def accept_slice(viewer: ViewerModel, answer: Labels, labels: Labels, step: int | None = None) -> int:
    """Copy a slice of an answer into the painted labels, whole; it counts as painted from now on. One step of undo.

    Parameters
    ----------
    viewer : ViewerModel
    answer : Labels
        What a model found.
    labels : Labels
        What was painted to teach it, on the same grid.
    step : int, optional
        The slice (or frame), counted from 0 as the sequence does; None: the one that is shown.

    Returns
    -------
    int
        The slice. Where nothing is labelled in it, that is what was accepted: there is nothing.

    Raises
    ------
    MedseqError
        If the layers are not on one grid, or the slice that is shown is none of theirs.
    """
    return _settle(viewer, answer, labels, step, accepted=True)


def reject_slice(viewer: ViewerModel, answer: Labels, labels: Labels, step: int | None = None) -> int:
    """Nothing that is looked for is in a slice of an answer: it is emptied there and in the painted labels, and counts as painted.

    One step of undo.

    Parameters
    ----------
    viewer : ViewerModel
    answer, labels : Labels
        As for `accept_slice`.
    step : int, optional
        The slice (or frame), counted from 0 as the sequence does; None: the one that is shown.

    Returns
    -------
    int
        The slice.

    Raises
    ------
    MedseqError
        If the layers are not on one grid, or the slice that is shown is none of theirs.
    """
    return _settle(viewer, answer, labels, step, accepted=False)


def _settle(viewer: ViewerModel, answer: Labels, labels: Labels, step: int | None, *, accepted: bool) -> int:
    answer, labels = real(answer), real(labels)
    if answer.data.shape != labels.data.shape:
        raise MedseqError(
            f"{answer.name} and {labels.name} do not lie on the same grid. Choose the labels that were painted."
        )
    step = shown_slice(viewer, answer) if step is None else step
    seq = _layers.from_layer(answer)
    axis, flipped = _layers.layer_axis(answer, "t" if "t" in seq.axes else seq.slice_axis)
    axis = answer.ndim - 3 if axis is None else axis
    n = answer.data.shape[axis]
    if not 0 <= step < n:
        raise MedseqError(f"{answer.name} has {n} slices; there is no slice {step + 1}.")
    where = (slice(None),) * axis + (n - 1 - step if flipped else step,)
    data = np.array(labels.data, dtype=np.promote_types(labels.data.dtype, answer.data.dtype))
    flags = np.array(editing_of(viewer).marks(labels).flags)
    values = np.array(answer.data)
    if not accepted:
        values[where] = 0
    data[where] = values[where]
    flags[where] |= PAINTED
    editing = editing_of(viewer)
    answer_flags = np.array(editing.marks(answer).flags)
    answer_flags[where] = 0  # what was corrected in it is the labels' own now
    with editing.step(f"{'accepting' if accepted else 'rejecting'} slice {step + 1}"):
        editing.write(labels, data, flags=flags)
        editing.write(answer, values, flags=answer_flags)
    return step
