"""Folders whose names say what they hold: images, their labels, and parts such as ``train`` and ``test``."""

from __future__ import annotations

import re
from pathlib import Path

_IMAGES = ("imagesTr", "images", "image", "imgs", "img", "scans", "volumes")
_LABELS = (
    "labelsTr", "labels", "label", "masks", "mask", "segmentations", "segmentation", "segs", "seg", "annotations", "annotation",
    "lesions", "ground_truth", "groundtruth", "gt", "1st_manual",
)  # fmt: skip
#: what a part of a data set is called, to what its cases are for
_PARTS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test",
    "testing": "test",
}  # fmt: skip


def images_in(folder: Path) -> Path | None:
    """The folder of images in a folder."""
    return _named(folder, _IMAGES)


def labels_in(folder: Path) -> Path | None:
    """The folder of labels in a folder."""
    return _named(folder, _LABELS)


def is_plain(name: str) -> bool:
    """Whether a folder's name says only what it holds, and not which patient it belongs to."""
    return name.lower() in {*(n.lower() for n in (*_IMAGES, *_LABELS)), "anat"}


def part_of(name: str) -> str:
    """The purpose of a part of a data set: "train", "validation" or "test"; "" for any other name."""
    return _PARTS.get(name.lower(), "")


def pair_in(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and of labels."""
    images, labels = images_in(folder), labels_in(folder)
    return (images, labels) if images is not None and labels is not None else None


def _named(folder: Path, file_names: tuple[str, ...]) -> Path | None:
    names = {re.sub(r"[- ]", "_", p.name.lower()): p for p in folder.iterdir() if p.is_dir()}
    return next((names[n.lower()] for n in file_names if n.lower() in names), None)
