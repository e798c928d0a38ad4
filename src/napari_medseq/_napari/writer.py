"""What napari calls to save a layer: back to the sequence, then `ms.write`, which restores the file's own orientation."""

from __future__ import annotations

from typing import Any

import napari_medseq as ms
from napari_medseq._napari.layers import KEY, from_layer


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save one Image layer; returns the path written."""
    return _write(path, data, attributes, "image")


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save one Labels layer; returns the path written.

    DICOM SEG (``.dcm``) refers to the DICOM series that the labels were drawn on, found by the source in the metadata.
    """
    return _write(path, data, attributes, "labels")


def _write(path: str, data: Any, attributes: dict[str, Any], kind: str) -> list[str]:
    from napari.layers import Layer

    layer = Layer.create(data, attributes, kind)
    seq = from_layer(layer)
    reference = None
    if kind == "labels" and path.lower().endswith(".dcm"):
        source = (attributes.get("metadata", {}).get(KEY) or {}).get("meta", {}).get("source")
        reference = None if source is None else next((s for s in ms.read(source, lazy=True) if s.same_grid(seq)), None)
    return [str(ms.write(seq, path, reference=reference))]
