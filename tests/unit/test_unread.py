"""Voxels that still lie in their file, beside numpy indexed in the same way, and where dask takes over."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from numpy.typing import NDArray

from napari_medseq.unread import Index, UnreadVoxels, is_lazy
from tests.narrowing import function
from tests.unit.io import dicoms

VALUES = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)


class Counted:
    """An array that remembers what was asked of it."""

    def __init__(self, values: NDArray[np.generic]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.asked: list[tuple[int | slice, ...]] = []

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.generic]:
        self.asked.append(index)
        return np.array(self.values[index])


def unread() -> UnreadVoxels:
    return UnreadVoxels(Counted(VALUES), VALUES.dtype)


def plus_half(block: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(block, np.float32) + np.float32(0.5)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_indexed_and_turned_it_is_what_numpy_gives(data: st.DataObject) -> None:
    ours, theirs = unread(), VALUES
    for _ in range(data.draw(st.integers(1, 3))):
        if theirs.ndim and data.draw(st.booleans()):
            axes = data.draw(st.permutations(range(theirs.ndim)))
            ours, theirs = ours.transpose(axes), theirs.transpose(axes)
        index = data.draw(basic_indices(theirs.shape, allow_newaxis=True, allow_ellipsis=True))
        taken, theirs = ours[index], theirs[index]
        assert taken.shape == np.shape(theirs)
        assert taken.ndim == np.ndim(theirs)
        assert np.array_equal(np.asarray(taken), theirs)
        if type(taken) is not UnreadVoxels:
            return
        ours = taken
    assert ours.nbytes == np.asarray(theirs).nbytes
    assert np.array_equal(ours.to_dask_array().compute(), theirs)


@pytest.mark.parametrize("index", [9, (0, 0, 0, 0, 0), (slice(None), -4)])
def test_an_index_out_of_range_is_an_index_error(index: Index) -> None:
    with pytest.raises(IndexError):
        unread()[index]


def test_nothing_is_read_until_it_is_looked_at_and_then_only_the_step() -> None:
    source = Counted(VALUES)
    step = UnreadVoxels(source, VALUES.dtype)[1].transpose(1, 0, 2)[:, 2, ::-1]
    assert source.asked == []
    assert np.array_equal(np.asarray(step), VALUES[1, 2, :, ::-1])
    assert source.asked == [(1, 2, slice(0, 4, 1), slice(4, None, -1))]


def test_a_function_is_done_to_every_block() -> None:
    half = unread().mapped(plus_half, np.dtype(np.float32)).mapped(np.negative, np.dtype(np.float32))
    assert half.dtype == half.to_dask_array().dtype == np.float32
    assert np.array_equal(np.asarray(half[0, 1]), -(VALUES[0, 1] + 0.5))
    assert np.array_equal(np.asarray(half), -(VALUES + 0.5))


def test_arithmetic_numpy_and_dask_take_it_for_a_dask_array() -> None:
    ours, theirs = unread(), da.from_array(VALUES, chunks=(1, 1, 4, 5))
    assert is_lazy(ours)
    for made, wanted in (
        (ours + 1, VALUES + 1), (1 - ours, 1 - VALUES), (ours + theirs, 2 * VALUES), (theirs + ours, 2 * VALUES),
        (np.stack([ours[0], ours[1]]), VALUES), (da.stack([ours[0], ours[1]]), VALUES), (np.rint(ours), VALUES),
        (da.concatenate([theirs, ours]), np.concatenate([VALUES, VALUES])), (function(ours.mean)(axis=0), VALUES.mean(axis=0)),
        (ours[VALUES > 7], VALUES[VALUES > 7]), (ours[[1, 0]], VALUES[[1, 0]]), (function(ours.rechunk)(-1), VALUES),
        (da.from_array(VALUES)[0] * ours[0], VALUES[0] * VALUES[0]),
    ):  # fmt: skip
        assert isinstance(made, da.Array)
        assert np.array_equal(made.compute(), wanted)
    (computed,) = dask.compute(ours)
    assert np.array_equal(computed, VALUES)
    assert np.array_equal(ours.compute(scheduler="synchronous"), VALUES)
    ours += 1
    assert np.array_equal(ours.compute(), VALUES + 1)


def test_it_travels_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(unread().mapped(plus_half, np.dtype(np.float32))[:, 1]))
    assert np.array_equal(np.asarray(sent), VALUES[:, 1] + 0.5)


def test_there_is_no_array_without_a_copy() -> None:
    with pytest.raises(ValueError, match="copy"):
        np.asarray(unread(), copy=False)
    assert np.asarray(unread()[0, 0], np.float64).dtype == np.float64


def test_the_first_slice_of_a_series_needs_no_dask(tmp_path: Path) -> None:
    dicoms.series(tmp_path, [(0, 0, 2.0 * k) for k in range(5)])
    code = (
        "import json, sys\nimport numpy as np, napari_medseq as ms\n(seq,) = ms.read(sys.argv[1], lazy=True)\n"
        "first = np.asarray(seq.data[2]).sum(), seq.frame(0) if 't' in seq.axes else seq.data[2].compute().sum()\n"
        "before = 'dask' in sys.modules\nprint(json.dumps([before, int(first[0]), int(seq.data[2].sum())]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    before, first, by_dask = json.loads(done.stdout)
    assert not before
    assert first == by_dask
