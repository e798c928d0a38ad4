"""Slab networks: the recurrence against autograd, the convolution against torch's, the network against its contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models import networks
from napari_medseq.models.gated_scan import GatedMixer, gated_scan, scan_by_doubling
from napari_medseq.models.slab_convolution import Enlargement, PointConvolution, SlabConvolution, end_to_end
from napari_medseq.models.slab_unet import InstanceNorm, SlabUNet
from tests.narrowing import some


def by_autograd(gates: Tensor) -> Tensor:
    """The recurrence as its formula says, for autograd."""
    quarter, steps = len(gates) // 4, gates.shape[2]
    z, c = gates[: 2 * quarter].sigmoid(), gates[2 * quarter :].tanh()
    found = []
    for half, order in ((slice(0, quarter), range(steps)), (slice(quarter, None), range(steps - 1, -1, -1))):
        h = torch.zeros_like(z[half, :, 0])
        states: dict[int, Tensor] = {}
        for t in order:
            h = h + z[half, :, t] * (c[half, :, t] - h)
            states[t] = h
        found.append(torch.stack([states[t] for t in range(steps)], 2))
    return torch.cat(found)


@given(hidden=st.integers(1, 3), n=st.integers(1, 2), steps=st.integers(1, 6), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_scan_and_its_gradient_are_those_of_the_formula(hidden: int, n: int, steps: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    gates = torch.randn(4 * hidden, n, steps, 5, generator=random, dtype=torch.float64)
    weight = torch.randn(2 * hidden, n, steps, 5, generator=random, dtype=torch.float64)
    ours, reference = gates.clone().requires_grad_(), gates.clone().requires_grad_()
    a, b = gated_scan(ours), by_autograd(reference)
    torch.testing.assert_close(a, b)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    torch.testing.assert_close(ours.grad, reference.grad)


@given(steps=st.integers(1, 17), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_scan_by_doubling_is_the_recurrence(steps: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    kept, added = torch.rand(2, 3, 1, steps, 4, generator=random, dtype=torch.float64)
    h, states = torch.zeros_like(added[:, :, 0]), []
    for t in range(steps):
        h = kept[:, :, t] * h + added[:, :, t]
        states.append(h)
    torch.testing.assert_close(scan_by_doubling(kept, added), torch.stack(states, 2))


def test_scan_in_bfloat16_carries_its_state_in_float32() -> None:
    gates = torch.randn(8, 1, 64, 9, generator=torch.Generator().manual_seed(0))
    low = gated_scan(gates.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), by_autograd(gates.bfloat16().float()), atol=0.01, rtol=0.01)


def test_mixer_adds_nothing_at_first_and_swaps_its_directions_when_the_steps_are_turned() -> None:
    mixer = GatedMixer(6, 2)
    x = torch.randn(2, 6, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mixer(x), x)
    torch.nn.init.normal_(mixer.out.weight)
    turned = GatedMixer(6, 2)
    # its first direction is the other's second
    order = [2, 3, 0, 1, 6, 7, 4, 5]
    turned.gates.weight.data, turned.gates.bias.data = mixer.gates.weight.data[order], mixer.gates.bias.data[order]
    turned.out.weight.data = mixer.out.weight.data[:, [2, 3, 0, 1]]
    assert not torch.allclose(mixer(x.flip(2)).flip(2), mixer(x))
    torch.testing.assert_close(turned(x.flip(2)).flip(2), mixer(x))


SIZES = st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(3, 9), st.integers(3, 9))


@given(
    size=SIZES,
    channels=st.sampled_from([1, 2, 5]),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_weight_gradient_end_to_end_is_the_ordinary_one(
    size: tuple[int, ...], channels: int, kernel: int, stride: tuple[int, int, int], seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(size[0], channels, *size[1:], generator=random, dtype=torch.float64)
    weight = torch.randn(3, channels, kernel, 3, 3, generator=random, dtype=torch.float64).requires_grad_()
    padding = (kernel // 2, 1, 1)
    y = functional.conv3d(x, weight, None, stride, padding)
    grad = torch.randn(y.shape, generator=random, dtype=torch.float64)
    y.backward(grad)
    joined, joined_grad = end_to_end(x, grad, stride[0])
    again = weight.detach().clone().requires_grad_()
    out = functional.conv3d(joined, again, None, stride, padding)
    assert out.shape == joined_grad.shape
    out.backward(joined_grad)
    torch.testing.assert_close(again.grad, weight.grad)


@pytest.mark.parametrize(("channels", "steps", "bias"), [(1, 4, False), (16, 4, False), (16, 4, True), (3, 1, True)])
def test_convolution_under_autocast_is_torchs_own(channels: int, steps: int, bias: bool) -> None:
    torch.manual_seed(0)
    ours = SlabConvolution(channels, 16, 3, (1, 2, 2), 1, bias=bias)
    theirs = torch.nn.Conv3d(channels, 16, 3, (1, 2, 2), 1, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, channels, steps, 12, 10)
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
    assert (type(y.grad_fn).__name__ == "UnsqueezeBackward0") == (steps == 1), "one step is an image"
    assert y.dtype == torch.bfloat16
    expected = theirs(x)
    torch.testing.assert_close(y.float(), expected, atol=0.03, rtol=0.03)
    y.float().square().sum().backward()
    expected.square().sum().backward()
    assert ours.weight.grad is not None
    assert theirs.weight.grad is not None
    apart = (ours.weight.grad - theirs.weight.grad).abs().max() / theirs.weight.grad.abs().max()
    assert apart < 0.03


def test_instance_norm_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = InstanceNorm(3), torch.nn.InstanceNorm3d(3, eps=1e-4, affine=True)
    ours.weight.data.uniform_(0.5, 2)
    ours.bias.data.normal_()
    theirs.load_state_dict(ours.state_dict())
    x = 5 * torch.randn(3, 3, 2, 4, 5) + 2
    torch.testing.assert_close(ours(x), theirs(x))
    assert torch.isfinite(ours(torch.randn(1, 3, 1, 1, 1))).all()


@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 13), st.integers(1, 13)),
    norm=st.sampled_from(["instance", "batch"]),
)
@settings(deadline=None, max_examples=12)
def test_any_size_gives_logits_of_that_size(size: tuple[int, int, int], norm: str) -> None:
    torch.manual_seed(0)
    network = networks.build(
        {"_target_": "SlabUNet", "channels": 2, "classes": 3, "widths": [4, 6, 8], "strides": [[1, 2, 2], [2, 2, 2]],
         "mix_levels": [2], "norm": norm}
    ).eval()  # fmt: skip
    assert isinstance(network, SlabUNet)
    y = network(torch.randn(1, size[0], 2, *size[1:]))
    assert y.shape == (1, size[0], 3, *size[1:])
    assert torch.isfinite(y).all()


def test_levels_shrink_by_the_strides_and_carry_the_finest_first() -> None:
    network = SlabUNet(1, 2, widths=(4, 6, 8), strides=((1, 2, 2), (2, 2, 2)))
    shapes = [tuple(y.shape) for y in network.at_levels(torch.randn(2, 1, 4, 8, 12))]
    assert shapes == [(2, 2, 4, 8, 12), (2, 2, 4, 4, 6)]
    assert network.multiple == (2, 4, 4)


def test_side_by_side_is_the_whole_sequence_at_once() -> None:
    torch.manual_seed(0)
    network = SlabUNet(1, 2, widths=(4, 6), strides=((2, 2, 2),), mix_levels=(0,)).eval()
    x = torch.randn(1, 5, 1, 8, 8)
    together = torch.stack(list(network.side_by_side(x.unbind(1))), 1)
    torch.testing.assert_close(together, network(x))


def test_folding_leaves_the_answer_as_it_is() -> None:
    torch.manual_seed(0)
    network = SlabUNet(1, 2, widths=(4, 6, 8), strides=((1, 2, 2), (2, 2, 2)), norm="batch")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            some(module.running_mean).normal_()
            some(module.running_var).uniform_(0.5, 2)
    network.eval()
    folded = network.folded()
    x = torch.randn(1, 3, 1, 8, 8)
    torch.testing.assert_close(folded(x), network(x), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in folded.modules())


@pytest.mark.parametrize(
    "wrong",
    [
        {"widths": [4]},
        {"strides": [[1, 2, 2]]},
        {"kernel": 2},
        {"norm": "group"},
        {"mix_levels": [4]},
        {"strides": [[1, 2], 2, 2]},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        networks.build({"_target_": "SlabUNet", **wrong})


@pytest.mark.parametrize("stride", [None, (1, 2, 2), (2, 2, 2)])
def test_products_of_matrices_are_torchs_convolutions(stride: tuple[int, int, int] | None) -> None:
    """oneDNN writes past its memory in their weight gradient, too, in bfloat16 with few steps of many rows."""
    torch.manual_seed(0)
    ours, theirs = (
        (PointConvolution(16, 3, 1), torch.nn.Conv3d(16, 3, 1))
        if stride is None
        else (Enlargement(16, 8, stride), torch.nn.ConvTranspose3d(16, 8, stride, stride))
    )
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 16, 4, 6, 5)
    expected = theirs(x)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
    assert type(y.grad_fn).__name__ == "PermuteBackward0", (
        "a matrix product is to have made it, not oneDNN's convolution"
    )
    torch.testing.assert_close(y.float(), expected, atol=0.03, rtol=0.03)
    y.float().square().sum().backward()
    expected.square().sum().backward()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None
        assert its.grad is not None
        assert (mine.grad - its.grad).abs().max() < 0.03 * its.grad.abs().max()
