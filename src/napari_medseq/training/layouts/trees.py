"""Trees in which labels lie beside their images: study folders, BIDS with derivatives, and others in which names show what belongs
together.

Labels are one file per image, or a folder with one file per structure (as TotalSegmentator has them).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.io.naming import names_labels, stem
from napari_medseq.training.layouts.entries import PICTURES, VOLUMES, Entry, Layout
from napari_medseq.training.layouts.folders import is_plain, part_of
from napari_medseq.training.layouts.names import core_of_image, core_of_labels
from napari_medseq.wording import some

#: BIDS entities that only the name of something derived has
_OF_DERIVATIVES = frozenset(["space", "res", "den", "label", "desc", "atlas", "seg", "hemi"])


def of_tree(folder: Path, channels: Mapping[str, str] | None, labels: str | None) -> Layout:
    """The cases of a tree: one for each file of labels, or for each folder of structures."""
    everything = _all_files(folder)
    inside = {p: p.relative_to(folder) for p in everything}  # what the folder itself is called says nothing
    truths = [p for p in everything if (_matches(inside[p], labels) if labels else names_labels(inside[p]))]
    of_truths = set(truths)
    images = [p for p in everything if p not in of_truths and not names_labels(inside[p])]
    if labels is None and channels is None and (several := _structures(folder, truths, images)) is not None:
        return several
    known = _Images(images, folder)
    entries: list[Entry] = []
    doubts: list[str] = []
    used: list[str] = []
    for truth in truths:
        chosen = _images_of(truth, known, channels)
        if not chosen:
            doubts.append(f"{truth.relative_to(folder)} has no image that can be told to be its own")
            continue
        doubts += _several(truth, known, folder, chosen) if channels is None else []
        used += [c for c in chosen if c not in used]
        entries.append(
            Entry(
                _patient(truth, folder),
                _case(truth, folder),
                {c: (p,) for c, p in chosen.items()},
                (truth,),
                _split(truth, folder),
            )
        )
    if channels is None:
        _refuse_modalities(folder, entries)
    if len(entries) > 1 and len({e.labels[0].parent for e in entries}) == 1:  # one folder for all is no patient's own
        entries = [replace(e, patient="") for e in entries]
    order = tuple(channels) if channels is not None else tuple(used)
    entries, classes, joined = _joined(folder, entries)
    return Layout("labels beside their images", tuple(entries), order, classes, doubts=(*joined, *doubts[:20]))


def _matches(path: Path, pattern: str) -> bool:
    """Whether a file's name without its ending matches a pattern, or its path in the data set a pattern with a slash."""
    return fnmatchcase(path.as_posix() if "/" in pattern else stem(path), pattern)


def _joined(folder: Path, entries: Sequence[Entry]) -> tuple[list[Entry], dict[int, str], list[str]]:
    """The entries, those on one image as one with a class for each mask's name.

    Raises
    ------
    SettingsError
        If an image has several masks whose names are those of no other image's, or that are called the same.
    """
    groups: dict[tuple[tuple[str, tuple[Path, ...]], ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry.images.items()), []).append(entry)
    several = next((own for own in groups.values() if len(own) > 1), None)
    if several is None:
        return list(entries), {}, []
    names = {e.labels[0]: _structure(e) for e in entries}
    counts = Counter(names.values())
    own_names = [names[e.labels[0]] for e in several]
    image = next(iter(several[0].images.values()))[0].relative_to(folder)
    if len(groups) > 1 and max(counts[n] for n in own_names) == 1:
        raise SettingsError(
            f"{image} has several masks ({some([e.labels[0].name for e in several])}), whose names no other image has. Say which one "
            'is to be learned: labels="*pattern*" (--set labels=...).'
        )
    classes = {name: k for k, name in enumerate(sorted(counts), 1)}
    out = []
    for own in groups.values():
        _refuse_twins([e.labels[0].relative_to(folder) for e in own])
        masks = tuple(sorted(e.labels[0] for e in own))
        folders = own[0].case.rpartition("/")[0]
        case = own[0].case if len(own) == 1 else folders or stem(next(iter(own[0].images.values()))[0])
        out.append(replace(own[0], case=case, labels=masks, classes={stem(p): classes[names[p]] for p in masks}))
    if len({e.case for e in out}) < len(out):  # several images of a folder
        out = [replace(e, case=f"{e.case}/{stem(next(iter(e.images.values()))[0])}") for e in out]
    doubt = (
        f"images have several masks ({image}: {some(own_names)}): each name is a class of its own. If they are readers of the same thing, "
        'choose one: labels="*pattern*" (--labels for check, --set labels=... for train)'
    )
    return out, {k: name for name, k in classes.items()}, [doubt]


