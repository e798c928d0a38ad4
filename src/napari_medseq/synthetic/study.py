"""One synthetic patient over three visits, with the truth about every lesion.

The story is fixed (`_STORY`), so that the truth is known by construction and not measured by the tracking that it
tests: a lesion grows, one shrinks, one is stable, one vanishes, two merge, one splits, one appears. Each visit has its
own head position, grid, contrast, coil shading and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import SettingsError
from napari_medseq.sequence import ImageSequence, Study, Visit
from napari_medseq.synthetic.anatomy import Head
from napari_medseq.synthetic.case import FILLED, LABEL_NAMES, grid_affine, scan
from napari_medseq.synthetic.fields import Grid
from napari_medseq.synthetic.lesions import Lesion, paint_lesion, room
from napari_medseq.synthetic.scanner import Scanner

if TYPE_CHECKING:
    import pandas as pd

DATES = (date(2020, 1, 31), date(2020, 5, 4), date(2020, 9, 21))
COLUMNS = ("visit", "date", "lesion", "event", "parents", "volume_ml")
#: least distance between the enhancing parts of two lesions that do not merge, mm
APART_MM = 12.0

_ALONG_Y = ((0.0, -10.0, 0.0, 8.2), (0.0, 0.0, 0.0, 7.2), (0.0, 10.0, 0.0, 8.2))


@dataclass(frozen=True)
class Truth:
    """The true fate of each lesion, by construction.

    Parameters
    ----------
    rows : tuple of dict
        One per lesion and visit where it is present, and one more with volume 0 at the first visit where it is absent,
        with event "resolved", or "merged" if it was taken up by another. Keys:
        `COLUMNS`. `visit` counts from 0; `parents` as in a tracked `Progression`; `volume_ml` is measured on the visit's
        own grid.
    labels : tuple of ImageSequence
        Per visit: voxel value = lesion identity, on the image's grid.
    masks : tuple of ImageSequence
        Per visit: 1 = enhancing tumour, as an expert would outline it.
    to_first : tuple of ndarray, shape (4, 4)
        Per visit: RAS mm of this visit → RAS mm of visit 1, which is the correct registration.
    """

    rows: tuple[dict[str, object], ...]
    labels: tuple[ImageSequence, ...]
    masks: tuple[ImageSequence, ...]
    to_first: tuple[NDArray[np.float64], ...]

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(COLUMNS))


@dataclass(frozen=True)
class _State:
    """A lesion at one visit: its position, its size, and its event."""

    identity: int
    centre: tuple[float, float, float]
    volume_ml: float
    event: str
    parents: str
    look: Lesion


_SOLID = Lesion((0, 0, 0), kind="solid", enhancement=1.5, rough=0.8, oedema_mm=7.0, oedema=0.88)
_RING = Lesion((0, 0, 0), kind="ring", rim_mm=5.0, enhancement=1.5, core=0.62, rough=0.9, oedema_mm=12.0, oedema=0.84)
_LONG = replace(_SOLID, balls=_ALONG_Y, enhancement=1.45)

#: Per visit, the lesions: identity, position (mm in the head's space), mL, event, parents, appearance. Identities are
#: numbered by size at the first visit, largest first; later lesions get the next free number.
_STORY: tuple[tuple[_State, ...], ...] = (
    (
        _State(1, (32, 44, 30), 7.4, "baseline", "", _RING),
        _State(2, (36, 4, 0), 5.6, "baseline", "", _LONG),
        _State(3, (33, -36, 28), 4.2, "baseline", "", _SOLID),
        _State(4, (-31, -2, 38), 2.7, "baseline", "", _SOLID),
        _State(5, (-34, -46, 16), 2.1, "baseline", "", _SOLID),
        _State(6, (-31, 25, 38), 1.7, "baseline", "", _SOLID),
        _State(7, (-26, 52, -36), 1.4, "baseline", "", _SOLID),
    ),
    (
        _State(1, (32, 44, 30), 2.8, "shrinking", "1", _RING),
        _State(2, (36, 4, 0), 5.6, "stable", "2", _LONG),
        _State(3, (33, -36, 28), 4.2, "stable", "3", _SOLID),
        _State(4, (-31, 11, 38), 7.4, "merged", "4;6", _LONG),
        _State(5, (-34, -46, 16), 4.4, "growing", "5", _RING),
        _State(8, (-30, 56, 2), 1.8, "new", "", _SOLID),
    ),
    (
        _State(1, (32, 44, 30), 1.4, "shrinking", "1", _SOLID),
        _State(2, (36, -11, 0), 2.6, "split", "2", _SOLID),
        _State(3, (33, -36, 28), 4.2, "stable", "3", _SOLID),
        _State(4, (-31, 11, 38), 7.4, "stable", "4", _LONG),
        _State(5, (-34, -46, 16), 7.6, "growing", "5", _RING),
        _State(8, (-30, 56, 2), 3.9, "growing", "8", _SOLID),
        _State(9, (36, 19, 0), 1.7, "split", "2", _SOLID),
    ),
)
#: (visit, identity, event) of the rows of volume 0: the lesion vanished, or merged into another
_GONE = ((1, 6, "merged"), (1, 7, "resolved"))
_SCANNERS = (
    Scanner(gain=900, gamma=1.0, bias=0.12, noise=0.02, blur=0.5, ghost=0.006),
    Scanner(gain=430, gamma=0.93, bias=0.2, noise=0.026, blur=0.6, ghost=0.01),
    Scanner(gain=1400, gamma=1.06, bias=0.16, noise=0.02, blur=0.5, ghost=0.004),
)


def make_study(
    seed: int = 0,
    *,
    shape_zyx: tuple[int, int, int] = (24, 192, 160),
    spacing_zyx: tuple[float, float, float] = (6.5, 1.1, 1.1),
    dates: Sequence[date] = DATES,
) -> Study:
    """A synthetic patient's three visits, each with an image and the expert mask; `make_truth` gives the truth.

    Parameters
    ----------
    seed : int
        Another seed gives another head with the same story.
    shape_zyx, spacing_zyx
        Voxels and mm along z, y, x of the first and last visit; the second has two slices fewer.
    dates : sequence of date
        Day of each visit.

    Returns
    -------
    Study
        Each visit: ``images`` (int16, "MR") and ``labels`` (1 = enhancing tumour), each with its own grid and
        ``meta["frame_of_reference"]``.

    Raises
    ------
    SettingsError
        If there are not three dates, or the head does not fit on the grid.
    """
    study, _ = _make(seed, shape_zyx, spacing_zyx, tuple(dates))
    visits = (
        replace(v, images=tuple(map(_copied, v.images)), labels=tuple(map(_copied, v.labels))) for v in study.visits
    )
    return replace(study, visits=tuple(visits))


def make_truth(
    seed: int = 0,
    *,
    shape_zyx: tuple[int, int, int] = (24, 192, 160),
    spacing_zyx: tuple[float, float, float] = (6.5, 1.1, 1.1),
    dates: Sequence[date] = DATES,
) -> Truth:
    """The truth of `make_study` with the same arguments."""
    _, truth = _make(seed, shape_zyx, spacing_zyx, tuple(dates))
    return Truth(
        tuple(dict(row) for row in truth.rows),
        tuple(map(_copied, truth.labels)),
        tuple(map(_copied, truth.masks)),
        tuple(matrix.copy() for matrix in truth.to_first),
    )


def _copied(seq: ImageSequence) -> ImageSequence:
    """The sequence with voxels and facts of its own, so that what a caller does with it does not change what the next one gets."""
    return seq.replace(data=np.array(seq.data), meta=dict(seq.meta), label_names=dict(seq.label_names))


@lru_cache(maxsize=2)
def _make(
    seed: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    dates: tuple[date, ...],
) -> tuple[Study, Truth]:
    if len(dates) != len(_STORY) or any(a >= b for a, b in pairwise(dates)):
        raise SettingsError(
            f"The synthetic patient has {len(_STORY)} visits; give that many dates, each after the last."
        )
    if shape[0] * spacing[0] < 125 or min(shape[1] * spacing[1], shape[2] * spacing[2]) < 165:
        raise SettingsError(
            f"{shape} voxels of {spacing} mm do not hold a head; make z at least 125 mm, and y and x at least 165 mm."
        )
    head, story = _patient(seed)
    visits, labels, masks, worlds = [], [], [], []
    rows: list[dict[str, object]] = []
    sizes: dict[int, float] = {}
    for visit, states in enumerate(story):
        rng = np.random.default_rng([seed, 1000 + visit])
        grid, sizes = _steady_grid(visit, states, sizes, shape, spacing, rng)
        values, identities = scan(head, list(states.values()), grid, _SCANNERS[visit], rng)
        image, label, mask = _sequences(seed, visit, dates[visit], grid, values, identities)
        worlds.append(grid.matrix)
        visits.append(Visit(dates[visit], (image,), (mask,), f"ses-{dates[visit]:%Y%m%d}"))
        labels.append(label)
        masks.append(mask)
        rows += _rows(visit, dates[visit], label)
    to_first = tuple(geometry.RAS_LPS @ np.linalg.inv(worlds[0]) @ w @ geometry.RAS_LPS for w in worlds)
    return Study(f"synthetic-{seed}", tuple(visits)), Truth(tuple(rows), tuple(labels), tuple(masks), to_first)


def _patient(seed: int) -> tuple[Head, list[dict[int, Lesion]]]:
    """A head that has room for the story, and its lesions at each visit."""
    for attempt in range(50):
        head = Head(np.random.default_rng([seed, attempt]))
        story: list[dict[int, Lesion]] = []
        looks: dict[tuple[object, ...], Lesion] = {}
        for states in _STORY:
            lesions = {}
            for s in states:
                place = _settled(head, s.centre, 9.0)
                if place is None:
                    break
                # the same size and appearance give the same lesion, voxel for voxel, except for the head's position
                key = (s.identity, s.centre, s.volume_ml)
                if key not in looks:
                    base = replace(s.look, centre=place, seed=seed * 1000 + s.identity, identity=s.identity)
                    looks[key] = base.with_volume(s.volume_ml)
                lesions[s.identity] = looks[key]
            if len(lesions) < len(states) or not _apart(lesions):
                break
            story.append(lesions)
        if len(story) == len(_STORY):
            return head, story
    raise SettingsError(f"No head of seed {seed} has room for the lesions of the story; take another seed.")


def _settled(head: Head, centre: tuple[float, float, float], margin: float) -> tuple[float, float, float] | None:
    """`centre`, moved as little as possible towards the centre of the brain so that `margin` mm of brain surround
    it."""
    for step in range(4):
        place = np.asarray(centre) * (1 - 0.04 * step)
        if room(head, place) >= margin:
            return float(place[0]), float(place[1]), float(place[2])
    return None


def _apart(lesions: dict[int, Lesion]) -> bool:
    """Whether lesions, as balls, stay `APART_MM` apart; the pair that is to merge, 4 and 6, may be nearer."""
    balls = [
        (i, np.add(o.centre, np.multiply(b[:3], o.scale)), b[3] * o.scale) for i, o in lesions.items() for b in o.balls
    ]
    for i, p, r in balls:
        for j, q, s in balls:
            limit = 6.0 if {i, j} == {4, 6} else APART_MM
            if i < j and float(np.linalg.norm(p - q)) - r - s < limit:
                return False
    return True


def _grid(
    visit: int, shape: tuple[int, int, int], spacing: tuple[float, float, float], rng: np.random.Generator
) -> Grid:
    """The grid of one visit, with the head's position at it: up to 2 mm and 2° from the first."""
    u = rng.uniform
    if visit == 1:
        shape = (shape[0] - 2, shape[1], shape[2])
    size = 0.0 if visit == 0 else 1.0
    turn = (-4 + size * u(-2, 2), size * u(-1.5, 1.5), size * u(-2, 2))
    shift = (size * u(-2, 2), size * u(-2, 2), size * u(-2, 2))
    bottom = -66.0 + (3.0 if visit == 1 else 0.0)
    return Grid(shape, spacing, centre=(0.0, 0.0, bottom + shape[0] * spacing[0] / 2), rotation=turn, shift=shift)


