"""A first mask from points, boxes and scribbles: the hinted object is outlined on its slice and painted, ready to be
propagated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.masks.labels import LabelArray, put
from napari_medseq.masks.outlining import Hints, outline
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.masks.hint_layers import label_of_each
from napari_medseq.viewer.masks.regions import Region, image_under, intensities, region_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points, Shapes

#: visit or frame (None: all of an axis), axis of the slices, slice, label
Place = tuple[int | None, ...]
#: labels layer → slice and label → the hints that it was outlined by last
_OUTLINED: WeakKeyDictionary[Labels, dict[Place, bytes]] = WeakKeyDictionary()


def outline_hinted(
    viewer: ViewerModel,
    labels: Labels,
    *,
    inside: Points | None = None,
    outside: Points | None = None,
    boxes: Shapes | None = None,
    background: int | None = None,
    image: Image | None = None,
    label: int | None = None,
) -> list[int]:
    """Outline slice by slice what points, boxes or scribbles hint at, and paint it; one step of undo.

    A slice whose hints have not changed since they were outlined stays as it is, so that what was corrected in it is kept,
    unless nothing of the label is left there.

    Parameters
    ----------
    viewer : ViewerModel
    labels : Labels
        The layer that is painted in; other labels in it stay.
    inside, outside : Points, optional
        Points inside the object, and outside of it.
    boxes : Shapes, optional
        Rectangles, each of which encloses the object tightly; of several on one slice each is outlined by itself.
    background : int, optional
        The label that was scribbled outside of the object, if `label` was scribbled inside. It is removed from the
        slices that are outlined.
    image : Image, optional
        Default the topmost visible one on the grid of `labels`.
    label : int, optional
        The label of the object. By default each hint in a layer of `new_hints` belongs to the label that was selected in
        `labels` when it was set, and other hints and scribbles to the one that is selected now; where that is `background`, to
        the only other label that is scribbled there.

    Returns
    -------
    list of int
        The slices that were outlined, as the layer counts them. Hints at visits or frames that are not shown are left
        for later.

    Raises
    ------
    MedseqError
        If there is no image on that grid, no hint on what is shown, none that was not outlined already, or the hints of a
        slice lead to no object; nothing is changed then.
    """
    labels = real(labels)
    selected = int(labels.selected_label) if label is None else label
    region = region_of(viewer, labels)
    under = image_under(viewer, labels, image)
    if under is None:
        raise MedseqError(f"No image lies on the grid of {labels.name}; choose labels on an image.")
    before: LabelArray = np.array(region.of(labels.data))
    if label is None and selected == background:
        selected = _object_beside(before, background, region.axis)
    points = [_of_points(viewer, labels, region, layer, selected, label is None) for layer in (inside, outside)]
    rectangles = list(_rectangles(viewer, labels, region, boxes, selected, label is None))
    outlined, volume = before.copy(), intensities(viewer, under, region)
    spacing = [s for k, s in enumerate(region.spacing) if k != region.axis]
    known = _OUTLINED.setdefault(labels, {})
    new: dict[Place, bytes] = {}
    steps, values = set(), set()
    asked = _asked(region, points, rectangles, before, (selected, background))
    for step, value in asked:
        at = (slice(None),) * region.axis + (step,)
        plane, drawn = volume[at], outlined[at]
        own, others = (_on(p[p[:, 0] == value, 1:], step, region.axis) for p in points)
        corners = [np.delete(r, region.axis, 1) for v, r in rectangles if v == value and _step_of(r, region) == step]
        key = (*(i if isinstance(i, int) else None for i in region.index), region.axis, step, value)
        by = b"".join(np.ascontiguousarray(p).tobytes() for p in (own, others, *corners))
        if background is not None and value == selected and (drawn == background).any():
            own = np.concatenate([own, np.argwhere(drawn == value)])
            others = np.concatenate([others, np.argwhere(drawn == background)])
            drawn = np.where(drawn == background, 0, drawn)
        elif label is None and known.get(key) == by and (drawn == value).any():
            continue
        try:
            mask = _outlined(plane, own, others, corners, spacing)
        except MedseqError as error:
            raise MedseqError(f"Slice {step + 1}, label {value}: {error}") from None
        slice_ = put(drawn, value, mask)
        outlined = outlined.astype(np.promote_types(outlined.dtype, slice_.dtype), copy=False)
        outlined[at] = slice_
        new[key] = by
        steps.add(step)
        values.add(value)
    if not asked:
        raise MedseqError("Nothing says where the object is here; set a point in it, or draw a box around it.")
    if not new:
        raise MedseqError(
            "What is hinted at here is outlined already. Set another point or box; to outline a slice anew, erase the object there first."
        )
    changed = outlined != before
    editing, former = editing_of(viewer), {key: known.get(key, b"") for key in new}
    name = f"outlining label {', '.join(map(str, sorted(values)))} in {labels.name}"
    with editing.step(name):
        editing.paint(labels, region.voxels(labels.data.shape, changed), outlined[changed], name)
        editing.act(lambda: known.update(former), lambda: known.update(new))
    known.update(new)
    if label is None:
        labels.selected_label = selected  # corrections go into the object, and not into the scribbles beside it
    return sorted(steps)


def _outlined(
    plane: NDArray[np.generic],
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    corners: Sequence[NDArray[np.float64]],
    spacing: Sequence[float],
) -> NDArray[np.bool_]:
    """The objects hinted at on one plane: one in each box, or around the points if there is no box."""
    if not corners:
        return outline(plane, Hints(inside, outside), spacing)
    out = np.zeros(plane.shape, bool)
    for box in corners:
        low, high = box.min(0), box.max(0)
        inside_limits = [p[((p >= low) & (p <= high)).all(1)] for p in (inside, outside)]
        out |= outline(plane, Hints(inside_limits[0], inside_limits[1], (low.tolist(), high.tolist())), spacing)
    return out


def _asked(
    region: Region,
    points: Sequence[NDArray[np.float64]],
    rectangles: Sequence[tuple[int, NDArray[np.float64]]],
    drawn: LabelArray,
    scribbled: tuple[int, int | None],
) -> list[tuple[int, int]]:
    """The slices that have a hint inside an object, each with the object's label."""
    asked = {(round(float(p[1 + region.axis])), int(p[0])) for p in points[0]}
    asked |= {(_step_of(r, region), value) for value, r in rectangles}
    if scribbled[1] is not None:
        both = [(drawn == v).any(tuple(k for k in range(3) if k != region.axis)) for v in scribbled]
        asked |= {(int(s), scribbled[0]) for s in np.flatnonzero(both[0] & both[1])}
    return sorted((step, value) for step, value in asked if 0 <= step < drawn.shape[region.axis])


