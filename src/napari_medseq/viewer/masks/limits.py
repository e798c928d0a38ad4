"""A brush that paints only where the image's intensity lies within a range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.active import DRAWING, MouseEvent
from napari_medseq.viewer.editing.marks import Mask, Voxels
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.masks.regions import image_under, intensities, region_of
from napari_medseq.volumes.padding import is_padding

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer
    from napari.utils.events import Event


class BrushLimit:
    """The range of intensities that strokes are limited to; `limit_brush` sets one.

    Attributes
    ----------
    low, high : float
        Ends of the range, which belong to it.
    """

    def __init__(self, viewer: ViewerModel, image: Image | None, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._viewer, self._image = ref(viewer), None if image is None else ref(image)
        self._watched: WeakSet[Labels] = WeakSet()

    def image_for(self, layer: Labels) -> Image | None:
        """The image that limits strokes in a mask: the chosen one, or its counterpart at the mask's visit."""
        viewer = self._viewer()
        return None if viewer is None else image_under(viewer, layer, None if self._image is None else self._image())

    def outside(self, layer: Labels, voxels: Voxels) -> Mask:
        """Which voxels, given as flat indices into a mask's data, lie outside the range; none if no image is on the
        mask's grid."""
        viewer, image = self._viewer(), self.image_for(layer)
        if viewer is None or image is None or not len(voxels):
            return np.zeros(len(voxels), bool)
        region = region_of(viewer, layer)
        at = np.unravel_index(voxels, layer.data.shape)
        # only the box around the stroke is read, because the image may be on disk
        box = tuple(
            slice(int(k.min()), int(k.max()) + 1) if isinstance(place, slice) else place
            for k, place in zip(at, region.index, strict=True)
        )
        values = intensities(viewer, image, replace(region, index=box))
        inside = [k - s.start for k, s in zip(at, box, strict=True) if isinstance(s, slice)]
        grey_values = values[(0, *inside) if region.flat else tuple(inside)]
        inside_range = (grey_values >= self.low) & (grey_values <= self.high)
        return np.asarray(~inside_range | _padding(image, grey_values))

    def watch(self, viewer: ViewerModel) -> None:
        """Undo what lies outside while a stroke is being drawn in any mask, and not only when it ends."""
        for layer in viewer.layers:
            self._watch(layer)
        viewer.layers.events.inserted.connect(self._inserted)

    def release(self, viewer: ViewerModel) -> None:
        """Stop watching layers."""
        viewer.layers.events.inserted.disconnect(self._inserted)
        for layer in self._watched:
            if self._while_drawing in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.remove(self._while_drawing)
        self._watched.clear()

    def _inserted(self, event: Event) -> None:
        self._watch(event.value)

    def _watch(self, layer: Layer) -> None:
        if layer_kind(layer) == "labels" and layer not in self._watched:
            self._watched.add(layer)
            layer.mouse_drag_callbacks.append(self._while_drawing)

    def _while_drawing(self, layer: Labels, event: MouseEvent) -> Iterator[None]:
        viewer = self._viewer()
        if viewer is None or str(layer.mode) not in DRAWING - {"polygon"} or layer.n_edit_dimensions != 2:
            return
        try:
            region = region_of(viewer, layer, this_slice=True)
        except MedseqError:
            return
        before = np.array(layer.data[region.index])
        every = region.voxels(layer.data.shape, np.ones(region.of(layer.data).shape, bool))
        outside = self.outside(layer, every).reshape(before.shape)
        yield
        while event.type == "mouse_move":
            now = layer.data[region.index]
            wrong = outside & (now != before)
            if wrong.any():
                now[wrong] = before[wrong]
                layer.refresh()
            yield


def limit_brush(
    viewer: ViewerModel, low: float | None = None, high: float | None = None, image: Image | None = None
) -> BrushLimit | None:
    """Limit every stroke, fill and eraser to voxels of an image within a range of intensities; without a range, lift
    the limit.

    Parameters
    ----------
    viewer : ViewerModel
    low, high : float, optional
        Ends of the range, which belong to it. None for both: strokes paint everywhere again.
    image : Image, optional
        The image whose intensities count, and its counterpart at other visits. Default the topmost visible image on
        the grid of the mask.

    Returns
    -------
    BrushLimit or None
        The limit that now holds.

    Raises
    ------
    MedseqError
        If `low` is above `high`.
    """
    viewer = real(viewer)
    editing = editing_of(viewer)
    if isinstance(editing.limit, BrushLimit):
        editing.limit.release(viewer)
    if low is None and high is None:
        editing.limit = None
        return None
    low, high = (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))
    if low > high:
        raise MedseqError(f"The range from {low:g} to {high:g} is empty: its lower end is above its upper end.")
    limit = BrushLimit(viewer, None if image is None else real(image), low, high)
    editing.limit = limit
    limit.watch(viewer)
    return limit


def painted_range(
    viewer: ViewerModel, layer: Labels, label: int | None = None, image: Image | None = None
) -> tuple[float, float]:
    """The range of intensities of a label: the 2.5 % to the 97.5 % percentile.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Labels
        The mask; its voxels at the visit and frame that is shown count.
    label : int, optional
        Default the layer's selected label.
    image : Image, optional
        Default the topmost visible one on the mask's grid.

    Raises
    ------
    MedseqError
        If the label does not occur, or no image is on the mask's grid.
    """
    under = image_under(viewer, layer, image)
    if under is None:
        raise MedseqError(f"No image lies on the grid of {layer.name}: open its image, or resample one onto it.")
    region = region_of(viewer, layer)
    value = int(layer.selected_label) if label is None else label
    mask = region.of(layer.data) == value
    values = intensities(viewer, under, region)[mask] if value > 0 else np.zeros(0)
    values = values[np.isfinite(values) & ~_padding(under, values)]
    if not len(values):
        raise MedseqError(f"There is nothing of label {value} here. Paint a stroke inside the object first.")
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _padding(image: Image, values: NDArray[np.generic]) -> Mask:
    """Which values of an image are padding, outside the scanned field."""
    padding = is_padding(values, from_layer(image))
    return np.zeros(values.shape, bool) if padding is None else padding
