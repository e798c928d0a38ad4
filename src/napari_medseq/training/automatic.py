"""Training that configures itself: a folder of data and the minutes there are in, a bundle out.

Where the data lie is found (`layouts`), what they are like is measured (`fingerprint`), how to train is decided (`plan`), and the slab
network is trained for the time that is left. Plan and record lie beside the bundle, in ``<out>.run``.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from napari_medseq import files, record
from napari_medseq.errors import MedseqWarning, SettingsError
from napari_medseq.inference import devices
from napari_medseq.inference.slab_steps import SlabSettings
from napari_medseq.inference.working import Working
from napari_medseq.models import Model, bundle, load_model, networks
from napari_medseq.models.plain import Definition, Plain
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.settings import Settings, checked
from napari_medseq.training.fingerprint import Fingerprint
from napari_medseq.training.judging import choose_judges, patient_scores, seconds_to_judge
from napari_medseq.training.layouts import Entry, Layout, find_layout
from napari_medseq.training.plan import Plan, make_plan, read_plan
from napari_medseq.training.prepared import Decoded, measured, slab_cases
from napari_medseq.training.slab_loop import Clock, Course, SlabLoop, fit_slabs
from napari_medseq.training.slab_windows import SlabWindows

_SPARE = 0.01  # share of the time for writing
_JUDGING = 0.2  # share of the time that judging takes at most where nobody named the judges
_MEASURING, _READING = 0.15, 0.4  # shares of the time after which no further case is measured, or read
_GPU_CORES = 8  # of a CPU that make windows as fast as a GPU learns from them
_LEAST_SECONDS = 5.0  # of training, however long caching took; of less than ten in all, half


class AutoConfig(Settings):
    """What `train` is asked when it is to configure itself.

    Attributes
    ----------
    data : str
        Folder, or CSV file of paths; `layouts` says which layouts are known.
    out : str
        Folder of the bundle.
    minutes : float
        Time for everything: reading, training, judging.
    name, description, licence : str
        For the bundle; the name is that of `out` otherwise.
    plan : str or None
        A plan to follow, as a YAML file.
    settings : dict
        Fields of the plan that are fixed; the rest is decided.
    classes : dict of int to str
        Label value to name; those of the data set otherwise.
    channels : dict of str to str
        In trees of files: name of each channel to the pattern of its files.
    labels : str or None
        In trees of files: pattern of the labels.
    patient : str or None
        How a case's name tells its patient, as `layouts.find_layout` takes it.
    hold_out : tuple of str
        Patients that are left out.
    validation : int or None
        Patients that judge at the end and are not learned from; None: a tenth where there are 20 or more.
    judges : tuple of str
        Those patients, by name.
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
        Of torch while training.
    device : str
        "auto", "cpu", "cuda" or "cuda:N"; windows are made on the CPU in any case.
    seed : int
    """

    data: str
    out: str
    minutes: float = Field(60.0, gt=0)
    name: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    description: str = ""
    licence: str = ""
    plan: str | None = None
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


@dataclass(frozen=True, eq=False)
class AutoResult:
    """What came of it.

    Attributes
    ----------
    folder : Path
        The bundle.
    model : Model
    plan : Plan
    course : Course
        The loss over time, windows seen.
    patients : tuple of str
        Those that were learned from.
    scores : dict of str to dict of str to float
        Patient to class name to Dice, of those that judged.
    """

    folder: Path
    model: Model
    plan: Plan
    course: Course
    patients: tuple[str, ...]
    scores: dict[str, dict[str, float]]


def is_automatic(config: Mapping[str, object]) -> bool:
    """Whether a config leaves the network and the loop to us: it says how long, or which plan."""
    return "network" not in config and "loop" not in config and ("minutes" in config or "plan" in config)


def train_automatically(
    config: AutoConfig | Mapping[str, object], *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> AutoResult:
    """Train on a folder of data within the minutes given.

    A run that was stopped goes on from its checkpoint, with the plan that it began with.

    Raises
    ------
    SettingsError
        If the config or plan cannot be used, or no labels are found.
    MedseqError
        If no case can be read.
    OperationCancelled
        When `cancelled` says so; the checkpoint stays.
    """
    c = checked(AutoConfig, config, where="the training config")
    now = time.process_time if c.clock == "process" else time.monotonic
    began = now()
    out = Path(c.out)
    run = out.with_name(out.name + ".run")
    layout = layout_of(c)
    kept_back = {e.patient for e in layout.entries if e.split == "validation"}
    decoded = Decoded(
        _mixed(layout.entries, set(c.judges) or kept_back, c.seed),
        layout.modalities | (dict.fromkeys(layout.channels, c.modality) if c.modality else {}),
        channels=layout.channels,
        merge=c.merge,
    )

    def after(share: float) -> Callable[[], bool]:
        return lambda: now() - began > share * 60 * c.minutes

    named = {1: "foreground"} if c.merge else c.classes or layout.classes or _classes_before(run)
    facts, classes = measured(decoded, named, part(progress, 0.0, 0.03), cancelled, after(_MEASURING))
    if facts.measured >= facts.cases and not c.classes:  # else one may be in those that are not measured
        classes = {k: v for k, v in classes.items() if facts.classes[k].cases}
    threads = c.threads or torch.get_num_threads()
    device = devices.choose(c.device)[0]
    fast = device.type == "cuda"
    device = device if fast else torch.device("cpu")
    plan = _plan(
        c,
        run,
        lambda: make_plan(
            facts, seconds=60 * c.minutes, bfloat16=True if fast else None, cores=_GPU_CORES if fast else threads
        ),
    )
    _check_plan(plan, facts)
    plan.save(run / "plan.yaml")
    working = Working(
        axis=plan.axis, spacing_mm=plan.spacing_mm, schemes=plan.schemes, focus=plan.focus, position=plan.position
    )
    names = [ch.name for ch in facts.channels]
    cases, classes = slab_cases(
        decoded, names, classes, working, part(progress, 0.03, 0.08), cancelled, after(_READING), fixed=bool(named)
    )
    facts = facts.model_copy(update={"classes": {k: facts.of_class(k, name) for k, name in classes.items()}})
    files.write_json(run / "fingerprint.json", facts.model_dump(mode="json"))
    judges = choose_judges(cases, named=c.judges, kept_back=kept_back, wanted=c.validation, seed=c.seed)
    learned, judging = [x for x in cases if x.patient not in judges], [x for x in cases if x.patient in judges]
    check(cancelled)
    torch.manual_seed(c.seed)
    definition = _definition(plan, len(names) + (plan.position is not None), len(classes) + 1)
    network = networks.build(definition)
    assert isinstance(network, SlabUNet)
    inference = _inference(plan, working, facts)
    to_judge = seconds_to_judge(network, inference, judging, device)
    if not c.judges:  # those who are named all judge
        to_judge = min(to_judge, _JUDGING * 60 * c.minutes)
    seconds_left = 60 * c.minutes * (1 - _SPARE) - to_judge - (now() - began)
    loop = SlabLoop(
        seconds=max(seconds_left, min(_LEAST_SECONDS, 60 * c.minutes / 2)),
        clock=c.clock,
        batch=plan.batch,
        rate=plan.rate,
        weight_decay=plan.weight_decay,
        average=plan.average,
        bfloat16=plan.bfloat16,
        seed=c.seed,
        device=str(device),
    )
    windows = SlabWindows(
        learned,
        classes=len(classes) + 1,
        size=plan.window,
        spacing=_spacing(plan, facts.spacing_mm),
        augment=plan.augment,
        placed=plan.position is not None,
        seed=c.seed,
    )
    with _threads(c.threads):
        course = fit_slabs(
            network, windows, loop, path=run / "checkpoint.pt", progress=part(progress, 0.08, 0.98), cancelled=cancelled
        )
        scores = patient_scores(
            course.network,
            inference,
            judging,
            list(classes.values()),
            device,
            after(math.inf if c.judges else 1 - _SPARE),
        )
    learnt = _Learnt(
        definition=definition,
        course=course,
        inference=inference,
        channels=names,
        classes=tuple(classes.values()),
        modality=c.modality or facts.channels[0].modality,
        scores=scores,
        cases=len(learned),
    )
    _write(c, out, learnt)
    record.write_run(
        run / "run.json",
        {"config": c.model_dump(mode="json"), "windows_seen": course.seen, "seconds": course.spent, "waited_for_windows": course.waited,
         "patients": sorted({x.patient for x in learned}), "scores": scores, "doubts": list(layout.doubts), "layout": layout.kind},
    )  # fmt: skip
    return AutoResult(out, load_model(out), plan, course, tuple(sorted({x.patient for x in learned})), scores)


def layout_of(c: AutoConfig) -> Layout:
    """The cases that there are to learn from and to judge."""
    layout = find_layout(Path(c.data), patient=c.patient, channels=c.channels or None, labels=c.labels)
    for doubt in layout.doubts:
        warnings.warn(doubt, MedseqWarning, stacklevel=4)
    entries = tuple(
        e for e in layout.entries if e.patient not in c.hold_out and e.split.lower() not in ("test", "hold_out")
    )
    unknown = sorted(set(c.judges) - {e.patient for e in entries})
    if unknown:
        raise SettingsError(f"judges names {', '.join(unknown)}, who are not there.")
    if not entries:
        raise SettingsError("hold_out names every patient; leave some to learn from.")
    return replace(layout, entries=entries)


def _plan(c: AutoConfig, run: Path, make: Callable[[], Plan]) -> Plan:
    """The plan given, or that of an interrupted run, or a new one; then the settings that are fixed."""
    if c.plan is not None:
        plan = read_plan(Path(c.plan))
    elif (run / "checkpoint.pt").exists() and (run / "plan.yaml").exists():
        plan = read_plan(run / "plan.yaml")
    else:
        plan = make()
    if not c.settings:
        return plan
    reasons = {**plan.reasons, **dict.fromkeys(c.settings, "as the settings say")}
    return checked(Plan, {**plan.model_dump(), **c.settings, "reasons": reasons}, where="settings")


def _mixed(entries: Sequence[Entry], judges: Collection[str], seed: int) -> list[Entry]:
    """The cases in an order by chance, one of those that judge and one to learn from first: what time cuts off is no kind of its own."""
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(seed)).tolist()
    mixed = [entries[k] for k in order]
    first = [next((e for e in mixed if (e.patient in judges) == judge), None) for judge in (False, True)]
    ahead = [e for e in first if e is not None]
    return ahead + [e for e in mixed if e not in ahead]


def _classes_before(run: Path) -> dict[int, str]:
    """The classes that an interrupted run found: its network cannot learn others."""
    if not ((run / "checkpoint.pt").exists() and (run / "fingerprint.json").exists()):
        return {}
    classes = record.read_json(run / "fingerprint.json").get("classes")
    return {int(k): str(v["name"]) for k, v in classes.items()} if isinstance(classes, dict) else {}


def _check_plan(plan: Plan, facts: Fingerprint) -> None:
    """Refuse a plan of other data.

    Raises
    ------
    SettingsError
    """
    names = [ch.name for ch in facts.channels]
    if len(plan.schemes) != len(names):
        raise SettingsError(
            f"The plan has {len(plan.schemes)} schemes, one for each channel, but the data have {len(names)} channel(s) "
            f"({', '.join(names)}); a plan is for data of the same channels."
        )
    if (plan.axis == "t") != facts.frames:
        raise SettingsError(
            f"The plan's steps run along {plan.axis}, but the data have {'frames' if facts.frames else 'no frames'}."
        )


def _spacing(plan: Plan, xyz: Sequence[float]) -> tuple[float, float, float]:
    """In which turns are turns: the plan's, or the data's where it keeps each image's own."""
    own = dict(zip(("x", "y", "z"), xyz, strict=True))
    axes = Working(axis=plan.axis).axes
    a, b, c = (s or own.get(n, 1.0) for s, n in zip(plan.spacing_mm, axes, strict=True))
    return a, b, c


