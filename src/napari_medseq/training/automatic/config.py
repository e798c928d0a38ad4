"""The config of a training that configures itself: where the data lie, where to write the bundle, how long it may
take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from napari_medseq.settings import Settings, WholePathText
from napari_medseq.training.loops.slabs import Clock


class AutoConfig(Settings):
    """The config of `train` where it configures itself.

    Attributes
    ----------
    data : str
        Folder, or CSV file of paths; `layouts` says which layouts are known.
    out : str
        Folder of the bundle.
    task : {"segmentation", "classification"} or None
        What is learned of a table that has both labels and a class; otherwise what it has.
    minutes : float
        Time for everything: reading, training and judging.
    name, description, licence : str
        What the bundle says of itself; without a name it is called like the folder `out`.
    plan : str or None
        A plan to follow, as a YAML file.
    settings : dict
        Values for fields of the plan; all other fields are decided from the data.
    classes : dict of int to str
        Label value to name, or number of a class in a table to its name; those of the data set otherwise.
    channels : dict of str to str
        In trees of files: name of each channel to the pattern of its files.
    labels : str or None
        In trees of files: pattern of the labels.
    patient : str or None
        How a case's name tells its patient, as `layouts.find_layout` takes it.
    hold_out : tuple of str
        Patients that are left out altogether.
    validation : int or None
        Number of patients that judge the network at the end and that it does not learn from. None: a tenth of the
        patients where there are 20 or more, else none; of classes of whole exams a fifth where each class has 5 patients or more.
    judges : tuple of str
        The same by name.
    folds : int
        With 2 or more, as many networks are trained, each judged by the patients that it did not see; `minutes` is for all of them
        together. Given to `segment` together they are averaged.
    merge : bool
        Every label counts as one class: for labels that number objects.
    modality : str or None
        DICOM code for the bundle.
    clock : {"wall", "process"}
        What `minutes` counts.
    threads : int or None
        Number of threads of torch while training.
    device : str
        "auto", "cpu", "cuda" or "cuda:N"; windows are made on the CPU in any case.
    seed : int
    """

    data: WholePathText
    out: WholePathText
    task: Literal["segmentation", "classification"] | None = None
    minutes: float = Field(60.0, gt=0)
    name: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    description: str = ""
    licence: str = ""
    plan: WholePathText | None = None
    settings: dict[str, object] = Field(default_factory=dict)
    classes: dict[int, str] = Field(default_factory=dict)
    channels: dict[str, str] = Field(default_factory=dict)
    labels: str | None = None
    patient: str | None = None
    hold_out: tuple[str, ...] = ()
    validation: int | None = Field(None, ge=0)
    judges: tuple[str, ...] = ()
    folds: int = Field(0, ge=0)
    merge: bool = False
    modality: str | None = None
    clock: Clock = "wall"
    threads: int | None = Field(None, ge=1)
    device: str = "auto"
    seed: int = 0

    @property
    def run_folder(self) -> Path:
        """The folder of the plan, the checkpoint and the record, beside the bundle."""
        out = Path(self.out)
        return out.with_name(out.name + ".run")


def is_automatic(config: Mapping[str, object]) -> bool:
    """Whether a config asks `train` to configure itself: it gives a time or a plan, and neither a network nor a loop."""
    return "network" not in config and "loop" not in config and ("minutes" in config or "plan" in config)
