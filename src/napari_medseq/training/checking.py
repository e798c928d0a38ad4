"""`check`: list the cases that a training would use of a folder, and every doubt about them, before time is spent on
training."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, heard, unheard
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import ImageSequence, describe_grid
from napari_medseq.training.automatic.decoded import Decoded, is_constant, lies_on
from napari_medseq.training.automatic.fingerprint import are_numbers, label_counts
from napari_medseq.training.automatic.prepared import MOST_CLASSES, disagreement
from napari_medseq.training.classes.exams import check_steps
from napari_medseq.training.layouts import Entry, Layout, find_layout
from napari_medseq.wording import how_many, some


@dataclass(frozen=True)
class Checked:
    """The cases of a folder and the doubts about them.

    Attributes
    ----------
    layout : Layout
    rows : list of dict
        One per case: patient, case, grid, channels, and labels or class.
    doubts : list of str
    """

    layout: Layout
    rows: list[dict[str, str]]
    doubts: list[str]


def check_data(
    folder: Path,
    *,
    patient: str | None = None,
    channels: Mapping[str, str] | None = None,
    labels: str | None = None,
    task: str | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Checked:
    """Read every case of a folder and report what is doubtful: unreadable files, grids that differ, labels that are
    not classes, empty masks, duplicated images, and patients in two splits; of a table of classes what is odd about these.

    Parameters
    ----------
    folder : Path
    patient, channels, labels, task
        As in `AutoConfig`; use the same values for the training.
    progress, cancelled

    Raises
    ------
    SettingsError
        If there is nothing with labels.
    """
    layout = find_layout(folder, patient=patient, channels=channels, labels=labels, task=task)
    survey = _Survey(layout)
    decoded = Decoded(layout.entries, layout.modalities, channels=layout.channels, ignored=layout.ignored)
    for entry in with_progress(list(layout.entries), len(layout.entries), "checking", progress, cancelled):
        try:
            with unheard(), heard() as issued, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                images, truth = (decoded.images(entry), None) if layout.answers else decoded.read(entry)
        except MedseqError as error:
            survey.unreadable.append(str(error) if entry.case in str(error) else f"{entry.case}: {error}")
            continue
        finally:
            decoded.kept.clear()
            decoded.bytes = 0
        survey.add(entry, images, truth, [_without_name(text) for text in issued])
    return Checked(layout, survey.rows, survey.doubts())


class _Survey:
    """The cases of a layout that were read so far, and the doubts about them.

    Attributes
    ----------
    rows : list of dict
        One row per case that could be read.
    unreadable : list of str
        A doubt for each case that could not be read.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rows: list[dict[str, str]] = []
        self.unreadable: list[str] = []
        self._cases_of_doubt: dict[str, list[str]] = defaultdict(list)
        self._contents: dict[str, list[Entry]] = defaultdict(list)
        self._names_of_value: dict[int, set[str]] = defaultdict(set)
        self._values: list[list[int]] = []
        self._dynamic: list[str] = []

    def add(
        self, entry: Entry, images: dict[str, ImageSequence], truth: ImageSequence | None, read_doubts: Sequence[str]
    ) -> None:
        """Examine a case that was read; `read_doubts` are the warnings of reading its files. Without labels its class is known."""
        first = next(iter(images.values()))
        self._contents[_content(first)].append(entry)
        if not any("t" in i.axes for i in images.values()):  # a fourth axis was one of channels
            read_doubts = [d for d in read_doubts if "frames are counted" not in d]
        own_doubts = _doubts_of_images(entry, self.layout, images)
        row = {
            "patient": entry.patient,
            "case": entry.case,
            "grid": describe_grid(first),
            "channels": ", ".join(images),
        }
        if truth is None:
            counts = Counter(entry.learned)
            row["class"] = ", ".join(f"{n} {a}" for a, n in counts.items()) if entry.steps else entry.answer
            if entry.steps:
                own_doubts += _doubts_of_steps(entry, first)
            if first.is_dynamic:
                self._dynamic.append(entry.case)
        else:
            values = self._values_of(truth)
            row["labels"] = ", ".join(map(str, values)) or "none"
            own_doubts = [*_doubts_of_labels(self.layout, np.asarray(truth.data), values), *own_doubts]
            if truth.is_dynamic:
                self._dynamic.append(entry.case)
        for text in dict.fromkeys([*own_doubts, *read_doubts]):
            self._cases_of_doubt[text].append(entry.case)
        self.rows.append(row)

    def _values_of(self, truth: ImageSequence) -> list[int]:
        """The values of a case's labels, which are kept with their names."""
        values = list(label_counts(np.asarray(truth.data)))
        self._values.append(values)
        for value in values:
            self._names_of_value[value].update([truth.label_names[value]] if value in truth.label_names else [])
        return values

    def doubts(self) -> list[str]:
        """All doubts: of the layout, of single cases, and of cases compared with each other."""
        doubts = [*self.layout.doubts, *self.unreadable]
        doubts += [_of_cases(text, cases, len(self.rows)) for text, cases in self._cases_of_doubt.items()]
        doubts += [_same_voxels(entries) for entries in self._contents.values() if len(entries) > 1]
        doubts += _empty(self.rows) + _in_two_splits(self.layout)
        if self.layout.answers:
            return doubts + self._of_two_kinds()
        if not self.layout.classes and are_numbers(self._values):
            doubts.append(
                "labels look like numbers of objects, not classes; --set merge=true trains on all of them as one class"
            )
        if not self.layout.classes:
            named = self._names_of_value.items()
            doubts += [text for value, names in named if (text := disagreement(value, names))]
        if self._dynamic:
            doubts.append(
                f"{how_many(len(self._dynamic), 'case is a volume', 'cases are volumes')} over time ({some(self._dynamic)}): the frames "
                "that have a label are learned "
                "from, each for itself; the others count as not looked at"
            )
        return doubts

    def _of_two_kinds(self) -> list[str]:
        """The doubt that some exams have frames and others have none."""
        with_frames, total = len(self._dynamic), len(self.rows)
        if with_frames in (0, total):
            return []
        return [
            f"{with_frames} of {total} cases have frames ({some(self._dynamic)}): only the more frequent kind is learned from"
        ]


