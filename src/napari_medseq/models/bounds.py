"""Bounds on the size of a network from a bundle: a larger one is refused while it is being built, before its memory
is touched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from napari_medseq.errors import ModelError

#: weights of the largest network that is built at all; the largest of the MONAI Model Zoo that is built here has 62 million (SwinUNETR)
MOST_WEIGHTS = 500_000_000
#: a network of fewer weights is built whatever its file says
SMALL_NETWORK = 50_000_000
#: layers; DenseNet-121 has 430, SwinUNETR 480
MOST_LAYERS = 20_000


def bound_for(stored: int) -> int:
    """Weights that a network may have whose file holds `stored` of them: more on the way, where some are replaced by fewer."""
    return min(MOST_WEIGHTS, max(SMALL_NETWORK, 4 * stored))


@contextmanager
def bounded(weights: int = MOST_WEIGHTS) -> Iterator[None]:
    """A context in which this thread cannot build a network of more weights than these, or of more than `MOST_LAYERS` layers.

    torch asks the system for a tensor's memory when it is made, and touches it when it is filled, which is after the tensor was
    entered in its layer; there it is counted.

    Raises
    ------
    ModelError
        Raised inside the context as soon as there are more.
    """
    thread = threading.get_ident()
    seen = {"weights": 0, "layers": 0}

    def count(subject: str, count_added: int, most: int) -> None:
        if threading.get_ident() != thread:
            return
        seen[subject] += count_added
        if seen[subject] > most:
            raise ModelError(
                f"The network has more than {most:,} {subject}, too many for its bundle; the model is refused."
            )

    def weigh(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        count("weights", 0 if tensor is None else tensor.numel(), weights)

    handles = [
        hooks.register_module_parameter_registration_hook(weigh),
        hooks.register_module_buffer_registration_hook(weigh),
        hooks.register_module_module_registration_hook(lambda *_: count("layers", 1, MOST_LAYERS)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
