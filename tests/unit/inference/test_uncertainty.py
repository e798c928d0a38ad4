"""Monte-Carlo dropout: one mask per pass for all steps, repeatable, and no business of the labels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.streaming import stream
from napari_medseq.models.recurrent_unet import RecurrentUNet, with_neighbours
from tests.narrowing import of
from tests.unit.training.small import CLASSIFIER, UNET, blob, model

DROPPING = {**UNET, "dropout": 0.5}


def test_a_pass_has_one_mask_for_all_steps_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(0)
    network = RecurrentUNet(widths=(4, 8), rnn="none", neighbours=0, dropout=0.5).eval()
    x = torch.randn(1, 8, 8).expand(3, 1, 8, 8)
    before = torch.get_rng_state()
    a, b = (torch.stack(list(stream(network, iter(x), dropout=seed))) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a[0], a[1])
    assert torch.equal(a[0], a[2])
    assert not torch.allclose(a, b)
    assert not any(m.training for m in network.modules())


def test_two_jobs_share_a_network_without_noticing_each_other() -> None:
    """A pass with dropout, step by step beside a plain one and another with dropout: each as it is alone."""
    torch.manual_seed(0)
    network = RecurrentUNet(widths=(4, 8), rnn_levels=(1,), ahead=0, neighbours=0, dropout=0.5).eval()
    steps = torch.randn(6, 1, 8, 8)
    seeds = (None, 1, 2)
    alone = [list(stream(network, iter(steps), dropout=seed)) for seed in seeds]

    def seen(wait: threading.Barrier) -> Iterator[torch.Tensor]:
        for x in steps:
            wait.wait(10)  # all jobs are at the same step
            yield x

    barrier, together = threading.Barrier(len(seeds)), dict[int, list[torch.Tensor]]()

    def job(k: int) -> None:
        together[k] = list(stream(network, seen(barrier), dropout=seeds[k]))

    jobs = [threading.Thread(target=job, args=(k,)) for k in range(len(seeds))]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join()
    for k in range(len(seeds)):
        assert torch.equal(torch.stack(together[k]), torch.stack(alone[k]))


def test_sampling_touches_neither_the_network_nor_the_generator_while_it_runs() -> None:
    network = RecurrentUNet(widths=(4, 8), rnn="none", neighbours=0, dropout=0.5).eval()
    steps, noticed = torch.randn(2, 1, 8, 8), list[bool]()
    before = torch.get_rng_state()

    def watch(module: torch.nn.Module, *_: object) -> None:
        noticed.append(module.training or not torch.equal(torch.get_rng_state(), before))

    for module in network.modules():
        module.register_forward_hook(watch)
    list(stream(network, iter(steps), dropout=3))
    assert noticed
    assert not any(noticed)


def test_uncertainty_is_the_entropy_of_the_mean_of_passes(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m", DROPPING), blob(shape=(4, 24, 24))
    out = ms.segment(seq, m, outputs=("labels", "probability", "uncertainty"), samples=3, device="cpu")
    network = of(RecurrentUNet, m.network)
    f = frame([seq], along="slices", pixel_mm=None, stride=4)
    x = torch.stack([f.read([seq], i) for i in range(f.steps)])
    p = torch.zeros(())
    for seed in range(3):
        features = []
        for step in with_neighbours(
            x, 1
        ):  # the slow way: seed and encode each step by itself, then mix and decode whole
            torch.manual_seed(seed)
            network.train()
            features.append([v.detach() for v in network.encode(step[None])])
        network.eval()
        levels = [torch.cat([s[v] for s in features]) for v in range(3)]
        for level, mixer in network.recurrent:
            levels[level] = mixer(levels[level][None])[0]
        p = p + network.decode(levels)[-1].softmax(1).detach() / 3
    entropy = -(p * p.log()).sum(1) / np.log(2)
    expected = np.stack([f.uncrop(e, labels=False) for e in entropy])
    assert out.uncertainty is not None
    assert np.allclose(out.uncertainty.data, expected, atol=1e-4)
    plain = ms.segment(seq, m, outputs=("labels", "probability", "uncertainty"), device="cpu")
    assert plain.probability is not None
    assert plain.uncertainty is not None
    assert out.probability is not None
    assert np.array_equal(out.labels.data, plain.labels.data)
    assert np.array_equal(out.probability.data, plain.probability.data)
    assert not np.allclose(out.uncertainty.data, plain.uncertainty.data, atol=1e-3)
    again = ms.segment(seq, m, outputs=("uncertainty",), samples=3, chunk=2, device="cpu").uncertainty
    assert again is not None
    assert np.array_equal(again.data, out.uncertainty.data)


@pytest.mark.parametrize(
    ("network", "options", "reason"),
    [
        ({**UNET, "dropout": 0.0}, {"samples": 2, "outputs": ("uncertainty",)}, "no dropout"),
        (DROPPING, {"samples": 2}, r"outputs=\('uncertainty'"),
        (DROPPING, {"samples": -1, "outputs": ("uncertainty",)}, "samples is -1"),
        (CLASSIFIER, {"samples": 2, "outputs": ("uncertainty",)}, "needs a segmentation model"),
    ],
)
def test_samples_that_make_no_sense_are_said(
    tmp_path: Path, network: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MedseqError, match=reason):
        ms.segment(blob(), model(tmp_path / "m", network), **options)
