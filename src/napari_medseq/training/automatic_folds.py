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
from napari_medseq.training.automatic import AutoResult, layout_of, train_automatically
from napari_medseq.training.automatic_config import AutoConfig


def train_folds(
    config: AutoConfig | Mapping[str, object], *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> tuple[list[AutoResult], pd.DataFrame]:
    """A bundle per fold, ``fold-1`` and on, in ``out``, and ``folds.csv``; all follow the plan of the first, so that they can be averaged.

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
    if c.folds < 2:
        raise SettingsError(f"folds = {c.folds}; two or more are needed, or 0 for one network.")
    out = Path(c.out)
    groups = splits.folds([e.patient for e in layout_of(c).entries], c.folds, c.seed)
    results: list[AutoResult] = []
    rows: list[dict[str, object]] = []
    for k, judges in enumerate(groups, 1):
        plan = c.plan if not results else str(out / "fold-1.run" / "plan.yaml")
        fold_config = c.model_copy(
            update={
                "folds": 0, "judges": tuple(judges), "minutes": c.minutes / c.folds, "plan": plan,
                "out": str(out / f"fold-{k}"), "name": f"{c.name or out.name}-fold{k}",
            }
        )  # fmt: skip
        fold_share = part(progress, (k - 1) / c.folds, k / c.folds, f"fold {k}: ")
        results.append(train_automatically(fold_config, progress=fold_share, cancelled=cancelled))
        rows += [{"fold": k, "patient": p, **scores} for p, scores in results[-1].scores.items()]
    table = pd.DataFrame(rows)
    of_classes = table.drop(columns=["fold", "patient"])
    summary = [{"patient": name, **getattr(of_classes, name)().to_dict()} for name in ("mean", "std")]
    table = pd.concat([table, pd.DataFrame(summary)], ignore_index=True)
    files.write_text(out / "folds.csv", table.to_csv(index=False))
    return results, table
