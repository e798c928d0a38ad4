"""Trying preprocessing steps on the slice that the viewer shows, and estimating the time for the whole; no layer is
changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq import preprocessing as steps_of
from napari_medseq.progress import Cancelled
from napari_medseq.viewer.layers.conversion import from_layer, layer_axis, layer_kind
from napari_medseq.viewer.layers.parts import place_in_view
from napari_medseq.viewer.preprocessing import steps_for_labels

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.preprocessing import Preview
    from napari_medseq.preprocessing.pipeline import Steps


def preview(
    viewer: ViewerModel,
    layer: Layer,
    steps: Steps,
    *,
    reference: Layer | None = None,
    cancelled: Cancelled | None = None,
) -> Preview:
    """Run steps on the slice of a layer that the viewer shows, and return that slice before and after.

    Raises
    ------
    SettingsError
        If a step cannot be used.
    MedseqError
        If a step cannot work on the layer.
    """
    return preview_job(viewer, layer, steps, reference=reference)(cancelled)


def preview_job(
    viewer: ViewerModel, layer: Layer, steps: Steps, *, reference: Layer | None = None
) -> Callable[[Cancelled | None], Preview]:
    """`preview` as a job for any thread: layers are read now, and the steps run when the job is called with
    ``cancelled``."""
    seq = from_layer(layer)  # not copied, because the next preview shows a stroke that is made meanwhile
    chain = steps_of.parse(steps, modality=seq.modality)
    if seq.kind == "labels":
        chain = steps_for_labels(chain)[0]
    position, axis = _looked_at(viewer, layer)
    fixed = None if reference is None else from_layer(reference)

    def job(cancelled: Cancelled | None) -> Preview:
        return steps_of.preview(seq, chain, position, axis=axis, reference=fixed, cancelled=cancelled)

    return job


def _looked_at(viewer: ViewerModel, layer: Layer) -> tuple[dict[str, int], str | None]:
    """The slice of a layer that the viewer shows: axis name → index in the layer's sequence, and the axis of viewing.

    The axis is None if the viewer shows three dimensions, or the layer is flat.
    """
    hidden = [a - (viewer.dims.ndim - layer.ndim) for a in viewer.dims.not_displayed]
    sizes = from_layer(layer).sizes
    position = {
        name: min(max(index, 0), sizes[name] - 1)
        for name, index in place_in_view(viewer, layer).items()
        if layer_axis(layer, name)[0] in hidden
    }
    return position, next((name for name in reversed(position) if name != "t"), None)


def estimate_seconds(
    layers: Layer | Sequence[Layer],
    steps: Steps,
    *,
    reference: Layer | None = None,
    cancelled: Cancelled | None = None,
) -> float | None:
    """Estimated time of `preprocess` for the images among these layers; None if the steps cannot be tried on a part.

    It is measured on a part of the first image, and others count by their number of voxels.
    """
    return estimate_job(layers, steps, reference=reference)(cancelled)


def estimate_job(
    layers: Layer | Sequence[Layer], steps: Steps, *, reference: Layer | None = None
) -> Callable[[Cancelled | None], float | None]:
    """`estimate_seconds` as a job for any thread: layers are read now, and the steps tried when the job is called with
    ``cancelled``."""
    several = [*layers] if isinstance(layers, Sequence) else [layers]
    images = [from_layer(layer) for layer in several if layer_kind(layer) == "image"]
    fixed = None if reference is None else from_layer(reference)

    def job(cancelled: Cancelled | None) -> float | None:
        if not images:
            return 0.0
        seconds = steps_of.estimate_seconds(images[0], steps, reference=fixed, cancelled=cancelled)
        sizes = [float(np.prod([float(n) for n in seq.data.shape])) for seq in images]
        return None if seconds is None else seconds * sum(sizes) / sizes[0]

    return job
