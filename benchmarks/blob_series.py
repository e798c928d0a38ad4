"""A second seeded generator of longitudinal label series, of other making than `label_series`: rough ellipsoids cut and grown.

Lesions are ellipsoids with a rough, low-frequency outline. They merge by growing into each other and split by being cut with a
plane, some drift, some vanish beside where another is born, and each visit is off by its own amount along every axis (so up to √3
times `error_voxels`) and by a small turn. A lesion's pieces on either side of its cut are its *atoms*; from there the truth is told
as in `label_series`: components decide what is one lesion, shared atoms decide what comes from what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from label_series import SPACINGS, Node, Series, Truth, relate
from napari_medseq.sequence import ImageSequence

KINDS = ("stays", "born", "dies", "grows", "shrinks", "missed", "merges", "splits", "complex", "replaced")


@dataclass(frozen=True)
class _Blob:
    """An ellipsoid with a rough outline; a plane through its centre parts it into two atoms, `gap` mm apart."""

    name: int
    centre: NDArray[np.float64]
    semi: NDArray[np.float64]
    turn: NDArray[np.float64]
    rough: NDArray[np.float64]
    plane: NDArray[np.float64]
    gap: float = 0.0

    def grown(self, factor: float) -> _Blob:
        """The same shape with `factor` times the volume."""
        return replace(self, semi=self.semi * factor ** (1 / 3))

    def moved(self, by: NDArray[np.float64]) -> _Blob:
        return replace(self, centre=self.centre + by)

    def atoms(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        """Atom (from 1) at each point, 0 outside."""
        p = (points - self.centre) @ self.turn / self.semi
        r = np.linalg.norm(p, axis=-1)
        unit = p / np.maximum(r, 1e-9)[..., None]
        wave = sum(a * np.sin(3 * unit[..., k] + f) for k, (a, f) in enumerate(self.rough))
        side = (points - self.centre) @ self.plane
        inside = (r <= 1 + wave) & (np.abs(side) >= self.gap / 2)
        return np.where(inside, 2 * self.name + 1 + (side > 0), 0).astype(np.int32)


def make_blobs(
    seed: int = 0,
    *,
    visits: int = 4,
    lesions: int = 16,
    spacings: tuple[tuple[float, float, float], ...] = SPACINGS,
    error_voxels: float = 1.0,
    turn_deg: float = 0.0,
    radius_mm: tuple[float, float] = (3.0, 8.0),
    box_mm: float = 110.0,
    drift: float = 0.3,
    apart_mm: float = 2.0,
    growth: tuple[float, float] = (1.5, 2.5),
    kinds: tuple[str, ...] = KINDS,
) -> Series:
    """One patient.

    Parameters
    ----------
    seed, visits, lesions, spacings, radius_mm, box_mm
        As in `label_series.make_series`.
    error_voxels : float
        Each later visit is off by a uniform amount up to so many of its voxels along each axis.
    turn_deg : float
        And turned by up to so much about each axis, about the middle.
    drift : float
        A lesion that drifts moves by up to this share of its radius at each visit.
    apart_mm : float
        Least distance between lesions that have nothing to do with each other.
    growth : (low, high)
        Factor of the volume from one visit to the next, for those that grow (or shrink).
    kinds : tuple of str
        Out of `KINDS`.
    """
    rng = np.random.default_rng(seed)
    plan = _plan(rng, visits, lesions, radius_mm, box_mm, drift, apart_mm, growth, kinds)
    truth, masks, of_atom = Truth([]), [], []
    days = [date(2021, 3, 1) + timedelta(days=int(d)) for d in np.cumsum([0, *rng.integers(40, 200, visits - 1)])]
    worst = 0.0
    for visit, blobs in enumerate(plan):
        spacing = np.array(spacings[rng.integers(len(spacings))])
        shift = rng.uniform(-1, 1, 3) * error_voxels * spacing if visit else np.zeros(3)
        angles = rng.uniform(-turn_deg, turn_deg, 3) if visit else np.zeros(3)
        worst = max(worst, float(np.linalg.norm(shift)))
        volume, owner = _raster(blobs, spacing, shift, Rotation.from_euler("xyz", angles, degrees=True), box_mm)
        truth.instances.append(volume)
        of_atom.append(owner)
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
        mask = (volume > 0).astype(np.uint8)
        masks.append(ImageSequence(mask, ("z", "y", "x"), affine, kind="labels", name=f"visit{visit}_mask"))
        counts = np.bincount(volume.ravel())
        for value in range(1, len(counts)):
            truth.volumes[visit, value] = float(counts[value] * np.prod(spacing) / 1000)
    sizes = [{a: float(b.semi.prod()) for b in blobs for a in _names(b)} for blobs in plan]

    def size(node: Node) -> float:
        return sum(sizes[node[0]][a] for a, value in of_atom[node[0]].items() if value == node[1])

    relate(truth, of_atom, size)
    return Series(masks, days, truth, worst)


def _names(blob: _Blob) -> tuple[int, int]:
    return 2 * blob.name + 1, 2 * blob.name + 2


def _raster(
    blobs: list[_Blob], spacing: NDArray[np.float64], shift: NDArray[np.float64], turn: Rotation, box: float
) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Components (z, y, x), and the component that holds most of each atom; crumbs of an atom are left out."""
    shape = np.ceil((box + 20) / spacing).astype(int)
    atoms = np.zeros(shape[::-1], np.int32)
    for blob in blobs:
        middle = turn.apply(blob.centre - box / 2) + box / 2 + shift + 10
        reach = 1.5 * blob.semi.max()
        low = np.maximum(np.floor((middle - reach) / spacing), 0).astype(int)
        high = np.minimum(np.ceil((middle + reach) / spacing) + 1, shape).astype(int)
        x, y, z = (np.arange(a, b) * s for a, b, s in zip(low, high, spacing, strict=True))
        p = np.stack(np.broadcast_arrays(x[None, None], y[None, :, None], z[:, None, None]), -1) - 10 - shift
        p = turn.inv().apply((p - box / 2).reshape(-1, 3)).reshape(p.shape) + box / 2
        found = blob.atoms(p)
        place = atoms[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        place[found > 0] = found[found > 0]
    labels, count = ndimage.label(atoms > 0, np.ones((3, 3, 3)))
    owner: dict[int, int] = {}
    for blob in blobs:
        for name in _names(blob):
            here = np.bincount(labels[atoms == name], minlength=count + 1)
            if here.any():
                owner[name] = int(here.argmax())
    kept = np.zeros(count + 1, np.int32)
    for new, old in enumerate(sorted(set(owner.values())), start=1):
        kept[old] = new
    return kept[labels], {name: int(kept[old]) for name, old in owner.items()}


def _plan(
    rng: np.random.Generator,
    visits: int,
    lesions: int,
    radius_mm: tuple[float, float],
    box: float,
    drift: float,
    apart: float,
    growth: tuple[float, float],
    kinds: tuple[str, ...],
) -> list[list[_Blob]]:
    """The blobs of each visit."""
    plan: list[list[_Blob]] = [[] for _ in range(visits)]
    taken: list[tuple[NDArray[np.float64], float]] = []
    name = 0
    for n in range(lesions):
        kind = kinds[n % len(kinds)]
        radius = float(rng.uniform(*radius_mm))
        group = kind in ("merges", "complex", "replaced")
        room = radius * (3.6 if group else 2.0) + apart / 2
        for _ in range(300):
            centre = rng.uniform(room, box - room, 3)
            if all(np.linalg.norm(centre - c) > room + r for c, r in taken):
                break
        else:
            continue
        taken.append((centre, room))
        blobs = [_blob(rng, name + k, centre, radius) for k in range(2)]
        for visit, found in enumerate(_story(rng, kind, blobs, visits, radius, drift, apart, growth)):
            plan[visit] += found
        name += 2
    return plan


def _blob(rng: np.random.Generator, name: int, centre: NDArray[np.float64], radius: float) -> _Blob:
    semi = radius * rng.uniform(0.75, 1.25, 3)
    semi *= radius / np.cbrt(semi.prod())
    rough = np.stack([rng.uniform(0, 0.08, 3), rng.uniform(0, 2 * np.pi, 3)], 1)
    plane = rng.normal(size=3)
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    return _Blob(name, centre, semi, turn, rough, plane / np.linalg.norm(plane))


def _story(
    rng: np.random.Generator,
    kind: str,
    blobs: list[_Blob],
    visits: int,
    radius: float,
    drift: float,
    apart: float,
    growth: tuple[float, float],
) -> list[list[_Blob]]:
    """What one lesion, or a pair, is at each visit."""
    one, other = blobs
    turn = int(rng.integers(1, visits))
    way = rng.normal(size=3)
    way *= rng.uniform(0, drift) * radius / np.linalg.norm(way)
    factor = float(rng.uniform(*growth))
    cut = 0.4 * radius + 2.0
    away = one.plane * (2.5 * radius + apart)
    found: list[list[_Blob]] = []
    for v in range(visits):
        late, here = v >= turn, one.moved(way * v)
        found.append(
            {
                "stays": [here],
                "born": [here] * late,
                "dies": [here] * (not late),
                "grows": [here.grown(factor if late else 1.0)],
                "shrinks": [here.grown(1.0 if late else factor)],
                "missed": [here] * (v != turn or turn == visits - 1),
                "merges": [b.moved(s * away / 2).grown(3.5 if late else 1.0) for b, s in ((one, -1), (other, 1))],
                "splits": [replace(one.grown(2.0), gap=cut * late)],
                "complex": _crossed(one, other, cut, radius, late),
                "replaced": [one.moved(-away / 2)] if not late else [other.moved(away / 2)],
            }[kind]
        )
    return found


def _crossed(one: _Blob, other: _Blob, cut: float, radius: float, late: bool) -> list[_Blob]:
    """Two lesions that become two others: a bar cut one way before and the other way after."""
    side = np.cross(one.plane, [0.3, -0.8, 0.5])
    side /= np.linalg.norm(side)
    pair = []
    for blob, sign in ((one, -1), (other, 1)):
        long = replace(blob, semi=np.full(3, 1.5 * radius), plane=one.plane, gap=cut * late, rough=0 * blob.rough)
        # before: two whole bodies apart along `side`; after: both cut, and their halves grown together
        reach = 1.5 * radius + cut / 2 if not late else 1.2 * radius
        pair.append(long.moved(sign * side * reach))
    return pair
