"""The ConvGRU against a slow, obvious reference, by gradient check, and streamed against whole."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_medseq.models.cells import ConvGRUCell
from napari_medseq.models.mixer import SequenceMixer
from tests.narrowing import of


def reference_step(cell: ConvGRUCell, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Ballas et al. 2016, gate by gate with its own slices of the weights."""
    n = cell.hidden
    w, b = cell.from_input.weight, cell.from_input.bias
    assert b is not None

    def conv(v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return functional.conv2d(v, k, bias, padding=1)

    z = torch.sigmoid(conv(x, w[:n], b[:n]) + conv(h, cell.gates.weight[:n]))
    r = torch.sigmoid(conv(x, w[n : 2 * n], b[n : 2 * n]) + conv(h, cell.gates.weight[n:]))
    c = torch.tanh(conv(x, w[2 * n :], b[2 * n :]) + conv(r * h, cell.candidate.weight))
    return (1 - z) * h + z * c


def reference_mixer(mixer: SequenceMixer, x: torch.Tensor) -> torch.Tensor:
    """Each step on its own: forward from the first step, look-ahead from at most `ahead` steps later."""
    steps = x.shape[1]
    zero = x.new_zeros(x.shape[0], mixer.forward_cell.hidden, *x.shape[-2:])
    out = []
    for i in range(steps):
        forward = zero
        for j in range(i + 1):
            forward = reference_step(of(ConvGRUCell, mixer.forward_cell), x[:, j], forward)
        seen = [forward]
        if mixer.ahead_cell is not None:
            back = zero
            for j in range(min(i + mixer.ahead, steps - 1), i - 1, -1):
                back = reference_step(of(ConvGRUCell, mixer.ahead_cell), x[:, j], back)
            seen.append(back)
        out.append(x[:, i] + mixer.out(torch.cat(seen, 1)))
    return torch.stack(out, 1)


def mixer_with_weights(ahead: int) -> SequenceMixer:
    torch.manual_seed(ahead)
    mixer = SequenceMixer(3, 4, ahead).double()
    torch.nn.init.normal_(mixer.out.weight)
    return mixer


@pytest.mark.parametrize("ahead", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_mixer_equals_the_slow_reference(ahead: int, steps: int) -> None:
    mixer = mixer_with_weights(ahead)
    x = torch.randn(2, steps, 3, 5, 4, dtype=torch.float64)
    assert torch.allclose(mixer(x), reference_mixer(mixer, x), atol=1e-12)


def test_gradients_are_right() -> None:
    mixer = mixer_with_weights(1)
    x = torch.randn(1, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mixer, (x,))


@pytest.mark.parametrize("ahead", [0, 2])
def test_streaming_gives_what_the_whole_sequence_gives(ahead: int) -> None:
    mixer = mixer_with_weights(ahead)
    x = torch.randn(1, 6, 3, 4, 4, dtype=torch.float64)
    state, carried = None, []
    for i in range(6):
        state = mixer.carry(x[:, i], state)
        carried.append(state)
    out = []
    for i in range(6):
        looked = None
        if mixer.ahead_cell is not None:
            looked = mixer.look([mixer.ahead_cell.from_input(x[:, j]) for j in range(i, min(i + ahead + 1, 6))])
        out.append(mixer.join(x[:, i], carried[i], looked))
    assert torch.allclose(torch.stack(out, 1), mixer(x), atol=1e-12)


def test_an_untrained_mixer_is_the_identity() -> None:
    x = torch.randn(1, 4, 3, 5, 5)
    assert torch.equal(SequenceMixer(3, 4, 2)(x), x)


def test_look_ahead_is_bounded() -> None:
    mixer = mixer_with_weights(2)
    x = torch.randn(1, 8, 3, 4, 4, dtype=torch.float64)
    changed = x.clone()
    changed[:, 5] += 1
    same = torch.isclose(mixer(x), mixer(changed), atol=1e-12).flatten(2).all(2)[0]
    # step 5 reaches back two steps and forward without end
    assert same.tolist() == [True, True, True, False, False, False, False, False]
