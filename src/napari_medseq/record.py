"""The record of a result: what went in, what it was made with, so that it can be made again.

Plain dictionaries and one JSON file, ``run.json``, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq import files
from napari_medseq.errors import ReadError

if TYPE_CHECKING:
    from napari_medseq.sequence import ImageSequence

#: stands on every plot, report and panel
DISCLAIMER = "Research software, not a medical device."

#: whose versions decide a result
PACKAGES = (
    "napari-medseq",
    "numpy",
    "scipy",
    "torch",
    "monai",
    "SimpleITK",
    "nibabel",
    "pydicom",
    "pandas",
    "scikit-image",
)


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that decide a result."""
    return {"python": sys.version.split()[0], "platform": platform.platform(), **_installed()}


@cache
def _installed() -> Mapping[str, str]:
    """Versions of the packages, looked up once: it takes the time of a small patient."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's files with their relative names, in sorted order."""
    path = Path(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(file.relative_to(path).as_posix().encode() + b"\0" + sha256(file).encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(blocks: Iterable[bytes]) -> str:
    """SHA-256 of bytes in memory."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def sha256_of_image(image: ImageSequence) -> str:
    """SHA-256 of the file or folder that an image came from, else of its voxels."""
    source = image.meta.get("source")
    if isinstance(source, str) and Path(source).exists():
        return sha256(source)
    return sha256_of([image.compute().data.tobytes()])


def source_of(image: ImageSequence) -> str | None:
    """The whole path of the file or folder that an image came from, by which it is found from any other folder."""
    source = image.meta.get("source")
    return str(Path(source).absolute()) if isinstance(source, str) else None


def write_run(path: Path, content: Mapping[str, object]) -> Path:
    """Write a ``run.json``: `content`, and the versions of what it was made with, whole or not at all.

    Raises
    ------
    WriteError
        If the folder cannot be written to.
    """
    return files.write_json(path, {"versions": versions(), **content})


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object, such as what `write_run` wrote.

    Raises
    ------
    ReadError
        If the file is not there or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path} is not a readable record ({error}); name the run.json of a result folder.") from None
    if not isinstance(content, dict):
        raise ReadError(f"{path} holds no JSON object; name the run.json of a result folder.")
    return content
