"""`train`: read the cases of a config, hold patients out, run the training loop and write the bundle, or one bundle
per fold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_medseq import files
from napari_medseq.errors import SettingsError, WriteError
from napari_medseq.models import Model, bundle, load_model
from napari_medseq.models.sequence_network import ExtraInput, SequenceNetwork
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import Visit
from napari_medseq.training import splits
from napari_medseq.training.automatic.config import is_automatic
from napari_medseq.training.automatic.folds import plan_folds, train_folds
from napari_medseq.training.automatic.plan_file import PlanFile, Planned
from napari_medseq.training.automatic.training import AutoResult, plan_automatically, train_automatically
from napari_medseq.training.cases import Case, make_case
from napari_medseq.training.classes.training import ClassResult, plan_classes, train_classes
from napari_medseq.training.classes.unlearned import loss_of_shares, warn_if_unlearned
from napari_medseq.training.config import TrainConfig, read_config
from napari_medseq.training.dataset import check_cases, read_cases
from napari_medseq.training.layouts import learns_classes
from napari_medseq.training.loops.distributed import ProcessGroup, process_group
from napari_medseq.training.loops.losses import unwrapped
from napari_medseq.training.loops.sequences import Loss, fit
from napari_medseq.training.loops.windows import Windows
from napari_medseq.training.tables import read_table
from napari_medseq.training.tasks import TASKS, mean
from napari_medseq.training.transfer import definition, prepared

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


__all__ = [
    "TrainConfig",
    "TrainingResult",
    "make_windows",
    "plan_training",
    "read_cases",
    "read_config",
    "synthetic_cases",
    "train",
    "train_cases",
]


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """The result of `train`.

    Attributes
    ----------
    folder : Path
        The bundle; with folds the folder that holds one per fold, and ``folds.csv``.
    curve : pandas.DataFrame
        Columns iteration, minutes, loss, rate and the task's measure; with folds also fold.
    model : Model
        The trained model, loaded from the bundle; with folds that of the first.
    table : pandas.DataFrame or None
        With folds: one row per held-out case, with fold, patient, case and its scores, then one with their mean and one
        with their standard deviation over the patients; of a training that configured itself one row per patient that judged.
    patients : tuple of str
        For a training that configured itself: the patients that were learned from.
    seen : int
        And how many windows were seen.
    scores : pandas.DataFrame or None
        Of a training that learned the classes of exams by itself: measure, value, low and high (95 % confidence), and the number of
        patients, of those that were not learned from; `table` holds the answers themselves.
    plan : PlanFile or None
        The plan of a training that configured itself.
    """

    folder: Path
    curve: pd.DataFrame
    model: Model
    table: pd.DataFrame | None = None
    patients: tuple[str, ...] = ()
    seen: int = 0
    scores: pd.DataFrame | None = None
    plan: PlanFile | None = None


def train(
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str],
    *,
    planned: Planned | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> TrainingResult:
    """Train a model and write its bundle, or cross-validate it.

    ``{"data": folder, "out": bundle, "minutes": 60}`` is enough: the data are measured, and everything else is decided; see
    `automatic.config.AutoConfig` for what may be said besides, and ``<out>.run/plan.yaml`` for what was decided and why. From a CSV
    file with a column ``class`` and none of labels, the class of whole exams is learned.

    Training continues from ``<out>.run/checkpoint.pt`` where an earlier, interrupted run of the same config left one. Started by
    ``torchrun``, several processes train one model together.

    Parameters
    ----------
    config : TrainConfig, mapping, or path of a YAML or JSON file
    planned : callable, optional
        Called with the plan of a training that configures itself, before the training begins; with folds once, since all follow one plan.
    progress, cancelled : callable, optional
        Looked at once per iteration.

    Raises
    ------
    SettingsError
        If the config cannot be used, a fold would be empty, or another config's checkpoint lies in the run folder.
    MedseqError
        If there is no case to train on, or a class is in none of them.
    WriteError
        If the disk is full; the last checkpoint stays whole.
    OperationCancelled
        When `cancelled` says so, or on Ctrl-C; the checkpoint stays and the next call continues from it.
    """
    if isinstance(config, Mapping) and is_automatic(config):
        if learns_classes(files.path_of(str(config.get("data", ""))), config.get("task")):
            return _of_classes(train_classes(config, planned=planned, progress=progress, cancelled=cancelled))
        if config.get("folds"):
            results, table = train_folds(config, planned=planned, progress=progress, cancelled=cancelled)
            return _of_folds(results, table)
        return _of_automatic(train_automatically(config, planned=planned, progress=progress, cancelled=cancelled))
    c = read_config(config)
    if not c.folds:
        bundle.check_place(Path(c.out))
    with process_group(c.device) as group:
        cases = read_cases(c, cancelled)
        if c.folds:
            return _cross_validate(c, cases, group, progress, cancelled)
        return train_cases(c, cases, group, progress, cancelled)


def plan_training(
    config: Mapping[str, Any], *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> PlanFile:
    """The plan of a training that configures itself, without the training; `train` follows it where ``plan`` names its file.

    It is written to ``<out>.run/plan.yaml``, with folds to ``<out>/fold-1.run/plan.yaml``.

    Parameters
    ----------
    config : mapping
        As `train` takes it, with ``minutes`` or ``plan``, and neither a network nor a loop.
    progress, cancelled : callable, optional

    Raises
    ------
    SettingsError
        If the config cannot be used, or says itself how to train.
    MedseqError
        If there is no case to train on.
    OperationCancelled
        When `cancelled` says so.
    """
    if not is_automatic(config):
        raise SettingsError(
            "This config says itself how to train, so there is no plan; plans are for a folder of data."
        )
    if learns_classes(files.path_of(str(config.get("data", ""))), config.get("task")):
        return plan_classes(config, progress=progress, cancelled=cancelled)
    make = plan_folds if config.get("folds") else plan_automatically
    return make(config, progress=progress, cancelled=cancelled)


def _of_automatic(result: AutoResult) -> TrainingResult:
    """The same in the form of other trainings."""
    import pandas as pd

    table = pd.DataFrame([{"patient": p, **scores} for p, scores in result.scores.items()]) if result.scores else None
    curve = pd.DataFrame(result.course.curve, columns=["iteration", "minutes", "loss", "seen"])
    return TrainingResult(
        result.folder, curve, result.model, table, result.patients, result.course.seen, plan=result.plan
    )


def _of_classes(result: ClassResult) -> TrainingResult:
    """The same in the form of other trainings."""
    import pandas as pd

    rows = [
        {"measure": k, "value": v.value, "low": v.low, "high": v.high, "patients": v.n}
        for k, v in result.scores.items()
    ]
    return TrainingResult(
        result.folder,
        result.curve,
        result.model,
        result.judged,
        result.patients,
        result.seen,
        pd.DataFrame(rows) if rows else None,
        result.plan,
    )


def _of_folds(results: Sequence[AutoResult], table: pd.DataFrame) -> TrainingResult:
    """The result of all folds; the folder holds their bundles."""
    import pandas as pd

    each = [_of_automatic(r) for r in results]
    curve = pd.concat([r.curve.assign(fold=k) for k, r in enumerate(each, 1)], ignore_index=True)
    everyone = tuple(sorted({p for r in each for p in r.patients}))
    seen = sum(r.seen for r in each)
    return TrainingResult(
        results[0].folder.parent, curve, results[0].model, table, everyone, seen, plan=results[0].plan
    )


def train_cases(
    c: TrainConfig,
    cases: Sequence[Case],
    group: ProcessGroup,
    progress: Progress | None,
    cancelled: Cancelled | None,
    taught: Callable[[Loss], Loss] | None = None,
) -> TrainingResult:
    """One model from cases that have been read; what `train` does after reading. `taught` adds to the task's loss."""
    import pandas as pd

    out = Path(c.out)
    run = out.with_name(out.name + ".run")
    try:
        run.mkdir(parents=True, exist_ok=True)
        if group.rank == 0:
            _same_config(c, run)
    except OSError as error:
        raise WriteError(f"{run} could not be written: {error.strerror}. Choose another folder (out).") from None
    torch.manual_seed(c.loop.seed)
    d = definition(c)
    network = prepared(c, d)
    windows, judges = make_windows(c, network, cases, run, group, progress, cancelled)
    _standardise(network, windows.cases)
    task = TASKS[c.task]

    def validate(averaged: nn.Module) -> float:
        return mean(task.scores(unwrapped(averaged), case, c)[task.measure] for case in judges)

    loss = task.loss(c, windows.cases)
    weights = fit(
        network,
        windows,
        taught(loss) if taught is not None else loss,
        c.loop,
        run,
        validate=validate if judges else None,
        measure=task.measure,
        device=str(group.device),
        progress=progress,
        cancelled=cancelled,
    )
    if group.rank == 0:
        _write(c, d, network, weights, out)
    group.barrier()
    curve = pd.read_csv(run / "curve.csv")
    if windows.target == "exam" and taught is None and group.rank == 0:
        answers = torch.stack([x.target for x in windows.cases if x.target is not None])
        reference = loss_of_shares(answers, windows.weights, network.target)
        warn_if_unlearned(
            curve["loss"].tolist(), reference, "raise loop.iterations or loop.minutes, or look at the answers"
        )
    return TrainingResult(out, curve, load_model(out))


