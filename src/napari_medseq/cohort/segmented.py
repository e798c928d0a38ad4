"""Segmentations stored beside a patient's result, so that changed settings of tracking need no new segmentation."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

from napari_medseq import files, record
from napari_medseq.errors import ReadError
from napari_medseq.models.choosing import Chosen
from napari_medseq.pipeline import Segmented
from napari_medseq.registration import VisitAlignment

FOLDER = ".segmented"
_FACTS, _MASKS = "segmented.json", "masks.npz"


def keep(segmented: Segmented, folder: Path, key: str) -> None:
    """Write a segmentation into the folder of a result, under the hash of its dependencies; it replaces the previous
    one.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    place = folder / FOLDER
    forget(folder)
    with files.replacing(place / _MASKS) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, *(np.asarray(mask.data) for mask in segmented.masks))
    facts = {
        "key": key,
        "masks_sha256": record.sha256(place / _MASKS),
        "names": [mask.name for mask in segmented.masks],
        "label_names": [{str(v): n for v, n in mask.label_names.items()} for mask in segmented.masks],
        "to_common": [a.to_baseline.tolist() for a in segmented.aligned],
        "alignment": [[a.error_mm, a.reason] for a in segmented.aligned],
        "registration_error_mm": segmented.registration_error_mm,
        "dropped": list(segmented.dropped),
        "doubts": list(segmented.doubts),
    }
    files.write_json(place / _FACTS, facts)


def is_kept(folder: Path, key: str) -> bool:
    """Whether the folder of a result holds a complete segmentation with these dependencies."""
    try:
        facts = record.read_json(folder / FOLDER / _FACTS)
        return bool(facts["key"] == key) and bool(facts["masks_sha256"] == record.sha256(folder / FOLDER / _MASKS))
    except (ReadError, OSError, KeyError):
        return False


def kept(folder: Path, chosen: list[Chosen]) -> Segmented:
    """The segmentation that `keep` wrote, for the same images.

    Raises
    ------
    ReadError
        If it is broken.
    """
    try:
        facts = json.loads((folder / FOLDER / _FACTS).read_text(encoding="utf-8"))
        with np.load(folder / FOLDER / _MASKS, allow_pickle=False) as arrays:
            masks = [
                choice.image.labels_like(
                    arrays[f"arr_{n}"], name=name, label_names={int(v): str(label) for v, label in labels.items()}
                )
                for n, (choice, name, labels) in enumerate(
                    zip(chosen, facts["names"], facts["label_names"], strict=True)
                )
            ]
        aligned = [
            VisitAlignment(None, float(error), str(reason), common=np.array(matrix, float))
            for (error, reason), matrix in zip(facts["alignment"], facts["to_common"], strict=True)
        ]
        error_mm = facts["registration_error_mm"]
        return Segmented(
            tuple(chosen),
            tuple(aligned),
            tuple(masks),
            None if error_mm is None else float(error_mm),
            tuple(facts["dropped"]),
            tuple(facts["doubts"]),
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ReadError(f"{folder / FOLDER} holds a broken segmentation ({error}); remove it.") from None


def forget(folder: Path) -> None:
    """Remove a stored segmentation."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
