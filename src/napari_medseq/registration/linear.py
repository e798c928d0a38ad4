"""The search for the translation, rotation or affine map between two images, from coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import RegistrationError
from napari_medseq.geometry import Affine, Volume
from napari_medseq.registration.measure import Agreement, Sampler, near
from napari_medseq.registration.optimise import Level, Linear, Watch, optimise, shrinking, shrunk
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.grid import resample_volume

#: number of optimiser steps of the whole search, for progress
ROUNDS = 700
#: number of voxels along the longest side at the three resolutions
_PARTS = (32, 64, 128)
#: number of voxels below which a joint histogram of 32×32 bins is not possible
_MIN_MASK, _MIN_ZONE = 100, 50
_NUMBER = 4  # bytes of a float32
#: bytes per voxel of the finest images: themselves, the coarser ones, masks, and the copies that ITK works on
_OF_LEVELS = 40
#: percentiles between which intensities count, because bright vessels or an implant would leave most bins empty
_OUTLIERS = (0.1, 99.8)
#: share of the body inside the moving image above which an agreement counts in full, and below which it does not count
_FULLY_COVERED, _HARDLY_COVERED = 0.9, 0.1
#: starts are rotated by 20° about each axis, so that rotations of 30° and more are within reach of the descent
_TURN = 0.35
#: by how much normalised mutual information of a later start must be better to replace an earlier one
_TIE = 1e-3
#: a descent that ends below this share of its initial agreement diverged, and is discarded
_RAN_AWAY = 0.9
#: shift of the starts of a repetition, in voxels of the middle resolution: within the capture range of any correct result
_NUDGE = 1.5
#: the least error that is reported, as a share of the finest voxel
_LEAST_ERROR = 0.1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One descent: its first and last step in voxels of the level, and its numbers of iterations and samples."""

    step: float = 0.5
    min_step: float = 0.004
    iterations: int
    samples: int


#: the descents, with the lengths that the heads of ``benchmarks/registration.py`` need
_COARSE = Stage(step=1.0, min_step=0.02, iterations=60, samples=8_000)
_MIDDLE = Stage(iterations=120, samples=12_000)
_AFFINE = Stage(iterations=150, samples=20_000)
_FINE = Stage(iterations=150, samples=30_000)
_REPEAT = Stage(iterations=80, samples=12_000)


@dataclass(frozen=True)
class Pair:
    """Two images ready to be registered: voxels in memory, in a common frame, at three resolutions.

    Attributes
    ----------
    levels : tuple of Level
        Coarse, middle, fine.
    fixed_frame, moving_frame : ndarray, shape (4, 4)
        RAS+ mm → frame. Volumes share LPS+; 2D images each have their own plane as x and y.
    """

    levels: tuple[Level, Level, Level]
    fixed_frame: Affine
    moving_frame: Affine

    @property
    def flat(self) -> bool:
        """Whether the images are 2D."""
        return self.levels[0].flat

    def world(self, matrix: Affine) -> Affine:
        """A matrix of the frame as a matrix of RAS+ mm."""
        return np.asarray(np.linalg.inv(self.moving_frame) @ matrix @ self.fixed_frame)

    def framed(self, world: Affine) -> Affine:
        """A matrix of RAS+ mm as a matrix of the frame."""
        return np.asarray(self.moving_frame @ world @ np.linalg.inv(self.fixed_frame))

    def sampler(self, level: int, *, limit: int = 20_000, seed: int = 0) -> Sampler:
        """Compares the two images at a level."""
        at = self.levels[level]
        return Sampler(at.fixed, at.fixed_affine, at.moving, at.moving_affine, mask=at.zone, limit=limit, seed=seed)