def make_windows(
    c: TrainConfig,
    network: SequenceNetwork,
    cases: Sequence[Case],
    run: Path,
    group: ProcessGroup,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> tuple[Windows, list[Case]]:
    """The windows to learn from, and the cases of the validation patients."""
    chosen = splits.validation([x.patient for x in cases], c.validation, c.validation_share, c.loop.seed)
    real = [x for x in cases if x.patient not in chosen]
    # one process makes them, the others read what it kept
    synthetic = synthetic_cases(c, run, progress, cancelled) if group.rank == 0 else []
    group.barrier()
    synthetic = synthetic if group.rank == 0 else synthetic_cases(c, run, progress, cancelled)
    check_cases(c, real + synthetic, network)
    share = c.synthetic_share if real else 1.0
    windows = Windows(
        real + synthetic,
        c.loop,
        neighbours=network.neighbours,
        weights=[(1 - share if synthetic else 1.0) / len(real) for _ in real]
        + [share / len(synthetic) for _ in synthetic],
        target=TASKS[c.task].target(c),
        noise=c.noise if c.task == "denoising" else (0.0, 0.0),
        volumes=network.volumes,
        extra_inputs=_extra_inputs(network, real + synthetic, exams=c.targets is not None),
    )
    return windows, [x for x in cases if x.patient in chosen]


def _extra_inputs(network: SequenceNetwork, cases: Sequence[Case], *, exams: bool) -> list[ExtraInput]:
    """Inputs of the network other than images: of those that it supports, those that all cases have; of whole exams, shorter than the
    window, which steps there are."""
    apart = any(x.image.ndim == 5 for x in cases)
    present: dict[ExtraInput, bool] = {
        "times": network.gap_unit is not None,
        "present": apart or exams,
        "tabular": network.table_values > 0 and all(x.table is not None for x in cases),
    }
    return [name for name, is_there in present.items() if is_there and name in network.extra_inputs]


def _standardise(network: SequenceNetwork, cases: Sequence[Case]) -> None:
    """Centre and spread of the values of a table, from the exams to learn from."""
    tables = [x.table for x in cases if x.table is not None]
    if network.table_values and tables:
        network.standardise(torch.stack(tables))


def _write(
    c: TrainConfig, d: Mapping[str, Any], network: SequenceNetwork, weights: Mapping[str, Any], out: Path
) -> None:
    facts = {
        "name": c.name,
        "task": c.task,
        "modality": c.modality,
        "name_patterns": list(c.name_patterns),
        "channels": list(c.channels) or ["image"],
        "classes": {str(k): v for k, v in c.classes.items()} if c.task in ("segmentation", "classification") else {},
        "sequence_axis": c.inference.along,
        "look_ahead": network.ahead,
        "table": list(read_table(Path(c.table), c.values).names) if c.table is not None else [],
    }
    try:
        bundle.remove_unfinished(out)
        bundle.write_bundle(
            out,
            facts=facts,
            network=d,
            inference=c.inference.model_dump(mode="json"),
            weights={k: v.cpu() for k, v in weights.items()},
            card=c.card or f"# {c.name}\n\n{c.description}\n",
            licence_text=c.licence + "\n",
            description=c.description,
            licence=c.licence,
            version=c.version,
        )
    except OSError as error:
        raise WriteError(
            f"{out} could not be written: {error.strerror or error}. Make room, then start again."
        ) from None


def _same_config(c: TrainConfig, run: Path) -> None:
    path = run / "config.json"
    if (run / "checkpoint.pt").exists() and path.exists():
        try:
            before = TrainConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            before = None
        if before != c:
            raise SettingsError(
                f"{run} holds the checkpoint of a run with other settings; remove that folder or choose another out=."
            )
    files.write_text(path, c.model_dump_json(indent=2))


def _cross_validate(
    c: TrainConfig, cases: Sequence[Case], group: ProcessGroup, progress: Progress | None, cancelled: Cancelled | None
) -> TrainingResult:
    """A bundle per fold in ``out``, judged on the patients that it did not see; finished folds are not trained again."""
    import pandas as pd

    out, task = Path(c.out), TASKS[c.task]
    rows: list[dict[str, Any]] = []
    results: list[TrainingResult] = []
    for i, held_out in enumerate(splits.folds([x.patient for x in cases], c.folds, c.loop.seed), 1):
        own = c.model_copy(
            update={
                "folds": 0,
                "hold_out": (*c.hold_out, *held_out),
                "name": f"{c.name}-fold{i}",
                "out": str(out / f"fold-{i}"),
            }
        )

        shown = part(progress, (i - 1) / c.folds, i / c.folds, f"fold {i}: ")
        result = train_cases(own, [x for x in cases if x.patient not in held_out], group, shown, cancelled)
        results.append(result)
        for case in (x for x in cases if x.patient in held_out):
            check(cancelled)
            scores = task.scores(result.model.sequence_network, case, own)
            rows.append({"fold": i, "patient": case.patient, "case": case.name, **scores})
    table = pd.DataFrame(rows)
    patients = table.drop(columns=["fold", "case"]).groupby("patient").mean()
    summary = [{"patient": name, **getattr(patients, name)().to_dict()} for name in ("mean", "std")]
    table = pd.concat([table, pd.DataFrame(summary)], ignore_index=True)
    if group.rank == 0:
        files.write_text(out / "folds.csv", table.to_csv(index=False))
    curve = pd.concat([r.curve.assign(fold=k) for k, r in enumerate(results, 1)], ignore_index=True)
    return TrainingResult(out, curve, results[0].model, table)


def synthetic_cases(
    c: TrainConfig, run: Path, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> list[Case]:
    """`c.synthetic` cases, half of them visits of synthetic patients, some without a tumour.

    They are kept in a file beside the run, since making them takes minutes; another program that makes heads, or other settings,
    makes them again.
    """
    from napari_medseq import synthetic

    along, pixel = c.inference.along, c.inference.pixel_mm
    sources = sorted(Path(synthetic.__file__).parent.glob("*.py"))
    made_by = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]
    path = run.parent / f"heads-{c.synthetic}-{along}-{pixel}-{made_by}.pt"
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
        cases.append(make_case(f"synthetic-{k}", [image], labels, along=along, pixel_mm=pixel))
        if progress is not None:
            progress(k + 1, c.synthetic, "making synthetic cases")
    if cases:
        with files.replacing(path) as temporary:
            torch.save([(x.patient, x.name, x.image, x.labels) for x in cases], temporary)
    return cases
