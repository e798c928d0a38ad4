"""Smaller weights and smaller networks: how far they may move, and where they must not move at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.models import bundle, load_model, networks
from napari_medseq.models.factorised import low_rank, rank_for
from napari_medseq.models.plain import Plain
from napari_medseq.models.pruning import prune
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.storage import pack, unpack
from tests.narrowing import of
from tests.unit.models.bundles import NETWORK, edit, write


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-6, 1e4), st.sampled_from([(3, 2), (4, 2, 3, 3), (1, 5)]))
def test_no_int8_weight_moves_by_more_than_half_a_level(seed: int, size: float, shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    back = unpack(pack({"w": w}, "int8"))["w"]
    level = w.flatten(1).abs().amax(1) / 127
    assert ((back - w).abs().flatten(1) <= 0.5001 * level[:, None]).all()


def test_storage_keeps_what_it_should_and_zero_stays_zero() -> None:
    weights = {"zero": torch.zeros(2, 3), "bias": torch.tensor([1 / 3]), "count": torch.tensor([7])}
    packed = pack(weights, "int8")
    assert packed["zero"].dtype == torch.int8
    back = unpack(packed)
    assert all(torch.equal(back[k], v) for k, v in weights.items())
    assert list(back) == list(weights)
    assert unpack(pack(weights, "half"))["bias"] == torch.tensor([1 / 3]).half().float()


@pytest.mark.parametrize(
    "tensors",
    [
        {"w::scale": torch.ones(2)},
        {"w": torch.ones(2, 2, dtype=torch.int8), "w::scale": torch.ones(3)},
        {"w": torch.ones(2, dtype=torch.int8), "w::scale": torch.ones(2)},
    ],
)
def test_scales_that_do_not_fit_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder = write(tmp_path / "tiny")
    save_file(tensors, folder / bundle.WEIGHTS)
    edit(folder, bundle.METADATA, {"weights_sha256": None})
    with pytest.raises(ModelError, match="broken"):
        load_model(folder)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-6, 1e4), st.sampled_from([(200, 200), (3, 5, 3, 3), (1, 7), (4, 1)]))
def test_shared_weights_are_few_values_near_the_true_ones(seed: int, size: float, shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    bias = w.flatten()[:3].clone()
    packed = pack({"w": w, "bias": bias}, "shared")
    back = unpack(packed)
    assert back["w"].shape == w.shape
    assert torch.equal(back["bias"], bias)
    levels = packed["w::levels"]
    assert len(levels) == (16 if w.numel() >= 1 << 15 else 256)
    unit = (back["w"].flatten(1) / packed["w::scale"][:, None]).flatten()
    assert (unit[:, None] - levels).abs().amin(1).max() < 1e-4
    # 16 levels leave a normal variable 0.0095 of its energy (Max 1960, table I): k-means must come close to that
    assert (back["w"] - w).square().sum() <= 0.0115 * w.square().sum()
    if w.numel() >= 1 << 15:
        assert sum(v.numel() * v.element_size() for k, v in packed.items() if k != "bias") < w.numel() * 4 / 7.5


@pytest.mark.parametrize("storage", ["shared", "int8"])
def test_tensors_without_spread_are_stored_too(storage: Literal["shared", "int8"]) -> None:
    weights = {"zero": torch.zeros(3, 4), "one": torch.ones(2, 2), "count": torch.tensor([7])}
    back = unpack(pack(weights, storage))
    assert all(torch.allclose(back[k].float(), v.float(), atol=1e-6) for k, v in weights.items())


_LEVELS = {"w::levels": torch.zeros(16)}
_SHAPE = {"w::shape": torch.tensor([2, 3])}


@pytest.mark.parametrize(
    "tensors",
    [
        {"w::levels": torch.ones(16)},
        {"w": torch.zeros(3, dtype=torch.uint8), **_LEVELS},
        {"w": torch.zeros(3, dtype=torch.uint8), **_SHAPE},
        {"w": torch.zeros(2, dtype=torch.uint8), **_LEVELS, **_SHAPE},
        {"w": torch.zeros(3), **_LEVELS, **_SHAPE},
        {"w": torch.zeros(3, dtype=torch.uint8), "w::levels": torch.zeros(5), **_SHAPE},
        {"w": torch.zeros(3, dtype=torch.uint8), **_LEVELS, "w::shape": torch.tensor([1 << 62, 1 << 62])},
        {"w": torch.zeros(3, dtype=torch.uint8), **_LEVELS, "w::shape": torch.tensor([-2, -3])},
    ],
)
def test_shared_weights_that_do_not_fit_are_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="w"):
        unpack(tensors)


def test_int8_bundle_is_about_a_quarter_of_the_whole_one(tmp_path: Path) -> None:
    network = {**NETWORK, "widths": [16, 32], "hidden": 16}
    weights = networks.build(network).state_dict()
    whole, small = (
        (write(tmp_path / s, network=network, weights=weights, storage=s) / bundle.WEIGHTS).stat().st_size
        for s in ("float32", "int8")
    )
    assert 3.0 < whole / small < 4.2
    assert load_model(tmp_path / "float32").info.parameters == load_model(tmp_path / "int8").info.parameters


def test_full_rank_is_the_same_convolution_and_the_error_is_what_was_cut() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3, padding=1).double()
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    assert torch.allclose(low_rank(conv, 6).double()(x), conv(x), atol=1e-6)
    mirrored = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect").double()
    assert torch.allclose(low_rank(mirrored, 6).double()(x), mirrored(x), atol=1e-6)
    first, second = (p for name, p in low_rank(conv, 2).named_parameters() if name.endswith("weight"))
    product = torch.einsum("or,rikl->oikl", second[..., 0, 0].double(), first.double()).detach()
    whole = conv.weight.detach()
    s = torch.linalg.svdvals(whole.flatten(1))
    lost = (product - whole).pow(2).sum() / whole.pow(2).sum()
    assert float(lost) == pytest.approx(float((s[2:] ** 2).sum() / (s**2).sum()), rel=1e-4)
    assert rank_for(conv.weight, float(lost) * 1.001) == 2
    assert rank_for(conv.weight, 0.0) == 6
    exact = nn.Conv2d(3, 6, 3)
    with torch.no_grad():
        exact.weight.copy_(torch.einsum("o,ikl->oikl", torch.randn(6), torch.randn(3, 3, 3)))
    assert rank_for(exact.weight, 1e-6) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network_def.ranks": {"nosuch.conv": 1}}, "no convolution 'nosuch"),
        ({"network_def.ranks": {"encoder": 1}}, "not a convolution that can be factorised"),
        ({"network_def.ranks": {"encoder.0.conv": 99999}}, "rank 99999"),
        ({"network_def.network": {"_target_": "os.system", "command": "true"}}, "os.system"),
        ({"network_def.network": "$import os"}, "expression"),
    ],
)
def test_factorised_definitions_are_as_safe_as_others(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    definition: dict[str, Plain] = {"_target_": "Factorised", "network": NETWORK, "ranks": {"encoder.0.conv": 2}}
    folder = write(tmp_path / "tiny", network=definition, weights=networks.build(definition).state_dict())
    assert isinstance(load_model(folder).network, RecurrentUNet)
    edit(folder, bundle.INFERENCE, change)
    with pytest.raises(ModelError, match=reason):
        load_model(folder)


UNET: dict[str, Plain] = {
    "_target_": "RecurrentUNet",
    "widths": [4, 6, 8],
    "rnn_levels": [1, 2],
    "hidden": 4,
    "ahead": 1,
    "dropout": 0,
}


@pytest.mark.parametrize("rnn", ["gru", "none"])
def test_channels_that_do_nothing_are_the_ones_that_go(rnn: str) -> None:
    """With one channel per group, silent channels (zero filters, zero norms) contribute nothing: the answer stays."""
    torch.manual_seed(0)
    definition: dict[str, Plain] = {**UNET, "rnn": rnn}
    network = networks.build(definition).eval()
    assert isinstance(network, RecurrentUNet)
    for mixer in network.mixers.values():
        nn.init.normal_(of(Tensor, of(nn.Module, mixer.out).weight))
    silent = {0: [1, 3], 1: [0, 2, 5], 2: [1, 4, 6, 7]}
    with torch.no_grad():
        for v, quiet in silent.items():
            i = 1 - v
            blocks = [network.encoder[v], *([network.decoder[i]] if i >= 0 else [])]
            for block in blocks:
                for name in ("conv", "norm", "conv1", "norm1", "conv2", "norm2", "skip"):
                    layer = getattr(block, name, None)
                    for p in layer.parameters() if layer is not None else []:
                        p[quiet] = 0
                if hasattr(block, "conv2"):
                    of(Tensor, of(nn.Module, block.conv2).weight)[:, quiet] = 0
            if i >= 0:
                of(Tensor, network.up[i].weight)[:, quiet] = 0
                of(Tensor, network.up[i].bias)[quiet] = 0
            if str(v) in network.mixers:
                mixer = network.mixers[str(v)]
                of(Tensor, of(nn.Module, mixer.out).weight)[quiet] = 0
                of(Tensor, of(nn.Module, mixer.out).bias)[quiet] = 0
                of(Tensor, of(nn.Module, mixer.out).weight)[:, [0, 2, 5, 7]] = 0
                for cell, dead in ((mixer.forward_cell, [0, 2]), (mixer.ahead_cell, [1, 3])):
                    of(Tensor, of(nn.Module, of(nn.Module, cell).gates).weight)[:, dead] = 0
                    of(Tensor, of(nn.Module, of(nn.Module, cell).candidate).weight)[:, dead] = 0
    smaller, weights = prune(network, definition, 0.5)
    assert smaller["widths"] == [2, 3, 4]
    assert smaller.get("hidden") == (2 if rnn == "gru" else 4)
    small = networks.build(smaller).eval()
    small.load_state_dict(weights)
    x = torch.randn(1, 4, 3, 16, 12)
    assert torch.allclose(small(x), network(x), atol=1e-5)


@pytest.mark.parametrize("keep", [0.1, 0.25, 0.5, 0.84, 0.99])
@pytest.mark.parametrize("widths", [[16, 32, 64], [8, 8, 24], [5, 8, 8], [32, 24, 8]])
def test_any_share_gives_a_network_that_runs(keep: float, widths: list[int]) -> None:
    definition: dict[str, Plain] = {**UNET, "widths": widths}
    network = networks.build(definition)
    assert isinstance(network, RecurrentUNet)
    smaller, weights = prune(network, definition, keep)
    small = networks.build(smaller)
    small.load_state_dict(weights)
    assert small(torch.zeros(1, 2, 3, 8, 8)).shape == (1, 2, 2, 8, 8)
    assert sum(v.numel() for v in weights.values()) <= sum(v.numel() for v in network.state_dict().values())
