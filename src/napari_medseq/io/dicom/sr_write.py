"""Measurements of lesions at one visit as a DICOM structured report (TID 1500), each lesion with the tracking UID of its segment.

A program with the reports of several visits recognises a lesion by its tracking UID, and finds the order of visits and
the days between them in the time-point context. Reports are written through highdicom. Source: DICOM PS3.16 TID 1500,
1411, 1501 and 1502 (2024d).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import files
from napari_medseq.errors import WriteError
from napari_medseq.io.dicom.sources import Reference, anonymise, patient_key, sources, stack_for, tracking_uid
from napari_medseq.io.dicom.values import text
from napari_medseq.io.notes import silenced
from napari_medseq.sequence import ImageSequence
from napari_medseq.version import __version__

if TYPE_CHECKING:
    import highdicom as hd
    from pydicom import Dataset
    from pydicom.sr.coding import Code

#: coding scheme for concepts without a code in the standard
SCHEME = "99NAPARI_MEDSEQ"
#: SNOMED CT codes of the procedure, by modality
_PROCEDURES = {
    "CT": ("77477000", "Computed tomography"),
    "MR": ("113091000", "Magnetic resonance imaging"),
    "PT": ("82918005", "Positron emission tomography"),
    "US": ("16310003", "Ultrasonography"),
}
_IMAGING = ("363679005", "Imaging")


@dataclass(frozen=True)
class TimePoint:
    """The visit that a report is about.

    Attributes
    ----------
    visit : int
        Number of the visit, from 0.
    visits : int
        Number of all visits.
    day : date or None
    days_since_first : float or None
        Days since the first visit.
    """

    visit: int
    visits: int
    day: date | None = None
    days_since_first: float | None = None


@dataclass(frozen=True)
class Finding:
    """One lesion at one visit.

    Attributes
    ----------
    lesion : int
        Its identity, which is the value in the labels.
    event : str
        Its change since the previous visit.
    measures : mapping
        Values by the names of the lesion table (``volume_ml``, ``longest_mm``, ``perpendicular_mm``, ``longest_3d_mm``,
        ``surface_mm2``, ``change_percent``, ``smallest_change_ml``); blanks (NaN) are left out.
    present : bool
        False if it is gone, and thus has no segment.
    """

    lesion: int
    event: str
    measures: Mapping[str, float] = field(default_factory=dict)
    present: bool = True


def write_report(
    labels: ImageSequence,
    path: Path,
    *,
    findings: Sequence[Finding],
    time_point: TimePoint,
    segmentation: Path | None,
    reference: Reference | None = None,
    identifiers: bool = False,
) -> Path:
    """Write the measurements of one visit.

    Parameters
    ----------
    labels : ImageSequence
        The labels of the visit, on the grid of the reference.
    path : Path
    findings : sequence of Finding
    time_point : TimePoint
    segmentation : Path or None
        The DICOM SEG of the same labels; None if no lesion is present.
    reference : path-like, sequence of path-like, ImageSequence or None
        The DICOM series; None takes the one that the labels' image was read from.
    identifiers : bool
        Keep the patient's name, ID and birth date.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    WriteError
        If there is no reference, a lesion that is present has no segment, or the disk refuses.
    """
    from pydicom import dcmread

    with silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stack = stack_for(labels, reference)
        seg = None if segmentation is None else dcmread(segmentation)
        images = sources(stack, identifiers)[0]
        patient = patient_key(labels, stack)
        try:
            report = _report(labels, seg, images, patient, findings, time_point)
        except (AttributeError, ValueError, TypeError, KeyError) as error:
            raise WriteError(
                f"{labels.name}: the reference series lacks what a structured report needs ({error})."
            ) from error
        if not identifiers:
            anonymise(report, stack.first.file.ds)
        with files.replacing(path) as temporary:
            report.save_as(temporary)
    return path


def _report(
    labels: ImageSequence,
    seg: Dataset | None,
    images: Sequence[Dataset],
    patient: str,
    findings: Sequence[Finding],
    time_point: TimePoint,
) -> hd.sr.ComprehensiveSR:
    import highdicom as hd
    from highdicom import sr
    from pydicom.sr.codedict import codes

    segments = {} if seg is None else {str(s.TrackingUID): int(s.SegmentNumber) for s in seg.SegmentSequence}
    tracking = labels.meta.get("tracking")
    groups = [
        _group(finding, tracking_uid(tracking, patient, finding.lesion), segments, seg, images[0], time_point, labels)
        for finding in findings
    ]
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(),
            name="napari-medseq",
            manufacturer_name="napari-medseq",
            model_name=f"napari-medseq {__version__}",
        ),
    )
    code, meaning = _PROCEDURES.get(labels.modality or text(images[0], "Modality"), _IMAGING)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=sr.CodedConcept(code, "SCT", meaning),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.ComprehensiveSR(
        evidence=[*([] if seg is None else [seg]), *images],
        content=content,
        series_instance_uid=hd.UID(),
        series_number=int(str(labels.meta.get("series_number") or 0)) + 3000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="napari-medseq",
        series_description=f"Lesions, visit {time_point.visit + 1} of {time_point.visits}",
        is_complete=True,
    )


def _group(
    finding: Finding,
    uid: str,
    segments: Mapping[str, int],
    seg: Dataset | None,
    image: Dataset,
    time_point: TimePoint,
    labels: ImageSequence,
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations | hd.sr.MeasurementsAndQualitativeEvaluations:
    """The measurements of one lesion: of its segment (TID 1411), or of a lesion that is gone (TID 1501)."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    if finding.present and (seg is None or uid not in segments):
        raise WriteError(f"{labels.name}: lesion {finding.lesion} has no segment in the DICOM segmentation.")
    event = sr.QualitativeEvaluation(
        name=_own("event", "Event since the visit before"), value=_own(finding.event.replace(" ", "-"), finding.event)
    )
    shared = {
        "tracking_identifier": sr.TrackingIdentifier(uid=uid, identifier=f"Lesion {finding.lesion}"),
        "time_point_context": _context(time_point),
        "finding_category": codes.SCT.MorphologicallyAbnormalStructure,
        "finding_type": codes.SCT.Lesion,
        "measurements": _measurements(finding.measures),
        "qualitative_evaluations": [event],
    }
    model = labels.meta.get("model")
    if model:
        shared["algorithm_id"] = sr.AlgorithmIdentification(name=str(model), version=__version__)
    if not finding.present or seg is None:
        return sr.MeasurementsAndQualitativeEvaluations(**shared)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=segments[uid],
            source_series=sr.SourceSeriesForSegmentation(image.SeriesInstanceUID),
        ),
        **shared,
    )


