"""How much memory learning takes, from the shape of a batch alone: it is said before the first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_medseq.memory import warn_if_short

_NUMBER = 4  # bytes of a float32
#: of a parameter: itself, its gradient, two moments of the optimiser and the average that is kept
_OF_PARAMETER = 5 * _NUMBER
#: under so many bytes nothing is said: any machine has them
_WORTH_SAYING = 1 << 28


def learning_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes that a step of learning takes at its peak, on the CPU, beside the cases; 0 for a network that tells nothing without voxels.

    What every layer gives is held until its gradient is known, and the gradients of the largest come beside that; found by running the
    network on shapes alone (meta tensors).

    Parameters
    ----------
    network : torch.nn.Module
    shape : sequence of int
        Of a batch.
    """
    given: list[int] = []

    def note(_layer: nn.Module, _inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            given.append(output.numel() * _NUMBER)

    layers = [m for m in network.modules() if not any(True for _ in m.children())]
    handles = [layer.register_forward_hook(note) for layer in layers]
    shapes = {k: torch.empty_like(v, device="meta") for k, v in [*network.named_parameters(), *network.named_buffers()]}
    try:
        with torch.no_grad():
            torch.func.functional_call(network, shapes, (torch.empty(*shape, device="meta"),))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return 0
    finally:
        for handle in handles:
            handle.remove()
    return sum(given) + 2 * max(given, default=0) + _OF_PARAMETER * sum(p.numel() for p in network.parameters())


def warn_of_learning(network: nn.Module, batch: Tensor, device: torch.device, instead: str) -> None:
    """Say before the first step that memory may not suffice, and which settings need less."""
    if device.type != "cpu":
        return
    needed = learning_bytes(network, tuple(batch.shape))
    if needed > _WORTH_SAYING:
        warn_if_short(needed, "Training", instead=instead)
