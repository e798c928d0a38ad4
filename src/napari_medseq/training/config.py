"""The settings of a training run: one frozen, checked model, from a mapping or a YAML or JSON file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from napari_medseq.files import path_of
from napari_medseq.inference.inputs.visits import Registration
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.settings import PathText, Settings, WholePathText, checked
from napari_medseq.training.loops.losses import LossSettings
from napari_medseq.training.loops.settings import LoopSettings


class TrainConfig(Settings):
    """Everything a training run needs; stored beside its result.

    Attributes
    ----------
    name, version, description, licence, card : str
        For the bundle that is written; the card is Markdown.
    task : {"segmentation", "classification", "denoising", "autoencoder"}
    data : tuple of str
        Study folders, or folders that hold study folders; patients are the folder names.
    image, labels : str
        `fnmatch` patterns that pick a visit's image and its labels by name.
    channels : dict of str to str
        For several channels: what each is called, and the pattern of its image; replaces `image`.
    targets : str or None
        For classification: a CSV file with columns ``patient``, ``class`` (name or index; several joined by ";") and, where
        visits differ, ``visit``. Without it the question is what the labels show.
    table : str or None
        For classification: a CSV file with columns ``patient``, perhaps ``visit``, and those named in `values`; it may be that
        of `targets`. Empty cells, and exams that are not in it, are missing.
    values : tuple of str
        Its columns that the network gets in addition to the images: numbers, or words, which become yes-or-no values (``sex=F``).
    align : {"auto", "none", "translation", "rigid", "affine"}
        Along visits: how those of a patient are brought onto each other; see `register.visits`.
    unlabelled : int or None
        Label value of unlabelled voxels, which count for nothing.
    sparse : bool
        Whether steps without any label are unlabelled, rather than background.
    hold_out : tuple of str
        Patients that are left out.
    validation : tuple of str
        Patients that training does not see and that judge it while it runs.
    validation_share : float
        Instead of naming them: the share of the patients, drawn by the loop's seed.
    folds : int
        Cross-validation over the patients: one bundle for each fold in `out`, judged on its patients; 0: none.
    synthetic : int
        Synthetic cases of `napari_medseq.synthetic` that are added.
    synthetic_share : float
        Share of the windows that come from synthetic cases.
    modality, classes, name_patterns
        For the bundle; ``classes`` maps label value (or class index) to name. The only class 1 takes in every label.
    network : dict
        ``{"_target_": name, **arguments}``; with `start_from` and nothing said, the network of that bundle. The number of
        classes follows `classes`.
    start_from : str or None
        Bundle whose weights are taken where names and shapes agree: a head for other classes starts from random weights.
    loss : LossSettings
        Loss of a segmentation.
    noise : (float, float)
        For a denoiser: smallest and largest standard deviation of the noise that it learns from, in robust units
        (about 1 is the spread of the foreground's intensities).
    loop : LoopSettings
    inference : InferenceSettings
        ``along`` says what the sequence is: slices, frames (t), or a patient's visits.
    device : str
    out : str
        Folder of the bundle, or of the folds' bundles.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = "0.1.0"
    description: str = ""
    licence: str = ""
    card: str = ""
    task: Literal["segmentation", "classification", "denoising", "autoencoder"] = "segmentation"
    data: tuple[WholePathText, ...] = ()
    image: str = "*"
    labels: str = "*"
    channels: dict[str, str] = Field(default_factory=dict)
    targets: WholePathText | None = None
    table: WholePathText | None = None
    values: tuple[str, ...] = ()
    align: Registration = "auto"
    unlabelled: int | None = None
    sparse: bool = False
    hold_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    validation_share: float = Field(0.0, ge=0, lt=1)
    folds: int = Field(0, ge=0)
    synthetic: int = Field(0, ge=0)
    synthetic_share: float = Field(0.3, ge=0, le=1)
    modality: str | None = None
    classes: dict[int, str] = Field(default_factory=lambda: {1: "lesion"})
    name_patterns: tuple[str, ...] = ()
    network: dict[str, Any] = Field(default_factory=lambda: {"_target_": "RecurrentUNet"})
    start_from: PathText | None = None
    loss: LossSettings = LossSettings()
    noise: tuple[float, float] = (0.1, 0.6)
    loop: LoopSettings = LoopSettings()
    inference: InferenceSettings = InferenceSettings()
    device: str = "auto"
    out: WholePathText = Field("model", validate_default=True)

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.folds == 1:
            raise ValueError("folds: one fold would leave no patient to train on; give 2 or more, or 0 for none")
        if self.validation and self.validation_share:
            raise ValueError("validation names patients and validation_share draws them: give one of the two")
        if self.task == "segmentation" and (not self.classes or min(self.classes) < 1):
            raise ValueError("classes: the labels of a segmentation are 1 and more; 0 is the background")
        if self.task == "classification" and sorted(self.classes) != list(range(len(self.classes))):
            raise ValueError("classes: those of a classification are numbered 0, 1, 2, ...")
        if self.synthetic and self.inference.along in ("t", "visit"):
            raise ValueError("synthetic: those are single volumes; leave them out along t or visit")
        if bool(self.values) != (self.table is not None):
            raise ValueError("table names the CSV file and values its columns: give both, or neither")
        if self.values and self.task != "classification":
            raise ValueError("table and values are for a classification")
        if not 0 <= self.noise[0] <= self.noise[1]:
            raise ValueError("noise: the smallest standard deviation, then the largest")
        if self.loop.patience and not (self.validation or self.validation_share):
            raise ValueError("loop.patience needs patients that judge: give validation or validation_share")
        return self


def read_config(config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str]) -> TrainConfig:
    """A checked config from a mapping or a YAML or JSON file.

    Raises
    ------
    SettingsError
        If a field cannot be used; the message names each.
    """
    if isinstance(config, TrainConfig | Mapping):
        return checked(TrainConfig, config, where="the training config")
    from napari_medseq.yaml_text import read_settings

    return checked(TrainConfig, read_settings(path_of(config)), where=str(config))
