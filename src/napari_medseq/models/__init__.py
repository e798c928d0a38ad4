"""Networks, the registry that names them, and the bundle format they are kept in."""

from __future__ import annotations

from napari_medseq.models.info import ModelInfo, why_unsuitable
from napari_medseq.models.library import Model, ModelLike, list_models, load_model, loaded

__all__ = ["Model", "ModelInfo", "ModelLike", "list_models", "load_model", "loaded", "why_unsuitable"]
