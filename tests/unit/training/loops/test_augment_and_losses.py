"""Windows stay sequences, labels stay with their image, and unlabelled voxels count for nothing."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import MedseqError
from napari_medseq.models.sequence_classifier import SequenceLogits
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.training.cases import Case
from napari_medseq.training.loops.augment import AugmentSettings, recolour, transplant, warp
from napari_medseq.training.loops.losses import classification_loss, deeply_supervised, voxel_loss
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.loops.windows import Windows

STILL = AugmentSettings(
    flip=0, rotate_degrees=0, zoom=0, stretch=0, elastic=0, bias=0, gain=0, shift=0, gamma=0, noise=0, blur=0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_changes_the_window_is_a_crop() -> None:
    image = torch.randn(3, 1, 20, 24)
    labels = (torch.rand(3, 20, 24) > 0.5).long()
    x, y = warp(image, labels, (10, 12), (9.5, 11.5), STILL, generator())
    assert torch.allclose(x, image[..., 5:15, 6:18], atol=1e-5)
    assert torch.equal(y, labels[:, 5:15, 6:18])
    assert torch.allclose(recolour(image, STILL, generator()), image, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_every_step_is_warped_alike_and_labels_with_it(seed: int) -> None:
    disc = (((torch.arange(64) - 30) ** 2)[:, None] + ((torch.arange(60) - 33) ** 2)[None] < 150).long()
    labels = disc.expand(4, 64, 60)
    x, y = warp(labels[:, None].float(), labels, (64, 60), (31.5, 29.5), AugmentSettings(), generator(seed))
    assert torch.equal(y[0], y[3])
    assert torch.equal(x[0], x[3])
    assert torch.equal(y, (x[:, 0] > 0.5).long())
    assert 50 < int(y[0].sum()) < 1200


def test_classes_and_unlabelled_voxels_survive_the_warp() -> None:
    labels = torch.randint(-1, 4, (2, 30, 30))
    _, y = warp(torch.zeros(2, 1, 30, 30), labels, (30, 30), (14.5, 14.5), AugmentSettings(), generator())
    assert set(y.unique().tolist()) <= {-1, 0, 1, 2, 3}
    assert (y == -1).any()


def test_transplant_brings_the_lesion_with_its_label() -> None:
    image, labels = torch.zeros(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
    other, other_labels = torch.full((2, 1, 32, 32), 5.0), labels.clone()
    other_labels[:, 14:18, 14:18] = 1
    x, y = transplant(image, labels, other, other_labels, generator())
    assert torch.equal(y, other_labels)
    assert (x[:, 0][other_labels > 0] > 4.9).all()
    assert (x[:, 0, :3] == 0).all()
    same, _ = transplant(image, labels, other, labels, generator())
    assert torch.equal(same, image)


def test_the_voxel_loss_by_default_equals_monai_and_torch() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    monai = DiceLoss(softmax=True, to_onehot_y=True, include_background=False, batch=True, smooth_nr=1, smooth_dr=1)
    expected = monai(logits, labels[:, None]) + functional.cross_entropy(logits, labels)
    assert torch.isclose(voxel_loss(logits, labels), expected, atol=1e-6)


def test_unlabelled_voxels_do_not_count() -> None:
    logits, labels = torch.randn(1, 2, 8, 8), torch.randint(0, 2, (1, 8, 8))
    labels[:, 4:] = -1
    changed = logits.clone()
    changed[:, :, 4:] += torch.tensor([50.0, -50.0]).reshape(1, 2, 1, 1)
    assert torch.isclose(voxel_loss(logits, labels), voxel_loss(changed, labels))
    assert torch.isfinite(voxel_loss(logits, torch.full_like(labels, -1)))


def test_deep_supervision_weighs_the_finest_most() -> None:
    good = functional.one_hot(torch.zeros(1, 8, 8, dtype=torch.long), 2).movedim(-1, 1) * 20.0
    bad, labels = 20.0 - good, torch.zeros(1, 8, 8, dtype=torch.long)
    fine = deeply_supervised([good[..., ::2, ::2], bad], labels)
    coarse = deeply_supervised([bad[..., ::2, ::2], good], labels)
    assert fine > coarse > 0.1


def test_specks_leave_a_slice_undecided() -> None:
    class Fixed(SequenceNetwork):
        def __init__(self, steps: list[float]) -> None:
            super().__init__()
            self.steps = torch.tensor(steps)

        def forward(self, _x: Tensor) -> SequenceLogits:
            return SequenceLogits(
                self.steps[None, :, None], torch.zeros(1, 1), torch.ones(1, 3) / 3, torch.zeros(1, 3, 1, 2, 2)
            )

    y = torch.zeros(1, 3, 8, 8, dtype=torch.long)
    y[0, 1, 0, :2] = 1  # a speck of two pixels
    y[0, 2, :3, :3] = 1
    x = torch.zeros(1, 3, 1, 8, 8)
    low, high = (classification_loss(Fixed([-9.0, v, 9.0]), x, y) for v in (-9.0, 9.0))
    assert torch.isclose(low, high)
    assert classification_loss(Fixed([-9.0, 0.0, -9.0]), x, y) > low + 1


def case(patient: str = "a", steps: int = 6) -> Case:
    labels = torch.zeros(steps, 24, 20, dtype=torch.int8)
    labels[2, 8:12, 8:12] = 1
    return Case(patient, "case", torch.arange(steps).reshape(-1, 1, 1, 1).expand(steps, 1, 24, 20).half(), labels)


def windows(**changes: object) -> Windows:
    arguments: dict[str, object] = {
        "steps": 3,
        "size": (16, 16),
        "augment": STILL,
        "seed": 3,
        "transplant": 0.0,
    }
    return Windows([case()], LoopSettings(**{**arguments, **changes}), neighbours=1)


def test_windows_are_runs_of_steps_with_their_neighbours() -> None:
    x, y, _ = windows().draw(20)
    assert x.shape == (20, 3, 3, 16, 16)
    assert y.shape == (20, 3, 16, 16)
    x = x.round(decimals=3)
    centre = x[:, :, 1, 8, 8]
    step = centre[:, 1:] - centre[:, :-1]
    assert ((step == 1) | (centre[:, :-1] == 5) | (centre[:, 1:] == 0)).all()  # consecutive, or repeated at an end
    assert ((x[:, :, 2, 8, 8] - centre).unique() <= 1).all()
    # the label stays with the step it belongs to
    assert torch.equal(y.flatten(2).amax(2) == 1, centre == 2)


def test_the_share_of_windows_with_lesions_is_as_set() -> None:
    always = windows(lesion_share=1.0).draw(30).y
    assert (always.flatten(1).amax(1) == 1).all()
    seldom = windows(lesion_share=0.0, steps=1).draw(60).y
    assert 0 < (seldom.flatten(1).amax(1) == 1).float().mean() < 0.5


def test_same_seed_same_windows() -> None:
    a, b = windows(augment=AugmentSettings()), windows(augment=AugmentSettings())
    assert torch.equal(a.draw(3)[0], b.draw(3)[0])


def test_no_case_is_said() -> None:
    with pytest.raises(MedseqError, match="no training case"):
        Windows([], LoopSettings(), neighbours=0)


def test_evidence_is_taught_where_the_lesion_is() -> None:
    class Map(SequenceNetwork):
        def __init__(self, row: int) -> None:
            super().__init__()
            self.evidence = torch.full((1, 1, 1, 4, 4), -5.0)
            self.evidence[..., row, 1] = 5.0

        def forward(self, _x: Tensor) -> SequenceLogits:
            return SequenceLogits(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.ones(1, 1), self.evidence)

    y = torch.zeros(1, 1, 16, 16, dtype=torch.long)
    y[0, 0, 9:11, 5:7] = 1
    right, wrong = (classification_loss(Map(row), torch.zeros(1, 1, 1, 16, 16), y) for row in (2, 0))
    assert right + 1 < wrong
