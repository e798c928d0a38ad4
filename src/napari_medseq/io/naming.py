"""What a file's name tells (labels, a date, a visit), and readable, unique names for the sequences read."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from datetime import date
from pathlib import Path

from napari_medseq.sequence import ImageSequence

#: medical extensions, longer ones before those that they end in
_EXTENSIONS = (
    ".seg.nrrd", ".seq.nrrd", ".nii.gz", ".img.gz", ".hdr.gz", ".nii", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh",
    ".dicom", ".dcm", ".ima", ".png", ".jpeg", ".jpg", ".bmp", ".tiff", ".tif", ".gif", ".mp4", ".m4v", ".mov", ".avi",
)  # fmt: skip
_LABEL_NAME = re.compile(
    r"(^|[_\-. ])(seg|segmentations?|masks?|labels?|dseg|tumou?r|lesions?|gt|ground[_\- ]?truth|annotations?)$"
    r"|^(seg|segmentation|mask|label)[_\-. ]?\d+$",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"_(\d{4})$")
_LABEL_FOLDERS = (
    "labels", "label", "labelstr", "labelsts", "masks", "segmentations", "annotations", "ground_truth", "groundtruth", "gt",
)  # fmt: skip
#: names that are devices in Windows in any folder, whatever follows their first dot
_DEVICE = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
#: Years from 1600 on: BIDS hides dates before 1925, other de-identifiers shift them by centuries.
_DATE = re.compile(r"(?<!\d)(1[6-9]\d\d|2[01]\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SPELLED = re.compile(
    rf"(?<![A-Za-z0-9])(\d\d?)([-_. ]?)({'|'.join(_MONTHS)})[a-z]*\2((?:1[6-9]|2[01])\d\d)(?!\d)", re.IGNORECASE
)


def stem(path: str | Path) -> str:
    """File name without its medical extension: ``sub-03_T1post.nii.gz`` → ``sub-03_T1post``."""
    name = Path(path).name
    for extension in _EXTENSIONS:
        if name.lower().endswith(extension) and len(name) > len(extension):
            return name[: -len(extension)]
    return name


def names_labels(path: str | Path) -> bool:
    """Whether a file is labels by its name or folder.

    By name: ``*_seg``, ``*_mask``, ``*_label(s)``, ``*_dseg``, ``*_tumor``, ``*_lesion(s)``, ``*_segmentation``, ``*_gt``, with other
    marks between too, numbered ones such as ``label0001``, and Slicer's ``.seg.nrrd``. By folder: ``labels``, ``masks``, ``segmentations``
    and the like.
    """
    path = Path(path)
    if path.name.lower().endswith(".seg.nrrd"):
        return True
    return bool(_LABEL_NAME.search(stem(path))) or is_label_folder(path.parent)


def is_label_folder(path: str | Path) -> bool:
    """Whether a folder is called ``labels``, ``masks``, ``segmentations`` or the like, so that its files are labels."""
    return Path(path).name.lower() in _LABEL_FOLDERS


def channel_of(name: str) -> tuple[str, int]:
    """A stem without the number of a channel as nnU-Net writes it, and that number: ``case_0001`` → ``case``, 1; without one 0."""
    match = _CHANNEL.search(name)
    return (name[: match.start()], int(match[1])) if match else (name, 0)


def date_in(name: str) -> date | None:
    """The first date written in a name as YYYYMMDD, YYYY-MM-DD, YYYY_MM_DD, YYYY.MM.DD or 5Mar2020; None if there is none."""
    written = [(int(year), int(month), int(day)) for year, _, month, day in _DATE.findall(name)]
    written += [
        (int(year), _MONTHS.index(month.lower()) + 1, int(day)) for day, _, month, year in _SPELLED.findall(name)
    ]
    for parts in written:
        try:
            return date(*parts)
        except ValueError:
            continue
    return None


def with_dates(text: str, change: Callable[[date], date]) -> str:
    """A text in which each date is changed and written in the same format; other text stays."""

    def written(match: re.Match[str]) -> str:
        year, mark, month, day = match.groups()
        new = _changed(year, month, day, change)
        return match[0] if new is None else f"{new:%Y}{mark}{new:%m}{mark}{new:%d}"

    def spelled(match: re.Match[str]) -> str:
        day, mark, month, year = match.groups()
        new = _changed(year, str(_MONTHS.index(month.lower()) + 1), day, change)
        return match[0] if new is None else f"{new:%d}{mark}{_MONTHS[new.month - 1].title()}{mark}{new:%Y}"

    return _SPELLED.sub(spelled, _DATE.sub(written, text))


def _changed(year: str, month: str, day: str, change: Callable[[date], date]) -> date | None:
    try:
        return change(date(int(year), int(month), int(day)))
    except ValueError:  # 31 February
        return None


def readable(text: str, fallback: str = "image") -> str:
    """A name fit for a layer and a file: control characters and path separators out, spaces to underscores, and no name of a device
    of Windows."""
    cleaned = re.sub(r"[^\w.+=()\-]+", "_", str(text).strip(), flags=re.UNICODE).strip("_.")[:80].rstrip("_.")
    return _DEVICE.sub(r"\1_", cleaned) or fallback


def is_portable(name: str) -> bool:
    """Whether Windows can have a file or folder of that name too: no device, and no dot or space at the end, which it would drop."""
    return _DEVICE.match(name) is None and name == name.rstrip(". ")


def untaken(stem: str, taken: Container[str], ending: str = "", *, separator: str = "_") -> str:
    """The first name that is not taken: the stem with its ending, then the stem numbered ``_2``, ``_3``…

    Parameters
    ----------
    stem : str
    taken : container of str
        Case-folded (`str.casefold`), since names that differ only in case are one file on many systems.
    ending : str
    separator : str
        Before the number.
    """
    name, number = f"{stem}{ending}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}{separator}{number}{ending}"
    return name


def unique(sequences: Iterable[ImageSequence]) -> list[ImageSequence]:
    """The same sequences, later namesakes numbered; see `untaken`."""
    seen: set[str] = set()
    out = []
    for seq in sequences:
        name = untaken(seq.name, seen)
        seen.add(name.casefold())
        out.append(seq if name == seq.name else seq.replace(name=name))
    return out
