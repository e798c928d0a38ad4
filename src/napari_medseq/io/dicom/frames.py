"""The frames of a file: one for a classic file, many for an enhanced multi-frame, a mosaic, a cine or a dose grid.

Everything after this module (grouping, arranging, decoding) works on frames only.
Sources: DICOM PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups), C.8.8.3 (RT dose), C.8.4.15 (NM reconstruction).
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom import decoding, enhanced, mosaic, nuclear
from napari_medseq.io.dicom.elements import Attributes, Elements
from napari_medseq.io.dicom.frame import Frame, modality_lut, pixel_spacing, positive, unit_directions, window_of
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.kinds import diffusion_of, kind_of, philips_order
from napari_medseq.io.dicom.tags import PRIVATE, TAGS
from napari_medseq.io.dicom.values import EPOCH, integer, moment, number, numbers, seconds_of, stamp, text, texts, value

#: Modalities whose frames are slices unless attributes show that they are moments.
_VOLUMES = ("CT", "MR", "PT", "RTDOSE")
#: Attributes in which slices of one series may differ and still be read in the same way.
_OWN = frozenset(
    TAGS[keyword][0]
    for keyword in (
        "SOPInstanceUID", "ImagePositionPatient", "SliceLocation", "InstanceNumber", "TemporalPositionIdentifier", "TriggerTime",
        "FrameReferenceTime", "NominalPercentageOfCardiacPhase", "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime",
        "AcquisitionDateTime", "ContentDate", "ContentTime", "SeriesDate", "SeriesTime", "StudyDate", "StudyTime",
    )
) | {PRIVATE[f"Philips {name}"][0] for name in ("diffusion order", "b-value number", "gradient number", "label", "phase")}  # fmt: skip
#: Sequences that determine how a frame is read.
_NESTED = frozenset(
    TAGS[keyword][0]
    for keyword in (
        "SequenceOfUltrasoundRegions", "ModalityLUTSequence", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence",
    )
)  # fmt: skip


def frames_of(file: FileHeader, alike: dict[object, Frame] | None = None) -> list[Frame]:
    """All frames of one file; empty if it has no pixels.

    Parameters
    ----------
    file : FileHeader
    alike : dict, optional
        A cache of frames, for slices of a series that differ only in the attributes that every slice has of its own.

    Raises
    ------
    ReadError
        If its frames are tiles of a larger picture.
    """
    ds = file.ds
    key = _unvarying(file) if alike is not None else None
    template = alike.get(key) if alike is not None and key is not None else None
    if template is not None:
        frame = copy(template)
        frame.file, frame.clock = file, {}
        return [_of_its_own(frame)]
    rows, columns = integer(ds, "Rows"), integer(ds, "Columns")
    if rows < 1 or columns < 1 or not file.pixel_keyword:
        return []
    count = max(integer(ds, "NumberOfFrames", 1), 1)
    if "TotalPixelMatrixColumns" in ds and integer(ds, "TotalPixelMatrixColumns") > columns:
        raise ReadError(
            f"{file.path}: this is one tile of a whole-slide picture or many; open it with a reader for those."
        )
    base = _plain(file, rows, columns)
    if "PerFrameFunctionalGroupsSequence" in ds or "SharedFunctionalGroupsSequence" in ds:
        return enhanced.expand(file, base, count)
    tiles = mosaic.tiles(ds) if count == 1 and mosaic.is_mosaic(ds) else None
    if tiles is None and count == 1 and "MOSAIC" in texts(ds, "ImageType"):
        tiles = mosaic.counted(ds, decoding.decode(base))
        doubt = (
            "its slices were counted from the picture and may run the other way"
            if tiles
            else "its slices could not be told apart"
        )
        file.notes.append(f"A mosaic without its private header: {doubt}.")
    if tiles is not None:
        return mosaic.expand(base, tiles if tiles.certain else mosaic.settled(tiles, decoding.decode(base)))
    if count > 1:
        return _multi(base, count)
    if alike is not None and key is not None and not file.notes:
        alike[key] = base
    return [base]


def _unvarying(file: FileHeader) -> tuple[object, ...] | None:
    """The stored bytes that all slices of one series share; None if sequences matter, whose bytes are not kept."""
    if not isinstance(file.ds, Elements) or not _NESTED.isdisjoint(file.ds.values):
        return None
    return file.pixel_keyword, file.syntax, *[pair for pair in file.ds.values.items() if pair[0] not in _OWN]


def _plain(file: FileHeader, rows: int, columns: int) -> Frame:
    ds = file.ds
    frame = Frame(file, 0, (rows, columns))
    directions = unit_directions(numbers(ds, "ImageOrientationPatient", 6))
    if directions is not None:
        frame.row, frame.column = directions
    frame.spacing = pixel_spacing(ds)
    for keyword in ("ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = numbers(ds, keyword, 2)
        if frame.spacing is None and spacing is not None and (spacing > 0).all():
            frame.spacing = (float(spacing[0]), float(spacing[1]))
            note = f"{keyword} is used as pixel spacing; sizes are those at the detector, not in the patient."
            if note not in file.notes:
                file.notes.append(note)
    if frame.spacing is None:
        frame.spacing = _region_spacing(ds)
    frame.thickness, frame.between = positive(ds, "SliceThickness"), positive(ds, "SpacingBetweenSlices")
    slope, inter = number(ds, "RescaleSlope"), number(ds, "RescaleIntercept")
    if slope == 0:
        file.notes.append("RescaleSlope is 0, which would blank the image; 1 is used.")
        slope = 1.0
    frame.slope, frame.inter = 1.0 if slope is None else slope, 0.0 if inter is None else inter
    scaling = number(ds, "DoseGridScaling")
    if scaling:
        frame.slope, frame.inter = scaling, 0.0
    frame.lut = modality_lut(ds)
    frame.kind = kind_of(ds)
    frame.window = window_of(ds)
    frame.b_value, frame.b_vector = diffusion_of(ds)
    frame.repetition_ms = positive(ds, "RepetitionTime")
    return _of_its_own(frame)


def _region_spacing(ds: Attributes) -> tuple[float, float] | None:
    """Pixel size in mm of an ultrasound image whose regions all state the same one (PS3.3 C.8.5.5)."""
    regions = value(ds, "SequenceOfUltrasoundRegions") or []
    spacings = set()
    for region in regions:
        if (
            integer(region, "PhysicalUnitsXDirection") == 3 == integer(region, "PhysicalUnitsYDirection")
        ):  # 3: centimetres
            along, down = positive(region, "PhysicalDeltaX"), positive(region, "PhysicalDeltaY")
            if along and down:
                spacings.add((round(10 * down, 6), round(10 * along, 6)))
    return spacings.pop() if len(spacings) == 1 else None


def _of_its_own(frame: Frame) -> Frame:
    """The attributes that every slice of a series has of its own: position and times (`_OWN`)."""
    ds, clock = frame.file.ds, frame.clock
    frame.position, frame.location = numbers(ds, "ImagePositionPatient", 3), number(ds, "SliceLocation")
    for name, keyword, scale in (
        ("temporal", "TemporalPositionIdentifier", 1.0),
        ("trigger", "TriggerTime", 1e-3),
        ("reference", "FrameReferenceTime", 1e-3),
        ("phase", "NominalPercentageOfCardiacPhase", 1.0),
        ("acquisition", "AcquisitionNumber", 1.0),
        ("instance", "InstanceNumber", 1.0),
    ):
        amount = number(ds, keyword)
        if amount is not None:
            clock[name] = amount * scale
    clock.update(philips_order(ds))
    acquired = stamp(ds, "AcquisitionDateTime") or moment(ds, "AcquisitionDate", "AcquisitionTime")
    if acquired is None and text(ds, "AcquisitionTime"):
        acquired = moment(ds, "StudyDate", "AcquisitionTime")
    content = moment(ds, "ContentDate", "ContentTime")
    for name, at, keyword in (("acquired", acquired, "AcquisitionTime"), ("content", content, "ContentTime")):
        seconds = (at - EPOCH).total_seconds() if at is not None else seconds_of(text(ds, keyword))
        if seconds is not None:
            clock[name] = seconds
    day = moment(ds, "SeriesDate", "SeriesTime") or moment(ds, "StudyDate", "StudyTime")
    frame.acquired = acquired or day or content
    return frame


def _multi(base: Frame, count: int) -> list[Frame]:
    """Frames of a multi-frame file without functional groups: a dose grid, a tomogram, or a cine in time."""
    ds = base.file.ds
    if nuclear.is_nuclear(ds):
        return nuclear.expand(base, count)
    frames = [replace(base, index=k, clock=dict(base.clock, instance=float(k))) for k in range(count)]
    offsets = numbers(ds, "GridFrameOffsetVector", count)
    if offsets is not None and base.normal is not None and base.position is not None:
        return _along_normal(frames, offsets if offsets[0] == 0 else offsets - offsets[0])
    vector = numbers(ds, "FrameTimeVector", count)
    step = positive(ds, "FrameTime")
    rate = positive(ds, "RecommendedDisplayFrameRate") or positive(ds, "CineRate")
    if vector is not None:
        times = np.asarray(np.cumsum(vector) / 1000.0, dtype=np.float64)
    elif step is not None or rate is not None:
        times = np.arange(count, dtype=np.float64) * (step / 1000.0 if step is not None else 1.0 / float(rate or 1))
    elif text(ds, "Modality") in _VOLUMES and base.normal is not None and base.position is not None:
        apart = base.between or base.thickness or 1.0
        base.file.notes.append(f"{count} frames without times or places of their own are stacked {apart:g} mm apart.")
        return _along_normal(frames, np.arange(count, dtype=np.float64) * float(apart))
    else:
        times = None
    for k, frame in enumerate(frames):
        frame.clock = (
            {"temporal": float(k)} if times is None else {"temporal": float(k), "frame": float(times[k] - times[0])}
        )
    return frames


def _along_normal(frames: list[Frame], offsets: NDArray[np.float64]) -> list[Frame]:
    """The frames of one file as slices, at given distances in mm from the first one along its normal."""
    start, row, column = frames[0].plane
    for frame, offset in zip(frames, offsets, strict=True):
        frame.position, frame.clock = start + np.cross(row, column) * offset, {}
    return frames
