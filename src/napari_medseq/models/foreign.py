"""Bundles made by others in MONAI Bundle layout: only their facts, their ``network_def`` and their weights are read.

A bundle of the MONAI Model Zoo is a program: its configuration holds expressions (``$...``) and classes to be called
(``_target_``) that MONAI's runner executes. Here three things of it are read as data. The metadata; the one entry
``network_def``, whose class must be in a fixed table of MONAI's networks and whose values must be plain, after references
(``@name``) to plain values of the same file are looked up; and the tensors. An expression or another class in what is read is
refused; all else in the file is never looked at.

The bundle's own preprocessing is not run, since it is such a program: hand in an image prepared as its card says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_medseq.errors import ModelError
from napari_medseq.models import bundle
from napari_medseq.models.bounds import bounded
from napari_medseq.models.info import ModelInfo
from napari_medseq.models.plain import Definition, Plain
from napari_medseq.settings import checked
from napari_medseq.yaml_text import read_values

if TYPE_CHECKING:
    from torch import Tensor, nn

#: MONAI's networks that may be built: a volume (or slice) in, logits of the same size out
NETWORKS = (
    "AttentionUnet",
    "BasicUNet",
    "BasicUNetPlusPlus",
    "DynUNet",
    "SegResNet",
    "SegResNetVAE",
    "SwinUNETR",
    "UNETR",
    "UNet",
    "VNet",
)
_ALIASES = {
    "Unet": "UNet",
    "BasicUnet": "BasicUNet",
    "Basicunet": "BasicUNet",
    "BasicUnetPlusPlus": "BasicUNetPlusPlus",
}
_CONFIGS = ("inference.json", "inference.yaml", "inference.yml", "train.json", "train.yaml", "train.yml")
_WEIGHTS = ("model.safetensors", "model.pt", "model.pth")
_MOST_ENTRIES, _LARGEST_NUMBER, _DEEPEST = 2000, 4096, 24
#: 3 s of PyYAML, which reads 25 kB a second; configurations in the MONAI Model Zoo have up to 20 kB
_LARGEST_YAML = 1 << 16
_WRAPPERS = ("state_dict", "model", "network", "net", "model_state_dict")


def is_foreign(folder: Path) -> bool:
    """Whether a folder is a bundle that this package did not write."""
    return (folder / bundle.METADATA).is_file() and "napari_medseq" not in bundle.read_json(folder / bundle.METADATA)


def read_info(folder: Path) -> ModelInfo:
    """A foreign bundle's facts, from ``configs/metadata.json`` as plain text; expressions in it are text too.

    Raises
    ------
    ModelError
        If the metadata are missing or do not describe a segmentation network.
    """
    metadata = bundle.read_json(folder / bundle.METADATA)
    image = _first(_inside(metadata, "network_data_format", "inputs"))
    classes = _definitions(_first(_inside(metadata, "network_data_format", "outputs")).get("channel_def"))
    channels = _definitions(image.get("channel_def"))
    modality = image.get("modality")
    card = folder / bundle.CARD
    facts = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-.") or "foreign",
        "version": str(metadata.get("version", "0")),
        "task": "segmentation",
        "modality": _MODALITIES.get(modality.upper()) if isinstance(modality, str) else None,
        "channels": tuple(channels.values()) or ("image",),
        "classes": {k: v for k, v in classes.items() if k > 0},
        "sequence_axis": "z",
        "description": str(metadata.get("description", "")),
        "licence": str(metadata.get("license", metadata.get("copyright", ""))),
        "folder": str(folder),
        "card": card.read_text(encoding="utf-8", errors="replace")[: 1 << 20] if card.is_file() else "",
    }
    return checked(ModelInfo, facts, where=f"{folder / bundle.METADATA} does not describe a model", error=ModelError)


_MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PET": "PT", "PT": "PT", "US": "US", "ULTRASOUND": "US"}


def _inside(value: Plain, *path: str) -> Definition:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _first(parts: Definition) -> Definition:
    """The entry called image or pred, else the first."""
    chosen: Plain = next((parts[k] for k in ("image", "pred") if k in parts), next(iter(parts.values()), {}))
    return chosen if isinstance(chosen, Mapping) else {}


def _definitions(value: Plain) -> dict[int, str]:
    """``{"0": "background", …}`` with whole numbers as keys; what is not of that form is left out."""
    if not isinstance(value, Mapping):
        return {}
    numbered = {int(k): str(v)[:80] for k, v in value.items() if re.fullmatch("[0-9]{1,3}", str(k))}
    return dict(sorted(numbered.items()))


def read_definition(folder: Path) -> tuple[dict[str, Plain], Path]:
    """``network_def`` with references looked up, and the file that it stands in.

    Raises
    ------
    ModelError
        If there is none, or it holds an expression, another class, or a value that is not plain.
    """
    for name in _CONFIGS:
        path = folder / "configs" / name
        if path.is_file():
            config = bundle.read_json(path) if path.suffix == ".json" else _read_yaml(path)
            if "network_def" in config:
                definition = _Resolver(config, path).value(config["network_def"], "network_def", 0)
                if not isinstance(definition, dict):
                    raise ModelError(f"{path}: network_def must be an object with a _target_, not {definition!r:.60}.")
                return definition, path
    raise ModelError(
        f"{folder} has no 'network_def' in any of configs/{', '.join(_CONFIGS)}; it cannot be used safely."
    )


def _read_yaml(path: Path) -> dict[str, Plain]:
    content = read_values(path, largest=_LARGEST_YAML, error=ModelError)
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a mapping, not {type(content).__name__}.")
    return {str(name): value for name, value in content.items()}


class _Resolver:
    """Looks up ``@`` references in one file and refuses whatever would be executed."""

    def __init__(self, config: Definition, path: Path) -> None:
        self.config, self.path, self.entries = config, path, 0

    def value(self, value: Plain, where: str, depth: int, target: bool = True) -> Plain:
        self.entries += 1
        if self.entries > _MOST_ENTRIES or depth > _DEEPEST:
            raise ModelError(f"{self.path}: {where[:80]} is nested or referenced too deeply; the bundle is refused.")
        if isinstance(value, str):
            return self._text(value, where, depth)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            if not abs(value) <= _LARGEST_NUMBER:
                raise ModelError(f"{self.path}: {where} is {value}, too large for a network; the bundle is refused.")
            return value
        if isinstance(value, list):
            return [self.value(v, f"{where}[{i}]", depth + 1, False) for i, v in enumerate(value)]
        if isinstance(value, dict):
            out = {}
            for key, item in value.items():
                if (
                    not isinstance(key, str)
                    or key[:1] in "$@%"
                    or (key.startswith("_") and not (target and key == "_target_"))
                ):
                    raise ModelError(
                        f"{self.path}: {where} holds the key {str(key)[:60]!r}, which would be executed; the bundle is refused."
                    )
                out[key] = self.value(item, f"{where}: {key}", depth + 1, False)
            return out
        raise ModelError(
            f"{self.path}: {where} is a {type(value).__name__}, which is not a plain value; the bundle is refused."
        )

    def _text(self, text: str, where: str, depth: int) -> Plain:
        if text[:1] in ("$", "%") or len(text) > 200:
            raise ModelError(
                f"{self.path}: {where} holds the expression {text[:60]!r}; expressions are never evaluated, so the bundle "
                "is refused."
            )
        if text[:1] != "@":
            return text
        value: Plain = self.config
        for key in re.split("::|#", text[1:]):
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise ModelError(f"{self.path}: {where} refers to {text[:60]!r}, which is not in the file.")
        return self.value(value, f"{where} → {text[:60]}", depth + 1, False)


def build(definition: Definition) -> nn.Module:
    """A MONAI network from a checked definition.

    Raises
    ------
    ModelError
        If the class is not in the table or the arguments do not fit it.
    """
    arguments = dict(definition)
    target = str(arguments.pop("_target_", None))
    short = (
        target.removeprefix("monai.networks.nets.").rpartition(".")[2]
        if target.startswith("monai.networks.nets.")
        else target
    )
    name = _ALIASES.get(short, short)
    if name not in NETWORKS:
        raise ModelError(
            f"network {target[:80]!r} is not one of {', '.join(NETWORKS)} of monai.networks.nets; the bundle is refused."
        )
    from monai.networks import nets

    try:
        with torch.random.fork_rng(devices=[]), bounded():
            return getattr(nets, name)(**arguments)  # type: ignore[no-any-return]
    except Exception as error:  # MONAI checks its arguments in many ways
        raise ModelError(f"MONAI's {name} cannot be built from the bundle's arguments: {str(error)[:200]}") from None


def find_weights(folder: Path) -> Path | None:
    """The weights that can be read safely, if there are any; safetensors first."""
    return next((p for p in (folder / "models" / n for n in _WEIGHTS) if p.is_file()), None)


def weights_file(folder: Path) -> Path:
    """The file of a foreign bundle's weights; safetensors first.

    Raises
    ------
    ModelError
        If there are none that can be read safely.
    """
    path = find_weights(folder)
    if path is None:
        scripted = (
            " (TorchScript, which executes code, is opened only with trust=True)"
            if (folder / "models/model.ts").is_file()
            else ""
        )
        raise ModelError(f"{folder / 'models'} holds none of {', '.join(_WEIGHTS)}{scripted}.")
    return path


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of ``models/model.safetensors``, or of ``model.pt`` read with ``weights_only=True``.

    Raises
    ------
    ModelError
        If there are none, the file is broken, or it holds anything but tensors.
    """
    from safetensors.torch import load_file

    path = weights_file(folder)
    bundle.check_sum(folder, path.relative_to(folder))
    try:
        content: object = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except Exception as error:  # whatever a hostile file makes the parser stumble over
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:160]
        raise ModelError(
            f"{path} is broken or holds more than tensors ({reason}); it is refused. Get the bundle again, or ask for its "
            "weights as safetensors."
        ) from None
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{path} holds no tensors by name; it is refused.")
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if len(tensors) != len(content):
        raise ModelError(f"{path} holds more than tensors by name; it is refused.")
    weights = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    bundle.check_finite(weights, path)
    return weights


