"""The contents of any number of DICOM files, from headers only, for `info` and the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from napari_medseq.io import naming
from napari_medseq.io.dicom import series
from napari_medseq.io.dicom.privacy import pseudonym, without_identifiers
from napari_medseq.io.dicom.stacks import Stack
from napari_medseq.io.dicom.values import text
from napari_medseq.io.notes import collect_failures
from napari_medseq.progress import Cancelled, Progress


def facts(
    paths: Iterable[str | os.PathLike[str]],
    failures: list[str],
    *,
    identifiers: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[dict[str, Any]]:
    """One entry per image that `read` would return; files that cannot be opened are appended to `failures`."""
    scanned = series.scan(paths, progress, cancelled)
    failures.extend(scanned.failures)
    patients: dict[str, str] = {}
    out: list[dict[str, Any]] = []
    for frames, shared in series.images(scanned):
        arranged: list[tuple[Stack, str]] = []
        with collect_failures(series.series_name(frames[0]), failures):
            arranged = series.named(series.arrange(frames, shared))
        for stack, name in arranged:
            ds = stack.first.file.ds
            who_hash = pseudonym(ds)
            patients.setdefault(who_hash, f"patient-{len(patients) + 1}")
            entry = {
                "name": name,
                "kind": "image",
                "format": "DICOM",
                "modality": text(ds, "Modality") or None,
                "patient": patients[who_hash],
                "study": text(ds, "StudyInstanceUID"),
                "series": text(ds, "SeriesInstanceUID"),
                "date": str(stack.first.acquired.date()) if stack.first.acquired else None,
                "shape": [stack.first.shape[1], stack.first.shape[0], len(stack.grid[0]), len(stack.grid)],
                "spacing_mm": [round(float(v), 6) for v in np.linalg.norm(stack.affine[:3, :3], axis=0)],
                "frames": len(stack.grid),
                "times_s": None if stack.times is None else [float(v) for v in stack.times],
                "files": len({f.file.path for row in stack.grid for f in row}),
                "transfer_syntax": stack.first.file.syntax,
                "source": os.path.dirname(stack.first.file.path),
                "warnings": [*stack.notes, *stack.first.file.notes],
            }
            if identifiers:
                entry["patient"], entry["patient_id"] = text(ds, "PatientName"), text(ds, "PatientID")
            out.append(entry)
    for file in scanned.labels:
        description = without_identifiers(text(file.ds, "SeriesDescription"), file.ds)
        out.append(
            {"name": naming.readable(description or file.name), "kind": "labels", "format": "DICOM",
             "modality": text(file.ds, "Modality"), "source": file.path, "warnings": file.notes}
        )  # fmt: skip
    return out
