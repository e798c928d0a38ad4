"""Files that are opened once: what `detect` opened stays open until its header and pixels have been read, within a
budget.

A reading job (`job`) keeps the files that it will come back to; where the system allows too few open files, small ones are
held in memory instead, and only beyond that a file is opened again. Outside a job nothing is kept.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from contextvars import ContextVar

#: Bytes read when a file is opened: enough for the kind of any file and the header of most DICOM slices.
HEAD = 8192
#: File descriptors left to the rest of the program, and bytes held in memory when they run out.
_SPARE, _MOST_HELD, _SMALL = 256, 256 << 20, 2 << 20
_CAN_KEEP = hasattr(os, "preadv")


class Source:
    """The bytes of one file, on disk or in memory; reading is safe from several threads.

    Attributes
    ----------
    path : str
    size : int
    head : bytes
        The first bytes.
    """

    __slots__ = ("_data", "_file", "head", "path", "size")

    def __init__(self, path: str, *, data: bytes | None = None) -> None:
        self.path = path
        self._file: io.FileIO | None = None
        self._data = data
        if data is not None:
            self.size, self.head = len(data), data[:HEAD]
            return
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
            kind = IsADirectoryError if stat.S_ISDIR(facts.st_mode) else OSError
            raise kind(errno.EINVAL, "it is not a regular file")
        self._file, self.size = io.FileIO(path), facts.st_size
        try:
            self.head = self._file.read(HEAD) or b""
        except OSError:
            self.close()
            raise

    def read(self, at: int, count: int) -> bytes:
        """Up to `count` bytes from offset `at`."""
        if at + count <= len(self.head):
            return self.head[at : at + count]
        if self._data is not None:
            return self._data[at : at + count]
        count = max(min(count, self.size - at), 0)
        if self._file is not None and _CAN_KEEP:
            data = os.pread(self._file.fileno(), count, at)
            if len(data) == count:
                return data
        block = bytearray(count)
        count_read = self.read_into(at, memoryview(block))
        return bytes(block) if count_read == count else bytes(block[:count_read])

    def read_into(self, at: int, target: memoryview) -> int:
        """Fill a writable block of bytes from offset `at`; the number of bytes that were there."""
        if self._data is not None:
            block = self._data[at : at + len(target)]
            target[: len(block)] = block
            return len(block)
        if self._file is not None and _CAN_KEEP:
            return _filled(self._file.fileno(), at, target)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(at)
            filled = 0
            while filled < len(target) and (count := file.readinto(target[filled:])):
                filled += count
            return filled

    def stream(self) -> io.BufferedReader:
        """The file as a stream for parsers that want one."""
        return io.BufferedReader(_Stream(self), 1 << 16)

    def hold(self) -> None:
        """Take all bytes into memory and close the file."""
        self._data = self.read(0, self.size)
        self.close()

    def close(self) -> None:
        """Close the file; reading opens it again each time."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _filled(number: int, at: int, target: memoryview) -> int:
    filled = 0
    while filled < len(target):
        count = os.preadv(number, [target[filled:]], at + filled)
        if not count:
            break
        filled += count
    return filled


class _Stream(io.RawIOBase):
    """A `Source` as a raw stream."""

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0
        self.name = source.path  # parsers put it into their messages

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(offset + (0, self._at, self._source.size)[whence], 0)
        return self._at

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(self._at, len(target))
        memoryview(target)[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Job:
    """Files kept for one reading job."""

    def __init__(self) -> None:
        self.kept: dict[str, Source] = {}
        self.free = _descriptors()
        self.room = _MOST_HELD

    def keep(self, source: Source) -> None:
        if source.path in self.kept:
            return
        if self.free > 0:
            self.free -= 1
        elif source.size <= min(_SMALL, self.room):
            self.room -= source.size
            source.hold()
        else:
            source.close()
        self.kept[source.path] = source


def _descriptors() -> int:
    """How many files may stay open."""
    if not _CAN_KEEP:
        return 0
    try:
        import resource

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except (ImportError, OSError, ValueError):
        return 0
    return 8192 if soft == resource.RLIM_INFINITY else min(max(soft - _SPARE, 0), 8192)


_JOB: ContextVar[_Job | None] = ContextVar("napari-medseq-job", default=None)


@contextlib.contextmanager
def job() -> Iterator[None]:
    """A reading job: files that are kept in it are opened once and closed at its end. One inside another is the same."""
    if _JOB.get() is not None:
        yield
        return
    own = _Job()
    token = _JOB.set(own)
    try:
        yield
    finally:
        _JOB.reset(token)
        for source in own.kept.values():
            source.close()
            source.head = b""


def opened(path: str | os.PathLike[str]) -> Source:
    """The file, opened now or already open in this job.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    name = os.fspath(path)
    current = _JOB.get()
    cached = current.kept.get(name) if current is not None else None
    return cached if cached is not None else Source(name)


def keep(source: Source) -> None:
    """Keep this file for later reads: it stays open within a job, and is closed outside of one."""
    current = _JOB.get()
    if current is None:
        source.close()
    else:
        current.keep(source)
