"""Where a data set keeps its images and labels: the layouts that people have, told apart by what lies in the folder.

nnU-Net raw and the Medical Segmentation Decathlon (``imagesTr``, ``labelsTr``, ``dataset.json``), a pair of folders ``images`` and
``labels``, folders of frames beside folders of labels, a CSV of paths, and trees in which labels lie beside their images, such as
study folders and BIDS with derivatives.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.io.naming import names_labels, stem

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".mgz", ".mgh")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_IMAGES = ("imagesTr", "images", "image", "imgs", "img")
_LABELS = ("labelsTr", "labels", "label", "masks", "mask", "segmentations", "annotations")
_CHANNEL = re.compile(r"_(\d{4})$")
_LABEL_WORD = re.compile(
    r"[-_.](seg|mask|labels?|dseg|tumou?r|lesions?|segmentation|gt|roi|label-[\w]+)$", re.IGNORECASE
)
_PART = re.compile(r"^(.*?)[-_. ]?([A-Za-z]*\d+|ED|ES)$")
EACH = "{name}"


@dataclass(frozen=True)
class Entry:
    """A case: whose it is, the files of its channels (several where a file is a frame), and those of its labels."""

    patient: str
    case: str
    images: Mapping[str, tuple[Path, ...]]
    labels: tuple[Path, ...]
    split: str = ""

    @property
    def frames(self) -> bool:
        """Whether each file is a frame."""
        return len(self.labels) > 1


@dataclass(frozen=True)
class Layout:
    """What was found in a folder.

    Attributes
    ----------
    kind : str
        In words.
    entries : tuple of Entry
    channels : tuple of str
    classes : dict of int to str
        As the data set says; empty where it does not.
    modalities : dict of str to str
        DICOM code of a channel, where the data set says it.
    doubts : tuple of str
    """

    kind: str
    entries: tuple[Entry, ...]
    channels: tuple[str, ...]
    classes: dict[int, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


def find_layout(
    folder: Path, *, patient: str | None = None, channels: Mapping[str, str] | None = None, labels: str | None = None
) -> Layout:
    """The cases of a folder or CSV file.

    Parameters
    ----------
    folder : Path
    patient : str, optional
        A regular expression whose first group is the patient in a case's name, or "{name}": every case is a patient of its own.
        Without it the names are looked at, and a doubt says what was taken.
    channels : mapping of str to str, optional
        Of trees: what each channel is called, and the pattern of its files' names.
    labels : str, optional
        Of trees: the pattern of the labels' names.

    Raises
    ------
    SettingsError
        If nothing with labels is there, or what belongs together cannot be told.
    """
    if folder.is_file() and folder.suffix.lower() == ".csv":
        found = _of_table(folder)
    elif not folder.is_dir():
        raise SettingsError(f"{folder} is not there; data is a folder, or a CSV file of paths.")
    elif (pair := _pair_in(folder)) is not None and channels is None:
        found = _of_pair(folder, *pair)
    elif frames := _frame_folders(folder):
        found = _of_frames(folder, frames)
    else:
        found = _of_tree(folder, channels, labels)
    if not found.entries:
        raise SettingsError(
            f"{folder} holds no image with labels beside it. Known are imagesTr/labelsTr (nnU-Net, MSD), images/labels, frames/labels, "
            "a CSV with columns image and labels, and labels named like their image (scan.nii.gz, scan_seg.nii.gz)."
        )
    return _with_patients(found, patient)


# -- nnU-Net, MSD, images/ and labels/ --------------------------------------------------------------------------------
def _pair_in(folder: Path) -> tuple[Path, Path] | None:
    names = {p.name.lower(): p for p in folder.iterdir() if p.is_dir()}
    images = next((names[n.lower()] for n in _IMAGES if n.lower() in names), None)
    labels = next((names[n.lower()] for n in _LABELS if n.lower() in names), None)
    return (images, labels) if images is not None and labels is not None else None


def _files(folder: Path, endings: Iterable[str] = (*_VOLUMES, *_PICTURES)) -> list[Path]:
    ends = tuple(endings)
    return sorted(
        p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name.lower().endswith(ends)
    )


def _of_pair(folder: Path, images: Path, labels: Path) -> Layout:
    facts = _dataset(folder / "dataset.json")
    names = _channel_names(facts)
    truths = {stem(p): p for p in _files(labels)}
    truths |= {_LABEL_WORD.sub("", k): p for k, p in truths.items()}
    found: dict[str, dict[str, Path]] = {}
    alone: list[str] = []
    for path in _files(images):
        name = stem(path)
        cut = _CHANNEL.sub("", name)
        case, channel = (name, 0) if name in truths else (cut, int(name[-4:]) if cut != name else 0)
        if case not in truths:
            alone.append(name)
            continue
        found.setdefault(case, {})[names.get(channel, f"channel {channel}" if channel or names else "image")] = path
    order = [n for _, n in sorted(names.items())]
    used = list(dict.fromkeys([*order, *(c for v in found.values() for c in v)]))
    channels = [c for c in used if any(c in v for v in found.values())]
    entries = tuple(
        Entry("", case, {c: (v[c],) for c in channels if c in v}, (truths[case],)) for case, v in found.items()
    )
    kind = "nnU-Net raw or MSD" if facts else f"folders {images.name} and {labels.name}"
    doubts = [f"{len(alone)} image(s) have no labels and are left out: {_some(alone)}"] if alone else []
    return Layout(kind, entries, tuple(channels), _class_names(facts), _modalities(names), tuple(doubts))


def _dataset(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is not readable JSON ({error}).") from None
    return content if isinstance(content, dict) else {}


def _channel_names(facts: Mapping[str, object]) -> dict[int, str]:
    said = facts.get("channel_names", facts.get("modality"))
    if not isinstance(said, Mapping):
        return {}
    return {int(k): str(v) for k, v in said.items() if str(k).isdigit()}


def _class_names(facts: Mapping[str, object]) -> dict[int, str]:
    """MSD says {"1": "anterior"}, nnU-Net {"anterior": 1}; regions of several labels are left out."""
    said = facts.get("labels")
    if not isinstance(said, Mapping):
        return {}
    found: dict[int, str] = {}
    for key, value in said.items():
        if str(key).isdigit():
            found[int(key)] = str(value)
        elif isinstance(value, int):
            found[value] = str(key)
    return {k: v for k, v in sorted(found.items()) if k > 0}


def _modalities(names: Mapping[int, str]) -> dict[str, str]:
    codes = {"ct": "CT", "pet": "PT", "pt": "PT"}
    return {n: code for n in names.values() if (code := codes.get(n.lower())) is not None} | {
        n: "MR" for n in names.values() if re.search(r"mri?\b|t1|t2|flair|adc|dwi", n, re.IGNORECASE)
    }


# -- frames ----------------------------------------------------------------------------------------------------------
def _frame_folders(folder: Path) -> list[tuple[Path, Path]]:
    found = []
    for frames in sorted(
        p for p in folder.rglob("*") if p.is_dir() and p.name.lower() in ("frames", "images", "video")
    ):
        labels = next((q for n in _LABELS if (q := frames.parent / n).is_dir()), None)
        if labels is not None and _files(frames, _PICTURES):
            found.append((frames, labels))
    return found


def _of_frames(folder: Path, pairs: Sequence[tuple[Path, Path]]) -> Layout:
    entries, doubts = [], []
    for frames, labels in pairs:
        truths = {stem(p): p for p in _files(labels, _PICTURES)}
        both = [p for p in _files(frames, _PICTURES) if stem(p) in truths]
        if not both:
            doubts.append(f"{frames} holds no frame whose labels have its name")
            continue
        inside = frames.parent.relative_to(folder).parts
        patient = inside[0] if len(inside) > 1 else ""
        case = "/".join(inside) or folder.name
        entries.append(Entry(patient, case, {"image": tuple(both)}, tuple(truths[stem(p)] for p in both)))
    return Layout("folders of frames", tuple(entries), ("image",), doubts=tuple(doubts))


# -- a CSV of paths --------------------------------------------------------------------------------------------------
def _of_table(path: Path) -> Layout:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = [{str(k).strip(): str(v or "").strip() for k, v in row.items()} for row in csv.DictReader(stream)]
    columns = list(rows[0]) if rows else []
    known = {"patient", "visit", "labels", "label", "class", "split", "case"}
    channels = [c for c in columns if c not in known]
    truth = next((c for c in ("labels", "label") if c in columns), None)
    if truth is None or not channels or "patient" not in columns:
        raise SettingsError(
            f"{path} needs the columns patient, labels and one for each channel's image; it has {', '.join(columns)}."
        )
    entries = []
    for number, row in enumerate(rows, 2):
        if not row["patient"]:
            raise SettingsError(f"{path}, line {number}: patient is empty; say whose it is.")
        images = {c: (path.parent / row[c],) for c in channels if row[c]}
        if not images or not row[truth]:
            continue
        absent = [p for p in (*(v[0] for v in images.values()), path.parent / row[truth]) if not p.exists()]
        if absent:
            raise SettingsError(f"{path}, line {number}: {absent[0]} is not there.")
        case = row.get("case") or "/".join(v for v in (row["patient"], row.get("visit", "")) if v)
        entries.append(Entry(row["patient"], case, images, (path.parent / row[truth],), row.get("split", "")))
    return Layout("a table of paths", tuple(entries), tuple(channels))


# -- labels beside images --------------------------------------------------------------------------------------------
def _of_tree(folder: Path, channels: Mapping[str, str] | None, labels: str | None) -> Layout:
    """Study folders, BIDS with derivatives, and others in which a label's name tells its image."""
    from fnmatch import fnmatchcase

    everything = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name.lower().endswith(_VOLUMES)]
    truths = [p for p in everything if (fnmatchcase(stem(p), labels) if labels else names_labels(p))]
    images = [p for p in everything if p not in set(truths) and not names_labels(p)]
    entries: list[Entry] = []
    doubts: list[str] = []
    used: list[str] = []
    for truth in truths:
        near = [p for p in images if _place(p, folder) == _place(truth, folder)]
        if not near:
            near = [p for p in images if _bids(p) and _bids(p) == _bids(truth)]
        if channels is not None:
            chosen = {
                n: q[0] for n, pattern in channels.items() if (q := [p for p in near if fnmatchcase(stem(p), pattern)])
            }
        else:
            chosen = _own_image(truth, near)
        if not chosen:
            doubts.append(f"{truth.relative_to(folder)} has no image that can be told to be its own")
            continue
        used += [c for c in chosen if c not in used]
        inside = truth.relative_to(folder).parts
        patient = next((p for p in inside if p.startswith("sub-")), inside[0] if len(inside) > 1 else "")
        case = "/".join([*(p for p in inside[:-1] if p != "derivatives"), _LABEL_WORD.sub("", stem(truth))])
        entries.append(Entry(patient, case, {c: (p,) for c, p in chosen.items()}, (truth,)))
    kinds = {tuple(sorted(stem(e.labels[0]).split("_")[:1])) for e in entries}
    by_folder = Counter(e.labels[0].parent for e in entries)
    if channels is None and len(kinds) > 1 and max(by_folder.values(), default=1) > 1 and _are_modalities(entries):
        raise SettingsError(
            f"{folder}: each patient has labels for several images ({_some(sorted({stem(e.labels[0]) for e in entries}))}). Say which "
            'belong together: channels={"CT": "CT_*", …} and labels="CT_mask".'
        )
    order = tuple(channels) if channels is not None else tuple(used)
    return Layout("labels beside their images", tuple(entries), order, doubts=tuple(doubts[:20]))


