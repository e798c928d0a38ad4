"""Adding, checking and removing models: from a folder, a zip file or a URL, each with a SHA-256 where it comes from outside.

Whatever is added is unpacked beside its place, loaded once to prove that it is safe and whole, and only then moved into the
user's model folder, with the SHA-256 of each of its files, so that `verify` can tell later whether anything has changed.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import lzma
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from napari_medseq.errors import ModelError
from napari_medseq.models import bundle
from napari_medseq.models.info import ModelInfo
from napari_medseq.models.library import find, list_models, load_model, read_info, user_folder
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.wording import how_many, some

_PARTS = ("configs", "models", "docs", "LICENSE")  # the parts of a folder that are copied
_BLOCK = 1 << 18
_MOST_FILES, _MOST_BYTES, _MOST_RATIO = 2000, 8 << 30, 200
_TIMEOUT = 30.0
#: what a damaged archive makes its decoders raise
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
#: where half downloads wait, and how often (s) who waits for another's looks at it
_DOWNLOADS, _POLL = ".downloads", 0.2
#: errors of the place that is written to, not of the archive
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def add(
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ModelInfo:
    """Put a model into the user's model folder.

    Parameters
    ----------
    source : str or path
        A bundle folder, a zip file that holds one, the http(s) URL of such a zip file, or the Hugging Face id of one:
        ``hf:owner/repository[@revision]/file.zip``. A download that was interrupted continues where it stopped.
    sha256 : str, optional
        SHA-256 of the zip file; required for a URL.
    name : str, optional
        Folder to install into; the bundle's own name when None.
    progress, cancelled : callable, optional
        Looked at per block of a download and per file.

    Returns
    -------
    ModelInfo

    Raises
    ------
    ModelError
        If the source cannot be had, its SHA-256 is another, the archive leaves its folder, or the model is unsafe, broken or
        there already. Nothing is installed then.
    OperationCancelled
        When `cancelled` says so; the part that was downloaded stays for the next time.
    """
    root = user_folder()
    text = _address(os.path.expanduser(source))
    expected_sum = _checked_sum(sha256)
    try:
        return read_info(_add(text, expected_sum, name, root, progress, cancelled))
    except OSError as error:
        raise ModelError(
            f"{text} could not be installed in {root}: {error.strerror or error}. Nothing was installed; set NAPARI_MEDSEQ_MODELS "
            "to a folder of yours with space left."
        ) from None


def _add(
    text: str,
    expected_sum: str | None,
    name: str | None,
    root: Path,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Path:
    """The folder of a model that was put into `root`; see `add`."""
    root.mkdir(parents=True, exist_ok=True)
    is_url = urllib.parse.urlsplit(text).scheme in ("http", "https")
    if is_url and expected_sum is None:
        raise ModelError(f"{text} needs the SHA-256 of the file, so that nothing else is installed; give sha256=.")
    alone = nullcontext() if not is_url or expected_sum is None else _downloading(root, expected_sum, cancelled)
    with alone, tempfile.TemporaryDirectory(dir=root, prefix=".adding-") as place:
        staging = Path(place) / "bundle"
        if is_url and expected_sum is not None:
            if name is None:
                _refuse_twice(root, expected_sum)
            archive = _download(text, expected_sum, root, progress, cancelled)
            try:
                _unpack(archive, staging, cancelled)
            except ModelError:  # what is refused once is refused always
                _discard(archive)
                raise
            _discard(archive)
        elif Path(text).is_dir():
            _copy(Path(text), staging, cancelled)
        elif Path(text).is_file():
            if expected_sum is not None:
                _compare(Path(text), expected_sum, text)
            _unpack(Path(text), staging, cancelled)
        else:
            raise ModelError(f"{text} is neither a folder nor a zip file nor an http(s) URL; nothing was installed.")
        inside = _bundle_root(staging, text)
        default_name = (
            read_info(inside).name
            if inside != staging or "napari_medseq" in bundle.read_json(inside / bundle.METADATA)
            else _last_name(text)
        )
        target = root / _checked_name(name or default_name)
        if target.exists():
            raise _is_there(target)
        same = next((info for info in list_models() if info.name.casefold() == target.name.casefold()), None)
        if same is not None:
            raise ModelError(
                f"There is a model called {same.name} already, in {same.folder}, which would be taken instead of this one; give "
                "another name (name=, --rename)."
            )
        ready = Path(place) / target.name
        os.replace(inside, ready)
        load_model(ready)
        check(cancelled)
        record = {"source": text, "sha256": expected_sum, "files": _sums(ready)}
        (ready / bundle.RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(ready, target)
    return target


def _address(source: str) -> str:
    """The URL of a Hugging Face id; anything else as it is. ``HF_ENDPOINT`` names a mirror."""
    if not source.startswith("hf:"):
        return source
    owner, _, remainder = source.removeprefix("hf:").partition("/")
    repository, _, path = remainder.partition("/")
    repository, _, revision = repository.partition("@")
    if not (owner and repository and path):
        raise ModelError(f"{source} is not a Hugging Face id of a file; write hf:owner/repository[@revision]/file.zip.")
    parts = [urllib.parse.quote(p) for p in (owner, repository, "resolve", revision or "main", path)]
    return "/".join([os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"), *parts])


def verify(name_or_folder: str | os.PathLike[str]) -> ModelInfo:
    """Check that a model loads and, where it was added by `add`, that no file of it has changed since.

    Raises
    ------
    ModelError
        If files changed, are missing or are new (the message names them), or the model does not load.
    """
    folder = find(name_or_folder)
    if (folder / bundle.RECORD).is_file():
        expected = bundle.read_json(folder / bundle.RECORD).get("files")
        actual = _sums(folder)
        if not isinstance(expected, dict):
            raise ModelError(f"{folder / bundle.RECORD} is damaged; remove the model and add it again.")
        changed = sorted(k for k in expected.keys() | actual.keys() if expected.get(k) != actual.get(k))
        if changed:
            raise ModelError(
                f"{folder}: {how_many(len(changed), 'file is not as it was', 'files are not as they were')} installed "
                f"({some(changed)}); remove the model "
                "and add it again."
            )
    return load_model(folder).info


def remove(name: str) -> Path:
    """Remove a model of the user's; returns the folder that is gone.

    Raises
    ------
    ModelError
        If there is no such model, or it ships with the package or lies elsewhere.
    """
    folder, root = find(name), user_folder().resolve()
    if folder.resolve().parent != root:
        raise ModelError(f"{folder} does not lie in {root}, so it is not removed; only models that were added are.")
    with tempfile.TemporaryDirectory(dir=root, prefix=".removing-") as place:
        os.replace(folder, Path(place) / folder.name)
    return folder


# -- getting it ------------------------------------------------------------------------------------------------------
def _checked_sum(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    text = sha256.strip().lower().removeprefix("sha256:")
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ModelError(f"{sha256[:80]!r} is not a SHA-256, which has 64 hexadecimal digits.")
    return text


def _checked_name(name: str) -> str:
    if not name or name.startswith(".") or not all(c.isalnum() or c in "._-" for c in name) or len(name) > 80:
        raise ModelError(f"{name[:80]!r} cannot be the name of a model folder; use letters, digits, '.', '_' and '-'.")
    return name


def _last_name(source: str) -> str:
    """The name of a folder, file or URL, without ``.zip``."""
    path = urllib.parse.urlsplit(source).path if "://" in source else Path(source).resolve().as_posix()
    return PurePosixPath(path).name.removesuffix(".zip")


def _compare(path: Path, expected_sum: str, source: str) -> None:
    digest = _sum(path)
    if digest != expected_sum:
        raise ModelError(
            f"{source} has the SHA-256 {digest}, not {expected_sum}: it is damaged or another file. Nothing was installed."
        )


@contextmanager
def _downloading(root: Path, expected_sum: str, cancelled: Cancelled | None) -> Iterator[None]:
    """Download and install a file alone: another process or thread that does so waits, so that no two write one ``.part`` file."""
    path = root / _DOWNLOADS / f"{expected_sum}.lock"
    lock = FileLock(path, thread_local=False)
    while not lock.is_locked:
        check(cancelled)
        with suppress(Timeout, FileNotFoundError):  # it is held, or its folder was just removed
            path.parent.mkdir(exist_ok=True)
            lock.acquire(timeout=_POLL, poll_interval=_POLL / 4)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()
        with suppress(OSError):
            path.parent.rmdir()


def _refuse_twice(root: Path, expected_sum: str) -> None:
    """Refuse to download again what was installed under its own name, maybe by another process just now."""
    for noted in root.glob(f"*/{bundle.RECORD}"):
        folder = noted.parent
        if bundle.read_json(noted).get("sha256") == expected_sum and read_info(folder).name == folder.name:
            raise _is_there(folder)


def _is_there(target: Path) -> ModelError:
    return ModelError(f"There is a model in {target} already; remove it first, or give another name (name=, --rename).")


def _download(url: str, expected_sum: str, root: Path, progress: Progress | None, cancelled: Cancelled | None) -> Path:
    """The file at `url`, by way of a ``.part`` file named by its SHA-256, from where an earlier download stopped."""
    folder = root / _DOWNLOADS
    complete, part = folder / f"{expected_sum}.zip", folder / f"{expected_sum}.part"
    if not complete.is_file():
        _fetch(url, part, progress, cancelled)
        try:
            _compare(part, expected_sum, url)
        except ModelError:
            part.unlink()
            raise
        os.replace(part, complete)
    return complete


def _discard(archive: Path) -> None:
    """Remove a download that was unpacked or refused."""
    with suppress(OSError):
        archive.unlink()


def _fetch(url: str, part: Path, progress: Progress | None, cancelled: Cancelled | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            if urllib.parse.urlsplit(answer.geturl()).scheme not in ("http", "https"):
                raise ModelError(f"{url} leads to another kind of address; it is refused.")
            goes_on = answer.status == 206 and _starts_at(answer.headers.get("Content-Range"), have)
            have = have if goes_on else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else 0
            if total > _MOST_BYTES:
                raise ModelError(f"{url} is {total >> 20} MiB; more than {_MOST_BYTES >> 20} MiB is refused.")
            with part.open("ab" if goes_on else "wb") as file:
                while block := answer.read(_BLOCK):
                    check(cancelled)
                    file.write(block)
                    have += len(block)
                    if have > _MOST_BYTES:
                        raise ModelError(f"{url} does not end; more than {_MOST_BYTES >> 20} MiB is refused.")
                    if progress is not None:
                        progress(have, max(total, have), "downloading")
            if total and have < total:
                raise ModelError(
                    f"{url} broke off after {have:,} of {total:,} bytes; add it again to continue from there."
                )
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the whole file is there already
            return
        raise ModelError(f"{url} could not be downloaded: the server says {error.code} {error.reason}.") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(
            f"{url} could not be downloaded: {reason}. Add it again to continue from where it stopped."
        ) from None


def _starts_at(content_range: str | None, have: int) -> bool:
    return content_range is not None and content_range.strip().startswith(f"bytes {have}-")


# -- unpacking it ----------------------------------------------------------------------------------------------------
def _unpack(archive: Path, out: Path, cancelled: Cancelled | None) -> None:
    """Unpack a zip file without leaving `out`: plain files and folders only, no links, no more than it says."""
    try:
        with zipfile.ZipFile(archive) as z:
            entries = z.infolist()
            if len(entries) > _MOST_FILES or sum(e.file_size for e in entries) > _MOST_BYTES:
                raise ModelError(f"{archive} holds more files or bytes than a model needs; it is refused.")
            for entry in entries:
                check(cancelled)
                target = _inside(entry, out, archive)
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                if entry.file_size > 1 << 20 and entry.file_size > _MOST_RATIO * max(1, entry.compress_size):
                    raise ModelError(f"{archive}: {entry.filename[:80]!r} unpacks far too large; it is refused.")
                target.parent.mkdir(parents=True, exist_ok=True)
                with z.open(entry) as source, target.open("wb") as file:
                    _copy_blocks(source, file, entry, archive)
    except (*_BROKEN, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _NO_PLACE:
            raise
        raise ModelError(f"{archive} is not a whole zip file ({error}); get it again.") from None


def _copy_blocks(source: object, file: object, entry: zipfile.ZipInfo, archive: Path) -> None:
    written = 0
    while block := source.read(_BLOCK):  # type: ignore[attr-defined]
        written += len(block)
        if written > entry.file_size:
            raise ModelError(f"{archive}: {entry.filename[:80]!r} is longer than it says; it is refused.")
        file.write(block)  # type: ignore[attr-defined]


def _inside(entry: zipfile.ZipInfo, out: Path, archive: Path) -> Path:
    name = entry.filename
    path = PurePosixPath(name)
    linked = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name or linked:
        raise ModelError(f"{archive} holds {name[:80]!r}, which would be written outside its folder; it is refused.")
    return out.joinpath(*path.parts)


def _copy(source: Path, out: Path, cancelled: Cancelled | None) -> None:
    """The parts of a bundle folder that make a model; links are refused, since they may lead anywhere."""
    for part in _PARTS:
        for path in [source / part, *sorted((source / part).rglob("*"))]:
            check(cancelled)
            if path.is_symlink():
                raise ModelError(f"{path} is a link, which may lead anywhere; put the file itself there.")
            target = out / path.relative_to(source)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def _bundle_root(staging: Path, source: str) -> Path:
    """The folder that is the bundle: what was unpacked, or the only folder in it."""
    inside = [p for p in staging.iterdir() if p.name != "__MACOSX"] if staging.is_dir() else []
    for candidate in (staging, *(inside if len(inside) == 1 else [])):
        if (candidate / bundle.METADATA).is_file():
            return candidate
    raise ModelError(f"{source} holds no model bundle: there is no {bundle.METADATA} in it. Nothing was installed.")


# -- knowing it again ------------------------------------------------------------------------------------------------
def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != bundle.RECORD.name)
    return {p.relative_to(folder).as_posix(): _sum(p) for p in files}
