"""The folder of a result: it has one writer at a time, is replaced as a whole, and is checked by hashes.

A new result is written beside the old one (``.partial-*``), sealed, and renamed to ``.commit``. From there on it counts: its files
are moved into place with ``run.json`` last, and whoever opens the folder next finishes what a kill interrupted. While files are being
moved there is no ``run.json``, so that no mixture of old and new files ever passes for a result.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from napari_medseq import files, record
from napari_medseq.errors import OperationCancelled, ReadError, WriteError

RECORD = "run.json"
#: where the result of an earlier run waits while another runs, and stays if that one fails
PREVIOUS = "previous"
#: why the last run failed
FAILED = "failed.json"
#: made from a result on demand, so that it goes when the result does
_DERIVED = ("report.html",)
_LOCK, _COMMIT, _PARTIAL, _OLD_RECORD = ".lock", ".commit", ".partial-", ".old-run.json"


class ResultFolder:
    """A folder that this process may write to, until it gives it back; made by `claimed`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """A new folder to write a whole result into, ``run.json`` too; it becomes the result when the block ends without an error.

        Raises
        ------
        WriteError
            If anything in the block or the moving cannot be written; the old result is then still whole.
        """
        try:
            part = Path(tempfile.mkdtemp(dir=self.path, prefix=_PARTIAL))
            try:
                yield part
                _seal(part)
                _refuse_to_overwrite(self.path, _parts(part))
                os.replace(part, self.path / _COMMIT)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            _roll_forward(self.path)
            _discard(self.path / PREVIOUS)
            (self.path / FAILED).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def set_aside(self) -> None:
        """Move the present result to ``previous``, so that it is not mistaken for the one that is being made."""
        if not (self.path / RECORD).is_file():
            return
        try:
            _discard(self.path / PREVIOUS)
            (self.path / PREVIOUS).mkdir(exist_ok=True)
            os.replace(self.path / RECORD, self.path / PREVIOUS / RECORD)
            _finish_setting_aside(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def put_back(self) -> None:
        """Undo `set_aside`: nothing new was made."""
        previous = self.path / PREVIOUS
        if (self.path / RECORD).exists() or not (previous / RECORD).is_file():
            return
        with suppress(OSError):
            for name in [*_parts(previous), *_DERIVED]:
                _move(previous / name, self.path / name)
            os.replace(previous / RECORD, self.path / RECORD)
            shutil.rmtree(previous, ignore_errors=True)

    def failed(self, error: BaseException) -> None:
        """Write beside an earlier result why there is no new one; without an earlier result nothing is left behind."""
        if not (self.path / PREVIOUS / RECORD).is_file():
            return
        facts = {
            "failed": datetime.now().astimezone().isoformat(timespec="seconds"),
            "error": _one_line(error),
            "earlier_result": PREVIOUS,
        }
        with suppress(OSError):
            (self.path / FAILED).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def claimed(path: Path, *, wait_s: float = 0.0) -> Iterator[ResultFolder]:
    """Make `path` this process's own to write to; what a killed one left half done is finished or removed first.

    The lock is one of the operating system, so that it ends with the process that holds it, however that ends.

    Parameters
    ----------
    path : path
        Made if missing.
    wait_s : float
        Seconds to wait for another process that is about to end.

    Raises
    ------
    WriteError
        If the folder cannot be written to, is a file, or another process writes to it (which is named).
    """
    created = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / _LOCK, thread_local=False)
        lock.acquire(timeout=wait_s, poll_interval=0.1)
    except Timeout:
        raise WriteError(
            f"{path} is being written to by {_holder(path)}. Wait until that is done, or choose another folder."
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        try:
            (path / _LOCK).write_text(_myself(), encoding="utf-8")
            _recover(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        yield ResultFolder(path)
    finally:
        with suppress(OSError):
            (path / _LOCK).unlink()
            if created:  # and nothing was put into it
                path.rmdir()
        lock.release()


@contextmanager
def result_folder(
    out: str | os.PathLike[str] | None, *, wait_s: float = 0.0, set_aside: bool = True
) -> Iterator[ResultFolder | None]:
    """The folder of a result, this run's alone: an earlier result in it waits beside, and comes back if nothing was done.

    Parameters
    ----------
    out : path or None
        None gives None.
    wait_s : float
        Seconds to wait for another process that writes to it.
    set_aside : bool
        Set an earlier result aside at once; otherwise when the block says so, or fails.
    """
    if out is None:
        yield None
        return
    with claimed(files.path_of(out), wait_s=wait_s) as folder:
        if set_aside:
            folder.set_aside()
        try:
            yield folder
        except (OperationCancelled, KeyboardInterrupt):
            folder.put_back()
            raise
        except Exception as error:
            folder.set_aside()
            folder.failed(error)
            raise


def checked_record(path: Path) -> dict[str, Any]:
    """The ``run.json`` of a whole result, after each of its parts was compared with the hash that the record holds.

    Raises
    ------
    ReadError
        If there is no result, or a part is missing or has changed.
    """
    if (path / _COMMIT).is_dir():  # a kill came between the last byte written and the last file moved
        with suppress(WriteError), claimed(path):
            pass
    if not (path / RECORD).is_file():
        raise ReadError(f"{path} is not a saved progression: {RECORD} is missing. {_why_none(path)}")
    facts = record.read_json(path / RECORD)
    for name, expected in _hashes(facts).items():
        part = _inside(path, name)
        if not part.is_file():
            raise ReadError(f"{path} is not a whole result: {part.name} is missing. Run it again.")
        if record.sha256(part) != expected:
            raise ReadError(
                f"{part} is not the file that belongs to this result: it was changed or replaced after {RECORD} was written. "
                "Run it again, or follow changed masks with `napari-medseq track`."
            )
    return facts


def _recover(path: Path) -> None:
    """Finish or remove what an interrupted process left; only for who holds the lock."""
    for partial in path.glob(f"{_PARTIAL}*"):
        shutil.rmtree(partial, ignore_errors=True)
    _roll_forward(path)
    _finish_setting_aside(path)


def _seal(part: Path) -> None:
    """Write the hash of every file of a result into its record."""
    names = sorted(p.relative_to(part).as_posix() for p in part.rglob("*") if p.is_file())
    facts = record.read_json(part / RECORD)
    facts["files"] = {name: record.sha256(part / name) for name in names if name != RECORD}
    text = json.dumps(facts, indent=2, default=str, ensure_ascii=False) + "\n"
    (part / RECORD).write_text(text, encoding="utf-8")


def _roll_forward(path: Path) -> None:
    """Move a complete new result into place; may be interrupted and called again."""
    commit = path / _COMMIT
    if not (commit / RECORD).is_file():
        shutil.rmtree(commit, ignore_errors=True)
        return
    if (path / RECORD).is_file():
        os.replace(path / RECORD, commit / _OLD_RECORD)
    new = _parts(commit)
    old = [*_parts(commit, _OLD_RECORD), *_DERIVED] if (commit / _OLD_RECORD).is_file() else []
    for name in set(old) - set(new):
        (path / name).unlink(missing_ok=True)
        _remove_if_empty((path / name).parent, path)
    for name in new:
        _move(commit / name, path / name)
    os.replace(commit / RECORD, path / RECORD)
    shutil.rmtree(commit, ignore_errors=True)


def _finish_setting_aside(path: Path) -> None:
    previous = path / PREVIOUS
    if (path / RECORD).exists() or not (previous / RECORD).is_file():
        return
    for name in [*_parts(previous), *_DERIVED]:
        _move(path / name, previous / name)
        _remove_if_empty((path / name).parent, path)


def _discard(result: Path) -> None:
    """Remove a result, and of its folder only what this package wrote."""
    if not (result / RECORD).is_file():
        return
    for name in [*_parts(result), *_DERIVED, RECORD]:
        (result / name).unlink(missing_ok=True)
        _remove_if_empty((result / name).parent, result)
    with suppress(OSError):
        result.rmdir()


def _refuse_to_overwrite(path: Path, names: list[str]) -> None:
    """Refuse to replace labels in a folder that holds no result, such as a study's own masks.

    Raises
    ------
    WriteError
        If there is such a file; the message names the first one.
    """
    if any((path / name).exists() for name in (RECORD, FAILED, PREVIOUS, "lesions.csv", "summary.csv")):
        return
    for name in names:
        if (path / name).exists():
            raise WriteError(
                f"{path / name} is there already and is no earlier result; choose another folder for the results."
            )


def _move(source: Path, target: Path) -> None:
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


def _remove_if_empty(folder: Path, root: Path) -> None:
    if folder != root:
        with suppress(OSError):
            folder.rmdir()


def _parts(path: Path, name: str = RECORD) -> list[str]:
    """Relative names of the files of a result, from its record; of a record without a seal, those that it always had."""
    with suppress(ReadError):
        facts = record.read_json(path / name)
        names = list(_hashes(facts)) or ["lesions.csv", "summary.csv", "progression.png"]
        return [n for n in names if _is_inside(n)]
    return []


def _hashes(facts: Mapping[str, Any]) -> dict[str, str]:
    """Hash of each part by name; records of version 1 hold those of the labels alone."""
    files = facts.get("files")
    if isinstance(files, Mapping):
        return {str(name): str(value) for name, value in files.items()}
    visits = facts.get("visits")
    parts = [v for v in visits if isinstance(v, Mapping)] if isinstance(visits, list) else []
    return {str(v["labels"]): str(v["sha256"]) for v in parts if v.get("labels") and v.get("sha256")}


def _inside(path: Path, name: str) -> Path:
    if not _is_inside(name) or not (path / name).resolve().is_relative_to(path.resolve()):
        raise ReadError(f"{RECORD} in {path} names {name!r}, which lies outside the folder. Do not trust it.")
    return path / name


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name)
    return not parts.is_absolute() and ".." not in parts.parts and bool(parts.parts)


def _why_none(path: Path) -> str:
    earlier = (
        f" The result of an earlier run lies in {path / PREVIOUS}." if (path / PREVIOUS / RECORD).is_file() else ""
    )
    with suppress(ReadError):
        return f"The last run failed: {record.read_json(path / FAILED).get('error')}{earlier}"
    return earlier.strip() or "Choose a folder that run wrote."


def _myself() -> str:
    return json.dumps(
        {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    )


def _holder(path: Path) -> str:
    """The process that writes to a folder, according to the lock."""
    with suppress(ReadError):
        facts = record.read_json(path / _LOCK)
        return f"process {facts.get('process')} on {facts.get('host')} since {facts.get('since')}"
    return "another process"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _unwritable(path: Path, error: OSError) -> WriteError:
    reason = "it is a file" if path.is_file() else (error.strerror or str(error))
    return WriteError(f"{path} could not be written: {reason}. Choose a folder you may write to, with space left.")
