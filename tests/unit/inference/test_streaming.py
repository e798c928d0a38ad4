"""Properties of streaming, for any network, any length and any grouping; and that what the sequence says is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.inference.network_passes import VIEWS, View
from napari_medseq.inference.resources.tuning import Plan, choose, measure, placed, prepare
from napari_medseq.inference.streaming import stream, stream_side_by_side
from napari_medseq.models.recurrent_unet import RecurrentUNet, with_neighbours
from tests.narrowing import of
from tests.unit.training.small import UNET, blob, model

NETWORKS = st.fixed_dictionaries(
    {
        "rnn": st.sampled_from(["gru", "lstm", "none"]),
        "ahead": st.integers(0, 4),
        "neighbours": st.integers(0, 2),
        "in_channels": st.integers(1, 2),
    }
)


def network(**settings: Any) -> RecurrentUNet:
    torch.manual_seed(0)
    net = RecurrentUNet(widths=(4, 8), rnn_levels=(0, 1), hidden=3, **settings).eval()
    for mixer in net.mixers.values():
        torch.nn.init.normal_(of(Tensor, of(nn.Module, mixer.out).weight))
    return net


@settings(max_examples=30, deadline=None)
@given(NETWORKS, st.integers(1, 9), st.integers(1, 10), st.integers(1, 3))
def test_any_grouping_and_any_company_give_the_float64_reference(
    made: dict[str, Any], steps: int, together: int, n: int
) -> None:
    net = network(**made)
    x = torch.randn(n, steps, made["in_channels"], 8, 6)
    got = torch.stack(list(stream_side_by_side(net, iter(x.unbind(1)), plan=Plan(together=together))), 1)
    net = net.double()
    for one, out in zip(x, got, strict=True):
        whole = net(with_neighbours(one.double(), made["neighbours"])[None])[0].detach()
        assert torch.allclose(out.double(), whole, atol=1e-4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=st.integers(1, 40), steps=st.integers(1, 9), seed=st.integers(0, 5))
def test_any_chunk_gives_the_same_labels_to_the_bit(tmp_path: Path, chunk: int, steps: int, seed: int) -> None:
    m, seq = model(tmp_path / "m", threshold=0.45), blob(seed, shape=(steps, 20, 18))
    a, b = (ms.segment(seq, m, outputs=("probability",), chunk=c) for c in (chunk, None))
    assert np.array_equal(a.labels.data, b.labels.data)
    assert a.probability is not None
    assert b.probability is not None
    assert np.array_equal(a.probability.data, b.probability.data)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(14, 22)), min_size=1, max_size=4))
def test_any_batch_of_visits_gives_what_each_alone_gives(tmp_path: Path, shapes: list[tuple[int, int]]) -> None:
    m = model(tmp_path / "m")
    images = [blob(i, shape=(z, y, 16)) for i, (z, y) in enumerate(shapes)]
    together = ms.segment([ms.Visit(None, (i,), name=f"v{k}") for k, i in enumerate(images)], m)
    for image, out in zip(images, together, strict=True):
        assert np.array_equal(out.labels.data, ms.segment(image, m).labels.data)


def test_a_network_that_learnt_from_the_sequence_gets_worse_without_it_or_in_another_order() -> None:
    """The mechanism behind the table of the shipped models: reset and shuffle reach the recurrence, and only it."""
    torch.manual_seed(0)
    net = RecurrentUNet(widths=(8, 8), rnn_levels=(0,), hidden=8, ahead=0, neighbours=0, dropout=0.0)

    def cases(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise, brighter on some steps; the answer at each step is whether the step before was."""
        x = 0.1 * torch.randn(n, 6, 1, 4, 4)
        on = torch.rand(n, 6) < 0.5
        x += 2.0 * on[..., None, None, None]
        before = torch.cat([torch.zeros(n, 1, dtype=torch.bool), on[:, :-1]], 1)
        return x, before.long()[..., None, None].expand(n, 6, 4, 4)

    optimiser = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(70):
        x, y = cases(12)
        loss = torch.nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten(0, 1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    x, y = cases(32)

    def right(reset: bool = False) -> float:
        steps = stream_side_by_side(net, iter(x.unbind(1)), reset=reset)
        return float((torch.stack(list(steps), 1).argmax(2) == y).float().mean())

    order = torch.tensor([5, 2, 0, 3, 1, 4])
    shuffled = float((net(x, order=order).argmax(2) == y).float().mean())
    assert right() > 0.9
    assert right(reset=True) < 0.75
    assert shuffled < 0.75
    # the plain CNN has no sequence to lose
    plain = network(rnn="none", neighbours=0)
    a, b = (torch.stack(list(stream(plain, iter(x[0]), reset=r))) for r in (False, True))
    assert torch.equal(a, b)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_comes_back_to_its_own_pixels(view: View) -> None:
    x = torch.randn(2, 5, 6)
    assert torch.allclose(view.back(view.of(x)), x * view.contrast)


def test_uncertainty_over_views_is_the_entropy_of_their_mean(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m", {**UNET, "ahead": 0}), blob(shape=(3, 24, 24))
    out = ms.segment(seq, m, outputs=("uncertainty", "labels"), views=3, device="cpu")
    from napari_medseq.inference.inputs.frame import frame

    f = frame([seq], along="slices", pixel_mm=None, stride=4)
    x = torch.stack([f.read([seq], i) for i in range(f.steps)])

    def p(steps: torch.Tensor) -> torch.Tensor:
        logits = m.network(with_neighbours(steps, 1)[None])[0].detach()
        return torch.Tensor(logits.softmax(1))

    mean = (p(x) + p(x.flip(-1)).flip(-1) + p(1.1 * x) + p(0.9 * x)) / 4
    entropy = -(mean * mean.log()).sum(1) / np.log(2)
    expected = np.stack([f.uncrop(e, labels=False) for e in entropy])
    assert out.uncertainty is not None
    assert np.allclose(out.uncertainty.data, expected, atol=1e-4)
    assert np.array_equal(out.labels.data, ms.segment(seq, m).labels.data)
    with pytest.raises(MedseqError, match=r"views is 8.*up to 7"):
        ms.segment(seq, m, outputs=("uncertainty",), views=8)


# -- precision and layout ------------------------------------------------------------------------------------------------------
def test_lower_precision_must_be_well_ahead() -> None:
    slow, fast = Plan(channels_last=False), Plan()
    half = Plan(torch.bfloat16)
    assert choose({slow: 2.0, fast: 1.0, half: 0.95}) == fast
    assert choose({slow: 2.0, fast: 1.0, half: 0.5}) == half
    assert choose({slow: 0.8, fast: 1.0, half: 200.0}) == slow


def test_plans_are_measured_and_all_of_them_run() -> None:
    net = network(rnn="gru", neighbours=1)
    plans = measure(net, torch.device("cpu"))
    assert {(p.dtype, p.channels_last) for p in plans} == {
        (d, c) for d in (None, torch.bfloat16) for c in (False, True)
    }
    assert all(s > 0 for s in plans.values())
    x = torch.randn(4, 1, 16, 16)
    whole = torch.stack(list(stream(net, iter(x))))
    for plan in plans:
        got = torch.stack(list(stream(net, iter(x), plan=plan))).float()
        assert torch.allclose(got, whole, atol=1e-5 if plan.dtype is None else 0.2)


def test_a_network_is_not_moved_for_a_job_on_another_device() -> None:
    one = network(rnn="gru", neighbours=1)
    elsewhere = torch.device("meta")  # a device that every computer has
    other = placed(one, elsewhere)
    assert {p.device.type for p in other.parameters()} == {"meta"}
    assert {p.device.type for p in one.parameters()} == {"cpu"}
    assert placed(one, elsewhere) is other
    assert placed(one, torch.device("cpu")) is one
    with torch.no_grad():
        next(one.parameters()).add_(1)
    assert placed(one, elsewhere) is not other  # it was trained since


def test_the_cpu_is_always_run_alike() -> None:
    one = network(rnn="gru", neighbours=1)
    assert prepare(one, torch.device("cpu"), together=7) == (one, Plan())
    assert "float32, channels last, 1 step" in str(Plan())