def _place(path: Path, root: Path) -> Path:
    """The folder of a case: without a folder that is only called images, labels, anat or derivatives/…"""
    inside = path.relative_to(root).parent
    return inside.parent if inside.name.lower() in {*(n.lower() for n in (*_IMAGES, *_LABELS)), "anat"} else inside


def _bids(path: Path) -> tuple[str, ...]:
    """sub- and ses- of a path."""
    return tuple(sorted({m for p in path.parts for m in re.findall(r"(?:sub|ses)-[A-Za-z0-9]+", p)}))


def _own_image(truth: Path, near: Sequence[Path]) -> dict[str, Path]:
    """The image that a label is named after; else all that lie there, as channels, where there is one label for them."""
    core = _LABEL_WORD.sub("", stem(truth))
    named = [
        p for p in near if stem(p) == core or _LABEL_WORD.sub("", stem(truth)) == re.sub(r"_(image|img)$", "", stem(p))
    ]
    if named:
        return {"image": named[0]}
    if len(near) == 1:
        return {"image": near[0]}
    same = [p for p in truth.parent.iterdir() if names_labels(p)]
    return {_suffix(p): p for p in near} if near and len(same) <= 1 else {}


def _suffix(path: Path) -> str:
    return stem(path).rsplit("_", 1)[-1]


