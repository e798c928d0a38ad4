"""`track`: from one mask per visit to lesions with an identity over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import warn
from napari_medseq.geometry import Affine, apply_points
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.progression.components import Key, Lesion, groups, label_components
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.inputs import Day, Mask, check_inputs
from napari_medseq.progression.intensity import Appearance, comparable
from napari_medseq.progression.match import Edge, match, match_left
from napari_medseq.progression.progression import Progression
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.registration.transform import Position
from napari_medseq.sequence import ImageSequence
from napari_medseq.wording import how_many

#: more foreground than this is not a lesion but a body, or a mask that was inverted
_TOO_MUCH = 0.5
#: one-to-one pairs that say what all lesions moved together, and how often that is looked for
_ENOUGH, _ROUNDS = 5, 2
#: median absolute deviation to standard deviation of a normal distribution, 1 / Φ⁻¹(3/4) (Rousseeuw & Croux, JASA 1993, 88:1273)
_MAD_TO_SD = 1.4826
#: standard error of a median over that of a mean, sqrt(π / 2)
_MEDIAN_SE = 1.2533
#: standard errors, and voxels, that a common shift must exceed to differ from chance and from the grid
_SHIFT_SE, _SHIFT_VOXELS = 3.0, 0.25
#: a shift must leave at most this share of what the lesions moved; else they did not move together (benchmarks/matching.py)
_SHIFT_LEFT = 0.7


def track(
    labels: Sequence[Mask],
    *,
    dates: Sequence[Day] | None = None,
    images: Sequence[ImageSequence | None] | None = None,
    settings: TrackSettings | Mapping[str, object] | None = None,
    transforms: Sequence[Position] | None = None,
    registration_error_mm: float | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Follow lesions over visits: identities, events and measures.

    Parameters
    ----------
    labels : sequence of ImageSequence or None
        One mask per visit, each on its native grid, 0 and below = background; or Visits with one mask each, or Segmentations. None:
        the visit has no mask (which is not an empty one), so that no lesion is resolved or new by it.
    dates : sequence of date, datetime, ISO text or None, optional
        Day of each visit; by default what the masks (or Visits) say. Visits are put in the order of their dates.
    images : sequence of ImageSequence or None, optional
        The image of each visit, for intensity measures; on any grid.
    settings : TrackSettings or mapping, optional
    transforms : sequence of (4, 4) array, Transform or None, optional
        Visit RAS mm → common RAS mm, one per visit; or what ``register(visit, first)`` gave, which brings its moving image, the visit,
        to the fixed one. None: the visits share their world already.
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
        If there is no mask, numbers of masks, dates, images and transforms differ, a mask is not a label volume (or an image under a
        mask's name), visits do not overlap in space, or they are of different patients.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> voxels = np.zeros((4, 6, 6), np.uint8)
    >>> voxels[1:3, 2:4, 2:4] = 1
    >>> mask = ms.ImageSequence(voxels, ("z", "y", "x"), np.diag([2.0, 2.0, 5.0, 1.0]), kind="labels")
    >>> later = voxels.copy()
    >>> later[1:3, 2:4, 2:5] = 1
    >>> followed = ms.track([mask, mask.replace(data=later)], dates=["2020-01-31", "2020-05-04"])
    >>> followed.lesions[["visit", "lesion", "volume_ml"]].round(3).values.tolist()
    [[0.0, 1.0, 0.16], [1.0, 1.0, 0.24]]
    """
    settings = TrackSettings.of(settings)
    if registration_error_mm is not None:
        settings = TrackSettings(**{**settings.model_dump(), "registration_error_mm": registration_error_mm})
    inputs = check_inputs(labels, dates, images, transforms, force=force)
    n = len(inputs.masks)
    doubts = list(inputs.doubts)
    steps = 2 * n
    naming = _Naming([m for m in inputs.masks if m is not None], settings)
    lesions: dict[Key, Lesion] = {}
    for visit, (mask, world) in enumerate(zip(inputs.masks, inputs.worlds, strict=True)):
        check(cancelled)
        lesions_here = _lesions(mask, visit, world, settings, naming, doubts) if mask is not None else []
        lesions.update((lesion.key, lesion) for lesion in lesions_here)
        if progress is not None:
            progress(visit + 1, steps, f"visit {visit + 1}: {how_many(len(lesions_here), 'lesion')}")
    unseen = frozenset(k for k, mask in enumerate(inputs.masks) if mask is None)
    graph = Graph(lesions, visits=n, unseen=unseen)
    appearance = Appearance(inputs.images) if comparable(inputs.images) else None
    for visit in range(1, n):
        check(cancelled)
        graph = _add_visit(graph, visit, settings, appearance)
        if progress is not None:
            progress(n + visit, steps, f"matched visit {visit + 1}")
    for doubt in doubts:
        warn(doubt)
    result = Progression(
        replace(graph, lesions=lesions).with_reserved_identities(),
        inputs.masks,
        dates=inputs.dates,
        images=inputs.images,
        worlds=inputs.worlds,
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
    last = graph.seen_before(visit)
    if last is None or visit in graph.unseen:
        return graph
    before, now = graph.at(last), graph.at(visit)
    direct = match(before, now, settings)
    for _ in range(_ROUNDS):
        shift = common_shift(before, now, direct)
        if shift is None:
            break
        back = np.eye(4)
        back[:3, 3] = -shift
        now = [replace(lesion, to_common=back @ lesion.to_common) for lesion in now]
        direct = match(before, now, settings)
    graph = replace(graph, lesions={**graph.lesions, **{lesion.key: lesion for lesion in now}})
    edges = [*graph.edges, *direct]
    for ended in graph.lost(visit, settings.bridge_visits).values():
        edges += match(ended, _without(now, {e.child for e in edges}), settings, bridging=True)
    orphans = _without(now, {e.child for e in edges})
    edges += match_left(_without(before, {e.parent for e in edges}), orphans, settings, appearance)
    return graph.with_edges(edges)


def common_shift(
    before: Sequence[Lesion], after: Sequence[Lesion], edges: Sequence[Edge]
) -> NDArray[np.float64] | None:
    """The common displacement of all lesions in common RAS mm, which is the remaining registration error; used for
    matching only.

    The median over one-to-one edges, told only where there are enough of them, they agree, and it is beyond its standard error.
    """
    first, last = {lesion.key: lesion for lesion in before}, {lesion.key: lesion for lesion in after}
    parents, children = Counter(e.parent for e in edges), Counter(e.child for e in edges)
    pairs = [(first[e.parent], last[e.child]) for e in edges if parents[e.parent] == 1 == children[e.child]]
    if len(pairs) < _ENOUGH:
        return None
    moved = np.array([b.common_centroid - a.common_centroid for a, b in pairs])
    shift = np.median(moved, axis=0)
    spread = _MAD_TO_SD * np.median(np.abs(moved - shift), axis=0)
    chance = _SHIFT_SE * _MEDIAN_SE * spread / np.sqrt(len(pairs))
    beyond = np.abs(shift) > np.maximum(chance, _SHIFT_VOXELS * pairs[0][1].spacing_zyx.min())
    remaining = np.median(np.linalg.norm(moved - shift, axis=1))
    if not beyond.any() or remaining > _SHIFT_LEFT * np.median(np.linalg.norm(moved, axis=1)):
        return None
    return np.asarray(np.where(beyond, shift, 0.0))


def _without(lesions: Iterable[Lesion], excluded: set[Key]) -> list[Lesion]:
    return [lesion for lesion in lesions if lesion.key not in excluded]


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
    world: Affine,
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
    parts = _largest_first(groups(index, member, count), mask.affine)
    return [
        Lesion(
            visit,
            number,
            naming(int(volume[tuple(part[0])])),
            part,
            mask.affine,
            to_common=world,
            slice_axis=mask.slice_axis,
            grid_zyx=volume.shape,
        )
        for number, part in enumerate(parts, start=1)
    ]


def _largest_first(parts: Iterable[NDArray[np.int32]], affine: Affine) -> list[NDArray[np.int32]]:
    """Voxels of lesions, largest first; of equally large ones that which begins lowest in the patient, then furthest to the front, then
    to the right, so that their numbers do not depend on how the file stores its voxels."""

    def begins(part: NDArray[np.int32]) -> tuple[float, ...]:
        left_back_up = np.round(apply_points(affine, part[:, ::-1]), 3) * (-1, -1, 1)
        return tuple(left_back_up[np.lexsort(left_back_up.T)[0], ::-1].tolist())

    by_size = groupby(sorted(parts, key=len, reverse=True), key=len)
    return [part for _, (*same,) in by_size for part in (sorted(same, key=begins) if len(same) > 1 else same)]
