"""Autosave: unsaved painting and corrections are written each minute, and offered again after a crash or a kill.

Each viewer has one folder below `recovery_folder`. It holds a session of the masks and of the results. It is
removed when everything is saved, and stays if the process ends before that. A lock beside the folder is held as long as
the viewer lives, and the system lets go of it however the process ends. The number of a process would not do: another
process may have it after a restart, or on another computer with the same home folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from filelock import FileLock, Timeout

from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.followed import results_of
from napari_medseq.viewer.sessions.opening import open_session
from napari_medseq.viewer.sessions.saving import TakenSession, is_session, take_session, write_session
from napari_medseq.viewer.visibility import set_visible

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: marks a mask in a session's JSON that was open, and not unsaved
_ONLY_OPEN = "only open"


@dataclass(eq=False)
class _Own:
    """The folder of a viewer, the lock that shows that the viewer lives (None where files cannot be locked), and the
    viewer's folder before that, until its content is written into this one too."""

    folder: Path
    lock: FileLock | None
    earlier: _Own | None = None

    def give_up(self) -> None:
        """Remove the folder, because nothing in it is unsaved any longer."""
        self.give_up_earlier()
        _remove(self.folder)
        if self.lock is not None:
            self.lock.release()

    def give_up_earlier(self) -> None:
        """Remove the folder that the viewer had before."""
        if self.earlier is not None:
            self.earlier.give_up()
            self.earlier = None


_FOLDERS: WeakKeyDictionary[Editing, _Own] = WeakKeyDictionary()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # the system may refuse to delete the file of a lock that is held
        _lock_file(folder).unlink(missing_ok=True)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _own(folder: Path) -> _Own:
    """Take a folder for a viewer of this process.

    Raises
    ------
    Timeout
        If it is another viewer's.
    """
    lock = FileLock(_lock_file(folder), thread_local=False)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise
    except (OSError, NotImplementedError):  # what is painted is kept nevertheless
        return _Own(folder, None)
    return _Own(folder, lock)


@dataclass(frozen=True)
class Recovery:
    """The unsaved work of a process that ended.

    Attributes
    ----------
    folder : Path
    saved : datetime
        Time of the last writing, local time.
    names : tuple of str
        Names of the unsaved layers that it holds.
    masks : int
        How many masks it holds, with those that were only open.
    """

    folder: Path
    saved: datetime
    names: tuple[str, ...]
    masks: int


def recovery_folder() -> Path:
    """The folder of autosaved sessions: in the user's data folder, or where ``NAPARI_MEDSEQ_STATE`` says."""
    import platformdirs

    return Path(os.environ.get("NAPARI_MEDSEQ_STATE") or platformdirs.user_data_dir("napari-medseq")) / "recovery"


@dataclass(frozen=True, eq=False)
class Autosave:
    """What has to be written, or removed, to keep unsaved work; from `take_autosave`.

    Attributes
    ----------
    own : _Own
        The viewer's folder.
    session : TakenSession or None
        The session to write into the folder; None: everything is saved, and the folder is removed.
    """

    own: _Own
    session: TakenSession | None


def autosave(viewer: ViewerModel) -> Path | None:
    """Write unsaved painting and corrections, if there are any, and return the folder, or None.

    A window does this in two steps, the second of which a worker may run: `take_autosave`, `write_autosave`.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    snapshot = take_autosave(viewer)
    return None if snapshot is None else write_autosave(snapshot)


def take_autosave(viewer: ViewerModel) -> Autosave | None:
    """Copy unsaved painting and corrections as they are now; None if there is nothing to do."""
    editing = editing_of(viewer)
    own = _FOLDERS.get(editing)
    if not editing.is_unsaved:
        if own is None:
            return None
        del _FOLDERS[editing]
        return Autosave(own, None)
    if own is None:
        own = _FOLDERS[editing] = _own(recovery_folder() / f"{os.getpid()}-{secrets.token_hex(4)}")
    kept, unsaved = _worth_keeping(viewer), _unsaved(viewer)
    session = take_session(viewer, kept)
    layers = tuple(
        replace(one, facts={**one.facts, _ONLY_OPEN: True})
        if one.seq.kind == "labels" and real(layer) not in unsaved
        else one
        for layer, one in zip(kept, session.layers, strict=True)
    )
    return Autosave(own, replace(session, layers=layers))


def write_autosave(snapshot: Autosave) -> Path | None:
    """Write what was copied, or remove what is no longer needed; touches no viewer. Calls must follow the order of
    copying.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    if snapshot.session is None:
        snapshot.own.give_up()
        return None
    path = write_session(snapshot.session, snapshot.own.folder)
    snapshot.own.give_up_earlier()
    return path


