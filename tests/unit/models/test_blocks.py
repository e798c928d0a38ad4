"""What is done differently without a gradient gives what is done with one."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from napari_medseq.models.blocks import added, halved
from napari_medseq.models.recurrent_unet import RecurrentUNet


@pytest.mark.parametrize("size", [(6, 4), (2, 2), (5, 6), (7, 3), (4, 6, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_halving_is_max_pooling(size: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=layout) if len(size) == 2 else x
    pool = torch.nn.functional.max_pool2d if len(size) == 2 else torch.nn.functional.max_pool3d
    with torch.no_grad():
        assert torch.equal(halved(x), pool(x, 2))
    assert torch.equal(halved(x.requires_grad_()), pool(x, 2))


def test_sums_overwrite_only_where_no_gradient_is_wanted() -> None:
    x, y = torch.ones(3), torch.ones(3)
    assert added(x, y).tolist() == [2, 2, 2]
    assert x.tolist() == [1, 1, 1]
    with torch.inference_mode():
        assert added(x.clone(), y).tolist() == [2, 2, 2]


@pytest.mark.parametrize("rnn", ["gru", "lstm", "none"])
def test_a_network_answers_alike_with_and_without_gradient_and_leaves_its_input(
    rnn: Literal["gru", "lstm", "none"],
) -> None:
    torch.manual_seed(0)
    network = RecurrentUNet(widths=(8, 16, 16), rnn_levels=(1, 2), hidden=4, ahead=1, rnn=rnn).eval()
    x = torch.randn(1, 4, 3, 16, 24)
    before = x.clone()
    with_gradient = network(x).detach()
    with torch.no_grad():
        assert torch.allclose(network(x), with_gradient, atol=1e-5)
    assert torch.equal(x, before)
