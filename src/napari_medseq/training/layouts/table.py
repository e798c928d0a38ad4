"""A CSV file of paths: images with their labels, or with the class of each whole exam, or of each of its slices or frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.io.spreadsheets import path_in, read_rows
from napari_medseq.models.tabular import is_missing
from napari_medseq.training.layouts.entries import Entry, Layout
from napari_medseq.training.layouts.folders import part_of
from napari_medseq.wording import how_many, some

#: columns that are not channels, whether large or small letters write them
_RESERVED = ("patient", "visit", "labels", "label", "class", "split", "case", "slice", "frame")
_NUMBERED = ("slice", "frame")  # columns that say which step of its image a row is about
_MOST_ANSWERS = 20  # more different words are numbers or names rather than classes
_UNKNOWN = ("unknown", "unclear", "tbd")  # in addition to the usual words for missing values


def of_table(path: Path, task: str | None = None) -> Layout:
    """A case for each row that names an image and its labels, or its class; the other columns that hold paths are channels.

    With a column slice or frame, a row tells the class of one step, and the rows of one exam are one case.

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
    entries = _of_steps(table, entries)
    answers = _in_order({a for e in entries for a in e.learned})
    doubts += _doubts_of_answers(path, entries, answers)
    of_steps = next((f" of each {e.numbered}" for e in entries if e.steps), "")
    return Layout(
        f"a table of paths and classes{of_steps}",
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

    @property
    def numbered(self) -> str:
        """The column that says which step of its image a row is about, or "".

        Raises
        ------
        SettingsError
            If there are two.
        """
        found = [c for c in _NUMBERED if c in self.columns]
        if len(found) > 1:
            raise SettingsError(
                f"{self.path} has the columns slice and frame, but steps of an image are either; remove the one that does not count."
            )
        return found[0] if found else ""

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
            table.doubts.append(f"no paths of images, so not used: {how_many(len(unused), 'column')} ({some(unused)})")
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
                f"{path}, line {number}: {absent[0]} is not there; paths are relative to the table's folder, or complete."
            )
        answer = row[truth] if truth == "class" else ""
        if ";" in answer:
            raise SettingsError(
                f"{path}, line {number}: {answer!r} names several classes, but each exam has one here. For several at once, write a "
                "config with task: classification and targets: this table (the page on training shows one)."
            )
        split, steps = row.get("split", ""), {}
        if table.numbered and truth == "class":
            steps = {_number(row[table.numbered], table, number): answer}
        entry = Entry(
            row["patient"], case, images, labels, part_of(split) or split, "" if steps else answer, steps=steps
        )
        entries.append(replace(entry, numbered=table.numbered if truth == "class" else ""))
    table.doubts += [
        f"{how_many(len(cases), 'row names', 'rows name')} no {what}, left out: {some(list(dict.fromkeys(cases)))}"
        for what, cases in lacking.items()
        if cases
    ]
    return entries


def _number(cell: str, table: _Table, line: int) -> int:
    """The number of a slice or frame.

    Raises
    ------
    SettingsError
        If it is none.
    """
    try:
        number = float(cell)
    except ValueError:
        number = -1.0
    if number < 0 or number != int(number):
        raise SettingsError(
            f"{table.path}, line {line}: {table.numbered} is {cell!r}; give its number, from 0 on, as the viewer counts them."
        )
    return int(number)


def _of_steps(table: _Table, entries: Sequence[Entry]) -> list[Entry]:
    """The rows about steps of the same images as one case each; other rows as they are.

    Raises
    ------
    SettingsError
        If two rows tell the class of the same step, or put an exam into two splits.
    """
    if not table.numbered:
        return list(entries)
    whole: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        key = (entry.patient, entry.case, *entry.images.items())
        if key not in whole:
            whole[key] = entry
            continue
        first = whole[key]
        twice = sorted(set(first.steps) & set(entry.steps))
        if twice:
            raise SettingsError(
                f"{table.path}: {entry.numbered} {twice[0]} of {entry.case} has two rows; each needs one class. If these are different "
                "exams, tell them apart by a column visit or case."
            )
        if first.split != entry.split:
            raise SettingsError(
                f"{table.path}: rows of {entry.case} are in the splits {first.split or 'none'} and {entry.split or 'none'}; an exam "
                "is in one."
            )
        whole[key] = replace(first, steps={**first.steps, **entry.steps})
    if len(whole) < len(entries):
        return list(whole.values())
    table.doubts.append(
        f"each image has one row, so its class is that of the whole image, and the column {table.numbered} is not used"
    )
    return [replace(e, answer=next(iter(e.steps.values())), steps={}, numbered="") for e in entries]


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
        every = f"every {entries[0].numbered or 'exam'}"
        doubts.append(f"{every} is {answers[0]}: there is nothing to tell apart until some of another class are added")
    patients = {a: sorted({e.patient for e in entries if a in e.learned}) for a in answers}
    alone = [a for a in answers if len(patients[a]) == 1]
    if alone:
        doubts.append(
            f"{how_many(len(alone), 'class has', 'classes have')} one patient alone ({some(alone)}): what is peculiar to that patient "
            "is learned, and no other can judge"
        )
    alike = Counter(" ".join(a.lower().split()) for a in answers)
    if several := [a for a in answers if alike[" ".join(a.lower().split())] > 1]:
        doubts.append(f"{some(several)} differ only in how they are written, but count as classes of their own")
    changing = _of_several(patients)
    if changing and not entries[0].steps:
        doubts.append(
            f"{how_many(len(changing), 'patient has', 'patients have')} exams of more than one class ({some(changing)}); all exams of a "
            "patient stay together"
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
