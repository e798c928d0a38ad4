"""The part of an image to run a model on: the slice that is shown, or a region that was drawn; no Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import SPACE
from napari_medseq.viewer.layers import conversion as _layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Shapes


class Part(TypedDict, total=False):
    """The arguments of `ms.segment` for a part of an image; empty for the whole.

    Attributes
    ----------
    steps : sequence of int
    region : mapping of axis name to (start, stop)
    """

    steps: Sequence[int]
    region: Mapping[str, tuple[int, int]]


def part_of(viewer: ViewerModel, image: Image, part: str = "whole") -> Part:
    """The arguments with which `ms.segment` labels a part of an image.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    part : {"whole", "slice", "region"}
        The whole image; the slice (or frame) that is shown; or the box around the shapes of the topmost visible Shapes
        layer.

    Raises
    ------
    MedseqError
        If the slice that is shown lies outside of the image, or nothing is drawn over it.
    """
    if part == "whole":
        return {}
    if part == "slice":
        return {"steps": [shown_slice(viewer, image)]}
    if part != "region":
        raise MedseqError(f"There is no part {part!r} of an image; choose whole, slice or region.")
    drawn = [
        layer for layer in viewer.layers if _layers.layer_kind(layer) == "shapes" and layer.visible and layer.nshapes
    ]
    if not drawn:
        raise MedseqError(
            "No region is drawn. Add a Shapes layer, draw a rectangle around what is to be looked at, then run again."
        )
    return {"region": region_of_shapes(image, drawn[-1])}


def place_in_view(viewer: ViewerModel, layer: Layer) -> dict[str, int]:
    """The position of the viewer's sliders in a layer: axis name → index in the layer's sequence, which may lie
    outside of it."""
    at = np.asarray(layer.world_to_data(np.asarray(viewer.dims.point, dtype=float)[-layer.ndim :]))
    place = {}
    sizes = {name: size for name, size in _layers.from_layer(layer).sizes.items() if name != "c"}
    for k, (name, size) in enumerate(sizes.items()):
        axis, flipped = _layers.layer_axis(layer, name)
        # a layer that another plugin made may not name its axes
        index = round(float(at[layer.ndim - len(sizes) + k if axis is None else axis]))
        place[name] = size - 1 - index if flipped else index
    return place


def shown_slice(viewer: ViewerModel, image: Layer, axis_name: str | None = None) -> int:
    """The slice (or frame) of an image that the sliders show, as an index of its sequence.

    Parameters
    ----------
    viewer : ViewerModel
    image : Layer
    axis_name : str, optional
        The axis of the sequence that the slices lie along; None: frames, else its own slices.

    Raises
    ------
    MedseqError
        If what is shown lies outside the image, or no single slice is shown, but planes across them.
    """
    seq = _layers.from_layer(image)
    axis = axis_name or seq.series_axis
    at, _ = _layers.layer_axis(image, axis)
    if at is not None and at + viewer.dims.ndim - image.ndim in viewer.dims.displayed:
        raise MedseqError(
            f"No single slice of {image.name} along {axis} is shown. Turn the view (the button with the cube below the layers) until a "
            f"slider is named {image.axis_labels[at]}."
        )
    index = place_in_view(viewer, image).get(axis, 0)
    if not 0 <= index < seq.size(axis):
        raise MedseqError(f"The slice that is shown is none of {image.name}. Move the slider into it.")
    return index


def region_of_shapes(image: Image, shapes: Shapes) -> dict[str, tuple[int, int]]:
    """The box around all shapes of a layer in voxels of an image's sequence: axis name to (start, stop).

    An axis along which all shapes lie in one slice is not limited, so that a rectangle drawn on one slice covers all
    slices.

    Raises
    ------
    MedseqError
        If the box does not touch the image.
    """
    seq = _layers.from_layer(image)
    corners = np.concatenate([np.asarray(shape, dtype=float) for shape in shapes.data])
    world = np.array([shapes.data_to_world(corner) for corner in corners])
    world = np.pad(world, ((0, 0), (max(image.ndim - world.shape[1], 0), 0)))[:, -image.ndim :]
    inside = np.array([image.world_to_data(point) for point in world])
    out: dict[str, tuple[int, int]] = {}
    for name in (a for a in SPACE if a in seq.axes):
        axis, flipped = _layers.layer_axis(image, name)
        if axis is None:
            continue
        n = int(image.data.shape[axis])
        along = n - 1 - inside[:, axis] if flipped else inside[:, axis]
        low, high = float(along.min()), float(along.max())
        if high - low < 1:  # drawn on one slice
            continue
        start, stop = max(round(low), 0), min(round(high) + 1, n)
        if start >= stop:
            raise MedseqError(f"The region that is drawn does not touch {image.name}. Draw it on the image.")
        out[name] = (start, stop)
    if not out:
        raise MedseqError("The region that is drawn has no extent. Draw a rectangle around what is to be looked at.")
    return out
