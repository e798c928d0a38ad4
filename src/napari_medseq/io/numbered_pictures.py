"""Numbered pictures in a folder are one sequence, not an image each: ``frames/0001.jpg`` … the frames of a video, and grey TIFF files
(``scan/slice_0001.tif`` …) the slices of a volume, as micro-CT and light-sheet microscopes write them.

Pictures belong together if they lie in one folder, have one size and kind, and their names differ only in a number that is neither a date
nor the number of a visit (``P1_20200131.png``, ``P1_month6.png``). The numbers of slices must also be evenly spaced, without a gap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from napari_medseq.errors import ReadError
from napari_medseq.io import naming
from napari_medseq.io.files import walk
from napari_medseq.io.formats.colours import COLOURS
from napari_medseq.io.formats.reader import Facts
from napari_medseq.io.visit_order import ends_like_visit
from napari_medseq.sequence import ImageSequence

Item = TypeVar("Item")

#: the axis along which single pictures of a format follow each other
_ALONG: dict[str, Literal["t", "z"]] = {"PNG": "t", "JPG": "t", "JPEG": "t", "BMP": "t", "TIF": "z", "TIFF": "z"}
#: endings of files beside frames that describe them
_BESIDE = (".txt", ".md", ".csv", ".tsv", ".json", ".xml")
#: fewer numbered pictures may be single images
_FEWEST = 3
_DOUBT = (
    "These pictures were taken for frames of one sequence, by their numbers. They do not state when they were taken: the number in "
    "the name counts as seconds."
)
_DOUBT_SLICES = (
    "These pictures were taken for slices of one volume, by their numbers. They do not state how far apart they lie: as far as their "
    "pixels."
)


class Numbered(NamedTuple):
    """The folder of a picture, its name without the number, the axis along which such pictures follow each other, and the number."""

    folder: Path
    name: str
    along: Literal["t", "z"]
    number: int


def as_sequences(sequences: Sequence[ImageSequence]) -> list[ImageSequence]:
    """Join numbered pictures into sequences of frames or slices.

    Parameters
    ----------
    sequences : sequence of ImageSequence

    Returns
    -------
    list of ImageSequence
        In their order. A joined sequence has the place of its first picture and the name of its folder, and carries a warning. The
        times of frames are the numbers, in seconds from the first; slices lie as far apart as the pixels of a column. All other
        sequences are unchanged.
    """
    out: list[ImageSequence] = []
    for members in _grouped(sequences, _numbered_picture, _alike):
        if len(members) == 1:
            out += [seq for _, seq in members]
            continue
        numbers = np.array([at.number for at, _ in members if at is not None], dtype=np.float64)
        pictures = _of_one_colour([seq for _, seq in members])
        first = members[0][0]
        assert first is not None  # groups of several hold numbered pictures only
        joined = stack(pictures, numbers - numbers[0], first.folder.name)
        out.append(joined.replace(warnings=(*joined.warnings, _DOUBT_SLICES if first.along == "z" else _DOUBT)))
    return out


def facts_of_sequences(facts: Sequence[Facts]) -> list[Facts]:
    """The facts of files, with those of numbered pictures joined as `as_sequences` joins the pictures themselves."""
    out: list[Facts] = []
    for members in _grouped(facts, _numbered_facts, lambda one: (one.kind, one.shape)):
        at, first = members[0]
        if at is not None and at.along == "z" and len(members) > 1 and _is_coloured(first):
            out += [one for _, one in members]
            continue
        if at is not None and len(members) > 1:
            slices = at.along == "z"
            doubts = dict.fromkeys(
                [w for _, one in members for w in one.warnings] + [_DOUBT_SLICES if slices else _DOUBT]
            )
            first = replace(
                first,
                name=at.folder.name,
                source=str(at.folder),
                shape=(*first.shape, len(members)) if slices else (*first.shape, 1, len(members)),
                spacing_mm=(*first.spacing_mm[:2], first.spacing_mm[1])
                if slices and first.spacing_mm
                else first.spacing_mm,
                frames=None if slices else len(members),
                warnings=tuple(doubts),
            )
        out.append(first)
    return out


def holds_sequences(folder: Path) -> bool:
    """Whether a folder holds numbered pictures only that belong together, judged by their names; no file is read."""
    groups: dict[Hashable, list[Numbered]] = {}
    for file in walk(folder):
        if file.suffix.lower() not in _BESIDE:
            at = _numbered(file)
            if at is None:
                return False
            groups.setdefault(at[:3], []).append(at)
    return bool(groups) and all(_belong_together(group) for group in groups.values())


def stack(pictures: Sequence[ImageSequence], times: ArrayLike, name: str) -> ImageSequence:
    """Single pictures as the slices of a volume where they are grey TIFF files, else as frames (`stack_frames`).

    Slices lie as far apart as the pixels of a column.
    """
    frames, first = stack_frames(pictures, times, name), pictures[0]
    if first.meta.get("format") != "TIFF" or "c" in first.axes:
        return frames
    affine = frames.affine.copy()
    affine[:3, 2] *= np.linalg.norm(affine[:3, 1]) / np.linalg.norm(affine[:3, 2])
    return frames.replace(axes=("z", *frames.axes[1:]), times=None, affine=affine)


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
) -> list[list[tuple[Numbered | None, Item]]]:
    """Items in groups of pictures, by number, in the order of each group's first item; all others are groups of one."""
    groups: dict[Hashable, list[tuple[Numbered | None, Item]]] = {}
    for place, item in enumerate(items):
        at = numbered(item)
        key: Hashable = place if at is None else (at[:3], alike(item))
        groups.setdefault(key, []).append((at, item))
    out: list[list[tuple[Numbered | None, Item]]] = []
    for members in groups.values():
        together = _belong_together([at for at, _ in members if at is not None])
        out += [sorted(members, key=lambda one: one[0] or ())] if together else [[one] for one in members]
    return out


