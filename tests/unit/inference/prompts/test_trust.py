"""The interpolated shape counts where hidden painted slices show that it is needed, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_medseq.inference.prompts.trust import WEIGHTS, hidden_steps, shape_weight, with_shape
from napari_medseq.masks.interpolation import signed_distance

LINE = torch.arange(40) - 19.5


def disc(radius: float) -> Tensor:
    return (LINE[:, None] ** 2 + LINE**2 <= radius**2)[None]


@pytest.mark.parametrize(
    ("shown", "empty", "hidden"),
    [([2, 5, 8], [], [5]), ([1, 3, 5, 7, 9], [], [3, 7]), ([2, 8], [5], []), ([2, 8, 9], [0, 5], [8])],
    ids=["three", "five", "two and an empty one", "three and empty ones"],
)
def test_every_second_painted_step_between_the_outermost_is_hidden(
    shown: list[int], empty: list[int], hidden: list[int]
) -> None:
    painted, annotated = torch.zeros(12, 4, 4, dtype=torch.bool), torch.zeros(12, dtype=torch.bool)
    painted[shown] = True
    annotated[[*shown, *empty]] = True
    assert hidden_steps(painted, annotated) == hidden


def test_a_network_that_is_right_is_left_alone() -> None:
    right = torch.where(disc(10), 5.0, -5.0)
    assert shape_weight(right, signed_distance(disc(5)), disc(10), 0.02) == 0


def test_a_small_gain_is_none() -> None:
    nearly = torch.where(disc(9.7), 0.1, -0.1)
    shape = signed_distance(disc(10))
    assert shape_weight(nearly, shape, disc(10), 0.0) > 0
    assert shape_weight(nearly, shape, disc(10), 0.1) == 0


def test_a_network_that_sees_nothing_yields_to_the_shape() -> None:
    nothing, shape = torch.full((1, 40, 40), -3.0), signed_distance(disc(10))
    weight = shape_weight(nothing, shape, disc(10), 0.02)
    assert weight == WEIGHTS[-1]
    assert ((with_shape(nothing, shape, weight) > 0) == (shape > 3 / weight)).all()


def test_far_from_its_outline_the_shape_is_no_surer() -> None:
    distance = torch.tensor([-40.0, -8.0, 3.0, 40.0])
    assert with_shape(torch.ones(4), distance, 0.5).tolist() == [-3.0, -3.0, 2.5, 5.0]
