"""Copying a label to the next slice, or to the mask of the next visit; each is one step of undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.masks import tools
from napari_medseq.viewer.editing.active import counterpart, shown_visit
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind, to_layer_data
from napari_medseq.viewer.layers.placement import along_of
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.viewer.masks.edits import edit, edited_layer
from napari_medseq.viewer.masks.regions import region_of
from napari_medseq.viewer.results.showing import new_labels

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


def copy_to_slice(viewer: ViewerModel, by: int = 1, layer: Labels | None = None, *, label: int | None = None) -> int:
    """Copy the outline of the slice that is shown to the slice `by` slices further, and show that slice.

    Parameters
    ----------
    viewer : ViewerModel
    by : int
        1: the next slice, −1: the previous one.
    layer, label
        As for `edit`.

    Returns
    -------
    int
        Number of voxels that changed.

    Raises
    ------
    MedseqError
        If the label is not on the slice that is shown, or there is no such slice.
    """
    layer = edited_layer(viewer, layer)
    now = region_of(viewer, layer).slice_index
    tool = tools.CopySlice(source=max(now, 0), target=now + by)
    changed = edit(viewer, tool, layer, label=label)
    names = list(viewer.dims.axis_labels)
    along = along_of(viewer)
    axis = names.index(along) if along in names else viewer.dims.ndim - 3
    own = axis - viewer.dims.ndim + layer.ndim
    step = np.zeros(layer.ndim)
    step[own] = by
    moved = np.asarray(layer.data_to_world(step)) - np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    viewer.dims.set_point(axis, float(viewer.dims.point[axis] + moved[own]))
    return changed


def copy_to_visit(
    viewer: ViewerModel, by: int = 1, layer: Labels | None = None, *, label: int | None = None
) -> tuple[Labels, int]:
    """Copy a label to the mask of the next visit, at the same place in the patient's space, and show that visit.

    Patient coordinates are used as they are; register the visits first if the patient lay differently. Other labels of
    that mask stay.

    Parameters
    ----------
    viewer : ViewerModel
    by : int
        1: the next visit, −1: the previous one.
    layer, label
        As for `edit`.

    Returns
    -------
    layer : Labels
        The mask at that visit; new labels on its image if there was none.
    changed : int
        Number of voxels that changed.

    Raises
    ------
    MedseqError
        If there is no such visit or no image at it, or nothing of the label lands in its grid.
    """
    from napari_medseq.volumes.grid import resample

    layer = edited_layer(viewer, layer)
    value = int(layer.selected_label) if label is None else label
    region_of(viewer, layer)  # by now it is the mask of the visit that is shown
    now = shown_visit(viewer)
    if now is None:
        raise MedseqError("There is no slider of visits. Open a study, or add the visit to it first.")
    seq = from_layer(layer)
    own = seq.replace(data=(np.asarray(seq.data) == value).astype(np.uint8))
    if not own.data.any():
        raise MedseqError(f"There is nothing of label {value} in {layer.name}.")
    target = _mask_at(viewer, layer, now + by)
    sequence = from_layer(target)
    moved = resample(own, sequence.affine, sequence.grid, interpolation="nearest")
    if moved.axes != sequence.axes:
        raise MedseqError(f"{layer.name} has axes {', '.join(moved.axes)}, {target.name} {', '.join(sequence.axes)}.")
    mask = np.asarray(to_layer_data(sequence.replace(data=moved.data))[0]).reshape(target.data.shape) > 0
    if not mask.any():
        raise MedseqError(
            f"Nothing of label {value} lies within {target.name}: the visits do not cover the same place."
        )
    viewer.dims.set_point(list(viewer.dims.axis_labels).index("visit"), float(now + by))
    viewer.layers.selection.active = target
    target.selected_label = value
    free = mask & (np.asarray(target.data) == 0)
    voxels = np.flatnonzero(free)
    editing_of(viewer).paint(target, voxels, np.full(len(voxels), value), f"copying label {value} to {target.name}")
    return target, len(voxels)


def _mask_at(viewer: ViewerModel, layer: Labels, visit: int) -> Labels:
    """The mask that corresponds to `layer` at another visit; a new one on that visit's image if there is none."""
    existing = counterpart(viewer, layer, visit)
    if existing is not None:
        return existing
    study = facts_of(layer).get("study")
    images = [
        other
        for other in viewer.layers
        if layer_kind(other) == "image"
        and "role" not in facts_of(other)
        and (facts_of(other).get("visit"), facts_of(other).get("study")) == (visit, study)
    ]
    if not images:
        raise MedseqError(f"There is no visit {visit + 1} with an image in this study.")
    seen = [other for other in images if other.visible] or images
    created = new_labels(viewer, seen[0])
    created.mode = "pan_zoom"
    return created
