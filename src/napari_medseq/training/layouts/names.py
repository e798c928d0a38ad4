"""Which image a file of labels belongs to, by their names.

Labels are called like their image except for a word (``scan.nii.gz`` and ``scan_seg.nii.gz``, ``volume-0`` and ``segmentation-0``,
``img0001`` and ``label0001``), or, where even that fails, are numbered alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: as names of files and folders say it; "manual1" is a first reader's
_LABELS = (
    r"segmentations?|segm?s?|masks?|labels?|lbls?|dseg|tumou?rs?|lesions?|gt|ground[-_ ]?truth|truth|annotations?|contours?|roi"
    r"|manual\d*"
)
_IMAGES = r"images?|imgs?|imaging|volumes?|vol|scans?|training|orig(?:inal)?|raw"
_LAST, _FIRST = r"[-_. ](?:{0}|label-\w+)$", r"^(?:{0})(?:[-_. ]+|(?=\d))"


def core_of_labels(name: str, *, keep_case: bool = False) -> str:
    """The stem of a label file without the word for labels; in lower case, so that two can be compared."""
    core = _without(name, _LABELS)
    return core if keep_case else core.lower()


def core_of_image(name: str) -> str:
    """The stem of an image file without the word for image."""
    return _without(name, _IMAGES).lower()


def _without(name: str, words: str) -> str:
    for pattern in (_LAST, _FIRST):
        shorter = re.sub(pattern.format(words), "", name, flags=re.IGNORECASE)
        if shorter != name:
            return shorter
    return name


def same_names(images: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """Image to labels, by equal names, else by names that are equal except for the words; of two that fit equally well, the first."""
    exact = set(labels := list(labels))
    cores: dict[str, str] = {}
    for name in labels:
        cores.setdefault(core_of_labels(name), name)
    pairs = {}
    for name in images:
        partner = name if name in exact else cores.get(name.lower()) or cores.get(core_of_image(name))
        if partner is not None:
            pairs[name] = partner
    return pairs


def same_numbers(images: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Image to labels, by the numbers in their names, where the names of all images differ only in these, and so do those of all labels."""
    sides = []
    for names in (images, labels):
        numbers = {tuple(int(d) for d in re.findall(r"\d+", name)): name for name in names}
        if len(numbers) < len(names) or () in numbers or len({re.sub(r"\d+", "#", name) for name in names}) != 1:
            return {}
        sides.append(numbers)
    return {sides[0][k]: sides[1][k] for k in sides[0] if k in sides[1]}
