"""ZIP and tar archives opened like folders: unpacked once per process into a private temporary folder.

An archive is not trusted: entries whose names lead out of it are left out, links and devices are not created, the
declared and the real size of the content are compared with the archive's size, encrypted archives are reported, and
of nested archives only one level is opened.
A path inside an archive reads ``study.zip/baseline/t1.nii.gz``; `located` finds the unpacked file, `shown` puts such paths
into messages. Sources: PKWARE's APPNOTE 6.3 (ZIP), POSIX.1-2001 (tar), D. Fifield, "A better zip bomb" (WOOT 2019).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from napari_medseq.errors import ReadError
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    import tarfile
    import zipfile

#: Images shrink to a third or less, masks to a hundredth: an archive that grows by more than this, to more than the
#: second number of bytes, is a bomb.
MOST_GROWTH, HARMLESS = 100, 1 << 30
#: Members of one archive; a scan is a few thousand.
_MOST_MEMBERS = 500_000
#: Bytes that must stay free on the disk.
_SPARE_DISK = 1 << 28
_CHUNK = 1 << 20
#: Errors of the place that is written to, not of the archive.
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_DEEPEST = 2


@dataclass
class _Unpacked:
    folder: Path
    problems: list[str] = field(default_factory=list)
    depth: int = 1


_LOCK = threading.RLock()
_OPENED: dict[tuple[str, int, int, int, int], _Unpacked] = {}
_FOLDERS: dict[str, str] = {}
_ROOT: list[tempfile.TemporaryDirectory[str]] = []


def unpacked(path: Path) -> tuple[Path, list[str]]:
    """The folder into which an archive was unpacked, and what was left out of it.

    The folder lives until the process ends, so that lazy images can be read from it.

    Raises
    ------
    ReadError
        If the archive is encrypted, damaged, a bomb, or lies in an archive in an archive.
    """
    facts = path.stat()
    # the time of its last change too, which nobody can set back as `touch` does that of modification
    key = (str(path.resolve()), facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    with _LOCK:
        archive = _OPENED.get(key)
        if archive is None:
            archive = _OPENED[key] = _unpack(path)
        return archive.folder, list(archive.problems)


def _unpack(path: Path) -> _Unpacked:
    around = next((one for one in _OPENED.values() if path.is_relative_to(one.folder)), None)
    depth = 1 if around is None else around.depth + 1
    if depth > _DEEPEST:
        raise ReadError(
            f"{shown(str(path))}: an archive in an archive in an archive is not opened; unpack the outer ones first."
        )
    if not _ROOT:
        _ROOT.append(tempfile.TemporaryDirectory(prefix="medseq-archive-", ignore_cleanup_errors=True))
    folder = Path(tempfile.mkdtemp(dir=_ROOT[0].name)) / (
        re.split(r"\.(?=zip|tar|tgz|tbz|txz)", path.name)[0] or "archive"
    )
    folder.mkdir()
    out = _Unpacked(folder, depth=depth)
    try:
        _Writer(path, out).run()
    except BaseException:
        shutil.rmtree(folder.parent, ignore_errors=True)
        raise
    _FOLDERS[str(folder)] = shown(str(path))
    return out


def shown(text: str) -> str:
    """The same text with the temporary folders of archives given as paths inside the archives."""
    for folder, archive in _FOLDERS.items():
        if folder in text:
            text = text.replace(folder, archive)
    return text


def located(path: Path) -> Path:
    """The file that a path names, looked for in an archive where a part of the path is one."""
    if path.exists() or path.is_symlink():
        return path
    for parent in path.parents:
        if parent.is_file():
            if not is_archive(parent):
                return path
            return located(unpacked(parent)[0] / path.relative_to(parent))
        if parent.exists():
            return path
    return path


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP or tar archive that is opened here."""
    from napari_medseq.io.detection import detect

    return detect(path) == "archive"


