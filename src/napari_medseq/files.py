"""Writing a file whole or not at all: a temporary name in the same folder first, moved into place when all went well."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_medseq.errors import WriteError

_WRITING = ".writing-"  # names of files that are not complete begin so
_ENDING = 20  # characters of a long ending that such a name keeps


def path_of(given: str | os.PathLike[str]) -> Path:
    """A path as somebody gave it, with ``~`` at its beginning standing for their own folder, as in shells."""
    return Path(os.path.expanduser(given))


@contextmanager
def replacing(target: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `target`, and move it to `target` when the block ends without an error.

    The temporary name is unique, so that two processes may write the same file, and keeps the last two endings of the
    target (``.nii.gz``), by which writers choose a format. The file has the permissions of the file that it replaces, else those
    that the process gives to new files (its umask). A block that fails leaves the old file, and nothing else, behind.

    Parameters
    ----------
    target : path
        The file to write; missing folders above it are made.
    durable : bool
        Whether to wait until the content is on the disk before it takes the old file's place, so that a power cut
        loses neither.

    Yields
    ------
    Path
        An empty file to write to.

    Raises
    ------
    WriteError
        If the folder, or anything in the block, cannot be written (any `OSError`).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/table.csv") as temporary:
    ...         _ = temporary.write_text("a,b")
    ...     os.listdir(folder)
    ['table.csv']
    """
    path = path_of(target)
    temporary = path.with_name(f"{_WRITING}{secrets.token_hex(8)}{''.join(path.suffixes[-2:])[-_ENDING:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # made by open, not by tempfile, so that the system applies the umask
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        with suppress(FileNotFoundError):
            temporary.chmod(path.stat().st_mode & 0o777)
        if durable:
            _flush(temporary, os.O_RDWR)  # Windows flushes only what is open for writing
        os.replace(temporary, path)
        if durable and os.name == "posix":
            _flush(path.parent, os.O_RDONLY)
    except OSError as error:
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            check_place(path)
        raise WriteError(
            f"{path} could not be written: {error.strerror or error}. Choose a folder you may write to, with space left."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a path that cannot be written because of what stands there, before long work is done for it.

    Parameters
    ----------
    path : path
        A file or folder that is to be written; it need not exist, nor the folders above it.

    Raises
    ------
    WriteError
        If something above it is no folder, or the nearest folder that exists may not be written to.
    """
    above = path_of(path).absolute().parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise WriteError(
            f"{path} could not be written: {above} is a file, not a folder. Choose a folder you may write to."
        )
    if not os.access(above, os.W_OK):
        raise WriteError(
            f"{path} could not be written: you may not write to {above}. Choose a folder you may write to."
        )


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; only for the one process that writes to it."""
    for left in folder.glob(f"{_WRITING}*"):
        with suppress(OSError):
            left.unlink()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write bytes whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path_of(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write text as UTF-8, its line ends as they are, whole or not at all; see `replacing`."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Mapping[str, object]) -> Path:
    """Write a mapping as indented JSON, whole or not at all; what JSON does not know (dates, paths) is written as text."""
    return write_text(path, json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n")


def _flush(path: Path, flags: int) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