def _object_beside(drawn: LabelArray, background: int, axis: int) -> int:
    """The label that is scribbled on the slices that have scribbles beside the object: those were drawn last."""
    slices = np.moveaxis(drawn, axis, 0)
    beside = slices[(slices == background).any((1, 2))]
    values = [int(v) for v in np.unique(beside) if v not in (0, background)]
    if len(values) != 1:
        raise MedseqError(
            f"Label {background}, that of the scribbles beside the object, is selected. Select the label of the object, then outline it."
        )
    return values[0]


def _step_of(corners: NDArray[np.float64], region: Region) -> int:
    return round(float(corners[:, region.axis].mean()))


def _of_points(
    viewer: ViewerModel, labels: Labels, region: Region, layer: Points | None, selected: int, as_set: bool
) -> NDArray[np.float64]:
    """The points of a layer that lie at the visit and frame that are shown: label, then the three axes of the region."""
    if layer is None or not len(layer.data):
        return np.empty((0, 4))
    values = label_of_each(layer, selected) if as_set else [selected] * len(layer.data)
    places = _in_region(viewer, labels, region, layer, layer.data)
    return np.array([[v, *p] for v, p in zip(values, places, strict=True) if p is not None]).reshape(-1, 4)


def _rectangles(
    viewer: ViewerModel, labels: Labels, region: Region, layer: Shapes | None, selected: int, as_set: bool
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The boxes of a layer that lie on one slice at the visit and frame that are shown, each with its label."""
    if layer is None:
        return
    values = label_of_each(layer, selected) if as_set else [selected] * len(layer.data)
    for value, shape in zip(values, layer.data, strict=True):
        corners = [p for p in _in_region(viewer, labels, region, layer, shape) if p is not None]
        if len(corners) == len(shape) and np.ptp(np.array(corners)[:, region.axis]) < 1:
            yield value, np.array(corners)


def _in_region(
    viewer: ViewerModel, labels: Labels, region: Region, layer: Layer, places: NDArray[np.float64]
) -> Iterator[NDArray[np.float64] | None]:
    """Positions of another layer in the three axes of the region; None for those at another visit or frame."""
    point = np.asarray(viewer.dims.point, float)
    for place in places:
        world = point.copy()
        world[viewer.dims.ndim - layer.ndim :] = np.asarray(layer.data_to_world(place), float)
        at = np.asarray(labels.world_to_data(world[viewer.dims.ndim - labels.ndim :]), float)
        fixed = [k for k, i in enumerate(region.index) if not isinstance(i, slice)]
        if any(round(float(at[k])) != region.index[k] for k in fixed):
            yield None
            continue
        inner = at[[k for k in range(labels.ndim) if k not in fixed]]
        yield np.concatenate([[0.0], inner]) if region.flat else inner


def _on(points: NDArray[np.float64], step: int, axis: int) -> NDArray[np.float64]:
    """The points of one slice as (row, column)."""
    return np.delete(points[np.round(points[:, axis]) == step], axis, 1)
