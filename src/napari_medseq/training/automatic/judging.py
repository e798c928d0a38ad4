"""Validation of a training that configures itself: the patients that are held out, and the network's scores on them within the time
left."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseq.errors import SettingsError, warn
from napari_medseq.inference.slabs.answer import planes_of
from napari_medseq.inference.slabs.windows import SlabSettings, starts
from napari_medseq.masks.overlap import Overlap
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.training import splits
from napari_medseq.training.automatic.kind import sure_enough
from napari_medseq.training.loops.slab_windows import SlabCase
from napari_medseq.volumes.labelled import value_counts
from napari_medseq.wording import how_many

_ENOUGH_PATIENTS = 20  # patients from which on some are held out for validation
_MOST_JUDGES = 8


def choose_judges(
    cases: Sequence[SlabCase],
    *,
    named: Collection[str],
    kept_back: Collection[str],
    wanted: int | None,
    seed: int,
) -> set[str]:
    """The patients to validate on: those named, else those that the data set holds out for it, else some at random.

    Raises
    ------
    SettingsError
        If no patient would be left to learn from.
    """
    patients = splits.shuffled([x.patient for x in cases], seed)
    if kept_back and not named and wanted is None and set(patients) - set(kept_back):
        return set(kept_back) & set(patients)
    if named:
        if set(patients) <= set(named):
            raise SettingsError(
                "judges leaves no patient to learn from; name fewer, or give more minutes to read the others."
            )
        return set(named) & set(patients)
    if wanted is None:
        wanted = min(_MOST_JUDGES, len(patients) // 10) if len(patients) >= _ENOUGH_PATIENTS else 0
    if wanted >= len(patients):
        raise SettingsError(
            f"validation = {wanted}, but the data have {how_many(len(patients), 'patient')}; some must be left to learn from."
        )
    return set(patients[:wanted])


def seconds_to_judge(
    network: SlabUNet, settings: SlabSettings, cases: Sequence[SlabCase], device: torch.device
) -> float:
    """How long `judged` will take, from the time that one window takes."""
    if not cases:
        return 0.0
    blank = torch.zeros(len(cases[0].image), *settings.window, dtype=cases[0].image.dtype).float().numpy()
    for _ in range(2):  # the first run prepares what later ones reuse
        began = time.perf_counter()
        planes_of(network, blank, settings, device)
        per_window = time.perf_counter() - began
    voxels = 0
    for case in cases:
        plans = [starts(n, w) for n, w in zip(case.labels.shape, settings.window, strict=True)]
        voxels += int(np.prod([len(first) * length for first, length in plans]))
    return per_window * voxels / float(np.prod(settings.window))


@dataclass(frozen=True)
class Judged:
    """The result of the validation.

    Attributes
    ----------
    scores : dict of str to dict of str to float
        Patient → class → Dice at the working spacing.
    above : float or None
        The limit `Doubt.above` that follows from the answers on these patients.
    """

    scores: dict[str, dict[str, float]]
    above: float | None


def judged(
    network: SlabUNet,
    settings: SlabSettings,
    cases: Sequence[SlabCase],
    names: Sequence[str],
    device: torch.device,
    late: Callable[[], bool],
) -> Judged:
    """Validate on as many cases as there is time for, but at least one."""
    rows: dict[str, list[list[float]]] = {}
    sure: dict[str, list[tuple[float, float]]] = {}
    for number, case in enumerate(cases):
        if number and late():
            warn(f"There was time to judge {number} of {len(cases)} cases that were kept back; give more minutes.")
            break
        answer = planes_of(network, case.image.float().numpy(), settings, device)
        truth, labelled = case.labels.numpy(), int(np.count_nonzero(answer.labels))
        overlaps = _overlaps(answer.labels, truth, len(names))
        dice = [o.dice if o.is_present else float("nan") for o in overlaps]
        rows.setdefault(case.patient, []).append(dice)
        share = answer.wrong / labelled if labelled else float("nan")
        sure.setdefault(case.patient, []).append((share, _mean(dice)))
    scores = {p: dict(zip(names, map(_mean, zip(*r, strict=True)), strict=True)) for p, r in rows.items()}
    return Judged(scores, sure_enough(sure))


def _overlaps(answer: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> list[Overlap]:
    """The overlap of each class from 1 on, from three counts of all of them."""
    both, answered, true = (value_counts(of) for of in (np.where(answer == truth, truth, 0), answer, truth))
    return [Overlap(n := both.get(k, 0), answered.get(k, 0) - n, true.get(k, 0) - n) for k in range(1, classes + 1)]


def _mean(values: Iterable[float]) -> float:
    """The mean of the values that are not NaN; NaN where all are, as for a class that none of a patient's cases has."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