def _definition(plan: Plan, channels: int, classes: int) -> dict[str, Plain]:
    return {
        "_target_": "SlabUNet",
        "channels": channels,
        "classes": classes,
        "widths": list(plan.widths),
        "strides": [list(s) for s in plan.strides],
        "mix_levels": list(plan.mix_levels),
        "dropout": plan.dropout,
    }


def _inference(plan: Plan, working: Working, facts: Fingerprint) -> SlabSettings:
    return SlabSettings(
        working=working,
        window=plan.window,
        mirrored=plan.mirrored,
        precision="bfloat16" if plan.bfloat16 else "float32",
        keep_largest=plan.keep_largest,
        missing_channels=len(facts.channels) > 1 and plan.augment.drop_channel > 0,
    )


class _threads:
    """So many threads for torch within it."""

    def __init__(self, count: int | None) -> None:
        self.count, self.before = count, torch.get_num_threads()

    def __enter__(self) -> None:
        if self.count is not None:
            torch.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Learnt:
    """What came of a training that the bundle says.

    Attributes
    ----------
    definition : mapping
        Of the network.
    course : Course
    inference : SlabSettings
    channels, classes : sequence of str
        Names; of the classes without background.
    modality : str or None
    scores : mapping of patient to mapping of class to float
        Of the patients that judge.
    cases : int
        That were learned from.
    """

    definition: Definition
    course: Course
    inference: SlabSettings
    channels: Sequence[str]
    classes: Sequence[str]
    modality: str | None
    scores: Mapping[str, Mapping[str, float]]
    cases: int


