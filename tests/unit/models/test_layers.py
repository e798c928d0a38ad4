"""The stacked recurrent layers against PyTorch's own on single pixels, a slow reference, gradient check, masks and export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models.cells import CELLS, Cell, ConvGRUCell, ConvLSTMCell
from napari_medseq.models.layers import ConvGRU, ConvLSTM, ConvRNN
from tests.unit.models.by_hand import gru_step, lstm_step

BOTH: list[Cell] = ["gru", "lstm"]
PIXEL = {2: (1, 1), 3: (1, 1, 1)}


def made(cell: Cell, **options: Any) -> ConvRNN:
    torch.manual_seed(3)
    return (ConvGRU if cell == "gru" else ConvLSTM)(2, 3, **options).double()


def sequence(steps: int = 4, batch: int = 2, dimensions: int = 2, size: int = 3) -> Tensor:
    return torch.randn(batch, steps, 2, *[size] * dimensions, dtype=torch.float64)


def torchs_own(layer: ConvRNN, cell: Cell) -> nn.Module:
    """PyTorch's layer of vectors with the same weights; a GRU's candidate must be diagonal, where both definitions agree."""
    own = (nn.GRU if cell == "gru" else nn.LSTM)(
        2, 3, layer.layers, batch_first=True, bidirectional=layer.directions == 2
    ).double()
    n = layer.hidden
    for k, c in enumerate(layer.cells):
        end = f"l{k // layer.directions}" + ("_reverse" if k % layer.directions else "")
        parts: Any = c
        w, b, u = parts.from_input.weight.flatten(1), parts.from_input.bias, parts.gates.weight.flatten(1)
        if cell == "gru":  # PyTorch: reset, update, candidate; and its update gate says what stays, ours what is new
            with torch.no_grad():
                parts.candidate.weight.flatten(1).mul_(torch.eye(n, dtype=torch.float64))

            def swap(v: torch.Tensor, n: int = n) -> torch.Tensor:
                return torch.cat([v[n : 2 * n], -v[:n], v[2 * n :]])

            w, b, u = swap(w), swap(b), swap(torch.cat([u, parts.candidate.weight.flatten(1)]))
        with torch.no_grad():
            getattr(own, f"weight_ih_{end}").copy_(w)
            getattr(own, f"weight_hh_{end}").copy_(u)
            getattr(own, f"bias_ih_{end}").copy_(b)
            getattr(own, f"bias_hh_{end}").zero_()
    return own


@pytest.mark.parametrize("cell", BOTH)
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_on_single_pixels_it_is_pytorchs_layer(cell: Cell, dimensions: int, bidirectional: bool) -> None:
    layer = made(cell, layers=2, kernel=1, dimensions=dimensions, bidirectional=bidirectional)
    own = torchs_own(layer, cell)
    x = sequence(5, dimensions=dimensions, size=1)
    state = torch.randn(len(layer.cells), 2, 3 if cell == "gru" else 6, *PIXEL[dimensions], dtype=torch.float64)
    before: Any = state.flatten(2).contiguous()
    if cell == "lstm":
        before = tuple(p.contiguous() for p in before.chunk(2, 2))
    out, last = layer(x, state)
    expected, after = own(x.flatten(2), before)
    assert torch.allclose(out.flatten(2), expected, atol=1e-12)
    assert torch.allclose(last.flatten(2), after if cell == "gru" else torch.cat(after, 2), atol=1e-12)


def slow(layer: ConvRNN, cell: Cell, x: Tensor, dimensions: int) -> Tensor:
    """Layer by layer, direction by direction, step by step, gate by gate."""
    step = gru_step if cell == "gru" else lstm_step
    plain = functional.conv2d if dimensions == 2 else functional.conv3d

    def conv(v: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
        return plain(v, k, bias, padding=1)

    for level in range(layer.layers):
        ways = []
        for way in range(layer.directions):
            zero = x.new_zeros(x.shape[0], 3, *x.shape[3:])
            state: Any = (zero,) if cell == "gru" else (zero, zero)
            out: dict[int, Tensor] = {}
            order = range(x.shape[1])
            for j in reversed(order) if way else order:
                state = step(layer.cells[level * layer.directions + way], x[:, j], state, conv)
                out[j] = state[0]
            ways.append(torch.stack([out[j] for j in order], 1))
        x = torch.cat(ways, 2)
    return x


@pytest.mark.parametrize("cell", BOTH)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_equals_the_slow_reference(cell: Cell, dimensions: int) -> None:
    layer = made(cell, layers=2, dimensions=dimensions, bidirectional=True)
    x = sequence(dimensions=dimensions)
    assert torch.allclose(layer(x)[0], slow(layer, cell, x, dimensions), atol=1e-12)


@pytest.mark.parametrize("cell", BOTH)
def test_gradients_are_right_through_state_and_mask(cell: Cell) -> None:
    layer = made(cell, layers=2)
    state = torch.randn(2, 1, 3 if cell == "gru" else 6, 2, 2, dtype=torch.float64, requires_grad=True)
    x = sequence(3, 1, size=2).requires_grad_()
    present = torch.tensor([[True, False, True]])
    assert torch.autograd.gradcheck(lambda a, s: layer(a, s, present), (x, state))


@pytest.mark.parametrize("cell", BOTH)
def test_two_chunks_with_the_state_between_are_the_whole(cell: Cell) -> None:
    layer, x = made(cell, layers=2), sequence(5)
    first, state = layer(x[:, :2])
    second, last = layer(x[:, 2:], state)
    whole, end = layer(x)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-12)
    assert torch.allclose(last, end, atol=1e-12)


@pytest.mark.parametrize("cell", BOTH)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padded_and_missing_steps_are_as_if_they_were_not_there(cell: Cell, bidirectional: bool) -> None:
    layer, x = made(cell, layers=2, bidirectional=bidirectional), sequence(5, 3)
    present = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 0, 1]], dtype=torch.bool)
    out, state = layer(x, present=present)
    for k in range(3):
        alone, own = layer(x[k : k + 1, present[k]])
        assert torch.allclose(out[k, present[k]], alone[0], atol=1e-12)
        assert torch.allclose(state[:, k], own[:, 0], atol=1e-12)
        assert not out[k, ~present[k]].any()


@pytest.mark.parametrize("cell", BOTH)
def test_dropout_has_one_mask_for_all_steps(cell: Cell) -> None:
    layer = made(cell, dropout=0.5)
    x = sequence(4)
    torch.manual_seed(2)
    out, _ = layer(x)
    # the same masks by hand, in the order they are drawn: of the input, then of the state
    torch.manual_seed(2)
    ones = x.new_ones(2, 2, 1, 1)
    of_input, of_state = functional.dropout(ones, 0.5), functional.dropout(x.new_ones(2, 3, 1, 1), 0.5)
    assert (of_input == 0).any()
    assert (of_state == 0).any()
    state, c = None, layer.cells[0]
    assert isinstance(c, ConvGRUCell | ConvLSTMCell)
    for i in range(4):
        state = c(c.from_input(x[:, i] * of_input), state, of_state)
        assert torch.allclose(out[:, i], c.seen(state), atol=1e-12)
    assert not torch.allclose(layer(x)[0], out)
    assert torch.equal(layer.eval()(x)[0], layer(x)[0])


@pytest.mark.parametrize("cell", BOTH)
def test_a_hidden_state_channel_is_not_seen_by_the_gates(cell: Cell) -> None:
    c = CELLS[cell](2, 3)
    state = torch.randn(1, c.state_channels, 4, 4)
    keep = torch.tensor([1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    changed = state.clone()
    changed[:, 1] += 1
    p = c.from_input(torch.randn(1, 2, 4, 4))
    others = [0, 2]
    assert torch.allclose(c(p, state, keep)[:, others], c(p, changed, keep)[:, others])
    assert not torch.allclose(c(p, state)[:, others], c(p, changed)[:, others])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("cell", BOTH)
def test_the_cell_is_scriptable(cell: Cell) -> None:
    c = CELLS[cell](2, 3).eval()
    scripted = torch.jit.script(c)
    p, state = c.from_input(torch.randn(1, 2, 5, 4)), torch.randn(1, c.state_channels, 5, 4)
    assert torch.allclose(scripted(p, state), c(p, state))
    assert torch.allclose(scripted(p, None), c(p, None))


def test_the_layer_is_exportable_with_state_and_mask_for_any_size() -> None:
    layer = ConvLSTM(1, 2).eval()
    y = {3: torch.export.Dim("y", min=3, max=64)}
    example = (torch.randn(2, 2, 1, 6, 5), torch.randn(1, 2, 4, 6, 5), torch.ones(2, 2, dtype=torch.bool))
    exported = torch.export.export(layer, example, dynamic_shapes=(y, y, None)).module()
    other = (torch.randn(2, 2, 1, 9, 5), torch.randn(1, 2, 4, 9, 5), torch.tensor([[True, True], [True, False]]))
    for got, wanted in zip(exported(*other), layer(*other), strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


def test_what_does_not_fit_is_said() -> None:
    layer = ConvGRU(2, 3)
    with pytest.raises(ModelError, match="2 channels"):
        layer(torch.zeros(1, 2, 3, 4, 4))
    with pytest.raises(ModelError, match=r"must be \(1, 1, 3, 4, 4\)"):
        layer(torch.zeros(1, 2, 2, 4, 4), torch.zeros(1, 1, 3, 2, 2))
    with pytest.raises(ModelError, match="present"):
        layer(torch.zeros(1, 2, 2, 4, 4), present=torch.ones(1, 2))
    with pytest.raises(ModelError, match="odd"):
        ConvLSTM(2, 3, kernel=2)
    with pytest.raises(ModelError, match="dimensions"):
        ConvLSTM(2, 3, dimensions=1)
