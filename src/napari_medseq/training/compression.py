"""`compress`: make a smaller model of a model, and write on its card what was gained.

Each setting saves something else. Fewer channels (`keep`) save time and memory and need fine-tuning, in which the original
network acts as teacher (`distil`). Low-rank convolutions (`error`) save multiplications. Half precision, 8-bit integers and
shared weights (`storage`) save disk and download only. Products in half precision (`precision`) save time on a CPU with bf16
units; other CPUs, on which they would be far slower, ignore the setting. One pass instead of the mean of two mirrored ones
(`mirror`) halves the work.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from napari_medseq.errors import ModelError, SettingsError
from napari_medseq.inference.slabs.segmentation import refuse_slab
from napari_medseq.models import Model, ModelLike, bundle, loaded, networks
from napari_medseq.models.factorised import rank_for, replace, suitable
from napari_medseq.models.pruning import prune
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.models.storage import Storage
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.settings import PathText, Settings, checked
from napari_medseq.training.distilling import with_teacher
from napari_medseq.training.loops.distributed import process_group
from napari_medseq.training.trainer import TrainConfig, read_cases, train_cases

_SIDE = 128  # rows and columns (and slices, of a volume) of the step for which multiplications are counted


class CompressSettings(Settings):
    """How a model is made smaller.

    Attributes
    ----------
    out : str
        Folder to write; must not exist, or be a bundle (it is replaced).
    name : str or None
        Name of the new model; the old one's with "-small" when None.
    keep : float
        Share of channels that stays; below 1 for a `RecurrentUNet` only. The answer changes: fine-tune.
    error : float
        Convolutions are factorised to the smallest rank with at most this relative squared error of their weights, where
        that saves multiplications; 0 leaves them whole.
    storage : {"float32", "half", "int8", "shared"}
        "shared": 16 values (256 in small tensors) for all weights of a tensor, each an index of 4 (8) bits.
    precision : {"float32", "bfloat16"} or None
        Precision of a segmentation's products on a CPU with bf16 units; None: as the original.
    mirror : bool
        False: one pass where the original averages two mirrored ones.
    fine_tune : TrainConfig or None
        Training after the pruning; its network, start and folder are set here. Interrupted, it continues with the next call.
    distil : float
        Share of the fine-tuning's loss that is disagreement with the original's probabilities; the labels have the rest.
    """

    out: PathText
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    keep: float = Field(1.0, gt=0, le=1)
    error: float = Field(0.0, ge=0, lt=1)
    storage: Storage = "half"
    precision: Literal["float32", "bfloat16"] | None = None
    mirror: bool = True
    fine_tune: TrainConfig | None = None
    distil: float = Field(0.5, ge=0, le=1)


def measures(model: Model) -> dict[str, int]:
    """Size and work of a model.

    Returns
    -------
    dict
        ``bytes`` of the weight file, ``parameters``, and ``multiply_adds`` of one step of 128 voxels along each axis (counted, not
        timed).
    """
    path = Path(model.info.folder) / bundle.WEIGHTS
    return {
        "bytes": path.stat().st_size if path.is_file() else 0,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "multiply_adds": _multiply_adds(model.network),
    }


def _multiply_adds(network: nn.Module) -> int:
    """Multiplications of the convolutions and dense layers for one step, counted on meta tensors without computing
    them."""
    if not isinstance(network, RecurrentUNet | SequenceClassifier):
        raise ModelError("Multiplications are counted for the package's own networks only.")
    twin = deepcopy(network).to("meta").eval()
    counts: list[int] = []

    def count(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
            counts.append(inputs[0].numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Conv2d | nn.Conv3d):
            counts.append(output.numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Linear):
            counts.append(output.numel() * layer.in_features)

    for layer in twin.modules():
        layer.register_forward_hook(count)
    steps = 2 * twin.ahead + 2
    twin(torch.zeros(1, steps, twin.input_channels, *[_SIDE] * (3 if twin.volumes else 2), device="meta"))
    return int(sum(counts)) // steps


def compress(
    model: ModelLike,
    settings: CompressSettings | Mapping[str, Any],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Model:
    """Make a model smaller and write it as a bundle.

    Parameters
    ----------
    model : Model, str or path
        A loaded model, its name, or the folder of a bundle.
    settings : CompressSettings or mapping
    progress, cancelled : callable, optional
        Looked at once per convolution, and by the fine-tuning.

    Returns
    -------
    Model
        Loaded from the new bundle, so it is what any later `load_model` gives. Its card says what was done and what sizes
        and multiplications were before and after; accuracy is for `evaluate` to say.

    Raises
    ------
    SettingsError
        If the settings cannot be used.
    ModelError
        If the model is not of this package, cannot be pruned, or `out` is a folder that is not a bundle.
    OperationCancelled
        When `cancelled` says so; nothing is written.
    """
    s = checked(CompressSettings, settings, where="the settings of compress")
    bundle.check_place(Path(s.out))
    model = loaded(model)
    refuse_slab(model, "compress", "It is kept in half precision already.")
    if not isinstance(model.network, RecurrentUNet | SequenceClassifier):
        raise ModelError(f"{model.info.name} is not a network of this package; it cannot be compressed.")
    if (s.precision is not None or not s.mirror) and not isinstance(model.network, RecurrentUNet):
        raise ModelError(f"{model.info.name} is not a RecurrentUNet; leave precision and mirror as they are.")
    if Path(s.out).resolve() == Path(model.info.folder).resolve():
        raise SettingsError(
            f"out is the folder of {model.info.name} itself; choose another, so that the original stays."
        )
    check(cancelled)
    name = s.name or f"{model.info.name}-small"
    definition, network = dict(model.network_definition), deepcopy(model.network).cpu()
    steps_done = []
    if s.keep < 1:
        definition, weights = prune(network, definition, s.keep)  # type: ignore[arg-type]
        network = _built(definition, weights)
        steps_done.append(f"channels cut to {s.keep:.0%}: widths {definition['widths']}")
    if s.fine_tune is not None:
        network = _tuned(model, definition, network, s, progress, cancelled)
        by = ", taught by the original" if s.distil > 0 else ""
        steps_done.append(f"fine-tuned for {s.fine_tune.loop.iterations} iterations{by}")
    if s.error > 0:
        ranks = _ranks(network, s.error, progress, cancelled)
        if ranks:
            replace(network, ranks)
            definition = _nested(definition, ranks)
        steps_done.append(f"{len(ranks)} convolutions factorised, relative squared error at most {s.error:g} each")
    steps_done.append(
        {
            "float32": "stored whole",
            "half": "stored in half precision",
            "int8": "stored as 8-bit integers",
            "shared": "stored as indices of values that the weights of a tensor share",
        }[s.storage]
    )
    inference = dict(model.inference)
    if s.precision is not None:
        inference["precision"] = s.precision
        steps_done.append(f"products in {s.precision} where the processor has units for it")
    if not s.mirror and inference.get("mirror"):
        inference["mirror"] = False
        steps_done.append("one pass instead of two mirrored ones")
    model = Model(model.info, model.network, inference, model.network_definition)
    check(cancelled)
    folder = _write(Path(s.out), name, model, definition, network, s.storage, model.info.card)
    small = loaded(folder)
    card = f"{model.info.card.rstrip()}\n\n{_report(measures(model), measures(small), steps_done, model)}"
    return loaded(_write(folder, name, model, definition, network, s.storage, card))


def _built(definition: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Any:
    network = networks.build(definition)
    network.load_state_dict(dict(weights))
    return network.eval()


def _ranks(network: nn.Module, error: float, progress: Progress | None, cancelled: Cancelled | None) -> dict[str, int]:
    """Convolution → rank, where two factors need fewer multiplications than the whole."""
    convolutions = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and suitable(m)]
    ranks = {}
    for number, (name, conv) in enumerate(convolutions):
        check(cancelled)
        rank, inputs = rank_for(conv.weight, error), conv.weight[0].numel()
        if rank * (inputs + conv.out_channels) < conv.out_channels * inputs:
            ranks[name] = rank
        if progress is not None:
            progress(number + 1, len(convolutions), "factorising convolutions")
    return ranks


def _nested(definition: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, Any]:
    if definition.get("_target_") == "Factorised":  # compressed once already: its factors are plain convolutions now
        raise ModelError("The model has factorised convolutions already; compress the original instead.")
    return {"_target_": "Factorised", "network": dict(definition), "ranks": dict(ranks)}


def _tuned(
    model: Model,
    definition: Mapping[str, Any],
    network: nn.Module,
    s: CompressSettings,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Any:
    """The network after more training; what lies beside `out` meanwhile lets an interrupted one continue."""
    assert s.fine_tune is not None
    out = Path(s.out)
    start, tuned = out.with_name(f"{out.name}.start"), out.with_name(f"{out.name}.tuned")
    _write(start, f"{out.name}-start", model, definition, network, "float32", "")
    config = s.fine_tune.model_copy(update={"network": dict(definition), "start_from": str(start), "out": str(tuned)})
    if config.folds:
        raise SettingsError("fine_tune.folds: one network is tuned; leave folds at 0.")
    teacher = with_teacher(deepcopy(model.network), s.distil) if s.distil > 0 else None
    with process_group(config.device) as group:
        cases = read_cases(config, cancelled)
        result = train_cases(config, cases, group, progress, cancelled, teacher).model.network
    for leftover in (start, tuned, tuned.with_name(f"{tuned.name}.run")):
        shutil.rmtree(leftover)
    return result


def _write(
    folder: Path,
    name: str,
    model: Model,
    definition: Mapping[str, Any],
    network: nn.Module,
    storage: Storage,
    card: str,
) -> Path:
    info = model.info
    licence = Path(info.folder) / "LICENSE"
    return bundle.write_bundle(
        folder,
        facts={
            "name": name,
            "task": info.task,
            "modality": info.modality,
            "name_patterns": list(info.name_patterns),
            "channels": list(info.channels),
            "classes": {str(k): v for k, v in info.classes.items()},
            "sequence_axis": info.sequence_axis,
            "look_ahead": info.look_ahead,
            "table": list(info.table),
        },
        network=definition,
        inference=model.inference,
        weights=network.state_dict(),
        card=card,
        licence_text=licence.read_text(encoding="utf-8") if licence.is_file() else info.licence + "\n",
        description=info.description,
        licence=info.licence,
        version=info.version,
        storage=storage,
    )


def _report(before: Mapping[str, int], after: Mapping[str, int], steps_done: list[str], model: Model) -> str:
    rows = [
        f"| {k.replace('_', '-')} | {before[k]:,} | {after[k]:,} | {before[k] / max(1, after[k]):.2f} |" for k in before
    ]
    return "\n".join(
        [
            "## Compression",
            "",
            f"Made from {model.info.name} {model.info.version}: {'; '.join(steps_done)}. The numbers above are the original's; "
            "measure accuracy again before use. Multiply-adds are for one step of 128 voxels along each axis and are counted, not timed.",
            "",
            "| | before | after | ratio |",
            "| --- | ---: | ---: | ---: |",
            *rows,
            "",
        ]
    )
