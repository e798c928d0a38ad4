"""Editing tools on a mask: each is one step of undo, and what it changed is painted as if by a person.

`edit` runs one tool at once. A window computes in another thread: `edit_job` copies what is needed, `EditJob.compute`
touches no layer, and `apply_edit` writes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.masks import tools
from napari_medseq.masks.labels import LabelArray, Labelled, Operation, combine
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import check_same_grid
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.viewer.masks.regions import Region, image_under, intensities, region_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels


@dataclass(frozen=True)
class EditJob:
    """What a tool needs, copied from the layers in the GUI thread.

    Attributes
    ----------
    layer : Labels
        The mask that is edited.
    tool : Tool
    given : Labelled
        Copies of what is edited.
    region : Region
        Their position in the layer.
    """

    layer: Labels
    tool: tools.Tool
    given: Labelled
    region: Region

    def compute(self, progress: Progress | None = None, cancelled: Cancelled | None = None) -> LabelArray:
        """The labels that the tool makes of its input. This is safe in any thread.

        Raises
        ------
        MedseqError
            If the tool cannot do it.
        OperationCancelled
        """
        check(cancelled)
        if progress is not None:
            progress(0, 1, self.tool.title)
        result = self.tool.apply(self.given)
        check(cancelled)
        return result


def edited_layer(viewer: ViewerModel, layer: Labels | None = None) -> Labels:
    """The mask that a tool edits: the given one, else the active layer.

    Raises
    ------
    MedseqError
        If that is not a label layer.
    """
    chosen = viewer.layers.selection.active if layer is None else layer
    if chosen is None or layer_kind(chosen) != "labels":
        raise MedseqError("No mask is active. Select a label layer in the list, or make new labels on an image.")
    return real(chosen)


def edit_job(
    viewer: ViewerModel,
    tool: tools.Tool,
    layer: Labels | None = None,
    *,
    label: int | None = None,
    image: Image | None = None,
    this_slice: bool = False,
    at: Sequence[float] | None = None,
) -> EditJob:
    """Copy from the layers what a tool needs; see `edit` for the parameters.

    Raises
    ------
    MedseqError
        If there is no mask to edit here, or the tool wants an image and there is none on the mask's grid.
    """
    layer = edited_layer(viewer, layer)
    value = int(layer.selected_label) if label is None else label
    if value <= 0:
        raise MedseqError("Label 0 is background. Select the label that is to be edited.")
    region = region_of(viewer, layer, this_slice=this_slice)
    under = image_under(viewer, layer, image) if tool.needs_image else None
    if tool.needs_image and under is None:
        raise MedseqError(f"{tool.title} looks at intensities, and no image lies on the grid of {layer.name}.")
    labelled = Labelled(
        np.array(region.of(layer.data)),
        value,
        region.spacing,
        region.axis,
        None if under is None else np.array(intensities(viewer, under, region)),
        None if at is None else _place(viewer, layer, region, at),
    )
    return EditJob(layer, tool, labelled, region)


def _place(viewer: ViewerModel, layer: Labels, region: Region, at: Sequence[float]) -> tuple[int, ...]:
    """The voxel of a region at a world position of the viewer."""
    world = np.asarray(at, dtype=float)[viewer.dims.ndim - layer.ndim :]
    place = np.round(np.asarray(layer.world_to_data(world), dtype=float)).astype(int)
    inside = [int(p) - (s.start or 0) for p, s in zip(place, region.index, strict=True) if isinstance(s, slice)]
    return (0, *inside) if region.flat else tuple(inside)


def apply_edit(viewer: ViewerModel, job: EditJob, edited: LabelArray) -> int:
    """Write the result of a tool as one step of undo; voxels that were painted in the meantime stay.

    Returns
    -------
    int
        Number of voxels that changed."""
    return _write(viewer, job.layer, job.region, job.given.labels, edited, f"{job.tool.title} in {job.layer.name}")


def _write(
    viewer: ViewerModel, layer: Labels, region: Region, before: LabelArray, edited: LabelArray, name: str
) -> int:
    changed = (edited != before) & (region.of(layer.data) == before)
    editing_of(viewer).paint(layer, region.voxels(layer.data.shape, changed), edited[changed], name)
    return int(changed.sum())


def edit(
    viewer: ViewerModel,
    tool: tools.Tool,
    layer: Labels | None = None,
    *,
    label: int | None = None,
    image: Image | None = None,
    this_slice: bool = False,
    at: Sequence[float] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> int:
    """Edit one label of a mask with a tool of `napari_medseq.masks.tools`, as one step of undo.

    Parameters
    ----------
    viewer : ViewerModel
    tool : Tool
        Such as ``Margin(mm=3)``.
    layer : Labels, optional
        The mask; default the active layer. Of visits and frames, the one that is shown is edited.
    label : int, optional
        Default the layer's selected label.
    image : Image, optional
        For tools that look at intensities; default the topmost visible one on the mask's grid.
    this_slice : bool
        Edit only the slice that is shown.
    at : sequence of float, optional
        World position, as the cursor has it, for `Island`.

    Returns
    -------
    int
        Number of voxels that changed; they count as painted and not yet followed.

    Raises
    ------
    MedseqError
        If it cannot be done; nothing is changed then.

    Examples
    --------
    >>> from napari.components import ViewerModel
    >>> from napari_medseq import viewer as view
    >>> from napari_medseq.masks import tools
    >>> viewer = ViewerModel()
    >>> mask = viewer.add_labels(np.pad(np.ones((1, 3, 3), np.uint8), ((1, 1), (4, 4), (4, 4))))
    >>> view.edit(viewer, tools.Margin(mm=1))
    30
    >>> view.editing_of(viewer).undo()
    'Changing the margin in Labels'
    """
    job = edit_job(viewer, tool, layer, label=label, image=image, this_slice=this_slice, at=at)
    if isinstance(tool, tools.Split):
        job = replace(job, tool=tools.Split(used=tuple({*tool.used, *used_labels(viewer, job.layer)})))
    return apply_edit(viewer, job, job.compute(progress, cancelled))


def used_labels(viewer: ViewerModel, layer: Labels) -> set[int]:
    """Label numbers that masks of the same patient use at any visit, so that a new lesion gets an unused one."""
    study = facts_of(layer).get("study")
    alike = [
        other
        for other in viewer.layers
        if layer_kind(other) == "labels" and (other == layer or (study and facts_of(other).get("study") == study))
    ]
    return {int(other.data.max()) for other in alike}


def combine_labels(
    viewer: ViewerModel,
    operation: Operation,
    other: Labels,
    other_label: int | None = None,
    layer: Labels | None = None,
    *,
    label: int | None = None,
    this_slice: bool = False,
) -> int:
    """Combine a label with one of another mask, or merge another label of the same mask into it, as one step of undo.

    Parameters
    ----------
    viewer : ViewerModel
    operation : {"add", "subtract", "intersect", "exclusive or", "replace"}
    other : Labels
        The other mask, on the same grid; it stays as it is, unless it is the same one.
    other_label : int, optional
        Default: everything that is labelled there.
    layer, label, this_slice
        As for `edit`.

    Returns
    -------
    int
        How many voxels changed.

    Raises
    ------
    MedseqError
        If the grids differ, or both labels belong to one mask, where labels never overlap, and the operation is not
        "add".
    """
    layer, other = edited_layer(viewer, layer), real(other)
    value = int(layer.selected_label) if label is None else label
    region = region_of(viewer, layer, this_slice=this_slice)
    before = np.array(region.of(layer.data))
    if other is layer:
        if operation != "add" or other_label in (None, value):
            raise MedseqError(
                "Labels of one mask never overlap: another label of the same mask can only be added. Choose another mask."
            )
        edited = np.where(before == other_label, value, before)
    else:
        check_same_grid(from_layer(layer), from_layer(other))
        other_values = region.of(other.data)
        edited = combine(
            before, value, other_values > 0 if other_label is None else other_values == other_label, operation
        )
    return _write(viewer, layer, region, before, edited, f"{operation} {other.name} in {layer.name}")