def _unpickle(path: Path) -> object:
    """Tensors of a ``.pt`` file by the unpickler that knows no other classes and calls nothing."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _shapes(definition: Definition) -> dict[str, tuple[int, ...]]:
    """Name → shape of the network's tensors, without memory where the network can be built so."""
    try:
        with torch.device("meta"):
            network = build(definition)
    except ModelError:  # a few of MONAI's networks compute with tensors while they are built
        network = build(definition)
    return {k: tuple(v.shape) for k, v in network.state_dict().items()}


def fingerprint(folder: Path) -> str:
    """SHA-256 of a foreign bundle's configuration and weights."""
    digest = hashlib.sha256()
    for path in (read_definition(folder)[1], weights_file(folder)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def load(folder: Path) -> tuple[ModelInfo, nn.Module, dict[str, Plain], dict[str, Plain]]:
    """Facts, network with weights (in evaluation mode), inference settings and definition of a foreign bundle.

    The network is first built without memory, so that shapes are compared before anything large is made.

    Raises
    ------
    ModelError
        If anything in it is unsafe, broken or does not fit.
    """
    info = read_info(folder)
    definition = read_definition(folder)[0]
    shapes = _shapes(definition)
    weights = read_weights(folder)
    weights = {k.removeprefix("module."): v for k, v in weights.items()}
    bundle.check_fit(weights, shapes, folder / "models")
    network = build(definition)
    network.load_state_dict(weights)
    network.eval()
    inputs, outputs = _number_in(definition, "in_channels", 1), _number_in(definition, "out_channels", 2)
    channels = info.channels if len(info.channels) == inputs else tuple(f"channel {i}" for i in range(inputs))
    channels = ("image",) if inputs == 1 and channels == ("channel 0",) else channels
    classes = {k: info.classes.get(k, f"class {k}") for k in range(1, max(outputs, 2))}
    facts = {"channels": channels, "classes": classes, "parameters": sum(p.numel() for p in network.parameters())}
    info = ModelInfo.model_validate({**info.model_dump(), **facts})
    return info, network, inference_of(folder, definition), definition


def _number_in(definition: Definition, name: str, default: int) -> int:
    value = definition.get(name, default)
    if not isinstance(value, int):
        raise ModelError(f"The bundle's {name} is {value!r:.60}, which is not a whole number; the bundle is refused.")
    return value


def stated_dimensions(folder: Path) -> int:
    """Dimensions of the image that the metadata describe; 3 where they do not say."""
    image = _first(_inside(bundle.read_json(folder / bundle.METADATA), "network_data_format", "inputs"))
    shape = image.get("spatial_shape")
    return len(shape) if isinstance(shape, list) and len(shape) in (2, 3) else 3


def inference_of(folder: Path, definition: Definition) -> dict[str, Plain]:
    """How to slide the network over an image: its dimensions and window, from the definition and the metadata."""
    image = _first(_inside(bundle.read_json(folder / bundle.METADATA), "network_data_format", "inputs"))
    dimensions = _number_in(definition, "spatial_dims", _number_in(definition, "dimensions", 3))
    if dimensions not in (2, 3):
        raise ModelError(f"{folder}: the network has {dimensions} spatial dimensions; 2 and 3 can be used.")
    shape = image.get("spatial_shape")
    usable = (
        isinstance(shape, list)
        and len(shape) == dimensions
        and all(isinstance(n, int) and 8 <= n <= 512 for n in shape)
    )
    window = definition.get("img_size", shape if usable else [96] * dimensions)
    window = list(window) if isinstance(window, list | tuple) else [window] * dimensions
    return {"kind": "window", "dimensions": dimensions, "window": window}
