"""What a slab network takes from another one, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import SettingsError
from napari_medseq.models import Model, ModelInfo
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.training.automatic.start import start_slabs

FLAT = ((1, 2, 2), (1, 2, 2))


def network(
    seed: int,
    channels: int = 1,
    classes: int = 2,
    widths: Sequence[int] = (4, 6, 8),
    strides: Sequence[Sequence[int]] = FLAT,
) -> SlabUNet:
    torch.manual_seed(seed)
    return SlabUNet(channels, classes, widths=widths, strides=strides).eval()


def model(of: torch.nn.Module) -> Model:
    return Model(ModelInfo(name="other", folder="", task="segmentation", version="1"), of, {}, {})


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether kernels are the same but for their size."""
    return torch.allclose(one / one.norm(), other / other.norm(), atol=1e-6)


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_features_are_those_of_the_other_and_heads_stay(volume: torch.Tensor) -> None:
    own, other = network(0, classes=4), network(1)
    heads = {k: v.clone() for k, v in own.state_dict().items() if k.startswith("heads")}
    start_slabs(own, model(other))
    for a, b in zip(own.features(volume), other.features(volume), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    assert all(torch.equal(v, own.state_dict()[k]) for k, v in heads.items())


@torch.no_grad()
def test_each_channel_starts_from_the_filters_of_the_first(volume: torch.Tensor) -> None:
    own, other = network(0, channels=3), network(1, channels=2)
    start_slabs(own, model(other))
    alone = torch.cat([volume, torch.zeros_like(volume)], 1)  # the second channel tells nothing
    for k in range(3):
        one_of_three = torch.zeros(1, 3, *volume.shape[2:])
        one_of_three[:, k] = volume[:, 0]
        for a, b in zip(own.features(one_of_three), other.features(alone), strict=True):
            assert torch.allclose(a, b, atol=1e-3)


@torch.no_grad()
def test_narrower_levels_fill_the_first_features_alone() -> None:
    own, other = network(0, widths=(4, 6, 10)), network(1)
    before = own.state_dict()["down.2.convs.0.weight"].clone()
    start_slabs(own, model(other))
    after, given = own.state_dict()["down.2.convs.0.weight"], other.state_dict()["down.2.convs.0.weight"]
    assert alike(after[:8], given)
    assert alike(after[8:], before[8:])


@torch.no_grad()
@pytest.mark.parametrize(("of_own", "of_other"), [(FLAT, ((1, 2, 2), (2, 2, 2))), (((1, 2, 2), (2, 2, 2)), FLAT)])
def test_kernels_that_enlarge_fit_other_strides(
    of_own: Sequence[Sequence[int]], of_other: Sequence[Sequence[int]]
) -> None:
    own, other = network(0, strides=of_own), network(1, strides=of_other)
    start_slabs(own, model(other))
    assert own.state_dict()["up.1.weight"].shape[2] == of_own[1][0]
    assert torch.allclose(own.state_dict()["up.1.weight"].mean(2), other.state_dict()["up.1.weight"].mean(2), atol=1e-6)
    assert torch.equal(own.state_dict()["up.0.weight"], other.state_dict()["up.0.weight"])


@torch.no_grad()
def test_networks_of_other_depths_share_the_finer_levels() -> None:
    own, other = network(0, widths=(4, 6), strides=FLAT[:1]), network(1)
    start_slabs(own, model(other))
    assert alike(own.state_dict()["down.1.convs.1.weight"], other.state_dict()["down.1.convs.1.weight"])
    deeper = network(2, widths=(4, 6, 8, 8), strides=(*FLAT, (1, 2, 2)))
    last = deeper.state_dict()["down.3.convs.0.weight"].clone()
    start_slabs(deeper, model(other))
    assert alike(deeper.state_dict()["down.2.convs.1.weight"], other.state_dict()["down.2.convs.1.weight"])
    assert torch.equal(deeper.state_dict()["down.3.convs.0.weight"], last)


@torch.no_grad()
def test_kernels_before_norms_keep_the_size_of_random_ones() -> None:
    own, other = network(0), network(1)
    before = {k: v.norm() for k, v in own.state_dict().items()}
    for p in other.parameters():
        p.mul_(7)  # as long training does
    start_slabs(own, model(other))
    for name, w in own.state_dict().items():
        if ".convs." in name:
            assert torch.isclose(w.norm(), before[name], rtol=1e-5), name
    assert torch.equal(own.state_dict()["up.0.weight"], other.state_dict()["up.0.weight"])


def test_other_kinds_of_networks_are_refused() -> None:
    with pytest.raises(SettingsError, match="is a RecurrentUNet"):
        start_slabs(network(0), ms.load_model("brain-tumor"))
