"""Cross-validation of a training that configures itself: every patient is held out from one of the networks, and `segment` can
average all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from napari_medseq import files
from napari_medseq.errors import SettingsError
from napari_medseq.progress import Cancelled, Progress, part
from napari_medseq.settings import checked
from napari_medseq.training import splits
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.automatic.plan import Plan
from napari_medseq.training.automatic.plan_file import Planned
from napari_medseq.training.automatic.training import AutoResult, layout_of, plan_automatically, train_automatically


def train_folds(
    config: AutoConfig | Mapping[str, object],
    *,
    planned: Planned | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[list[AutoResult], pd.DataFrame]:
    """A bundle per fold, ``fold-1`` and on, in ``out``, and ``folds.csv``; all follow the plan of the first, so that they can be averaged.

    `planned` is called with that plan before any training begins.

    A fold that is done is read and judged again, but not trained again.

    Returns
    -------
    list of AutoResult
    DataFrame
        One row per patient, with fold, patient and the Dice of each class, then one with the mean and one with the standard deviation.

    Raises
    ------
    SettingsError
        If a fold would be empty, or `folds` is 1.
    MedseqError, OperationCancelled
        As `train_automatically`.
    """
    c = checked(AutoConfig, config, where="the training config")
    out = Path(c.out)
    results: list[AutoResult] = []
    rows: list[dict[str, object]] = []
    for k, own in enumerate(_configs(c), 1):
        if results:
            own, planned = own.model_copy(update={"plan": str(out / "fold-1.run" / "plan.yaml")}), None
        fold_share = part(progress, (k - 1) / c.folds, k / c.folds, f"fold {k}: ")
        results.append(train_automatically(own, planned=planned, progress=fold_share, cancelled=cancelled))
        rows += [{"fold": k, "patient": p, **scores} for p, scores in results[-1].scores.items()]
    table = pd.DataFrame(rows)
    of_classes = table.drop(columns=["fold", "patient"])
    summary = [{"patient": name, **getattr(of_classes, name)().to_dict()} for name in ("mean", "std")]
    table = pd.concat([table, pd.DataFrame(summary)], ignore_index=True)
    files.write_text(out / "folds.csv", table.to_csv(index=False))
    return results, table


def plan_folds(
    config: AutoConfig | Mapping[str, object], *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> Plan:
    """The plan that `train_folds` would begin with, written to the folder of the first fold; nothing is trained.

    Raises
    ------
    SettingsError, MedseqError, OperationCancelled
        As `train_folds`.
    """
    c = checked(AutoConfig, config, where="the training config")
    return plan_automatically(_configs(c)[0], progress=progress, cancelled=cancelled)


def _configs(c: AutoConfig) -> list[AutoConfig]:
    """The config of each fold.

    Raises
    ------
    SettingsError
        If a fold would be empty, or `folds` is 1.
    """
    if c.folds < 2:
        raise SettingsError(f"folds = {c.folds}; two or more are needed, or 0 for one network.")
    out = Path(c.out)
    groups = splits.folds([e.patient for e in layout_of(c).entries], c.folds, c.seed)
    return [
        c.model_copy(
            update={
                "folds": 0, "judges": tuple(judges), "minutes": c.minutes / c.folds,
                "out": str(out / f"fold-{k}"), "name": f"{c.name or out.name}-fold{k}",
            }
        )
        for k, judges in enumerate(groups, 1)
    ]  # fmt: skip