def prepared(moving: ImageSequence, fixed: ImageSequence, mask: ImageSequence | None = None) -> Pair:
    """Load two images into memory, at three resolutions.

    Raises
    ------
    RegistrationError
        If one is 2D and the other a volume, one is constant or has no finite voxel, or the mask is empty.
    MedseqError
        If an image has an axis ``t``.
    """
    flat = _is_flat(fixed)
    if flat != _is_flat(moving):
        raise RegistrationError(
            f"{fixed.name} is {'one slice' if flat else 'a volume'} and {moving.name} is not; "
            "register images of the same kind, or choose the matching slice first."
        )
    fixed_frame = _plane(fixed.affine) if flat else geometry.RAS_LPS
    moving_frame = _plane(moving.affine) if flat else geometry.RAS_LPS
    fa, ma = np.asarray(fixed_frame @ fixed.affine), np.asarray(moving_frame @ moving.affine)
    chosen: NDArray[np.bool_] | None = None
    if mask is not None:
        grid = fixed.grid
        chosen = resample_volume(
            (np.asarray(_values(mask), dtype=np.float32) > 0).astype(np.uint8),
            mask.affine,
            fixed.affine,
            grid,
            interpolation="nearest",
        ).astype(bool)
        if np.count_nonzero(chosen) < _MIN_MASK:
            raise RegistrationError(
                f"The mask {mask.name} marks fewer than {_MIN_MASK} voxels of {fixed.name}; nothing to compare."
            )
    spacings = _spacings(fixed)
    # one whole volume is in memory at a time; only the shrunken ones stay
    fixed_levels, moving_levels = _levels(fixed, fa, spacings), _levels(moving, ma, spacings)
    levels = []
    for spacing, (fv, fav), (mv, mav) in zip(spacings, fixed_levels, moving_levels, strict=True):
        zone = near(foreground(fv)) if chosen is None else shrunk(chosen.astype(np.float32), fa, spacing)[0] > 0.5
        if np.count_nonzero(zone) < _MIN_ZONE:
            zone = np.ones(fv.shape, bool)
        levels.append(Level(fv, fav, mv, mav, zone, spacing))
    return Pair((levels[0], levels[1], levels[2]), fixed_frame, moving_frame)


