"""The cases of a layout as training cases: measured once, then resampled to the working grid and kept in memory.

Images are kept in half precision and labels in one byte per voxel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, warn
from napari_medseq.inference.inputs.working import Working, working_volume
from napari_medseq.memory import zeros
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.training.automatic.budget import Deadline
from napari_medseq.training.automatic.decoded import Decoded
from napari_medseq.training.automatic.fingerprint import Fingerprint, Measuring
from napari_medseq.training.loops.slab_windows import UNSEEN, SlabCase
from napari_medseq.volumes.labelled import replaced, value_counts
from napari_medseq.wording import how_many, some

#: the index of a class is a byte, and one of its values marks unlabelled voxels
MOST_CLASSES = 254


def measured(
    decoded: Decoded,
    classes: Mapping[int, str],
    progress: Progress | None,
    cancelled: Cancelled | None,
    late: Deadline | None = None,
) -> tuple[Fingerprint, dict[int, str]]:
    """The fingerprint and the classes: the names given, else a name for each label value that occurs.

    Raises
    ------
    MedseqError
        If no case can be read, or no label is in any.
    """
    measuring, names, cases_seen = Measuring([]), dict(classes), set()
    named: dict[int, set[str]] = {}
    for case in decoded.all("measuring", progress, cancelled, late):
        for name in case.images:
            measuring.know(name)
        measuring.add(case.entry.patient, case.images, case.labels)
        cases_seen.add(case.entry.case)
        for value, name in case.labels.label_names.items():
            named.setdefault(value, set()).add(name)
    if not cases_seen:
        raise decoded.nothing_left("No case could be read")
    values = sorted(measuring.volumes)
    if not values:
        raise MedseqError(
            f"{how_many(len(cases_seen), 'case was', 'cases were')} read, and no label is above 0, so there is nothing to learn; look at "
            f"the files of labels, such as {decoded.entries[0].labels[0]}."
        )
    if not names:
        _check_values(values, numbered=measuring.numbered)
        _warn_of_two_whites(measuring.values)
        names = {255: "foreground"} if values == [255] else {v: f"class {v}" for v in values}
        names |= _agreed_names(values, named)
    measuring.names.sort(key=lambda n: decoded.channels.index(n) if n in decoded.channels else len(decoded.channels))
    cases = round(len(measuring.patients) * len(decoded.entries) / len(cases_seen))
    return measuring.result(names, cases=cases, patients=len({e.patient for e in decoded.entries})), names


def _agreed_names(values: Sequence[int], named: Mapping[int, Collection[str]]) -> dict[int, str]:
    """The names that the files of labels give their values, made to differ from each other; a warning where the files do not agree."""
    for value in values:
        if text := disagreement(value, named.get(value, ())):
            warn(text)
    agreed = {v: next(iter(of)) for v in values if len(of := named.get(v, ())) == 1}
    return agreed if len(set(agreed.values())) == len(agreed) else {}


def disagreement(value: int, names: Collection[str]) -> str:
    """The message that a label means different things in different files; "" where it does not."""
    if len(names) < 2:
        return ""
    return (
        f"the label {value} is called {some(sorted(names))} in different files, but counts as one class: give the segments the same "
        "values in all files"
    )


def _check_values(values: Sequence[int], *, numbered: bool) -> None:
    """Warn of labels that number objects, and refuse values that cannot be labels."""
    if len(values) > MOST_CLASSES:
        raise MedseqError(
            f"The labels hold {len(values)} different values, from {values[0]} to {values[-1]}: these look like no classes. "
            "If they number objects, merge=True makes one class of them (--set merge=true)."
        )
    if numbered:
        warn(
            f"The labels ({values[0]} to {values[-1]}, as many as there are pieces) look like numbers of objects, but each is learned as "
            "a class of its own; merge=True makes one class of them (--set merge=true)."
        )


def _warn_of_two_whites(values: Sequence[Collection[int]]) -> None:
    """Doubt masks of which some are 0 and 1, and others 0 and 255: these may mean the same."""
    used = {frozenset(v) for v in values if v}
    if used == {frozenset({1}), frozenset({255})}:
        ones = sum(1 in v for v in values)
        warn(
            f"The masks of {how_many(ones, 'case')} hold 1, and those of {how_many(len(values) - ones, 'case')} 255 or nothing: each is "
            "learned as a class of "
            "its own. If both mean the same, merge=True makes one class of them (--set merge=true)."
        )


def slab_cases(
    decoded: Decoded,
    names: Sequence[str],
    classes: Mapping[int, str],
    working: Working,
    progress: Progress | None,
    cancelled: Cancelled | None,
    late: Deadline | None = None,
    *,
    fixed: bool = False,
) -> tuple[list[SlabCase], dict[int, str]]:
    """Working volumes of the cases, with class k of the classes as index k + 1 in their order; a warning where time ended before.

    Returns
    -------
    list of SlabCase
        In the order of their names.
    dict of int to str
        The classes, with those that were met for the first time unless they are `fixed`.
    """
    indices = ClassIndices(dict(classes), fixed)
    cases, cases_seen, held = [], set(), 0
    for case in decoded.all("preparing", progress, cancelled, late):
        decoded.kept.pop(case.entry.case, None)
        try:
            image, grid = working_volume(case.images, names, working)
            index = indices.of(case.name, grid.read_labels(case.labels))
        except MedseqError as error:
            decoded.leave_out(case.entry, error)
            continue
        half = zeros(image.shape, np.float16, beside=held)
        half[...] = image
        held += 0 if isinstance(half, np.memmap) else half.nbytes + index.nbytes
        cases.append(SlabCase(case.entry.patient, case.name, torch.from_numpy(half), torch.from_numpy(index)))
        cases_seen.add(case.entry.case)
    if not cases:
        raise decoded.nothing_left("No case could be prepared")
    indices.warn()
    unread = len(decoded.entries) - len(cases_seen)
    if unread and late is not None:
        warn(
            f"Reading took so long that {unread} of {len(decoded.entries)} cases are left out; "
            f"{late.advice(len(cases_seen), len(decoded.entries))}."
        )
    return sorted(cases, key=lambda c: c.name), indices.classes


@dataclass
class ClassIndices:
    """From label values to indices of classes; other values are new classes, or background where the classes are fixed.

    Values below zero mean to ignore: their voxels are unlabelled. Where nothing is 0 they are the background.
    """

    classes: dict[int, str]
    fixed: bool
    unknown: dict[int, list[str]] = field(default_factory=dict)

    def of(self, case: str, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        present = value_counts(values)
        index = {value: k for k, value in enumerate(self.classes, 1)}
        if 0 in present:
            index |= {value: UNSEEN for value in present if value < 0 and value not in index}
        for value in present:
            if value <= 0 or value in index:
                continue
            if self.fixed or len(self.classes) == MOST_CLASSES:
                self.unknown.setdefault(value, []).append(case)
            else:
                self.classes[value] = f"class {value}"
                index[value] = len(self.classes)
        return np.asarray(replaced(values, index, np.uint8), np.uint8)

    def warn(self) -> None:
        for value, cases in self.unknown.items():
            warn(
                f"The label {value} of {how_many(len(cases), 'case')} ({some(cases)}) is none of the classes {self.classes}: it counts as "
                "background."
            )
