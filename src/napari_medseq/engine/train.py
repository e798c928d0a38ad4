"""`train`: a config in, a bundle out. Reads the cases, holds patients out, runs the loop, writes the bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_medseq.engine import devices
from napari_medseq.engine.cases import Case, Windows, make_case
from napari_medseq.engine.losses import classification_loss, segmentation_loss
from napari_medseq.engine.settings import InferenceSettings
from napari_medseq.engine.training import LoopSettings, fit
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.models import Model, bundle, load_model, registry
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence, Visit

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


class TrainConfig(BaseModel):
    """Everything a training run needs; stored beside its result.

    Attributes
    ----------
    name, version, description, licence, card : str
        For the bundle that is written; the card is Markdown.
    task : {"segmentation", "classification"}
    data : tuple of str
        Study folders, or folders that hold study folders; patients are the folder names.
    image, labels : str
        `fnmatch` patterns that pick a visit's image and its labels by name.
    hold_out : tuple of str
        Patients that are left out.
    synthetic : int
        Synthetic cases of `napari_medseq.synthetic` that are added.
    synthetic_share : float
        Share of the windows that come from synthetic cases.
    modality, classes, name_patterns
        For the bundle; ``classes`` maps label value (or class index) to name.
    network : dict
        ``{"_target_": name, **arguments}``.
    start_from : str or None
        Bundle whose weights are taken where names and shapes agree.
    loop : LoopSettings
    inference : InferenceSettings
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = "0.1.0"
    description: str = ""
    licence: str = ""
    card: str = ""
    task: Literal["segmentation", "classification"] = "segmentation"
    data: tuple[str, ...] = ()
    image: str = "*"
    labels: str = "*"
    hold_out: tuple[str, ...] = ()
    synthetic: int = Field(0, ge=0)
    synthetic_share: float = Field(0.3, ge=0, le=1)
    modality: str | None = None
    classes: dict[int, str] = Field(default_factory=lambda: {1: "lesion"})
    name_patterns: tuple[str, ...] = ()
    network: dict[str, Any] = Field(default_factory=lambda: {"_target_": "RecurrentUNet"})
    start_from: str | None = None
    loop: LoopSettings = LoopSettings()
    inference: InferenceSettings = InferenceSettings()
    device: str = "auto"
    out: str = "model"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What `train` gives.

    Attributes
    ----------
    folder : Path
        The bundle.
    curve : pandas.DataFrame
        Columns iteration, minutes, loss, dice.
    model : Model
        The trained model, loaded from the bundle.
    """

    folder: Path
    curve: pd.DataFrame
    model: Model


def read_config(config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str]) -> TrainConfig:
    """A checked config from a mapping or a YAML or JSON file.

    Raises
    ------
    SettingsError
        Naming each field that cannot be used.
    """
    if isinstance(config, TrainConfig):
        return config
    where = "the training config"
    if not isinstance(config, Mapping):
        import yaml

        where = str(config)
        try:
            config = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{where} cannot be read as YAML or JSON: {error}") from None
    try:
        return TrainConfig.model_validate(config)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{where} cannot be used: {problems}.") from None


def train(
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> TrainingResult:
    """Train a model and write its bundle.

    Training goes on from ``<out>.run/checkpoint.pt`` where an earlier, interrupted run of the same config left one.

    Parameters
    ----------
    config : TrainConfig, mapping, or path of a YAML or JSON file
    progress, cancelled : callable, optional
        Looked at once per iteration.

    Raises
    ------
    SettingsError
        If the config cannot be used, or another config's checkpoint lies in the run folder.
    MedseqError
        If there is no case to train on.
    OperationCancelled
        When `cancelled` says so; the checkpoint stays and the next call goes on from it.
    """
    import pandas as pd

    c = read_config(config)
    out = Path(c.out)
    run = out.with_name(out.name + ".run")
    run.mkdir(parents=True, exist_ok=True)
    _same_config(c, run)
    device, _ = devices.choose(c.device)
    torch.manual_seed(c.loop.seed)
    network = registry.build(c.network)
    if c.start_from is not None:
        take_over(network, load_model(c.start_from).network)
    real = read_cases(c, cancelled)
    made = synthetic_cases(c, run, progress, cancelled)
    share = c.synthetic_share if real else 1.0
    windows = Windows(
        real + made,
        steps=c.loop.steps,
        size=c.loop.size,
        neighbours=int(getattr(network, "neighbours", 0)),
        augment=c.loop.augment,
        seed=c.loop.seed,
        lesion_share=c.loop.lesion_share,
        transplant=c.loop.transplant,
        weights=[(1 - share if made else 1.0) / len(real) for _ in real] + [share / len(made) for _ in made],
    )
    loss = segmentation_loss if c.task == "segmentation" else classification_loss
    weights = fit(network, windows, loss, c.loop, run, device=str(device), progress=progress, cancelled=cancelled)
    facts = {
        "name": c.name,
        "task": c.task,
        "modality": c.modality,
        "name_patterns": list(c.name_patterns),
        "channels": ["image"],
        "classes": {str(k): v for k, v in c.classes.items()},
        "sequence_axis": c.inference.along,
        "look_ahead": int(getattr(network, "ahead", 0)),
    }
    bundle.write_bundle(
        out,
        facts=facts,
        network=c.network,
        inference=c.inference.model_dump(mode="json"),
        weights={k: v.cpu() for k, v in weights.items()},
        card=c.card or f"# {c.name}\n\n{c.description}\n",
        licence_text=c.licence + "\n",
        description=c.description,
        licence=c.licence,
        version=c.version,
    )
    return TrainingResult(out, pd.read_csv(run / "curve.csv"), load_model(out))


def _same_config(c: TrainConfig, run: Path) -> None:
    path, text = run / "config.json", c.model_dump_json(indent=2)
    if (run / "checkpoint.pt").exists() and path.exists() and json.loads(path.read_text()) != json.loads(text):
        raise SettingsError(
            f"{run} holds the checkpoint of a run with other settings; remove that folder or choose another out=."
        )
    path.write_text(text, encoding="utf-8")


def take_over(network: nn.Module, other: nn.Module) -> int:
    """Copy the weights of `other` whose names and shapes agree; returns how many tensors did."""
    own, theirs = network.state_dict(), other.state_dict()
    shared = {k: v for k, v in theirs.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(own | shared)
    return len(shared)


def read_cases(c: TrainConfig, cancelled: Cancelled | None = None) -> list[Case]:
    """The real cases of a config: every visit that has the image and its labels, but for held-out patients.

    Raises
    ------
    MedseqError
        If a folder holds no case.
    """
    from napari_medseq.io import read_study

    cases: list[Case] = []
    for folder in c.data:
        before = len(cases)
        inside = sorted(p for p in Path(folder).glob("*/") if any(p.iterdir()))
        is_study = any(p.name.startswith("ses-") for p in inside) or not inside
        patients = [Path(folder)] if is_study else inside
        for patient in patients:
            check(cancelled)
            if patient.name in c.hold_out:
                before -= 1
                continue
            for visit in read_study(patient).visits:
                pair = _pair(visit, c)
                if pair is not None:
                    along, pixel = c.inference.along, c.inference.pixel_mm
                    cases.append(
                        make_case(
                            patient.name, [pair[0]], pair[1], along=along, pixel_mm=pixel, merge=len(c.classes) == 1
                        )
                    )
        if len(cases) == before:
            raise MedseqError(f"{folder} holds no visit with an image like {c.image!r} and labels like {c.labels!r}.")
    return cases


def _pair(visit: Visit, c: TrainConfig) -> tuple[ImageSequence, ImageSequence] | None:
    images = [i for i in visit.images if fnmatchcase(i.name, c.image)]
    labels = [i for i in visit.labels if fnmatchcase(i.name, c.labels)]
    if not images or not labels:
        return None
    if len(images) > 1 or len(labels) > 1:
        names = ", ".join(i.name for i in [*images, *labels])
        raise MedseqError(f"{visit.name}: several images or labels fit ({names}); narrow image= or labels= down.")
    return images[0], labels[0]


def synthetic_cases(
    c: TrainConfig, run: Path, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> list[Case]:
    """`c.synthetic` cases, half of them visits of synthetic patients, some without a tumour.

    They are kept in a file beside the run, since making them takes minutes.
    """
    from napari_medseq import synthetic

    path = run.parent / f"heads-{c.synthetic}-{c.inference.pixel_mm}.pt"
    if c.synthetic and path.exists():
        return [Case(*entry) for entry in torch.load(path, weights_only=True)]
    cases: list[Case] = []
    visits: list[Visit] = []
    for k in range(c.synthetic):
        check(cancelled)
        if k % 2:  # a visit of a synthetic patient: other pixels, other lesions
            visits = visits or list(synthetic.make_study(1000 + k).visits)
            visit = visits.pop()
            image, labels = visit.images[0], visit.labels[0]
        else:
            image, labels = synthetic.make_case(1000 + k, lesions=0 if k % 6 == 4 else None)
        along, pixel = c.inference.along, c.inference.pixel_mm
        cases.append(make_case(f"synthetic-{k}", [image], labels, along=along, pixel_mm=pixel))
        if progress is not None:
            progress(k + 1, c.synthetic, "making synthetic cases")
    if cases:
        temporary = path.with_suffix(".tmp")
        torch.save([(x.patient, x.name, x.image, x.labels) for x in cases], temporary)
        os.replace(temporary, path)
    return cases
