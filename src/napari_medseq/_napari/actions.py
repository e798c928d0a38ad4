"""Commands of the Layers menu: true overlay on another layer's grid, and true placement for three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_info

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.window.saving import ask_save_layer
from napari_medseq._napari.window.services import accompany
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel


def resample_onto_lowest(viewer: napari.viewer.Viewer) -> None:
    """Resample the selected layers onto the grid of the lowest of them in the list, each into a new layer."""
    guarded("Resampling", lambda: _resample(viewer))


def _resample(viewer: ViewerModel) -> None:
    # napari has no active layer if several are selected
    chosen = [layer for layer in viewer.layers if layer in viewer.layers.selection]
    if len(chosen) < 2:
        raise MedseqError(
            "Select two layers or more (Ctrl+click); the lowest in the list is the one whose grid they get."
        )
    for layer in chosen[1:]:
        verbs.resample_onto(viewer, layer, chosen[0])


def new_labels(viewer: napari.viewer.Viewer) -> None:
    """Add an empty Labels layer on the grid of the active layer, ready to paint in."""
    guarded("New labels", lambda: _new_labels(viewer))


def _new_labels(viewer: ViewerModel) -> None:
    active = viewer.layers.selection.active
    if active is None:
        raise MedseqError("No layer is active. Click the image to paint on in the list of layers, then try again.")
    verbs.new_labels(viewer, active)


def save_layer(viewer: napari.viewer.Viewer) -> None:
    """Ask for a file and save the active mask or image in it, in its own geometry."""
    guarded("Saving", lambda: _save_layer(viewer))


def _save_layer(viewer: ViewerModel) -> None:
    active, guardian = viewer.layers.selection.active, accompany(viewer)
    if active is None or guardian is None:
        raise MedseqError("No layer is active. Click the mask or the image in the list of layers, then try again.")
    ask_save_layer(viewer, active, guardian.opener.work, guardian.window)


def toggle_world_placement(viewer: napari.viewer.Viewer) -> None:
    """Draw tilted volumes at their true place (for three dimensions), or in the slice view again."""
    on = not any(facts_of(layer).get("world_placement") for layer in viewer.layers)
    placed = verbs.use_world_placement(viewer, on)
    for layer in placed:
        facts_of(layer)["world_placement"] = on
    state = "at their true place" if on else "in the slice view"
    show_info(
        f"{how_many(len(placed), 'layer is', 'layers are')} drawn {state}."
        if placed
        else "There is no layer that this concerns."
    )
