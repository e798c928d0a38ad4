"""Beyond the outermost painted slices the object is carried on from what was found there; what is painted stays as it is."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_medseq.inference.prompts.chain import carried_on, connected, is_long, steps_of_a_round

GAP = 2.0  # window pixels from step to step


def tube(first: int, last: int, radius: int = 5, length: int = 20) -> Tensor:
    line = torch.arange(24) - 11.5
    mask = torch.zeros(length, 24, 24, dtype=torch.bool)
    mask[first : last + 1] = line[:, None] ** 2 + line**2 <= radius**2
    return mask


def painted_at(mask: Tensor, steps: list[int]) -> tuple[Tensor, Tensor]:
    annotated = torch.zeros(len(mask), dtype=torch.bool)
    annotated[steps] = True
    return mask & annotated[:, None, None], annotated


def logits(mask: Tensor) -> Tensor:
    return torch.where(mask, 4.0, -4.0)


def test_the_answer_beyond_both_ends_becomes_what_is_painted() -> None:
    found, (painted, annotated) = tube(4, 15), painted_at(tube(9, 11), [9, 11])
    more = carried_on(logits(found), painted, annotated, beyond=2)
    assert more is not None
    assert more[1].nonzero()[:, 0].tolist() == [7, 9, 11, 13]
    assert torch.equal(more[0][[7, 13]], found[[7, 13]])
    assert torch.equal(more[0][[9, 11]], painted[[9, 11]])
    assert annotated.nonzero()[:, 0].tolist() == [9, 11]  # what was given is not changed


def test_a_round_goes_by_the_painted_radius_one_step_at_least() -> None:
    assert steps_of_a_round(tube(4, 15), GAP, reach=0.8) == 2  # radius 5, two pixels from step to step
    assert steps_of_a_round(tube(4, 15), GAP, reach=0.01) == 1


def test_the_object_goes_no_further_than_it_was_found() -> None:
    painted, annotated = painted_at(tube(10, 10), [10])
    assert carried_on(logits(tube(10, 10)), painted, annotated, beyond=1) is None


def test_the_ends_of_the_window_end_it() -> None:
    painted, annotated = painted_at(tube(0, 0), [0])
    annotated[19] = True  # complete, and empty
    assert carried_on(logits(tube(0, 0)), painted, annotated, beyond=1) is None


def test_a_region_that_touches_no_painted_slice_is_dropped() -> None:
    loose = tube(0, 0)
    loose[13, :3, :3] = True
    painted, annotated = painted_at(tube(10, 10), [10])
    found = logits(loose | tube(10, 10))
    assert carried_on(found, painted, annotated, beyond=3) is None
    kept = connected(found, painted, annotated) > 0
    assert not kept[13].any()
    assert torch.equal(kept[10], tube(10, 10)[10])


def test_a_vessel_is_long_and_an_organ_is_not() -> None:
    painted, annotated = painted_at(tube(30, 30, length=60), [30])
    assert is_long(logits(tube(10, 59, length=60)), painted, annotated, GAP)  # 29 steps of two pixels, a radius of five
    assert not is_long(logits(tube(27, 33, length=60)), painted, annotated, GAP)
    assert not is_long(logits(torch.zeros(60, 24, 24, dtype=torch.bool)), painted, annotated, GAP)
