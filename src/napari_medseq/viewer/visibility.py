"""Showing and hiding layers: a layer keeps its mode, and an image that is painted on is not covered by another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq.viewer.editing.active import visit_of
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import facts_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: napari's ways of drawing a layer by which it hides what is below
_COVERING = frozenset({"translucent", "translucent_no_depth", "opaque"})


def set_visible(layer: Layer, visible: bool) -> None:
    """Show or hide a layer, which keeps its mode: napari changes the mode even where the layer is as it should be."""
    if bool(layer.visible) != visible:
        layer.visible = visible


def covers(layer: Layer) -> bool:
    """Whether a layer is an image that hides what is below it."""
    return layer_kind(layer) == "image" and layer.opacity >= 1 and str(layer.blending) in _COVERING


def show_uncovered(viewer: ViewerModel, image: Layer) -> None:
    """Show an image, and hide the images of the same patient and visit that cover it, so that what is painted is painted on what is
    seen."""
    image = real(image)
    set_visible(image, True)
    above = False
    for layer in map(real, viewer.layers):
        above |= layer is image
        same = (facts_of(layer).get("study"), visit_of(layer)) == (facts_of(image).get("study"), visit_of(image))
        if above and layer is not image and covers(layer) and same:
            set_visible(layer, False)