def _are_modalities(entries: Sequence[Entry]) -> bool:
    words = {stem(e.labels[0]).split("_")[0].upper() for e in entries}
    return len(words & {"CT", "PT", "PET", "MR", "MRI", "T1", "T2", "FLAIR"}) > 1


# -- patients --------------------------------------------------------------------------------------------------------
def _with_patients(layout: Layout, pattern: str | None) -> Layout:
    """Every case with its patient; a doubt where names had to tell."""
    if pattern is not None:
        whose = {e.case: _by_pattern(e.case, pattern) for e in layout.entries}
        doubts = layout.doubts
    elif all(e.patient for e in layout.entries):
        return layout
    else:
        whose, said = _by_names([e.case for e in layout.entries])
        doubts = (*layout.doubts, *said)
    entries = tuple(Entry(whose[e.case], e.case, e.images, e.labels, e.split) for e in layout.entries)
    return Layout(layout.kind, entries, layout.channels, layout.classes, layout.modalities, doubts)


def _by_pattern(case: str, pattern: str) -> str:
    if pattern == EACH:
        return case
    try:
        found = re.search(pattern, case)
    except re.error as error:
        raise SettingsError(f"patient = {pattern!r} is no regular expression: {error}.") from None
    if found is None:
        raise SettingsError(f"patient = {pattern!r} fits not {case!r}; it must find the patient in every case's name.")
    return found[1] if found.groups() else found[0]


def _by_names(cases: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Cases whose names differ only in a last number are one patient's, unless all cases do."""
    bids = {c: m[1] for c in cases if (m := re.search(r"(sub-[A-Za-z0-9]+)", c))}
    if len(bids) == len(cases):
        return bids, []
    stems = {c: (m[1] if (m := _PART.match(c)) else c) for c in cases}
    groups = Counter(stems.values())
    if 1 < len(groups) < len(cases):
        several = next(g for g, n in groups.items() if n > 1)
        members = _some([c for c in cases if stems[c] == several])
        return stems, [
            f"{len(cases)} cases are taken to be of {len(groups)} patients by their names ({members} of one); if each is a patient of its "
            f'own say patient="{EACH}", or give a regular expression whose group is the patient'
        ]
    return {c: c for c in cases}, []


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
