"""A sequence volume by volume: each frame and each colour channel as one (z, y, x) array."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from napari_medseq.geometry import Volume
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import AXES, ImageSequence

#: axes that are not spatial; there is one volume at each position along them
_AROUND = ("t", "c")


def count_volumes(seq: ImageSequence) -> int:
    """Number of volumes of a sequence: frames times colour channels."""
    return seq.size("t") * seq.size("c")


def iter_volumes(
    seq: ImageSequence,
    *,
    message: str = "",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[Volume]:
    """Yield every volume of a sequence in memory, channel by channel within frame by frame.

    Yields
    ------
    ndarray, shape (z, y, x)
        A 2D image has z of length 1.

    Raises
    ------
    OperationCancelled
        As soon as `cancelled` returns True; it is called before each volume and after the last.
    """
    around = [a for a in _AROUND if a in seq.axes]
    places = np.ndindex(*(seq.size(a) for a in around))
    total = count_volumes(seq)
    for place in with_progress(places, total, message, progress if total > 1 else None, cancelled):
        at = dict(zip(around, place, strict=True))
        volume = np.asarray(seq.data[tuple(at.get(a, slice(None)) for a in seq.axes)])
        yield volume if "z" in seq.axes else volume[np.newaxis]


def map_volumes(
    seq: ImageSequence,
    work: Callable[[Volume], Volume],
    *,
    message: str = "",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    deep: bool | None = None,
) -> ImageSequence:
    """Apply ``work(volume)`` to every volume of a sequence, in the order of `iter_volumes`.

    Parameters
    ----------
    seq : ImageSequence
    work : callable
        (z, y, x) array → (z, y, x) array; all results must have the same shape.
    message : str
        What progress reports.
    deep : bool, optional
        Whether the result has an axis "z"; default: as the sequence.

    Returns
    -------
    ImageSequence
        Same affine (the caller replaces it if the grid changed), with the results stacked by the axes' names.
    """
    results = [work(v) for v in iter_volumes(seq, message=message, progress=progress, cancelled=cancelled)]
    around = [a for a in _AROUND if a in seq.axes]
    stack = np.stack(results).reshape(*(seq.size(a) for a in around), *results[0].shape)
    names = [*around, "z", "y", "x"]
    if not (("z" in seq.axes) if deep is None else deep):
        stack = stack[tuple(0 if name == "z" else slice(None) for name in names)]
        names.remove("z")
    axes = tuple(a for a in AXES if a in names)
    return seq.like(stack.transpose([names.index(a) for a in axes]), axes=axes)
