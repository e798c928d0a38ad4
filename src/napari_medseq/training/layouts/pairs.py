"""A folder of images and a folder of labels: nnU-Net raw, the Medical Segmentation Decathlon, and similar folders of one's own.

There may be such a pair in each part of a data set (``train/images`` and ``train/labels``), or folders within both (``images/train``,
``images/patient1``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.io.naming import channel_of, stem
from napari_medseq.training.layouts import names
from napari_medseq.training.layouts.entries import PICTURES, Entry, Layout, files_in
from napari_medseq.training.layouts.folders import pair_in, part_of
from napari_medseq.wording import how_many, some

#: nnU-Net's name for the label of voxels that nobody annotated
_IGNORED = "ignore"


@dataclass(frozen=True)
class Pair:
    """Two folders that hold files of one part, and of one patient where that is known."""

    images: Path
    labels: Path
    split: str = ""
    patient: str = ""

    @property
    def frames(self) -> bool:
        """Whether a patient's pictures lie in it, which are frames of one sequence then."""
        return bool(self.patient) and bool(files_in(self.images, PICTURES))


def pairs_in(folder: Path) -> list[Pair]:
    """All such pairs of a folder; none where it is laid out otherwise."""
    whole = pair_in(folder)
    if whole is not None:
        return list(_within(*whole))
    pairs = []
    for part in sorted(p for p in folder.iterdir() if p.is_dir() and part_of(p.name)):
        inner = pair_in(part)
        if inner is not None:
            pairs += list(_within(*inner, split=part_of(part.name)))
    return pairs


def _within(images: Path, labels: Path, split: str = "") -> Iterator[Pair]:
    """The pair itself where files lie in it, and those folders that both hold."""
    if files_in(images):
        yield Pair(images, labels, split)
    for inner in sorted(p for p in images.iterdir() if p.is_dir() and (labels / p.name).is_dir()):
        if files_in(inner):
            part = part_of(inner.name)
            yield Pair(inner, labels / inner.name, part or split, "" if part else inner.name)


def of_pairs(folder: Path, pairs: Sequence[Pair]) -> Layout:
    """The cases of all pairs."""
    facts = _dataset(folder / "dataset.json")
    channel_names = _channel_names(facts)
    entries: list[Entry] = []
    doubts: list[str] = []
    for pair in pairs:
        pair_entries, pair_doubts = _cases(pair, channel_names)
        entries += pair_entries
        doubts += pair_doubts
    channels_seen = dict.fromkeys(c for e in entries for c in e.images)
    order = [n for _, n in sorted(channel_names.items())]
    # MSD: one file per case, whose fourth axis holds the channels
    stacked = len(order) > 1 and all(e.case == stem(p) for e in entries for files in e.images.values() for p in files)
    channels = [c for c in dict.fromkeys([*order, *channels_seen]) if stacked or c in channels_seen]
    kind = "nnU-Net raw or MSD" if facts else f"folders {pairs[0].images.name} and {pairs[0].labels.name}"
    if len(pairs) > 1:
        kind = "folders of images and labels: " + some([f"{p.images.relative_to(folder)}" for p in pairs])
    labels = _Labels.of(facts)
    return Layout(
        kind,
        tuple(entries),
        tuple(channels),
        labels.classes,
        _modalities(channel_names),
        (*labels.doubts, *doubts),
        ignored=labels.ignored,
    )


