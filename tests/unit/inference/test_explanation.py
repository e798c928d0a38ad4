"""Explanations: they point at what is known to cause the answer, on the input's own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module

import napari_medseq as ms
from napari_medseq.errors import MedseqError, OperationCancelled
from napari_medseq.sequence import ImageSequence, Visit, affine_from
from tests.narrowing import of
from tests.unit.inference.brightness import brightness
from tests.unit.training.small import CLASSIFIER, UNET, blob, model

SPOT = (3, 21, 9)  # step, row, column


def spotted(spot: tuple[int, int, int] = SPOT, **changes: Any) -> ImageSequence:
    """A textured box with one very bright voxel, which any square covers whole."""
    data = blob(shape=(7, 32, 32)).data.copy()
    k, r, c = spot
    data[k, r, c] = 3000
    return blob(shape=(7, 32, 32), **changes).replace(data=data)


def peak(seq: ImageSequence) -> tuple[int, ...]:
    return tuple(int(v) for v in np.unravel_index(np.argmax(seq.data), seq.data.shape))


@pytest.mark.parametrize(
    ("network", "method"),
    [
        (UNET, "grad-cam"),
        (UNET, "occlusion"),
        (CLASSIFIER, "grad-cam"),
        (CLASSIFIER, "attention"),
        (CLASSIFIER, "occlusion"),
    ],
)
@pytest.mark.parametrize("spot", [SPOT, (5, 12, 22)])
def test_the_map_peaks_at_the_cause(
    tmp_path: Path, network: dict[str, Any], method: Any, spot: tuple[int, int, int]
) -> None:
    m, seq = brightness(model(tmp_path / "m", {**network, "neighbours": 0})), spotted(spot)
    out = ms.explain(seq, m, method=method, device="cpu")
    assert out.same_grid(seq)
    assert out.axes == seq.axes
    assert out.data.dtype == np.float32
    assert out.data.min() >= 0
    k, r, c = peak(out)
    assert k == spot[0]
    assert abs(r - spot[1]) <= 4
    assert abs(c - spot[2]) <= 4
    # what is far from the cause is dark
    assert out.data[spot[0], :4].max() < 0.5 * out.data.max()
    assert out.meta["explanation"]["target"] == "lesion"
    assert out.meta["explanation"]["largest"] > 0


@pytest.mark.parametrize("network", [UNET, CLASSIFIER])
def test_grad_cam_equals_autograd_through_the_whole_network(tmp_path: Path, network: dict[str, Any]) -> None:
    """The streamed map against one backward pass through the undivided network, with a recurrence that matters."""
    from torch.nn import functional

    from napari_medseq.inference.inputs.frame import frame
    from napari_medseq.models.recurrent_unet import with_neighbours

    m, seq = model(tmp_path / "m", network), blob(shape=(4, 24, 24))
    out = ms.explain(seq, m, device="cpu").data
    net = m.network
    f = frame([seq], along="slices", pixel_mm=None, stride=of(int, net.stride))
    x = with_neighbours(torch.stack([f.read([seq], i) for i in range(f.steps)]), 1)
    kept: list[Tensor] = []
    where = net.get_submodule("mixers.2") if network is UNET else list(net.get_submodule("encoder").children())[-1]

    def keep(_module: Module, _inputs: object, out: Tensor) -> None:
        out.retain_grad()
        kept.append(out)

    where.register_forward_hook(keep)
    if network is UNET:
        logits = net(x[None])[0]
        score = (logits.detach().softmax(1)[:, 1] * (logits[:, 1] - logits[:, 0])).sum()
    else:
        score = net(x[None]).exam[0, 0]
    score.backward()
    assert kept[0].grad is not None
    deep, g = (v[0] if v.ndim == 5 else v for v in (kept[0].detach(), kept[0].grad))
    cam = torch.relu((g.mean((2, 3), keepdim=True) * deep).sum(1))
    full = functional.interpolate(cam[:, None], size=f.padded, mode="bilinear")[:, 0]
    expected = np.stack([f.uncrop(p, labels=False) for p in full])
    assert expected.max() > 0
    assert np.allclose(out, expected / expected.max(), atol=1e-4)


def test_other_orders_of_axes_give_the_same(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m"), blob()
    turned = ImageSequence(
        seq.data.transpose(1, 2, 0), ("z", "y", "x"), affine_from((5, 0.9, 0.9)), slice_axis="x", modality="MR"
    )
    a, b = ms.explain(seq, m), ms.explain(turned, m)
    assert np.allclose(a.data.transpose(1, 2, 0), b.data, atol=1e-6)
    assert b.same_grid(turned)


def test_visits_give_one_map_each(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m"), blob()
    (one,) = ms.explain([Visit(None, (seq,), name="v")], m)
    assert np.array_equal(one.data, ms.explain(seq, m).data)


@pytest.mark.parametrize(
    ("network", "method", "total"),
    [(UNET, "grad-cam", 7), (UNET, "occlusion", 455), (CLASSIFIER, "grad-cam", 14), (CLASSIFIER, "occlusion", 14)],
)
def test_progress_is_whole_and_cancel_stops(tmp_path: Path, network: dict[str, Any], method: Any, total: int) -> None:
    m, seq, seen = model(tmp_path / "m", network), spotted(), []
    with pytest.raises(OperationCancelled):
        ms.explain(seq, m, method=method, progress=lambda d, t, _: seen.append((d, t)), cancelled=lambda: len(seen) > 2)
    assert seen == [(i, total) for i in (1, 2, 3)]
    if total < 20:
        seen.clear()
        ms.explain(seq, m, method=method, progress=lambda d, t, _: seen.append((d, t)))
        assert seen == [(i + 1, total) for i in range(total)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "magic"}, "method 'magic'.*grad-cam"),
        ({"target": "unicorn"}, r"'unicorn' is not a class.*1 \(lesion\)"),
        ({"target": 5}, "5 is not a class"),
        ({"method": "attention"}, "no attention"),
    ],
)
def test_what_cannot_be_explained_is_said(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(MedseqError, match=reason):
        ms.explain(blob(), model(tmp_path / "m"), **options)


def test_target_by_name_is_target_by_value(tmp_path: Path) -> None:
    m = model(tmp_path / "m")
    assert np.array_equal(ms.explain(blob(), m, target="lesion").data, ms.explain(blob(), m, target=1).data)
