"""Training that configures itself: it takes a folder of data and a number of minutes, and writes a bundle.

It finds out how the data are laid out (`layouts`), measures them (`fingerprint`), decides how to train (`plan`), and
trains the slab network for the time that is left. The plan and the record lie beside the bundle, in ``<out>.run``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from napari_medseq import files, record
from napari_medseq.errors import SettingsError, warn
from napari_medseq.inference.doubts import Doubt
from napari_medseq.inference.inputs.working import Working
from napari_medseq.inference.resources import devices
from napari_medseq.inference.resources.tuning import has_bfloat16
from napari_medseq.inference.slabs.windows import SlabSettings
from napari_medseq.models import Model, bundle, load_model, networks
from napari_medseq.models.plain import Plain
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.settings import checked
from napari_medseq.training.automatic import bundle as automatic_bundle
from napari_medseq.training.automatic.budget import SPARE, Budget, threads
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.automatic.decoded import Decoded
from napari_medseq.training.automatic.fingerprint import Fingerprint
from napari_medseq.training.automatic.judging import Judged, choose_judges, judged, seconds_to_judge
from napari_medseq.training.automatic.plan import Plan, bfloat16_pays, doubt_of, make_plan
from napari_medseq.training.automatic.plan_file import Planned, plan_to_follow
from napari_medseq.training.automatic.prepared import measured, slab_cases
from napari_medseq.training.automatic.start import slab_network, start_slabs
from napari_medseq.training.layouts import Entry, Layout, find_layout
from napari_medseq.training.loops.slab_windows import SlabCase, SlabWindows
from napari_medseq.training.loops.slabs import WARM_UP, Course, SlabLoop, fit_slabs
from napari_medseq.wording import how_many

_JUDGING = 0.2  # largest share of the time for validation, where the config names no patients for it
_SLACK = 2.0  # times the time of its windows, for all else of validation: if it ends too early, too few patients are left to set a doubt
_MEASURING, _READING = 0.15, 0.4  # shares of the time after which no further case is measured, or read
_GPU_CORES = 8  # cores of a CPU that make windows as fast as a GPU learns from them


@dataclass(frozen=True, eq=False)
class AutoResult:
    """The result of a training that configured itself.

    Attributes
    ----------
    folder : Path
        The bundle.
    model : Model
    plan : Plan
    course : Course
        The loss over time, windows seen.
    patients : tuple of str
        The patients whose cases the network learned from.
    scores : dict of str to dict of str to float
        Dice of each class, by its name, for each patient on whom the network was validated.
    """

    folder: Path
    model: Model
    plan: Plan
    course: Course
    patients: tuple[str, ...]
    scores: dict[str, dict[str, float]]


def train_automatically(
    config: AutoConfig | Mapping[str, object],
    *,
    planned: Planned | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> AutoResult:
    """Train on a folder of data within the minutes given; `planned` is called with the plan before the training begins.

    A run that was interrupted continues from its checkpoint, with the plan that it began with.

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
    budget = Budget(c)
    found = _planned(c, budget, progress, cancelled)
    if planned is not None:
        planned(found.plan)
    run, plan, facts = c.run_folder, found.plan, found.facts
    cases, classes = slab_cases(
        found.decoded,
        [channel.name for channel in facts.channels],
        found.classes,
        _working(plan),
        part(progress, 0.03, 0.08),
        cancelled,
        budget.after(_READING),
        fixed=found.fixed,
    )
    facts = facts.model_copy(update={"classes": {k: facts.of_class(k, name) for k, name in classes.items()}})
    files.write_json(run / "fingerprint.json", facts.model_dump(mode="json"))
    judges = choose_judges(cases, named=c.judges, kept_back=found.kept_back, wanted=c.validation, seed=c.seed)
    learned, judging = [x for x in cases if x.patient not in judges], [x for x in cases if x.patient in judges]
    check(cancelled)
    task = _Task(
        config=c,
        plan=plan,
        facts=facts,
        classes=classes,
        learned=learned,
        judging=judging,
        device=found.device,
        start=found.start,
    )
    outcome = _learn(task, budget, progress, cancelled)
    outcome.plan.save(run / "plan.yaml")
    automatic_bundle.write(c, outcome)
    patients = tuple(sorted({x.patient for x in learned}))
    automatic_bundle.write_record(c, found.layout, outcome, patients)
    return AutoResult(
        Path(c.out),
        load_model(Path(c.out)),
        outcome.plan,
        outcome.course,
        patients,
        {p: dict(s) for p, s in outcome.scores.items()},
    )


