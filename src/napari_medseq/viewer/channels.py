"""The layers that a model of several channels is run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq.viewer.editing.active import shown_visit, visit_of
from napari_medseq.viewer.identity import patient_in_front
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind
from napari_medseq.viewer.layers.studies import facts_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_medseq.models import ModelInfo


def channel_layers(viewer: ViewerModel, info: ModelInfo) -> dict[str, Image]:
    """Channel → image layer of the patient in front at the visit that is shown, for the channels of which one image alone has the
    name or the modality."""
    from napari_medseq.models.choosing import known_channels

    front, visit = patient_in_front(viewer), shown_visit(viewer)
    images = {
        id(seq): (seq, layer)
        for layer in viewer.layers
        if layer_kind(layer) == "image"
        and "role" not in facts_of(layer)
        and facts_of(layer).get("study") in (None, front)
        and visit_of(layer) in (None, visit)
        for seq in [from_layer(layer)]
    }
    known = known_channels([seq for seq, _ in images.values()], info)
    return {channel: images[id(seq)][1] for channel, seq in known.items()}
