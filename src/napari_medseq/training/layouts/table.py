"""A CSV file of paths: images with their labels, or with the class of each whole exam."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.io.spreadsheets import path_in, read_rows
from napari_medseq.models.tabular import is_missing
from napari_medseq.training.layouts.entries import Entry, Layout, some
from napari_medseq.training.layouts.folders import part_of

#: columns that are not channels, whether large or small letters write them
_RESERVED = ("patient", "visit", "labels", "label", "class", "split", "case")
_MOST_ANSWERS = 20  # more different words are numbers or names rather than classes
_UNKNOWN = ("unknown", "unclear", "tbd")  # in addition to the usual words for missing values


def of_table(path: Path, task: str | None = None) -> Layout:
    """A case for each row that names an image and its labels, or its class; the other columns that hold paths are channels.

    Parameters
    ----------
    path : Path
    task : {"segmentation", "classification"}, optional
        What is learned; without it the labels where there is such a column, else the class.

    Raises
    ------
    SettingsError
        If a column or a file is missing, or a class cannot be one.
    """
    table = _Table.read(path)
    truth: str | None = next((c for c in ("labels", "label") if c in table.columns), None)
    if _of_class(table.columns, task):
        truth = "class"
    elif task == "classification":
        raise SettingsError(f"{path} has no column class, so there is no class to learn; it has {table.heading}.")
    if truth is None or not table.channels or "patient" not in table.columns:
        raise SettingsError(
            f"{path} needs the columns patient, one for each channel's image, and labels (to learn what is where) or class (to learn "
            f"the class of a whole exam); it has {table.heading or 'no row'}."
        )
    entries = _entries(table, truth)
    doubts = table.doubts
    if truth != "class":
        if "class" in table.columns:
            doubts.append(
                'the column class is not used: the labels are what is learned; task="classification" (--set task=classification) '
                "learns the class instead"
            )
        return Layout("a table of paths", tuple(_unlike(entries)), tuple(table.channels), doubts=tuple(doubts))
    if any(c in table.columns for c in ("labels", "label")):
        doubts.append("the column of labels is not used: the class of each exam is what is learned")
    answers = _in_order({e.answer for e in entries})
    doubts += _doubts_of_answers(path, entries, answers)
    return Layout(
        "a table of paths and classes",
        tuple(_unlike(entries)),
        tuple(table.channels),
        doubts=tuple(doubts),
        answers=answers,
    )


def learns_classes(path: Path, task: object = None) -> bool:
    """Whether what a path offers, or `task` says, is to learn the class of whole exams."""
    if task is not None or path.suffix.lower() != ".csv" or not path.is_file():
        return task == "classification"
    return _of_class(_Table.read(path).columns, None)


def _of_class(columns: Sequence[str], task: str | None) -> bool:
    """Whether the class is learned rather than the labels."""
    if task is None:
        return "class" in columns and not {"labels", "label"} & set(columns)
    return task == "classification" and "class" in columns


@dataclass
class _Table:
    """The rows of a table, its columns by their names in small letters where they are reserved, and what is doubtful."""

    path: Path
    heading: str
    columns: list[str]
    channels: list[str]
    rows: list[dict[str, str]]
    doubts: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> _Table:
        rows = read_rows(path, error=SettingsError)
        named = {c: c.lower() if c.lower() in _RESERVED else c for c in (rows[0] if rows else {})}
        rows = [{named.get(c, c): v for c, v in row.items()} for row in rows]
        columns = list(named.values())
        others = [c for c in columns if c not in _RESERVED]
        channels = [c for c in others if any(_is_path(path, row[c]) for row in rows)]
        table = cls(path, ", ".join(named), columns, channels, rows)
        if channels and (unused := [c for c in others if c not in channels]):
            table.doubts.append(f"the column(s) {some(unused)} hold no paths of images and are not used")
        return table


def _is_path(table: Path, cell: str) -> bool:
    """Whether a cell is the path of a file, which need not exist; numbers and words such as an age or a sex are not."""
    if is_missing(cell):
        return False
    # no date
    named = ("/" in cell or "\\" in cell or Path(cell).suffix[1:2].isalpha()) and any(k.isalpha() for k in cell)
    return named or path_in(table, cell).exists()


def _entries(table: _Table, truth: str) -> list[Entry]:
    """The rows as cases, without those that lack the image or the truth."""
    path, entries = table.path, []
    lacking: dict[str, list[str]] = {"image": [], truth: []}
    for number, row in enumerate(table.rows, 2):
        if not row["patient"]:
            raise SettingsError(f"{path}, line {number}: patient is empty; say whose it is.")
        case = row.get("case") or "/".join(v for v in (row["patient"], row.get("visit", "")) if v)
        images = {c: (path_in(path, row[c]),) for c in table.channels if row[c]}
        known = not (is_missing(row[truth]) or row[truth].lower() in _UNKNOWN) if truth == "class" else bool(row[truth])
        if not images or not known:
            lacking[truth if images else "image"].append(case)
            continue
        labels = () if truth == "class" else (path_in(path, row[truth]),)
        absent = [p for p in (*(v[0] for v in images.values()), *labels) if not p.exists()]
        if absent:
            raise SettingsError(
                f"{path}, line {number}: {absent[0]} is not there; paths are relative to the table's folder."
            )
        answer = row[truth] if truth == "class" else ""
        if ";" in answer:
            raise SettingsError(
                f"{path}, line {number}: {answer!r} names several classes, but each exam has one here. For several at once, write a "
                "config with task: classification and targets: this table (the page on training shows one)."
            )
        split = row.get("split", "")
        entries.append(Entry(row["patient"], case, images, labels, part_of(split) or split, answer))
    table.doubts += [
        f"{len(cases)} row(s) name no {what} and are left out: {some(cases)}"
        for what, cases in lacking.items()
        if cases
    ]
    return entries


def _in_order(words: set[str]) -> tuple[str, ...]:
    """Classes by number where all are numbers, else by name; "1" and "1.0" in the same order in every run."""
    try:
        return tuple(sorted(sorted(words), key=float))
    except ValueError:
        return tuple(sorted(words))


def _doubts_of_answers(path: Path, entries: Sequence[Entry], answers: Sequence[str]) -> list[str]:
    """The doubts about the classes.

    Raises
    ------
    SettingsError
        If these are too many to be classes.
    """
    if len(answers) > _MOST_ANSWERS:
        raise SettingsError(
            f"{path}: the column class holds {len(answers)} different words, such as {some(answers)}; these look like no classes. At most "
            f"{_MOST_ANSWERS} can be learned: put numbers into groups, such as low and high."
        )
    doubts = []
    if len(answers) == 1:
        doubts.append(
            f"every exam is {answers[0]}: there is nothing to tell apart until exams of another class are added"
        )
    patients = {a: sorted({e.patient for e in entries if e.answer == a}) for a in answers}
    alone = [a for a in answers if len(patients[a]) == 1]
    if alone:
        doubts.append(
            f"the class(es) {some(alone)} have one patient each: what is peculiar to that patient is learned, and no other can judge"
        )
    alike = Counter(" ".join(a.lower().split()) for a in answers)
    if several := [a for a in answers if alike[" ".join(a.lower().split())] > 1]:
        doubts.append(f"{some(several)} differ only in how they are written, but count as classes of their own")
    changing = _of_several(patients)
    if changing:
        doubts.append(
            f"{len(changing)} patient(s) have exams of more than one class ({some(changing)}); all exams of a patient stay together"
        )
    return doubts


def _of_several(patients: Mapping[str, Sequence[str]]) -> list[str]:
    """The patients of more than one class."""
    counts = Counter(p for own in patients.values() for p in own)
    return sorted(p for p, n in counts.items() if n > 1)


def _unlike(entries: Sequence[Entry]) -> list[Entry]:
    """The cases, those of one name numbered in the order of the rows, so that none stands for another."""
    seen: dict[str, int] = {}
    out = []
    for entry in entries:
        seen[entry.case] = seen.get(entry.case, 0) + 1
        number = seen[entry.case]
        out.append(entry if number == 1 else replace(entry, case=f"{entry.case} ({number})"))
    return out