def _refuse_twins(masks: Sequence[Path]) -> None:
    """Refuse masks of one image that have the same name in different folders: only a person knows which of them counts.

    Raises
    ------
    SettingsError
    """
    name = next((n for n, count in Counter(m.name for m in masks).items() if count > 1), None)
    if name is None:
        return
    twins = sorted(m for m in masks if m.name == name)
    differ = next(k for k, parts in enumerate(zip(*(m.parts for m in twins), strict=False)) if len(set(parts)) > 1)
    pattern = f"{'*/' if differ else ''}{twins[0].parts[differ]}/*"
    raise SettingsError(
        f"There are several masks called {name} of one image: {some([m.as_posix() for m in twins])}. Say which is to be learned, "
        f'by its path: labels="{pattern}" (--labels for check, --set labels=... for train).'
    )


def _structure(entry: Entry) -> str:
    """What a mask shows, by its name without that of its image."""
    core, image = core_of_labels(stem(entry.labels[0]), keep_case=True), stem(next(iter(entry.images.values()))[0])
    shared = _entities(Path(image))
    tokens = [t for t in core.split("_") if not (m := re.match("([a-z]+)-", t)) or m[1] not in shared]
    if shared and 0 < len(tokens) < len(core.split("_")):  # BIDS: what is the image's own says nothing about the mask
        return "_".join(tokens)
    for name in (image, core_of_image(image)):
        if core.lower().startswith(name.lower()) and core[len(name) :].strip("-_. "):
            return core[len(name) :].strip("-_. ")
    return core


def _all_files(folder: Path) -> list[Path]:
    """Volumes; pictures if there is no volume."""
    everything = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    volumes = [p for p in everything if p.name.lower().endswith(VOLUMES)]
    return volumes or [p for p in everything if p.name.lower().endswith(PICTURES)]


def _patient(truth: Path, folder: Path) -> str:
    """The patient by BIDS, else the first folder whose name says more than what it holds or what it is for."""
    inside = truth.relative_to(folder).parts[:-1]
    bids = next((p for p in inside if p.startswith("sub-")), None)
    return bids or next((p for p in inside if not is_plain(p) and not part_of(p) and p != "derivatives"), "")


def _split(truth: Path, folder: Path) -> str:
    return next(filter(None, map(part_of, truth.relative_to(folder).parts[:-1])), "")


def _case(truth: Path, folder: Path) -> str:
    """The folders that lead to a case, and its name without words that only say that it holds labels."""
    inside = [p for p in truth.relative_to(folder).parts[:-1] if p != "derivatives"]
    name = core_of_labels(stem(truth), keep_case=True)
    alone = inside and is_plain(name) and sum(map(names_labels, truth.parent.iterdir())) == 1
    return "/".join(inside if alone else [*inside, name])


class _Images:
    """The images of a tree, put in order once, so that thousands of labels need not each look at thousands of images."""

    def __init__(self, images: Sequence[Path], root: Path) -> None:
        self._root = root
        self._groups: dict[Path | tuple[str, ...], list[Path]] = defaultdict(list)
        self._called: dict[tuple[Path | tuple[str, ...], str], list[Path]] = defaultdict(list)
        for path in images:
            groups: list[Path | tuple[str, ...]] = [_place(path, root)]
            if bids := _bids(path):
                groups.append(bids)
            for group in groups:
                self._groups[group].append(path)
                for name in {stem(path).lower(), core_of_image(stem(path))}:
                    self._called[group, name].append(path)

    def near(self, truth: Path) -> Sequence[Path]:
        """The images of the folder of its case; without any, those of its BIDS subject and session."""
        return self._groups.get(self._group(truth), ())

    def called(self, truth: Path, name: str) -> Sequence[Path]:
        """Those near it of this name, with or without a word that says image."""
        return self._called.get((self._group(truth), name), ())

    def of_subject(self, truth: Path) -> Sequence[Path]:
        """The images of its BIDS subject and session."""
        return self._groups.get(_bids(truth), ())

    def _group(self, truth: Path) -> Path | tuple[str, ...]:
        place = _place(truth, self._root)
        return place if place in self._groups else _bids(truth)


def _images_of(truth: Path, images: _Images, channels: Mapping[str, str] | None) -> dict[str, Path]:
    """The image, or the channels, that labels lie on."""
    near = images.near(truth)
    if channels is not None:
        return {n: q[0] for n, pattern in channels.items() if (q := [p for p in near if fnmatchcase(stem(p), pattern)])}
    core = core_of_labels(stem(truth))
    named = images.called(truth, core) or _before(truth, core, images)
    if named or len(near) == 1:
        return {"image": (named or near)[0]}
    label_files = [
        p for p in truth.parent.iterdir() if names_labels(p) and p.name.lower().endswith((*VOLUMES, *PICTURES))
    ]
    if len(label_files) > 1:
        return {}
    chosen: dict[str, Path] = {}
    for path in _of_same_run(truth, near):
        chosen.setdefault(_suffix(path), path)
    return chosen


