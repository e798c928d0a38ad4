"""`explain` with a slab network: the maps are those that the definitions give, on the image's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import napari_medseq as ms
from napari_medseq.errors import ModelError, SettingsError
from napari_medseq.inference.explanation import Method
from napari_medseq.inference.inputs.working import Working, working_volume
from napari_medseq.models import Model, ModelInfo
from napari_medseq.models.slab_unet import SlabUNet
from tests.unit.training.small import blob


def slab(window: tuple[int, int, int] = (64, 256, 256), channels: tuple[str, ...] = ("image",)) -> Model:
    torch.manual_seed(0)
    network = SlabUNet(len(channels), 3, widths=(4, 8), strides=((1, 2, 2),)).eval()
    info = ModelInfo(
        name="slab", version="0", task="segmentation", modality="MR", classes={1: "core", 2: "rim"}, channels=channels
    )
    inference: dict[str, Any] = {"window": list(window), "working": {"axis": "z", "schemes": [{}] * len(channels)}}
    return Model(info, network, {"kind": "slab", **inference}, {})


def test_grad_cam_is_the_gradient_weighted_sum_of_the_deepest_features() -> None:
    """Against hooks and autograd through the whole network (Selvaraju et al. 2017, eq. 1 and 2)."""
    model, image = slab(), blob()
    seen = ms.explain(image, model, target="rim", device="cpu")
    assert seen.same_grid(image)
    assert seen.data.dtype == np.float32
    assert float(np.max(seen.data)) == 1

    network = model.network
    assert isinstance(network, SlabUNet)
    kept: list[torch.Tensor] = []
    handle = network.down[-1].register_forward_hook(lambda *a: kept.append(a[2]))
    volume, grid = working_volume({"image": image}, ("image",), Working(axis="z"))
    logits = network.label_volume(torch.from_numpy(volume)[None])
    handle.remove()
    odds = logits[:, 2] - torch.stack([logits[:, 0], logits[:, 1]]).logsumexp(0)
    (logits.detach().softmax(1)[:, 2] * odds).sum().backward(inputs=[kept[0]])
    assert kept[0].grad is not None
    weights = kept[0].grad.mean((2, 3, 4))
    coarse = torch.einsum("nc,nczyx->nzyx", weights, kept[0]).relu()[:, None].detach()
    expected = functional.interpolate(coarse, size=logits.shape[2:], mode="trilinear")[0, 0].numpy()
    back = grid.back(expected, labels=False)
    np.testing.assert_allclose(seen.data, back / back.max(), atol=1e-4)
    assert seen.meta["explanation"]["largest"] == pytest.approx(float(back.max()), rel=1e-3)


def test_occlusion_is_how_far_the_answer_falls() -> None:
    model, image = slab(), blob()
    seen = ms.explain(image, model, target=1, method="occlusion", device="cpu")
    network = model.network
    assert isinstance(network, SlabUNet)
    volume, grid = working_volume({"image": image}, ("image",), Working(axis="z"))

    def odds(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            logits = network.label_volume(torch.from_numpy(x)[None])[0]
        return logits[1] - torch.stack([logits[0], logits[2]]).logsumexp(0), logits.softmax(0)[1]

    before, p = odds(volume)
    side = -(-max(volume.shape[2:]) // 8)
    expected = np.zeros(volume.shape[1:], np.float32)
    for r in range(0, volume.shape[2], side):
        for c in range(0, volume.shape[3], side):
            covered = volume.copy()
            covered[:, :, r : r + side, c : c + side] = 0
            fall = (p * (before - odds(covered)[0])).sum((1, 2)).clamp_min(0)
            expected[:, r : r + side, c : c + side] = fall[:, None, None]
    back = grid.back(expected, labels=False)
    np.testing.assert_allclose(seen.data, back / back.max(), atol=2e-3)


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_windows_and_missing_channels_make_no_hole(method: Method) -> None:
    model = slab((4, 16, 16), ("a", "b"))
    model.inference["missing_channels"] = True
    seen = ms.explain({"b": blob()}, model, method=method, device="cpu")
    assert seen.data.shape == blob().data.shape
    assert np.isfinite(seen.data).all()
    assert float(np.max(seen.data)) == 1


def test_an_unknown_method_or_class_to_explain_is_refused() -> None:
    with pytest.raises(ModelError, match="slab has no attention"):
        ms.explain(blob(), slab(), method="attention")
    with pytest.raises(SettingsError, match="core"):
        ms.explain(blob(), slab(), target="edge")
