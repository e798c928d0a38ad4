"""Several models at once, such as the folds of a cross-validation: which of them may be averaged."""

from __future__ import annotations

from collections.abc import Sequence

from napari_medseq.errors import ModelError
from napari_medseq.inference.settings import inference_settings
from napari_medseq.models import Model, ModelLike, loaded
from napari_medseq.models.sequence_network import SequenceNetwork

_FACTS = ("channels", "classes", "sequence_axis", "modality", "table")


def models_of(model: ModelLike | Sequence[ModelLike]) -> tuple[Model, ...]:
    """The models of a verb's argument, loaded: one, or each of several.

    Raises
    ------
    ModelError
        If there is none, or as `loaded`.
    """
    several = isinstance(model, Sequence) and not isinstance(model, str)
    models = tuple(loaded(m) for m in model) if several else (loaded(model),)  # type: ignore[arg-type, union-attr]
    if not models:
        raise ModelError("The list of models is empty; give one or more.")
    return models


def model_names(models: Sequence[Model]) -> str:
    """Name and version of each model of an average, as results state them."""
    return " + ".join(f"{m.info.name} {m.info.version}" for m in models)


def check_together(models: Sequence[Model]) -> None:
    """Refuse models whose probabilities are not those of the same classes at the same places.

    Raises
    ------
    ModelError
        If a model differs from the first; the message says in what.
    """
    for other in models[1:]:
        first, mine, own = models[0], _facts(models[0]), _facts(other)
        if mine is None or own is None:
            raise ModelError(f"{first.info.name} and {other.info.name}: only models of this package can be averaged.")
        for name, value in mine.items():
            if own[name] != value:
                raise ModelError(
                    f"{other.info.name} cannot be averaged with {first.info.name}: its {name} is {own[name]}, not {value}."
                )


def _facts(model: Model) -> dict[str, object] | None:
    """What the models of an average have in common; None for networks of others."""
    network = model.network
    if not isinstance(network, SequenceNetwork):
        return None
    settings = inference_settings(model.inference, model.info.name)
    return {
        **{name: getattr(model.info, name) for name in _FACTS},
        "target": network.target,
        "number of dimensions": 3 if network.volumes else 2,
        "along": settings.along,
        "pixel_mm": settings.pixel_mm,
        "size": settings.size,
    }
