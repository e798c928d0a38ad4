"""A head without disease: shapes in millimetres, and the signal of each tissue in T1-weighted MR after contrast.

Head space: x to the left, y to the back, z up (LPS), millimetres, origin in the middle of the head near the ventricles.
Signals are relative to white matter = 1. Fat and marrow are brighter than any tumour; dural sinuses, vessels,
choroid plexus and mucosa enhance like one. A threshold cannot tell them apart, but place and shape can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_medseq.synthetic.fields import Array, Field, Grid, Points, inside, over


def _ellipsoid(x: Array, y: Array, z: Array, radii: tuple[float, float, Array | float]) -> Array:
    """Approximate signed distance (mm) to an ellipsoid: k0 (k0 - 1) / k1 with k0 = |p/r|, k1 = |p/r²| (I. Quilez)."""
    a, b, c = radii
    u, v, w = x / np.float32(a), y / np.float32(b), z / np.asarray(c, np.float32)
    k0 = np.sqrt(u * u + v * v + w * w)
    k1 = np.sqrt((u / np.float32(a)) ** 2 + (v / np.float32(b)) ** 2 + (w / np.asarray(c, np.float32)) ** 2)
    distance: Array = k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-6))
    return distance


def _step(v: Array, width: float) -> Array:
    """Smooth 0 → 1 across v = 0."""
    value: Array = np.float32(0.5) * (1 + np.tanh(v / np.float32(width)))
    return value


def _capsule(p: Points, a: tuple[float, float, float], b: tuple[float, float, float], ra: float, rb: float) -> Array:
    """Signed distance (mm) to a tube from `a` to `b` with radius from `ra` to `rb`."""
    d = np.subtract(b, a).astype(np.float32)
    q = [c - np.float32(o) for c, o in zip(p, a, strict=True)]
    t = np.clip((q[0] * d[0] + q[1] * d[1] + q[2] * d[2]) / np.float32(d @ d), 0, 1)
    far = np.sqrt(sum((c - t * e) ** 2 for c, e in zip(q, d, strict=True)))
    distance: Array = far - (np.float32(ra) + t * np.float32(rb - ra))
    return distance


@dataclass(frozen=True)
class Distances:
    """Signed distances (mm, negative inside) at some points, and the points after the head's own irregularity."""

    head: Array
    brain: Array
    scalp: Array
    points: Points


@dataclass(frozen=True)
class _Folds:
    """The brain's surface at each fine voxel.

    `cortex` is the signed distance to it (mm, negative inside), `fold` and `vein` the distances (about mm) from the
    middle of the next sulcus and vein, `opening` how far a sulcus is open (0 to 1), `patch` a coarse texture.
    """

    cortex: Array
    fold: Array
    opening: Array
    vein: Array
    patch: Array


