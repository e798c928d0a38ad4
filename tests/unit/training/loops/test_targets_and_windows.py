"""What windows are drawn, what their targets are, and what losses make of labels: against torch, MONAI and plain sums."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import TverskyLoss
from torch.nn import functional

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.models import networks
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.training.cases import Case
from napari_medseq.training.config import TrainConfig
from napari_medseq.training.loops.augment import AugmentSettings
from napari_medseq.training.loops.losses import LossSettings, WithExtraInputs, classification_loss, voxel_loss
from napari_medseq.training.loops.transforms import INTENSITY, SPATIAL, Extra, build
from napari_medseq.training.tasks import TASKS
from tests.narrowing import of
from tests.unit.training.lessons import STILL, case, windows


# -- losses ----------------------------------------------------------------------------------------------------------
def sample(seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, classes, 6, 5, generator=g), torch.randint(0, classes, (2, 6, 5), generator=g)


SETTINGS = st.builds(
    LossSettings,
    region=st.sampled_from(["dice", "tversky"]),
    voxel=st.sampled_from(["cross_entropy", "focal", "none"]),
    hard_share=st.sampled_from([1.0, 0.5, 0.1]),
)


@settings(max_examples=25, deadline=None)
@given(s=SETTINGS, seed=st.integers(0, 50), weighted=st.booleans(), share=st.floats(0, 1))
def test_unlabelled_voxels_have_no_gradient_and_no_influence(
    s: LossSettings, seed: int, weighted: bool, share: float
) -> None:
    logits, labels = sample(seed)
    blank = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < share
    labels[blank] = -1
    weights = torch.tensor([0.2, 1.0, 3.0]) if weighted else None
    logits.requires_grad_(True)
    loss = voxel_loss(logits, labels, s, weights)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad.movedim(1, -1)[blank] == 0).all()
    other = torch.where(blank[:, None], torch.randn_like(logits) * 9, logits.detach())
    assert torch.isclose(voxel_loss(other, labels, s, weights), loss.detach(), atol=1e-6)


def test_tversky_equals_monai_and_weighs_what_is_missed() -> None:
    logits, labels = sample()
    s = LossSettings(region="tversky", voxel="none", false_positives=0.2, false_negatives=0.8)
    monai = TverskyLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        alpha=0.2,
        beta=0.8,
        batch=True,
        smooth_nr=1,
        smooth_dr=1,
    )
    assert torch.isclose(voxel_loss(logits, labels, s), monai(logits, labels[:, None]))
    truth = torch.zeros(1, 6, 5, dtype=torch.long)
    truth[:, 2:4] = 1
    hot = functional.one_hot(truth, 2).movedim(-1, 1) * 20.0
    missed, added = hot.clone(), hot.clone()
    missed[:, :, 2] = hot[:, :, 0]
    added[:, :, 1] = hot[:, :, 2]
    assert voxel_loss(missed, truth, s) > voxel_loss(added, truth, s)


def test_focal_equals_its_formula_and_gamma_zero_is_cross_entropy() -> None:
    logits, labels = sample()
    ce = functional.cross_entropy(logits, labels, reduction="none")
    focal = ((1 - (-ce).exp()) ** 2 * ce).mean()
    assert torch.isclose(voxel_loss(logits, labels, LossSettings(region="none", voxel="focal")), focal, atol=1e-6)
    zero = LossSettings(region="none", voxel="focal", gamma=0)
    assert torch.isclose(voxel_loss(logits, labels, zero), ce.mean(), atol=1e-6)


def test_class_weights_equal_torch() -> None:
    (logits, labels), weights = sample(), torch.tensor([0.1, 1.0, 5.0])
    labels[0, 0] = -1
    expected = functional.cross_entropy(logits, labels, weight=weights, ignore_index=-1)
    assert torch.isclose(voxel_loss(logits, labels, LossSettings(region="none"), weights), expected)


def test_hard_voxels_alone_are_averaged() -> None:
    logits, labels = sample()
    labels[0, :2] = -1
    each = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="none").flatten()
    hardest = each.sort(descending=True).values[:10]  # 50 of 60 voxels are labelled, a fifth of them counts
    found = voxel_loss(logits, labels, LossSettings(region="none", hard_share=0.2))
    assert torch.isclose(found, hardest.mean(), atol=1e-6)


def test_classes_of_a_classifier_are_separate_questions() -> None:
    network = networks.build(
        {"_target_": "SequenceClassifier", "widths": [8, 8], "hidden": 4, "classes": 2, "neighbours": 0}
    )
    network.eval()
    x = torch.randn(1, 3, 1, 16, 16)
    y = torch.zeros(1, 3, 16, 16, dtype=torch.long)
    y[0, 1, :4, :4] = 2
    steps = network(x).steps[0]
    truth = torch.tensor([[0.0, 0], [0, 1], [0, 0]])
    expected = functional.binary_cross_entropy_with_logits(steps, truth)
    without = [_without_steps(network, x, y, k) for k in (0, 1)]
    assert torch.isclose(classification_loss(network, x, y), expected + sum(without) / 2, atol=1e-5)
    y[0, 2] = -1  # nobody looked at the last step: what is said of it does not count
    blank = classification_loss(network, x, y)
    blank.backward()
    assert torch.isfinite(blank)


def _without_steps(network: Any, x: torch.Tensor, y: torch.Tensor, k: int) -> torch.Tensor:
    """The exam's and the map's part of the loss, written out."""
    out, there = network(x), (y == k + 1).float()
    exam = functional.binary_cross_entropy_with_logits(out.exam[:, k], there.flatten(1).amax(1))
    evidence = out.evidence[0, :, k]
    cells = functional.max_pool2d(there[0], 16 // evidence.shape[-1])
    where = functional.binary_cross_entropy_with_logits(evidence, cells, pos_weight=torch.tensor(10.0))
    total: torch.Tensor = 0.5 * exam + where
    return total


def test_answers_per_exam_teach_the_exam_and_at_half_the_weight_each_step_that_is_there() -> None:
    network = networks.build(
        {"_target_": "SequenceClassifier", "widths": [8, 8], "hidden": 4, "classes": 2, "neighbours": 0}
    )
    network.eval()
    x = torch.randn(2, 3, 1, 16, 16)
    y = torch.tensor([[1.0, 0.0], [0.0, float("nan")]])
    present = torch.tensor([[True, True, True], [True, False, False]])
    out = network(x, present=present)
    known = torch.stack([out.exam[0, 0], out.exam[0, 1], out.exam[1, 0]])
    exam = functional.binary_cross_entropy_with_logits(known, torch.tensor([1.0, 0.0, 0.0]))
    there = torch.cat([out.steps[0].flatten(), out.steps[1, :1, 0]])  # of the second exam one step and one question
    steps = functional.binary_cross_entropy_with_logits(there, torch.tensor([1.0, 0, 1, 0, 1, 0, 0]))
    found = classification_loss(WithExtraInputs(network, {"present": present}), x, y)
    assert torch.isclose(found, exam + steps / 2, atol=1e-6)
    found.backward()
    assert network.get_parameter("step_head.weight").grad is not None  # what is shown of each step was never taught


# -- windows ---------------------------------------------------------------------------------------------------------
def test_a_denoiser_sees_one_noise_per_step_and_learns_the_clean_image() -> None:
    drawn = windows(target="image", noise=(0.5, 0.5), neighbours=1, steps=3)
    x, y, _ = drawn.draw(4)
    assert x.shape == (4, 3, 3, 16, 16)
    assert y.shape == (4, 3, 1, 16, 16)
    assert torch.equal(x[:, 0, 2], x[:, 1, 1])  # the step after the first is the second, noise and all
    assert torch.equal(x[:, 1, 0], x[:, 0, 1])
    noise = x[:, :, 1:2] - y
    assert float(noise.std()) == pytest.approx(0.5, rel=0.05)
    clean = windows(target="image").draw(2).x
    assert torch.equal(clean, windows(target="image").draw(2)[1])


def test_answers_come_with_their_exam() -> None:
    x, y = windows([case(target=torch.tensor([1.0, 0.0]))], target="exam").draw(3)[:2]
    assert x.shape[0] == 3
    assert y.tolist() == [[1, 0]] * 3
    with pytest.raises(MedseqError, match="no answer"):
        windows(target="exam").draw(1)


@pytest.mark.parametrize("lesion_share", [0.0, 0.7])
def test_no_window_is_wasted_on_steps_that_nobody_looked_at(lesion_share: float) -> None:
    labels = torch.full((30, 24, 20), -1, dtype=torch.int8)
    labels[4] = 0
    labels[21] = 0
    labels[21, 8:12, 8:12] = 1
    image = torch.zeros(30, 1, 24, 20).half()
    y = windows([Case("a", "x", image, labels)], lesion_share=lesion_share, steps=3).draw(40).y
    assert (y >= 0).flatten(1).any(1).all()
    share = float((y == 1).flatten(1).any(1).float().mean())
    assert 0.2 < share < (0.8 if lesion_share == 0 else 1.0)


def test_in_a_large_image_windows_go_to_what_is_labelled() -> None:
    labels = torch.zeros(3, 90, 80, dtype=torch.int8)
    labels[1, 80:84, 4:8] = 1  # in a corner, where a window around the middle never comes
    image = torch.zeros(3, 1, 90, 80).half()
    drawn = windows([Case("a", "x", image, labels)], steps=1, lesion_share=1.0)
    assert float((drawn.draw(40)[1] == 1).flatten(1).any(1).float().mean()) > 0.9
    anywhere = windows([Case("a", "x", image, labels)], steps=1, lesion_share=0.0)
    assert float((anywhere.draw(40)[1] == 1).flatten(1).any(1).float().mean()) < 0.3


def test_beyond_the_border_an_unlabelled_step_is_unlabelled() -> None:
    labels = torch.full((3, 24, 20), -1, dtype=torch.int8)
    labels[1] = 0
    labels[1, 8:12, 8:12] = 1
    image = torch.zeros(3, 1, 24, 20).half()
    turned = STILL.model_copy(update={"rotate_degrees": 40.0})
    y = windows([Case("a", "x", image, labels)], steps=3, size=(40, 40), augment=turned).draw(10).y
    for window in y:
        states = {tuple(step.unique().tolist()) for step in window}
        assert states <= {(-1,), (0, 1)}


# -- MONAI's transforms ------------------------------------------------------------------------------------------------
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Rand2DElastic": {"spacing": (8, 8), "magnitude_range": (1, 2)},
    "RandAffine": {"rotate_range": 0.5, "scale_range": 0.2},
    "RandCoarseDropout": {"holes": 2, "spatial_size": 8},
    "RandHistogramShift": {"num_control_points": 5},
    "RandRotate": {"range_x": 0.6},
    "RandScaleIntensity": {"factors": 0.3},
    "RandShiftIntensity": {"offsets": 0.3},
    "RandZoom": {"min_zoom": 0.8, "max_zoom": 1.3},
}
NOISE = {"RandGaussianNoise", "RandRicianNoise"}


@pytest.mark.parametrize("name", SPATIAL + INTENSITY)
def test_monai_transforms_change_all_steps_alike_and_labels_with_them(name: str) -> None:
    disc = (((torch.arange(32) - 13) ** 2)[:, None] + ((torch.arange(32) - 17) ** 2)[None] < 60).float()
    shaded = disc * (1 + torch.linspace(0, 0.3, 32))
    image, labels = shaded.expand(3, 1, 32, 32), disc.long().expand(3, 32, 32)
    chain = Extra([{"_target_": name, "prob": 1.0, **ARGUMENTS.get(name, {})}])
    first, second = (chain(image.clone(), labels.clone(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    x, y = first
    assert x.shape == image.shape
    assert y.dtype == torch.long
    if name not in NOISE:
        assert torch.allclose(x[0], x[2], atol=1e-5)
    assert torch.equal(y[0], y[2])
    if name in SPATIAL:
        agree = ((x[:, 0] > 0.5) == (y > 0)).float().mean()
        assert agree > 0.96
    else:
        assert torch.equal(y, labels)
        assert not torch.equal(x, image)


def test_other_transforms_and_wrong_arguments_are_refused() -> None:
    with pytest.raises(SettingsError, match="not a transform for training"):
        build({"_target_": "Lambda", "func": "print"})
    with pytest.raises(SettingsError, match="RandFlip cannot be made"):
        build({"_target_": "RandFlip", "nosuch": 1})


def test_windows_with_monai_transforms_repeat() -> None:
    augment = AugmentSettings(
        extra=({"_target_": "RandGibbsNoise", "prob": 0.5}, {"_target_": "RandAxisFlip", "prob": 0.5})
    )
    (a, la), (b, lb) = (windows(augment=augment).draw(6)[:2] for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(la, lb)
    assert not torch.equal(a, windows(augment=augment, seed=4).draw(6)[0])


def test_an_image_without_any_range_has_no_ratio_of_signal_to_noise() -> None:
    config = TrainConfig(
        name="n", data=("data",), out="out", task="denoising", network={"_target_": "RecurrentDenoiser"}
    )
    network = networks.build(
        {"_target_": "RecurrentDenoiser", "widths": [8, 8], "rnn_levels": [1], "hidden": 4, "ahead": 1}
    )
    flat = Case("a", "n", torch.ones(2, 1, 16, 16).half(), torch.zeros(2, 16, 16).to(torch.int8))
    scores = TASKS["denoising"].scores(of(SequenceNetwork, network), flat, config)
    assert all(math.isnan(value) for value in scores.values())
