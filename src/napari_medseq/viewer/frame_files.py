"""A sequence that lies as numbered pictures in a folder (``frames/0001.jpg`` …) is one layer in the viewer, not one for each picture."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from napari_medseq import io
from napari_medseq.io.files import walk
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence, Study, Visit

#: formats of single pictures, as their sequences name them
_FORMATS = ("PNG", "JPG", "JPEG", "BMP")
#: files beside frames that say something of them
_BESIDE = (".txt", ".md", ".csv", ".tsv", ".json", ".xml")
#: fewer numbered pictures may be no sequence
_FEWEST = 3
_DOUBT = (
    "These pictures were taken for frames of one sequence, by their numbers. They do not say when they were taken: the number in the name "
    "counts as seconds."
)


def open_study(
    folder: str | os.PathLike[str],
    *,
    lazy: bool | Literal["auto"] = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Study:
    """A patient's folder as `ms.read_study` opens it; numbered pictures, and labels of their kind beside them, as frames.

    Parameters
    ----------
    folder : path
    lazy : bool or "auto"
        As `ms.read` takes it.
    progress, cancelled : callable, optional

    Raises
    ------
    ReadError
        If the folder is missing or holds no image.
    OperationCancelled
        When `cancelled` says so.
    """
    path = Path(folder)
    if path.is_dir() and _holds_frames(path):  # folders of frames are no visits: labels lie in another beside them
        sequences = as_frames(io.read(path, lazy=lazy, progress=progress, cancelled=cancelled))
        images = tuple(seq for seq in sequences if seq.kind == "image")
        labels = tuple(seq for seq in sequences if seq.kind == "labels")
        return Study(path.name, (Visit(None, images, labels, path.name),))
    study = io.read_study(folder, lazy=lazy, progress=progress, cancelled=cancelled)
    visits = (replace(v, images=tuple(as_frames(v.images)), labels=tuple(as_frames(v.labels))) for v in study.visits)
    return replace(study, visits=tuple(visits))


def as_frames(sequences: Sequence[ImageSequence]) -> list[ImageSequence]:
    """Sequences, of which pictures of one folder, size and kind, called alike but for a number, are one sequence of frames.

    Parameters
    ----------
    sequences : sequence of ImageSequence

    Returns
    -------
    list of ImageSequence
        In their order; frames stand where the first of them stood, named after their folder.
    """
    groups: dict[object, list[tuple[int, ImageSequence]]] = {}
    for place, seq in enumerate(sequences):
        at = _place(seq)
        key: object = place if at is None else (at[:2], seq.kind, seq.axes, seq.data.shape)
        groups.setdefault(key, []).append((0 if at is None else at[2], seq))
    out: list[ImageSequence] = []
    for members in groups.values():
        numbers = [number for number, _ in members]
        enough = len(members) >= _FEWEST and len(set(numbers)) == len(numbers)
        out += [_stacked(sorted(members, key=lambda one: one[0]))] if enough else [seq for _, seq in members]
    return out


def _stacked(members: Sequence[tuple[int, ImageSequence]]) -> ImageSequence:
    first = members[0][1]
    numbers = np.array([number for number, _ in members], dtype=np.float64)
    names = {value: name for _, seq in members for value, name in seq.label_names.items()}
    data = np.stack([np.asarray(seq.data) for _, seq in members])
    folder = Path(str(first.meta["source"])).parent
    meta = {key: value for key, value in first.meta.items() if key not in ("source", "stored")}  # of one picture alone
    return first.replace(
        data=data, axes=("t", *first.axes), times=numbers - numbers[0], name=folder.name, label_names=names, meta=meta,
        warnings=tuple(dict.fromkeys([w for _, seq in members for w in seq.warnings] + [_DOUBT])),
    )  # fmt: skip


def _holds_frames(folder: Path) -> bool:
    """Whether a folder holds numbered pictures alone, by their names; nothing is read."""
    counts: Counter[tuple[Path, str]] = Counter()
    for file in walk(folder):
        if file.suffix.lower() not in _BESIDE:
            place = _numbered(file)
            if place is None or file.suffix.upper().lstrip(".") not in _FORMATS:
                return False
            counts[place[:2]] += 1
    return bool(counts) and min(counts.values()) >= _FEWEST


def _is_picture(seq: ImageSequence) -> bool:
    return seq.meta.get("format") in _FORMATS and "t" not in seq.axes and "z" not in seq.axes


def _place(seq: ImageSequence) -> tuple[Path, str, int] | None:
    """Folder, name without the number, and number of a numbered picture."""
    return _numbered(Path(str(seq.meta.get("source", "")))) if _is_picture(seq) else None


def _numbered(path: Path) -> tuple[Path, str, int] | None:
    match = re.fullmatch(r"(.*?)(\d+)", path.stem)
    return None if match is None else (path.parent, match[1], int(match[2]))
