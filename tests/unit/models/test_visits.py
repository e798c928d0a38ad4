"""Visits in the recurrence: true gaps in time, visits that are missing, volumes as steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from napari_medseq.errors import ModelError
from napari_medseq.models import networks
from napari_medseq.models.cells import Cell
from napari_medseq.models.mixer import SequenceMixer
from napari_medseq.models.pruning import prune
from napari_medseq.models.recurrent_unet import RecurrentUNet

SMALL: dict[str, Any] = {"widths": (4, 8), "rnn_levels": (0, 1), "hidden": 3, "neighbours": 0, "gap_unit": 90.0}
DAYS = torch.tensor([[0.0, 30, 95, 400, 410, 800]])
PRESENT = torch.tensor([[True, True, False, True, False, True]])


def awake(network: Any) -> Any:
    """A network whose zero-initialised parts say something."""
    torch.manual_seed(5)
    for name, p in network.named_parameters():
        if "_gap" in name or ".out." in name or name.startswith("out."):
            torch.nn.init.normal_(p)
    return network.eval()


def test_an_untrained_network_does_not_care_about_time() -> None:
    network = RecurrentUNet(**SMALL).eval()
    torch.nn.init.normal_(network.recurrent[0][1].out.weight)
    x = torch.randn(1, 6, 1, 8, 8)
    assert torch.equal(network(x, times=DAYS), network(x))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("ahead", [0, 1, 9])
def test_times_stretch_and_a_shift_does_not_matter(cell: Cell, ahead: int) -> None:
    mixer = awake(SequenceMixer(2, 3, ahead, cell, gap_unit=90.0))
    x = torch.randn(1, 6, 2, 4, 4)
    same = mixer(x, DAYS)
    assert torch.allclose(mixer(x, DAYS + 1000), same, atol=1e-5)
    later = DAYS.clone()
    later[:, 3:] += 500  # a longer gap between the third and the fourth visit
    moved = (mixer(x, later) - same).abs().flatten(2).amax(2)[0] > 1e-6
    # forward from the fourth on, and back by the look-ahead
    assert moved.tolist() == [i >= 3 or i + ahead >= 3 for i in range(6)]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("ahead", [0, 2])
def test_streaming_with_gaps_gives_what_the_whole_gives(cell: Cell, ahead: int) -> None:
    mixer = awake(SequenceMixer(2, 3, ahead, cell, gap_unit=90.0)).double()
    x, times = torch.randn(1, 6, 2, 4, 4, dtype=torch.float64), DAYS.double()
    gap = [times[:, i + 1] - times[:, i] for i in range(5)]
    state, out = None, []
    carried = []
    for i in range(6):
        state = mixer.carry(x[:, i], state, gap[i - 1] if i else None)
        carried.append(state)
    for i in range(6):
        looked = None
        if mixer.ahead_cell is not None:
            last = min(i + ahead + 1, 6)
            looked = mixer.look([mixer.ahead_cell.from_input(x[:, j]) for j in range(i, last)], gap[i : last - 1])
        out.append(mixer.join(x[:, i], carried[i], looked))
    assert torch.allclose(torch.stack(out, 1), mixer(x, times), atol=1e-12)


@pytest.mark.parametrize("rnn", ["gru", "lstm", "none"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_missing_visit_is_as_if_it_did_not_exist(rnn: Any, dimensions: Any) -> None:
    network = awake(RecurrentUNet(rnn=rnn, ahead=2, dimensions=dimensions, classes=3, **SMALL)).double()
    x = torch.randn(2, 6, 1, *[4] * dimensions, dtype=torch.float64)
    times = DAYS.double().repeat(2, 1)
    present = torch.cat([PRESENT, torch.tensor([[True] * 4 + [False] * 2])])
    broken = x.clone()
    broken[~present] = 1e3
    out = network(broken, times=times, present=present)
    for k in range(2):
        kept = present[k]
        alone = network(x[k : k + 1, kept], times=times[k : k + 1, kept])
        assert torch.allclose(out[k, kept], alone[0], atol=1e-10)
    times[~present] = torch.nan  # nobody knows when a missing visit was
    assert torch.allclose(network(broken, times=times, present=present)[present], out[present], atol=1e-10)


def test_a_missing_visit_may_be_no_number_and_neither_answer_nor_gradient_hears_of_it() -> None:
    network = awake(RecurrentUNet(ahead=2, **SMALL))
    x = torch.randn(1, 6, 1, 4, 4)
    expected = network(x, present=PRESENT)[PRESENT]
    x[~PRESENT] = torch.nan
    out = network(x, present=PRESENT)[PRESENT]
    assert torch.equal(out, expected)
    out.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


def test_the_look_ahead_hears_nothing_of_a_missing_step() -> None:
    torch.manual_seed(0)
    mixer = awake(SequenceMixer(3, 4, ahead=2))
    x = torch.randn(1, 6, 3, 4, 4)
    x[~PRESENT] = torch.nan
    mixed = mixer(x, present=PRESENT)
    assert torch.allclose(mixed[PRESENT], mixer(x[PRESENT][None])[0], atol=1e-6)
    assert bool(mixed[~PRESENT].isnan().all())


def test_two_visits_and_one_are_enough() -> None:
    network = awake(RecurrentUNet(ahead=3, **SMALL))
    x = torch.randn(1, 2, 1, 8, 8)
    assert network(x, times=DAYS[:, :2]).shape == (1, 2, 2, 8, 8)
    assert network(x[:, :1], times=DAYS[:, :1]).shape == (1, 1, 2, 8, 8)


def learned(gap_unit: float | None) -> float:
    """Error after learning to tell a short gap (10 days) from a long one (300), which nothing but the times shows."""
    torch.manual_seed(0)
    mixer = SequenceMixer(2, 4, 0, gap_unit=gap_unit)
    optimiser = torch.optim.Adam(mixer.parameters(), 0.1)
    x = torch.ones(8, 4, 2, 1, 1)
    long = torch.rand(8, 4) < 0.5
    times = torch.where(long, 300.0, 10.0).cumsum(1)
    wanted: Tensor = long[:, 1:].float()
    for _ in range(60):
        out = mixer(x, times) if gap_unit else mixer(x)
        loss = (out[:, 1:, 0, 0, 0] - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())


def test_the_network_learns_what_only_the_gaps_say() -> None:
    assert learned(90.0) < 0.02
    assert learned(None) > 0.15


def test_volumes_as_steps_and_what_does_not_fit() -> None:
    network = RecurrentUNet(dimensions=3, **{**SMALL, "widths": (4, 8, 8)})
    heads = network(torch.randn(1, 2, 1, 4, 8, 12), every_head=True)
    assert [tuple(h.shape) for h in heads] == [(1, 2, 2, 2, 4, 6), (1, 2, 2, 4, 8, 12)]
    with pytest.raises(ModelError, match="multiples of 4"):
        network(torch.randn(1, 2, 1, 4, 8, 10))
    with pytest.raises(ModelError, match="ascend"):
        network(torch.randn(1, 2, 1, 4, 8, 8), times=torch.tensor([[3.0, 1.0]]))
    with pytest.raises(ModelError, match="gap_unit"):
        RecurrentUNet(**{**SMALL, "gap_unit": None})(torch.randn(1, 2, 1, 8, 8), times=DAYS[:, :2])
    with pytest.raises(ModelError, match="gap_unit"):
        networks.build({"_target_": "RecurrentUNet", **SMALL, "gap_unit": -1.0})


def test_every_head_is_taught() -> None:
    network = RecurrentUNet(**{**SMALL, "widths": (4, 4, 8, 8), "rnn_levels": (3,)})
    heads = network(torch.randn(1, 2, 1, 16, 16), every_head=True)
    assert [h.shape[-1] for h in heads] == [4, 8, 16]
    sum(h.square().mean() for h in heads).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.heads.parameters())


def test_the_network_can_be_exported() -> None:
    network = awake(RecurrentUNet(ahead=1, **{**SMALL, "rnn_levels": (1,)}))
    x = torch.randn(1, 2, 1, 8, 8)
    with torch.no_grad():
        exported = torch.export.export(network, (x,), {"times": DAYS[:, :2]}).module()
        other = torch.randn(1, 2, 1, 8, 8)
        assert torch.allclose(exported(other, times=DAYS[:, :2]), network(other, times=DAYS[:, :2]), atol=1e-6)


def test_a_network_that_knows_of_gaps_can_be_pruned() -> None:
    definition = {"_target_": "RecurrentUNet", **SMALL, "widths": [4, 8], "ahead": 1}
    network = awake(networks.build(definition))
    same, weights = prune(network, definition, 1.0)
    whole = networks.build(same)
    whole.load_state_dict(weights)
    x = torch.randn(1, 6, 1, 8, 8)
    assert torch.allclose(whole.eval()(x, times=DAYS), network(x, times=DAYS), atol=1e-5)
    smaller, weights = prune(network, definition, 0.5)
    networks.build(smaller).load_state_dict(weights)
    assert smaller["hidden"] == 2
