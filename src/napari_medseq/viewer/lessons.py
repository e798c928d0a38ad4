"""Teaching in a viewer: corrections in a taught model's answer become painted slices, and a new answer leaves them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.viewer import layers as _layers
from napari_medseq.viewer.editing import editing_of, real
from napari_medseq.viewer.marks import PAINTED, Values
from napari_medseq.viewer.results import show_segmentation

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_medseq.inference import Segmentation


def corrected_slices(viewer: ViewerModel, answer: Labels) -> list[int]:
    """The slices (or frames) in which a person painted in a model's answer, counted from 0 as its sequence does."""
    axis, flipped = _step_axis(answer)
    painted = editing_of(viewer).marks(answer).painted
    steps = np.flatnonzero(painted.any(axis=tuple(k for k in range(painted.ndim) if k != axis)))
    n = painted.shape[axis]
    return sorted(int(n - 1 - k if flipped else k) for k in steps)


def painted_slices(labels: Labels) -> list[int]:
    """The slices (or frames) in which a label layer holds a label, counted from 0 as its sequence does."""
    axis, flipped = _step_axis(labels)
    data = np.asarray(labels.data)
    steps = np.flatnonzero((data != 0).any(axis=tuple(k for k in range(data.ndim) if k != axis)))
    return sorted(int(data.shape[axis] - 1 - k if flipped else k) for k in steps)


def take_over(viewer: ViewerModel, answer: Labels, labels: Labels) -> list[int]:
    """Copy the slices of an answer that a person corrected into the painted labels, whole: "this slice is right".

    Parameters
    ----------
    viewer : ViewerModel
    answer : Labels
        What a taught model found.
    labels : Labels
        What was painted to teach it; what is there stays, but for voxels that were painted in the answer since.

    Returns
    -------
    list of int
        The slices, counted from 0 as the sequence does.

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
    steps = corrected_slices(viewer, answer)
    axis, flipped = _step_axis(answer)
    n = answer.data.shape[axis]
    painted, found = editing.marks(answer).painted, np.asarray(answer.data)
    data: Values = np.array(labels.data, dtype=np.promote_types(labels.data.dtype, answer.data.dtype))
    flags = np.array(editing.marks(labels).flags)
    for step in steps:
        where = (slice(None),) * axis + (n - 1 - step if flipped else step,)
        kept = np.where(painted[where] | (data[where] == 0), found[where], data[where])
        flags[where][kept != data[where]] |= PAINTED
        data[where] = kept
    if not np.array_equal(data, labels.data):
        editing.write(labels, data, flags=flags, name=f"taking over {len(steps)} corrected slices")
    return steps


def show_answer(viewer: ViewerModel, image: Layer, found: Segmentation, before: Labels | None = None) -> Labels:
    """Show what a taught model found in the image of a layer.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    found : Segmentation
    before : Labels, optional
        The layer of its last answer: it gets the new one, but for the voxels that a person corrected in it.

    Returns
    -------
    Labels
        The layer of the answer.
    """
    if before is not None and before in viewer.layers:
        old = real(before)
        visit = old.metadata[_layers.KEY]["visit"]
        data = np.asarray(_layers.to_layer_data(found.labels, visit=visit)[0])
        if data.shape == old.data.shape:
            editing_of(viewer).fill(old, data, name="a new answer")
            old.features = _layers.features(found.labels.label_names)
            return old
    layer: Labels = show_segmentation(viewer, image, found)[0]
    return layer


def _step_axis(layer: Labels) -> tuple[int, bool]:
    """The layer's axis of slices or frames, and whether it runs backwards."""
    seq = _layers.from_layer(layer)
    axis, flipped = _layers.layer_axis(layer, "t" if "t" in seq.axes else seq.slice_axis)
    return (layer.ndim - 3 if axis is None else axis), flipped
