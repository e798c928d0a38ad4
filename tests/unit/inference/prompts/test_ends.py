"""An object that is painted evenly ends about half a gap beyond; anything else says nothing of its ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_medseq.inference.prompts.ends import FALL, START, beyond_even_ends, ends_within

GAP = 4.0  # window pixels from step to step


def fall(steps: list[int], empty: tuple[int, ...] = (), gap: float = GAP, radius: int = 6, length: int = 40) -> Tensor:
    line = torch.arange(32) - 15.5
    disc = line[:, None] ** 2 + line**2 <= radius**2
    painted, annotated = torch.zeros(length, 32, 32, dtype=torch.bool), torch.zeros(length, dtype=torch.bool)
    painted[steps] = disc
    annotated[[*steps, *empty]] = True
    return beyond_even_ends(painted, annotated, gap)


def test_an_evenly_painted_object_falls_beyond_half_a_gap_on_both_sides() -> None:
    found = fall([10, 16, 22])
    assert not found[8:25].any()  # inside, and up to START of the gap of six
    assert torch.allclose(found[7], torch.tensor(FALL * (3 / 6 - START)), atol=1e-4)
    assert found[4] > 10 < found[28]
    assert torch.equal(found[:10].flip(0), found[23:33])


def test_an_object_of_few_slices_ends_although_most_of_them_are_painted() -> None:
    found = fall([10, 11, 12, 14, 15])
    assert found[8] > 10 < found[17]
    assert not fall([10, 11, 12, 13, 14]).any()  # neighbours tell nothing, however many


@pytest.mark.parametrize(
    "steps",
    [[20], [10, 30], [19, 20, 21], [10, 13, 22]],
    ids=["one slice", "two slices", "neighbours", "uneven"],
)
def test_nothing_falls_where_the_painted_steps_do_not_tell(steps: list[int]) -> None:
    assert not fall(steps).any()


def test_a_part_that_is_short_beside_its_width_does_not_tell() -> None:
    assert not fall([18, 20, 22], gap=1.0, radius=12).any()


def test_frames_have_no_ends_in_space() -> None:
    assert not fall([10, 16, 22], gap=0.0).any()


def test_an_empty_step_ends_the_object_on_its_side_only() -> None:
    found = fall([10, 16, 22], empty=(35,))
    assert not found[23:].any()
    assert found[4] > 10


def test_of_four_slices_a_step_of_rounding_is_even() -> None:
    assert fall([10, 12, 13, 15])[4] > 10
    assert not fall([10, 12, 13])[4]


def test_an_object_is_over_where_its_logits_fell_far_enough() -> None:
    annotated = torch.zeros(20, dtype=torch.bool)
    annotated[[8, 10, 12]] = True
    away = (torch.arange(20) - 10).abs() - 2
    fell = (away * 5.0).clamp_min(0)[:, None, None]  # 5 on the first step beyond, 10 on the second
    assert ends_within(fell, annotated, 1)
    assert not ends_within(fell, annotated, 0)
    assert not ends_within(torch.zeros(20, 1, 1), annotated, 15)  # not painted evenly: nothing is known of its ends
    assert ends_within(fell, annotated, 15)  # the sequence ends first
