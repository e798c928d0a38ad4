"""The segmentation network: shapes, the plain twin, independence of steps where there is no recurrence."""

from __future__ import annotations

from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from napari_medseq.models.recurrent_unet import RecurrentUNet, with_neighbours
from tests.narrowing import of

small = partial(RecurrentUNet, widths=(4, 8, 8), rnn_levels=(1, 2), hidden=4, ahead=2, neighbours=1)


def test_shapes_and_heads() -> None:
    network = small(classes=3)
    x = torch.randn(2, 5, 3, 16, 24)
    assert network(x).shape == (2, 5, 3, 16, 24)
    heads = network(x, every_head=True)
    assert [tuple(h.shape[-2:]) for h in heads] == [(8, 12), (16, 24)]


def test_plain_twin_has_the_same_weights_elsewhere() -> None:
    recurrent, plain = small(), small(rnn="none")
    own = {k: v.shape for k, v in plain.state_dict().items()}
    theirs = {k: v.shape for k, v in recurrent.state_dict().items() if not k.startswith("mixers.")}
    assert own == theirs
    assert len(recurrent.state_dict()) > len(theirs)


def test_untrained_recurrence_starts_as_the_plain_network() -> None:
    recurrent, plain = small().eval(), small(rnn="none").eval()
    plain.load_state_dict({k: v for k, v in recurrent.state_dict().items() if not k.startswith("mixers.")})
    x = torch.randn(1, 4, 3, 16, 16)
    assert torch.allclose(recurrent(x), plain(x), atol=1e-6)


@pytest.mark.parametrize("rnn", ["gru", "none"])
def test_only_recurrence_lets_a_step_see_another(rnn: Literal["gru", "none"]) -> None:
    torch.manual_seed(0)
    network = small(rnn=rnn).eval()
    for mixer in network.mixers.values():
        torch.nn.init.normal_(of(Tensor, of(nn.Module, mixer.out).weight))
    x = torch.randn(1, 4, 3, 16, 16)
    changed = x.clone()
    changed[:, 0] += 1
    moved = (network(x) - network(changed)).abs().amax((2, 3, 4))[0]
    assert moved[0] > 1e-3
    assert (moved[3] > 1e-6) == (rnn == "gru")


def test_shuffling_the_recurrence_changes_the_answer_but_not_the_order_of_steps() -> None:
    torch.manual_seed(0)
    network = small().eval()
    x = torch.randn(1, 5, 3, 16, 16)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(network(x, order=order), network(x), atol=1e-6)  # identity mixers: nothing to see yet
    for mixer in network.mixers.values():
        torch.nn.init.normal_(of(Tensor, of(nn.Module, mixer.out).weight))
    assert not torch.allclose(network(x, order=order), network(x), atol=1e-3)
    assert torch.allclose(network(x, order=torch.arange(5)), network(x), atol=1e-6)


def test_neighbours_repeat_at_the_ends() -> None:
    steps = torch.arange(3.0).reshape(3, 1, 1, 1)
    stacked = with_neighbours(steps, 1)[:, :, 0, 0]
    assert stacked.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
