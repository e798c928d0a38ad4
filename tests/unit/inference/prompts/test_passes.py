"""The networks of painted slices as they are run: streamed, after more training, and in half precision."""

from __future__ import annotations

import pytest
import torch

from napari_medseq.inference.prompts import blocks, passes
from tests.narrowing import of
from tests.unit.models.prompted import prompted_network, windows

CPU = torch.device("cpu")


@pytest.mark.parametrize("chunk", [1, 2, 5, 50])
@pytest.mark.parametrize(("cell", "batch"), [("minimal", 2), ("minimal", 1), ("none", 1)])
@pytest.mark.parametrize("within", [True, False])  # whether the processor adds and takes ReLUs within its convolutions
def test_streamed_it_answers_as_the_whole_network(
    chunk: int, cell: str, batch: int, within: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not within:
        monkeypatch.setattr(blocks, "_has_sums_in_convolutions", lambda: False)
    network, sequence = prompted_network(cell=cell), windows(batch)
    x, prior = sequence.channels()
    with torch.no_grad():
        whole = network(x, prior)[0]
    carry = of(passes.StreamedUNet, passes.ready(network, CPU))
    assert torch.allclose(carry.logits(sequence, chunk, None), whole, atol=1e-4)
    for room, again in ((1 << 40, 0), (200_000, 1), (0, 2)):  # bytes; levels whose features are computed twice
        monkeypatch.setattr(passes, "_ROOMY", room)
        assert passes._Stream(carry, sequence, chunk, None).again == again
        assert torch.allclose(carry.logits(sequence, chunk, None), whole, atol=1e-4)
    assert passes.ready(network, CPU) is carry
    assert carry.bytes_per_step((32, 40)) == 4 * 32 * 40 * (8 + 2 + 0.5)


def test_a_network_that_learned_since_answers_with_its_new_weights() -> None:
    network, sequence = prompted_network(), windows()
    before = passes.ready(network, CPU).logits(sequence, None, None)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
    x, prior = sequence.channels()
    network(x, prior)[0].square().mean().backward()
    optimizer.step()
    after = passes.ready(network, CPU).logits(sequence, None, None)
    assert not torch.allclose(before, after)
    with torch.no_grad():
        assert torch.allclose(after, network(x, prior)[0], atol=1e-4)


def test_half_precision_is_close() -> None:
    network, sequence = prompted_network(), windows()
    exact, lower = (passes.ready(network, CPU, p) for p in ("float32", "bfloat16"))
    a, b = (c.logits(sequence, None, None) for c in (exact, lower))
    assert float((a - b).abs().median()) < 0.02 * float(a.abs().median())
