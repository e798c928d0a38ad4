"""Voxels that still lie in their file: indexed and turned at no cost, and a dask array for all that is more than that.

Loading dask takes longer than reading a series of 500 slices (benchmarks/readers.py), so an image that is opened lazily
does without it until more than one slice or frame is asked for, or anything that only a dask array can do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from types import EllipsisType
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from dask.array import Array

Block: TypeAlias = NDArray[np.generic]
Basic: TypeAlias = "int | np.integer | slice | EllipsisType | None"
Index: TypeAlias = "Basic | tuple[Basic, ...] | Block | Sequence[int]"


class Source(Protocol):
    """A source of voxels that is sliced with integers and slices, one per axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[int | slice, ...], /) -> Block: ...


class UnreadVoxels(NDArrayOperatorsMixin):
    """Voxels of a source that are read only where and when they are used.

    Indexing with whole numbers, slices, an ellipsis or new axes, and turning, give unread voxels again. One step (a slice
    or a frame) is read straight from the source. All else — several steps, which dask reads in its threads, arithmetic,
    numpy's and dask's functions, other methods and attributes — is done by the dask array that this stands for.

    Parameters
    ----------
    source : Source
    dtype : numpy.dtype
        Type of the voxels.
    together : int
        So many last axes of the source are read together: a step.
    picks : tuple of int or range, optional
        What of each axis of the source is taken; everything if not given.
    order : tuple of int or range, optional
        The source's axis that each axis is, or what is left of a new one.
    functions : tuple of callable, optional
        Voxelwise; what is done to a block that was read, such as scaling, in this order.
    """

    def __init__(
        self,
        source: Source,
        dtype: np.dtype[np.generic],
        together: int = 2,
        *,
        picks: tuple[int | range, ...] | None = None,
        order: tuple[int | range, ...] | None = None,
        functions: tuple[Callable[[Block], Block], ...] = (),
    ) -> None:
        self.dtype = dtype
        self._source, self._together, self._functions = source, together, functions
        self._picks: tuple[int | range, ...] = tuple(range(n) for n in source.shape) if picks is None else picks
        self._order: tuple[int | range, ...] = tuple(range(len(source.shape))) if order is None else order

    def __reduce__(self) -> tuple[Callable[..., UnreadVoxels], tuple[object, ...]]:
        return _restored, (self._source, self.dtype, self._together, self._picks, self._order, self._functions)

    def _with(
        self,
        *,
        picks: tuple[int | range, ...] | None = None,
        order: tuple[int | range, ...] | None = None,
    ) -> UnreadVoxels:
        return UnreadVoxels(
            self._source,
            self.dtype,
            self._together,
            picks=self._picks if picks is None else picks,
            order=self._order if order is None else order,
            functions=self._functions,
        )

    # -- what an array has -----------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(len(self._range(axis)) for axis in self._order)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._order)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the voxels take once they are read."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self._order:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<UnreadVoxels {self.shape} {self.dtype}>"

    # -- what is done without reading ------------------------------------------------------------------------------
    def __getitem__(self, index: Index) -> UnreadVoxels | Array:
        keys = index if isinstance(index, tuple) else (index,)
        basic = [k for k in keys if _is_basic(k)]
        if len(basic) < len(keys) or basic.count(Ellipsis) > 1:
            chosen: Array = self._dask_array[index]
            return chosen
        picks, order = list(self._picks), list[int | range]()
        axes = iter(self._order)
        for key in self._complete(basic):
            if key is None:
                order.append(range(1))
                continue
            axis = next(axes)
            picked = self._range(axis)[key]
            if isinstance(axis, int):
                picks[axis] = picked
            if isinstance(picked, range):
                order.append(axis if isinstance(axis, int) else picked)
        return self._with(picks=tuple(picks), order=tuple(order))

    def _complete(self, keys: list[Basic]) -> list[int | slice | None]:
        """Keys, one per axis and None per new one: an ellipsis, or the end, stands for all axes that are not named."""
        named = sum(k is not None and k is not Ellipsis for k in keys)
        if named > self.ndim:
            raise IndexError(f"too many indices: {named} for {self.ndim} axes")
        at = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
        filled = [*keys[:at], *[slice(None)] * (self.ndim - named), *keys[at + 1 :]]
        return [k if k is None or isinstance(k, slice) else int(k) for k in filled if not isinstance(k, EllipsisType)]

    def _range(self, axis: int | range) -> range:
        picked = self._picks[axis] if isinstance(axis, int) else axis
        assert isinstance(picked, range)  # axes of a single number are not in the order
        return picked

    def transpose(self, *axes: int | Sequence[int] | None) -> UnreadVoxels:
        """The axes in another order; reversed if none is given."""
        order_given = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        axes_wanted = [int(a) % self.ndim for a in order_given] if order_given else list(range(self.ndim))[::-1]  # type: ignore[arg-type]
        if sorted(axes_wanted) != list(range(self.ndim)):
            raise ValueError(f"axes {axes_wanted} are not an order of {self.ndim} axes")
        return self._with(order=tuple(self._order[a] for a in axes_wanted))

    def mapped(self, function: Callable[[Block], Block], dtype: np.dtype[np.generic]) -> UnreadVoxels:
        """The same voxels with a voxelwise function applied to what is read; `dtype` is what it gives."""
        functions = (*self._functions, function)
        return UnreadVoxels(
            self._source, dtype, self._together, picks=self._picks, order=self._order, functions=functions
        )

    # -- reading ---------------------------------------------------------------------------------------------------
    @property
    def _steps(self) -> int:
        """Number of separate parts of the source that are read."""
        apart = self._picks[: len(self._picks) - self._together]
        return math.prod(len(p) for p in apart if isinstance(p, range))

    @property
    def is_one_step(self) -> bool:
        """Whether it is read straight from the source, at no more cost than its own bytes."""
        return self._steps <= 1

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Block:
        if copy is False:
            raise ValueError("voxels that are still to be read cannot be an array without a copy")
        block = self._read() if self.is_one_step else np.asarray(self._dask_array)
        return block if dtype is None else block.astype(dtype, copy=False)

    @property
    def _index(self) -> tuple[int | slice, ...]:
        """The part that is taken from the source, as an index."""
        return tuple(p if isinstance(p, int) else _slice(p) for p in self._picks)

    def _read(self) -> Block:
        block = np.asarray(self._source[self._index])
        for function in self._functions:
            block = function(block)
        return self._turned(block)

    def _turned(self, block: Block) -> Block:
        """A block of the source, cut but with its own axes, with ours."""
        ranges = [axis for axis, pick in enumerate(self._picks) if isinstance(pick, range)]
        block = block.transpose([ranges.index(axis) for axis in self._order if isinstance(axis, int)])
        new: list[Basic] = [slice(None) if isinstance(axis, int) else np.newaxis for axis in self._order]
        cut: list[Basic] = [slice(len(self._range(axis))) for axis in self._order]
        return block[(*new, ...)][(*cut, ...)]

    def compute(self, **options: str | int | bool) -> Block:
        """The voxels as numpy; options are those of dask's ``compute``."""
        if options:
            computed: Block = self._dask_array.compute(**options)
            return computed
        return np.asarray(self)

    # -- what dask does --------------------------------------------------------------------------------------------
    @cached_property
    def _dask_array(self) -> Array:
        import dask.array as da

        whole = self._source.shape
        first = len(whole) - self._together
        stored = getattr(self._source, "dtype", self.dtype)
        meta = np.empty((0,) * len(whole), stored)
        array = da.from_array(
            self._source, chunks=(1,) * first + whole[first:], name=False, meta=meta, asarray=False
        )  # fmt: skip
        array = array[self._index]
        for function in self._functions:
            array = array.map_blocks(function, dtype=self.dtype)
        return cast("Array", self._turned(array))

    def to_dask_array(self) -> Array:
        """The dask array that this stands for; always the same."""
        return self._dask_array

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and not name.startswith("__dask_"):  # protocols that are tried, not asked for
            raise AttributeError(name)
        return getattr(self._dask_array, name)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **options: object) -> object:
        out = options.get("out")
        if isinstance(out, tuple) and any(isinstance(one, UnreadVoxels) for one in out):
            del options["out"]  # x += 1 gives another array
        return getattr(ufunc, method)(*(_as_dask(one) for one in inputs), **options)

    def __array_function__(
        self,
        function: Callable[..., object],
        types: Sequence[type],
        inputs: Sequence[object],
        options: dict[str, object],
    ) -> object:
        return function(*(_as_dask(one) for one in inputs), **{k: _as_dask(one) for k, one in options.items()})


def _restored(
    source: Source,
    dtype: np.dtype[np.generic],
    together: int,
    picks: tuple[int | range, ...],
    order: tuple[int | range, ...],
    functions: tuple[Callable[[Block], Block], ...],
) -> UnreadVoxels:
    return UnreadVoxels(source, dtype, together, picks=picks, order=order, functions=functions)


def _is_basic(key: object) -> bool:
    return key is None or (isinstance(key, (int, np.integer, slice, EllipsisType)) and not isinstance(key, bool))


def _slice(steps: range) -> slice:
    """The slice that gives what a range holds."""
    if not steps:
        return slice(0, 0)
    return slice(steps.start, steps.stop if steps.stop >= 0 else None, steps.step)


def _as_dask(value: object) -> object:
    """The dask array for unread voxels, in lists and tuples too; anything else as it is."""
    if isinstance(value, UnreadVoxels):
        return value.to_dask_array()
    if type(value) in (list, tuple):
        return type(value)(_as_dask(one) for one in value)  # type: ignore[call-arg, attr-defined]
    return value


def is_lazy(values: object) -> bool:
    """Whether voxels are still to be read or computed: ours, or a dask array."""
    return isinstance(values, UnreadVoxels) or hasattr(values, "dask")