def _content(seq: ImageSequence) -> str:
    return hashlib.sha256(np.ascontiguousarray(seq.data).tobytes()).hexdigest()


def _of_cases(text: str, cases: Sequence[str], total: int) -> str:
    """A doubt with the cases that it is about, as one line however many these are."""
    if len(cases) == 1:
        return f"{cases[0]}: {text}"
    return f"{'all' if len(cases) == total else f'{len(cases)} of'} {total} cases: {text} ({some(cases)})"


def _without_name(issued: str) -> str:
    """A warning of reading a file without the file's name, so that frames do not repeat it one by one."""
    return re.sub(r"^[^\s:]+: ", "", " ".join(issued.split()))


def _same_voxels(entries: Sequence[Entry]) -> str:
    """The doubt that cases hold the same image, and whether they contradict each other."""
    answers = dict.fromkeys(e.answer for e in entries if e.answer)
    contradict = f", but are of the classes {', '.join(answers)}" if len(answers) > 1 else ""
    return f"{', '.join(e.case for e in entries)} hold the same voxels{contradict}"


def _doubts_of_steps(entry: Entry, image: ImageSequence) -> list[str]:
    """That a table tells the class of steps that an image has not."""
    try:
        check_steps(entry, image)
    except MedseqError as error:
        return [f"{error}, so it is left out"]
    return []


def _doubts_of_labels(layout: Layout, truth: NDArray[np.generic], values: list[int]) -> list[str]:
    """The doubts about the labels of one case."""
    doubts = []
    unknown = sorted(set(values) - set(layout.classes)) if layout.classes else []
    if unknown:
        doubts.append(f"holds the labels {unknown}, which the data set does not name")
    if len(values) > MOST_CLASSES:
        doubts.append(f"values {values[:4]} … {values[-1]} ({len(values)} of them) look like no labels")
    if truth.size and truth.min() < 0 and not (truth == 0).any():
        doubts.append("no label is 0, so values below zero count as background")
    return doubts


def _doubts_of_images(entry: Entry, layout: Layout, images: dict[str, ImageSequence]) -> list[str]:
    """The doubts about the images of one case."""
    doubts = []
    first = next(iter(images.values()))
    left_out = ", so it is left out" if layout.answers else ""
    missing = [c for c in layout.channels if c not in entry.images and c not in images]
    if missing:
        doubts.append(f"has no {', '.join(missing)}{left_out}")
    what_then = "resample it, or it is left out" if layout.answers else "it will be resampled to it"
    for name, other in list(images.items())[1:]:
        if not lies_on(other, first):
            doubts.append(f"{name} lies on another grid than {next(iter(images))}; {what_then}")
    constant = [name for name, seq in images.items() if is_constant(seq)]
    for name in constant:
        what = "the image" if len(images) == 1 else name
        doubts.append(f"every voxel of {what} has one value{left_out}")
    return doubts


def _empty(rows: list[dict[str, str]]) -> list[str]:
    """One line for all empty masks: slices of a video or volume without anything are common."""
    cases = [r["case"] for r in rows if r.get("labels") == "none"]
    return [f"{len(cases)} of {len(rows)} masks are empty: {some(cases)}"] if cases else []


def _in_two_splits(layout: Layout) -> list[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    for entry in layout.entries:
        if entry.split:
            splits[entry.patient].add(entry.split)
    return [
        f"{p} is in the splits {', '.join(sorted(s))}: what is judged on it is too good"
        for p, s in splits.items()
        if len(s) > 1
    ]
