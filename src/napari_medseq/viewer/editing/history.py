"""Undo and redo of whole interactions: a stroke, a correction, the labels that a verb filled in; no viewer, no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from napari_medseq.errors import MedseqError

#: the number of steps that are kept, and the bytes that they may hold together
MOST_STEPS = 200
MOST_BYTES = 256 * 2**20


class Change(Protocol):
    """A part of a step that can be taken back and made again."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""

    def undo(self) -> None:
        """Take the change back."""

    def redo(self) -> None:
        """Make the change again."""


@dataclass(frozen=True)
class Action:
    """A change other than of voxels: a correction of the graph, or another result.

    `of` names the patient of whom it is, if it is one's.
    """

    undo: Callable[[], None]
    redo: Callable[[], None]
    of: str | None = None
    nbytes: int = 0


@dataclass
class Step:
    """What a person did in one interaction.

    Attributes
    ----------
    name : str
        Name in words, for the button's tooltip and the status bar.
    changes : list of Change
        In the order in which they were made.
    """

    name: str
    changes: list[Change] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return sum(change.nbytes for change in self.changes)


class History:
    """The steps that were done, and those that were taken back."""

    def __init__(self) -> None:
        self.done: list[Step] = []
        self.undone: list[Step] = []

    def add(self, step: Step) -> list[Step]:
        """Remember a step that was done; the oldest steps beyond the limits are forgotten and returned."""
        self.undone.clear()
        self.done.append(step)
        total, forgotten = sum(s.nbytes for s in self.done), []
        while len(self.done) > 1 and (len(self.done) > MOST_STEPS or total > MOST_BYTES):
            forgotten.append(self.done.pop(0))
            total -= forgotten[-1].nbytes
        return forgotten

    def undo(self) -> Step:
        """Take back the latest step.

        Raises
        ------
        MedseqError
            If there is none.
        """
        if not self.done:
            raise MedseqError("There is nothing to undo.")
        step = self.done.pop()
        for change in reversed(step.changes):
            change.undo()
        self.undone.append(step)
        return step

    def redo(self) -> Step:
        """Make the step again that was taken back last.

        Raises
        ------
        MedseqError
            If there is none.
        """
        if not self.undone:
            raise MedseqError("There is nothing to do again.")
        step = self.undone.pop()
        for change in step.changes:
            change.redo()
        self.done.append(step)
        return step

    def forget(self, is_gone: Callable[[Change], bool]) -> bool:
        """Drop the changes of what is gone, and with the last change of voxels in a step the whole step.

        Returns
        -------
        bool
            Whether anything was dropped.
        """
        dropped = False
        for steps in (self.done, self.undone):
            for step in list(steps):
                kept = [change for change in step.changes if not is_gone(change)]
                if len(kept) == len(step.changes):
                    continue
                dropped = True
                only_actions = all(isinstance(change, Action) for change in kept)
                if only_actions and not all(isinstance(change, Action) for change in step.changes):
                    kept = []
                step.changes = kept
                if not kept:
                    steps.remove(step)
        return dropped

    def exchange(self, other: Callable[[Change], Change]) -> None:
        """Put another change in the place of each one."""
        for step in (*self.done, *self.undone):
            step.changes = [other(change) for change in step.changes]

    def copy(self) -> History:
        """The steps as they are now, to go back to after others."""
        history = History()
        for steps, copied in ((self.done, history.done), (self.undone, history.undone)):
            copied.extend(Step(step.name, list(step.changes)) for step in steps)
        return history