class _Writer:
    """Writes the members of one archive, counting bytes."""

    def __init__(self, path: Path, out: _Unpacked) -> None:
        self.path, self.out = path, out
        self.size = path.stat().st_size
        self.most = max(HARMLESS, MOST_GROWTH * self.size)
        self.declared = self.written = 0
        self.outside = self.special = 0

    def run(self) -> None:
        import tarfile
        import zipfile
        import zlib

        try:
            with open(self.path, "rb") as file:
                zipped = file.read(2) == b"PK"
            if zipped:
                with zipfile.ZipFile(self.path) as archive:
                    self._zip(archive)
            else:
                with tarfile.open(self.path, "r:*") as tar:
                    self._tar(tar)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, UnicodeError) as error:
            self._damaged(error)
        except NotImplementedError as error:
            raise ReadError(
                f"{self._name}: its way of packing is not known here ({error}); unpack it first."
            ) from error
        except OSError as error:
            if self.written == 0 and error.errno is None:  # a damaged gzip stream
                self._damaged(error)
            else:
                raise ReadError(
                    f"{self._name}: cannot be unpacked into {self.out.folder.parent} ({error.strerror or error}); free some space, or set "
                    "TMPDIR to a folder on another disk."
                ) from error
        if self.outside:
            self.out.problems.append(
                f"{self._name}: {how_many(self.outside, 'file has a name that leaves', 'files have names that leave')} the archive; "
                "left out."
            )
        if self.special:
            self.out.problems.append(
                f"{self._name}: {how_many(self.special, 'link or device in it is', 'links or devices in it are')} not followed."
            )

    @property
    def _name(self) -> str:
        return shown(str(self.path))

    def _damaged(self, error: Exception) -> None:
        """Keep the files before the damage, with a warning; if there are none, raise."""
        text = f"{self._name}: the archive is damaged or cut short ({error}); copy it again."
        if not self.written:
            raise ReadError(text) from error
        self.out.problems.append(f"{text} What came before the damage is used.")

    def _check(self, extra: int) -> None:
        """Count bytes that a member declares or that came out of it."""
        if extra < 0 or self.declared + extra > self.most or self.written > self.most:
            raise ReadError(
                f"{self._name}: {self.size:,} bytes would unpack to more than {self.most:,}; no medical image packs so well. "
                "It is not unpacked."
            )

    def _room(self) -> None:
        if shutil.disk_usage(self.out.folder).free < self.declared + _SPARE_DISK:
            raise ReadError(
                f"{self._name}: unpacking needs {self.declared:,} bytes in {self.out.folder.parent}; free some space."
            )

    def _zip(self, archive: zipfile.ZipFile) -> None:
        members = [m for m in archive.infolist() if not m.is_dir()]
        self._few(len(members))
        secret = [m for m in members if m.flag_bits & 0x1]
        if secret:
            raise ReadError(
                f"{self._name}: the archive is encrypted ({len(secret)} of {len(members)} files); unpack it with its password first."
            )
        for member in members:
            self._check(member.file_size)
            self.declared += member.file_size
        self._room()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                self.special += 1
                continue
            target = self._target(member.filename)
            if target is None:
                continue
            try:
                with archive.open(member) as source:
                    self._write(source, target)
            except NotImplementedError as error:
                self._problem(member.filename, error)
            except Exception as error:
                target.unlink(missing_ok=True)
                if isinstance(error, ReadError) or (isinstance(error, OSError) and error.errno in _NO_PLACE):
                    raise
                self._problem(member.filename, error)

    def _tar(self, tar: tarfile.TarFile) -> None:
        for count, member in enumerate(tar, start=1):
            self._few(count)
            self._check(member.size)
            self.declared += member.size
            if member.isdir():
                continue
            if not member.isreg():
                self.special += 1
                continue
            target = self._target(member.name)
            source = tar.extractfile(member) if target is not None else None
            if target is None or source is None:
                continue
            self._room()
            try:
                self._write(source, target)
            except BaseException:  # a file that is cut is worse than none
                target.unlink(missing_ok=True)
                raise

    def _few(self, count: int) -> None:
        if count > _MOST_MEMBERS:
            raise ReadError(f"{self._name}: it holds more than {_MOST_MEMBERS:,} files; unpack it first.")

    def _problem(self, name: str, error: Exception) -> None:
        self.out.problems.append(
            f"{self._name}/{_printable(name)}: cannot be unpacked ({type(error).__name__}); copy the archive again."
        )

    def _target(self, name: str) -> Path | None:
        """The path that a member is written to; None if its name leads out of the archive or it is not needed."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            self.outside += 1
            return None
        if "__MACOSX" in parts or parts[-1].startswith("."):
            return None
        target = self.out.folder.joinpath(*parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target = target.with_name(f"{len(os.listdir(target.parent))}_{target.name}")
        except OSError as error:
            self._problem(name, error)
            return None
        return target

    def _write(self, source: IO[bytes], target: Path) -> None:
        with open(target, "xb") as file:
            for block in _blocks(source):
                self.written += len(block)
                self._check(0)
                file.write(block)


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    while block := source.read(_CHUNK):
        yield block


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "_" for c in name)[:120]
