"""The record of a result: what went in, what it was made with, so that it can be made again.

Plain dictionaries and one JSON file, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_medseq.errors import ReadError, WriteError

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
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's files with their relative names, in sorted order."""
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(file.relative_to(path).as_posix().encode() + b"\0" + sha256(file).encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(blocks: Iterable[bytes]) -> str:
    """SHA-256 of bytes in memory."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> Path:
    """Write a text file whole or not at all: a temporary name first, then moved into place.

    Raises
    ------
    WriteError
        If the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WriteError(
            f"{path} could not be written: {error.strerror or error}. Choose a folder you may write to."
        ) from None
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a mapping as indented JSON, whole or not at all."""
    return write_text(path, json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises
    ------
    ReadError
        If the file is not there or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path} is no readable record ({error}); name the run.json of a result folder.") from None
    if not isinstance(content, dict):
        raise ReadError(f"{path} holds no JSON object; name the run.json of a result folder.")
    return content
