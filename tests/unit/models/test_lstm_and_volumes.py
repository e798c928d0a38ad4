"""The ConvLSTM, and both cells on volumes, by the proofs of the ConvGRU: slow reference, gradient check, streaming."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models import networks
from napari_medseq.models.cells import CELLS, ConvGRUCell
from napari_medseq.models.mixer import SequenceMixer
from napari_medseq.models.plain import Plain
from napari_medseq.models.sequence_classifier import SequenceClassifier
from tests.unit.models.by_hand import gru_step, lstm_step

KINDS = [("gru", 3), ("lstm", 2), ("lstm", 3)]


def reference(mixer: SequenceMixer, x: torch.Tensor, kind: str, dimensions: int) -> torch.Tensor:
    """Each step on its own: forward from the first step, look-ahead from at most `ahead` steps later."""
    plain = functional.conv2d if dimensions == 2 else functional.conv3d
    step = gru_step if kind == "gru" else lstm_step

    def conv(v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return plain(v, k, bias, padding=1)

    def run(cell: Any, order: range) -> torch.Tensor:
        zero = x.new_zeros(x.shape[0], cell.hidden, *x.shape[3:])
        state: Any = (zero,) if kind == "gru" else (zero, zero)
        for j in order:
            state = step(cell, x[:, j], state, conv)
        last: torch.Tensor = state[0]
        return last

    out = []
    for i in range(x.shape[1]):
        seen = [run(mixer.forward_cell, range(i + 1))]
        if mixer.ahead_cell is not None:
            seen.append(run(mixer.ahead_cell, range(min(i + mixer.ahead, x.shape[1] - 1), i - 1, -1)))
        out.append(x[:, i] + mixer.out(torch.cat(seen, 1)))
    return torch.stack(out, 1)


def made(kind: Any, dimensions: int, ahead: int, steps: int, size: int = 3) -> tuple[SequenceMixer, torch.Tensor]:
    torch.manual_seed(ahead)
    mixer = SequenceMixer(2, 3, ahead, kind, dimensions).double()
    torch.nn.init.normal_(mixer.out.weight)
    return mixer, torch.randn(2, steps, 2, *[size] * dimensions, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "dimensions"), KINDS)
@pytest.mark.parametrize(("ahead", "steps"), [(0, 3), (1, 1), (2, 5), (9, 4)])
def test_mixer_equals_the_slow_reference_whole_and_streamed(kind: str, dimensions: int, ahead: int, steps: int) -> None:
    mixer, x = made(kind, dimensions, ahead, steps)
    expected = reference(mixer, x, kind, dimensions)
    assert torch.allclose(mixer(x), expected, atol=1e-12)
    state, carried = None, []
    for i in range(steps):
        state = mixer.carry(x[:, i], state)
        carried.append(state)
    for i in range(steps):
        looked = None
        if mixer.ahead_cell is not None:
            looked = mixer.look([mixer.ahead_cell.from_input(x[:, j]) for j in range(i, min(i + ahead + 1, steps))])
        assert torch.allclose(mixer.join(x[:, i], carried[i], looked), expected[:, i], atol=1e-12)


@pytest.mark.parametrize(("kind", "dimensions"), KINDS)
def test_gradients_are_right(kind: str, dimensions: int) -> None:
    mixer, x = made(kind, dimensions, 1, 2, size=2)
    assert torch.autograd.gradcheck(mixer, (x[:1].requires_grad_(),))


def test_an_untrained_lstm_remembers() -> None:
    cell = CELLS["lstm"](1, 1)
    with torch.no_grad():
        cell.from_input.weight.zero_()
        cell.gates.weight.zero_()
        assert cell.from_input.bias is not None
        cell.from_input.bias[[0, 2, 3]] = 0
    kept = cell(cell.from_input(torch.zeros(1, 1, 2, 2)), torch.ones(1, 2, 2, 2))[:, 1]
    assert torch.allclose(kept, torch.sigmoid(torch.tensor(1.0)).expand_as(kept))


def test_the_gru_of_images_keeps_its_names_and_first_weights() -> None:
    """Bundles on disk depend on both."""
    mixer = SequenceMixer(3, 4, 2)
    names = [
        f"{cell}.{part}"
        for cell in ("forward_cell", "ahead_cell")
        for part in ("from_input.weight", "from_input.bias", "gates.weight", "candidate.weight")
    ]
    assert list(mixer.state_dict()) == [*names, "out.weight", "out.bias"]
    torch.manual_seed(0)
    cell = ConvGRUCell(3, 4)
    torch.manual_seed(0)
    first = torch.nn.Conv2d(3, 12, 3, padding=1)
    assert torch.equal(cell.from_input.weight, first.weight)


def test_registry_knows_lstm_and_refuses_others() -> None:
    definition: dict[str, Plain] = {
        "_target_": "RecurrentUNet",
        "widths": [4, 8],
        "rnn_levels": [1],
        "hidden": 3,
        "rnn": "lstm",
    }
    built = networks.build(definition)
    assert built.get_parameter("mixers.1.forward_cell.gates.weight").shape == (12, 3, 3, 3)
    assert SequenceClassifier(rnn="lstm", widths=(4, 8), hidden=3)(torch.zeros(1, 2, 3, 8, 8)).exam.shape == (1, 1)
    for name in ("RecurrentUNet", "SequenceClassifier"):
        with pytest.raises(ModelError, match="cannot be built"):
            networks.build({"_target_": name, "rnn": "abacus"})