def _steady_grid(
    visit: int,
    states: dict[int, Lesion],
    before: dict[int, float],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[Grid, dict[int, float]]:
    """A grid on which stable lesions keep their measured size: the head position with the least change, of several.

    Thick slices alone change the voxel count of an unchanged lesion by ten per cent and more.
    """
    stable = {s.identity for s in _STORY[visit] if s.event == "stable"}
    best: tuple[float, Grid, dict[int, float]] | None = None
    for _ in range(16 if stable else 1):
        grid = _grid(visit, shape, spacing, rng)
        sizes = {i: _voxels(grid, states[i]) for i in (stable or states)}
        worst = max((abs(sizes[i] / max(before[i], 1.0) - 1) for i in stable), default=0.0)
        if best is None or worst < best[0]:
            best = worst, grid, sizes
        if worst < 0.03:
            break
    assert best is not None
    return best[1], {i: _voxels(best[1], lesion) for i, lesion in states.items()}


def _voxels(grid: Grid, lesion: Lesion) -> float:
    """Number of voxels of `grid` that the lesion fills, ignoring the brain around it."""
    ones = np.ones((grid.shape[0] * grid.thin, *grid.shape[1:]), np.float32)
    where, enhancing = paint_lesion(ones.copy(), ones, grid, lesion)
    ones[:] = 0
    ones[where] = enhancing
    return float((grid.thicken(ones) > FILLED).sum())


def _sequences(
    seed: int, visit: int, day: date, grid: Grid, values: NDArray[np.int16], identities: NDArray[np.uint8]
) -> tuple[ImageSequence, ImageSequence, ImageSequence]:
    """The image, the identities and the expert mask of one visit."""
    image = ImageSequence(
        data=values,
        axes=("z", "y", "x"),
        affine=grid_affine(grid),
        acquired=datetime(day.year, day.month, day.day, 9 + visit),
        modality="MR",
        name="sub-sample_T1post",
        meta={"frame_of_reference": f"2.25.{7_000_000 + 100 * seed + visit}", "synthetic": True},
    )
    names = {int(i): f"lesion {i}" for i in np.unique(identities) if i}
    label = image.labels_like(identities, name="sub-sample_lesions", label_names=names, modality=None)
    mask = image.labels_like(
        (identities > 0).astype(np.uint8), name="sub-sample_tumor", label_names=LABEL_NAMES, modality=None
    )
    return image, label, mask


def _rows(visit: int, day: date, label: ImageSequence) -> list[dict[str, object]]:
    voxel = geometry.voxel_volume_mm3(label.affine) / 1000
    counts = np.bincount(np.asarray(label.data).ravel(), minlength=256)
    lines = [(s.identity, s.event, s.parents, round(float(counts[s.identity]) * voxel, 4)) for s in _STORY[visit]]
    lines += [(identity, event, "", 0.0) for v, identity, event in _GONE if v == visit]
    return [dict(zip(COLUMNS, (visit, day.isoformat(), *row), strict=True)) for row in sorted(lines)]


__all__ = ["APART_MM", "COLUMNS", "DATES", "Truth", "make_study", "make_truth"]
