"""Former names of public viewer functions, kept for one version; each warns of its new name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from typing_extensions import deprecated

from napari_medseq.viewer.placement import sync_slice_views, use_world_placement
from napari_medseq.viewer.results import apply_lesion_colours

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer


@deprecated("wear_lesion_colours is called apply_lesion_colours now")
def wear_lesion_colours(layer: Labels, lesions: Iterable[int]) -> None:
    """Colour a Labels layer as every plot does; use `apply_lesion_colours`."""
    apply_lesion_colours(layer, lesions)


@deprecated("place_truly is called use_world_placement now")
def place_truly(what: ViewerModel | Layer | Iterable[Layer], on: bool = True) -> list[Layer]:
    """Draw layers at their true place; use `use_world_placement`."""
    return use_world_placement(what, on)


@deprecated("keep_views_true is called sync_slice_views now")
def keep_views_true(viewer: ViewerModel) -> None:
    """Keep the slice views in step with the order of axes; use `sync_slice_views`."""
    sync_slice_views(viewer)
