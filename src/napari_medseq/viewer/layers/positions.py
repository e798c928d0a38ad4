"""Conversion between positions on a canvas and places in the patient, in true millimetres.

What is drawn may be the slice view of a tilted volume, and each visit has a grid of its own; therefore positions are
converted by way of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.sequence import SPACE
from napari_medseq.viewer.layers.conversion import KEY, true_world_matrix

if TYPE_CHECKING:
    from napari.layers import Layer

#: a place in the patient: three numbers, RAS+ millimetres
Place = NDArray[np.float64]

#: (S, P, L), the order of a canvas → (R, A, S)
_SPL_RAS = np.array([[0.0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def place_of(layer: Layer, point: Sequence[float]) -> Place:
    """The place in the patient that a layer shows at a point of the canvas.

    Parameters
    ----------
    layer : Layer
        An image or mask.
    point : sequence of float
        A point such as the viewer's `dims.point` or the cursor's position; its last axes are those of the layer.

    Returns
    -------
    ndarray, shape (3,)
        RAS+ mm.
    """
    index = np.asarray(layer.world_to_data(np.asarray(point, dtype=float)[-layer.ndim :]), dtype=float)
    at = np.zeros(3)
    for axis, name in _space_axes(layer):
        at[SPACE.index(name)] = index[axis]
    return moved(_matrix(layer), at)


def shown_at(layer: Layer, place: Place) -> dict[str, float]:
    """The position on the canvas, one number per spatial axis of the layer, where it shows a place of the patient.

    Parameters
    ----------
    layer : Layer
    place : ndarray, shape (3,)
        RAS+ mm.
    """
    at = moved(_matrix(layer), np.asarray(place), back=True)
    index = np.zeros(layer.ndim)
    axes = _space_axes(layer)
    for axis, name in axes:
        index[axis] = at[SPACE.index(name)]
    world = np.asarray(layer.data_to_world(index), dtype=float)
    return {name: float(world[axis]) for axis, name in axes}


def frame_share(layer: Layer, point: Sequence[float]) -> float | None:
    """The position within a layer's frames of a point of the canvas, 0 to 1; None if it has no frames."""
    names = [str(a) for a in layer.axis_labels]
    if "t" not in names or layer.data.shape[names.index("t")] < 2:
        return None
    axis = names.index("t")
    index = float(np.asarray(layer.world_to_data(np.asarray(point, dtype=float)[-layer.ndim :]))[axis])
    return float(np.clip(round(index) / (layer.data.shape[axis] - 1), 0.0, 1.0))


def frame_at(layer: Layer, share: float) -> float | None:
    """The position on the canvas's axis ``t`` of the frame at that position, 0 to 1; None if there are no frames."""
    names = [str(a) for a in layer.axis_labels]
    if "t" not in names:
        return None
    axis = names.index("t")
    index = np.zeros(layer.ndim)
    index[axis] = round(share * (layer.data.shape[axis] - 1))
    return float(np.asarray(layer.data_to_world(index))[axis])


def moved(matrix: Affine, place: Place, *, back: bool = False) -> Place:
    """Transform a place by a 4×4 matrix, or (`back`) by its inverse."""
    direction = np.asarray(np.linalg.inv(matrix) if back else matrix, dtype=np.float64)
    return np.asarray(geometry.apply_points(direction, place[None])[0], dtype=np.float64)


def _space_axes(layer: Layer) -> list[tuple[int, str]]:
    """Array axis and name of each spatial axis."""
    names = [str(a) for a in layer.axis_labels]
    if any(name in SPACE for name in names):
        return [(k, name) for k, name in enumerate(names) if name in SPACE]
    count = min(3, layer.ndim)
    return [(layer.ndim - count + k, SPACE[3 - count + k]) for k in range(count)]


def _matrix(layer: Layer) -> Affine:
    """Index (z, y, x) of a layer → RAS+ mm; the transform of a layer of another origin is read as (S, P, L) mm."""
    if KEY in layer.metadata:
        return np.asarray(_SPL_RAS @ true_world_matrix(layer))
    matrix, axes = np.eye(4), _space_axes(layer)
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), dtype=float)
    rows = [SPACE.index(name) for _, name in axes]
    columns = [axis for axis, _ in axes]
    for axis, name in axes:
        step = np.zeros(layer.ndim)
        step[axis] = 1.0
        matrix[rows, SPACE.index(name)] = (np.asarray(layer.data_to_world(step)) - origin)[columns]
    matrix[rows, 3] = origin[columns]
    return np.asarray(_SPL_RAS @ matrix)
