"""The slices (or frames) of a layer by their index in its sequence: which are painted or settled, and showing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import from_layer, layer_axis

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer


class StepAxis(NamedTuple):
    """The axis of a layer's data along which the slices (or frames) of its sequence lie.

    Attributes
    ----------
    axis, size : int
        The axis, and the number of slices.
    is_reversed : bool
        Whether the data has them in the other order than the sequence.
    """

    axis: int
    size: int
    is_reversed: bool

    def flipped(self, index: int) -> int:
        """The index in the data of a slice of the sequence, and the other way round."""
        return self.size - 1 - index if self.is_reversed else index

    def at(self, step: int) -> tuple[slice | int, ...]:
        """The index of a whole slice of the data."""
        return (*[slice(None)] * self.axis, self.flipped(step))

    def any_in(self, mask: NDArray[np.bool_]) -> list[int]:
        """The slices of the sequence in which a mask of the layer's shape holds a voxel."""
        others = tuple(k for k in range(mask.ndim) if k != self.axis)
        return sorted(self.flipped(k) for k in np.flatnonzero(mask.any(axis=others)).tolist())


def step_axis(layer: Layer, axis_name: str | None = None) -> StepAxis:
    """The axis of a layer along which an axis of its sequence lies.

    Parameters
    ----------
    layer : Layer
    axis_name : str, optional
        The axis of the sequence; None: frames, else its own slices. So it is in the functions below.
    """
    axis, is_reversed = layer_axis(layer, axis_name or from_layer(layer).series_axis)
    axis = layer.ndim - 3 if axis is None else axis
    return StepAxis(axis, layer.data.shape[axis], is_reversed)


def corrected_slices(viewer: ViewerModel, answer: Labels, axis_name: str | None = None) -> list[int]:
    """The slices (or frames) in which a person painted in a model's answer, as indices of its sequence."""
    return step_axis(answer, axis_name).any_in(editing_of(viewer).marks(answer).painted)


def painted_slices(labels: Labels, axis_name: str | None = None) -> list[int]:
    """The slices (or frames) in which a label layer holds a label, as indices of its sequence."""
    return step_axis(labels, axis_name).any_in(np.asarray(labels.data) != 0)


def settled_slices(viewer: ViewerModel, labels: Labels, axis_name: str | None = None) -> list[int]:
    """The slices (or frames) of which every voxel counts as painted, because they were corrected or accepted, also as
    empty; as indices of its sequence."""
    marks = editing_of(viewer).marks(labels)
    if not marks.any:
        return []
    steps = step_axis(labels, axis_name)
    open_slices = set(steps.any_in(~marks.painted))
    return [k for k in range(steps.size) if k not in open_slices]


def go_to_slice(viewer: ViewerModel, layer: Labels, step: int, axis_name: str | None = None) -> None:
    """Show a slice (or frame) of a layer, given as an index of its sequence; a view of other planes is turned to its own."""
    steps = step_axis(layer, axis_name)
    axis = steps.axis
    at = np.zeros(layer.ndim)
    at[axis] = steps.flipped(step)
    world = np.asarray(layer.data_to_world(at))
    lead = viewer.dims.ndim - layer.ndim
    if str(layer.axis_labels[0]) == "visit":
        viewer.dims.set_point(lead, float(world[0]))
    if viewer.dims.ndisplay == 2 and lead + axis in viewer.dims.displayed:
        stepped = [k for k in viewer.dims.order if k != lead + axis]
        viewer.dims.order = (*stepped[:-2], lead + axis, *stepped[-2:])
    viewer.dims.set_point(lead + axis, float(world[axis]))
