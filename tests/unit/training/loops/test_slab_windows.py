"""Windows of slab networks: what moves moves together, and what tells the place is not recoloured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.training.automatic.fingerprint import Measuring
from napari_medseq.training.automatic.plan import make_plan
from napari_medseq.training.loops.slab_windows import UNSEEN, SlabAugment, SlabCase, SlabWindows

NOTHING: dict[str, float] = {
    "rotate": 0, "tilt": 0, "zoom": 0, "stretch": 0, "elastic_mm": 0, "move": 0, "noise": 0, "gain": 0, "shift": 0, "gamma": 0,
    "blur": 0, "coarse": 0, "affine_share": 0,
}  # fmt: skip


def windows(augment: SlabAugment, *, placed: bool = False, channels: int = 2) -> SlabWindows:
    labels = torch.zeros(6, 12, 14, dtype=torch.uint8)
    labels[2:4, 4:8, 5:9] = 1
    image = torch.arange(channels * labels.numel()).reshape(channels, *labels.shape).half() / 100
    return SlabWindows(
        [SlabCase("a", "a", image, labels)], classes=2, size=(6, 12, 14), spacing=(3.0, 1.0, 1.0), augment=augment, seed=0, placed=placed
    )  # fmt: skip


def test_without_any_change_a_window_is_the_case() -> None:
    drawn = windows(SlabAugment(**NOTHING))
    x, y = drawn.draw(2)
    torch.testing.assert_close(x[1], drawn.cases[0].image.float(), atol=1e-2, rtol=1e-3)
    assert torch.equal(y[0, 1].round().byte(), drawn.cases[0].labels)


def test_of_many_classes_those_that_are_there_have_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = windows(SlabAugment(**NOTHING))
    drawn.cases[0].labels[0] = UNSEEN
    drawn.cases[0].labels[5, 0, 0] = 90
    drawn.classes, warped, planes = 100, drawn._warped, []

    def counted(x: torch.Tensor) -> torch.Tensor:
        planes.append(x.shape[1] - 2)
        return warped(x)

    monkeypatch.setattr(drawn, "_warped", counted)
    y = drawn.draw(1)[1]
    assert planes == [3]  # the background and two classes
    assert y.shape == (1, 100, 6, 12, 14)
    wanted = torch.nn.functional.one_hot(drawn.cases[0].labels.long(), 256).movedim(-1, 0)[:100]
    torch.testing.assert_close(y[0], wanted.float(), atol=1e-4, rtol=0)


def test_spots_of_a_class_lie_on_it() -> None:
    labels = torch.zeros(4, 6, 8, dtype=torch.uint8)
    labels[1:3, 2:5, 3], labels[3, 5, 7], labels[0] = 7, 9, UNSEEN
    case = SlabCase("a", "a", torch.zeros(1, 4, 6, 8).half(), labels)
    assert [sorted(map(tuple, s.tolist())) for s in case.spots] == [
        sorted(map(tuple, torch.nonzero(labels == v).tolist())) for v in (7, 9)
    ]


@pytest.mark.parametrize("change", ["shading", "of_step", "noise"])
def test_recolouring_leaves_the_channel_of_positions_alone(change: str) -> None:
    drawn = windows(SlabAugment(**{**NOTHING, change: 0.5}), placed=True)
    plain = windows(SlabAugment(**NOTHING), placed=True).draw(8)[0]
    x = drawn.draw(8)[0]
    torch.testing.assert_close(x[:, 1], plain[:, 1])
    assert not torch.allclose(x[:, 0], plain[:, 0], atol=1e-2)


def test_bright_and_dark_change_places_where_that_is_asked_for() -> None:
    drawn = windows(SlabAugment(**{**NOTHING, "invert": 1}), placed=True)
    plain = windows(SlabAugment(**NOTHING), placed=True).draw(2)[0]
    x = drawn.draw(2)[0]
    low, high = plain[:, 0].min(), plain[:, 0].max()
    torch.testing.assert_close(x[:, 0], low + high - plain[:, 0], atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(x[:, 1], plain[:, 1])


def test_each_step_has_its_own_gain() -> None:
    torch.manual_seed(0)
    drawn = windows(SlabAugment(**{**NOTHING, "of_step": 0.3}), channels=1)
    ratio = drawn.draw(1)[0][0, 0] - drawn.cases[0].image[0].float()
    of_step = ratio.std((1, 2)) / drawn.cases[0].image[0].float().std((1, 2))
    assert of_step.std() > 0.05


def test_the_fingerprint_tells_how_far_labels_reach_from_the_middle_whatever_the_orientation() -> None:
    truth = np.zeros((5, 11, 21), np.uint8)
    truth[2, 5, 10:15] = 1  # four voxels from the middle along x, to the far border of the voxel
    texture = np.random.default_rng(0).random(truth.shape, np.float32)  # no border of one value
    turned = np.array([[0, 2.0, 0, 0], [-3.0, 0, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 1]])  # x is patient's y, 3 mm
    for affine, axis, mm in ((np.diag([3.0, 2.0, 4.0, 1.0]), 0, 3.0), (turned, 1, 3.0)):
        image = ms.ImageSequence(texture + truth, ("z", "y", "x"), affine)
        measuring = Measuring(["image"])
        measuring.add("p", {"image": image}, image.labels_like(truth, name="labels", label_names={1: "one"}))
        found = measuring.result({1: "one"}, cases=1, patients=1)
        assert found.reach_mm is not None
        assert found.off_middle_mm is not None
        assert found.reach_mm[axis] == pytest.approx(4.5 * mm)
        assert found.off_middle_mm[axis] == pytest.approx(2 * mm)
        assert found.off_middle_mm[1 - axis] == 0


@pytest.mark.parametrize(("speck", "cases", "one"), [(False, 5, True), (True, 5, False), (False, 4, False)])
def test_the_fingerprint_tells_whether_a_class_is_one_piece(speck: bool, cases: int, one: bool) -> None:
    truth = np.zeros((6, 12, 12), np.uint8)
    truth[2, 3:6, 3:6] = truth[3, 6:8, 6:8] = 1  # slices that touch at a corner
    if speck:
        truth[0, 11, 11] = 1
    image = ms.ImageSequence(truth.astype(np.float32), ("z", "y", "x"), np.eye(4))
    measuring = Measuring(["image"])
    for _ in range(cases):  # fewer than five say nothing of all others
        measuring.add("p", {"image": image}, image.labels_like(truth, name="labels", label_names={1: "one"}))
    found = measuring.result({1: "one"}, cases=cases, patients=cases)
    assert found.one_piece is one
    plan = make_plan(found, seconds=60, bfloat16=True)
    assert plan.keep_largest is one
    assert "piece" in plan.reasons["keep_largest"]
