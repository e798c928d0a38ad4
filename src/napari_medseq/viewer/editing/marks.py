"""Which voxels of a label layer a person painted, and how painting is kept when labels get other numbers.

Plain numpy: no viewer, no layer. `napari_medseq.viewer.editing.model` keeps one `Marks` per layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.uint8]
Voxels = NDArray[np.intp]
Mask = NDArray[np.bool_]
Values = NDArray[np.integer]

#: a person painted this voxel at some time: nothing changes it unless told to
PAINTED = np.uint8(1)
#: and what was painted there has not been followed, or saved with a result
PENDING = np.uint8(2)


class Marks:
    """Flags per voxel of one layer; they use no memory before something is painted.

    Parameters
    ----------
    shape : tuple of int
        Shape of the layer's data."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._flags: Flags | None = None
        self._count: int | None = 0

    @property
    def flags(self) -> Flags:
        """`PAINTED` and `PENDING` of every voxel, as bits; a view if something is painted."""
        return np.zeros(self.shape, np.uint8) if self._flags is None else self._flags

    @property
    def painted(self) -> Mask:
        """Where a person painted, bool."""
        return np.asarray((self.flags & PAINTED) != 0)

    @property
    def pending(self) -> Mask:
        """Where a person painted something that is not followed yet, bool."""
        return np.asarray((self.flags & PENDING) != 0)

    @property
    def any(self) -> bool:
        """Whether anything was painted."""
        return self._flags is not None

    @property
    def count(self) -> int:
        """Number of voxels painted and not yet followed."""
        if self._count is None:
            self._count = int(np.count_nonzero(self.pending))
        return self._count

    def at(self, voxels: Voxels) -> Flags:
        """The flags of voxels, given as flat indices."""
        if self._flags is None:
            return np.zeros(voxels.shape, np.uint8)
        return np.asarray(self._flags.reshape(-1)[voxels])

    def put(self, voxels: Voxels, flags: Flags | np.uint8) -> None:
        """Set the flags of voxels, given as flat indices."""
        if not len(voxels):
            return
        if self._flags is None:
            self._flags = np.zeros(self.shape, np.uint8)
        self._flags.reshape(-1)[voxels] = flags
        self._count = None

    def replace(self, flags: Flags) -> None:
        """Set all flags."""
        self._flags = np.array(flags, np.uint8) if flags.any() else None
        self._count = None if self._flags is not None else 0


def read_at(data: Any, voxels: Voxels) -> Values:
    """The values of voxels, given as flat indices, of an array or of what is like one (dask, zarr)."""
    index = np.unravel_index(voxels, data.shape)
    if isinstance(data, np.ndarray):
        return np.asarray(data[index])
    box, inside = _box(index)
    return np.asarray(np.asarray(data[box])[inside])


def write_at(data: Any, voxels: Voxels, values: Values) -> None:
    """Give voxels, as flat indices, other values, in an array or in what is like one (dask, zarr)."""
    index = np.unravel_index(voxels, data.shape)
    if isinstance(data, np.ndarray):
        data[index] = values
    elif len(voxels):
        box, inside = _box(index)
        part = np.array(data[box])
        part[inside] = values
        data[box] = part


def _box(index: tuple[Voxels, ...]) -> tuple[tuple[slice, ...], tuple[Voxels, ...]]:
    """The smallest box around voxels, because arrays on disk take slices only, and their indices in it."""
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in index)
    return box, tuple(i - s.start for i, s in zip(index, box, strict=True))


class Carried(NamedTuple):
    """New labels with a person's painting on them.

    Attributes
    ----------
    data : ndarray
        The labels to show.
    kept : ndarray of bool
        Where painting was kept.
    dropped : dict of int to int
        Value → number of painted voxels that were dropped, because its object is no longer among the new labels.
    """

    data: Values
    kept: Mask
    dropped: dict[int, int]


def carry(shown: Values, painted: Mask, before: Values | None, after: Values) -> Carried:
    """Apply painting to labels that were computed again, under the numbers that its lesions have now.

    Parameters
    ----------
    shown : ndarray of int
        The labels on the screen, including what is painted.
    painted : ndarray of bool
        Where voxels were painted since `before`.
    before : ndarray of int or None
        The labels that were painted on, whose numbers the painting uses; None: the numbers mean the same afterwards.
    after : ndarray of int
        The new labels, of the same shape.

    Returns
    -------
    Carried
        Each painted value becomes the number that most voxels of its lesion have now; what was erased stays erased. A value that
        `before` does not know is new: it keeps its number, or gets a free one where `after` uses that for something else. Voxels
        of a lesion that is gone from `after` (excluded) go with it and are counted as dropped.
    """
    data = np.array(after)
    kept_mask = np.array(painted)
    dropped: dict[int, int] = {}
    values = [int(v) for v in np.unique(shown[painted])] if painted.any() else []
    used = {int(v) for v in np.unique(after)} | {int(v) for v in np.unique(shown)} if values else set()
    for value in values:
        covered = painted & (shown == value)
        if value == 0:
            data[covered] = 0
            continue
        target = _heir(value, before, after, used)
        if target is None:
            dropped[value] = int(covered.sum())
            kept_mask &= ~covered
            continue
        if target > np.iinfo(data.dtype).max:
            data = data.astype(np.uint32)
        used.add(target)
        data[covered] = target
    return Carried(data, kept_mask, dropped)


def _heir(value: int, before: Values | None, after: Values, used: set[int]) -> int | None:
    """The number that a painted value has among the new labels; None if its lesion is gone."""
    if before is None:
        return value
    old_mask = before == value
    if not old_mask.any():
        return value if not (after == value).any() else max(used) + 1
    now, counts = np.unique(after[old_mask], return_counts=True)
    counts = counts[now != 0]
    now = now[now != 0]
    return int(now[counts.argmax()]) if len(now) else None
