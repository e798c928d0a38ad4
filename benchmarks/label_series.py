"""Seeded longitudinal label series with the truth of what happened: who flows into whom, and how it is called.

Lesions are made of *atoms* (balls in millimetres) and *bonds* (capsules that join two atoms). Each visit says which atoms are
there, where and how large, and which are bonded. What is one lesion is then decided by the voxels (26-connected components on the
visit's own grid), and two lesions of different visits are the same wherever they share an atom: so the truth is right
whatever happens by chance. Registration error moves a whole visit without telling anyone; a bend moves its parts apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_medseq.sequence import ImageSequence

Node = tuple[int, int]
SPACINGS = ((1.0, 1.0, 1.0), (0.9, 0.9, 3.0), (1.2, 1.2, 1.5), (0.8, 0.8, 2.0))


@dataclass
class Truth:
    """What happened. Nodes are (visit, value in ``instances[visit]``)."""

    instances: list[NDArray[np.int32]]
    edges: set[tuple[Node, Node]] = field(default_factory=set)
    events: dict[Node, str] = field(default_factory=dict)
    volumes: dict[Node, float] = field(default_factory=dict)
    resolved: set[Node] = field(default_factory=set)  # the node last seen


@dataclass
class Series:
    """One synthetic patient."""

    masks: list[ImageSequence]
    dates: list[date]
    truth: Truth
    error_mm: float


@dataclass
class _Atom:
    centre: NDArray[np.float64]
    radius: float


@dataclass
class _Grid:
    """A visit's voxels: where they are in the patient, and what registration got wrong there."""

    spacing: NDArray[np.float64]
    origin: NDArray[np.float64]
    shape: tuple[int, int, int]
    turn: NDArray[np.float64]
    middle: NDArray[np.float64]
    shift: NDArray[np.float64]
    waves: list[tuple[NDArray[np.float64], float, NDArray[np.float64]]]

    def points(self, low: NDArray[np.intp], high: NDArray[np.intp]) -> NDArray[np.float64]:
        """True positions in mm of the voxels of a box, shape (z, y, x, 3); `low` and `high` are (x, y, z)."""
        x, y, z = (self.origin[k] + self.spacing[k] * np.arange(low[k], high[k]) for k in range(3))
        p = np.stack(np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None]), axis=-1)
        p = (p - self.middle) @ self.turn.T + self.middle - self.shift
        for wave, phase, size in self.waves:
            p = p - np.sin(p @ wave + phase)[..., None] * size
        return np.asarray(p)

    def box(self, one: NDArray[np.float64], other: NDArray[np.float64], reach: float) -> tuple[NDArray[np.intp], ...]:
        """Lowest and highest voxel (x, y, z) that can be within `reach` mm of a line between two true positions."""
        ends = np.stack([one, other]) + self.shift
        ends = ((ends - self.middle) @ self.turn + self.middle - self.origin) / self.spacing
        reach += sum(float(np.linalg.norm(size)) for _, _, size in self.waves)
        low = np.maximum(np.floor(ends.min(axis=0) - reach / self.spacing), 0).astype(np.intp)
        high = np.ceil(ends.max(axis=0) + reach / self.spacing).astype(np.intp) + 1
        return low, np.minimum(high, np.array(self.shape[::-1]))


@dataclass
class _Plan:
    """Per visit: atoms by name, and bonds."""

    atoms: list[dict[int, _Atom]]
    bonds: list[set[tuple[int, int]]]


