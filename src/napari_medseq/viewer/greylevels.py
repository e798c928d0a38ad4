"""Grey-level windows of a layer: presets in Hounsfield units and SUV, percentiles without padding, and smooth
overlays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing.window import PRESETS
from napari_medseq.viewer.layers.contrast import SHOWN, percentile_limits, sampled_values
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind
from napari_medseq.viewer.layers.studies import facts_of, series_name
from napari_medseq.viewer.readout import unit_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

Interpolation = Literal["nearest", "linear", "cubic"]

#: upper ends of SUV windows that begin at 0: values that readers of FDG PET commonly choose; no standard fixes them
SUV_TOPS = (5.0, 7.0, 10.0, 15.0)
#: percentiles by name; an image that is opened is shown at the first
PERCENTILES: dict[str, tuple[float, float]] = {
    "0.5–99.8 %": SHOWN,
    "2–98 %": (2.0, 98.0),
    "5–95 %": (5.0, 95.0),
    "all values": (0.0, 100.0),
}
#: Hounsfield units below which only gas is found (fat is at −120 to −90); Hounsfield's scale has air at −1000
_AIR = -200.0
#: the number of voxels that show whether there is air; fewer, because the window waits for it
_FEW = 50_000


def window_presets(image: Image) -> list[str]:
    """Names of the windows that make sense for an image, as `set_window` takes them.

    Parameters
    ----------
    image : Image layer

    Returns
    -------
    list of str
        Windows in Hounsfield units for CT (or if the modality is unknown and values are as low as those of air), in
        SUV for PET that has them, and percentiles for every image; none for a colour image.
    """
    if getattr(image, "rgb", False):
        return []
    unit = unit_of(image)
    names = [f"SUV 0–{top:g}" for top in SUV_TOPS] if unit.name == "SUV" else []
    modality = facts_of(image).get("modality")
    if modality == "CT" or (modality is None and _has_air(image)):
        names += list(PRESETS)
    return [*names, *PERCENTILES]


def _has_air(image: Image) -> bool:
    """Whether an image of unknown modality has values as low as air and lung in Hounsfield units."""
    return bool(np.percentile(sampled_values(from_layer(image), _FEW), 1.0) < _AIR)


def set_window(
    viewer: ViewerModel, image: Image, window: str | tuple[float, float], *, everywhere: bool = True
) -> tuple[float, float]:
    """Show an image in a window of grey levels.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    window : str or (float, float)
        A name out of `window_presets`, or level and width in the unit of `unit_of`.
    everywhere : bool
        Also for the same series at the other visits, so that visits can be compared. Percentiles are computed for each
        by itself.

    Returns
    -------
    (float, float)
        Lowest and highest value that are displayed differently from their neighbours, in the layer's own values.

    Raises
    ------
    MedseqError
        If the name does not belong to this image, or the window has no width.
    """
    layers = series_layers(viewer, image) if everywhere else [image]
    limits = {}
    for layer in layers:
        limits[layer] = _limits(layer, window)
    for layer, (low, high) in limits.items():
        own = layer.contrast_limits_range
        layer.contrast_limits_range = (min(low, own[0]), max(high, own[1]))
        layer.contrast_limits = (low, high)
    return limits[layers[0]]


def _limits(image: Image, window: str | tuple[float, float]) -> tuple[float, float]:
    unit = unit_of(image)
    if not isinstance(window, str):
        level, width = window
        if not width > 0:
            raise MedseqError(f"A window of width {width:g} shows nothing; its width must be above 0.")
        return (level - width / 2) / unit.factor, (level + width / 2) / unit.factor
    presets = window_presets(image)
    if window not in presets:
        raise MedseqError(
            f"{image.name} has no window {window!r}; there are {', '.join(presets) or 'none, since it is in colours'}."
        )
    if window in PERCENTILES:
        return percentile_limits(from_layer(image), *PERCENTILES[window])
    if window.startswith("SUV"):
        return 0.0, float(window.partition("–")[2]) / unit.factor
    level, width = PRESETS[window]
    return level - width / 2, level + width / 2


def series_layers(viewer: ViewerModel, image: Layer) -> list[Image]:
    """The layer itself, and those of the same series at other visits."""
    name, study = series_name(facts_of(image)), facts_of(image).get("study")
    alike = [
        layer
        for layer in viewer.layers
        if layer != image
        and layer_kind(layer) == "image"
        and study is not None
        and (facts_of(layer).get("study"), series_name(facts_of(layer))) == (study, name)
    ]
    return [image, *alike]


def interpolate_image(
    viewer: ViewerModel, image: Image, how: Interpolation = "linear", *, everywhere: bool = True
) -> None:
    """Draw an image smoothly between its voxels, or (``"nearest"``) voxel by voxel; its values stay as they are.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
        An overlay with large voxels, such as PET, is read more easily "linear" or "cubic".
    how : {"nearest", "linear", "cubic"}
    everywhere : bool
        Also for the same series at the other visits."""
    for layer in series_layers(viewer, image) if everywhere else [image]:
        layer.interpolation2d = how
        layer.interpolation3d = how
