"""Finding and loading models: those that ship with the package and those in the user's folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import files
from napari_medseq.errors import ModelError
from napari_medseq.models import bundle
from napari_medseq.models.info import ModelInfo
from napari_medseq.models.plain import Plain

if TYPE_CHECKING:
    from torch import nn

    from napari_medseq.models.sequence_network import SequenceNetwork

SHIPPED = Path(__file__).resolve().parents[1] / "bundles"


def user_folder() -> Path:
    """The folder of the user's own bundles; ``NAPARI_MEDSEQ_MODELS`` overrides the platform's data folder."""
    import platformdirs

    named = os.environ.get("NAPARI_MEDSEQ_MODELS")
    return Path(named) if named else Path(platformdirs.user_data_dir("napari-medseq")) / "models"


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model: its facts, its network with weights (in evaluation mode), and its inference settings.

    Attributes
    ----------
    info : ModelInfo
    network : torch.nn.Module
    inference : dict
        How the network is run, plain values as they are stored in the bundle.
    network_definition : dict
        What `registry.build` made the network from.
    """

    info: ModelInfo
    network: nn.Module
    inference: dict[str, Plain]
    network_definition: dict[str, Plain]

    @property
    def sequence_network(self) -> SequenceNetwork:
        """The network, where it is one along a sequence.

        Raises
        ------
        ModelError
            If it is one that others made.
        """
        from napari_medseq.models.sequence_network import SequenceNetwork

        if not isinstance(self.network, SequenceNetwork):
            raise ModelError(f"{self.info.name} is not a network of this package, so it cannot be used here.")
        return self.network

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights and configuration, for the record of a result."""
        from napari_medseq.models import foreign, scripted

        folder = Path(self.info.folder)
        if not foreign.is_foreign(folder):
            return bundle.fingerprint(folder)
        return scripted.fingerprint(folder) if scripted.is_scripted(folder) else foreign.fingerprint(folder)

    def __repr__(self) -> str:
        return f"<Model {self.info.name!r} {self.info.version} {self.info.task}, {self.info.parameters:,} parameters>"


def read_info(folder: Path) -> ModelInfo:
    """A bundle's facts without its weights, for bundles of this package and of others.

    Raises
    ------
    ModelError
        If the folder is not a bundle, or its metadata are unsafe or broken.
    """
    if (folder / bundle.METADATA).is_file() and "napari_medseq" not in bundle.read_json(folder / bundle.METADATA):
        from napari_medseq.models import foreign

        return foreign.read_info(folder)
    return bundle.read_info(folder)


def list_models() -> list[ModelInfo]:
    """The models that can be named: shipped ones, then the user's; a broken folder is left out.

    Where models have the same name, all but the first are called like their folders.

    Examples
    --------
    >>> import napari_medseq as ms
    >>> "brain-tumor" in [model.name for model in ms.list_models()]
    True
    """
    by_name: dict[str, ModelInfo] = {}
    for root in (SHIPPED, user_folder()):
        found: list[tuple[Path, ModelInfo]] = []
        for folder in sorted(root.glob("*/")) if root.is_dir() else []:
            try:
                found.append((folder, read_info(folder)))
            except ModelError:
                continue
        for folder, info in sorted(found, key=lambda one: one[0].name != one[1].name):
            called = folder.name if info.name in by_name else info.name
            by_name.setdefault(called, info if called == info.name else info.model_copy(update={"name": called}))
    return list(by_name.values())


def load_model(name_or_folder: str | os.PathLike[str], *, trust: bool = False) -> Model:
    """Load a model by name or from a bundle folder.

    Parameters
    ----------
    name_or_folder : str or path
        A name that `list_models` gives, or a folder in MONAI Bundle layout.
    trust : bool
        Consent to execute what a foreign bundle holds: without it only safetensors, or a ``.pt`` of tensors alone, are read; with
        it also TorchScript (``models/model.ts``), where there is nothing safer. Our own bundles never execute anything.

    Raises
    ------
    ModelError
        If there is no such model, or the bundle is unsafe or broken.

    Examples
    --------
    >>> import napari_medseq as ms
    >>> model = ms.load_model("brain-tumor")
    >>> model.info.task, model.info.modality
    ('segmentation', 'MR')
    """
    from napari_medseq.models import foreign, networks, scripted

    folder = find(name_or_folder)
    if foreign.is_foreign(folder):
        return Model(*(scripted.load(folder) if trust and scripted.is_scripted(folder) else foreign.load(folder)))
    info = bundle.read_info(folder)
    definition, inference = bundle.read_settings(folder)
    weights = bundle.read_weights(folder)
    network = networks.build(definition, stored=sum(w.numel() for w in weights.values()))
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    bundle.check_fit(weights, shapes, folder / bundle.WEIGHTS)
    network.load_state_dict(weights)
    network.eval()
    return Model(info, network, inference, definition)


def find(name_or_folder: str | os.PathLike[str]) -> Path:
    """The folder of a model, by its name or its own path.

    Raises
    ------
    ModelError
        If there is none.
    """
    path = files.path_of(name_or_folder)
    if (path / bundle.METADATA).is_file():
        return path.resolve()
    infos = list_models()
    for info in infos:  # before a folder that is not a bundle, such as one of results
        if info.name == str(name_or_folder):
            return Path(info.folder)
    if path.is_dir():
        return path.resolve()
    names = ", ".join(i.name for i in infos) or "none"
    raise ModelError(
        f"There is no model {str(name_or_folder)!r}: it is not a folder here, and the models installed are: {names}."
    )


#: what every verb takes as its model: one that is loaded, a name that `list_models` gives, or a bundle's folder
ModelLike = Model | str | os.PathLike[str]


def loaded(model: ModelLike) -> Model:
    """The model given, or the one that `load_model` loads by a name or path.

    Raises
    ------
    ModelError
        As `load_model` does, and if `model` is something else.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, str | os.PathLike):
        return load_model(model)
    raise ModelError(f"model is {type(model).__name__}; give a loaded model, its name, or the folder of a bundle.")