def make_series(
    seed: int = 0,
    *,
    visits: int = 4,
    lesions: int = 14,
    spacings: tuple[tuple[float, float, float], ...] = SPACINGS,
    error_voxels: float = 1.0,
    missed: float = 0.05,
    radius_mm: tuple[float, float] = (2.5, 7.0),
    box_mm: float = 120.0,
    tilt_deg: float = 0.0,
    bend_voxels: float = 0.0,
) -> Series:
    """One patient.

    Parameters
    ----------
    seed : int
    visits, lesions : int
        How many visits, and about how many lesions (groups that merge or split count as one).
    spacings : tuple of (x, y, z)
        Drawn from per visit, in mm.
    error_voxels : float
        Length of each later visit's shift, in voxels of its own grid along each axis' direction.
    missed : float
        Probability that a lesion's mask is missing at an inner visit.
    radius_mm : (low, high)
        Radii of the balls.
    box_mm : float
        Edge of the cube in which lesions lie.
    tilt_deg : float
        Each grid is turned by up to so much about each axis.
    bend_voxels : float
        Amplitude, in voxels along each axis, of waves of 15 cm and more that bend each later visit.
    """
    rng = np.random.default_rng(seed)
    plan = _plan(rng, visits, lesions, missed, radius_mm, box_mm)
    truth = Truth([])
    masks, of_atom = [], []
    days = [date(2020, 1, 15) + timedelta(days=int(d)) for d in np.cumsum([0, *rng.integers(40, 200, visits - 1)])]
    worst, thickest = 0.0, max(max(s) for s in spacings)
    for visit in range(visits):
        spacing = np.array(spacings[rng.integers(len(spacings))])
        shift = np.zeros(3)
        if visit:
            direction = rng.normal(size=3)
            shift = error_voxels * spacing * direction / np.linalg.norm(direction)
        worst = max(worst, float(np.linalg.norm(shift)))
        origin = -rng.uniform(8, 12, 3)
        turn = Rotation.from_euler("xyz", rng.uniform(-tilt_deg, tilt_deg, 3), degrees=True).as_matrix()
        size = bend_voxels * spacing if visit else np.zeros(3)
        waves = [
            (rng.normal(size=3) / 40, rng.uniform(0, 6.28), size * np.eye(3)[k]) for k in range(3 * bool(size.any()))
        ]
        extent = (box_mm + (20 if not tilt_deg else 40)) / spacing
        shape = tuple(int(n) for n in np.ceil(extent)[::-1])
        grid = _Grid(spacing, origin - 10 * bool(tilt_deg), shape, turn, np.full(3, box_mm / 2), shift, waves)
        volume, owner = _raster(plan.atoms[visit], plan.bonds[visit], grid, thickest)
        truth.instances.append(volume)
        of_atom.append(owner)
        affine = np.eye(4)
        affine[:3, :3] = turn * spacing
        affine[:3, 3] = turn @ (grid.origin - grid.middle) + grid.middle
        affine = np.diag([-1.0, -1, 1, 1]) @ affine
        masks.append(
            ImageSequence(
                (volume > 0).astype(np.uint8), ("z", "y", "x"), affine, kind="labels", name=f"visit{visit}_mask"
            )
        )
        for value, count in zip(*np.unique(volume[volume > 0], return_counts=True), strict=True):
            truth.volumes[visit, int(value)] = float(count * np.prod(spacing) / 1000)

    def size(node: Node) -> float:
        return sum(plan.atoms[node[0]][a].radius ** 3 for a, value in of_atom[node[0]].items() if value == node[1])

    relate(truth, of_atom, size)
    return Series(masks, days, truth, worst)


def _plan(
    rng: np.random.Generator, visits: int, lesions: int, missed: float, radius_mm: tuple[float, float], box: float
) -> _Plan:
    atoms: list[dict[int, _Atom]] = [{} for _ in range(visits)]
    bonds: list[set[tuple[int, int]]] = [set() for _ in range(visits)]
    taken: list[tuple[NDArray[np.float64], float]] = []
    name = 0
    for _ in range(lesions):
        kind = rng.choice(["single", "merge", "split", "complex", "neighbours"], p=[0.6, 0.12, 0.12, 0.06, 0.1])
        radius = float(rng.uniform(*radius_mm))
        room = radius * (1.9 if kind == "single" else 4.2) + 1.5
        for _try in range(200):
            centre = rng.uniform(room, box - room, 3)
            if all(np.linalg.norm(centre - c) > room + r for c, r in taken):
                break
        else:
            continue
        taken.append((centre, room))
        turn = int(rng.integers(1, visits)) if visits > 1 else 0
        if kind == "single":
            name = _single(rng, atoms, name, centre, radius, turn, missed)
        else:
            name = _group(rng, atoms, bonds, name, centre, radius, turn, str(kind))
    return _Plan(atoms, bonds)


def _single(
    rng: np.random.Generator,
    atoms: list[dict[int, _Atom]],
    name: int,
    centre: NDArray[np.float64],
    radius: float,
    turn: int,
    missed: float,
) -> int:
    visits = len(atoms)
    fate = rng.choice(["stays", "born", "dies", "grows", "shrinks"], p=[0.2, 0.2, 0.2, 0.25, 0.15])
    first, last = (turn, visits) if fate == "born" else (0, turn) if fate == "dies" else (0, visits)
    factor = {"grows": 1.25, "shrinks": 0.78}.get(str(fate), 1.0)
    r = radius if factor >= 1 else radius * 1.4
    drift = rng.normal(size=3)
    drift *= rng.uniform(0, 0.2) * radius / np.linalg.norm(drift)
    gone = int(rng.integers(first + 1, last - 1)) if last - first > 2 and rng.random() < missed else -1
    for visit in range(first, last):
        scale = factor ** (visit - first)
        if visit != gone:
            atoms[visit][name] = _Atom(centre + drift * (visit - first), min(r * scale, 1.85 * radius))
    return name + 1


