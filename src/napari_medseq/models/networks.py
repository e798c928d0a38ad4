"""Registers all networks of the package; import ``build`` from here to build one by its name.

Adding a network is one module that says ``@register("Name")``, and its name in the import below.
"""

from __future__ import annotations

from napari_medseq.models import (
    autoencoder,
    baselines,
    captioner,
    denoiser,
    factorised,
    prompted_unet,
    prompted_volume,
    recurrent_registration,
    recurrent_unet,
    sequence_classifier,
    slab_unet,
)
from napari_medseq.models.registry import NETWORKS, build, build_sequence_network

__all__ = [
    "NETWORKS",
    "autoencoder",
    "baselines",
    "build",
    "build_sequence_network",
    "captioner",
    "denoiser",
    "factorised",
    "prompted_unet",
    "prompted_volume",
    "recurrent_registration",
    "recurrent_unet",
    "sequence_classifier",
    "slab_unet",
]