def _belong_together(group: Sequence[Numbered]) -> bool:
    """Whether pictures whose names differ only in a number are one sequence: enough of them, and of slices none is missing."""
    numbers = sorted(at.number for at in group)
    steps = set(np.diff(numbers).tolist())
    return len(numbers) >= _FEWEST and 0 not in steps and (group[0].along == "t" or len(steps) == 1)


def _alike(seq: ImageSequence) -> Hashable:
    """What pictures of one sequence have in common; a grey frame among coloured ones is one of them, such as a black one."""
    return seq.kind, seq.size("y"), seq.size("x"), seq.sizes.get("c", 1) > COLOURS


def _of_one_colour(pictures: list[ImageSequence]) -> list[ImageSequence]:
    """The pictures, the grey ones as red, green and blue where others are in colour."""
    coloured = next((p for p in pictures if "c" in p.axes), None)
    if coloured is None:
        return pictures
    n = coloured.size("c")
    return [
        p if "c" in p.axes else p.replace(data=np.stack([np.asarray(p.data)] * n, -1), axes=(*p.axes, "c"))
        for p in pictures
    ]


def _is_coloured(facts: Facts) -> bool:
    """Whether the first picture of a group is in colour, which is no slice; one that is stored so may be grey."""
    if not facts.stored_in_colour:
        return False
    from napari_medseq.io.formats import tiff

    return "c" in tiff.read(Path(facts.source))[0].axes


def _numbered_picture(seq: ImageSequence) -> Numbered | None:
    at = _numbered(Path(str(seq.meta.get("source", ""))))
    single = seq.meta.get("format") in _ALONG and "t" not in seq.axes and "z" not in seq.axes
    return at if at is not None and single and (at.along == "t" or "c" not in seq.axes) else None


def _numbered_facts(facts: Facts) -> Numbered | None:
    return _numbered(Path(facts.source)) if facts.frames is None and len(facts.shape) == 2 else None


def _numbered(path: Path) -> Numbered | None:
    match, along = re.fullmatch(r"(.*?)(\d+)", path.stem), _ALONG.get(path.suffix.upper().lstrip("."))
    if match is None or along is None or ends_like_visit(match[1]):
        return None
    if (
        naming.date_in(path.stem) is not None and naming.date_in(match[1]) is None
    ):  # the number is a day, or a part of one
        return None
    return Numbered(path.parent, match[1], along, int(match[2]))
