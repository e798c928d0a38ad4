"""Training that configures itself where the class of whole exams is learned: from a table of paths and classes to a bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from napari_medseq import files
from napari_medseq.errors import SettingsError, warn
from napari_medseq.evaluation import Interval
from napari_medseq.models import Model, bundle, load_model, networks
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.settings import checked
from napari_medseq.training import splits
from napari_medseq.training.automatic.budget import Budget, threads
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.automatic.decoded import Decoded
from napari_medseq.training.automatic.plan_file import Planned, plan_to_follow
from napari_medseq.training.automatic.training import layout_of, learning_device
from napari_medseq.training.cases import Case
from napari_medseq.training.classes import bundle as class_bundle
from napari_medseq.training.classes import judging as class_judging
from napari_medseq.training.classes.exams import Survey, exam_cases, survey
from napari_medseq.training.classes.plan import ClassPlan, make_class_plan
from napari_medseq.training.classes.unlearned import loss_of_shares, unlearned_of_steps, warn_if_unlearned
from napari_medseq.training.layouts import Layout
from napari_medseq.training.loops.losses import classification_loss, loss_of_steps
from napari_medseq.training.loops.sequences import Loss, fit
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.loops.windows import Windows
from napari_medseq.wording import how_many

_MEASURING, _READING = 0.1, 0.4  # shares of the time after which no further exam is measured, or read
_ENOUGH_PATIENTS = 5  # patients of each class from which on some are held out for validation
_JUDGING_SHARE = 0.2  # share of each class's patients that is held out
_ITERATIONS = 10_000_000  # the time ends a run, not their number


@dataclass(frozen=True, eq=False)
class ClassResult:
    """The result of a training of classes that configured itself.

    Attributes
    ----------
    folder : Path
        The bundle; with folds the folder that holds theirs.
    model : Model
        The model; with folds the first one.
    plan : ClassPlan
    curve : DataFrame
        The training curve; with folds it has a column fold.
    patients : tuple of str
        Those that were learned from.
    seen : int
        Windows that were seen.
    judged : DataFrame or None
        A row for each exam of a patient that was not learned from: patient, case, class, answer, and the probability of each class.
    scores : dict of str to Interval
        What these rows say of the network; with folds of all networks together.
    """

    folder: Path
    model: Model
    plan: ClassPlan
    curve: pd.DataFrame
    patients: tuple[str, ...]
    seen: int
    judged: pd.DataFrame | None
    scores: Mapping[str, Interval]


def train_classes(
    config: AutoConfig | Mapping[str, object],
    *,
    planned: Planned | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ClassResult:
    """Learn the classes of a table's exams within the minutes given; with `folds` one network for each.

    `planned` is called with the plan before any training begins.

    A run that was interrupted continues from its checkpoint, with the plan that it began with.

    Raises
    ------
    SettingsError
        If the config or plan cannot be used, or the table holds fewer than two classes.
    MedseqError
        If no exam can be read.
    OperationCancelled
        When `cancelled` says so; the checkpoint stays.
    """
    c = checked(AutoConfig, config, where="the training config")
    budget = Budget(c)
    found = _prepared(c, budget, progress, cancelled)
    plan, cases, decoded = found.plan, found.cases, found.decoded
    if planned is not None:
        planned(plan)
    parts, groups, modality = found.parts, found.groups, c.modality or found.modality
    to_judge = _seconds_to_judge(c, plan, decoded, [x for x in cases if any(x.patient in g for g in groups)], budget)
    learned: list[class_bundle.Learned] = []
    for k, (own, judges) in enumerate(zip(parts, groups, strict=True)):
        seconds = budget.for_training(to_judge) / (len(groups) - k)
        share = part(progress, 0.1 + 0.9 * k / len(groups), 0.1 + 0.9 * (k + 1) / len(groups))
        with threads(c.threads):
            outcome = _learn(
                own, plan, [x for x in cases if x.patient not in judges], seconds, found.device, share, cancelled
            )
            model = class_judging.as_used(own, outcome, modality)
            judged = class_judging.judged(model, decoded, [x for x in cases if x.patient in judges], cancelled)
        outcome = replace(outcome, judged=judged, scores=class_bundle.scores_of(judged, plan.classes))
        class_bundle.write(own, found.layout, outcome, modality)
        learned.append(outcome)
    return _result(c, plan, parts, learned)


def plan_classes(
    config: AutoConfig | Mapping[str, object], *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> ClassPlan:
    """The plan that `train_classes` would begin with, which is written to the same place; nothing is trained.

    Raises
    ------
    SettingsError, MedseqError, OperationCancelled
        As `train_classes`.
    """
    c = checked(AutoConfig, config, where="the training config")
    return _prepared(c, Budget(c), progress, cancelled, anew=True).plan


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """The exams, the plan, and who judges each network.

    Attributes
    ----------
    layout : Layout
    decoded : Decoded
    plan : ClassPlan
    cases : list of Case
    parts : list of AutoConfig
        The config of each network.
    groups : list of set of str
        The validation patients of each network.
    modality : str or None
        The modality of the exams.
    device : torch.device
    """

    layout: Layout
    decoded: Decoded
    plan: ClassPlan
    cases: list[Case]
    parts: list[AutoConfig]
    groups: list[set[str]]
    modality: str | None
    device: torch.device


def _prepared(
    c: AutoConfig, budget: Budget, progress: Progress | None, cancelled: Cancelled | None, *, anew: bool = False
) -> _Prepared:
    """Measure and read the exams, decide, and write the plan of each network."""
    if c.folds == 1:
        raise SettingsError("folds = 1; two or more are needed, or 0 for one network.")
    for own in [_part(c, k) for k in range(1, c.folds + 1)] or [c]:
        bundle.check_place(Path(own.out))
    layout = _named(layout_of(c), c.classes)
    order = torch.randperm(len(layout.entries), generator=torch.Generator().manual_seed(c.seed)).tolist()
    modalities = dict.fromkeys(layout.channels, c.modality) if c.modality else {}
    decoded = Decoded([layout.entries[k] for k in order], modalities, channels=layout.channels)
    found = survey(decoded, part(progress, 0.0, 0.04), cancelled, budget.after(_MEASURING), middle_mm=_middle_mm(c))
    device = learning_device(c)
    begun = plan_to_follow(_part(c, 1).run_folder, anew=anew)
    cores = 8 if device.type == "cuda" else c.threads or torch.get_num_threads()
    plan, is_new = _plan(c, begun, layout, found, cores)
    cases, kind = exam_cases(decoded, plan, part(progress, 0.04, 0.1), cancelled, budget.after(_READING))
    if is_new:
        plan = plan.of_kind(kind, c.settings)
    groups = _groups(c, cases, plan.classes, {e.patient for e in layout.entries if e.split == "validation"})
    parts = [_part(c, k) for k in range(1, len(groups) + 1)]
    for own in parts:
        plan.save(own.run_folder / "plan.yaml")
    return _Prepared(
        layout=layout,
        decoded=decoded,
        plan=plan,
        cases=cases,
        parts=parts,
        groups=groups,
        modality=found.modality,
        device=device,
    )


def _middle_mm(c: AutoConfig) -> float | None:
    """How much of the images' middle is looked at: it decides how fine the pixels can be.

    Raises
    ------
    SettingsError
        If it is no length.
    """
    value = c.settings.get("middle_mm")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise SettingsError(f"middle_mm is {value!r}; give the side of what is looked at in mm.")
    return float(value)


def _result(
    c: AutoConfig, plan: ClassPlan, parts: Sequence[AutoConfig], learned: Sequence[class_bundle.Learned]
) -> ClassResult:
    """All networks together; with folds their table is written beside the bundles."""
    curves = [pd.read_csv(own.run_folder / "curve.csv") for own in parts]
    curve, judged, scores = curves[0], learned[0].judged, learned[0].scores
    if c.folds:
        curve = pd.concat([x.assign(fold=k) for k, x in enumerate(curves, 1)], ignore_index=True)
        judged = pd.concat([x.judged.assign(fold=k) for k, x in enumerate(learned, 1)], ignore_index=True)
        scores = class_bundle.scores_of(judged, plan.classes)
        files.write_text(Path(c.out) / "folds.csv", judged.to_csv(index=False))
    return ClassResult(
        Path(c.out),
        load_model(Path(parts[0].out)),
        plan,
        curve,
        tuple(sorted({p for x in learned for p in x.patients})),
        sum(len(x) for x in curves) * plan.batch,
        judged if len(judged) else None,
        scores,
    )


def _named(layout: Layout, names: Mapping[int, str]) -> Layout:
    """The layout with the classes of the config, where it names them by their number or as the table does.

    Raises
    ------
    SettingsError
        If a class of the table is none of these, or fewer than two are left.
    """
    if names:
        called = {str(k): name for k, name in names.items()} | {name: name for name in names.values()}
        unknown = sorted({a for e in layout.entries for a in e.learned} - set(called))
        if unknown:
            raise SettingsError(f"The table's class {unknown[0]!r} is none of classes= ({dict(names)}).")
        entries = tuple(
            replace(e, answer=called.get(e.answer, ""), steps={k: called[a] for k, a in e.steps.items()})
            for e in layout.entries
        )
        layout = replace(layout, entries=entries, answers=tuple(names[k] for k in sorted(names)))
    present = {a for e in layout.entries for a in e.learned}
    answers = tuple(a for a in layout.answers if a in present)
    if len(answers) < 2:
        raise SettingsError(
            f"Every {layout.entries[0].numbered or 'exam'} to learn from is {' or '.join(answers)}: there is nothing to tell apart. Add "
            "some of another class, or look at hold_out and split."
        )
    return replace(layout, answers=answers)


def _plan(c: AutoConfig, begun: Path | None, layout: Layout, found: Survey, cores: int) -> tuple[ClassPlan, bool]:
    """The plan of the config, else the one that was begun with, else a new one, and whether it is new; the config's own settings replace
    its values.

    Raises
    ------
    SettingsError
        If it is of other channels, classes or kinds of sequence than the data have.
    """
    is_new = False
    if c.plan is not None:
        plan = ClassPlan.read(Path(c.plan))
    elif begun is not None:
        plan = ClassPlan.read(begun)
    else:
        is_new = True
        exams = {a: sum(a in e.learned for e in layout.entries) for a in layout.answers}
        seconds = 60 * c.minutes / max(1, c.folds)
        plan = make_class_plan(
            found.shapes, exams, channels=found.channels, along=found.along, seconds=seconds, cores=cores
        )
    for what, planned, present in (
        ("classes", plan.classes, layout.answers),
        ("channels", plan.channels, found.channels),
        ("sequence", (plan.along,), (found.along,)),
    ):
        if planned != present:
            raise SettingsError(
                f"The plan is for the {what} {', '.join(planned)}, but the data have {', '.join(present)}; a plan is for data of the same "
                f"{what}. Remove {_part(c, 1).run_folder} or choose another out to begin again."
            )
    return plan.overruled(c.settings), is_new


def _part(c: AutoConfig, k: int) -> AutoConfig:
    """The config of one fold; without folds the config itself."""
    if not c.folds:
        return c
    out = Path(c.out)
    return c.model_copy(update={"out": str(out / f"fold-{k}"), "name": f"{c.name or out.name}-fold{k}"})


def _groups(c: AutoConfig, cases: Sequence[Case], classes: Sequence[str], kept_back: set[str]) -> list[set[str]]:
    """The validation patients of each network.

    Raises
    ------
    SettingsError
        If a class would be missing from those that are learned from.
    """
    everyone = {x.patient for x in cases}
    if c.folds:
        splits.folds(sorted(everyone), c.folds)  # refuses more folds than patients
        dealt = [p for own in _by_class(cases, len(classes), c.seed) for p in own]
        groups = [set(dealt[k :: c.folds]) for k in range(c.folds)]
    elif c.judges or (kept_back and c.validation is None):
        groups = [(set(c.judges) or kept_back) & everyone]
    else:
        groups = [_by_chance(c, cases, classes)]
    for group in groups:
        for k, name in enumerate(classes):
            if not any(x.target is not None and x.target[k] and x.patient not in group for x in cases):
                raise SettingsError(
                    f"Nobody of class {name} would be left to learn from, beside the patients that judge; add patients of it, or "
                    f"lower {'folds' if c.folds else 'validation or judges'}."
                )
    return groups


def _by_class(cases: Sequence[Case], classes: int, seed: int) -> list[list[str]]:
    """The patients of each class in random order; one of several classes is with the first of these that has fewest."""
    own = [{x.patient for x in cases if x.target is not None and x.target[k]} for k in range(classes)]
    taken: set[str] = set()
    out: list[list[str]] = [[] for _ in own]
    for k in sorted(range(classes), key=lambda k: len(own[k])):
        out[k] = splits.shuffled(sorted(own[k] - taken), seed)
        taken |= own[k]
    return out


def _by_chance(c: AutoConfig, cases: Sequence[Case], classes: Sequence[str]) -> set[str]:
    """Some patients of each class, as many as the config says, or a fifth where there are enough."""
    own = _by_class(cases, len(classes), c.seed)
    total = sum(map(len, own))
    if c.validation is not None:
        share = c.validation / total
    elif min(map(len, own)) >= _ENOUGH_PATIENTS:
        share = _JUDGING_SHARE
    else:
        few = min(range(len(classes)), key=lambda k: len(own[k]))
        warn(
            f"Class {classes[few]} has {how_many(len(own[few]), 'patient')}, so few that none is kept back to judge the network; folds "
            "(--set folds=3) judges by every patient once."
        )
        return set()
    return {p for patients in own for p in patients[: max(1, round(share * len(patients))) if share else 0]}


def _seconds_to_judge(
    c: AutoConfig, plan: ClassPlan, decoded: Decoded, judging: Sequence[Case], budget: Budget
) -> float:
    """How long judging will take, from the time that one exam takes."""
    if not judging:
        return 0.0
    weights = networks.build_sequence_network(plan.definition).state_dict()
    model = class_judging.as_used(c, class_bundle.Learned(plan=plan, weights=weights, patients=(), exams={}), None)
    began = budget.spent
    class_judging.judged(model, decoded, judging[:1])
    return (budget.spent - began) * len(judging)


def _learn(
    c: AutoConfig,
    plan: ClassPlan,
    learned: Sequence[Case],
    seconds: float,
    device: torch.device,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> class_bundle.Learned:
    """Train the plan's network."""
    check(cancelled)
    torch.manual_seed(c.seed)
    network = networks.build_sequence_network(plan.definition)
    assert isinstance(network, SequenceClassifier)
    loop = LoopSettings(
        iterations=_ITERATIONS,
        minutes=seconds / 60,
        clock=c.clock,
        batch=plan.batch,
        steps=plan.steps,
        size=plan.size,
        slices=plan.slices,
        rate=plan.rate,
        augment=plan.augmentation,
        seed=c.seed,
    )
    of_class = torch.stack([x.target for x in learned if x.target is not None])
    counts = of_class.sum(0)
    loss: Loss = classification_loss
    of_steps = [x.of_steps for x in learned if x.of_steps is not None]
    if of_steps:
        counts = torch.cat(of_steps).nansum(0)
        loss = loss_of_steps(counts.sum() / (len(counts) * counts))
    windows = Windows(
        learned,
        loop,
        neighbours=plan.neighbours,
        weights=(of_class / of_class.sum(0)).sum(1).tolist(),  # each class as often as the others
        target="exam",
        volumes=network.volumes,
        extra_inputs=["present"],
    )
    weights = fit(
        network,
        windows,
        loss,
        loop,
        c.run_folder,
        device=str(device),
        progress=progress,
        cancelled=cancelled,
    )
    without_images = loss_of_shares(of_class, windows.weights, network.target)
    if of_steps:
        without_images = unlearned_of_steps(of_class, windows.weights)
    warn_if_unlearned(
        pd.read_csv(c.run_folder / "curve.csv")["loss"].tolist(),
        without_images,
        "give more minutes, crop the images to what shows them, or learn outlines first and classify what these measure",
    )
    return class_bundle.Learned(
        plan=plan,
        weights={name: value.cpu() for name, value in weights.items()},
        patients=tuple(sorted({x.patient for x in learned})),
        exams={name: int(n) for name, n in zip(plan.classes, counts.tolist(), strict=True)},
        numbered="frame" if of_steps and plan.along == "t" else "slice" if of_steps else "",
    )
