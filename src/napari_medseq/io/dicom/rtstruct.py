"""RTSTRUCT to labels: contours are filled on the grid of the series that they were drawn on.

A voxel belongs to a structure if its centre lies inside an odd number of the contours of its slice, so that a contour
inside another one cuts a hole. This is decided exactly by crossings, not by drawing. Source: DICOM PS3.3 C.8.8.6 (ROI
contour module).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.geometry import RAS_LPS, apply_points
from napari_medseq.io import naming, overlay
from napari_medseq.io.dicom import series
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.privacy import without_identifiers
from napari_medseq.io.dicom.stacks import Stack
from napari_medseq.io.dicom.values import integer, text, value
from napari_medseq.io.placing import place
from napari_medseq.sequence import ImageSequence
from napari_medseq.wording import how_many

#: Largest deviation of a contour from its slice, as a share of the slice step.
_FLAT = 0.1
#: Tolerance within which a plane counts as half-way between two slices.
_HALF = 0.02


def filled(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centres lie inside an odd number of polygons.

    Parameters
    ----------
    polygons : sequence of arrays (n, 2)
        Corners as (column, row) in pixel units, with pixel centres at whole numbers. Polygons are closed implicitly.
    shape : (rows, columns)

    Returns
    -------
    bool array of `shape`

    Notes
    -----
    The even-odd rule with half-open edges is used: each edge toggles, in every row whose centre it crosses, all pixels
    at or right of the crossing, and a running exclusive-or over the row gives the inside.
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), np.uint8)
    for polygon in polygons:
        start, stop = polygon, np.roll(polygon, -1, axis=0)
        for (x0, y0), (x1, y1) in zip(start, stop, strict=True):
            if y0 == y1:
                continue
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            first, last = max(int(np.ceil(y0)), 0), min(int(np.ceil(y1)), rows)
            if first >= last:
                continue
            at = np.arange(first, last)
            crossing = x0 + (at - y0) * ((x1 - x0) / (y1 - y0))
            toggles[at, np.clip(np.ceil(crossing), 0, columns).astype(np.intp)] ^= 1
    inside: NDArray[np.bool_] = np.bitwise_xor.accumulate(toggles[:, :columns], axis=1).astype(bool)
    return inside


def referenced_series(ds: Attributes) -> set[str]:
    """UIDs of the series that the structures were drawn on."""
    out: set[str] = set()
    for frame in value(ds, "ReferencedFrameOfReferenceSequence") or []:
        for study in value(frame, "RTReferencedStudySequence") or []:
            out |= {text(one, "SeriesInstanceUID") for one in value(study, "RTReferencedSeriesSequence") or []}
    return out - {""}


def drawn_images(ds: Attributes) -> set[str]:
    """UIDs of the images that contours were drawn on, if the contours name them."""
    out: set[str] = set()
    for item in value(ds, "ROIContourSequence") or []:
        for contour in value(item, "ContourSequence") or []:
            for image in value(contour, "ContourImageSequence") or []:
                out.add(text(image, "ReferencedSOPInstanceUID"))
    return out - {""}


def _frames_of_reference(ds: Attributes) -> set[str]:
    named = [*(value(ds, "ReferencedFrameOfReferenceSequence") or []), ds]
    structures = value(ds, "StructureSetROISequence") or []
    uids = {text(one, "FrameOfReferenceUID") for one in named}
    return (uids | {text(one, "ReferencedFrameOfReferenceUID") for one in structures}) - {""}


def _fitting(ds: Attributes, stacks: Sequence[tuple[Stack, str]], notes: list[str]) -> list[Stack]:
    """The stacks that structures were drawn on: by series, by images, by frame of reference, or else the only one of
    their study."""
    oriented = [s for s, _ in stacks if s.oriented]
    series_uids = referenced_series(ds)
    same_series = [s for s in oriented if text(s.first.file.ds, "SeriesInstanceUID") in series_uids]
    if same_series:
        return same_series
    images = drawn_images(ds)
    same_series = (
        [s for s in oriented if images & {text(f.file.ds, "SOPInstanceUID") for row in s.grid for f in row}]
        if images
        else []
    )
    if same_series:
        return same_series
    worlds = _frames_of_reference(ds)
    same_series = [s for s in oriented if text(s.first.file.ds, "FrameOfReferenceUID") in worlds][:1]
    if same_series:
        notes.append(
            "The series that the structures were drawn on is not here; another one in the same frame of reference is used."
        )
        return same_series
    if series_uids or images:
        return []
    study = text(ds, "StudyInstanceUID")
    same_series = [s for s in oriented if text(s.first.file.ds, "StudyInstanceUID") == study] or oriented
    planned = [s for s in same_series if text(s.first.file.ds, "Modality") == "CT"]
    same_series = planned if len(planned) == 1 else same_series
    if len(same_series) == 1:
        notes.append("The structures do not say which series they were drawn on; the only one beside them is used.")
        return same_series
    return []


def read(file: FileHeader, stacks: Sequence[tuple[Stack, str]]) -> list[ImageSequence]:
    """Read all structures of one file, on the grid(s) of the series that they refer to.

    Parameters
    ----------
    file : FileHeader
    stacks : sequence of (Stack, name)
        Images that were read beside it.

    Raises
    ------
    ReadError
        If there is no image series to draw on, or no structure has a closed contour.
    """
    ds = file.ds
    notes = list(file.notes)
    grids = series.nearest(file, _fitting(ds, stacks, notes))
    if not grids:
        raise ReadError(
            f"{file.path}: the image series that the contours were drawn on is not here (or it is one of several that "
            "the file does not name); open both together, and nothing else."
        )
    rois = _rois(ds, notes)
    if not rois:
        raise ReadError(f"{file.path}: no structure in it has a closed contour, so there is nothing to show.")
    out = []
    for grid in grids:
        out.extend(_on_grid(file, grid, rois, notes))
    if not any(bool(s.data.any()) for s in out):
        out = [
            s.replace(warnings=(*s.warnings, "No contour lies inside the image; the labels are empty.")) for s in out
        ]
    return out


def _rois(ds: Attributes, notes: list[str]) -> dict[int, tuple[str, list[float] | None, list[NDArray[np.float64]]]]:
    """Number → name, colour, contours in RAS mm."""
    structures = value(ds, "StructureSetROISequence") or []
    names = {integer(r, "ROINumber", -1): without_identifiers(text(r, "ROIName"), ds) for r in structures}
    out: dict[int, tuple[str, list[float] | None, list[NDArray[np.float64]]]] = {}
    for item in value(ds, "ROIContourSequence") or []:
        number = integer(item, "ReferencedROINumber", -1)
        name = names.get(number) or f"ROI_{number}"
        contours, others = [], 0
        for contour in value(item, "ContourSequence") or []:
            kind = text(contour, "ContourGeometricType").upper()
            try:
                points = np.array([float(v) for v in value(contour, "ContourData") or []]).reshape(-1, 3)
            except (ValueError, TypeError):
                notes.append(f"{name}: a contour has broken coordinates; it is left out.")
                continue
            if kind in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "") and len(points) > 2 and np.isfinite(points).all():
                contours.append(apply_points(RAS_LPS, points))
            else:
                others += 1
        if others:
            notes.append(
                f"{name}: {how_many(others, 'point or open contour encloses', 'points or open contours enclose')} nothing; left out."
            )
        colour = value(item, "ROIDisplayColor")
        try:
            rgb = None if colour is None else [min(max(float(c) / 255, 0.0), 1.0) for c in colour][:3]
        except (TypeError, ValueError):
            rgb = None
        if contours and number > 0:
            out[number] = (name, rgb, contours)
        elif contours:
            notes.append(f"{name}: its number {number} cannot be a label; it is left out.")
    return out


def _on_grid(
    file: FileHeader,
    stack: Stack,
    rois: dict[int, tuple[str, list[float] | None, list[NDArray[np.float64]]]],
    notes: list[str],
) -> list[ImageSequence]:
    shape = (len(stack.grid[0]), *stack.first.shape)
    inverse = np.asarray(np.linalg.inv(stack.affine), dtype=np.float64)
    notes = list(notes)

    placed = {number: [apply_points(inverse, c) for c in contours] for number, (_, _, contours) in rois.items()}
    up = _halves_go_up([float(c[:, 2].mean()) for contours in placed.values() for c in contours], shape[0])

    def masks() -> Iterator[tuple[int, NDArray[np.bool_]]]:
        for number, (name, _, _) in rois.items():
            yield number, _mask(placed[number], shape, name, notes, up)

    layers = overlay.layered(masks(), shape, max(rois))
    base = naming.readable(
        without_identifiers(text(file.ds, "StructureSetLabel") or text(file.ds, "SeriesDescription"), file.ds)
        or "structures"
    )
    out = []
    for k, layer in enumerate(layers):
        meta = series.facts_of(stack)
        meta.update(source=file.path, format="RTSTRUCT", dtype=str(layer.array.dtype))
        meta.pop("contrast_limits", None)
        meta.pop("colormap", None)
        meta["colors"] = {n: rois[n][1] for n in layer.values if rois[n][1] is not None}
        meta["referenced_series_uid"] = meta.pop("series_uid", "")
        meta["series_uid"] = text(file.ds, "SeriesInstanceUID")
        out.append(
            place(
                layer.array, ("z", "y", "x"), stack.affine, slice_axis=series.slice_axis_of(stack), kind="labels",
                label_names={n: rois[n][0] for n in layer.values}, modality=text(stack.first.file.ds, "Modality") or None,
                acquired=stack.first.acquired, name=base if len(layers) == 1 else f"{base}_layer{k + 1}", meta=meta,
                warnings=tuple(notes) if k == 0 else (),
            )
        )  # fmt: skip
    return out


def _halves_go_up(depths: Sequence[float], count: int) -> bool:
    """Whether planes half-way between slices belong to the upper one; all do the same, so that none is doubled or left
    out."""
    halves = [d for d in depths if abs(d - np.floor(d) - 0.5) <= _HALF]
    return not halves or max(halves) < count - 1


def _slice_of(depth: float, count: int, up: bool) -> int:
    """The slice nearest to a plane; a plane half-way between two slices goes up or down as all do."""
    below = int(np.floor(depth))
    half_way = abs(depth - below - 0.5) <= _HALF
    nearest = below + int(up) if half_way else int(np.floor(depth + 0.5))
    return min(max(nearest, 0), count - 1)


def _mask(
    contours: list[NDArray[np.float64]], shape: tuple[int, int, int], name: str, notes: list[str], up: bool = True
) -> NDArray[np.bool_]:
    """A mask from contours in voxel coordinates (x, y, z): each slice takes the contours of the plane nearest to
    it."""
    planes: dict[float, list[NDArray[np.float64]]] = defaultdict(list)
    leaning = outside = 0
    different = {np.round(c, 3).tobytes(): c for c in contours}  # twice the same would cancel itself out
    if len(different) < len(contours):
        notes.append(
            f"{name}: {how_many(len(contours) - len(different), 'contour is', 'contours are')} there twice; drawn once."
        )
        contours = list(different.values())
    for contour in contours:
        depth = float(contour[:, 2].mean())
        if np.ptp(contour[:, 2]) > 2 * _FLAT:
            leaning += 1
        elif not -0.5 - _HALF <= depth <= shape[0] - 0.5 + _HALF:
            outside += 1
        else:
            planes[round(depth, 2)].append(contour)
    if leaning:
        notes.append(
            f"{name}: {how_many(leaning, 'contour does', 'contours do')} not lie in the image's slices; left out."
        )
    if outside:
        notes.append(f"{name}: {how_many(outside, 'contour lies', 'contours lie')} outside the image; left out.")
    mask = np.zeros(shape, bool)
    nearest: dict[int, float] = {}
    for depth in planes:
        k = _slice_of(depth, shape[0], up)
        if k not in nearest or abs(depth - k) < abs(nearest[k] - k):
            nearest[k] = depth
    unused = len(planes) - len(nearest)
    if unused:
        notes.append(
            f"{name}: contours lie closer together than slices; {how_many(unused, 'plane')} farther from a slice not used."
        )
    for k, depth in nearest.items():
        mask[k] = filled([c[:, :2] for c in planes[depth]], shape[1:])
    steps = np.diff(sorted(nearest))
    if len(steps) and steps.min() > 1:
        notes.append(
            f"{name}: its contours lie at least {int(steps.min())} slices apart; the slices between are empty."
        )
    return mask


def neighbours(file: FileHeader) -> list[Path]:
    """Folders that are searched for the images of a structure file that was opened alone: its own, then the one
    above."""
    folder = Path(file.path).resolve().parent
    return [folder, folder.parent]


__all__ = ["filled", "neighbours", "read", "referenced_series"]
