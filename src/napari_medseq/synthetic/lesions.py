"""Tumours: their appearance and their possible positions.

A lesion is a set of overlapping balls with a rough surface. Its *enhancing part* (the rim of a necrotic one, all of a
solid one) is what experts outline as tumour and what the truth masks hold; the dark core and the oedema around are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_medseq.synthetic.anatomy import Head
from napari_medseq.synthetic.fields import Array, Field, Grid, Points, inside, over

KINDS = ("ring", "solid", "patchy", "crescent", "cavity")


@dataclass(frozen=True)
class Lesion:
    """One tumour at one moment.

    Parameters
    ----------
    centre : tuple of float
        Head-space (x, y, z), mm LPS.
    balls : tuple of (dx, dy, dz, radius)
        Offsets from the centre and radii, mm, before `scale`.
    kind : str
        "ring" (dark core), "solid", "patchy" (faint, mottled), "crescent" (a dark cavity, enhancing on one
        side) or "cavity" (nothing enhances: an old operation, no tumour).
    rim_mm : float
        Thickness of the enhancing rim, for "ring" and "crescent".
    enhancement, core : float
        Signal of the enhancing part and of the core, white matter = 1.
    rough : float
        Standard deviation of the surface's irregularity, mm.
    oedema_mm, oedema : float
        Reach of the darker surrounding and its signal.
    seed : int
        Seed of the lesion's own texture, which is the same at every visit.
    scale : float
        Factor of offsets and radii, for growth.
    identity : int
        Identity of the lesion over time.
    """

    centre: tuple[float, float, float]
    balls: tuple[tuple[float, float, float, float], ...] = ((0.0, 0.0, 0.0, 8.0),)
    kind: str = "solid"
    rim_mm: float = 4.0
    enhancement: float = 1.4
    core: float = 0.6
    rough: float = 1.2
    oedema_mm: float = 8.0
    oedema: float = 0.85
    seed: int = 0
    scale: float = 1.0
    identity: int = 1
    direction: tuple[float, float, float] = field(default=(1.0, 0.0, 0.0))

    @property
    def reach(self) -> float:
        """Radius of a ball around the centre that holds the enhancing part, mm."""
        return self.scale * max(float(np.hypot(np.hypot(b[0], b[1]), b[2])) + b[3] for b in self.balls) + 3 * self.rough

    def scaled(self, scale: float) -> Lesion:
        """The same lesion, larger or smaller."""
        return replace(self, scale=scale)

    def shares(self, points: Points) -> tuple[Array, Array, Array]:
        """At head-space `points`: share of enhancing tissue, of core, and mm outside the lesion (negative within)."""
        x, y, z = (p - np.float32(c) for p, c in zip(points, self.centre, strict=True))
        distance: Array | None = None
        for dx, dy, dz, radius in self.balls:
            s = np.float32(self.scale)
            far = np.sqrt((x - s * np.float32(dx)) ** 2 + (y - s * np.float32(dy)) ** 2 + (z - s * np.float32(dz)) ** 2)
            far -= s * np.float32(radius)
            distance = far if distance is None else _join(distance, far, 4.0)
        assert distance is not None
        rng = np.random.default_rng(self.seed)
        size = 2 * self.reach + 30
        lumps, grain = Field(rng, max(size / 10, 6.0), size), Field(rng, 5.0, max(size / 2, 25.0))
        wave, fine = lumps(x, y, z), grain(x, y, z)
        distance = distance + np.float32(self.rough) * wave + np.float32(0.35 * self.rough) * fine
        within = inside(distance, 1.2)
        if self.kind == "solid":
            hollow = np.zeros_like(within)
        elif self.kind == "cavity":
            hollow = within
        elif self.kind == "patchy":
            hollow = inside(np.float32(0.7) + fine * np.float32(1.2) + wave * np.float32(0.6), 1.0) * within
        else:
            rim = np.float32(self.rim_mm) * (1 + np.float32(0.3) * fine - np.float32(0.25) * wave)
            if self.kind == "crescent":
                d = np.asarray(self.direction, np.float32) / np.float32(np.linalg.norm(self.direction))
                side = (x * d[0] + y * d[1] + z * d[2]) / np.float32(max(self.reach, 1.0))
                rim = rim * np.clip(np.float32(1.1) * side + np.float32(0.7), 0.0, 1.5)
            hollow = inside(distance + np.maximum(rim, np.float32(0.0)), 1.2) * within
        return within - hollow, hollow, distance

    def volume_ml(self, step: float = 0.8) -> float:
        """Volume of the enhancing part alone in mL, on a lattice `step` mm fine."""
        half = self.reach + 2
        axis = np.arange(-half, half, step, dtype=np.float32)
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        c = self.centre
        enhancing, _, _ = self.shares((x + np.float32(c[0]), y + np.float32(c[1]), z + np.float32(c[2])))
        return float((enhancing > 0.5).sum() * step**3 / 1000)

    def with_volume(self, ml: float) -> Lesion:
        """The lesion scaled so that its enhancing part measures `ml` millilitres (to about 1 %)."""
        scale = 1.0
        for _ in range(12):
            volume = self.scaled(scale).volume_ml(1.0)
            if abs(volume / ml - 1) < 0.01:
                break
            # the volume of a ball grows with the cube of its size, that of a rim with the square
            scale = float(np.clip(scale * (ml / max(volume, 1e-3)) ** 0.4, 0.2, 4.0))
        return self.scaled(scale)


def _join(a: Array, b: Array, soft: float) -> Array:
    """Smooth minimum of two distances, so that neighbouring balls merge smoothly (Quilez' polynomial)."""
    h = np.clip(np.float32(0.5) + (b - a) * np.float32(0.5 / soft), 0, 1)
    joined: Array = b + (a - b) * h - np.float32(soft) * h * (1 - h)
    return joined


def paint_lesion(signal: Array, brain: Array, grid: Grid, lesion: Lesion) -> tuple[tuple[slice, slice, slice], Array]:
    """Paint `lesion` over a head's `signal` in place, only where there is `brain`.

    Returns
    -------
    where : tuple of slice
        The part of `signal` that the lesion covers.
    enhancing : ndarray
        Share of enhancing tumour in those fine voxels.
    """
    reach = lesion.reach + lesion.oedema_mm * 1.5
    where, points = grid.box(np.subtract(lesion.centre, reach), np.add(lesion.centre, reach))
    part = signal[where]
    if part.size == 0:
        return where, np.zeros(part.shape, np.float32)
    enhancing, hollow, distance = lesion.shares(points)
    room = brain[where]
    rng = np.random.default_rng(lesion.seed + 1)
    local = [p - np.float32(c) for p, c in zip(points, lesion.centre, strict=True)]
    mottle = Field(rng, 9.0, reach + 2)(*local) * np.float32(0.6) + Field(rng, 3.6, reach + 2)(*local) * np.float32(0.8)
    spread = np.float32(lesion.oedema_mm) * (1 + np.float32(0.35) * mottle)
    swollen = np.clip(1 - distance / np.maximum(spread, 1.0), 0, 1)
    over(part, swollen * np.float32(1 - lesion.oedema) * room, part * np.float32(0.0))
    over(part, hollow * room, np.float32(lesion.core) * (1 + np.float32(0.06) * mottle))
    bright = np.float32(lesion.enhancement) + np.float32(0.3 * (lesion.enhancement - 0.7)) * mottle
    over(part, enhancing * room, bright)
    return where, enhancing * room


def random_lesion(
    rng: np.random.Generator, head: Head, others: list[Lesion], seed: int, identity: int
) -> Lesion | None:
    """A random tumour inside the brain and away from those in `others`; None if many tries found no room."""
    u = rng.uniform
    kind = str(rng.choice(KINDS, p=(0.38, 0.25, 0.14, 0.15, 0.08)))
    usual = 12.0 if kind in ("ring", "crescent", "cavity") else 8.5
    radius = float(np.clip(usual * np.exp(rng.normal(0.0, 0.38)), 4.5, 24.0))
    balls = [(0.0, 0.0, 0.0, radius)]
    for _ in range(int(rng.integers(0, 4))):
        direction = rng.normal(size=3)
        direction *= radius * u(0.6, 1.1) / np.linalg.norm(direction)
        balls.append((float(direction[0]), float(direction[1]), float(direction[2]) * 0.8, radius * u(0.35, 0.75)))
    lesion = Lesion(
        centre=(0.0, 0.0, 0.0),
        balls=tuple(balls),
        kind=kind,
        rim_mm=float(np.clip(rng.normal(0.32 * radius, 1.2), 2.0, 8.0)),
        enhancement=u(1.1, 1.25) if rng.random() < 0.25 else u(1.25, 1.65),
        core=u(0.42, 0.85),
        rough=float(radius * u(0.08, 0.2)),
        oedema_mm=u(3.0, 18.0),
        oedema=u(0.78, 0.97),
        seed=seed,
        identity=identity,
        direction=(float(rng.normal()), float(rng.normal()), float(rng.normal())),
    )
    for _ in range(60):
        centre = (u(-58, 58), u(-72, 76), u(-40, 62))
        if room(head, centre) < 0.45 * radius + 2:
            continue
        if any(np.linalg.norm(np.subtract(centre, o.centre)) < lesion.reach + o.reach + 4 for o in others):
            continue
        return replace(lesion, centre=centre)
    return None


def room(head: Head, centre: tuple[float, float, float] | NDArray[np.float64]) -> float:
    """Distance in millimetres from `centre` to the brain's surface; negative outside."""
    x, y, z = (np.full((1, 1, 1), c, np.float32) for c in centre)
    return -float(head.distances((x, y, z)).brain[0, 0, 0])
