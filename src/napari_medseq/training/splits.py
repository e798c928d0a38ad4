"""Splits by patient: the images of one patient are never on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from napari_medseq.errors import SettingsError
from napari_medseq.wording import how_many, some


def shuffled(patients: Sequence[str], seed: int) -> list[str]:
    """The distinct patients in an order that depends on their names and the seed alone."""
    names = sorted(set(patients))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    return [names[i] for i in order.tolist()]


def folds(patients: Sequence[str], k: int, seed: int = 0) -> list[list[str]]:
    """`k` folds of patients whose sizes differ by at most one.

    Raises
    ------
    SettingsError
        If a fold would be empty.
    """
    names = shuffled(patients, seed)
    if not 2 <= k <= len(names):
        raise SettingsError(
            f"{k} folds need at least {max(k, 2)} patients, but there are {len(names)} "
            f"({some(names)}); an empty fold judges nothing. Lower folds, or add patients."
        )
    return [sorted(names[i::k]) for i in range(k)]


def validation(patients: Sequence[str], named: Sequence[str], share: float, seed: int = 0) -> list[str]:
    """The validation patients: those named, or a share of all, at least one and never all.

    Raises
    ------
    SettingsError
        If a named one is not there, or no patient would be left.
    """
    names = shuffled(patients, seed)
    if named:
        missing = sorted(set(named) - set(names))
        if missing:
            raise SettingsError(
                f"validation names {', '.join(missing)}, but the patients are {', '.join(sorted(names))}."
            )
        chosen = sorted(set(named))
    else:
        chosen = sorted(names[: max(1, round(share * len(names)))]) if share else []
    if chosen and len(chosen) == len(names):
        raise SettingsError(
            f"Of {how_many(len(names), 'patient')} {len(chosen)} would judge and none would be left to train on; add patients."
        )
    return chosen