def _cases(pair: Pair, channel_names: Mapping[int, str]) -> tuple[list[Entry], list[str]]:
    images = {stem(p): p for p in files_in(pair.images)}
    labels = {stem(p): p for p in files_in(pair.labels)}
    whole = {name: channel_of(name)[0] for name in images}  # without the number of a channel
    partners = names.same_names(images, labels)
    cases = {name: name for name in partners}
    for name, partner in names.same_names(set(whole.values()), labels).items():
        for each in (n for n, w in whole.items() if w == name and n not in partners):
            partners[each], cases[each] = partner, name
    doubts = []
    if not partners:
        partners = names.same_numbers(list(images), list(labels))
        cases = {name: name for name in partners}
        if partners:
            a, b = next(iter(partners.items()))
            doubts.append(f"labels are taken to belong to the image of the same number, such as {b} to {a}")
    alone = [name for name in images if name not in partners]
    if alone:
        doubts.append(f"{how_many(len(alone), 'image has', 'images have')} no labels, left out: {some(alone)}")
    if pair.frames:
        files = tuple(images[n] for n in partners)
        truths = tuple(labels[t] for t in partners.values())
        return ([Entry(pair.patient, pair.patient, {"image": files}, truths, pair.split)] if files else []), doubts
    channels: dict[str, dict[str, tuple[Path, ...]]] = {}
    numbers = {name: 0 if case == name else channel_of(name)[1] for name, case in cases.items()}
    for name, case in cases.items():
        number = numbers[name]
        default = f"channel {number}" if channel_names or any(numbers.values()) else "image"
        channels.setdefault(case, {})[channel_names.get(number, default)] = (images[name],)
    truth = {case: labels[partners[name]] for name, case in cases.items()}
    return [
        Entry(pair.patient, f"{pair.patient}/{case}" if pair.patient else case, of, (truth[case],), pair.split)
        for case, of in sorted(channels.items())
    ], doubts


def _dataset(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is not readable JSON ({error}).") from None
    return content if isinstance(content, dict) else {}


def _channel_names(facts: Mapping[str, object]) -> dict[int, str]:
    declared = facts.get("channel_names", facts.get("modality"))
    if not isinstance(declared, Mapping):
        return {}
    return {int(k): str(v) for k, v in declared.items() if str(k).isdigit()}


@dataclass(frozen=True)
class _Labels:
    """What ``dataset.json`` says of the label values."""

    classes: dict[int, str]
    ignored: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Mapping[str, object]) -> _Labels:
        """MSD says {"1": "anterior"}, nnU-Net {"anterior": 1}, {"whole": [1, 2], "core": 2} and {"ignore": 3}."""
        declared = facts.get("labels")
        if declared is None:
            return cls({})
        regions: dict[str, tuple[int, ...]] = {}
        if isinstance(declared, Mapping):
            for key, value in declared.items():
                name, values = (value, [key]) if str(key).isdigit() else (key, value)
                listed = values if isinstance(values, list) else [values]
                if all(str(v).isdigit() for v in listed):
                    regions[str(name)] = (*regions.get(str(name), ()), *(int(v) for v in listed))
        if not regions:
            return cls(
                {}, doubts=("dataset.json names its labels in a way that is not understood, so they are numbered",)
            )
        ignored = regions.pop(_IGNORED, ())
        doubts = (
            [f"the label {some([str(v) for v in ignored])} is not annotated, as dataset.json says"] if ignored else []
        )
        values = sorted({v for of in regions.values() for v in of if v > 0})
        classes: dict[int, str] = {}
        for value in values:
            name, region = min(((n, of) for n, of in regions.items() if value in of), key=lambda item: len(item[1]))
            classes[value] = name if len(region) == 1 else f"{name}, label {value}"
        if wide := [n for n, of in regions.items() if len(of) > 1]:
            doubts.append(
                f"dataset.json has regions of several labels ({some(wide)}): each label is learned as a class of its own "
                f"({', '.join(classes.values())}), and a region is all its labels together"
            )
        return cls(classes, ignored, tuple(doubts))


def _modalities(names: Mapping[int, str]) -> dict[str, str]:
    """DICOM codes of the channels whose names say them; the T1 of "CT1" or "contrast1" is not a weighting of MR."""
    codes = {"ct": "CT", "pet": "PT", "pt": "PT"}
    mr = re.compile(r"mri?\b|(?<![a-z])(?:ce|gd|[rmw])?t[12]|flair|adc|dwi", re.IGNORECASE)
    return {n: code for n in names.values() if (code := codes.get(n.lower())) is not None} | {
        n: "MR" for n in names.values() if mr.search(n)
    }
