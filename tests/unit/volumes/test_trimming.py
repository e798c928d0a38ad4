"""Padding is found whatever its value, further padding changes nothing, and what is labelled within it comes back to its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.trimming import inner_box, placed_back, trimmed

PADS = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 3)


def scan(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ImageSequence:
    return ImageSequence(values, ("z", "y", "x"), affine_from((1.0, 2.0, 3.0), (5, 6, 7)))


@given(pads=PADS, more=PADS, value=st.sampled_from([0.0, -1024.0, np.nan, np.inf, 1e9]))
@settings(deadline=None, max_examples=40)
def test_padding_is_found_and_what_is_within_comes_back(
    pads: tuple[tuple[int, int], ...], more: tuple[tuple[int, int], ...], value: float
) -> None:
    inner = np.random.default_rng(0).normal(size=(3, 4, 5))
    twice = np.pad(np.pad(inner, pads, constant_values=value), more, constant_values=0.0)
    seq = scan(twice)
    part = trimmed(seq)
    assert np.array_equal(part.data, inner)
    assert inner_box(part) == {"z": (0, 3), "y": (0, 4), "x": (0, 5)}
    corner = [p[0] + m[0] for p, m in zip(pads, more, strict=True)]
    assert np.allclose(seq.affine @ [corner[2], corner[1], corner[0], 1], part.affine[:, 3])
    back = placed_back(np.asarray(part.data), part, seq)
    expected = np.zeros(twice.shape)
    expected[tuple(slice(c, c + n) for c, n in zip(corner, inner.shape, strict=True))] = inner
    assert np.array_equal(back, expected)


def test_an_image_without_padding_and_one_of_nothing_else_stay_whole() -> None:
    seq = scan(np.arange(24).reshape(2, 3, 4))
    assert trimmed(seq) is seq
    flat = scan(np.full((2, 3, 4), 7))
    assert trimmed(flat) is flat
    padded = scan(np.pad(np.arange(24).reshape(2, 3, 4), 1))
    assert inner_box(padded, without="z") == {"z": (0, 4), "y": (1, 4), "x": (1, 5)}
    broken = np.pad(np.arange(24.0).reshape(2, 3, 4), 1)
    broken[0, 0, :3] = np.inf, -np.inf, np.nan
    assert inner_box(scan(broken)) == {"z": (1, 3), "y": (1, 4), "x": (1, 5)}
    assert inner_box(scan(np.full((2, 3, 4), np.nan))) == {"z": (0, 2), "y": (0, 3), "x": (0, 4)}


@pytest.mark.parametrize("axes", [("t", "y", "x"), ("z", "y", "x", "c"), ("y", "x")])
def test_frames_colours_and_pictures(axes: tuple[str, ...]) -> None:
    shape = {"t": 2, "z": 4, "y": 6, "x": 5, "c": 3}
    values = np.zeros([shape[a] for a in axes], np.uint8)
    inner = tuple(slice(1, 4) if a in ("y", "x") else slice(1, 2) if a == "z" else slice(None) for a in axes)
    values[inner] = np.random.default_rng(0).integers(1, 9, values[inner].shape)
    found = inner_box(ImageSequence(values, axes, np.eye(4)))
    assert found == {a: (1, 2) if a == "z" else (1, 4) for a in axes if a in ("z", "y", "x")}
