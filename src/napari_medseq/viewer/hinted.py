"""A first mask from points, boxes and scribbles: the hinted object is outlined on its slice and painted, ready to be
propagated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.masks.labels import LabelArray, put
from napari_medseq.masks.outlining import Hints, outline
from napari_medseq.viewer.editing import editing_of, real
from napari_medseq.viewer.regions import Region, image_under, intensities, region_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points, Shapes

#: the names of layers that `new_hints` makes
INSIDE, OUTSIDE, BOXES = "points inside", "points outside", "boxes"


def new_hints(viewer: ViewerModel, labels: Labels, kind: str) -> Layer:
    """A layer for clicking hints on the grid of a label layer, active and ready; an existing one of these labels is used
    again.

    Parameters
    ----------
    viewer : ViewerModel
    labels : Labels
    kind : {"points inside", "points outside", "boxes"}

    Raises
    ------
    MedseqError
        If `kind` is none of these.
    """
    from napari.layers import Points as PointsLayer
    from napari.layers import Shapes as ShapesLayer

    if kind not in (INSIDE, OUTSIDE, BOXES):
        raise MedseqError(f"There are no hints {kind!r}; choose from {INSIDE}, {OUTSIDE}, {BOXES}.")
    existing = hints_of(viewer, labels, kind)
    if existing is not None:
        viewer.layers.selection.active = existing
        return existing
    labels = real(labels)
    placed = {
        n: getattr(labels, n) for n in ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    }
    hints: PointsLayer | ShapesLayer
    if kind == BOXES:
        hints = ShapesLayer(ndim=labels.ndim, name=kind, face_color="transparent", edge_color="yellow", **placed)
    else:
        colour = "lime" if kind == INSIDE else "red"
        hints = PointsLayer(ndim=labels.ndim, name=kind, face_color=colour, border_color="black", size=4, **placed)
    _DRAWN_FOR[hints] = kind, ref(labels)
    viewer.layers.append(hints)
    viewer.layers.selection.active = hints
    hints.mode = "add_rectangle" if kind == BOXES else "add"
    return hints


#: layers of hints → their kind, and the labels that they were made for
_DRAWN_FOR: WeakKeyDictionary[Layer, tuple[str, ref[Labels]]] = WeakKeyDictionary()


def hints_of(viewer: ViewerModel, labels: Labels, kind: str) -> Layer | None:
    """The layer with the hints of a kind for these labels; None if there is none.

    Hints that were drawn for other labels, which may be another patient's, are none of theirs. A layer that `new_hints`
    did not make is known by its name.
    """
    for layer in viewer.layers:
        layer = real(layer)
        drawn = _DRAWN_FOR.get(layer)
        if drawn is None and layer.name == kind and layer.ndim == labels.ndim:
            return layer
        if drawn is not None and drawn[0] == kind and drawn[1]() is real(labels):
            return layer
    return None


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
        Default the selected label of `labels`.

    Returns
    -------
    list of int
        The slices that were outlined, as the layer counts them. Hints at visits or frames that are not shown are left
        for later.

    Raises
    ------
    MedseqError
        If there is no image on that grid, no hint on what is shown, or the hints of a slice lead to no object; nothing
        is changed then.
    """
    labels = real(labels)
    value = int(labels.selected_label) if label is None else label
    region = region_of(viewer, labels)
    under = image_under(viewer, labels, image)
    if under is None:
        raise MedseqError(f"No image lies on the grid of {labels.name}; choose labels on an image.")
    points = [_of_points(viewer, labels, region, layer) for layer in (inside, outside)]
    rectangles = list(_rectangles(viewer, labels, region, boxes))
    before: LabelArray = np.array(region.of(labels.data))
    outlined, volume = before.copy(), intensities(viewer, under, region)
    spacing = [s for k, s in enumerate(region.spacing) if k != region.axis]
    steps = _steps(region, points, rectangles, before, (value, background))
    for step in steps:
        at = (slice(None),) * region.axis + (step,)
        plane, drawn = volume[at], before[at]
        own, others = (_on(p, step, region.axis) for p in points)
        if background is not None and (drawn == background).any():
            own = np.concatenate([own, np.argwhere(drawn == value)])
            others = np.concatenate([others, np.argwhere(drawn == background)])
            drawn = np.where(drawn == background, 0, drawn)
        corners = [np.delete(r, region.axis, 1) for r in rectangles if round(float(r[:, region.axis].mean())) == step]
        mask = _outlined(plane, own, others, corners, spacing)
        slice_ = put(drawn, value, mask)
        outlined = outlined.astype(np.promote_types(outlined.dtype, slice_.dtype), copy=False)
        outlined[at] = slice_
    if not steps:
        raise MedseqError("Nothing says where the object is here; set a point in it, or draw a box around it.")
    changed = outlined != before
    name = f"outlining label {value} in {labels.name}"
    editing_of(viewer).paint(labels, region.voxels(labels.data.shape, changed), outlined[changed], name)
    return steps


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


def _steps(
    region: Region,
    points: Sequence[NDArray[np.float64]],
    rectangles: Sequence[NDArray[np.float64]],
    drawn: LabelArray,
    scribbled: tuple[int, int | None],
) -> list[int]:
    """The slices that have a hint inside the object."""
    steps = {int(s) for s in np.round(points[0][:, region.axis])}
    steps |= {round(float(r[:, region.axis].mean())) for r in rectangles}
    if scribbled[1] is not None:
        both = [(drawn == v).any(tuple(k for k in range(3) if k != region.axis)) for v in scribbled]
        steps |= {int(s) for s in np.flatnonzero(both[0] & both[1])}
    return sorted(s for s in steps if 0 <= s < drawn.shape[region.axis])


def _of_points(viewer: ViewerModel, labels: Labels, region: Region, layer: Points | None) -> NDArray[np.float64]:
    """The points of a layer that lie at the visit and frame that are shown, in the three axes of the region."""
    if layer is None or not len(layer.data):
        return np.empty((0, 3))
    return np.array([p for p in _in_region(viewer, labels, region, layer, layer.data) if p is not None]).reshape(-1, 3)


def _rectangles(
    viewer: ViewerModel, labels: Labels, region: Region, layer: Shapes | None
) -> Iterator[NDArray[np.float64]]:
    for shape in () if layer is None else layer.data:
        corners = [p for p in _in_region(viewer, labels, region, layer, shape) if p is not None]
        if len(corners) == len(shape) and np.ptp(np.array(corners)[:, region.axis]) < 1:
            yield np.array(corners)


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
