"""What a data set is like: how large the pieces of a class are, and on which side they lie."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_medseq.geometry import Affine
from napari_medseq.sequence import ImageSequence
from napari_medseq.training.fingerprint import Fingerprint, Measuring, are_numbers

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ball(shape: tuple[int, ...], middle: tuple[float, ...], radius: float, mm: tuple[float, ...]) -> NDArray[np.bool_]:
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    inside: NDArray[np.bool_] = (((grid - middle) * mm) ** 2).sum(-1) < radius**2
    return inside


def facts(*masks: NDArray[np.generic], affine: Affine = LPS, values: NDArray[np.float32] | None = None) -> Fingerprint:
    measuring = Measuring(["image"])
    for k, mask in enumerate(masks):
        axes = ("z", "y", "x")[-mask.ndim :]
        image = ImageSequence(mask.astype(np.float32) if values is None else values, axes, affine, name="image")
        labels = image.labels_like(mask.astype(np.uint8), name="labels", label_names={})
        measuring.add(str(k), {"image": image}, labels)
    return measuring.result({1: "one"}, cases=len(masks), patients=len(masks))


@pytest.mark.parametrize("mm", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
def test_a_ball_is_its_diameter_across(mm: tuple[float, float, float]) -> None:
    mask = ball((41, 60, 60), (20, 30, 30), 14, mm)
    across = facts(mask, affine=np.diag([*mm[::-1], 1.0])).classes[1].across_mm
    assert across == pytest.approx(28, rel=0.08)


def test_many_small_pieces_are_as_large_as_one_of_them() -> None:
    mask = np.zeros((40, 60, 60), bool)
    for z, y, x in np.ndindex(3, 4, 4):
        mask |= ball(mask.shape, (7 + 12 * z, 8 + 14 * y, 8 + 14 * x), 4, (1, 1, 1))
    one = facts(ball(mask.shape, (20, 30, 30), 4, (1, 1, 1)))
    assert facts(mask).classes[1].across_mm == pytest.approx(one.classes[1].across_mm)
    assert facts(mask).classes[1].median_mm3 > 20 * one.classes[1].median_mm3


def test_a_wall_is_not_as_large_as_the_ball_that_it_surrounds() -> None:
    wall = ball((60, 60, 60), (30, 30, 30), 25, (1, 1, 1)) & ~ball((60, 60, 60), (30, 30, 30), 22, (1, 1, 1))
    assert 3 < facts(wall).classes[1].across_mm < 10


def test_a_disc_in_a_picture_is_about_its_diameter_across() -> None:
    assert facts(ball((80, 80), (40, 40), 20, (1, 1))).classes[1].across_mm == pytest.approx(40, rel=0.08)


def test_frames_of_a_sagittal_plane_are_as_large_as_their_plane() -> None:
    mask = np.zeros((5, 12, 16), np.uint8)
    mask[:, 4:8, 4:8] = 1
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, -1.5, 0], [0, 0, -2.0], [-8, 0, 0]]).T  # to the back, downwards, to the left
    image = ImageSequence(mask.astype(np.float32), ("t", "y", "x"), affine, times=np.arange(0, 2.5, 0.5), name="cine")
    measuring = Measuring(["image"])
    measuring.add("a", {"image": image}, image.labels_like(mask, name="labels", label_names={}))
    found = measuring.result({1: "one"}, cases=1, patients=1)
    assert found.shape == (16, 12, 5)
    assert found.spacing_mm == pytest.approx((1.5, 2.0, 0.5))
    assert not found.left_right
    assert facts(ball((12, 30, 60), (6, 15, 15), 6, (1, 1, 1))).left_right


def test_a_class_that_always_lies_on_one_side_is_told_by_its_side() -> None:
    left, right = (ball((12, 30, 60), (6, 15, x), 6, (1, 1, 1)) for x in (15, 44))
    assert facts(*[left] * 4).one_sided[0]
    assert facts(*[left] * 4, affine=np.diag([1.0, -1.0, 1.0, 1.0])).one_sided[0]
    assert not facts(left, right, left, right).one_sided[0]
    assert not facts(*[left | right] * 4).one_sided[0]  # both of a pair
    middle = ball((12, 30, 60), (6, 15, 28), 6, (1, 1, 1))
    assert not facts(*[middle] * 4).one_sided[0]


@pytest.mark.parametrize("nothing", [-np.inf, np.nan, np.finfo(np.float32).min])
def test_values_that_mean_nothing_make_no_ct(nothing: float) -> None:
    values = np.full((4, 8, 8), 3, np.float32)
    values[0, 0, 0] = nothing
    assert facts(ball((4, 8, 8), (2, 4, 4), 3, (1, 1, 1)), values=values).channels[0].modality is None


def test_numbers_of_objects_are_told_from_classes() -> None:
    assert are_numbers([range(1, 12), range(1, 9), []])
    assert not are_numbers([range(1, 12), range(1, 12)])  # as many structures in each
    assert not are_numbers([[1, 2], [1]])
    assert not are_numbers([[1, 2, 3, 5, 6, 7, 8, 9], range(1, 4)])
