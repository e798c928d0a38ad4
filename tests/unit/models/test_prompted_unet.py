"""The prompted network: what it must be whatever its weights are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_medseq.errors import ModelError
from napari_medseq.models import networks
from napari_medseq.models.prompted_recurrence import walk
from napari_medseq.models.prompted_unet import PromptedUNet
from napari_medseq.models.prompted_volume import PromptedVolumeUNet
from napari_medseq.models.prompting import PromptedSequence
from napari_medseq.models.slab_convolution import SlabConvolution
from tests.narrowing import of
from tests.unit.models.prompted import SMALL, prompted_network, windows


def build(**changes: Any) -> PromptedUNet:
    return prompted_network(**changes)


def logits(network: PromptedUNet, sequence: PromptedSequence) -> torch.Tensor:
    x, prior = sequence.channels()
    with torch.no_grad():
        answer: torch.Tensor = network(x, prior)[0]
    return answer


def test_it_is_registered() -> None:
    assert isinstance(networks.build({"_target_": "PromptedUNet", **SMALL}), PromptedUNet)


def test_untrained_it_gives_the_interpolated_shape() -> None:
    sequence = windows()
    network = PromptedUNet(**SMALL).eval()
    assert torch.equal(logits(network, sequence) > 0, sequence.prior() > 0)


def test_what_is_painted_reaches_every_step() -> None:
    network, sequence = build(slabs=()), windows(batch=1)
    x, prior = sequence.channels()
    x = x.clone().requires_grad_()
    at = int(sequence.annotated[0].nonzero()[0])
    network(x, prior)[0][0, -1].sum().backward()
    assert x.grad is not None
    assert float(x.grad[0, at].abs().sum()) > 0


@pytest.mark.parametrize(("slabs", "reach"), [((), 0), ((0,), 1), ((0, 1, -2), 3)])
def test_without_recurrence_it_sees_as_far_as_its_slabs(slabs: tuple[int, ...], reach: int) -> None:
    network, sequence = build(cell="none", slabs=slabs), windows(batch=1, steps=9)
    x, prior = sequence.channels()
    other = x.clone()
    other[:, 4] += 1
    with torch.no_grad():
        a, b = (network(v, prior)[0][0] for v in (x, other))
    changed = [k for k in range(9) if not torch.equal(a[k], b[k])]
    assert changed == list(range(4 - reach, 5 + reach))


def test_sequences_of_a_batch_do_not_touch_each_other() -> None:
    network, both = build(), windows(batch=2)
    x, prior = both.channels()
    with torch.no_grad():
        together = network(x, prior)[0]
        alone = [network(x[k : k + 1], prior[k : k + 1])[0] for k in range(2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_it_begins_as_the_network_without_recurrence() -> None:
    sequence = windows()
    torch.manual_seed(0)
    network = PromptedUNet(**SMALL).eval()
    plain = PromptedUNet(**{**SMALL, "cell": "none"}).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        of(Tensor, network.heads[0].weight).fill_(0.1)
        of(Tensor, plain.heads[0].weight).fill_(0.1)
    assert torch.equal(logits(network, sequence), logits(plain, sequence))


@pytest.mark.parametrize("kind", ["PromptedUNet", "PromptedVolumeUNet"])
def test_coarser_heads_have_their_own_sizes(kind: str) -> None:
    sequence = windows()
    x, prior = sequence.channels()
    network = build() if kind == "PromptedUNet" else PromptedVolumeUNet(widths=(4, 4, 4, 4)).eval()
    with torch.no_grad():
        found = network(x, prior, every_head=True)
    assert [tuple(f.shape[1:]) for f in found[:2]] == [(7, 32, 40), (7, 16, 20)]


def test_untrained_the_rival_gives_the_interpolated_shape_too() -> None:
    sequence = windows()
    x, prior = sequence.channels()
    with torch.no_grad():
        found = PromptedVolumeUNet(widths=(4, 4, 4, 4)).eval()(x, prior)[0]
    assert torch.equal(found > 0, prior > 0)


def test_a_size_that_does_not_fit_is_named() -> None:
    network = build()
    with pytest.raises(ModelError, match="multiples of 4"):
        network(torch.zeros(1, 2, 14, 30, 32), torch.zeros(1, 2, 30, 32), torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize(("changes", "text"), [({"hidden": (4,)}, "one per level"), ({"cell": "conv"}, "minimal")])
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        PromptedUNet(**{**SMALL, **changes})


def test_states_are_shares_of_what_was_and_what_is_new() -> None:
    keep, new = torch.tensor([0.0, 50.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    seen = torch.stack([keep, new], 1).view(3, 1, 2, 1, 1)
    first = 0.5 * math.tanh(1)
    assert walk(seen).flatten().tolist() == pytest.approx([first, first, first / 2])
    whole = walk(torch.cat([seen, seen]))
    assert torch.allclose(walk(seen, walk(seen)[-1]), whole[3:])


@pytest.mark.parametrize("kind", ["PromptedUNet", "PromptedVolumeUNet"])
def test_volumes_are_convolved_by_what_trains_safely_in_bfloat16(kind: str) -> None:
    """torch's own ended the process while `propagate` was trained further on five slices of 96 rows."""
    network = networks.build({"_target_": kind, **({"slabs": [0, -1]} if kind == "PromptedUNet" else {})})
    plain = [n for n, m in network.named_modules() if type(m) is torch.nn.Conv3d]
    assert any(isinstance(m, SlabConvolution) for m in network.modules())
    assert not plain
