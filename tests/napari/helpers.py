"""Helpers of the viewer's tests: clicks, docks, texts on the canvas, saved masks, and a segmenter that knows the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_medseq import viewer as verbs
from napari_medseq.inference import Segmentation
from napari_medseq.progress import check

Wait = Callable[..., None]


def bright(image: Any, _model: Any, **options: Any) -> Any:
    """The balls of the study are brighter than 300; steps through the slices as the engine does."""
    seq = next(iter(image.values())) if isinstance(image, dict) else image
    n = seq.size("z")
    for k in range(n):
        check(options.get("cancelled"))
        if options.get("progress"):
            options["progress"](k + 1, n, "bright")
    labels = (np.asarray(seq.data) > 300).astype(np.uint8)
    found = seq.labels_like(labels, name="found", label_names={1: "lesion"})
    shade = seq.like(labels.astype(np.float32)) if "uncertainty" in options.get("outputs", ()) else None
    return Segmentation(found, None, shade, "bright 1")


def masks(viewer: Any) -> list[Any]:
    """The experts' masks of the study of balls, one per visit."""
    return [layer for layer in viewer.layers if "tumor" in layer.name]


def as_plugins_see_it(viewer: Any) -> Any:
    """The proxy of a viewer that napari gives to plugins: another object for the same layer at each look."""
    from napari.utils._proxies import PublicOnlyProxy

    return PublicOnlyProxy(viewer)


def click(qtbot: Any, button: Any) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.LeftButton)


def docked(viewer: Any, kind: type, wait: Wait) -> Any:
    """A widget in the viewer's dock, as the plugin's menu makes it, when its models are known."""
    widget = kind(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name=kind.__name__)
    if hasattr(getattr(widget, "model", None), "box"):
        wait(widget.model.box.isEnabled)
    return widget


def texts(viewer: Any) -> dict[str, str]:
    """The texts of this package that are visible on a canvas, by their keys."""
    return {
        key: overlay.text
        for key, overlay in viewer.canvas.overlays.items()
        if key.startswith("medseq") and overlay.visible
    }


def saved_mask(folder: Path, name: str) -> np.ndarray:
    """The voxels of a layer in a saved session."""
    again = ViewerModel()
    verbs.open_session(again, folder)
    return np.asarray(again.layers[name].data)
