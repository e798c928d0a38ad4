"""Cine series of the heart: volume-time curve, ejection fraction, stroke volume, thickening of the wall by segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.turning import turned

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ejection:
    """The volumes and the ejection fraction of one cavity.

    Parameters
    ----------
    end_diastolic_ml, end_systolic_ml, stroke_ml : float
        Largest and smallest volume, and their difference.
    ejection_fraction_percent : float
    end_diastole, end_systole : int
        The frames.
    """

    end_diastolic_ml: float
    end_systolic_ml: float
    stroke_ml: float
    ejection_fraction_percent: float
    end_diastole: int
    end_systole: int


def volume_time(labels: ImageSequence | Sequence[ImageSequence]) -> pd.DataFrame:
    """Volume of each label value in each frame.

    Parameters
    ----------
    labels : ImageSequence or sequence of ImageSequence
        Labels with axis ``t``, or one volume per frame (such as end-diastole and end-systole).

    Returns
    -------
    DataFrame
        Tidy: ``value``, ``label``, ``frame``, ``time_s`` (NaN without ``t``), ``volume_ml``.

    Raises
    ------
    MedseqError
        If there is no ``t`` axis and no list of frames.
    """
    import pandas as pd

    frames, times = _frames(labels)
    values = sorted({int(v) for f in frames for v in np.unique(f.volume_zyx()) if v})
    rows = [
        {
            "value": value,
            "label": frame.label_names.get(value, str(value)),
            "frame": n,
            "time_s": times[n],
            "volume_ml": float((frame.volume_zyx() == value).sum() * geometry.voxel_volume_mm3(frame.affine) / 1000),
        }
        for value in values
        for n, frame in enumerate(frames)
    ]
    return pd.DataFrame(rows, columns=["value", "label", "frame", "time_s", "volume_ml"])


def ejection(labels: ImageSequence | Sequence[ImageSequence], cavity: int) -> Ejection:
    """Ejection fraction and stroke volume of the cavity with label value `cavity`.

    A frame without the cavity was not segmented, since no cavity empties itself: it does not count, so that labels of end-diastole and
    end-systole alone are measured right.

    Raises
    ------
    MedseqError
        If the cavity is in fewer than two frames.
    """
    table = volume_time(labels)
    own = table[(table["value"] == cavity) & (table["volume_ml"] > 0)]
    if len(own) < 2:
        values = sorted(table["value"].unique().tolist())
        raise MedseqError(f"Label {cavity} is not there in two frames or more; labels: {values}.")
    volumes = own["volume_ml"].to_numpy(float)
    high, low = int(volumes.argmax()), int(volumes.argmin())
    largest, smallest = float(volumes[high]), float(volumes[low])
    frames = own["frame"].to_numpy(int)
    percent = 100 * (largest - smallest) / largest
    return Ejection(largest, smallest, largest - smallest, percent, int(frames[high]), int(frames[low]))


def wall_thickness(
    frame: ImageSequence, cavity: int, wall: int, *, right: int | None = None, segments: int = 6
) -> NDArray[np.float64]:
    """Mean wall thickness by segment around the cavity, in mm.

    In each slice that shows both, sectors around the cavity's centre are measured by area: with a sector of angle θ that holds cavity
    area A and wall area W, the radii are √(2A/θ) and √(2(A+W)/θ), and the thickness is their difference. So a circular wall is
    exact, and ragged voxels even out.

    Parameters
    ----------
    frame : ImageSequence
        Labels (z, y, x) of one frame, whose slices (along its `slice_axis`) cut the cavity across (short axis).
    cavity, wall : int
        Values of the cavity and its wall.
    right : int, optional
        Value of the right ventricle: the first segment starts opposite the direction to it. Without it, it starts where rows point.
    segments : int
        They follow each other from the direction of rows to that of columns, as a reader orders these (towards left, back or head).

    Returns
    -------
    ndarray, shape (segments,)
        NaN where no slice shows the segment.
    """
    if frame.oriented and "z" in frame.axes:
        frame = turned(frame, geometry.to_codes(frame.affine))
    row, column = (axis for axis in SPACE if axis != frame.slice_axis)
    height, width = frame.spacing[row], frame.spacing[column]
    angle = 2 * np.pi / segments
    thicknesses = []
    for plane in np.moveaxis(frame.volume_zyx(), SPACE.index(frame.slice_axis), 0):
        inside = plane == cavity
        if not inside.any() or not (plane == wall).any():
            continue
        cy, cx = np.argwhere(inside).mean(axis=0)
        y, x = np.indices(plane.shape)
        direction = np.arctan2((y - cy) * height, (x - cx) * width)
        start = 0.0
        if right is not None and (plane == right).any():
            ry, rx = np.argwhere(plane == right).mean(axis=0)
            start = float(np.arctan2((ry - cy) * height, (rx - cx) * width)) + np.pi
        sector = (np.mod(direction - start, 2 * np.pi) // angle).astype(int).clip(0, segments - 1)
        cell = height * width
        area = np.bincount(sector[inside], minlength=segments) * cell
        ring = np.bincount(sector[plane == wall], minlength=segments) * cell
        thick = np.sqrt(2 * (area + ring) / angle) - np.sqrt(2 * area / angle)
        thicknesses.append(np.where(ring > 0, thick, np.nan))
    if not thicknesses:
        return np.full(segments, np.nan)
    stack = np.array(thicknesses)
    count = np.isfinite(stack).sum(axis=0)
    return np.asarray(np.where(count > 0, np.nansum(stack, axis=0) / np.maximum(count, 1), np.nan))


def thickening(
    labels: ImageSequence | Sequence[ImageSequence],
    cavity: int,
    wall: int,
    *,
    right: int | None = None,
    segments: int = 6,
) -> pd.DataFrame:
    """Wall thickness at end-diastole and end-systole of the cavity, and thickening, by segment.

    Returns
    -------
    DataFrame
        ``segment`` (from 1), ``end_diastolic_mm``, ``end_systolic_mm``, ``thickening_percent``.
    """
    import pandas as pd

    frames, _ = _frames(labels)
    beat = ejection(labels, cavity)
    one, other = (
        wall_thickness(frames[k], cavity, wall, right=right, segments=segments)
        for k in (beat.end_diastole, beat.end_systole)
    )
    return pd.DataFrame(
        {
            "segment": np.arange(1, segments + 1),
            "end_diastolic_mm": one,
            "end_systolic_mm": other,
            "thickening_percent": 100 * (other - one) / one,
        }
    )


def _frames(labels: ImageSequence | Sequence[ImageSequence]) -> tuple[list[ImageSequence], list[float]]:
    """One volume per frame, and their times."""
    if isinstance(labels, ImageSequence):
        if "t" not in labels.axes or labels.times is None:
            raise MedseqError(
                f"{labels.name} has axes {labels.axes}; a volume-time curve needs 't', or a list of frames."
            )
        return [labels.frame(n).compute() for n in range(labels.size("t"))], [float(t) for t in labels.times]
    frames = [f.compute() for f in labels]
    if not frames:
        raise MedseqError("There is no frame; give labels with a 't' axis or one volume per frame.")
    return frames, [float("nan")] * len(frames)
