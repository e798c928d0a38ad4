"""Enhanced multi-frame objects: per-frame functional groups, else the shared ones, become frames.

Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups) and C.8.13 (enhanced MR).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.frame import Frame, pixel_spacing, positive, unit_directions, window_of
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.kinds import enhanced_diffusion
from napari_medseq.io.dicom.values import EPOCH, first_item, number, numbers, stamp, text, texts, value

if TYPE_CHECKING:
    from pydicom import Dataset

_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
    "XRay3DFrameTypeSequence",
    "FrameTypeSequence",
)


class Groups:
    """Functional groups of one frame: the per-frame item takes precedence over the shared one."""

    def __init__(self, per_frame: Dataset | None, shared: Dataset | None) -> None:
        self._sources = [source for source in (per_frame, shared) if source is not None]

    def item(self, sequence: str) -> Dataset | None:
        """The first item of a functional group, or None."""
        for source in self._sources:
            result = first_item(source, sequence)
            if result is not None:
                return result
        return None


def groups_of(ds: Attributes, count: int) -> list[Groups]:
    """Functional groups for each of `count` frames; the shared ones stand for items missing at the end."""
    shared = first_item(ds, "SharedFunctionalGroupsSequence")
    per_frame = value(ds, "PerFrameFunctionalGroupsSequence") or []
    return [Groups(per_frame[k] if k < len(per_frame) else None, shared) for k in range(count)]


def expand(file: FileHeader, base: Frame, count: int) -> list[Frame]:
    """One frame per item of the functional groups."""
    ds = file.ds
    listed = len(value(ds, "PerFrameFunctionalGroupsSequence") or [])
    if 0 < listed < count:
        file.notes.append(f"{count} frames are announced but only {listed} are described; the others are left out.")
        count = listed
    groups = groups_of(ds, count)
    frames = [_frame(base, k, one) for k, one in enumerate(groups)]
    _spread(frames, groups)
    return frames


def _spread(frames: list[Frame], groups: list[Groups]) -> None:
    """Separate slices that all have the position of the first one, by their numbers within the stack."""
    first = frames[0]
    if first.position is None or first.normal is None or len(frames) < 2:
        return
    contents = [one.item("FrameContentSequence") for one in groups]
    places = [None if item is None else number(item, "InStackPositionNumber") for item in contents]
    if (
        len(set(places)) < 2
        or None in places
        or any(f.position is None or (f.position != first.position).any() for f in frames)
    ):
        return
    step = first.between or first.thickness or 1.0
    first.file.notes.append(
        f"All frames have the position of the first slice; they are placed {step:g} mm apart by their number."
    )
    for frame, place in zip(frames, places, strict=True):
        frame.position = first.position + first.normal * step * (float(place or 1) - 1)


def _frame(base: Frame, index: int, groups: Groups) -> Frame:
    frame = replace(base, index=index, clock=_inherited(base, index))
    plane, orientation = groups.item("PlanePositionSequence"), groups.item("PlaneOrientationSequence")
    measures, values = groups.item("PixelMeasuresSequence"), groups.item("PixelValueTransformationSequence")
    position = numbers(plane, "ImagePositionPatient", 3) if plane is not None else None
    frame.position = base.position if position is None else position
    directions = (
        unit_directions(numbers(orientation, "ImageOrientationPatient", 6)) if orientation is not None else None
    )
    if directions is not None:
        frame.row, frame.column = directions
    if plane is None and frame.position is None:
        _in_volume(frame, groups)
    if measures is not None:
        frame.spacing = pixel_spacing(measures) or base.spacing
        frame.thickness = positive(measures, "SliceThickness") or base.thickness
        frame.between = positive(measures, "SpacingBetweenSlices") or base.between
    if values is not None:
        slope, inter = number(values, "RescaleSlope"), number(values, "RescaleIntercept")
        frame.slope, frame.inter = (slope or base.slope), (base.inter if inter is None else inter)
    voi = groups.item("FrameVOILUTSequence")
    if voi is not None:
        frame.window = window_of(voi)
    content, echo = groups.item("FrameContentSequence"), groups.item("MREchoSequence")
    kind = next((candidate for name in _TYPES if (candidate := groups.item(name)) is not None), None)
    time = number(echo, "EffectiveEchoTime") if echo is not None else None
    frame.kind = base.kind._replace(
        image_type=texts(kind, "FrameType") if kind is not None else base.kind.image_type,
        echo_time=base.kind.echo_time if time is None else round(time, 2),
        component=(text(kind, "ComplexImageComponent") if kind is not None else "") or base.kind.component,
        stack=text(content, "StackID") if content is not None else "",
    )
    diffusion = groups.item("MRDiffusionSequence")
    if diffusion is not None:
        frame.b_value, frame.b_vector = enhanced_diffusion(diffusion)
    timing = groups.item("MRTimingAndRelatedParametersSequence")
    if timing is not None:
        frame.repetition_ms = positive(timing, "RepetitionTime") or base.repetition_ms
    cardiac = groups.item("CardiacSynchronizationSequence")
    temporal = groups.item("TemporalPositionSequence")
    _clock(frame, content, cardiac, temporal)
    frame.acquired = frame.acquired or base.acquired
    return frame


#: Stride of frame numbers per file, so that the frames of the next file follow.
_MOST = 1 << 20


def _inherited(base: Frame, index: int) -> dict[str, float]:
    """Let frames inherit the times of the whole file, so that the files of a series (one volume each) can be told
    apart."""
    clock: dict[str, float] = {n: base.clock[n] for n in ("acquired", "content", "acquisition") if n in base.clock}
    clock["instance"] = base.clock.get("instance", 0.0) * _MOST + index
    return clock


def _in_volume(frame: Frame, groups: Groups) -> None:
    """Place a frame of an enhanced ultrasound volume in the world of the probe, not of the patient (PS3.3
    C.8.24.3)."""
    plane, orientation = groups.item("PlanePositionVolumeSequence"), groups.item("PlaneOrientationVolumeSequence")
    position = numbers(plane, "ImagePositionVolume", 3) if plane is not None else None
    directions = numbers(orientation, "ImageOrientationVolume", 6) if orientation is not None else None
    unit = unit_directions(directions)
    if position is not None and unit is not None:
        frame.position, (frame.row, frame.column), frame.oriented = position, unit, False


def _clock(frame: Frame, content: Dataset | None, cardiac: Dataset | None, temporal: Dataset | None) -> None:
    clock = frame.clock
    if content is not None:
        for name, keyword in (("temporal", "TemporalPositionIndex"), ("acquisition", "FrameAcquisitionNumber")):
            seconds = number(content, keyword)
            if seconds is not None:
                clock[name] = seconds
        for name, keyword in (("acquired", "FrameAcquisitionDateTime"), ("content", "FrameReferenceDateTime")):
            at = stamp(content, keyword, frame.file.ds)
            if at is not None:
                clock[name] = (at - EPOCH).total_seconds()
                frame.acquired = at if name == "acquired" else frame.acquired
    if cardiac is not None:
        for keyword in ("NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime"):
            seconds = number(cardiac, keyword)
            if seconds is not None:
                clock["trigger"] = seconds / 1000.0
                break
    if temporal is not None:
        seconds = number(temporal, "TemporalPositionTimeOffset")
        if seconds is not None:
            clock["frame"] = seconds
