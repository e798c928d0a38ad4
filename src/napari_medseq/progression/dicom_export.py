"""A progression as DICOM: per visit a segmentation, a structured report with its tracking UIDs, and a structure set where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq.errors import SettingsError, WriteError
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.progression.store import file_stem, session_names
from napari_medseq.sequence import ImageSequence
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari_medseq.io.dicom.sources import Reference
    from napari_medseq.io.dicom.sr_write import Finding
    from napari_medseq.progression.tracked import Tracked

#: columns of the lesion table that a report holds
_MEASURES = (
    "volume_ml",
    "longest_mm",
    "perpendicular_mm",
    "longest_3d_mm",
    "surface_mm2",
    "change_percent",
    "smallest_change_ml",
)


def export_dicom(
    progression: Tracked,
    folder: Path,
    *,
    references: Sequence[Reference | None] | None = None,
    rtstruct: bool = False,
    identifiers: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Path]:
    """Write each visit's lesions and measurements as DICOM; see `Progression.export_dicom`."""
    visits = progression.seen
    entries = [None] * len(progression.dates) if references is None else list(references)
    if len(entries) != len(progression.dates):
        raise SettingsError(
            f"{how_many(len(entries), 'reference')} for {how_many(len(progression.dates), 'visit')}; give one per visit, or None."
        )
    sources = {visit: _reference(progression, visit, entries[visit]) for visit in visits}
    names, patient = session_names(progression.dates), ""
    written: list[Path] = []
    for visit in with_progress(visits, len(visits), "writing DICOM", progress, cancelled):
        labels = progression.labels[visit]
        assert labels is not None
        patient = patient or _patient(labels, sources[visit])
        labels = labels.replace(meta={**labels.meta, "lesion_space": patient})
        written += _visit(progression, visit, labels, folder / names[visit], sources[visit], rtstruct, identifiers)
    return written


def _visit(
    progression: Tracked,
    visit: int,
    labels: ImageSequence,
    folder: Path,
    source: Reference,
    rtstruct: bool,
    identifiers: bool,
) -> list[Path]:
    from napari_medseq.io import write
    from napari_medseq.io.dicom.sr_write import TimePoint, write_report

    stem, empty = file_stem(labels.name), not labels.data.any()
    written = []
    if not empty:
        written.append(write(labels, folder / f"{stem}_seg.dcm", reference=source, identifiers=identifiers))
        if rtstruct:
            target = folder / f"{stem}_rtstruct.dcm"
            written.append(write(labels, target, reference=source, identifiers=identifiers, format="rtstruct"))
    days = progression.summary["days"][visit]
    report = write_report(
        labels,
        folder / f"{stem}_sr.dcm",
        findings=_findings(progression, visit),
        time_point=TimePoint(
            visit, len(progression.dates), progression.dates[visit], float(days) if days == days else None
        ),
        segmentation=None if empty else written[0],
        reference=source,
        identifiers=identifiers,
    )
    return [*written, report]


def _findings(progression: Tracked, visit: int) -> list[Finding]:
    from napari_medseq.io.dicom.sr_write import Finding

    table = progression.lesions
    rows = table[table["visit"] == visit]
    measures = [c for c in _MEASURES if c in rows]
    return [
        Finding(
            int(row["lesion"]),
            str(row["event"]),
            {c: float(row[c]) for c in measures},
            present=bool(row["volume_ml"] > 0),
        )
        for row in rows.to_dict("records")
    ]


def _reference(progression: Tracked, visit: int, reference: Reference | None) -> Reference:
    """The DICOM series of a visit: the given one, else the one that its image was read from."""
    if reference is not None:
        return reference
    image = progression.images[visit]
    if image is None or not image.meta.get("series_uid"):
        raise WriteError(
            f"Visit {visit + 1} of {len(progression.dates)}: the DICOM series of its image is not known, as where the image was read from "
            "NIfTI; name it with references=."
        )
    return image


def _patient(labels: ImageSequence, source: Reference) -> str:
    """The key of the patient in the tracking UIDs of all visits, from the first visit's series."""
    from napari_medseq.io.dicom.sources import patient_key, stack_for

    return patient_key(labels, stack_for(labels, source))
