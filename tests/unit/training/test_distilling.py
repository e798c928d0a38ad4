"""A pruned network learns from the one it was cut from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.training.distilling import disagreement, with_teacher
from napari_medseq.training.loops.losses import segmentation_loss


def network(seed: int) -> RecurrentUNet:
    torch.manual_seed(seed)
    return RecurrentUNet(widths=(8, 16), neighbours=1, rnn_levels=(1,), hidden=4, ahead=1, dropout=0.0)


def test_disagreement_is_zero_with_oneself_and_falls_when_followed() -> None:
    generator = torch.Generator().manual_seed(0)
    aim = torch.randn(1, 2, 3, 8, 8, generator=generator) * 3
    assert float(disagreement(aim, aim)) == pytest.approx(0, abs=1e-5)
    said = torch.zeros_like(aim, requires_grad=True)
    before = disagreement(said, aim)
    (gradient,) = torch.autograd.grad(before, said)
    assert disagreement(said - 5 * gradient, aim) < before


def test_the_teacher_alone_teaches_and_does_not_change() -> None:
    teacher, pupil = network(0), network(1)
    kept = {k: v.clone() for k, v in teacher.state_dict().items()}
    x = torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.full((1, 3, 16, 16), -1)  # nothing is labelled
    loss = with_teacher(teacher, 1.0)(segmentation_loss)
    optimiser = torch.optim.Adam(pupil.parameters(), 1e-2)
    values = []
    for _ in range(15):
        optimiser.zero_grad()
        value = loss(pupil, x, y)
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.7 * values[0]
    assert all(torch.equal(v, kept[k]) for k, v in teacher.state_dict().items())
    assert not any(p.grad is not None for p in teacher.parameters())


def test_a_share_of_nothing_is_the_loss_itself() -> None:
    pupil = network(1)
    x = torch.randn(1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.randint(0, 2, (1, 2, 16, 16), generator=torch.Generator().manual_seed(1))

    def plain(net: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        return segmentation_loss(net, a, b)

    both = with_teacher(network(0), 0.0)(plain)
    assert float(both(pupil, x, y).detach()) == pytest.approx(float(plain(pupil, x, y).detach()), rel=1e-5)
