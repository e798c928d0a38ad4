"""What a model found in an image, in words: how much of each label, and in which slices; and the slice that shows most of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.evaluation.metrics import volume_ml
from napari_medseq.viewer.identity import shown_step
from napari_medseq.viewer.layers.conversion import from_layer
from napari_medseq.viewer.layers.placement import along_of
from napari_medseq.wording import some

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray


def found_in_words(viewer: ViewerModel, layer: Labels) -> str:
    """The labels of a layer, with their volumes, and the slices (frames of a film) that hold them, counted as on the canvas.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Labels
    """
    seq = from_layer(layer)
    data, along = np.asarray(layer.data), _along(viewer, layer)
    values = [int(v) for v in np.unique(data) if v]
    if not values:
        return f"{layer.name} is empty: nothing was found."
    is_volume = "z" in seq.axes and not seq.is_dynamic
    parts = [
        seq.label_names.get(v, f"label {v}") + (f" {volume_ml(data == v, seq.affine):.3g} mL" if is_volume else "")
        for v in values
    ]
    there = np.flatnonzero(_counts(layer, along)) + 1 if along is not None else np.empty(0, int)
    word = "frame" if along == "t" else "slice"
    where = (
        f" in {word}s {there[0]} to {there[-1]}" if len(there) > 1 else f" in {word} {there[0]}" if len(there) else ""
    )
    return f"{layer.name}: {some(parts)}{where}."


def show_found(viewer: ViewerModel, layer: Labels) -> bool:
    """Go to the slice (or frame) that holds most of a layer's labels, unless the one that is shown holds some.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Labels

    Returns
    -------
    bool
        Whether the slider was moved.
    """
    along = _along(viewer, layer)
    if along is None:
        return False
    counts, shown = _counts(layer, along), shown_step(viewer, layer, along)
    if not counts.any() or (shown is not None and counts[shown[0]]):
        return False
    axis = [str(a) for a in layer.axis_labels].index(along)
    at = np.zeros(layer.ndim)
    at[axis] = int(counts.argmax())
    viewer.dims.set_point(viewer.dims.ndim - layer.ndim + axis, float(np.asarray(layer.data_to_world(at))[axis]))
    return True


def _along(viewer: ViewerModel, layer: Labels) -> str | None:
    """The axis of the slider that walks through a layer: slices, else frames; None in a picture and in three dimensions."""
    sizes = dict(zip((str(a) for a in layer.axis_labels), layer.data.shape, strict=True))
    names = (along_of(viewer), "t") if viewer.dims.ndisplay == 2 else ()
    return next((name for name in names if sizes.get(name, 1) > 1), None)


def _counts(layer: Labels, along: str) -> NDArray[np.int_]:
    """The number of labelled voxels at each step of an axis."""
    data = np.asarray(layer.data)
    axis = [str(a) for a in layer.axis_labels].index(along)
    return np.asarray(np.count_nonzero(data, axis=tuple(k for k in range(data.ndim) if k != axis)))
