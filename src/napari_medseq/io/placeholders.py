"""Placeholders of files that have not been downloaded: git-annex (DataLad) links, Git LFS pointers and dangling
links.

Each is named for what it is, with the command that fetches its content; files of one folder share a line.
Sources: git-annex "pointer file" documentation (links into ``.git/annex/objects``, unlocked files that begin with
``/annex/objects/``), the Git LFS pointer specification (``version https://git-lfs.github.com/spec/v1``).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Placeholder = Literal["annex", "lfs", "link"]
#: A pointer is a line or three of text; git-annex allows 32 KiB.
_LONGEST_POINTER = 32768
_LFS = (b"version https://git-lfs.github.com/", b"version https://hawser.github.com/", b"version http://git-media.io/")


def placeholder(path: Path) -> Placeholder | None:
    """The content that a file stands for; None if it is not a placeholder."""
    try:
        if path.is_symlink() and not path.exists():
            target = os.readlink(path).replace("\\", "/")
            return "annex" if "annex/objects/" in target else "link"
        if not path.is_file() or path.stat().st_size > _LONGEST_POINTER:
            return None
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError:
        return None
    if start.startswith(_LFS):
        return "lfs"
    first_line = start.split(b"\n", 1)[0].replace(b"\\", b"/")
    is_path = first_line.startswith((b"/annex/objects/", b"../", b".git/")) and b"annex/objects/" in first_line
    return "annex" if is_path else None


def described(files: Iterable[tuple[Path, Placeholder]]) -> list[str]:
    """One line for each folder and sort of placeholder: what they are and how to fetch what they stand for."""
    groups: dict[tuple[Path, Placeholder], list[Path]] = defaultdict(list)
    for path, sort in files:
        groups[path.parent, sort].append(path)
    return [_line(folder, sort, paths) for (folder, sort), paths in groups.items()]


def _line(folder: Path, sort: Placeholder, paths: list[Path]) -> str:
    alone = len(paths) == 1
    where = str(paths[0]) if alone else f"{folder}: {len(paths)} files ({paths[0].name}, …)"
    subject = f"{where}: this is" if alone else f"{where} are"
    shown_path = paths[0].name if alone else "."
    if sort == "annex":
        return (
            f"{subject} a link of git-annex (DataLad), and the content is not here; fetch it in {folder} with "
            f"'datalad get {shown_path}' or 'git annex get {shown_path}'."
        )
    if sort == "lfs":
        return (
            f"{subject} a pointer of Git LFS, and the content is not here; fetch it in {folder} with "
            f"'git lfs pull' (after 'git lfs install')."
        )
    try:
        target = os.readlink(paths[0])
    except OSError:
        target = "a place"
    return f"{subject} a link to {target}, which does not exist; copy the files that it points to, or mend the link."
