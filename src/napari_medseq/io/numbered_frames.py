"""Numbered pictures in a folder (``frames/0001.jpg`` …) are the frames of one sequence, not an image each.

Pictures belong together if they lie in one folder, have one size and kind, and their names differ only in a number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from napari_medseq.errors import ReadError
from napari_medseq.io.files import walk
from napari_medseq.io.formats.reader import Facts
from napari_medseq.sequence import ImageSequence

Item = TypeVar("Item")
#: the folder, the name without its number, and the number of a file
Numbered = tuple[Path, str, int]

#: endings of single pictures, which their sequences have as format
_FORMATS = ("PNG", "JPG", "JPEG", "BMP")
#: endings of files beside frames that describe them
_BESIDE = (".txt", ".md", ".csv", ".tsv", ".json", ".xml")
#: fewer numbered pictures may be single images
_FEWEST = 3
_DOUBT = (
    "These pictures were taken for frames of one sequence, by their numbers. They do not state when they were taken: the number in "
    "the name counts as seconds."
)


def as_frames(sequences: Sequence[ImageSequence]) -> list[ImageSequence]:
    """Join numbered pictures into sequences of frames.

    Parameters
    ----------
    sequences : sequence of ImageSequence

    Returns
    -------
    list of ImageSequence
        In their order. A sequence of frames has the place of its first picture and the name of its folder; its times are
        the numbers, in seconds from the first, and it carries a warning. All other sequences are unchanged.
    """
    out: list[ImageSequence] = []
    for members in _grouped(sequences, _numbered_picture, lambda seq: (seq.kind, seq.axes, seq.data.shape)):
        if len(members) == 1:
            out += [seq for _, seq in members]
            continue
        numbers = np.array([number for number, _ in members], dtype=np.float64)
        pictures = [seq for _, seq in members]
        frames = stack_frames(pictures, numbers - numbers[0], Path(str(pictures[0].meta["source"])).parent.name)
        out.append(frames.replace(warnings=(*frames.warnings, _DOUBT)))
    return out


def facts_of_frames(facts: Sequence[Facts]) -> list[Facts]:
    """The facts of files, with those of numbered pictures joined as `as_frames` joins the pictures themselves."""
    out: list[Facts] = []
    for members in _grouped(facts, _numbered_facts, lambda one: (one.kind, one.shape)):
        first = members[0][1]
        if len(members) > 1:
            folder = Path(first.source).parent
            doubts = dict.fromkeys([w for _, one in members for w in one.warnings] + [_DOUBT])
            shape = (*first.shape, 1, len(members))
            first = replace(
                first, name=folder.name, source=str(folder), shape=shape, frames=len(members), warnings=tuple(doubts)
            )
        out.append(first)
    return out


def holds_frames(folder: Path) -> bool:
    """Whether a folder holds numbered pictures only, judged by their names; no file is read."""
    counts: Counter[tuple[Path, str]] = Counter()
    for file in walk(folder):
        if file.suffix.lower() not in _BESIDE:
            numbered = _numbered(file)
            if numbered is None or file.suffix.upper().lstrip(".") not in _FORMATS:
                return False
            counts[numbered[:2]] += 1
    return bool(counts) and min(counts.values()) >= _FEWEST


def stack_frames(pictures: Sequence[ImageSequence], times: ArrayLike, name: str) -> ImageSequence:
    """Pictures, or single slices, as the frames of one sequence.

    Parameters
    ----------
    pictures : sequence of ImageSequence
        One per frame, all of the same axes and shape; an axis ``z`` must have length 1, and is left out.
    times : array_like, shape (frames,)
        Seconds from the first frame.
    name : str

    Returns
    -------
    ImageSequence
        Axes ``t``, ``y``, ``x`` and for colours ``c``, with the label names and the warnings of all pictures.

    Raises
    ------
    ReadError
        If the pictures differ in axes or shape.
    """
    first = pictures[0]
    for picture in pictures:
        if (picture.axes, picture.data.shape) != (first.axes, first.data.shape) or picture.sizes.get("z", 1) != 1:
            raise ReadError(
                f"{picture.name} cannot be a frame beside {first.name}: the frames of one sequence are pictures of one size."
            )
    axes = tuple(a for a in first.axes if a != "z")
    frames = [np.asarray(p.data).reshape([p.size(a) for a in axes]) for p in pictures]
    meta = {key: value for key, value in first.meta.items() if key not in ("source", "stored")}  # of one picture only
    return first.replace(
        data=np.stack(frames),
        axes=("t", *axes),
        times=np.asarray(times, dtype=np.float64),
        name=name,
        label_names={value: label for p in pictures for value, label in p.label_names.items()},
        meta=meta,
        warnings=tuple(dict.fromkeys(w for p in pictures for w in p.warnings)),
    )


def _grouped(
    items: Iterable[Item], numbered: Callable[[Item], Numbered | None], alike: Callable[[Item], Hashable]
) -> list[list[tuple[int, Item]]]:
    """Items in groups of frames, by number, in the order of each group's first item; all others are groups of one."""
    groups: dict[Hashable, list[tuple[int, Item]]] = {}
    for place, item in enumerate(items):
        at = numbered(item)
        key: Hashable = place if at is None else (at[:2], alike(item))
        groups.setdefault(key, []).append((0 if at is None else at[2], item))
    out: list[list[tuple[int, Item]]] = []
    for members in groups.values():
        enough = len(members) >= _FEWEST and len({number for number, _ in members}) == len(members)
        out += [sorted(members, key=lambda one: one[0])] if enough else [[one] for one in members]
    return out


def _numbered_picture(seq: ImageSequence) -> Numbered | None:
    single = seq.meta.get("format") in _FORMATS and "t" not in seq.axes and "z" not in seq.axes
    return _numbered(Path(str(seq.meta.get("source", "")))) if single else None


def _numbered_facts(facts: Facts) -> Numbered | None:
    path = Path(facts.source)
    return _numbered(path) if path.suffix.upper().lstrip(".") in _FORMATS and facts.frames is None else None


def _numbered(path: Path) -> Numbered | None:
    match = re.fullmatch(r"(.*?)(\d+)", path.stem)
    return None if match is None else (path.parent, match[1], int(match[2]))
