"""Converting the voxels of a label file to whole numbers in a type that viewers and files accept.

Masks come back from other programs with values such as 0.99998 (a scaled header), with NaN as background, or with a channel per
class; all of these are accepted as labels, each with a warning. A map of probabilities is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.unread import is_lazy

#: Values this close to whole numbers are whole: what a slope of float32 or a scaled 8-bit header loses is less.
NEARLY_WHOLE = 1e-3
#: Channels of a mask with a channel per class; more are frames.
_MOST_CLASSES = 64
#: Share of the voxels of classes that may be of several; frames of a moving organ overlap more.
_MOST_SHARED = 0.5
#: More values than this, some below −1, are those of an image.
_MANY_VALUES = 256


def as_labels(values: Any, notes: list[str] | None = None) -> tuple[Any, bool]:
    """`values` as whole numbers (lazy stays lazy), and whether they were whole numbers, or nearly.

    Parameters
    ----------
    values : numpy or dask array
    notes : list of str, optional
        Takes a line for values that were rounded, NaN that became 0, and values below zero.
    """
    notes = notes if notes is not None else []
    if values.dtype.kind == "b":
        return values.astype(np.uint8), True
    if values.dtype.kind not in "iuf":
        return values, False
    if values.dtype.kind in "iu":
        if values.dtype.kind == "i" and values.size and not is_lazy(values):
            _say_negative(float(values.min()), notes)
        return values, True
    usable = np.isfinite(values)
    undefined = np.isnan(values)
    rounded = np.rint(np.where(usable, values, 0.0))
    off = np.abs(np.where(usable, values, 0.0) - rounded).max(initial=0.0) if values.size else np.float64(0)
    infinite, blank, least, most, worst = _computed(
        (~(usable | undefined)).any(), undefined.any(), rounded.min(), rounded.max(), off
    )
    if bool(infinite) or float(worst) > NEARLY_WHOLE:
        return values, False
    types = (np.uint8, np.int16, np.uint16, np.int32, np.int64)
    dtype = next((t for t in types if np.iinfo(t).min <= least and most <= np.iinfo(t).max), None)
    if dtype is None:
        return values, False
    if blank:
        notes.append("Undefined values (NaN) in a mask are background.")
    if worst > 0:
        notes.append(f"Values of a mask lie up to {float(worst):.2g} off whole numbers; they were rounded.")
    _say_negative(float(least), notes)
    return rounded.astype(dtype), True


def _say_negative(least: float, notes: list[str]) -> None:
    if least < 0:
        notes.append(
            f"Values below zero (down to {least:g}) in a mask mean to ignore or outside; they are not lesions."
        )


def _computed(*values: Any) -> tuple[Any, ...]:
    """Numbers of lazy arrays, all in one pass; others as they are."""
    if not any(is_lazy(v) for v in values):
        return values
    dask: Any = import_module("dask")
    return tuple(dask.compute(*values))


def labels_or_image(
    values: Any, axes: Sequence[str], *, where: object, labels_asked: bool, notes: list[str], has_times: bool = False
) -> tuple[Any, tuple[str, ...], bool]:
    """The content of a file that is declared as labels: labels in whole numbers, or an image if they are not.

    Parameters
    ----------
    values : numpy or dask array
    axes : sequence of str
        Its axes; a ``t`` that is an axis of classes goes.
    where : path
        The file that messages name.
    labels_asked : bool
        Whether the caller said that it is labels (``kind="labels"``), rather than its name or header.
    notes : list of str
        Takes a line for every doubt.
    has_times : bool
        Whether the file says that ``t`` is time.

    Returns
    -------
    values, axes, is_labels

    Raises
    ------
    ReadError
        If labels were asked for and the values are not whole numbers.
    """
    labels, whole = as_labels(values, notes)
    if not whole:
        if labels_asked:
            raise ReadError(
                f"{where}: values are not whole numbers, so it cannot be opened as labels; threshold it first."
            )
        notes.append("The name says labels, but values are not whole numbers; opened as an image.")
        return values, tuple(axes), False
    if "t" in axes and "c" not in axes:
        merged = _from_classes(labels, axes.index("t"), has_times, notes)
        if merged is not None:
            labels, axes = merged, [a for a in axes if a != "t"]
    elif labels.dtype.kind == "i" and labels.dtype.itemsize > 1 and not is_lazy(labels):
        _doubt_values(labels, notes)
    return labels, tuple(axes), True


def _doubt_values(values: Any, notes: list[str]) -> None:
    """Say it where a mask's values look like an image's (saved under the wrong name)."""
    least = int(values.min()) if values.size else 0
    if least < -1:
        count = len(np.unique(np.asarray(values)))
        if count > _MANY_VALUES:
            notes.append(
                f"The name says labels, but the {count:,} different values, down to {least}, look like an image's; check the file."
            )


def _from_classes(values: Any, at: int, has_times: bool, notes: list[str]) -> NDArray[np.generic] | None:
    """One label image from a mask with a channel per class; None if the axis is time.

    Channels of 0 and 1 that share few voxels are classes. Where each voxel is of exactly one, channel 0 is the background
    if it is the largest or lies along the borders.
    """
    count = values.shape[at]
    if not 2 <= count <= _MOST_CLASSES or has_times:
        return None
    least, most = _computed(values.min(), values.max())
    if (least, most) != (0, 1):
        return None
    channels = np.moveaxis(np.asarray(values), at, 0).astype(bool)
    together = channels.sum(axis=0, dtype=np.int16)
    covered, shared = int((together > 0).sum()), int((together > 1).sum())
    if shared > _MOST_SHARED * covered or sum(bool(c.any()) for c in channels) < 2:
        return None
    background = covered == together.size and _is_background(channels[0], [int(c.sum()) for c in channels])
    dtype = np.uint8 if count < 255 else np.int16
    out = np.zeros(channels.shape[1:], dtype)
    for number, channel in enumerate(channels, start=0 if background else 1):
        if number or not background:
            out[channel] = number
    first = "channel 0 is the background" if background else "value 1 is channel 0"
    notes.append(f"The fourth axis of a mask holds {count} classes, not frames; they are one label image ({first}).")
    overlap = shared if not background else int((channels[1:].sum(axis=0) > 1).sum())
    if overlap:
        notes.append(f"{overlap:,} voxels are of several classes; they have the label of the last one.")
    return out


def _is_background(channel: NDArray[np.bool_], sizes: Sequence[int]) -> bool:
    if sizes[0] == max(sizes):
        return True
    border = np.zeros(channel.shape, bool)
    for axis, length in enumerate(channel.shape):
        if length > 2:
            border[(slice(None),) * axis + ([0, -1],)] = True
    return bool(channel[border].mean() > 0.5) if border.any() else False