def prepared_bytes(*images: ImageSequence) -> int:
    """Bytes that `prepared`, and the search after it, need at their peak in addition to the images themselves, from the
    images' sizes.

    For one image at a time this counts the lazily read voxels, the float32 voxels, and a copy of these, sorted for
    percentiles or cut to whole blocks. For large images the shrunken images, their masks and ITK's copies are small
    compared with that. For two int16 images of 512×512×600 voxels it gives 1.60 GB; `register` took 1.42 GB (highest
    resident memory minus that before).
    """
    most = max(math.prod(i.grid) * (int(i.data.dtype.itemsize) + 2 * _NUMBER) for i in images)
    spacing = _spacings(images[0])[-1]
    fine = [
        math.prod(n // f for n, f in zip(i.grid, shrinking(i.affine, i.grid, spacing), strict=True)) for i in images
    ]
    both = sum(sorted(fine)[-2:])
    return max(most + 2 * _NUMBER * both, _OF_LEVELS * both)


def _spacings(fixed: ImageSequence) -> list[float]:
    """Millimetres per voxel at each resolution."""
    flat, own = _is_flat(fixed), geometry.spacing(fixed.affine)
    sizes = (np.array(fixed.grid) * own)[: 2 if flat else 3]
    finest = float(min(own[: 2 if flat else 3]))
    return [max(float(max(sizes)) / parts, finest) for parts in _PARTS]


def _is_flat(image: ImageSequence) -> bool:
    return image.grid[2] == 1


def _levels(
    image: ImageSequence, affine: Affine, spacings: Sequence[float]
) -> list[tuple[NDArray[np.float32], Affine]]:
    """An image at each spacing."""
    volume = _volume(image)
    return [(np.array(v), a) for v, a in (shrunk(volume, affine, s) for s in spacings)]


def _values(seq: ImageSequence) -> Volume:
    if "c" in seq.axes:
        seq = seq.like(np.asarray(seq.data)[..., :3].mean(axis=-1), axes=tuple(a for a in seq.axes if a != "c"))
    return seq.volume_zyx()


def _volume(seq: ImageSequence) -> NDArray[np.float32]:
    """Finite float32 voxels without the outliers that would leave a histogram's bins empty."""
    volume = np.array(_values(seq), dtype=np.float32)
    finite = np.isfinite(volume)
    if not finite.any():
        raise RegistrationError(f"{seq.name} has no finite voxel; it cannot be registered.")
    values = volume if finite.all() else volume[finite]
    low, high = (float(v) for v in np.percentile(values, _OUTLIERS))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        raise RegistrationError(f"{seq.name} has the same value ({low:g}) everywhere; there is nothing to align.")
    volume[~finite] = low
    return np.clip(volume, low, high, out=volume)


def _plane(affine: Affine) -> Affine:
    """RAS+ mm → millimetres along a 2D image's own x and y, the image at z = 0."""
    unit = np.array(affine)
    unit[:3, :3] /= geometry.spacing(affine)
    return np.asarray(np.linalg.inv(unit))


def search(pair: Pair, kind: Linear, *, seed: int, watch: Watch) -> tuple[Affine, float]:
    """Find the best map from coarse to fine, and the distance to the results of other samples and starts.

    Returns
    -------
    matrix : ndarray, shape (4, 4)
        Fixed → moving, in the pair's frame.
    error_mm : float
    """
    coarse, middle, fine = pair.levels
    compare = pair.sampler(0, limit=_COARSE.samples, seed=seed)

    def descend(level: Level, start: Affine, how: Linear, stage: Stage, salt: int) -> Affine:
        return optimise(
            level,
            start,
            kind=how,
            centre=compare.centre,
            step=stage.step * level.spacing,
            smallest=stage.min_step * level.spacing,
            iterations=stage.iterations,
            samples=stage.samples,
            seed=seed + salt,
            watch=watch,
        )

    def refined(level: Level, start: Affine, how: Linear, stage: Stage, salt: int) -> Affine:
        end = descend(level, start, how, stage, salt)
        return end if _score(compare.at(end)) > _RAN_AWAY * _score(compare.at(start)) else start

    first: Linear = "translation" if kind == "translation" else "rigid"
    best, score = np.eye(4), -1.0
    for start in starts(pair, compare, turn=kind != "translation"):
        candidate = descend(coarse, start, first, _COARSE, 0)
        value = _score(compare.at(candidate))
        if value > score + _TIE:  # the first start is the images' own position
            best, score = candidate, value
    watch.advance_to(0.3)
    candidate = refined(middle, best, first, _MIDDLE, 1)
    if kind == "affine":
        candidate = refined(middle, candidate, "affine", _AFFINE, 1)
    watch.advance_to(0.5)
    result = refined(fine, candidate, kind, _FINE, 2)
    watch.advance_to(0.8)
    others = []
    reach = _NUDGE * middle.spacing
    for salt, sign in ((3, 1.0), (4, -1.0)):
        moved = _nudged(result, compare, sign * reach, flat=pair.flat, turn=kind != "translation")
        others.append(compare.apart(refined(middle, moved, kind, _REPEAT, salt), result))
    finest = float(min(geometry.spacing(fine.fixed_affine)[: 2 if pair.flat else 3]))
    watch.advance_to(1.0)
    return result, max(_LEAST_ERROR * finest, *others)


def starts(pair: Pair, compare: Sampler, *, turn: bool) -> list[Affine]:
    """The starting positions: the images' own, and the two most promising ones with centres together and rotated."""
    own = pair.framed(np.eye(4))
    if pair.flat:  # planes that differ in space cannot be compared in place
        tilted = np.abs(own[2, :3] - (0, 0, 1)).max() > 1e-3 or abs(own[2, 3]) > 1e-3 or np.abs(own[:2, 2]).max() > 1e-3
        own = np.eye(4) if tilted else own
    bodies = _onto(compare.centre, compare.moving_centre)
    middles = _onto(_middle(pair.levels[0], fixed=True), _middle(pair.levels[0], fixed=False))
    options = [own, bodies, middles]
    if turn:
        ranked = sorted(options, key=lambda m: -_score(compare.at(m)))
        angles = (-_TURN, 0.0, _TURN)
        for a, b, c in product((0.0,) if pair.flat else angles, (0.0,) if pair.flat else angles, angles):
            if (a, b, c) != (0.0, 0.0, 0.0):
                options.append(np.asarray(ranked[0] @ _turned(compare.centre, a, b, c)))
    scores = [_score(compare.at(m)) for m in options]
    order = sorted(range(1, len(options)), key=lambda k: -scores[k])
    chosen = [options[0]] if scores[0] > 0 else []
    chosen += [options[k] for k in order if scores[k] > 0][:2]
    if not chosen:
        raise RegistrationError(
            "The two images have nothing in common at any starting position (bodies do not overlap even with their centres "
            "brought together); check that they show the same part of the same patient."
        )
    return chosen


def _score(agreement: Agreement) -> float:
    """Normalised mutual information, weighted down where the images hardly overlap."""
    return (
        (agreement.nmi - 1.0) * min(1.0, agreement.covered / _FULLY_COVERED)
        if agreement.covered > _HARDLY_COVERED
        else 0.0
    )


def _onto(fixed: NDArray[np.float64], moving: NDArray[np.float64]) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = moving - fixed
    return matrix


def _middle(level: Level, *, fixed: bool) -> NDArray[np.float64]:
    volume, affine = (level.fixed, level.fixed_affine) if fixed else (level.moving, level.moving_affine)
    middle = (np.array(volume.shape[::-1], dtype=float) - 1) / 2
    return np.asarray(geometry.apply_points(affine, middle[None])[0])


def _turned(centre: NDArray[np.float64], a: float, b: float, c: float) -> Affine:
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (a, b, c)).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix


def _nudged(matrix: Affine, compare: Sampler, reach: float, *, flat: bool, turn: bool) -> Affine:
    """A start moved by `reach` mm along each axis, and rotated so far that the rim of the body moves by the same
    distance."""
    shift = np.eye(4)
    shift[:3, 3] = (reach, -reach, 0.0 if flat else reach)
    angle = reach / max(compare.extent / 2, 1e-6) if turn else 0.0
    tilt = 0.0 if flat else angle / 2
    return np.asarray(matrix @ shift @ _turned(compare.centre, tilt, -tilt, angle))
