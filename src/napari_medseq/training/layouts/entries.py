"""A case of a data set, and all of them: what each layout is read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".mgz", ".mgh")
#: pictures that do not keep the values of labels
LOSSY = (".jpg", ".jpeg")
#: names that a message lists
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class Entry:
    """A case: whose it is, the files of its channels (several where a file is a frame), and those of its labels.

    `classes` says which class a named structure is: where each file of labels is the mask of the structure that it is called after, and
    in DICOM, whose folder stands for both images and labels then. `answer` is the class of the whole case, where that is what is
    learned; there are no labels then. `steps` are the classes of single slices or frames by their number, from 0, where these are what is
    learned; `numbered` says which of the two are counted. `at` numbers the frames of a video, from 0, that the files of labels are of.
    """

    patient: str
    case: str
    images: Mapping[str, tuple[Path, ...]]
    labels: tuple[Path, ...]
    split: str = ""
    answer: str = ""
    classes: Mapping[str, int] = field(default_factory=dict)
    at: tuple[int, ...] = ()
    steps: Mapping[int, str] = field(default_factory=dict)
    numbered: str = ""

    @property
    def learned(self) -> tuple[str, ...]:
        """The classes that are learned of it: that of the whole case, or those of its slices or frames."""
        return tuple(self.steps.values()) if self.steps else (self.answer,)

    @property
    def frames(self) -> bool:
        """Whether each file is a frame."""
        return len(self.labels) > 1 and not self.classes


@dataclass(frozen=True)
class Layout:
    """The cases and classes of a folder.

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
    answers : tuple of str
        The classes of whole cases, or of their slices or frames, in order, where these are what is learned rather than labels.
    ignored : tuple of int
        Values of the labels that mean "not annotated".
    """

    kind: str
    entries: tuple[Entry, ...]
    channels: tuple[str, ...]
    classes: dict[int, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    ignored: tuple[int, ...] = ()


def files_in(folder: Path, endings: Sequence[str] = (*VOLUMES, *PICTURES)) -> list[Path]:
    """Files of a folder with one of these endings, without hidden ones."""
    ends = tuple(endings)
    return sorted(
        p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name.lower().endswith(ends)
    )