def _group(
    rng: np.random.Generator,
    atoms: list[dict[int, _Atom]],
    bonds: list[set[tuple[int, int]]],
    name: int,
    centre: NDArray[np.float64],
    radius: float,
    turn: int,
    kind: str,
) -> int:
    u = rng.normal(size=3)
    u /= np.linalg.norm(u)
    v = np.cross(u, rng.normal(size=3))
    v /= np.linalg.norm(v)
    gap = 2 * radius + 4.5
    if kind == "complex":
        places = [centre + gap / 2 * (a * u + b * v) for a in (-1, 1) for b in (-1, 1)]
        radii = radius * rng.uniform(0.8, 1.0, 4)
    else:
        places = [centre - gap / 2 * u, centre + gap / 2 * u]
        radii = np.array([radius, radius * rng.uniform(0.6, 0.95)])
    fate = str(rng.choice(["born", "dies", "stays"]))
    if kind == "neighbours":  # two lesions side by side that have nothing to do with each other
        places[1] = places[0] + (radii.sum() + rng.uniform(2.0, 3.5)) * u
    for visit in range(len(atoms)):
        late = visit >= turn
        for k, place in enumerate(places):
            if kind == "neighbours" and k and ((fate == "born" and not late) or (fate == "dies" and late)):
                continue
            atoms[visit][name + k] = _Atom(place, float(radii[k]))
        joined: dict[str, list[tuple[int, int]]] = {"neighbours": []}
        joined |= {"complex": [(0, 2), (1, 3)] if late else [(0, 1), (2, 3)], "merge": [(0, 1)] * late}
        pairs = joined.get(kind, [(0, 1)] * (not late))
        bonds[visit] |= {(name + a, name + b) for a, b in pairs}
    return name + len(places)


def _raster(
    atoms: dict[int, _Atom], bonds: set[tuple[int, int]], grid: _Grid, thickest: float
) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Components (z, y, x) and the component that holds each atom's voxels.

    Bonds are thick enough for the thickest slices of the whole series, so that no grid changes what there is to see.
    """
    mask = np.zeros(grid.shape, bool)
    inside = {name: _draw(mask, atom.centre, atom.centre, atom.radius, grid) for name, atom in atoms.items()}
    for a, b in bonds:
        r = 0.6 * min(atoms[a].radius, atoms[b].radius)
        _draw(mask, atoms[a].centre, atoms[b].centre, max(r, 0.75 * thickest), grid)
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    owner = {name: int(labels[tuple(c[0] for c in where)]) for name, where in inside.items() if where[0].size}
    return labels.astype(np.int32), owner


def _draw(
    mask: NDArray[np.bool_], one: NDArray[np.float64], other: NDArray[np.float64], radius: float, grid: _Grid
) -> tuple[NDArray[np.intp], ...]:
    """Fill a capsule (a ball where both ends agree); returns its voxels as (z, y, x)."""
    low, high = grid.box(one, other, radius)
    p = grid.points(low, high)
    line = other - one
    length = float(line @ line)
    t = np.clip((p - one) @ line / length, 0, 1)[..., None] if length else 0.0
    near = ((p - one - t * line) ** 2).sum(axis=-1) <= radius**2
    where = np.nonzero(near)
    full = (where[0] + low[2], where[1] + low[1], where[2] + low[0])
    mask[full] = True
    return full


def relate(truth: Truth, of_atom: list[dict[int, int]], size: Callable[[Node], float]) -> None:
    """Edges by shared atoms with the latest earlier visit, then events from the edges; `size` is the true volume, in any unit."""
    parents: dict[Node, set[Node]] = {}
    for visit, owner in enumerate(of_atom):
        for atom, value in owner.items():
            node = (visit, value)
            parents.setdefault(node, set())
            for earlier in range(visit - 1, -1, -1):
                if atom in of_atom[earlier]:
                    parents[node].add((earlier, of_atom[earlier][atom]))
                    break
    for node, found in parents.items():
        latest = max((p[0] for p in found), default=0)
        parents[node] = {p for p in found if p[0] == latest}
        truth.edges |= {(p, node) for p in parents[node]}
    children: dict[Node, set[Node]] = {}
    for p, node in truth.edges:
        children.setdefault(p, set()).add(node)
    for node, found in parents.items():
        truth.events[node] = _event(node, found, children, size)
    visits = len(of_atom)
    for node in parents:
        if node[0] < visits - 1 and not any(c[0] == node[0] + 1 for c in children.get(node, ())):
            truth.resolved.add(node)


def _event(node: Node, parents: set[Node], children: dict[Node, set[Node]], size: Callable[[Node], float]) -> str:
    if node[0] == 0:
        return "baseline"
    if not parents:
        return "new"
    merged = len(parents) > 1
    split = any(len({c for c in children[p] if c[0] == node[0]}) > 1 for p in parents)
    if merged or split:
        return "complex" if merged and split else "merged" if merged else "split"
    (parent,) = parents
    if parent[0] < node[0] - 1:
        return "reappeared"
    ratio = size(node) / size(parent)
    # changes that a mask may or may not show are not asked for
    return "growing" if ratio > 1.5 else "shrinking" if ratio < 0.67 else "stable" if abs(ratio - 1) < 0.01 else "any"
