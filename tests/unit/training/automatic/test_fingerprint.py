"""What a data set is like: how large the pieces of a class are, and on which side they lie."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_medseq.errors import MedseqWarning
from napari_medseq.geometry import Affine
from napari_medseq.sequence import ImageSequence
from napari_medseq.training.automatic.fingerprint import Fingerprint, Measuring, are_numbers
from napari_medseq.training.automatic.kind import Kind, KindMeasuring, sure_enough
from napari_medseq.training.automatic.plan import make_plan

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ball(shape: tuple[int, ...], middle: tuple[float, ...], radius: float, mm: tuple[float, ...]) -> NDArray[np.bool_]:
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    inside: NDArray[np.bool_] = (((grid - middle) * mm) ** 2).sum(-1) < radius**2
    return inside


def textured(mask: NDArray[np.generic]) -> NDArray[np.float32]:
    """An image of a mask without a border of one value."""
    return mask.astype(np.float32) + np.random.default_rng(0).uniform(0, 0.1, mask.shape).astype(np.float32)


def facts(*masks: NDArray[np.generic], affine: Affine = LPS, values: NDArray[np.float32] | None = None) -> Fingerprint:
    measuring = Measuring(["image"])
    for k, mask in enumerate(masks):
        axes = ("z", "y", "x")[-mask.ndim :]
        image = ImageSequence(textured(mask) if values is None else values, axes, affine, name="image")
        labels = image.labels_like(mask.astype(np.uint8), name="labels", label_names={})
        measuring.add(str(k), {"image": image}, labels)
    return measuring.result({1: "one"}, cases=len(masks), patients=len(masks))


@pytest.mark.parametrize("mm", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
def test_a_ball_is_its_diameter_across(mm: tuple[float, float, float]) -> None:
    mask = ball((41, 60, 60), (20, 30, 30), 14, mm)
    across = facts(mask, affine=np.diag([*mm[::-1], 1.0])).classes[1].across_mm
    assert across == pytest.approx(28, rel=0.08)


def test_the_intensities_of_an_image_without_labels_are_those_of_all_its_columns() -> None:
    # of 100 × 40 × 40 voxels every 40th lies in the first column
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32), (100, 40, 40))
    channel = facts(np.zeros(ramp.shape, bool), values=ramp).channels[0]
    assert channel.mean == pytest.approx(19.5, abs=0.5)


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
    image = ImageSequence(textured(mask), ("t", "y", "x"), affine, times=np.arange(0, 2.5, 0.5), name="cine")
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


def test_padding_changes_nothing_but_the_size_of_the_image() -> None:
    mask = ball((12, 30, 40), (6, 12, 15), 5, (1, 1, 1))
    values = textured(mask)
    plain = facts(mask, values=values)
    wide = [(3, 9), (0, 20), (7, 0)]
    moved = np.eye(4)
    moved[:3, 3] = LPS[:3, :3] @ (-7, 0, -3)
    padded = facts(np.pad(mask, wide), values=np.pad(values, wide, constant_values=-9), affine=LPS @ moved)
    assert padded == plain


def thick(axis: int, flip: bool) -> ImageSequence:
    """Five slices 8 mm apart across an axis of the body, with pixels of 1 mm; (x, y, z) of the body are (R, A, S)."""
    columns = np.eye(3)[[k for k in range(3) if k != axis] + [axis]] * np.array([[1], [1], [-8 if flip else 8]])
    affine = np.eye(4)
    affine[:3, :3] = columns.T
    values = np.random.default_rng(axis).normal(0, 1, (5, 24, 32)).astype(np.float32)
    return ImageSequence(values, ("z", "y", "x"), affine, name="image")


@pytest.mark.parametrize("mixed", [True, False])
def test_thick_slices_that_lie_in_different_directions_are_the_steps(mixed: bool) -> None:
    measuring = Measuring(["image"])
    for k in range(12):
        image = thick(k % 3 if mixed else 1, flip=k % 2 == 0)
        mask = np.zeros(image.data.shape, np.uint8)
        mask[1:4, 8:12, 20:28] = 1
        measuring.add(str(k), {"image": image}, image.labels_like(mask, name="labels", label_names={}))
    found = measuring.result({1: "one"}, cases=12, patients=12)
    plan = make_plan(found, seconds=60, bfloat16=False)
    assert (found.own_slices, plan.own_slices) == (mixed, mixed)
    assert plan.axis == ("z" if mixed else "y")
    assert plan.spacing_mm[0] is None
    assert plan.step_mm == 8
    if mixed:
        assert found.spacing_mm == pytest.approx((1, 1, 8))
        assert found.shape == (32, 24, 5)
        assert plan.mirrored == ()
        assert plan.augment.mirror == (0, 0, 0)


def test_doubts_follow_from_the_images_of_enough_patients() -> None:
    def kind(patients: int, **changes: object) -> Kind:
        measuring = KindMeasuring()
        for k in range(patients):
            measuring.add(str(k), thick(k % 3, flip=False).replace(**changes))
        return measuring.result

    few, enough = kind(9), kind(12)
    assert few.doubt(values=True, always_there=True) is None
    assert "too few patients to represent others: 9" in few.why(None)
    doubt = enough.doubt(values=True, always_there=True)
    assert doubt is not None
    assert doubt.field_mm == pytest.approx((32 / 1.3, 32 * 1.3), rel=1e-3)
    assert doubt.step_mm == pytest.approx((8 / 1.3, 8 * 1.3), rel=1e-3)
    seen = thick(0, flip=False)
    assert doubt.of_image(seen, "net") == []
    with pytest.warns(MedseqWarning, match="values go from"):
        assert len(doubt.of_image(seen.replace(data=seen.data * 50), "net")) == 1
    assert "each of them" in enough.why(doubt)
    without = enough.doubt(values=False, always_there=False)
    assert without is not None
    assert without.low is None
    nowhere = kind(12, oriented=False)
    assert nowhere.doubt(values=False, always_there=False) is None
    assert "is unknown" in nowhere.why(None)


def test_how_sure_an_answer_must_be_is_set_by_good_answers_on_enough_patients() -> None:
    good: dict[str, list[tuple[float, float]]] = {f"{k}": [(0.1 + k / 100, 0.8)] for k in range(5)}
    assert sure_enough(good) == pytest.approx(0.18)  # 1.25 times 0.14, rounded up
    assert sure_enough({k: good[k] for k in "0123"}) is None
    assert sure_enough({**good, "poor": [(3.0, 0.2)], "nothing": [(float("nan"), 0.0)]}) == sure_enough(good)
    assert sure_enough({**good, "4": [(3.0, 0.2)]}) is None
