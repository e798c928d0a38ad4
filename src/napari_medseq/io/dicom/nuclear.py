"""Nuclear medicine: one file whose frames are slices, gates, phases, detectors and energy windows at once.

The frame vectors tell what each frame is. Detectors and windows become separate images, gates and phases become time,
and slices of a reconstruction lie along the normal by SpacingBetweenSlices, whose sign gives the direction. Sources:
DICOM PS3.3 C.8.4.8 (multi-frame), C.8.4.14 (phase), C.8.4.15 (reconstruction), C.8.4.13 (gated).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.frame import Frame, unit_directions
from napari_medseq.io.dicom.values import first_item, number, numbers, texts, value

_PARTS = (("EnergyWindowVector", "window"), ("DetectorVector", "detector"))
_TIMES = ("RotationVector", "PhaseVector", "RRIntervalVector", "TimeSlotVector", "TimeSliceVector", "AngularViewVector")
_TYPES = ("STATIC", "DYNAMIC", "GATED", "WHOLE BODY", "TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO")


def is_nuclear(ds: Attributes) -> bool:
    """Whether frame vectors or a nuclear-medicine image type describe a multi-frame file."""
    return texts(ds, "ImageType")[2:3] in {(t,) for t in _TYPES} or any(
        name in ds for name in ("SliceVector", *_TIMES, *(keyword for keyword, _ in _PARTS))
    )


def expand(base: Frame, count: int) -> list[Frame]:
    """The frames of a nuclear-medicine file."""
    ds = base.file.ds
    kind = texts(ds, "ImageType")[2:3]
    rebuilt = kind[:1] and kind[0].startswith("RECON")
    slices = numbers(ds, "SliceVector", count)
    if slices is None and rebuilt:
        slices = np.arange(count, dtype=np.float64) + 1
    times = [v for name in _TIMES if (v := numbers(ds, name, count)) is not None]
    order = _ranks(times, count)
    parts = _parts(ds, count)
    starts = _starts(ds, order, count)
    out = []
    for k in range(count):
        frame = replace(base, index=k, clock={"instance": float(k)}, kind=base.kind._replace(part=parts[k]))
        if slices is not None:
            _place(frame, slices[k] - 1)
        if order.max(initial=0) > 0:
            frame.clock["temporal"] = float(order[k])
            if starts is not None:
                frame.clock["frame"] = float(starts[int(order[k])])
        out.append(frame)
    if order.max(initial=0) > 0 and kind in (("TOMO",), ("GATED TOMO",)):
        base.file.notes.append("The frames are views of a raw tomogram from different angles, not slices.")
    return out


def _parts(ds: Attributes, count: int) -> list[str]:
    """Keys that distinguish frames of different detectors and energy windows."""
    out = [""] * count
    for keyword, name in _PARTS:
        values = numbers(ds, keyword, count)
        if values is not None and len(set(values)) > 1:
            out = [f"{prefix} {name}{int(v)}".strip() for prefix, v in zip(out, values, strict=True)]
    return out


def _ranks(vectors: list[NDArray[np.float64]], count: int) -> NDArray[np.int64]:
    """The number of each frame's time point; the vectors count together, the first one slowest."""
    if not vectors:
        return np.zeros(count, np.int64)
    _, ranks = np.unique(np.stack(vectors, axis=1), axis=0, return_inverse=True)
    return np.asarray(ranks, np.int64).reshape(-1)


def _starts(ds: Attributes, order: NDArray[np.int64], count: int) -> NDArray[np.float64] | None:
    """Seconds at which each time point begins: phases of a dynamic study, or slots of a heart beat; None if
    unknown."""
    points = int(order.max(initial=0)) + 1
    lengths: list[float] = []
    for phase in value(ds, "PhaseInformationSequence") or []:
        each, frame_count = number(phase, "ActualFrameDuration"), number(phase, "NumberOfFramesInPhase")
        delay = number(phase, "PhaseDelay") or 0.0
        if not each or not frame_count or not 0 < frame_count <= count:
            return None
        lengths.extend([each] * int(frame_count))
        if delay and len(lengths) > int(frame_count):
            lengths[-int(frame_count) - 1] += delay
    gated = first_item(ds, "GatedInformationSequence")
    data = first_item(gated, "DataInformationSequence") if gated is not None else None
    slot = number(data, "FrameTime") if data is not None else None
    if not lengths and slot:
        lengths = [slot] * points
    if len(lengths) < points or min(lengths) <= 0:
        return None
    return np.concatenate([[0.0], np.cumsum(lengths)])[:points] / 1000.0


def _place(frame: Frame, number_: float) -> None:
    """Place a slice by the position of the detector (for a reconstruction: of the volume) and the signed spacing."""
    detector = first_item(frame.file.ds, "DetectorInformationSequence")
    directions = unit_directions(numbers(detector, "ImageOrientationPatient", 6)) if detector is not None else None
    position = numbers(detector, "ImagePositionPatient", 3) if detector is not None else None
    if directions is not None:
        frame.row, frame.column = directions
    start, normal = (position if position is not None else frame.position), frame.normal
    step = number(frame.file.ds, "SpacingBetweenSlices") or frame.thickness or 1.0
    frame.position = start + normal * step * number_ if start is not None and normal is not None else None
    frame.location = step * number_
