"""The bundle format: a folder that holds a model and can be read without executing anything in it.

Layout (MONAI Bundle): ``configs/metadata.json``, ``configs/inference.json``, ``models/model.safetensors``,
``docs/README.md``, ``LICENSE``. A bundle holds plain values only; networks come from the registry's allow-list, never from an
import path in a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import files
from napari_medseq.errors import ModelError
from napari_medseq.models.info import ModelInfo
from napari_medseq.models.plain import Definition, Plain
from napari_medseq.record import sha256
from napari_medseq.settings import checked
from napari_medseq.wording import how_many, some

if TYPE_CHECKING:
    from torch import Tensor

    from napari_medseq.models.storage import Storage

METADATA = Path("configs/metadata.json")
INFERENCE = Path("configs/inference.json")
WEIGHTS = Path("models/model.safetensors")
CARD = Path("docs/README.md")
#: written by `install`: where a bundle came from, and the SHA-256 of each file
RECORD = Path("installed.json")
_LARGEST_JSON = 1 << 20
# in the temporary folder beside a bundle that is written: the new one, and the one that it replaces
_STAGED, _ASIDE = "bundle", "old"
_WEIGHTS_SUM = "weights_sha256"  # beside the facts, where other versions of this package ignore it


def read_json(path: Path) -> dict[str, Plain]:
    """A bundle's JSON file as a dict.

    Raises
    ------
    ModelError
        If it is missing, over 1 MiB, or not a JSON object.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ModelError(f"{path} is larger than 1 MiB, which no bundle's configuration needs; it is refused.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing; a model bundle is a folder with {METADATA}, {INFERENCE} and {WEIGHTS}."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not readable JSON ({error}); get the bundle again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    return content


def refuse_expressions(value: object, where: str, *, target: bool = True) -> None:
    """Refuse anything that a bundle runner would evaluate: ``$`` expressions, ``@`` and ``%`` references, other ``_target_``s.

    Raises
    ------
    ModelError
        If there is one; the message names its place.
    """
    if isinstance(value, str):
        if value[:1] in ("$", "@", "%"):
            raise ModelError(
                f"{where} holds the expression {value[:60]!r}; expressions are never evaluated, so the bundle is refused."
            )
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if str(key)[:1] in ("$", "@", "%") or (str(key).startswith("_") and not (target and key == "_target_")):
                raise ModelError(
                    f"{where} holds the key {str(key)[:60]!r}, which would be executed; the bundle is refused."
                )
            refuse_expressions(item, f"{where}: {key}", target=target)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            refuse_expressions(item, f"{where}[{i}]", target=target)


def read_info(folder: Path) -> ModelInfo:
    """A bundle's facts, without its weights.

    Raises
    ------
    ModelError
        If the metadata are missing, hold an expression, or lack a field.
    """
    metadata = read_json(folder / METADATA)
    refuse_expressions(metadata, str(folder / METADATA), target=False)
    facts = metadata.get("napari_medseq")
    if not isinstance(facts, dict):
        raise ModelError(f"{folder / METADATA} has no 'napari_medseq' part; this is not one of our bundles.")
    card = folder / CARD
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{card} is not readable as text ({error}); get the bundle again.") from None
    others = {
        "version": str(metadata.get("version", "0")),
        "description": str(metadata.get("description", "")),
        "licence": str(metadata.get("license", "")),
        "folder": str(folder),
        "card": text,
        "missing_channels": _takes_missing_channels(folder / INFERENCE),
    }
    return checked(
        ModelInfo, {**facts, **others}, where=f"{folder / METADATA} does not describe a model", error=ModelError
    )


def _takes_missing_channels(path: Path) -> bool:
    """Whether the inference settings say that channels may be missing; what is wrong with the file is said when the model is loaded."""
    try:
        inference = read_json(path).get("inference")
    except ModelError:
        return False
    return isinstance(inference, dict) and inference.get("missing_channels") is True


def read_settings(folder: Path) -> tuple[dict[str, Plain], dict[str, Plain]]:
    """``network_def`` and ``inference`` of one of our bundles, checked to be plain values throughout."""
    config = read_json(folder / INFERENCE)
    refuse_expressions(config, str(folder / INFERENCE))
    network, inference = config.get("network_def"), config.get("inference", {})
    if not isinstance(network, dict) or not isinstance(inference, dict):
        raise ModelError(f"{folder / INFERENCE} needs 'network_def' and 'inference' as JSON objects.")
    return network, inference


def check_fit(weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], where: Path) -> None:
    """Refuse weights that are not those of a network.

    Parameters
    ----------
    weights : mapping of str to Tensor
    shapes : mapping of str to tuple of int
        Those of the network's tensors, by name.
    where : Path
        Where the weights lie, for the message.

    Raises
    ------
    ModelError
        If a tensor is missing, has another shape, or is one too many.
    """
    wrong = [k for k, s in shapes.items() if k not in weights or tuple(weights[k].shape) != s]
    extra = [k for k in weights if k not in shapes]
    found = [f"{how_many(len(wrong), 'tensor')} missing or of another shape ({some(wrong)})"] if wrong else []
    found += [f"{how_many(len(extra), 'unknown tensor')} ({some(extra)})"] if extra else []
    if found:
        raise ModelError(f"The weights in {where} do not fit the network: {', '.join(found)}. Get the bundle again.")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of ``models/model.safetensors`` by name, as float32.

    Raises
    ------
    ModelError
        If the file is missing, broken or not the one that was written, or holds a weight that is not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from napari_medseq.models.storage import unpack

    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(
            f"{path} is missing; weights are read from safetensors only. Get the bundle again or convert its weights."
        )
    check_sum(folder, WEIGHTS, read_json(folder / METADATA).get(_WEIGHTS_SUM))
    try:
        weights = unpack(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is broken ({error}); get the bundle again.") from None
    check_finite(weights, path)
    return weights


def check_sum(folder: Path, part: Path, stated: object = None) -> None:
    """Compare a file of a bundle with the SHA-256 that the bundle states, and with the one that was noted when it was installed.

    Raises
    ------
    ModelError
        If the file is another.
    """
    noted = read_json(folder / RECORD).get("files") if (folder / RECORD).is_file() else None
    expected = [stated, noted.get(part.as_posix()) if isinstance(noted, dict) else None]
    expected_sums = {str(e) for e in expected if e is not None}
    if expected_sums and expected_sums != {sha256(folder / part)}:
        raise ModelError(
            f"{folder / part} is not the file that was written: its SHA-256 differs. Get the bundle again."
        )


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise if a weight is NaN or infinite: such a network answers NaN for every voxel.

    Raises
    ------
    ModelError
        If there is one; the message names the first such tensors.
    """
    bad = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if bad:
        raise ModelError(
            f"{path} holds weights that are not finite, in {how_many(len(bad), 'tensor')} ({some(bad)}); get the bundle again, "
            "or train it again with a smaller learning rate."
        )


def check_place(folder: Path) -> None:
    """Refuse a folder that `write_bundle` would not write to, for those who work long before they write.

    Raises
    ------
    ModelError
        If it exists, is not empty, and is no bundle.
    WriteError
        If a file stands where it, or a folder above it, is to be.
    """
    files.check_place(folder)
    if folder.exists() and not (folder / METADATA).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} exists and is not a model bundle; choose another folder, nothing was overwritten.")


def write_bundle(
    folder: Path,
    *,
    facts: Definition,
    network: Definition,
    inference: Definition,
    weights: Mapping[str, Tensor],
    card: str,
    licence_text: str,
    description: str,
    licence: str,
    version: str,
    storage: Storage = "half",
) -> Path:
    """Write a bundle to a temporary folder and move it into place.

    Parameters
    ----------
    folder : Path
        Must not exist, be empty, or be a bundle (it is replaced).
    facts : mapping
        The fields of `ModelInfo` that are not given otherwise.
    network, inference : mapping
        The definition of the network, and the settings with which it is run.
    weights : mapping of str to Tensor
    card, licence_text : str
        The model card (Markdown), and the text of the licence of the weights.
    description, licence, version : str
        As in `ModelInfo`.
    storage : {"half", "float32", "int8", "shared"}
        How weights are stored, see `storage.pack`.

    Raises
    ------
    ModelError
        If `folder` exists and is not a bundle, or a weight is not finite as it would be stored.
    """
    from safetensors.torch import save_file

    from napari_medseq.models.storage import pack

    check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        root = Path(name) / _STAGED
        for part in (METADATA, WEIGHTS, CARD):
            (root / part).parent.mkdir(parents=True, exist_ok=True)
        metadata: dict[str, object] = {
            "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
            "version": version,
            "description": description,
            "license": licence,
            "task": str(facts["task"]),
            "napari_medseq": {**facts, "parameters": sum(int(v.numel()) for v in weights.values())},
        }
        config = {"network_def": dict(network), "inference": dict(inference)}
        (root / INFERENCE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (root / CARD).write_text(card, encoding="utf-8")
        (root / "LICENSE").write_text(licence_text, encoding="utf-8")
        packed = pack(weights, storage)
        check_finite(packed, root / WEIGHTS)
        save_file(packed, root / WEIGHTS)
        # safetensors writes for its owner alone; whoever may read the rest may read the weights
        (root / WEIGHTS).chmod((root / INFERENCE).stat().st_mode)
        metadata[_WEIGHTS_SUM] = sha256(root / WEIGHTS)
        (root / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        read_info(root)
        read_settings(root)
        aside = Path(name) / _ASIDE
        if folder.exists():
            os.replace(folder, aside)
        try:
            os.replace(root, folder)
        except OSError:
            if aside.exists():
                os.replace(aside, folder)
            raise
    return folder


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left beside a bundle that it was writing; only for the one process that writes it.

    A bundle that had been moved aside for a new one, which then did not come, is put back.
    """
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    for left in [path for path in beside if re.fullmatch(rf"\.{re.escape(folder.name)}-[a-z0-9_]{{8}}", path.name)]:
        old = left / _ASIDE
        if not folder.exists() and (old / METADATA).is_file():
            os.replace(old, folder)
        shutil.rmtree(left, ignore_errors=True)


def fingerprint(folder: Path) -> str:
    """SHA-256 of the weights and the configuration, which together decide a model's answer."""
    digest = hashlib.sha256()
    for part in (INFERENCE, WEIGHTS):
        digest.update((folder / part).read_bytes())
    return digest.hexdigest()
