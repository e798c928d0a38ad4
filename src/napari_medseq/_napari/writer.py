"""napari's hook to save a layer: back to the sequence, then `ms.write`, which restores the file's own orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari_medseq as ms
from napari_medseq._napari.reader import application_viewer
from napari_medseq._napari.words import in_the_window
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers.conversion import from_layer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_image(path: str, data: NDArray[np.generic], attributes: dict[str, object]) -> list[str]:
    """Save one Image layer and return the path that was written."""
    return _write(path, data, attributes, "image")


def write_labels(path: str, data: NDArray[np.generic], attributes: dict[str, object]) -> list[str]:
    """Save one Labels layer and return the path that was written.

    DICOM SEG (``.dcm``) refers to the DICOM series that the labels were drawn on, which their metadata name.
    """
    return _write(path, data, attributes, "labels")


def _write(path: str, data: NDArray[np.generic], attributes: dict[str, object], kind: str) -> list[str]:
    from napari.layers import Layer

    try:
        written = str(ms.write(from_layer(Layer.create(data, attributes, kind)), path))
    except MedseqError as error:
        raise type(error)(in_the_window(str(error))) from error
    viewer = application_viewer()
    if viewer is not None and attributes.get("name") in viewer.layers:
        editing_of(viewer).saved([viewer.layers[attributes["name"]]])
    return [written]
