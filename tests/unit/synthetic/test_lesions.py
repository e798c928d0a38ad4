"""Tumours: size, place, and what counts as tumour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_medseq.synthetic.anatomy import Head
from napari_medseq.synthetic.fields import Grid
from napari_medseq.synthetic.lesions import KINDS, Lesion, paint_lesion, random_lesion, room


@pytest.mark.parametrize("ml", [0.7, 2.0, 8.0])
@pytest.mark.parametrize("kind", ["solid", "ring"])
def test_a_lesion_is_scaled_to_the_given_volume(kind: str, ml: float) -> None:
    lesion = Lesion((5, 3, 1), kind=kind, rim_mm=5.0, seed=4).with_volume(ml)
    assert lesion.volume_ml(0.7) == pytest.approx(ml, rel=0.06)


def test_a_smooth_ball_has_the_volume_of_a_ball() -> None:
    lesion = Lesion((0, 0, 0), balls=((0, 0, 0, 10.0),), rough=0.0)
    assert lesion.volume_ml(0.5) == pytest.approx(4 / 3 * np.pi, rel=0.01)


def test_the_dark_core_is_no_tumour() -> None:
    lesion = Lesion((0, 0, 0), balls=((0, 0, 0, 12.0),), kind="ring", rim_mm=3.0, rough=0.0, core=0.5, enhancement=1.6)
    grid = Grid((5, 48, 48), (5.0, 1.0, 1.0), thin=1)
    signal, brain = np.ones((5, 48, 48), np.float32), np.ones((5, 48, 48), np.float32)
    where, enhancing = paint_lesion(signal, brain, grid, lesion)
    share = np.zeros_like(signal)
    share[where] = enhancing
    assert share[2, 24, 24] == 0
    assert signal[2, 24, 24] < 0.7
    assert signal[share > 0.9].mean() == pytest.approx(1.6, abs=0.12)
    assert not share[2, :8].any()


def test_nothing_of_a_cavity_is_tumour() -> None:
    lesion = Lesion((0, 0, 0), kind="cavity")
    assert lesion.volume_ml() == 0


def test_no_brain_no_tumour() -> None:
    grid = Grid((4, 32, 32), (5.0, 1.0, 1.0), thin=1)
    signal = np.ones((4, 32, 32), np.float32)
    _, enhancing = paint_lesion(signal, np.zeros_like(signal), grid, Lesion((0, 0, 0)))
    assert not enhancing.any()
    np.testing.assert_array_equal(signal, 1)


def test_far_outside_nothing_happens() -> None:
    grid = Grid((4, 16, 16), (5.0, 1.0, 1.0), thin=1)
    signal = np.ones((4, 16, 16), np.float32)
    _, enhancing = paint_lesion(signal, signal.copy(), grid, Lesion((500, 0, 0)))
    assert enhancing.size == 0
    np.testing.assert_array_equal(signal, 1)


def test_random_lesions_lie_in_the_brain_and_apart() -> None:
    rng = np.random.default_rng(0)
    head = Head(rng)
    placed: list[Any] = []
    for seed in range(4):
        lesion = random_lesion(rng, head, placed, seed, 1)
        if lesion is not None:
            assert lesion.kind in KINDS
            assert room(head, lesion.centre) > 0
            assert all(np.linalg.norm(np.subtract(lesion.centre, o.centre)) > lesion.reach + o.reach for o in placed)
            placed.append(lesion)
    assert len(placed) >= 2


def test_room_is_positive_in_the_brain_only() -> None:
    head = Head(np.random.default_rng(1))
    assert room(head, (20.0, 0.0, 30.0)) > 15
    assert room(head, (0.0, 0.0, 200.0)) < -50
    assert room(head, (0.0, -70.0, -60.0)) < 0  # the face
