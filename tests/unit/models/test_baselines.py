"""MONAI's networks under our interface: sizes, what sees what, windows, and `segment` with each of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.models import Model, ModelInfo, baselines, networks
from napari_medseq.models.baselines import Baseline
from napari_medseq.training.loops.losses import segmentation_loss
from tests.unit.training.small import blob

SMALL: dict[str, dict[str, Any]] = {
    "BasicUNet": {"features": [4, 4, 4, 4, 4, 4]},
    "DynUNet": {"filters": [4, 4, 4, 4, 4]},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "SwinUNETR": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
}
NAMES = [
    pytest.param(
        n,
        marks=pytest.mark.skipif(
            n == "SwinUNETR" and importlib.util.find_spec("einops") is None, reason="MONAI's SwinUNETR needs einops"
        ),
    )
    for n in SMALL
]


def made(name: str, dimensions: int, **more: Any) -> Baseline:
    torch.manual_seed(0)
    network = networks.build({"_target_": name, "classes": 3, "dimensions": dimensions, **SMALL[name], **more})
    assert isinstance(network, Baseline)
    return network.eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_any_size_and_length_is_labelled_and_learned_from(name: str, dimensions: int) -> None:
    network = made(name, dimensions)
    x = torch.randn(1, 3, 1, 21, 18)
    assert network(x).shape == (1, 3, 3, 21, 18)
    loss = segmentation_loss(network.train(), x, torch.randint(0, 3, (1, 3, 21, 18)))
    loss.backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad and p.numel() > 1)
    assert bool(loss.isfinite())


@pytest.mark.parametrize("name", ["BasicUNet", "DynUNet"])
def test_it_is_monais_network_where_nothing_is_padded(name: str) -> None:
    flat, deep = made(name, 2), made(name, 3)
    x = torch.randn(2, 32, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(flat(x)[1, 3], flat.network(x[1, 3:4])[0], atol=1e-5)
        volume = deep.network(x[1].movedim(0, 1)[None])[0]
        assert torch.allclose(deep(x)[1], volume.movedim(1, 0), atol=1e-5)


def test_a_2d_network_sees_its_step_and_a_3d_one_the_others_too() -> None:
    x = torch.randn(1, 6, 1, 32, 32)
    changed = x.clone()
    changed[:, 0] = torch.randn(1, 32, 32)
    with torch.no_grad():
        for dimensions, wanted in ((2, [True] + [False] * 5), (3, [True] * 6)):
            network = made("BasicUNet", dimensions)
            moved = (network(x) - network(changed)).abs().amax((0, 2, 3, 4)) > 1e-6
            assert moved.tolist() == wanted


@pytest.mark.parametrize("dimensions", [2, 3])
def test_steps_in_a_row_give_what_the_window_gives(dimensions: int) -> None:
    network = made("BasicUNet", dimensions)
    x = torch.randn(2, 5, 1, 32, 32)
    out = torch.stack(list(network.side_by_side(x.unbind(1))), 1)
    assert torch.allclose(out, network(x), atol=1e-5)
    windowed = made("BasicUNet", 3, window=[4, 16, 16])
    again: Tensor = torch.stack(list(windowed.side_by_side(x.unbind(1))), 1)
    assert again.shape == out.shape
    assert not torch.allclose(again, network(x), atol=1e-4)


@pytest.mark.parametrize(
    "bad",
    [
        {"_target_": "BasicUNet", "dimensions": 4},
        {"_target_": "BasicUNet", "dimensions": 3, "neighbours": 1},
        {"_target_": "BasicUNet", "dimensions": 3, "window": [8, 8]},
        {"_target_": "DynUNet", "filters": [4]},
        {"_target_": "SegResNet", "colour": "red"},
    ],
)
def test_what_cannot_be_built_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        networks.build(bad)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install einops"):
        networks.build({"_target_": "SwinUNETR"})


def model(network: torch.nn.Module, task: Any = "segmentation", **inference: Any) -> Model:
    info = ModelInfo(name="rival", version="0", task=task, modality="MR", classes={1: "a", 2: "b"})
    return Model(info, network, inference, {})


@pytest.mark.parametrize(
    ("name", "dimensions", "more"),
    [
        ("BasicUNet", 2, {"neighbours": 1}),
        ("DynUNet", 3, {"window": [4, 32, 32]}),
        ("SegResNet", 3, {}),
        pytest.param("SwinUNETR", 2, {}, marks=NAMES[3].marks),
    ],
)
def test_segment_runs_them(name: str, dimensions: int, more: dict[str, Any]) -> None:
    image, seen = blob(), list[int]()
    network = made(name, dimensions, **more)
    out = ms.segment(
        image,
        model(network, mirror=True),
        outputs=("labels", "probability", "uncertainty"),
        views=1,
        device="cpu",
        progress=lambda done, *_: seen.append(done),
    )
    assert out.labels.sizes == image.sizes
    assert seen == list(range(1, 8))
    assert out.probability is not None
    assert out.uncertainty is not None
    # the labels are those of the network on the framed image: a pixel of the foreground is classed by the largest logit
    p = np.asarray(out.probability.data)
    assert p.min() >= 0
    assert 0 < p.max() <= 1
    assert ((np.asarray(out.labels.data) > 0) <= (p > 1 / 3)).all()
    with pytest.raises(MedseqError, match="samples"):
        ms.segment(image, model(network), outputs=("labels", "uncertainty"), samples=2, device="cpu")


def test_segment_leaves_a_denoiser_alone() -> None:
    network = networks.build({"_target_": "RecurrentDenoiser", "widths": [4, 8], "rnn_levels": [1], "hidden": 4})
    with pytest.raises(ModelError, match="denoising"):
        ms.segment(blob(), model(network, task="denoising"), device="cpu")


def test_a_bundle_of_a_baseline_is_written_and_loaded(tmp_path: Path) -> None:
    from napari_medseq.models import bundle, load_model

    definition = {"_target_": "BasicUNet", "dimensions": 3, "window": [8, 32, 32], **SMALL["BasicUNet"]}
    network = networks.build(definition).eval()
    bundle.write_bundle(
        tmp_path / "rival",
        facts={"name": "rival", "task": "segmentation", "modality": "MR", "classes": {"1": "lesion"}},
        network=definition,
        inference={"along": "slices"},
        weights=network.state_dict(),
        card="# rival\n",
        licence_text="BSD\n",
        description="",
        licence="BSD-3-Clause",
        version="0",
        storage="float32",
    )
    loaded = load_model(tmp_path / "rival")
    x = torch.randn(1, 4, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(x), network(x))
    assert ms.segment(blob(), loaded, device="cpu").labels.sizes == blob().sizes
