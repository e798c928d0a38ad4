"""`track`: from one mask per visit to lesions with an identity over time."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq import geometry
from napari_medseq.errors import GeometryError, MedseqError, MedseqWarning
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.progression.components import Key, Lesion, groups, label_components
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.intensity import Appearance, comparable
from napari_medseq.progression.match import Edge, match, match_left
from napari_medseq.progression.progression import Progression
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.sequence import ImageSequence, Visit

#: more foreground than this is no lesion but a body, or a mask that was inverted
_TOO_MUCH = 0.5
#: one-to-one pairs that tell what all lesions moved together, and how often that is looked for
_ENOUGH, _ROUNDS = 5, 2


def track(
    labels: Sequence[Any],
    *,
    dates: Sequence[date | datetime | str | None] | None = None,
    images: Sequence[ImageSequence | None] | None = None,
    settings: TrackSettings | None = None,
    transforms: Sequence[Any] | None = None,
    registration_error_mm: float | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Follow lesions over visits: identities, events and measures.

    Parameters
    ----------
    labels : sequence of ImageSequence
        One mask per visit, each on its native grid, 0 = background; or Visits with one mask each, or Segmentations.
    dates : sequence of date, datetime, ISO text or None, optional
        Day of each visit; by default what the masks (or Visits) say. Visits are put in the order of their dates.
    images : sequence of ImageSequence or None, optional
        The image of each visit, for intensity measures; on any grid.
    settings : TrackSettings, optional
    transforms : sequence of (4, 4) array, Transform or None, optional
        Visit RAS mm → common RAS mm, one per visit. None: the visits share their world already.
    registration_error_mm : float, optional
        Expected misalignment; goes before the one in `settings`.
    force : bool
        Go on although the masks say that they are of different patients.
    progress, cancelled : callables, optional

    Returns
    -------
    Progression

    Raises
    ------
    MedseqError
        If there is no mask, numbers of masks, dates, images and transforms differ, a mask is no label volume, visits do not
        overlap in space, or they are of different patients.
    """
    settings = settings or TrackSettings()
    if registration_error_mm is not None:
        settings = TrackSettings(**{**settings.model_dump(), "registration_error_mm": registration_error_mm})
    masks, days = _masks_and_dates(labels, dates)
    n = len(masks)
    scans: list[ImageSequence | None] = _one_per_visit("images", images, n)
    worlds = [_matrix(t) for t in _one_per_visit("transforms", transforms, n)]
    scans = [scan.compute() if scan is not None else None for scan in scans]
    doubts: list[str] = []
    if all(d is not None for d in days):
        order = sorted(range(n), key=lambda k: days[k] or date.min)
        if order != list(range(n)):
            doubts.append(
                f"The visits were not in the order of their dates; they are now: {[str(days[k]) for k in order]}."
            )
            masks, days = [masks[k] for k in order], [days[k] for k in order]
            scans, worlds = [scans[k] for k in order], [worlds[k] for k in order]
        if len(set(days)) < n:
            doubts.append(
                "Two visits have the same date: their order is the given one, and rates between them are blank."
            )
    _check_patient(masks, scans, force, doubts)
    _check_overlap(masks, worlds)

    steps = 2 * n
    naming = _Naming(masks, settings)
    lesions: dict[Key, Lesion] = {}
    for visit, (mask, world) in enumerate(zip(masks, worlds, strict=True)):
        check(cancelled)
        found = _lesions(mask, visit, world, settings, naming, doubts)
        lesions.update((lesion.key, lesion) for lesion in found)
        if progress is not None:
            progress(visit + 1, steps, f"visit {visit + 1}: {len(found)} lesions")
    graph, appearance = Graph(lesions, visits=n), Appearance(scans) if comparable(scans) else None
    for visit in range(1, n):
        check(cancelled)
        graph = _add_visit(graph, visit, settings, appearance)
        if progress is not None:
            progress(n + visit, steps, f"matched visit {visit + 1}")
    for doubt in doubts:
        warnings.warn(doubt, MedseqWarning, stacklevel=2)
    result = Progression(
        replace(graph, lesions=lesions).settled(),
        masks,
        dates=days,
        images=scans,
        worlds=worlds,
        settings=settings,
        warnings=tuple(doubts),
        cancelled=cancelled,
    )
    if progress is not None:
        progress(steps, steps, "measured")
    return result


