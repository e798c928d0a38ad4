"""Autosave: unsaved painting and corrections are written each minute, and offered again after a crash or a kill.

Each viewer has one folder below `recovery_folder`, named after its process. It holds a session of the unsaved layers
and of the results. It is removed when everything is saved, and stays if the process ends before that.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_medseq.viewer.editing import Editing, editing_of
from napari_medseq.viewer.followed import results_of
from napari_medseq.viewer.layers import layer_kind
from napari_medseq.viewer.session import TakenSession, is_session, take_session, write_session
from napari_medseq.viewer.session_opening import open_session

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_FOLDERS: WeakKeyDictionary[Editing, Path] = WeakKeyDictionary()
_ERROR_INVALID_PARAMETER = 87  # error code of Windows: no process has that number


@dataclass(frozen=True)
class Recovery:
    """The unsaved work of a process that ended.

    Attributes
    ----------
    folder : Path
    saved : datetime
        Time of the last writing, local time.
    names : tuple of str
        Names of the layers that it holds.
    """

    folder: Path
    saved: datetime
    names: tuple[str, ...]


def recovery_folder() -> Path:
    """The folder of autosaved sessions: in the user's data folder, or where ``NAPARI_MEDSEQ_STATE`` says."""
    import platformdirs

    return Path(os.environ.get("NAPARI_MEDSEQ_STATE") or platformdirs.user_data_dir("napari-medseq")) / "recovery"


@dataclass(frozen=True, eq=False)
class Autosave:
    """What has to be written, or removed, to keep unsaved work; from `take_autosave`.

    Attributes
    ----------
    folder : Path
    session : TakenSession or None
        The session to write into the folder; None: everything is saved, and the folder is removed.
    """

    folder: Path
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
    folder = _FOLDERS.get(editing)
    if not editing.is_unsaved:
        if folder is None:
            return None
        del _FOLDERS[editing]
        return Autosave(folder, None)
    if folder is None:
        folder = _FOLDERS[editing] = recovery_folder() / f"{os.getpid()}-{secrets.token_hex(4)}"
    return Autosave(folder, take_session(viewer, _worth_keeping(viewer)))


def write_autosave(snapshot: Autosave) -> Path | None:
    """Write what was copied, or remove what is no longer needed; touches no viewer. Calls must follow the order of
    copying.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    if snapshot.session is None:
        shutil.rmtree(snapshot.folder, ignore_errors=True)
        return None
    return write_session(snapshot.session, snapshot.folder)


def _worth_keeping(viewer: ViewerModel) -> list[Layer]:
    """Masks that are not saved, and the images that are open from files, which are stored by reference only."""
    unsaved = editing_of(viewer).unsaved
    tracked = {layer for followed in results_of(viewer).values() for layer in followed.layers}
    return [
        layer
        for layer in viewer.layers
        if (layer_kind(layer) == "labels" and (layer in unsaved or layer in tracked))
        or (layer_kind(layer) == "image" and _source(layer) is not None)
    ]


def _source(layer: Layer) -> str | None:
    from napari_medseq.viewer.study import facts_of

    facts = facts_of(layer)
    source = facts.get("meta", {}).get("source")
    return source if isinstance(source, str) and Path(source).exists() and "role" not in facts else None


def recoverable() -> list[Recovery]:
    """The unsaved work of processes that have ended, the latest first."""
    recoveries = []
    for folder in recovery_folder().glob("*-*"):
        if not is_session(folder) or _is_alive(folder.name.split("-")[0]):
            continue
        file = folder / "session.json"
        try:
            layers = json.loads(file.read_text(encoding="utf-8"))["layers"]
            names = tuple(str(k["look"]["name"]) for k in layers if k["kind"] == "labels")
            recoveries.append(Recovery(folder, datetime.fromtimestamp(file.stat().st_mtime), names))
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
    """After the layers of recovered work were added, mark them as unsaved, and take its folder over for this
    viewer."""
    editing = editing_of(viewer)
    editing.unsaved.update(layer for layer in layers if layer_kind(layer) == "labels")
    own = recovery_folder() / f"{os.getpid()}-{secrets.token_hex(4)}"
    os.replace(recovery.folder, own)
    _FOLDERS[editing] = own
    editing.events.changed()


def discard(recovery: Recovery) -> None:
    """Delete the unsaved work of another process."""
    shutil.rmtree(recovery.folder, ignore_errors=True)


def _is_alive(number: str) -> bool:
    """Whether a process runs."""
    if not number.isdigit():
        return False
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, int(number))  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle) or ctypes.windll.kernel32.GetLastError() != _ERROR_INVALID_PARAMETER
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
