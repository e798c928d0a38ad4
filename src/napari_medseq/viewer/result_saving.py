"""A result, written as a folder, a report or DICOM files: taken at one moment, then written while a person paints and corrects on."""

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
from napari_medseq.viewer.editing import editing_of
from napari_medseq.viewer.followed import Followed, as_followed, differs, results_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medseq.progression import Progression


@dataclass(frozen=True, eq=False)
class TakenResult:
    """A result as it was at one moment; from `take_result`. What is corrected or painted afterwards is not in it.

    Attributes
    ----------
    progression : Progression
    name : str
        Of the patient.
    card : str
        Of the model that made the masks.
    changes : mapping of Labels to int
        How often each unsaved layer had changed, of those that hold what the result holds.
    """

    progression: Progression
    name: str
    card: str
    changes: WeakKeyDictionary[Labels, int]


def take_result(viewer: ViewerModel, followed: Followed) -> TakenResult:
    """A result as it is now, to be written by `write_taken_result` while work goes on.

    A layer that was painted in since the result was followed is not saved by writing it.
    """
    same = [layer for layer, seq in followed.shown if as_followed(viewer, layer, seq)]
    changes = editing_of(viewer).unsaved.as_they_are(same)
    return TakenResult(copy(followed.progression), followed.source.name, followed.card, changes)


def changed_since(viewer: ViewerModel, taken: TakenResult) -> bool:
    """Whether the patient's lesions were corrected, followed anew or painted since a result was taken."""
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
    """Write a result that was taken, whole or not at all; touches no viewer, so that a worker may do it.

    Parameters
    ----------
    taken : TakenResult
    path : path
        A folder; a file where it is to be a report.
    rules : sequence of str, optional
        Write the report instead, with these response rules.
    progress, cancelled : callable, optional

    Returns
    -------
    Path
        What was written.

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
    """Write a result that holds what is on the screen: its folder, or (`rules`: response rules) its report.

    A window does it in three steps, of which a worker may do the second: `take_result`, `write_taken_result`, and
    `Editing.written` where it is the folder.

    Raises
    ------
    MedseqError
        If something is painted that is not followed yet.
    WriteError
        If it cannot be written.
    OperationCancelled
        When `cancelled` says so; what was there stays.
    """
    if differs(viewer, followed):
        raise MedseqError("There is painting that is not followed yet. Follow again first, then save.")
    taken = take_result(viewer, followed)
    out = write_taken_result(taken, path, rules=rules, progress=progress, cancelled=cancelled)
    if rules is None:
        editing_of(viewer).written(taken.changes)
    return out