def _add_visit(
    graph: Graph, visit: int, settings: TrackSettings, appearance: Callable[[Lesion], float] | None = None
) -> Graph:
    """Edges into one visit: by overlap with the visit before, then with earlier ones, then by distance what is left."""
    before, here = graph.at(visit - 1), graph.at(visit)
    direct = match(before, here, settings)
    for _ in range(_ROUNDS):
        shift = common_shift(before, here, direct)
        if shift is None:
            break
        back = np.eye(4)
        back[:3, 3] = -shift
        here = [replace(lesion, to_common=back @ lesion.to_common) for lesion in here]
        direct = match(before, here, settings)
    graph = replace(graph, lesions={**graph.lesions, **{lesion.key: lesion for lesion in here}})
    edges = [*graph.edges, *direct]
    for lost in graph.lost(visit, settings.bridge_visits).values():
        edges += match(lost, _without(here, {e.child for e in edges}), settings, bridging=True)
    orphans = _without(here, {e.child for e in edges})
    edges += match_left(_without(before, {e.parent for e in edges}), orphans, settings, appearance)
    return graph.with_edges(edges)


def common_shift(
    before: Sequence[Lesion], after: Sequence[Lesion], edges: Sequence[Edge]
) -> NDArray[np.float64] | None:
    """What all lesions moved together, in common RAS mm: the error that registration left, for matching alone.

    The median over one-to-one edges, told only where there are enough of them, they agree, and it is beyond its standard error.
    """
    first, last = {lesion.key: lesion for lesion in before}, {lesion.key: lesion for lesion in after}
    parents, children = Counter(e.parent for e in edges), Counter(e.child for e in edges)
    pairs = [(first[e.parent], last[e.child]) for e in edges if parents[e.parent] == 1 == children[e.child]]
    if len(pairs) < _ENOUGH:
        return None
    moved = np.array([b.common_centroid - a.common_centroid for a, b in pairs])
    shift = np.median(moved, axis=0)
    spread = 1.4826 * np.median(np.abs(moved - shift), axis=0)
    beyond = np.abs(shift) > np.maximum(3 * 1.2533 * spread / np.sqrt(len(pairs)), 0.25 * pairs[0][1].spacing_zyx.min())
    left = np.median(np.linalg.norm(moved - shift, axis=1))
    if not beyond.any() or left > 0.7 * np.median(np.linalg.norm(moved, axis=1)):
        return None
    return np.asarray(np.where(beyond, shift, 0.0))


def _without(lesions: Iterable[Lesion], taken: set[Key]) -> list[Lesion]:
    return [lesion for lesion in lesions if lesion.key not in taken]


class _Naming:
    """Which class a label value is of, over all visits."""

    def __init__(self, masks: Sequence[ImageSequence], settings: TrackSettings) -> None:
        self.tracked = any(m.meta.get("lesion_identities") for m in masks)
        names: dict[int, str] = {}
        for mask in masks:
            for value, name in mask.label_names.items():
                if value:
                    names.setdefault(int(value), name)
        self.names = names
        self.apart = settings.instances == "components" and not self.tracked
        self.apart &= settings.classes == "each" or (settings.classes == "auto" and len(names) > 1)
        self.only = next(iter(names.values())) if len(set(names.values())) == 1 else "lesion"

    def __call__(self, value: int) -> str:
        """Name of the class of a value; tracked labels are called "class identity"."""
        if self.tracked:
            return self.names.get(value, "lesion").removesuffix(f" {value}")
        return self.names.get(value, str(value)) if self.apart else self.only


def _lesions(
    mask: ImageSequence,
    visit: int,
    world: NDArray[np.float64],
    settings: TrackSettings,
    naming: _Naming,
    doubts: list[str],
) -> list[Lesion]:
    """The lesions of one mask, largest first."""
    volume = mask.volume_zyx()
    if settings.instances == "values":
        index = np.argwhere(volume).astype(np.int32)
        _, member = np.unique(volume[tuple(index.T)], return_inverse=True)
        count = int(member.max()) + 1 if len(index) else 0
    else:
        whole = volume if naming.apart or naming.tracked else volume != 0
        index, member, count = label_components(whole, settings.connectivity)
    if len(index) > _TOO_MUCH * volume.size:
        share = 100 * len(index) / volume.size
        doubts.append(f"Visit {visit + 1}: {share:.0f} % of {mask.name} is lesion; is it inverted?")
    parts = sorted(groups(index, member, count), key=len, reverse=True)
    return [
        Lesion(visit, number, naming(int(volume[tuple(part[0])])), part, mask.affine, world, mask.slice_axis)
        for number, part in enumerate(parts, start=1)
    ]