def _before(truth: Path, core: str, images: _Images) -> list[Path]:
    """The image with whose name that of the labels begins (``case1_liver`` and ``case1``), the longest first."""
    for mark in reversed(list(re.finditer(r"[-_. ]", core))):
        name = core[: mark.start()]
        begins = [p for p in images.called(truth, name) if stem(p).lower() == name]
        if begins:
            return begins[:1]
    return []


def _of_same_run(truth: Path, images: Sequence[Path]) -> list[Path]:
    """The images without those whose BIDS name contradicts that of the labels, such as another run."""
    own = {k: v for k, v in _entities(truth).items() if k not in _OF_DERIVATIVES}
    return [p for p in images if all(own.get(k, v) == v for k, v in _entities(p).items())]


def _entities(path: Path) -> dict[str, str]:
    """The entities of a BIDS name: ``sub-01_run-02_T1w`` → sub 01, run 2."""
    return {k: v.lstrip("0") or "0" for k, v in re.findall(r"(?:^|_)([a-z]+)-([A-Za-z0-9+]+)", stem(path))}


def _several(truth: Path, images: _Images, folder: Path, chosen: Mapping[str, Path]) -> list[str]:
    """A doubt for each channel that more than one image could be."""
    if len(chosen) == 1 and "image" in chosen:
        return []
    alike = Counter(_suffix(p) for p in _of_same_run(truth, images.of_subject(truth)))
    return [
        f"{truth.relative_to(folder)}: {alike[name]} images are called {name}; {path.name} is taken"
        for name, path in chosen.items()
        if alike[name] > 1
    ]


def _structures(folder: Path, truths: Sequence[Path], images: Sequence[Path]) -> Layout | None:
    """Folders that hold a mask of each structure, with the same names in more than one case, beside one image; None for other trees."""
    by_folder: dict[Path, list[Path]] = {}
    for truth in truths:
        by_folder.setdefault(truth.parent, []).append(truth)
    beside: dict[Path, list[Path]] = {}
    for image in images:
        beside.setdefault(image.parent, []).append(image)
    seen = Counter(stem(p) for p in truths)
    cases = []
    for place, masks in by_folder.items():
        own = beside.get(place.parent, [])
        if not is_plain(place.name) or len(masks) < 2 or len(own) != 1:
            return None
        cases.append((own[0], sorted(masks)))
    if not cases or (len(cases) > 1 and max(seen.values()) < 2):
        return None
    classes = {name: k for k, name in enumerate(sorted(seen), 1)}
    entries = tuple(
        Entry(
            image.relative_to(folder).parts[0] if image.parent != folder else "",
            image.parent.relative_to(folder).as_posix() if image.parent != folder else stem(image),
            {"image": (image,)},
            tuple(masks),
            classes={stem(p): classes[stem(p)] for p in masks},
        )
        for image, masks in cases
    )
    return Layout("a mask for each structure", entries, ("image",), {k: name for name, k in classes.items()})


def _refuse_modalities(folder: Path, entries: Sequence[Entry]) -> None:
    """Several labels of a patient, each on its own modality: only a person knows which belong together."""
    kinds = {stem(e.labels[0]).split("_")[0] for e in entries}
    by_folder = Counter(e.labels[0].parent for e in entries)
    if len(kinds) > 1 and max(by_folder.values(), default=1) > 1 and _are_modalities(entries):
        raise SettingsError(
            f"{folder}: each patient has labels for several images ({some(sorted({stem(e.labels[0]) for e in entries}))}). Say which "
            'belong together: channels={"CT": "CT_*", …} and labels="CT_mask".'
        )


def _place(path: Path, root: Path) -> Path:
    """The folder of a case: without a folder that is only called images, labels, anat or derivatives/…"""
    inside = path.relative_to(root).parent
    return inside.parent if is_plain(inside.name) else inside


def _bids(path: Path) -> tuple[str, ...]:
    """sub- and ses- of a path."""
    return tuple(sorted({m for p in path.parts for m in re.findall(r"(?:sub|ses)-[A-Za-z0-9]+", p)}))


def _suffix(path: Path) -> str:
    return stem(path).rsplit("_", 1)[-1]


def _are_modalities(entries: Sequence[Entry]) -> bool:
    words = {stem(e.labels[0]).split("_")[0].upper() for e in entries}
    return len(words & {"CT", "PT", "PET", "MR", "MRI", "T1", "T2", "FLAIR"}) > 1