def _write(c: AutoConfig, out: Path, learnt: _Learnt) -> None:
    """Write the bundle."""
    name = c.name or out.name
    bundle.write_bundle(
        out,
        facts={
            "name": name, "task": "segmentation", "modality": learnt.modality, "name_patterns": [],
            "channels": list(learnt.channels), "classes": {str(k): v for k, v in enumerate(learnt.classes, 1)},
            "sequence_axis": "t" if learnt.inference.working.axis == "t" else "slices",
        },
        network=learnt.definition,
        inference=learnt.inference.model_dump(mode="json"),
        weights={k: v.detach().cpu() for k, v in learnt.course.network.state_dict().items()},
        card=_card(name, c, learnt),
        licence_text=c.licence + "\n",
        description=c.description or f"trained on {learnt.cases} cases of {Path(c.data).name}",
        licence=c.licence,
        version="0.1.0",
    )  # fmt: skip


def _card(name: str, c: AutoConfig, learnt: _Learnt) -> str:
    course, scores = learnt.course, learnt.scores
    lines = [
        f"# {name}",
        "",
        c.description,
        "",
        f"{record.DISCLAIMER} Trained on {learnt.cases} cases in {course.spent / 60:.1f} minutes;",
    ]
    lines.append(f"{course.seen} windows were seen.")
    if scores:
        values = np.array([list(s.values()) for s in scores.values()])
        lines += ["", f"Mean Dice of {len(scores)} patients that training did not see: {np.nanmean(values):.3f}."]
    else:
        lines += ["", "No patient was kept back to judge it: look at its results before trusting them."]
    return "\n".join(lines) + "\n"
