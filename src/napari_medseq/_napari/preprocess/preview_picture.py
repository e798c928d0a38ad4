"""The picture of a preview: the slice before and after as grey levels, and the position of each of their pixels. No
Qt, so that any thread may make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseq.colours import lesion_colour
from napari_medseq.geometry import Affine
from napari_medseq.preprocessing import Preview
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.viewer.layers.contrast import percentile_limits
from napari_medseq.viewer.layers.conversion import KEY, to_layer_data

_XYZ = ("x", "y", "z")
#: the result is shown with the grey levels of the image if its own would differ by less than this share of their range
_SAME_LEVELS = 0.5
#: opacity of labels over the image
_LABEL_OPACITY = 0.6

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """Two pictures in one plane.

    Attributes
    ----------
    before, after : ndarray of uint8, shape (rows, columns, 4)
        Red, green, blue, opacity.
    before_to_mm, after_to_mm : ndarray, shape (3, 3)
        (column, row) of a pixel's centre → millimetres to the right and down, as the viewer shows them.
    note : str
        A remark to be shown beside it.
    """

    before: Pixels
    after: Pixels
    before_to_mm: Affine
    after_to_mm: Affine
    note: str


def picture_of(preview: Preview, limits: Sequence[float] | None = None) -> Picture:
    """The picture of a preview, in the orientation of the viewer.

    Parameters
    ----------
    preview : Preview
    limits : (low, high), optional
        The grey levels between which the layer is shown.
    """
    before, after = preview.before, preview.after
    shown = _limits(limits, percentile_limits(before))
    plane, other = _plane(before, preview.axis), _plane(after, _flat_axis(after, preview.axis))
    to_mm = _to_display(before, plane)
    into = np.linalg.inv(before.affine) @ after.affine
    # position of the pixels of the result among those of the image
    rows, columns = [_XYZ.index(a) for a in plane], [_XYZ.index(a) for a in other]
    among = np.eye(3)
    among[:2, :2] = into[np.ix_(rows, columns)]
    among[:2, 2] = into[rows, 3]
    picture = _grey(before, plane, shown)
    if after.kind == "labels":
        result = _coloured(after, other)
        if after.same_grid(before):
            result = _over(picture, result)
    else:
        own = after.meta.get("contrast_limits")
        levels = _limits(own if isinstance(own, Sequence) else None, percentile_limits(after))
        result = _grey(after, other, shown if own is None and _alike(levels, shown) else levels)
    notes = [preview.note, *preview.warnings]
    return Picture(picture, result, to_mm, to_mm @ among, "; ".join(n for n in notes if n))


def _plane(seq: ImageSequence, axis: str) -> tuple[str, str]:
    """The names of the axes of columns and rows."""
    row, column = [a for a in SPACE if a in seq.axes and (a != axis or len(_space(seq)) == 2)][-2:]
    return column, row


def _space(seq: ImageSequence) -> list[str]:
    return [a for a in SPACE if a in seq.axes]


def _flat_axis(seq: ImageSequence, axis: str) -> str:
    """The axis along which a slice has length 1: the viewing axis, unless a step turned the axes."""
    flat = [a for a in _space(seq) if seq.size(a) == 1]
    return axis if axis in flat or not flat else flat[0]


def _array(seq: ImageSequence, plane: tuple[str, str]) -> NDArray[np.generic]:
    column, row = plane
    keep = [a for a in seq.axes if a in (row, column, "c")]
    index = tuple(slice(None) if a in keep else 0 for a in seq.axes)
    return np.asarray(seq.data)[index]


def _to_display(seq: ImageSequence, plane: tuple[str, str]) -> Affine:
    """(column, row) of the sequence → millimetres to the right and down in the viewer."""
    facts = to_layer_data(seq)[1]["metadata"][KEY]
    order, flips = list(facts["order"]), list(facts["flips"])
    axes = []
    for k, axis in enumerate(plane):
        display = order.index(_XYZ.index(axis))
        row = np.zeros(3)
        step = seq.spacing[axis]
        # superior is up on slices where z is vertical, as in the viewer
        up = flips[display] != (_XYZ[display] == "z")
        row[k], row[2] = (-step, step * (seq.size(axis) - 1)) if up else (step, 0.0)
        axes.append((_XYZ[display], row))
    # the viewer's horizontal axis is the later one of z, y, x
    axes.sort(key=lambda item: SPACE.index(item[0]), reverse=True)
    return np.array([axes[0][1], axes[1][1], [0.0, 0.0, 1.0]])


def _limits(limits: Sequence[float] | None, default: tuple[float, float]) -> tuple[float, float]:
    if limits is None or len(limits) != 2 or not limits[0] < limits[1]:
        return default
    return float(limits[0]), float(limits[1])


def _alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    most = _SAME_LEVELS * (other[1] - other[0])
    return abs(one[0] - other[0]) < most and abs(one[1] - other[1]) < most


def _grey(seq: ImageSequence, plane: tuple[str, str], limits: tuple[float, float]) -> Pixels:
    values = np.asarray(_array(seq, plane), dtype=np.float32)
    low, high = limits
    levels = np.clip(np.nan_to_num((values - low) / (high - low), nan=0.0), 0, 1) * 255
    out = np.full((*levels.shape[:2], 4), 255, np.uint8)
    out[..., :3] = levels.astype(np.uint8) if levels.ndim == 3 else levels.astype(np.uint8)[..., None]
    return out


def _coloured(seq: ImageSequence, plane: tuple[str, str]) -> Pixels:
    values = np.asarray(_array(seq, plane)).astype(np.int64)
    out = np.zeros((*values.shape, 4), np.uint8)
    for value in np.unique(values[values != 0]).tolist():
        out[values == value] = np.round(np.asarray(lesion_colour(value)) * 255).astype(np.uint8)
    return out


def _over(picture: Pixels, labels: Pixels) -> Pixels:
    share = _LABEL_OPACITY * (labels[..., 3:] > 0)
    out = picture.copy()
    out[..., :3] = (picture[..., :3] * (1 - share) + labels[..., :3] * share).astype(np.uint8)
    return out