def _masks_and_dates(
    labels: Sequence[Any], dates: Sequence[date | datetime | str | None] | None
) -> tuple[list[ImageSequence], list[date | None]]:
    """One checked mask and one date (or None) per visit."""
    if isinstance(labels, ImageSequence) or not isinstance(labels, Iterable):
        raise MedseqError("track needs a list of masks, one per visit, in the order of the visits.")
    masks: list[ImageSequence] = []
    known: list[date | None] = []
    for n, item in enumerate(labels, start=1):
        day = None
        if isinstance(item, Visit):
            if len(item.labels) != 1:
                raise MedseqError(
                    f"Visit {n} ({item.name}) has {len(item.labels)} masks, not one; give the masks themselves."
                )
            day, item = item.date, item.labels[0]
        elif not isinstance(item, ImageSequence):
            item = getattr(item, "labels", item)
        if not isinstance(item, ImageSequence):
            raise MedseqError(
                f"Visit {n}: {type(item).__name__} is no ImageSequence; read masks with napari_medseq.read."
            )
        if np.dtype(item.data.dtype).kind not in "iub":
            raise MedseqError(f"Visit {n}: {item.name} holds {item.data.dtype}, not whole numbers; it is no mask.")
        if set(item.axes) & {"t", "c"}:
            raise MedseqError(
                f"Visit {n}: {item.name} has axes {item.axes}; a mask per visit has z, y, x. Choose a frame."
            )
        masks.append(item.compute())
        known.append(day or (item.acquired.date() if item.acquired else None))
    if not masks:
        raise MedseqError("There is no visit to track; give at least one mask.")
    if dates is not None:
        if len(list(dates)) != len(masks):
            raise MedseqError(
                f"{len(list(dates))} dates for {len(masks)} visits; give one per visit (None if unknown)."
            )
        known = [as_date(d, n) for n, d in enumerate(dates, start=1)]
    return masks, known


def as_date(value: date | datetime | str | None, visit: int = 1) -> date | None:
    """A day from a date, a datetime, or text such as ``2020-01-31`` or ``20200131``.

    Raises
    ------
    MedseqError
        If the text is no date.
    """
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).date()
        except ValueError:
            raise MedseqError(f"Visit {visit}: {value!r} is no date; write it as 2020-01-31.") from None
    if isinstance(value, np.datetime64):
        value = None if np.isnat(value) else value.astype("datetime64[D]").item()
    if isinstance(value, datetime):
        return None if value != value else value.date()
    if value is None or isinstance(value, date):
        return value
    raise MedseqError(f"Visit {visit}: {value!r} is no date; write it as 2020-01-31.")


def _one_per_visit(what: str, given: Sequence[Any] | None, n: int) -> list[Any]:
    found = [None] * n if given is None else list(given)
    if len(found) != n:
        raise MedseqError(f"{len(found)} {what} for {n} visits; give one per visit (None where there is none).")
    return found


def _matrix(transform: Any) -> NDArray[np.float64]:
    """A 4×4 from an array or from something with ``.matrix``; identity from None."""
    if transform is None:
        return np.eye(4)
    matrix: ArrayLike | None = getattr(transform, "matrix", transform)
    if matrix is None:
        raise GeometryError(
            "A deformable transform has no 4×4 matrix; give the rigid or affine one to compare positions."
        )
    return geometry.as_affine(matrix)


def _check_patient(
    masks: Sequence[ImageSequence], images: Sequence[ImageSequence | None], force: bool, doubts: list[str]
) -> None:
    """Refuse masks that say they are of different patients; doubt images of different modality."""
    patients = {str(m.meta[key]) for m in masks for key in ("patient", "subject") if m.meta.get(key)}
    if len(patients) > 1:
        message = f"The visits are of different patients: {', '.join(sorted(patients))}."
        if not force:
            raise MedseqError(f"{message} Give one patient's visits, or force=True if you know better.")
        doubts.append(message)
    kinds = {image.modality for image in images if image is not None and image.modality}
    if len(kinds) > 1:
        doubts.append(
            f"The images are of different modality ({', '.join(sorted(kinds))}): compare sizes, not intensities."
        )


def _check_overlap(masks: Sequence[ImageSequence], worlds: Sequence[NDArray[np.float64]]) -> None:
    """Every visit's grid must meet the first one's in common space."""
    boxes = []
    for mask, world in zip(masks, worlds, strict=True):
        corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in mask.grid])).reshape(3, -1).T
        points = geometry.apply_points(world @ mask.affine, corners)
        boxes.append((points.min(axis=0), points.max(axis=0)))
    for visit, (low, high) in enumerate(boxes[1:], start=2):
        if (low > boxes[0][1]).any() or (high < boxes[0][0]).any():
            raise GeometryError(
                f"Visit {visit} ({masks[visit - 1].name}) and visit 1 do not overlap in space; register them, or check that "
                "they are of the same body part."
            )
