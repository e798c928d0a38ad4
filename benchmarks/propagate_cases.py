"""The patients that `propagate.py` is judged on: image, expert masks, and which network has never seen their set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import napari_medseq as ms

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))


@dataclass(frozen=True, eq=False)
class Case:
    """One image with the truth of some objects.

    Attributes
    ----------
    patient : str
        What intervals are over.
    image : ImageSequence
    truth : ndarray of int
        On the image's grid.
    objects : dict of int to str
    """

    patient: str
    image: ms.ImageSequence
    truth: NDArray[np.int64]
    objects: dict[int, str]

    @property
    def name(self) -> str:
        """Patient and image."""
        return f"{self.patient}/{self.image.name}"


#: set → the network that never saw it; "propagate" is the shipped one
NETWORKS = {
    "hippocampus": "propagate",
    "acdc": "propagate",
    "flair": "propagate",
    "brain": "without-brains",
    "sarcoma": "without-sarcoma-lung",
    "lung": "without-sarcoma-lung",
    "sunnybrook": "without-hearts-larynx",
}


def cases(name: str) -> Iterator[Case]:
    """The cases of a set, patient by patient, spread over the set.

    Of hippocampus, ACDC and FLAIR those on which variants of the network were compared (every 16th, 8th, 6th patient) are left
    out.
    """
    reader = {
        "hippocampus": _hippocampus,
        "acdc": _acdc,
        "flair": _flair,
        "brain": _brain,
        "sarcoma": _sarcoma,
        "lung": _lung,
        "sunnybrook": _sunnybrook,
    }[name]
    return reader()


def spread(found: list[Path], seen: int = 0) -> list[Path]:
    """Paths in an order in which the first n are spread over all, without every `seen`-th."""
    left = [p for k, p in enumerate(found) if not seen or k % seen]
    return [left[int(i)] for i in np.random.default_rng(0).permutation(len(left))]


def _case(patient: str, image: Path, mask: Path, objects: dict[int, str]) -> Case:
    seq = ms.read(image, kind="image")[0]
    drawn = ms.read(mask, kind="labels")[0]
    return Case(patient, seq, np.asarray(drawn.data).astype(np.int64), objects)


def _hippocampus() -> Iterator[Case]:
    for path in spread(sorted((DATA / "hippocampus" / "images").glob("*.nii.gz")), 16):
        mask = DATA / "hippocampus" / "labels" / path.name
        yield _case(path.name.removesuffix(".nii.gz"), path, mask, {1: "anterior", 2: "posterior"})


def _acdc() -> Iterator[Case]:
    for folder in spread(sorted(p for p in (DATA / "cardiac-acdc").iterdir() if p.is_dir()), 8):
        for phase in ("ED", "ES"):
            objects = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
            yield _case(folder.name, folder / f"{phase}.nii.gz", folder / f"{phase}_labels.nii.gz", objects)


def _flair() -> Iterator[Case]:
    for folder in spread(sorted(p for p in (DATA / "glioma-flair").iterdir() if p.is_dir()), 6):
        yield _case(folder.name, folder / "FLAIR.nii.gz", folder / "tumor.nii.gz", {1: "FLAIR abnormality"})


def _brain() -> Iterator[Case]:
    for folder in spread(sorted((DATA / "brain-tumor-progression").glob("sub-*"))):
        for image in sorted(folder.glob("*/*_T1post.nii.gz")):
            mask = image.with_name(image.name.replace("_T1post", "_tumor"))
            yield _case(folder.name, image, mask, {1: "enhancing tumour"})


def _sarcoma() -> Iterator[Case]:
    for folder in spread(sorted((DATA / "sarcoma" / "nifti").iterdir())):
        for kind in ("CT", "MR_T1", "PET"):
            yield _case(folder.name, folder / f"{kind}_image.nii.gz", folder / f"{kind}_mask.nii.gz", {1: "sarcoma"})


def _lung() -> Iterator[Case]:
    for folder in spread(sorted((DATA / "lung-nodules").glob("*/*"))):
        if (folder / "CT.nii.gz").is_file():
            yield _case(folder.parent.name, folder / "CT.nii.gz", folder / "CT_mask.nii.gz", {1: "nodule"})


def _sunnybrook() -> Iterator[Case]:
    for folder in spread(sorted((DATA / "cardiac-sunnybrook").iterdir())):
        for phase in ("ED", "ES"):
            yield _case(
                folder.name, folder / f"{phase}.nii.gz", folder / f"{phase}_labels.nii.gz", {1: "left ventricle"}
            )


def visit_pairs() -> Iterator[tuple[str, list[ms.Visit]]]:
    """Patients with two visits and masks of both."""
    for folder in sorted((DATA / "brain-tumor-progression").glob("sub-*")):
        yield folder.name, list(ms.read_study(folder).visits)


def videos() -> Iterator[Case]:
    """The frames of each laryngoscopy with what is segmented in the first one."""
    from skimage.io import imread

    names = {1: "vocal folds", 3: "glottis", 4: "pathology", 5: "tool", 6: "tube"}
    for folder in sorted((DATA / "larynx-video" / "patient1").iterdir()):
        frames = sorted((folder / "frames").glob("*.jpg"))
        colours = np.stack([imread(f) for f in frames])
        drawn = np.stack([imread(folder / "labels" / f"{f.stem}.png") for f in frames])
        drawn = (drawn[..., 0] if drawn.ndim == 4 else drawn).astype(np.int64)
        there = [int(v) for v in np.unique(drawn[0]) if v in names]
        image = ms.ImageSequence(colours, ("t", "y", "x", "c"), np.eye(4), oriented=False, name=folder.name)
        yield Case(folder.name, image, drawn, {v: names[v] for v in there})