class Head:
    """One random person.

    Parameters
    ----------
    rng : numpy.random.Generator
        Drawn from at construction only: the same head may be scanned many times.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        u = rng.uniform
        self.radii = (u(69, 80), u(90, 100), u(72, 84))
        self.scalp_mm, self.skull_mm, self.csf_mm = u(3.5, 7.5), u(4.0, 7.0), u(0.8, 2.6)
        self.atrophy = u(0.25, 0.85)
        self.sulcus_depth = u(15, 26)
        self.ventricle = u(0.5, 1.5)
        self.floor = (u(-28, -18), u(-55, -45), u(-95, -80))
        self.fat = u(1.9, 2.9)
        self.grey = u(0.82, 0.93)
        self.csf = u(0.28, 0.42)
        self.diploe = u(0.25, 1.5)
        self.vessel = u(1.4, 2.1)
        self.sinus_mm = u(2.2, 4.2)
        self.choroid = u(1.2, 1.9)
        self.squareness = u(0.0, 0.25)
        self.eye_z = u(-38, -30)
        self.warp = [Field(rng, 45.0) for _ in range(3)]
        self.warp_mm = u(1.0, 2.8)
        self.sulci, self.veins = Field(rng, u(5.6, 7.5), 92.0), Field(rng, 11.0)
        self.mess, self.mess2 = Field(rng, 10.0), Field(rng, 5.0, 105.0)
        self.dura = float(rng.random() < 0.35) * u(0.3, 0.9)
        self.patches = Field(rng, 22.0)
        self.vein_mm = u(0.4, 1.0)
        self.sides = (u(0.2, 1.0), u(0.2, 1.0))

    def distances(self, points: Points) -> Distances:
        """Distances to the skin, the scalp's inner side and the brain's surface at head-space `points`."""
        x, y, z = points
        shifts = [np.float32(self.warp_mm) * f(x, y, z) for f in self.warp]
        x, y, z = x + shifts[0], y + shifts[1], z + shifts[2]
        a, b, c = self.radii
        # the outline is squarer than an ellipse, so coordinates shrink along the diagonals
        bulge = np.float32(1) - np.float32(self.squareness) * np.minimum((x * y / np.float32(a * b)) ** 2, 0.5)
        # a head is narrower in front and at the temples
        slim = np.float32(1) + np.float32(0.05) * np.clip(-y / np.float32(b), 0, 1)
        xs, ys = x * bulge * slim, y * bulge
        low = np.where(z > 0, np.float32(c), np.float32(190.0))
        head = _ellipsoid(xs, ys, z, (a, b, low))
        patch = self.patches(x, y, z)
        # thick muscle and fat below the skull, thin scalp above it
        drop = np.maximum(np.float32(-28) - z, 0)
        scalp = head + np.float32(self.scalp_mm) + patch * np.float32(0.9) + np.float32(0.12) * drop
        front, mid, back = self.floor
        to_mid, to_back = _step(y + 32, 7.0), _step(y - 14, 6.0)
        centre = np.exp(-((x / np.float32(17)) ** 2))
        middle = np.float32(mid) + np.float32(24) * centre
        floor = np.float32(front) * (1 - to_mid) + to_mid * ((1 - to_back) * middle + to_back * np.float32(back))
        # the petrous ridges divide the middle fossa from the posterior one
        ridge = np.exp(-(((y - 15 - np.float32(0.15) * np.abs(x)) / 7) ** 2)) * _step(np.abs(x) - 16, 5.0)
        floor = floor + ridge * np.maximum(np.float32(-34) - floor, 0)
        side = head + np.float32(self.scalp_mm + self.skull_mm) + np.float32(0.28) * drop + patch
        brain = np.maximum(side, (floor - z) * np.float32(0.8))
        return Distances(head, brain, scalp, (x, y, z))

    def ventricles(self, points: Points) -> tuple[Array, Array]:
        """Signed distance to the ventricles and to the choroid plexus in them."""
        x, y, z = points
        w = self.ventricle
        p = (np.abs(x), y, z)
        parts = [
            _capsule(p, (9, -28, 8), (8, -5, 16), 3.5 * w, 5.5 * w),
            _capsule(p, (8, -5, 16), (13, 25, 16), 5.0 * w, 5.5 * w),
            _capsule(p, (13, 25, 16), (24, 38, 6), 5.5 * w, 6.5 * w),
            _capsule(p, (24, 38, 6), (20, 60, 3), 5.0 * w, 1.5),
            _capsule(p, (24, 38, 4), (30, 5, -18), 4.0 * w, 1.0),
            _capsule(p, (0, -5, 2), (0, 15, -4), 1.8 * w, 1.8 * w),
            _capsule(p, (0, 32, -38), (0, 34, -48), 3.5 * w, 5.0 * w),
        ]
        plexus = np.minimum(
            _capsule(p, (14, 20, 14), (23, 34, 7), 0.9, 2.6), _capsule(p, (23, 34, 7), (25, 26, -5), 2.4, 0.9)
        )
        # the septum pellucidum separates the two sides
        return np.maximum(np.minimum.reduce(parts[:5]), np.float32(0.8) - p[0]).clip(
            None, np.minimum(parts[5], parts[6])
        ), plexus

    def paint(self, grid: Grid) -> tuple[Array, Array]:
        """Signal, and the brain's share, of each fine voxel: (sub-slices, rows, columns) of the window."""
        far = self.distances(grid.nodes(4))
        scalp, brain = grid.up(far.scalp), grid.up(far.brain)
        signal = self._outside(grid, grid.up(far.head), scalp, brain)
        x, y, z = place = (grid.up(far.points[0]), grid.up(far.points[1]), grid.up(far.points[2]))
        folds = self._folds(grid, brain + np.float32(self.csf_mm))
        ventricle, plexus = (grid.up(distance) for distance in self.ventricles(grid.nodes(2)))
        ring = np.sqrt((y / 52) ** 2 + ((z - 4) / 34) ** 2)
        fissure = inside(np.float32(1.15) - ring, 0.1) * (z > -22)
        share = inside(folds.cortex, 0.9)
        over(signal, share, self._tissue(grid, far, folds, np.abs(x), fissure, ventricle))

        # structures that enhance but are not tumour
        enhancing = inside(plexus, 1.2) * inside(ventricle - 1.0, 1.0) * np.clip(1.0 + 0.5 * folds.patch, 0.2, 1)
        over(signal, enhancing, self.choroid)
        falx = inside(np.abs(x) - np.float32(0.35), 0.9) * fissure * share
        over(signal, falx * np.clip(0.4 + 0.4 * folds.patch, 0, 1), 1.3)
        if self.dura:
            lining = inside(np.abs(brain) - np.float32(0.4), 0.8) * np.clip(0.5 + folds.patch, 0, 1) * (z > -30)
            over(signal, lining * np.float32(self.dura), 1.5)
        over(
            signal, inside(folds.vein - np.float32(self.vein_mm), 0.8) * folds.opening * inside(brain, 1.0), self.vessel
        )
        self._sinuses(signal, brain, place)
        return signal, share * inside(-ventricle, 1.0)

    def _outside(self, grid: Grid, head: Array, scalp: Array, brain: Array) -> Array:
        """The signal of skin, fat, skull, face and eyes, and of the fluid around the brain."""
        signal = np.full(head.shape, 0.01, dtype=np.float32)
        face, bright = self._face(grid.nodes(2))
        messy = grid.up(face)
        over(signal, inside(head, 0.9), np.float32(self.fat) * (np.float32(0.9) + np.float32(0.07) * grid.up(bright)))
        over(signal, inside(np.abs(head + 0.6) - 0.6, 0.8), 0.75 * self.fat)
        over(signal, inside(scalp, 1.0), 0.16)
        marrow = np.float32(self.skull_mm / 2)
        over(signal, inside(np.abs(scalp + marrow) - marrow * np.float32(0.45), 1.5), self.diploe)
        below = inside(np.float32(3.0) - brain, 2.5) * inside(scalp + np.float32(2.0), 1.5)
        over(signal, below, messy)
        self._eyes(signal, grid, scalp)
        over(signal, inside(brain, 1.2), self.csf)
        return signal

    def _folds(self, grid: Grid, cortex: Array) -> _Folds:
        """The sulci, which open to the surface, the folds of the cerebellum, and the veins in them."""
        near = grid.nodes(2)
        coarse_x, coarse_y, coarse_z = near
        depth = np.maximum(-cortex, 0)
        r = np.sqrt(coarse_x**2 + coarse_y**2 + (coarse_z + 10) ** 2 + np.float32(28**2))
        pull = (np.float32(68) / r) ** np.float32(0.65)
        qx, qy, qz = coarse_x * pull, coarse_y * pull, coarse_z * pull
        fold_coarse = self.sulci(qx, qy, qz)
        fold = np.abs(grid.up(fold_coarse)) * np.float32(self.sulci.scale / 1.6)  # about mm from the middle of a sulcus
        patch = grid.up(self.patches(*near))
        reach = np.float32(self.sulcus_depth) + np.float32(5) * patch
        # there are no sulci in the deep centre, although the base of the skull is near
        middle = np.sqrt((coarse_x / 33) ** 2 + ((coarse_y - 4) / 52) ** 2 + ((coarse_z - 2) / 36) ** 2)
        opening = np.clip((reach - depth) * np.float32(0.12), 0, 1) * grid.up(np.clip((middle - 1) * 4, 0, 1))
        opening = np.maximum(opening, 0)
        vein = np.sqrt(fold**2 + (grid.up(self.veins(qx, qy, qz)) * np.float32(self.veins.scale / 1.6)) ** 2)
        return _Folds(cortex, fold, opening, vein, patch)

    def _tissue(
        self, grid: Grid, far: Distances, folds: _Folds, aside: Array, fissure: Array, ventricle: Array
    ) -> Array:
        """The signal of the brain: white matter, a ribbon of grey, and fluid in sulci, fissure, ventricles and cisterns."""
        fold, opening = folds.fold, folds.opening
        tissue = np.full(fold.shape, 1.0, dtype=np.float32)
        tissue += np.float32(0.02) * folds.patch
        rind = inside(np.maximum(-folds.cortex, 0) - np.float32(2.6), 1.8)
        over(tissue, np.maximum(inside(fold - np.float32(3.0), 1.8) * opening, rind), self.grey)
        over(tissue, grid.up(self._nuclei(far.points)), (1 + self.grey) / 2)
        over(tissue, inside(fold - np.float32(self.atrophy) * opening, 0.8) * np.clip(opening * 4, 0, 1), self.csf)
        over(tissue, inside(aside - np.float32(0.5 + self.atrophy), 1.0) * fissure, self.csf)
        over(tissue, inside(ventricle, 1.2), self.csf)
        over(tissue, inside(grid.up(self._cisterns(grid.nodes(2))), 1.2), self.csf)
        return tissue

    def _face(self, near: Points) -> tuple[Array, Array]:
        """The tissue below the skull (air, bone, muscle, fat, mucosa), equal on the left and right; and a texture for
        fat."""
        x, y, z = near
        a, b = self.mess(np.abs(x) - 60, y, z), self.mess2(np.abs(x) - 60, y, z * np.float32(0.6))
        v = np.float32(0.8) * a + np.float32(0.5) * b
        value: Array = np.float32(0.75) + np.float32(0.3) * np.abs(b)
        over(value, _step(v - np.float32(0.6), 0.2), np.float32(self.fat * 0.85))
        over(value, _step(-v - np.float32(0.5), 0.15), 0.16)
        nose = inside(np.abs(x) - np.float32(15), 5.0) * inside(y + np.float32(35), 8.0)
        over(value, nose * _step(b, 0.3), 0.06)
        over(value, nose * _step(-b - np.float32(0.2), 0.2) * np.float32(0.8), self.vessel)
        return value, self.mess2(x, y, z)

    def _eyes(self, signal: Array, grid: Grid, scalp: Array) -> None:
        front = self.radii[1]
        for side in (-1, 1):
            cx, cy, cz = side * 32.0, -front + 24.0, self.eye_z
            where, (x, y, z) = grid.box(np.array([cx - 26, cy - 20, cz - 22]), np.array([cx + 26, cy + 48, cz + 22]))
            if 0 in signal[where].shape:
                continue
            part, p = signal[where], (x, y, z)
            ball = _capsule(p, (cx, cy, cz), (cx + 0.1, cy, cz), 0.0, 0.0)
            within = inside(scalp[where], 1.5)
            apex = (cx - 9.0 * side, cy + 38, cz + 2)
            over(part, inside(_capsule(p, (cx, cy + 6, cz), apex, 15.0, 4.0), 2.0) * within, self.fat)
            over(part, inside(ball - 13, 1.2), 0.75)
            over(part, inside(ball - 11.5, 1.0), 0.36)
            for aside, thick in ((0.0, 1.8), (12.0, 1.6), (-12.0, 1.6)):
                strand = _capsule(p, (cx + aside, cy + 10, cz), apex, thick, thick)
                over(part, inside(strand, 1.0) * inside(12.5 - ball, 1.0) * within, 0.95)

    def _cisterns(self, p: Points) -> Array:
        """Signed distance to the Sylvian fissures and the fluid around the midbrain."""
        x, y, z = p
        side, wave = np.abs(x), self.patches(x, y, z)
        across = np.abs(y + 12 - np.float32(0.5) * z + np.float32(5) * wave) - np.float32(0.7 + self.atrophy)
        sylvian = np.maximum(np.maximum(across, np.float32(28) - side), np.abs(z - 2) - np.float32(15))
        ring = np.sqrt((x / 18) ** 2 + ((y - 13) / 15) ** 2) + np.float32(0.1) * wave
        ambient = np.maximum(np.abs(ring - 1) * 15 - np.float32(self.atrophy) - wave, np.abs(z + 20) - np.float32(8))
        ambient = np.maximum(ambient, np.float32(9) - side + 3 * wave)
        sellar = _capsule(p, (0, -10, -19), (0, -4, -20), 5.5, 6.5)
        distance: Array = np.minimum(np.minimum(sylvian, ambient), sellar).astype(np.float32)
        return distance

    def _nuclei(self, p: Points) -> Array:
        """Share of deep grey matter: thalamus, putamen, head of the caudate."""
        q = (np.abs(p[0]), p[1], p[2])
        parts = [
            _capsule(q, (9, 2, 4), (13, 18, 6), 6.0, 6.5),
            _capsule(q, (24, -18, 2), (28, 6, 3), 5.0, 4.0),
            _capsule(q, (14, -26, 8), (16, -14, 14), 4.0, 3.5),
        ]
        return inside(np.minimum.reduce(parts), 3.0)

    def _sinuses(self, signal: Array, brain: Array, p: Points) -> None:
        """Superior sagittal, straight and transverse sinuses, the deep veins and the arteries at the base."""
        x, y, z = p
        size = np.float32(self.sinus_mm)
        left_side, right = self.sides
        wall = brain + np.float32(1.0)
        behind = np.clip((y + 40) / 50 + np.maximum(z - 30, 0) / 25, 0.25, 1.2).astype(np.float32)
        high = (z > -18).astype(np.float32)
        sagittal: Array = np.sqrt((x * np.float32(0.9)) ** 2 + wall**2) - size * behind
        over(signal, inside(sagittal, 1.2) * high, self.vessel)
        transverse = np.sqrt(((z + 24) * np.float32(0.8)) ** 2 + wall**2) - size
        over(
            signal,
            inside(transverse, 1.5)
            * np.clip((y - 28) / 10, 0, 1)
            * np.where(x > 0, left_side, right).astype(np.float32),
            self.vessel,
        )
        straight = np.minimum(
            _capsule(p, (0, 34, 6), (0, 78, -20), 1.4, 2.0), _capsule(p, (2.5, 5, 12), (0, 34, 6), 0.6, 1.3)
        )
        q = (np.abs(x), y, z)
        arteries = np.minimum(
            _capsule(q, (4, -16, -26), (34, -8, -9), 1.2, 0.7), _capsule(q, (0, -4, -45), (1, -4, -26), 1.5, 1.3)
        )
        cavernous = _capsule(q, (9, -10, -30), (11, -2, -35), 2.6, 2.6)
        over(signal, inside(np.minimum(straight, arteries), 1.0) * inside(brain - 3, 1.0), self.vessel)
        over(signal, inside(cavernous, 2.0), np.float32(0.85 * self.vessel))
