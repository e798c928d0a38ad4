"""The memory that training will take, estimated before the first step from the shape of a batch alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from napari_medseq.memory import WORTH_SAYING, warn_if_short

#: of a parameter: itself, its gradient, two moments of the optimiser and the average that is kept
_OF_PARAMETER = 5 * 4
#: what is kept, and the gradients and working copies beside it: with it, what was said was 0.66 (recurrent) and 1.47 (slab) times
#: what a step took
_AT_WORK = 1.5


def learning_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes that a step of training takes at its peak, on the CPU, in addition to the cases; 0 for a network that cannot be run on shapes
    alone.

    What the layers keep for their gradients, and what is at work beside it; found by running the network on shapes alone (meta tensors).

    Parameters
    ----------
    network : torch.nn.Module
    shape : sequence of int
        Shape of a batch, as ``forward`` takes it.
    """
    storage_bytes: dict[StorageWeakRef, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage_bytes[StorageWeakRef(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
        return tensor

    named = [*network.named_parameters(), *network.named_buffers()]
    shapes = {k: torch.empty_like(v, device="meta", requires_grad=v.requires_grad) for k, v in named}
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            torch.func.functional_call(network, shapes, (torch.empty(*shape, device="meta"),))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return 0
    parameters = sum(p.numel() for p in network.parameters())
    return (
        int(_AT_WORK * sum(storage_bytes.values()))
        + 2 * max(storage_bytes.values(), default=0)
        + _OF_PARAMETER * parameters
    )


def warn_of_learning(network: nn.Module, shape: Sequence[int], device: torch.device, instead: str) -> None:
    """Warn before the first step that memory may not suffice, and name the settings that need less."""
    if device.type != "cpu":
        return
    needed = learning_bytes(network, shape)
    if needed > WORTH_SAYING:
        warn_if_short(needed, "Training", instead=instead)
