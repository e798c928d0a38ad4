"""The layouts of data sets: where images and labels are stored, recognised by the content of the folder.

nnU-Net raw and the Medical Segmentation Decathlon (``imagesTr``, ``labelsTr``, ``dataset.json``), a pair of folders of images and labels,
in parts such as ``train`` and ``test`` or in one (`pairs`), folders of frames beside folders of labels (`frames`), a CSV of paths
(`table`), trees in which labels lie beside their images, such as study folders and BIDS with derivatives (`trees`), videos with label
frames (`videos`), and DICOM with segmentations or structure sets (`dicom`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from napari_medseq.errors import SettingsError
from napari_medseq.training.layouts.dicom import of_dicom
from napari_medseq.training.layouts.entries import LOSSY, PICTURES, VOLUMES, Entry, Layout, files_in
from napari_medseq.training.layouts.folders import images_in, labels_in
from napari_medseq.training.layouts.frames import frame_folders, of_frames
from napari_medseq.training.layouts.pairs import of_pairs, pairs_in
from napari_medseq.training.layouts.patients import EACH, with_patients
from napari_medseq.training.layouts.table import learns_classes, of_table
from napari_medseq.training.layouts.trees import of_tree
from napari_medseq.training.layouts.videos import of_videos
from napari_medseq.wording import how_many, some


def find_layout(
    folder: Path,
    *,
    patient: str | None = None,
    channels: Mapping[str, str] | None = None,
    labels: str | None = None,
    task: str | None = None,
) -> Layout:
    """The cases of a folder or CSV file.

    Parameters
    ----------
    folder : Path
    patient : str, optional
        A regular expression whose first group is the patient in a case's name, or "{name}": every case is a patient of its own.
        Without it the names are looked at, and a doubt says what was taken.
    channels : mapping of str to str, optional
        For trees of files: name of each channel, and the pattern of its files' names.
    labels : str, optional
        For trees of files: the pattern of the labels' names.
    task : {"segmentation", "classification"}, optional
        What is learned where a table has both labels and a class; only a table says classes of whole exams.

    Raises
    ------
    SettingsError
        If nothing with labels is there, or what belongs together cannot be told.
    """
    if folder.is_file() and folder.suffix.lower() == ".csv":
        layout = of_table(folder, task)
        if not layout.entries:
            needed = "a class" if "classes" in layout.kind else "labels"
            raise SettingsError(
                f"{folder}: no row names both an image and {needed}; {'; '.join(layout.doubts) or 'it has no row'}."
            )
    elif not folder.is_dir():
        what = "is neither a folder nor a CSV file of paths" if folder.exists() else "is not there; check the path"
        raise SettingsError(f"{folder} {what}; data is a folder, or a CSV file of paths.")
    elif task == "classification":
        raise SettingsError(
            f"{folder}: classes are learned from a CSV file with the columns patient, class and one for each image."
        )
    elif channels is None and (pairs := pairs_in(folder)):
        layout = of_pairs(folder, pairs)
    elif frames := frame_folders(folder):
        layout = of_frames(folder, frames)
    elif inner := [f for f in sorted(folder.iterdir()) if (f / "imagesTr").is_dir()]:
        if len(inner) > 1:
            raise SettingsError(
                f"{folder} holds several data sets ({some([f.name for f in inner])}); give the folder of one of them."
            )
        layout = find_layout(inner[0], patient=patient, channels=channels, labels=labels)
        return replace(layout, doubts=(f"the data set is taken from {inner[0].name} inside {folder}", *layout.doubts))
    else:
        layout = of_tree(folder, channels, labels)
        layout = layout if layout.entries else of_videos(folder)
        layout = layout if layout.entries else of_dicom(folder)
    if not layout.entries:
        raise SettingsError(
            f"{folder} holds no image with labels beside it{_seen(folder)}. {_hint(folder)}Known are imagesTr/labelsTr (nnU-Net, MSD), "
            "images/labels, frames/labels, videos (clip.mp4 and clip_labels/0012.png), a CSV with columns patient, image and labels (or "
            "class), and labels named like their image (scan.nii.gz, scan_seg.nii.gz); labels='*pattern*' "
            "(--labels for check, --set labels=... for train) says which files are labels."
        )
    lossy = [e for e in layout.entries if any(p.suffix.lower() in LOSSY for p in e.labels)]
    if lossy:
        doubt = f"labels of {how_many(len(lossy), 'case')} are JPEG files, which blur values: what is brighter than half counts as class 1"
        layout = replace(layout, doubts=(*layout.doubts, doubt))
    return with_patients(layout, patient)


def _hint(folder: Path) -> str:
    """A hint at what such a folder may be, from the names of its own folders."""
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    labels = [
        p.name for p in inside if re.match(r"(labels?|masks?|segmentations?|annotations?)[-_. ]", p.name, re.IGNORECASE)
    ]
    if images_in(folder) is not None and labels:
        return f"Of several folders of labels ({some(labels)}), call the one to learn from 'labels'. "
    if images_in(folder) is not None and len(structures := _structure_folders(folder)) > 1:
        a, b = structures[:2]
        return (
            f"Where {some(structures)} are structures with a mask of each in each image, put the masks beside their image: "
            f"patient1/image.nii.gz with patient1/masks/{a}.nii.gz, patient1/masks/{b}.nii.gz, … "
        )
    if len(inside) > 1 and all(files_in(p) for p in inside):
        return (
            f"If its folders ({some([p.name for p in inside])}) are classes of whole images, list these in a CSV with the columns patient, "
            "image and class. "
        )
    return ""


def _structure_folders(folder: Path) -> list[str]:
    """Folders beside those of images, or in those of labels, that hold files of the same names as the images."""
    images, labels = images_in(folder), labels_in(folder)
    names = {p.name for p in files_in(images)} if images is not None else set()
    places = [p for p in sorted((labels or folder).iterdir()) if p.is_dir() and p != images]
    return [p.name for p in places if names & {f.name for f in files_in(p)}]


def _seen(folder: Path) -> str:
    """The files that were found, for the message that none of them can be used."""
    endings = (*VOLUMES, *PICTURES)
    files = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.name.lower().endswith(endings)]
    return f" (there are {some(files)})" if files else ""


__all__ = ["EACH", "Entry", "Layout", "find_layout", "learns_classes"]
