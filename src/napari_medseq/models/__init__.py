"""Networks, the registry of their names, and the bundle format that stores trained models."""

from __future__ import annotations

from napari_medseq.models.info import ModelInfo, why_unsuitable
from napari_medseq.models.library import Model, ModelLike, list_models, load_model, loaded

__all__ = ["Model", "ModelInfo", "ModelLike", "list_models", "load_model", "loaded", "why_unsuitable"]