def plan_automatically(
    config: AutoConfig | Mapping[str, object], *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> Plan:
    """The plan that `train_automatically` would begin with, which is written to the same place; nothing is trained.

    Raises
    ------
    SettingsError, MedseqError, OperationCancelled
        As `train_automatically`.
    """
    c = checked(AutoConfig, config, where="the training config")
    return _planned(c, Budget(c), progress, cancelled, anew=True).plan


@dataclass(frozen=True, kw_only=True, eq=False)
class _Planned:
    """The data, what was measured of them, and the plan.

    Attributes
    ----------
    layout : Layout
    decoded : Decoded
    facts : Fingerprint
    classes : dict of int to str
        Label value → name.
    fixed : bool
        Whether no other label values count as classes.
    kept_back : set of str
        Patients that the layout keeps for validation.
    plan : Plan
    device : torch.device
    start : Model or None
        The one whose weights the network starts from.
    """

    layout: Layout
    decoded: Decoded
    facts: Fingerprint
    classes: dict[int, str]
    fixed: bool
    kept_back: set[str]
    plan: Plan
    device: torch.device
    start: Model | None


def _planned(
    c: AutoConfig, budget: Budget, progress: Progress | None, cancelled: Cancelled | None, *, anew: bool = False
) -> _Planned:
    """Measure the data, decide, and write the plan."""
    bundle.check_place(Path(c.out))
    run, layout = c.run_folder, layout_of(c)
    kept_back = {e.patient for e in layout.entries if e.split == "validation"}
    decoded = _decoded(c, layout, kept_back)
    named = {1: "foreground"} if c.merge else c.classes or layout.classes or _classes_before(run)
    facts, classes = measured(decoded, named, part(progress, 0.0, 0.03), cancelled, budget.after(_MEASURING))
    if facts.measured >= facts.cases and not c.classes:  # else one may be in those that are not measured
        classes = {k: v for k, v in classes.items() if facts.classes[k].cases}
    device = learning_device(c)
    plan = _plan(c, plan_to_follow(run, anew=anew), lambda: _new_plan(c, facts, device))
    _check_plan(plan, facts)
    start = None if plan.start_from is None else load_model(plan.start_from)
    if start is not None:
        slab_network(start)  # refused now, before the data are prepared
    plan.save(run / "plan.yaml")
    return _Planned(
        layout=layout,
        decoded=decoded,
        facts=facts,
        classes=classes,
        fixed=bool(named),
        kept_back=kept_back,
        plan=plan,
        device=device,
        start=start,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """What is to be learned.

    Attributes
    ----------
    config : AutoConfig
    plan : Plan
    facts : Fingerprint
        Fingerprint of the data that the plan was made for.
    classes : mapping of int to str
        Index in the labels, from 1, → name.
    learned, judging : sequence of SlabCase
        The cases to learn from, and those of the patients that judge.
    device : torch.device
    start : Model or None
        The one whose weights the network starts from.
    """

    config: AutoConfig
    plan: Plan
    facts: Fingerprint
    classes: Mapping[int, str]
    learned: Sequence[SlabCase]
    judging: Sequence[SlabCase]
    device: torch.device
    start: Model | None

    @property
    def definition(self) -> dict[str, Plain]:
        """Definition of the plan's network for these channels and classes, with the background."""
        channels = len(self.facts.channels) + (self.plan.position is not None)
        return _definition(self.plan, channels, len(self.classes) + 1)


def _learn(
    task: _Task, budget: Budget, progress: Progress | None, cancelled: Cancelled | None
) -> automatic_bundle.Learned:
    """Train the plan's network for the time that is left, and judge it."""
    c, plan, facts = task.config, task.plan, task.facts
    torch.manual_seed(c.seed)
    network = networks.build(task.definition)
    assert isinstance(network, SlabUNet)
    if task.start is not None:
        start_slabs(network, task.start)
    inference = _inference(plan, facts)
    to_judge = _SLACK * seconds_to_judge(network, inference, task.judging, task.device)
    if not c.judges:  # patients that the config names all judge
        to_judge = min(to_judge, _JUDGING * budget.seconds)
    loop = _loop(c, plan, task.device, budget.for_training(to_judge))
    windows = _windows(c, plan, task.learned, facts.spacing_mm, len(task.classes) + 1)
    names = list(task.classes.values())
    with threads(c.threads):
        course = fit_slabs(
            network,
            windows,
            loop,
            path=c.run_folder / "checkpoint.pt",
            progress=part(progress, 0.08, 0.98),
            cancelled=cancelled,
        )
        stop = budget.after(math.inf if c.judges else 1 - SPARE)
        found = judged(course.network, inference, task.judging, names, task.device, stop)
    if course.seen < WARM_UP * plan.batch:
        warn(
            f"Only {course.seen} windows were seen, which is too few to learn from (the rate rises over {WARM_UP * plan.batch}); give "
            "more minutes."
        )
    plan = _with_doubt(c, plan, facts, found)
    return automatic_bundle.Learned(
        definition=task.definition,
        course=course,
        plan=plan,
        start=None if task.start is None else task.start.info,
        inference=_inference(plan, facts),
        channels=[channel.name for channel in facts.channels],
        classes=tuple(names),
        modality=c.modality or facts.channels[0].modality,
        scores=found.scores,
        cases=len(task.learned),
    )


def _with_doubt(c: AutoConfig, plan: Plan, facts: Fingerprint, found: Judged) -> Plan:
    """The plan with how sure an answer must be, as the patients say that judged; as it is where the config says what is doubted, or
    where somebody took the doubts out of the plan that these data have."""
    if "doubt" in c.settings or (plan.doubt is None and found.above is None):
        return plan
    if plan.doubt is None and doubt_of(facts, plan.schemes[0]) is not None:
        return plan
    doubt = (plan.doubt or Doubt()).model_copy(update={"above": found.above})
    why = (
        "too few patients judged to say how sure an answer must be"
        if found.above is None
        else f"answers that are less sure than those on {how_many(len(found.scores), 'patient')} that judged"
    )
    of_images = plan.reasons.get("doubt", "").split("; ")[0]
    reasons = {**plan.reasons, "doubt": f"{of_images}; {why}"}
    return plan.model_copy(update={"doubt": None if doubt == Doubt() else doubt, "reasons": reasons})


def _decoded(c: AutoConfig, layout: Layout, kept_back: Collection[str]) -> Decoded:
    """The cases, each read when it is needed."""
    return Decoded(
        _mixed(layout.entries, set(c.judges) or kept_back, c.seed),
        layout.modalities | (dict.fromkeys(layout.channels, c.modality) if c.modality else {}),
        channels=layout.channels,
        merge=c.merge,
        ignored=layout.ignored,
    )


def learning_device(c: AutoConfig) -> torch.device:
    """The device that the network learns on: a CUDA device where the config allows one, else the CPU."""
    device = devices.choose(c.device)[0]
    return device if device.type == "cuda" else torch.device("cpu")


def _new_plan(c: AutoConfig, facts: Fingerprint, device: torch.device) -> Plan:
    """A plan for data of this fingerprint, for the device and the time."""
    fast = device.type == "cuda"
    cores = _GPU_CORES if fast else c.threads or torch.get_num_threads()
    return make_plan(facts, seconds=60 * c.minutes, bfloat16=True if fast else None, cores=cores)


def _working(plan: Plan) -> Working:
    """How an image is resampled and scaled before the network sees it."""
    return Working(
        axis=plan.axis,
        spacing_mm=plan.spacing_mm,
        schemes=plan.schemes,
        focus=plan.focus,
        position=plan.position,
        own_slices=plan.own_slices,
        trimmed=plan.trimmed,
        step_mm=plan.step_mm,
    )


def _loop(c: AutoConfig, plan: Plan, device: torch.device, seconds: float) -> SlabLoop:
    return SlabLoop(
        seconds=seconds,
        clock=c.clock,
        batch=plan.batch,
        optimiser=plan.optimiser,
        rate=plan.rate,
        weight_decay=plan.weight_decay,
        average=plan.average,
        bfloat16=plan.bfloat16,
        seed=c.seed,
        device=str(device),
    )


def _windows(
    c: AutoConfig, plan: Plan, cases: Sequence[SlabCase], spacing_mm: Sequence[float], classes: int
) -> SlabWindows:
    return SlabWindows(
        cases,
        classes=classes,
        size=plan.window,
        spacing=_spacing(plan, spacing_mm),
        augment=plan.augment,
        placed=plan.position is not None,
        seed=c.seed,
    )


def layout_of(c: AutoConfig) -> Layout:
    """The cases of the data set, without held-out patients and test cases."""
    layout = find_layout(Path(c.data), patient=c.patient, channels=c.channels or None, labels=c.labels, task=c.task)
    for doubt in layout.doubts:
        warn(doubt)
    entries = tuple(
        e for e in layout.entries if e.patient not in c.hold_out and e.split.lower() not in ("test", "hold_out")
    )
    unknown = sorted(set(c.judges) - {e.patient for e in entries})
    if unknown:
        raise SettingsError(f"judges names {', '.join(unknown)}, who are not there.")
    if not entries:
        raise SettingsError("hold_out names every patient; leave some to learn from.")
    return replace(layout, entries=entries)


def _for_this_processor(c: AutoConfig, plan: Plan) -> Plan:
    """A plan of another machine without bfloat16, where this one has no units for it: it may be 200 times slower then."""
    if not plan.bfloat16 or learning_device(c).type == "cuda" or has_bfloat16() or bfloat16_pays():
        return plan
    reasons = {**plan.reasons, "bfloat16": "this processor computes it no faster, whatever the plan said"}
    return plan.model_copy(update={"bfloat16": False, "reasons": reasons})


def _plan(c: AutoConfig, begun: Path | None, make: Callable[[], Plan]) -> Plan:
    """The plan of the config, else the one that was begun with, else a new one; the config's own settings replace its
    values."""
    if c.plan is not None:
        plan = _for_this_processor(c, Plan.read(Path(c.plan)))
    elif begun is not None:
        plan = Plan.read(begun)
    else:
        plan = make()
    return plan.overruled(c.settings)


def _mixed(entries: Sequence[Entry], judges: Collection[str], seed: int) -> list[Entry]:
    """The cases in random order, so that cases dropped for lack of time are a random sample. The first two are one to
    learn from and one that judges."""
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(seed)).tolist()
    mixed = [entries[k] for k in order]
    first = [next((e for e in mixed if (e.patient in judges) == judge), None) for judge in (False, True)]
    ahead = [e for e in first if e is not None]
    return ahead + [e for e in mixed if e not in ahead]


def _classes_before(run: Path) -> dict[int, str]:
    """The classes that an interrupted run found; its network has outputs for these only."""
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
            f"The plan has {how_many(len(plan.schemes), 'scheme')}, one for each channel, but the data have "
            f"{how_many(len(names), 'channel')} ({', '.join(names)}); a plan is for data of the same channels."
        )
    if (plan.axis == "t") != facts.frames:
        raise SettingsError(
            f"The plan's steps run along {plan.axis}, but the data have {'frames' if facts.frames else 'no frames'}."
        )


def _spacing(plan: Plan, xyz: Sequence[float]) -> tuple[float, float, float]:
    """The voxel size in which windows are rotated: the plan's, or the data's typical one where the plan keeps each
    image's own."""
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


def _inference(plan: Plan, facts: Fingerprint) -> SlabSettings:
    return SlabSettings(
        working=_working(plan),
        window=plan.window,
        mirrored=plan.mirrored,
        precision="bfloat16" if plan.bfloat16 else "float32",
        keep_largest=plan.keep_largest,
        missing_channels=len(facts.channels) > 1 and plan.augment.drop_channel > 0,
        doubt=plan.doubt,
    )
