"""The prompted network: what it must be whatever its weights are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_medseq.errors import ModelError
from napari_medseq.models import networks
from napari_medseq.models.prompt_readout import spread_steps
from napari_medseq.models.prompted_unet import PromptedUNet
from napari_medseq.models.prompting import PromptedSequence
from tests.unit.models.prompted import SMALL, prompted_network, windows


def build(**changes: Any) -> PromptedUNet:
    return prompted_network(**changes)


def logits(network: PromptedUNet, sequence: PromptedSequence) -> torch.Tensor:
    x, prior = sequence.channels()
    with torch.no_grad():
        return network(x, prior, sequence.annotated)[0]


def test_it_is_registered() -> None:
    assert isinstance(networks.build({"_target_": "PromptedUNet", **SMALL}), PromptedUNet)


def test_untrained_it_gives_the_interpolated_shape() -> None:
    sequence = windows()
    network = PromptedUNet(**SMALL).eval()
    assert torch.equal(logits(network, sequence) > 0, sequence.prior() > 0)


@pytest.mark.parametrize("cell", ["conv", "minimal"])
def test_what_is_painted_reaches_every_step(cell: str) -> None:
    network, sequence = build(cell=cell, readout=-1), windows(batch=1)
    x, prior = sequence.channels()
    x = x.clone().requires_grad_()
    at = int(sequence.annotated[0].nonzero()[0])
    network(x, prior, sequence.annotated)[0][0, -1].sum().backward()
    assert x.grad is not None
    assert float(x.grad[0, at].abs().sum()) > 0


def test_without_recurrence_and_readout_steps_are_independent() -> None:
    network, sequence = build(cell="none", readout=-1), windows(batch=1)
    x, prior = sequence.channels()
    other = x.clone()
    other[:, 0] += 1
    with torch.no_grad():
        a, b = (network(v, prior, sequence.annotated)[0] for v in (x, other))
    assert torch.equal(a[:, 1:], b[:, 1:])


def test_sequences_of_a_batch_do_not_touch_each_other() -> None:
    network, both = build(), windows(batch=2)
    x, prior = both.channels()
    with torch.no_grad():
        together = network(x, prior, both.annotated)[0]
        alone = [network(x[k : k + 1], prior[k : k + 1], both.annotated[k : k + 1])[0] for k in range(2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_folding_the_norm_changes_nothing(norm: str) -> None:
    network, sequence = build(norm=norm), windows()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert torch.allclose(logits(network.folded(), sequence), logits(network, sequence), atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_coarser_heads_have_their_own_sizes() -> None:
    sequence = windows()
    x, prior = sequence.channels()
    with torch.no_grad():
        found = build()(x, prior, sequence.annotated, every_head=True)
    assert [tuple(f.shape[2:]) for f in found] == [(32, 40), (16, 20), (8, 10)]


def test_a_size_that_does_not_fit_is_named() -> None:
    network = build()
    with pytest.raises(ModelError, match="multiples of 4"):
        network(torch.zeros(1, 2, 13, 30, 32), torch.zeros(1, 2, 30, 32), torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("changes", "text"), [({"hidden": (4,)}, "one per level"), ({"readout": 0}, "readout"), ({"readout": 3}, "readout")]
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        PromptedUNet(**{**SMALL, **changes})


def test_many_annotated_steps_are_read_evenly() -> None:
    annotated = torch.zeros(2, 40, dtype=torch.bool)
    annotated[0, :20] = True
    annotated[1, [3, 30]] = True
    index, use = spread_steps(annotated, 8)
    assert index.shape == (2, 8)
    assert index[0].tolist() == [0, 2, 5, 8, 10, 13, 16, 19]
    assert index[1, :2].tolist() == [3, 30]
    assert use.sum(1).tolist() == [8, 2]


def test_the_readout_ignores_places_of_unused_steps() -> None:
    network, sequence = build(), windows(batch=2)
    flags = sequence.annotated.clone()
    flags[1] = False
    flags[1, 2] = True  # one annotated step beside a sequence of two
    mixed = PromptedSequence.of(sequence.image, sequence.distance > 0, flags, torch.zeros(2))
    x, prior = mixed.channels()
    with torch.no_grad():
        together = network(x, prior, flags)[0][1]
        alone = network(x[1:], prior[1:], flags[1:])[0][0]
    assert torch.allclose(together, alone, atol=1e-4)
