"""Folders of frames beside folders of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_medseq.io.naming import stem
from napari_medseq.training.layouts.entries import PICTURES, Entry, Layout, files_in
from napari_medseq.training.layouts.folders import labels_in

#: what folders of frames, or of a volume's slices, are called
_FRAMES = ("frames", "images", "video", "slices", "stack")


def frame_folders(folder: Path) -> list[tuple[Path, Path]]:
    """Folders of pictures, each with the folder of labels beside it."""
    pairs = []
    for frames in sorted(p for p in folder.rglob("*") if p.is_dir() and p.name.lower() in _FRAMES):
        labels = labels_in(frames.parent)
        if labels is not None and files_in(frames, PICTURES):
            pairs.append((frames, labels))
    return pairs


def of_frames(folder: Path, pairs: Sequence[tuple[Path, Path]]) -> Layout:
    """A case for each: its frames that have labels of the same name."""
    entries, doubts = [], []
    total = labelled = 0
    for frames, labels in pairs:
        truths = {stem(p): p for p in files_in(labels, PICTURES)}
        everything = files_in(frames, PICTURES)
        both = [p for p in everything if stem(p) in truths]
        total, labelled = total + len(everything), labelled + len(both)
        if not both:
            doubts.append(f"{frames} holds no frame whose labels have its name")
            continue
        inside = frames.parent.relative_to(folder).parts
        patient = inside[0] if len(inside) > 1 else ""
        case = "/".join(inside) or folder.name
        entries.append(Entry(patient, case, {"image": tuple(both)}, tuple(truths[stem(p)] for p in both)))
    if labelled < total:
        doubts.append(f"{total - labelled} of {total} frames have no labels and are left out")
    return Layout("folders of frames", tuple(entries), ("image",), doubts=tuple(doubts))
