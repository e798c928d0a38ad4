"""Start weights for a slab network, from a model with other channels, classes, widths or strides."""

from __future__ import annotations

from torch import Tensor

from napari_medseq.errors import SettingsError
from napari_medseq.models import Model
from napari_medseq.models.slab_unet import FIRST_KERNEL, SlabUNet


def slab_network(start: Model) -> SlabUNet:
    """The slab network of a model from which training is to start.

    Raises
    ------
    SettingsError
        If its network is no slab network.
    """
    if not isinstance(start.network, SlabUNet):
        raise SettingsError(
            f"{start.info.name} is a {type(start.network).__name__}, and training can start from slab networks only: name a model that "
            "was trained on a folder of data, or set start_from to null."
        )
    return start.network


def start_slabs(network: SlabUNet, start: Model) -> None:
    """Give a network the weights of a model, as far as they fit; its heads, which tell the classes, stay as they are.

    Every channel of the images starts from the filters of the model's first one. Where the model's levels are narrower, the
    other features stay as they are; where it has other strides, the kernels that enlarge are averaged or repeated. Kernels before a
    norm, where their size changes nothing, are given the size of random ones: a trained network's are larger, and would learn slowly.

    Raises
    ------
    SettingsError
        If the model's network is no slab network.
    """
    given, weights = slab_network(start).state_dict(), network.state_dict()
    given[FIRST_KERNEL] = given[FIRST_KERNEL][:, :1].expand(-1, network.input_channels, -1, -1, -1)
    for name, own in weights.items():
        if name in given and not name.startswith("heads."):
            taken = _fitted(given[name], own)
            weights[name] = taken * (own.norm() / taken.norm().clamp_min(1e-12)) if ".convs." in name else taken
    network.load_state_dict(weights)


def _fitted(given: Tensor, own: Tensor) -> Tensor:
    """`own` with what `given` has of it: (output, input, step, row, column), (input, output, …) of kernels that enlarge, or (output,)."""
    for k in range(2, given.ndim):
        if given.shape[k] != own.shape[k]:
            given = given.mean(k, keepdim=True).expand(*given.shape[:k], own.shape[k], *given.shape[k + 1 :])
    both = tuple(slice(min(a, b)) for a, b in zip(given.shape, own.shape, strict=True))
    fitted = own.clone()
    fitted[both] = given[both]
    return fitted