def _context(time_point: TimePoint) -> hd.sr.TimePointContext:
    """TID 1502: name, order and days since the first visit."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    offset = None
    if time_point.days_since_first is not None:
        offset = sr.LongitudinalTemporalOffsetFromEvent(
            value=time_point.days_since_first, unit=codes.UCUM.Day, event_type=codes.UMLS.Baseline
        )
    name = f"visit {time_point.visit + 1}"
    return sr.TimePointContext(
        time_point=time_point.day.isoformat() if time_point.day else name,
        time_point_type=codes.UMLS.Baseline if time_point.visit == 0 else None,
        time_point_order=time_point.visit + 1,
        subject_time_point_identifier=name,
        temporal_offset_from_event=offset,
    )


def _measurements(measures: Mapping[str, float]) -> list[hd.sr.Measurement]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    millilitre, millimetre = sr.CodedConcept("mL", "UCUM", "milliliter"), codes.UCUM.Millimeter
    concepts: dict[str, tuple[Code | hd.sr.CodedConcept, Code | hd.sr.CodedConcept]] = {
        "volume_ml": (codes.SCT.Volume, millilitre),
        "longest_mm": (codes.SCT.LongAxis, millimetre),
        "perpendicular_mm": (codes.SCT.PerpendicularAxis, millimetre),
        "longest_3d_mm": (codes.IBSI.Maximum3DDiameterOfAMesh, millimetre),
        "surface_mm2": (codes.IBSI.SurfaceAreaOfMesh, sr.CodedConcept("mm2", "UCUM", "square millimeter")),
        "change_percent": (_own("volume-change", "Change of volume since the visit before"), codes.UCUM.Percent),
        "smallest_change_ml": (_own("smallest-change", "Smallest real change of volume"), millilitre),
    }
    return [
        sr.Measurement(name=name, value=float(f"{measures[key]:.8g}"), unit=unit)
        for key, (name, unit) in concepts.items()
        if key in measures and math.isfinite(measures[key])
    ]


def _own(value: str, meaning: str) -> hd.sr.CodedConcept:
    from highdicom import sr

    return sr.CodedConcept(value[:16], SCHEME, meaning)
