"""Videos, each with a folder of label frames: ``clip.mp4`` and ``clip_labels/0012.png``, or ``labels/clip/0012.png``."""

from __future__ import annotations

import re
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.io.naming import stem
from napari_medseq.training.layouts.entries import PICTURES, Entry, Layout, files_in
from napari_medseq.training.layouts.folders import is_plain, labels_in, part_of
from napari_medseq.training.layouts.names import core_of_labels
from napari_medseq.wording import how_many, some

_VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".mpg", ".mpeg", ".webm", ".wmv")
_PLAIN = ("video", "videos", "clips", "movies")


def of_videos(folder: Path) -> Layout:
    """A case for each video that has label frames; none without.

    Raises
    ------
    SettingsError
        If the names of label frames do not number them.
    """
    videos = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in _VIDEOS and not p.name.startswith(".")]
    entries: list[Entry] = []
    without: list[str] = []
    for video in videos:
        alone = sum(v.parent == video.parent for v in videos) == 1
        place = _labels_of(video, alone=alone)
        inside = video.relative_to(folder)
        if place is None:
            without.append(inside.as_posix())
            continue
        numbered = sorted(_numbered(place))
        above = inside.parts[:-1]
        patient = next((p for p in above if not is_plain(p) and not part_of(p) and p.lower() not in _PLAIN), "")
        entries.append(
            Entry(
                patient,
                "/".join(above) if alone and patient else "/".join((*above, stem(video))),
                {"image": (video,)},
                tuple(p for _, p in numbered),
                next(filter(None, map(part_of, above)), ""),
                at=tuple(number for number, _ in numbered),
            )
        )
    doubts = (
        [f"{how_many(len(without), 'video has', 'videos have')} no folder of label frames, left out: {some(without)}"]
        if without
        else []
    )
    if entries and not any(0 in e.at for e in entries):
        doubts.append(
            f"the numbers of label frames ({entries[0].labels[0].name}, …) are taken to count from 0, the first frame of a video; if yours "
            "count from 1, as ffmpeg's do, rename them"
        )
    return Layout("videos with label frames", tuple(entries), ("image",), doubts=tuple(doubts))


def _labels_of(video: Path, *, alone: bool) -> Path | None:
    """The folder that holds the label frames of a video."""
    name = stem(video)
    beside = [p for p in sorted(video.parent.iterdir()) if p.is_dir() and p.name != name]
    candidates = [p for p in beside if core_of_labels(p.name) == name.lower()]
    for base in (video.parent, video.parent.parent):
        common = labels_in(base)
        if common is not None:
            candidates += [common / name, *([common] if alone and base == video.parent else [])]
    return next((p for p in candidates if p.is_dir() and files_in(p, PICTURES)), None)


def _numbered(place: Path) -> list[tuple[int, Path]]:
    """The pictures of a folder, each with the last number in its name."""
    files = files_in(place, PICTURES)
    digits = {p: re.findall(r"\d+", stem(p)) for p in files}
    numbers = [int(found[-1]) for found in digits.values() if found]
    if len(numbers) < len(files) or len(set(numbers)) < len(numbers):
        raise SettingsError(
            f"{place}: the names of label frames must end in the number of their frame, each another ({some([p.name for p in files])})."
        )
    return list(zip(numbers, files, strict=True))
