"""The optimiser of kernels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from napari_medseq.training.loops.muon import Kind, optimisers, orthogonal


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, 3, padding=1), nn.ConvTranspose3d(6, 2, 2, 2), nn.Conv3d(2, 2, 1)
    )


class Both:
    """Both optimisers of a network as one."""

    def __init__(self, of: nn.Sequential, rate: float = 2e-3, weight_decay: float = 0.0, kind: Kind = "muon") -> None:
        apart = [of.get_parameter("0.weight"), of.get_parameter("3.weight")]
        self.each = optimisers(of, kind=kind, rate=rate, weight_decay=weight_decay, not_kernels=apart, bfloat16=False)

    def step(self) -> None:
        for one in self.each:
            one.step()


def learn(of: nn.Sequential, by: Both | torch.optim.Optimizer, seed: int = 0) -> None:
    x = torch.randn(2, 1, 4, 6, 6, generator=torch.Generator().manual_seed(seed))
    of.zero_grad()
    of(x).square().mean().backward()
    by.step()


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (8, 8), (1, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_directions_are_nearly_the_orthogonal_polar_factor(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 1e-4
    found = orthogonal(matrix, dtype)
    assert found.dtype == torch.float32
    polar = scipy.linalg.polar(matrix.double().numpy())[0]
    cosine = float((found.double().numpy() * polar).sum() / np.linalg.norm(found.numpy()) / np.linalg.norm(polar))
    assert cosine > 0.97
    singular = torch.linalg.svdvals(found)
    assert singular.min() > 0.6
    assert singular.max() < 1.25


def test_nothing_to_learn_changes_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_first_layer_heads_and_biases_are_changed_as_by_adamw() -> None:
    one, other = network(), network()
    ours, theirs = Both(one), torch.optim.AdamW(other.parameters(), 2e-3, weight_decay=0.0)
    learn(one, ours)
    learn(other, theirs)
    for name, p in one.named_parameters():
        alike = torch.allclose(p, other.get_parameter(name), atol=1e-7)
        assert alike == (name not in ("1.weight", "2.weight")), name


def test_all_can_be_for_adamw() -> None:
    one, other = network(), network()
    learn(one, Both(one, kind="adamw"))
    learn(other, torch.optim.AdamW(other.parameters(), 2e-3, weight_decay=0.0))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_kernels_go_equally_far_in_every_direction() -> None:
    of = network()
    before = copy.deepcopy(of)
    learn(of, Both(of, rate=1e-3))
    for k, rows in ((1, 6), (2, 6)):
        change = (before.get_parameter(f"{k}.weight") - of.get_parameter(f"{k}.weight")).detach().flatten(1) / (
            1e-3 * 10
        )
        singular = torch.linalg.svdvals(change)[:rows]
        assert singular.min() > 0.6
        assert singular.max() < 1.25


def test_weights_decay_but_biases_do_not() -> None:
    of = network()
    by = Both(of, rate=1e-2, weight_decay=0.5)
    before = copy.deepcopy(of)
    for p in of.parameters():
        p.grad = torch.zeros_like(p)
    by.step()
    assert torch.allclose(of.get_parameter("1.weight"), before.get_parameter("1.weight") * (1 - 1e-2 * 10 * 0.5))
    assert torch.allclose(of.get_parameter("3.weight"), before.get_parameter("3.weight") * (1 - 1e-2 * 0.5))
    assert torch.equal(of.get_parameter("1.bias"), before.get_parameter("1.bias"))


def test_a_run_continues_from_its_state() -> None:
    whole, stopped = network(), network()
    by = Both(whole)
    for seed in range(4):
        learn(whole, by, seed)
    first = Both(stopped)
    for seed in range(2):
        learn(stopped, first, seed)
    second = Both(stopped)
    for new, old in zip(second.each, first.each, strict=True):
        new.load_state_dict(old.state_dict())
    for seed in range(2, 4):
        learn(stopped, second, seed)
    for a, b in zip(whole.parameters(), stopped.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)
