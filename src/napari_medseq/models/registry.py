"""The networks by name: adding one is one file and one line here.

A bundle names its network by one of these keys; the table is the allow-list, and nothing is imported by a name from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_medseq.errors import ModelError
from napari_medseq.models.autoencoder import ConvAutoencoder
from napari_medseq.models.baselines import Baseline
from napari_medseq.models.captioner import Captioner
from napari_medseq.models.denoiser import RecurrentDenoiser
from napari_medseq.models.factorised import factorised
from napari_medseq.models.recurrent_registration import RecurrentRegistration
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.sequence_classifier import SequenceClassifier

if TYPE_CHECKING:
    from torch import nn

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "BasicUNet": partial(Baseline, "BasicUNet"),
    "Captioner": Captioner,
    "ConvAutoencoder": ConvAutoencoder,
    "DynUNet": partial(Baseline, "DynUNet"),
    "Factorised": factorised,
    "RecurrentDenoiser": RecurrentDenoiser,
    "RecurrentRegistration": RecurrentRegistration,
    "RecurrentUNet": RecurrentUNet,
    "SegResNet": partial(Baseline, "SegResNet"),
    "SequenceClassifier": SequenceClassifier,
    "SwinUNETR": partial(Baseline, "SwinUNETR"),
}


def build(definition: Mapping[str, Any]) -> nn.Module:
    """A network from ``{"_target_": name, **arguments}``.

    Raises
    ------
    ModelError
        If the name is not in the table or the arguments do not fit.
    """
    arguments = dict(definition)
    name = arguments.pop("_target_", None)
    if name not in NETWORKS:
        raise ModelError(
            f"network {str(name)[:80]!r} is not one of {', '.join(sorted(NETWORKS))}; the model is refused."
        )
    try:
        return NETWORKS[name](**arguments)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise ModelError(f"{name} cannot be built from the bundle's arguments: {error}") from None
