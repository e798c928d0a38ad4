"""Key slices: the slice with most lesion at each visit, and the lesions that changed most side by side, with outlines in their colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.colours import lesion_colour
from napari_medseq.progression.matrix import visit_name
from napari_medseq.record import DISCLAIMER
from napari_medseq.sequence import SPACE, ImageSequence

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked

#: mm that are shown around a lesion, and the least that is shown of it
_AROUND_MM, _LEAST_MM = 15.0, 40.0
#: length of the bar that gives the scale, in mm
_BAR_MM = 10.0


@dataclass(frozen=True)
class _Plane:
    """One slice: its labels, the image under them (grey where there is none on this grid), voxel sizes along rows and columns."""

    labels: NDArray[np.int64]
    image: NDArray[np.float64]
    limits: tuple[float, float]
    spacing: tuple[float, float]
    number: int
    count: int

    @property
    def title(self) -> str:
        return f"slice {self.number + 1} of {self.count}"


def key_slices(progression: Tracked) -> Figure:
    """One picture per visit, of the slice with most lesion; grey where no image (or one on another grid) is at hand."""
    labels = progression.labels
    figure = Figure(figsize=(3.4 * max(len(labels), 1), 4.4), layout="constrained")
    grid = np.atleast_1d(figure.subplots(1, len(labels)))
    for visit, (axes, mask) in enumerate(zip(grid, labels, strict=True)):
        axes.set_axis_off()
        named = visit_name(visit, progression.dates)
        if mask is None:
            axes.set_title(f"{named}\nno mask", fontsize=9)
            continue
        volume = mask.volume_zyx()
        along = SPACE.index(mask.slice_axis)
        others = tuple(k for k in range(3) if k != along)
        at = int((volume != 0).sum(axis=others).argmax()) if volume.any() else volume.shape[along] // 2
        plane = _plane(mask, progression.images[visit], at)
        _draw(axes, plane)
        axes.set_title(f"{named}\n{plane.title}", fontsize=9)
    figure.supxlabel(DISCLAIMER, fontsize=7, color="0.4")
    return figure


def lesion_slices(progression: Tracked, *, most: int = 4) -> Figure | None:
    """The lesions that changed most, a row each, all visits side by side at the same scale; None where there is nothing to compare.

    Where a lesion is absent, the slice through its place is shown: the place that it has at the visit nearest in time.
    """
    lesions = _changed_most(progression, most)
    if not lesions or len(progression.seen) < 2:
        return None
    visits = len(progression.dates)
    figure = Figure(figsize=(2.8 * visits, 3.2 * len(lesions) + 0.3), layout="constrained")
    grid = figure.subplots(len(lesions), visits, squeeze=False)
    rows = _rows(progression)
    for row, lesion in zip(grid, lesions, strict=True):
        sizes = [r.longest_mm for (one, _), r in rows.items() if one == lesion and np.isfinite(r.longest_mm)]
        width = max(max(sizes, default=0.0) + 2 * _AROUND_MM, _LEAST_MM)
        for visit, axes in enumerate(row):
            axes.set_axis_off()
            axes.set_title(_caption(progression, rows.get((lesion, visit)), lesion, visit), fontsize=8)
            _draw_lesion(progression, axes, lesion, visit, width)
    figure.supxlabel(f"bar: {_BAR_MM:g} mm.  {DISCLAIMER}", fontsize=7, color="0.4")
    return figure


@dataclass(frozen=True)
class _Row:
    """The facts of a lesion at a visit that a picture needs."""

    event: str
    measured: bool
    volume_ml: float
    change_percent: float
    longest_mm: float


def _rows(progression: Tracked) -> dict[tuple[int, int], _Row]:
    """The table of lesions by (lesion, visit)."""
    table = progression.lesions
    columns = ("lesion", "visit", "event", "measured", "volume_ml", "change_percent", "longest_mm")
    return {
        (int(lesion), int(visit)): _Row(str(event), bool(measured), float(volume), float(change), float(longest))
        for lesion, visit, event, measured, volume, change, longest in zip(*(table[c] for c in columns), strict=True)
    }


def _changed_most(progression: Tracked, most: int) -> list[int]:
    """Measured lesions by how much their volume differs over the visits, in mL; a new one by all of it."""
    volumes: dict[int, list[float]] = {}
    for (lesion, _), row in _rows(progression).items():
        if row.measured:
            volumes.setdefault(lesion, [0.0] if row.event == "new" else []).append(row.volume_ml)
    return sorted(volumes, key=lambda lesion: min(volumes[lesion]) - max(volumes[lesion]))[:most]


def _caption(progression: Tracked, row: _Row | None, lesion: int, visit: int) -> str:
    head = f"lesion {lesion}, {visit_name(visit, progression.dates)}"
    if row is None:
        return f"{head}\n{'no mask' if progression.labels[visit] is None else 'not there'}"
    parts = [row.event]
    if row.volume_ml > 0:
        parts.append(f"{row.volume_ml:.3g} mL")
    if np.isfinite(row.change_percent):
        parts.append(f"{row.change_percent:+.0f} %")
    return f"{head}\n{', '.join(parts)}"


def _draw_lesion(progression: Tracked, axes: Axes, lesion: int, visit: int, width: float) -> None:
    """The slice through a lesion, or through its place, cut to `width` mm around it."""
    mask = progression.labels[visit]
    graph = progression.graph
    keys = [k for k, identity in graph.identities.items() if identity == lesion and k not in graph.excluded]
    if mask is None or not keys:
        return
    nearest = min(keys, key=lambda k: (abs(k[0] - visit), k))
    to_voxel = np.asarray(np.linalg.inv(progression.to_common(visit) @ mask.affine))
    at = geometry.apply_points(to_voxel, graph.lesions[nearest].common_centroid[None])[0][::-1]
    along = SPACE.index(mask.slice_axis)
    others = [k for k in range(3) if k != along]
    volume = mask.volume_zyx()
    most = int((volume == lesion).sum(axis=tuple(others)).argmax())
    number = most if nearest[0] == visit else round(float(at[along]))
    if not 0 <= number < volume.shape[along]:
        axes.text(0.5, 0.5, "out of view", ha="center", transform=axes.transAxes, fontsize=8)
        return
    plane = _plane(mask, progression.images[visit], number)
    _draw(axes, plane, only=lesion)
    for limit, k, spacing in (
        (axes.set_ylim, others[0], plane.spacing[0]),
        (axes.set_xlim, others[1], plane.spacing[1]),
    ):
        half = width / 2 / spacing
        ends = (at[k] - half, at[k] + half)
        limit(ends if k == others[1] else ends[::-1])
    left, low = axes.get_xlim()[0], axes.get_ylim()[0]
    pad = 0.05 * width
    x = left + pad / plane.spacing[1]
    axes.plot([x, x + _BAR_MM / plane.spacing[1]], [low - pad / plane.spacing[0]] * 2, color="w", linewidth=2)
    axes.annotate(
        plane.title, (1, 0), (-3, 3), "axes fraction", textcoords="offset points", ha="right", color="w", fontsize=7
    )


def _plane(mask: ImageSequence, image: ImageSequence | None, number: int) -> _Plane:
    """A slice across the mask's slice axis."""
    volume = mask.volume_zyx().astype(np.int64)
    along = SPACE.index(mask.slice_axis)
    rows, columns = (k for k in range(3) if k != along)
    labels = np.take(volume, number, axis=along)
    if image is None or set(image.axes) & {"t", "c"} or not image.same_grid(mask):
        plane, limits = np.full(labels.shape, 0.5), (0.0, 1.0)
    else:
        plane = np.take(image.volume_zyx(), number, axis=along).astype(np.float64)
        known = plane[np.isfinite(plane)]  # where the image ends there may be none
        low, high = np.percentile(known, (1, 99.5)) if known.size else (0.0, 1.0)
        limits = float(low), max(float(high), float(low) + 1e-9)
    spacing = mask.spacing[SPACE[rows]], mask.spacing[SPACE[columns]]
    return _Plane(labels, plane, limits, spacing, number, volume.shape[along])


def _draw(axes: Axes, plane: _Plane, *, only: int | None = None) -> None:
    """The slice in grey, the outline and number of each lesion; `only`: of that one a thicker line."""
    low, high = plane.limits
    axes.imshow(plane.image, cmap="gray", vmin=low, vmax=high, aspect=plane.spacing[0] / plane.spacing[1])
    for value in np.unique(plane.labels[plane.labels > 0]).tolist():
        colour = lesion_colour(value)
        width = 1.2 if only is None else 1.6 if value == only else 0.7
        axes.contour(plane.labels == value, levels=[0.5], colors=[colour], linewidths=width)
        rows, columns = np.nonzero(plane.labels == value)
        axes.annotate(
            str(value),
            (columns.max(), rows.min()),  # at its upper right corner
            (2, 1),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            weight="bold",
            clip_on=True,
            annotation_clip=True,
        )
