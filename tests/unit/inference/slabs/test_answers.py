"""`segment` with a slab network: an answer that is not a number is an error, and options that it does not know are refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning, ModelError
from napari_medseq.inference.resources import devices
from napari_medseq.inference.slabs import segmentation
from napari_medseq.inference.slabs.answer import planes_of
from napari_medseq.inference.slabs.windows import SlabSettings, folded, probabilities_of_steps, starts
from napari_medseq.models import Model
from napari_medseq.models.slab_unet import SlabUNet
from tests.unit.training import small
from tests.unit.training.small import blob


@pytest.fixture
def slab() -> Model:
    return small.slab()


def test_a_slab_network_that_learned_since_is_folded_anew() -> None:
    network = SlabUNet(channels=1, classes=2, widths=(4, 8), strides=((1, 2, 2),), norm="batch").eval()
    first = folded(network)
    assert folded(network) is first
    with torch.no_grad():
        next(iter(network.heads.parameters())).mul_(2)
    assert torch.equal(*(next(iter(n.heads.parameters())) for n in (folded(network), network)))


def test_a_sound_network_labels(slab: Model) -> None:
    assert ms.segment(blob(), slab, device="cpu").labels.data.shape == blob().data.shape


def test_an_answer_that_is_no_number_is_an_error(slab: Model) -> None:
    with torch.no_grad():
        next(p for p in slab.network.parameters() if p.ndim == 5).view(-1)[0] = torch.inf
    with pytest.raises(ModelError, match="not numbers"):
        ms.segment(blob(), slab, device="cpu")


def test_what_it_cannot_do_is_refused(slab: Model) -> None:
    with pytest.raises(MedseqError, match="not known"):
        ms.segment(blob(), slab, outputs=("certainty",))
    with pytest.raises(ModelError, match="views=0"):
        ms.segment(blob(), slab, outputs=("uncertainty",), views=2)
    with pytest.raises(ModelError, match="samples=0"):
        ms.segment(blob(), slab, outputs=("uncertainty",), samples=2)


def test_a_gpu_without_memory_hands_over_to_the_cpu_and_says_so(slab: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ms.segment(blob(), slab, device="cpu").labels
    steps = probabilities_of_steps

    def small(network: SlabUNet, volume: Any, settings: SlabSettings, device: torch.device, *more: Any) -> Any:
        if device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return steps(network, volume, settings, device, *more)

    monkeypatch.setattr("napari_medseq.inference.slabs.segmentation.probabilities_of_steps", small)
    monkeypatch.setattr(devices, "choose", lambda *_: (torch.device("cuda"), "for this test"))
    with pytest.warns(MedseqWarning, match="the CPU is used"):
        found = ms.segment(blob(), slab).labels
    assert np.array_equal(found.data, expected.data)
    assert "the CPU is used" in found.warnings[-1]


def test_windows_along_the_steps_add_up_to_one_answer_whatever_the_window(slab: Model) -> None:
    """Step by step the same as all windows of a whole volume added up at once."""
    network = slab.network
    assert isinstance(network, SlabUNet)
    volume = np.random.default_rng(0).normal(size=(1, 11, 20, 18)).astype(np.float32)
    settings = SlabSettings(window=(4, 8, 12))
    plans = [starts(n, w) for n, w in zip(volume.shape[1:], settings.window, strict=True)]
    assert len(plans[0][0]) > 3
    total = torch.zeros(2, *volume.shape[1:])
    weight = torch.zeros(volume.shape[1:])
    for place in itertools.product(*(p[0] for p in plans)):
        inner = tuple(slice(a, a + w) for a, (_, w) in zip(place, plans, strict=True))
        ramp = torch.ones(())
        for _, w in plans:
            up = torch.arange(1, w + 1).float()
            ramp = ramp[..., None] * torch.minimum(up, up.flip(0))
        with torch.no_grad():
            p = network.eval().label_volume(torch.from_numpy(volume)[(None, slice(None), *inner)]).softmax(1)[0]
        total[(slice(None), *inner)] += p * ramp
        weight[inner] += ramp
    found = torch.stack(list(probabilities_of_steps(network, volume, settings, torch.device("cpu"))), 1)
    torch.testing.assert_close(found, total / weight, atol=1e-5, rtol=1e-4)
    labels = planes_of(network, volume, settings, torch.device("cpu")).labels
    assert np.array_equal(labels, ((total / weight)[1] > 0.5).numpy())


def test_no_more_probabilities_are_held_than_a_window_of_steps(slab: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 steps, four at once: what is allocated for the classes does not grow with the sequence."""
    network = slab.network
    assert isinstance(network, SlabUNet)
    sizes = []
    zeros = torch.zeros

    def noted(*size: int, device: torch.device | None = None) -> torch.Tensor:
        sizes.append(size)
        return zeros(*size, device=device)

    monkeypatch.setattr(torch, "zeros", noted)
    volume = np.zeros((1, 40, 8, 8), np.float32)
    steps = probabilities_of_steps(network, volume, SlabSettings(window=(4, 8, 8)), torch.device("cpu"))
    assert sum(1 for _ in steps) == 40
    assert max(np.prod(s) for s in sizes if s) == 2 * 4 * 8 * 8


@pytest.mark.parametrize("verb", ["locate", "compress"])
def test_verbs_for_networks_that_go_step_by_step_say_that_it_is_none(slab: Model, verb: str, tmp_path: Path) -> None:
    calls: dict[str, Callable[[], object]] = {
        "locate": lambda: ms.locate(blob(), slab),
        "compress": lambda: ms.compress(slab, settings={"out": str(tmp_path / "small")}),
    }
    with pytest.raises(ModelError, match=f"slab is a slab network.*{verb} does not know it. [A-Z]"):
        calls[verb]()
    assert not list(tmp_path.iterdir())


def test_the_piece_that_is_kept_is_the_surest_not_the_largest(slab: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seq = blob()
    p = torch.zeros(2, *seq.data.shape)
    p[1, :, 2:8, 2:8] = 0.55
    p[1, :, 20:24, 20:24] = 0.99
    p[0] = 1 - p[1]
    own_grid = SimpleNamespace(image=seq, back=lambda values, **_: values)
    monkeypatch.setattr(
        segmentation, "working_volume", lambda *_: (np.zeros((1, *seq.data.shape), np.float32), own_grid)
    )
    monkeypatch.setattr(segmentation, "probabilities_of_steps", lambda *_: (p[:, k] for k in range(p.shape[1])))
    of_one_piece = replace(slab, inference={**slab.inference, "keep_largest": True})
    both, one = (np.asarray(ms.segment(seq, m, device="cpu").labels.data) > 0 for m in (slab, of_one_piece))
    assert np.array_equal(both, p[1].numpy() > 0.5)
    assert np.array_equal(one, p[1].numpy() > 0.9)