def _worth_keeping(viewer: ViewerModel) -> list[Layer]:
    """All masks, because a visit without its mask would be followed as one without lesions; and the images that are open from files,
    which are stored by reference only."""
    return [
        layer
        for layer in viewer.layers
        if layer_kind(layer) == "labels" or (layer_kind(layer) == "image" and _source(layer) is not None)
    ]


def _unsaved(viewer: ViewerModel) -> set[Layer]:
    """Masks that are not saved, and those of results."""
    return {*editing_of(viewer).unsaved, *(layer for one in results_of(viewer).values() for layer in one.layers)}


def _source(layer: Layer) -> str | None:
    from napari_medseq.viewer.layers.studies import facts_of

    facts = facts_of(layer)
    source = facts.get("meta", {}).get("source")
    return source if isinstance(source, str) and Path(source).exists() and "role" not in facts else None


def recoverable() -> list[Recovery]:
    """The unsaved work of processes that have ended, and of viewers that are gone, the latest first."""
    recoveries = []
    for folder in recovery_folder().glob("*-*"):
        if not folder.is_dir() or _is_held(folder):
            continue
        if not is_session(folder):  # the process ended while it wrote for the first time
            _remove(folder)
            continue
        file = folder / "session.json"
        try:
            layers = json.loads(file.read_text(encoding="utf-8"))["layers"]
            masks = [k for k in layers if k["kind"] == "labels"]
            names = tuple(str(k["look"]["name"]) for k in masks if not k.get(_ONLY_OPEN))
            recoveries.append(Recovery(folder, datetime.fromtimestamp(file.stat().st_mtime), names, len(masks)))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(recoveries, key=lambda one: one.saved, reverse=True)


def recover(viewer: ViewerModel, recovery: Recovery) -> list[Layer]:
    """Open the unsaved work of another process; it still counts as unsaved, and its folder becomes this viewer's own.

    Raises
    ------
    ReadError
        If it is damaged; it stays where it is.
    """
    layers = open_session(viewer, recovery.folder)
    finish_recovery(viewer, recovery, layers)
    return layers


def finish_recovery(viewer: ViewerModel, recovery: Recovery, layers: Iterable[Layer]) -> None:
    """After the layers of recovered work were added, mark them as unsaved, show them, and take its folder over for this viewer.

    If a mask could not be opened, the folder stays as it is and is offered again, because autosave would replace it.
    """
    editing = editing_of(viewer)
    masks = [layer for layer in layers if layer_kind(layer) == "labels"]
    named = [mask for mask in masks if mask.name in recovery.names]
    unsaved = named if len(named) == len(recovery.names) else masks  # beside others of their names they have numbers
    editing.unsaved.update(unsaved)
    if not any(mask.visible for mask in unsaved):  # they were hidden below an answer that was saved
        for mask in unsaved:
            set_visible(mask, True)
    if len(masks) < recovery.masks:
        editing.events.changed()
        return
    with suppress(Timeout):  # another viewer recovered the same; this one will get a folder of its own
        own = _own(recovery.folder)
        own.earlier, _FOLDERS[editing] = _FOLDERS.get(editing), own
    editing.events.changed()


def discard(recovery: Recovery) -> None:
    """Delete the unsaved work of another process."""
    _remove(recovery.folder)


def _is_held(folder: Path) -> bool:
    """Whether the viewer of a folder lives."""
    if not _lock_file(folder).exists():
        return False
    try:
        with FileLock(_lock_file(folder), blocking=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
