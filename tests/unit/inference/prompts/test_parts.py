"""Objects in parts: distant pieces and oblique stretches are objects of their own, and together they are the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.inference.prompts.objects import PromptedObject
from napari_medseq.inference.prompts.parts import distant_pieces, in_parts, masks_by_step
from napari_medseq.sequence import affine_from
from tests.unit.models.prompted import prompted_model

Mask = NDArray[np.bool_]
SQUARE = (2.0, 1.0, 1.0)


def disc(shape: tuple[int, int], row: float, column: float, radius: float) -> Mask:
    rows, columns = np.indices(shape)
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 < radius**2)


def whole(labels: Mask, steps: list[int]) -> PromptedObject:
    return PromptedObject(1, (), np.array(steps), np.any(labels[steps], axis=0), (0, len(labels)))


def pieces(painted: dict[int, Mask], spacing: tuple[float, float, float]) -> list[Mask]:
    labels = np.zeros((max(painted) + 1, *next(iter(painted.values())).shape), bool)
    for step, mask in painted.items():
        labels[step] = mask
    return distant_pieces(whole(labels, list(painted)), labels, spacing)


def pair(apart: int, small: float = 6) -> Mask:
    return disc((60, 120), 30, 20, 8) | disc((60, 120), 30, 28 + small + apart, small)


def test_two_kidneys_are_two_pieces() -> None:
    both = pair(apart=30)
    first, second = pieces({3: both, 7: both}, SQUARE)
    assert (first | second == both).all()
    assert not (first & second).any()
    assert first[30, 20]
    assert not second[30, 20]


def test_pieces_that_lie_near_stay_together() -> None:
    assert len(pieces({0: pair(apart=0)}, SQUARE)) == 1


def test_distances_are_millimetres() -> None:
    both = pair(apart=2)
    assert [len(pieces({0: both}, spacing)) for spacing in (SQUARE, (2.0, 4.0, 1.0))] == [2, 1]


def test_a_speck_goes_with_the_nearest_piece() -> None:
    both = pair(apart=30)
    both[30, 40] = True
    first, second = pieces({0: both}, SQUARE)
    assert first[30, 40]
    assert not second[30, 40]


def test_pieces_of_different_steps_may_be_one_object_that_moves() -> None:
    one, other = disc((60, 120), 30, 20, 8), disc((60, 120), 30, 90, 8)
    assert len(pieces({0: one, 5: other}, SQUARE)) == 1


def test_many_scattered_pieces_are_one_object() -> None:
    dots = np.zeros((100, 100), bool)
    dots[5::20, 5::20] = True
    assert len(pieces({0: dots}, SQUARE)) == 1


def oblique(steps: int = 40, travel: float = 120) -> Mask:
    return np.stack([disc((160, 160), 20 + travel * k / steps, 80, 5) for k in range(steps)])


def test_an_oblique_vessel_is_carried_in_stretches_that_cover_all_steps() -> None:
    vessel, steps = oblique(), [4, 16, 28, 36]
    labels = vessel & np.isin(np.arange(40), steps)[:, None, None]
    parts = in_parts([whole(labels, steps)], labels, SQUARE)
    assert [p.within for p in parts] == [(0, 17), (16, 29), (28, 40)]
    assert [p.steps.tolist() for p in parts] == [[4, 16], [16, 28], [28, 36]]
    for p in parts:
        assert (p.painted == labels[p.steps].any(0)).all()


def test_an_empty_step_between_counts_in_its_stretch() -> None:
    steps = [4, 10, 16, 28, 36, 38]
    labels = oblique() & np.isin(np.arange(40), [4, 16, 28, 36])[:, None, None]
    parts = in_parts([whole(labels, steps)], labels, SQUARE)
    assert [p.steps.tolist() for p in parts] == [[4, 10, 16], [16, 28], [28, 36, 38]]


def test_a_straight_or_twice_painted_object_is_one_part() -> None:
    straight = oblique(travel=10)
    for steps, drawn in (([4, 16, 36], straight), ([4, 36], oblique())):
        labels = drawn & np.isin(np.arange(40), steps)[:, None, None]
        (only,) = in_parts([whole(labels, steps)], labels, SQUARE)
        assert only.within == (0, 40)
        assert only.steps.tolist() == steps


@given(labels=arrays.arrays(bool, (6, 12, 12)), spacing=st.sampled_from([SQUARE, (0.0, 1.0, 1.0), (1.0, 3.0, 0.5)]))
def test_parts_are_the_whole(labels: Mask, spacing: tuple[float, float, float]) -> None:
    labels[2, 3, 4] = True
    steps = np.flatnonzero(labels.any((1, 2))).tolist()
    shown = np.zeros_like(labels)
    looked_for = np.zeros(len(labels), bool)
    for part in in_parts([whole(labels, steps)], labels, spacing):
        looked_for[slice(*part.within)] = True
        here = dict(masks_by_step(part, labels))
        assert here
        for step, mask in here.items():
            shown[step] |= mask
    assert (shown == labels).all()
    assert looked_for.all()


@pytest.mark.parametrize("course", ["pair", "oblique"])
def test_answers_in_parts_keep_what_is_painted_and_join(course: str, tmp_path: Path) -> None:
    truth = np.repeat(pair(apart=30)[None], 20, 0) if course == "pair" else oblique(20)
    steps = [2, 9, 16]
    image = ms.ImageSequence(truth * np.float32(3), ("z", "y", "x"), affine_from((1, 1, 2)), name="scan")
    drawn = image.labels_like(
        (truth & np.isin(np.arange(20), steps)[:, None, None]) * np.uint8(4), name="painted", label_names={4: "it"}
    )
    model = prompted_model(tmp_path / "m", parts=True)  # untrained: the interpolated shape
    answer = np.asarray(ms.propagate(image, drawn, model, axis="z", device="cpu").labels.data)
    assert (answer[steps] == np.asarray(drawn.data)[steps]).all()
    assert set(np.unique(answer)) == {0, 4}
    found, there = answer[2:17] > 0, truth[2:17]
    assert 2 * (found & there).sum() / (found.sum() + there.sum()) > 0.9
