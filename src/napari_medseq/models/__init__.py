"""Networks, the registry that names them, and the bundle format they are kept in."""

from __future__ import annotations

from napari_medseq.models.info import ModelInfo, misfit
from napari_medseq.models.library import Model, list_models, load_model

__all__ = ["Model", "ModelInfo", "list_models", "load_model", "misfit"]
