"""Saving a result as a folder, a report or DICOM files: copied at one moment, then written while a person paints and
corrects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.results.followed import Followed, as_followed, differs, results_of, why_outdated

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medseq.progression import Progression


@dataclass(frozen=True, eq=False)
class TakenResult:
    """A result as it was at one moment, from `take_result`. Later corrections and painting are not in it.

    Attributes
    ----------
    progression : Progression
    name : str
        Name of the patient.
    card : str
        Card of the model that made the masks.
    changes : mapping of Labels to int
        Number of changes at that moment of each unsaved layer that holds the labels of the result.
    """

    progression: Progression
    name: str
    card: str
    changes: WeakKeyDictionary[Labels, int]


def take_result(viewer: ViewerModel, followed: Followed) -> TakenResult:
    """Copy a result as it is now, for `write_taken_result` to write while work goes on.

    A layer that was painted in since the result was followed does not count as saved afterwards.
    """
    same = [layer for layer, seq in followed.shown if as_followed(viewer, layer, seq)]
    changes = editing_of(viewer).unsaved.as_they_are(same)
    return TakenResult(copy(followed.progression), followed.source.name, followed.card, changes)


def changed_since(viewer: ViewerModel, taken: TakenResult) -> bool:
    """Whether the patient's lesions were corrected, followed again or painted since a result was copied."""
    now = results_of(viewer).get(taken.name)
    return now is None or now.progression.graph is not taken.progression.graph or differs(viewer, now)


def write_taken_result(
    taken: TakenResult,
    path: str | os.PathLike[str],
    *,
    rules: Sequence[str] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Write a result that was copied, whole or not at all; touches no viewer, so that a worker may do it.

    Parameters
    ----------
    taken : TakenResult
    path : path
        A folder; a file if a report is to be written.
    rules : sequence of str, optional
        Write the report instead, with these response rules.
    progress, cancelled : callable, optional

    Returns
    -------
    Path
        The folder or file that was written.

    Raises
    ------
    WriteError
        If it cannot be written.
    OperationCancelled
        When `cancelled` says so; what was there stays.
    """
    if rules is None:
        return taken.progression.save(path, progress=progress, cancelled=cancelled)
    return taken.progression.report(
        path, rules=rules, name=taken.name, card=taken.card, progress=progress, cancelled=cancelled
    )


def write_result(
    viewer: ViewerModel,
    followed: Followed,
    path: str | os.PathLike[str],
    *,
    rules: Sequence[str] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Write a result that holds what is on the screen: its folder, or its report if `rules` names response rules.

    A window does this in three steps, the second of which a worker may run: `take_result`, `write_taken_result`, and
    for the folder `Editing.written`.

    Raises
    ------
    MedseqError
        If painting is not followed yet.
    WriteError
        If it cannot be written.
    OperationCancelled
        When `cancelled` says so; what was there stays.
    """
    why = why_outdated(viewer, followed)
    if why:
        raise MedseqError(f"{why} Follow again first, then save.")
    taken = take_result(viewer, followed)
    out = write_taken_result(taken, path, rules=rules, progress=progress, cancelled=cancelled)
    if rules is None:
        editing_of(viewer).written(taken.changes)
    return out
