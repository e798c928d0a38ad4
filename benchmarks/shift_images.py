"""What `shifts.py` does to an image and to its truth: other layouts, intensities, noise and grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medseq import ImageSequence, geometry
from napari_medseq.sequence import SPACE
from napari_medseq.volumes.grid import resample_volume

Floats = NDArray[np.float32]
#: an image and its truth
Pair = tuple[ImageSequence, ImageSequence]


@dataclass(frozen=True)
class Shift:
    """One change of an image.

    Attributes
    ----------
    name : str
    group : str
        Heading in the table.
    change : callable
        Of an image, its truth and a generator of random numbers; the answer is judged on the grid of the new truth.
    scaled : bool
        It changes what a value means, so it is only for models that scale each image by itself.
    mended : bool
        It is also done with the models as they were run before.
    """

    name: str
    group: str
    change: Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]
    scaled: bool = False
    mended: bool = False


# -- layout ----------------------------------------------------------------------------------------------------------
def turned(seq: ImageSequence, turn: geometry.Reorientation) -> ImageSequence:
    """The same voxels at the same places, stored in another order."""
    data = np.ascontiguousarray(turn.apply_zyx(seq.volume_zyx()))
    affine = turn.apply_affine(seq.affine, seq.grid)
    axis = "xyz"[turn.order.index("xyz".index(seq.slice_axis))]
    return seq.replace(data=data, axes=SPACE, affine=affine, slice_axis=axis)


def turns() -> Iterator[geometry.Reorientation]:
    """All 47 orders of the axes and mirrorings but the one that changes nothing."""
    for order in permutations(range(3)):
        for flips in product((False, True), repeat=3):
            turn = geometry.Reorientation((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))
            if turn != geometry.Reorientation():
                yield turn


def with_affine(matrix: NDArray[np.float64]) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """The same voxels, moved in the patient's space by a 4×4 matrix."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        return image.replace(affine=matrix @ image.affine), truth.replace(affine=matrix @ truth.affine)

    return change


def rotation(degrees: float, axis: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation about an axis (Rodrigues), 4×4."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    out = np.eye(4)
    out[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return out


def short_axis(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
    """Slices as a scanner's short-axis stack lies in the patient, as `ms.read` gives it.

    Columns run to the patient's left, back and feet, rows to the feet, and slices from the base at the right and back to the apex at the
    left and front. Files without true orientation begin at the base too.
    """
    columns = np.array([-0.62, -0.74, -0.26])  # RAS+; orthogonal to rows below
    rows = np.array([0.33, 0.05, -0.94])
    rows -= columns * (rows @ columns) / (columns @ columns)
    columns, rows = columns / np.linalg.norm(columns), rows / np.linalg.norm(rows)
    affine = np.eye(4)
    for k, direction in enumerate((columns, rows, np.cross(rows, columns))):
        affine[:3, k] = direction * geometry.spacing(image.affine)[k]
    return tuple(_as_read(s.replace(affine=affine)) for s in (image, truth))  # type: ignore[return-value]


def _as_read(seq: ImageSequence) -> ImageSequence:
    """In the order of axes in which `ms.read` gives it."""
    return turned(seq, geometry.to_codes(seq.affine))


def scaled_spacing(*factors: float) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """The file's spacing (x, y, z) is wrong by these factors."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        wrong = np.diag([*factors, 1.0])
        return image.replace(affine=image.affine @ wrong), truth.replace(affine=truth.affine @ wrong)

    return change


def resampled(in_plane: float, through: float) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """Voxels so many times as large in plane and through it, as a scanner would have averaged them; the truth alike."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        across = "xyz".index(image.slice_axis)
        factors = np.array([through if k == across else in_plane for k in range(3)])
        size = [max(1, round(n / f)) for n, f in zip(image.grid, factors, strict=True)]
        factors = np.array(image.grid) / size
        affine = image.affine.copy()
        affine[:3, :3] = image.affine[:3, :3] * factors
        affine[:3, 3] = image.affine[:3, 3] + image.affine[:3, :3] @ ((factors - 1) / 2)
        grid = (size[0], size[1], size[2])
        values = image.volume_zyx().astype(np.float32)
        new = _clamped(values, image.affine, affine, grid)
        mask = resample_volume(truth.volume_zyx(), truth.affine, affine, grid, interpolation="label")
        return image.replace(data=new, affine=affine), truth.replace(data=mask, affine=affine)

    return change


def thinned(
    share: float, offset: float, *, nearest: bool = False
) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """Slices a share as far apart, which begin a part (`offset`) of a thin slice later: linear interpolations of the image's own slices,
    or the nearest of these; the truth alike."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        across = SPACE.index(image.slice_axis)
        values, mask = (np.moveaxis(s.volume_zyx(), across, 0) for s in (image, truth))
        n = len(values)
        thin = round(n / share)
        at = np.clip((np.arange(thin) + 0.5 + offset) * n / thin - 0.5, 0, n - 1)
        if nearest:
            own = np.floor(at + 0.5).astype(int)
            new, drawn = values[own].astype(np.float32), mask[own]
        else:
            before = np.minimum(at.astype(int), n - 2)
            part = (at - before).reshape(-1, 1, 1).astype(np.float32)
            new = values[before] * (1 - part) + values[before + 1] * part
            drawn = ((mask[before] > 0) * (1 - part) + (mask[before + 1] > 0) * part > 0.5).astype(np.uint8)
        affine, column = image.affine.copy(), "xyz".index(image.slice_axis)
        affine[:3, column] *= n / thin
        affine[:3, 3] += image.affine[:3, column] * ((0.5 + offset) * n / thin - 0.5)
        placed = (np.ascontiguousarray(np.moveaxis(a, 0, across)) for a in (new, drawn))
        image_data, truth_data = placed
        return image.replace(data=image_data, affine=affine), truth.replace(data=truth_data, affine=affine)

    return change


def _clamped(values: Floats, affine: geometry.Affine, target: geometry.Affine, grid: tuple[int, int, int]) -> Floats:
    """Resampled, the outermost voxels going on beyond the border."""
    wide = np.pad(values, 1, mode="edge")
    moved = affine.copy()
    moved[:3, 3] = affine[:3, 3] - affine[:3, :3].sum(1)
    out: Floats = resample_volume(wide, moved, target, grid, antialias=True).astype(np.float32)
    return out


def cropped(margin_mm: float) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """The box of the truth and a margin, in plane; all slices."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        found = ndimage.find_objects((truth.volume_zyx() > 0).astype(np.uint8))[0]
        box = []
        for name, part in zip(SPACE, found, strict=True):
            more = round(margin_mm / image.spacing[name])
            n = image.size(name)
            box.append(
                slice(0, n) if name == image.slice_axis else slice(max(0, part.start - more), min(n, part.stop + more))
            )
        return _part(image, box), _part(truth, box)

    return change


def middle(share: float) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """The image without a share of its rows and columns at one end, so that its middle lies elsewhere."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        box = [
            slice(0, n) if a == image.slice_axis else slice(round(share * n), n)
            for a, n in zip(SPACE, (image.size(a) for a in SPACE), strict=True)
        ]
        return _part(image, box), _part(truth, box)

    return change


def _part(seq: ImageSequence, box: list[slice]) -> ImageSequence:
    affine = seq.affine.copy()
    affine[:3, 3] = seq.affine[:3, 3] + seq.affine[:3, :3] @ np.array([s.start for s in reversed(box)])
    return seq.replace(data=seq.volume_zyx()[tuple(box)], affine=affine)


def padded(
    value: float | None, share: tuple[float, float] = (0.25, 0.25), noise: float = 0.0, slices: int = 0
) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """More rows and columns, a share of the image's before and after it, of one value (None: the image's least) or of air with noise."""

    def change(image: ImageSequence, truth: ImageSequence, random: np.random.Generator) -> Pair:
        values = image.volume_zyx()
        fill = values.min() if value is None else value
        pads = [
            (slices, slices) if a == image.slice_axis else (round(share[0] * n), round(share[1] * n))
            for a, n in zip(SPACE, values.shape, strict=True)
        ]
        kind = np.float32 if not np.isfinite(fill) else np.result_type(values.dtype, np.int16)
        new = np.pad(values.astype(kind), pads, constant_values=fill)
        if noise:
            size = noise * span(values)[1]
            air = np.hypot(*random.normal(0, size, (2, *new.shape))) + fill  # Rayleigh, as the air of a magnitude image
            inside = np.pad(np.ones(values.shape, bool), pads)
            new = np.where(inside, new, air).astype(np.float32)
        affine = image.affine.copy()
        affine[:3, 3] = image.affine[:3, 3] - image.affine[:3, :3] @ np.array([p[0] for p in reversed(pads)])
        mask = np.pad(truth.volume_zyx(), pads)
        return image.replace(data=new, affine=affine), truth.replace(data=mask, affine=affine)

    return change


# -- intensities -----------------------------------------------------------------------------------------------------
def span(values: NDArray[np.generic]) -> tuple[float, float]:
    """The least value, and from there to the 99.5th percentile."""
    low, high = (float(v) for v in np.percentile(values, (0, 99.5)))
    return low, max(high - low, 1e-6)


def of_values(
    change: Callable[[Floats, np.random.Generator], NDArray[np.generic]],
) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """A change of the values alone."""

    def changed(image: ImageSequence, truth: ImageSequence, random: np.random.Generator) -> Pair:
        return image.replace(data=change(image.volume_zyx().astype(np.float32), random)), truth

    return changed


def as_type(dtype: str) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """The same values in another type; whole numbers are moved into it, and floats of a wide range are stepped by its levels."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        values, kind = image.volume_zyx(), np.dtype(dtype)
        if kind.kind in "iu":
            levels = np.iinfo(kind)
            low, high = float(values.min()), float(values.max())
            fits = high - low <= levels.max - levels.min and np.array_equal(values, np.round(values))
            moved = values.astype(np.float64) - low
            if not fits:
                moved *= (float(levels.max) - float(levels.min)) / (high - low)
            values = np.round(moved) + (0 if kind.kind == "u" else float(levels.min))
        return image.replace(data=values.astype(kind)), truth

    return change


def _gamma(power: float) -> Callable[[Floats, np.random.Generator], Floats]:
    def change(values: Floats, _: np.random.Generator) -> Floats:
        low, wide = span(values)
        part = np.clip((values - low) / wide, 0, None)
        return (low + wide * part**power).astype(np.float32)

    return change


def _inverted(values: Floats, _: np.random.Generator) -> Floats:
    low, wide = span(values)
    return (2 * low + wide - np.clip(values, low, low + wide)).astype(np.float32)


def _shaded(values: Floats, random: np.random.Generator) -> Floats:
    """A smooth field between about 0.6 and 1.6, as of a surface coil."""
    coarse = random.normal(0, 1, (3, 3, 3))
    field = ndimage.zoom(coarse, [n / 3 for n in values.shape], order=3, mode="nearest", grid_mode=True)
    field = np.exp(0.5 * field / max(1e-6, float(np.abs(field).max())))
    low = float(values.min())
    return (low + (values - low) * field).astype(np.float32)


def _noisy(share: float, rician: bool) -> Callable[[Floats, np.random.Generator], Floats]:
    def change(values: Floats, random: np.random.Generator) -> Floats:
        low, wide = span(values)
        one = random.normal(0, share * wide, values.shape)
        if not rician:
            return (values + one).astype(np.float32)
        other = random.normal(0, share * wide, values.shape)
        return (low + np.hypot(values - low + one, other)).astype(np.float32)

    return change


def _blurred(pixels: float) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        sigmas = [0.0 if a == image.slice_axis else pixels for a in SPACE]
        values = ndimage.gaussian_filter(image.volume_zyx().astype(np.float32), sigmas)
        return image.replace(data=values), truth

    return change


def _bad_slice(factor: float) -> Callable[[ImageSequence, ImageSequence, np.random.Generator], Pair]:
    """One slice beside the middle one of the truth, as its least value or brighter than the others."""

    def change(image: ImageSequence, truth: ImageSequence, _: np.random.Generator) -> Pair:
        values = image.volume_zyx().astype(np.float32)
        axis = SPACE.index(image.slice_axis)
        there = np.flatnonzero((truth.volume_zyx() > 0).any(tuple(k for k in range(3) if k != axis)))
        at = tuple(int(there[len(there) // 2]) if k == axis else slice(None) for k in range(3))
        low = float(values.min())
        values[at] = low + factor * (values[at] - low)
        return image.replace(data=values), truth

    return change


def _holes(share: float) -> Callable[[Floats, np.random.Generator], Floats]:
    def change(values: Floats, random: np.random.Generator) -> Floats:
        return np.where(random.random(values.shape) < share, np.float32(np.nan), values)

    return change


def _spikes(values: Floats, random: np.random.Generator) -> Floats:
    """Five voxels a hundred times as bright as the brightest."""
    out = values.copy()
    out.flat[random.integers(0, out.size, 5)] = 100 * float(values.max())
    return out


def _cut(values: Floats, _: np.random.Generator) -> Floats:
    return np.minimum(values, np.float32(np.percentile(values, 95)))


def _levels(values: Floats, _: np.random.Generator) -> Floats:
    low, wide = span(values)
    return (low + np.round((values - low) / wide * 15) / 15 * wide).astype(np.float32)


SHIFTS = (
    Shift("float64", "must not matter", as_type("float64")),
    Shift("big-endian float32", "must not matter", as_type(">f4")),
    Shift("uint16", "must not matter", as_type("uint16"), scaled=True),
    Shift("int8", "must not matter", as_type("int8"), scaled=True),
    Shift("values × 0.001", "must not matter", of_values(lambda v, _: v * np.float32(1e-3)), scaled=True),
    Shift("values × 100", "must not matter", of_values(lambda v, _: v * np.float32(100)), scaled=True),
    Shift("values + 1000", "must not matter", of_values(lambda v, _: v + np.float32(1000)), scaled=True),
    Shift("all values negative", "must not matter", of_values(lambda v, _: v - np.float32(2 * np.abs(v).max() + 1)), scaled=True),
    Shift("a border of the least value", "must not matter", padded(None), mended=True),
    Shift("a border of the least value, on two sides", "must not matter", padded(None, (0.0, 0.4)), mended=True),
    Shift("a border of −1024", "must not matter", padded(-1024), mended=True),
    Shift("a border of NaN", "must not matter", padded(float("nan")), mended=True),
    Shift("two empty slices at each end", "must not matter", padded(None, (0.0, 0.0), slices=2), mended=True),
    Shift("oblique by 20°", "grid", with_affine(rotation(20, (1, 1, 0)))),
    Shift("oblique by 40°", "grid", with_affine(rotation(40, (1, 1, 0)))),
    Shift("pixels × 0.5", "grid", resampled(0.5, 1)),
    Shift("pixels × 0.75", "grid", resampled(0.75, 1)),
    Shift("pixels × 1.5", "grid", resampled(1.5, 1)),
    Shift("pixels × 2", "grid", resampled(2, 1)),
    Shift("slices × 0.5", "grid", resampled(1, 0.5)),
    Shift("slices × 1.5", "grid", resampled(1, 1.5)),
    Shift("slices × 2", "grid", resampled(1, 2)),
    Shift("spacing in the file × 2", "grid", scaled_spacing(2, 2, 2)),
    Shift("spacing in the file × 0.5", "grid", scaled_spacing(0.5, 0.5, 0.5)),
    Shift("cropped to 10 mm around the truth", "field of view", cropped(10)),
    Shift("cropped to 25 mm around the truth", "field of view", cropped(25)),
    Shift("a fifth cut off at one side", "field of view", middle(0.2)),
    Shift("noisy air around it", "field of view", padded(None, noise=0.02)),
    Shift("gamma 0.7", "contrast", of_values(_gamma(0.7))),
    Shift("gamma 1.5", "contrast", of_values(_gamma(1.5))),
    Shift("inverted", "contrast", of_values(_inverted)),
    Shift("bias field", "contrast", of_values(_shaded)),
    Shift("cut at the 95th percentile", "contrast", of_values(_cut)),
    Shift("16 grey levels", "contrast", of_values(_levels)),
    Shift("Gaussian noise 5 %", "noise", of_values(_noisy(0.05, False))),
    Shift("Gaussian noise 10 %", "noise", of_values(_noisy(0.10, False))),
    Shift("Rician noise 5 %", "noise", of_values(_noisy(0.05, True))),
    Shift("Rician noise 10 %", "noise", of_values(_noisy(0.10, True))),
    Shift("blur of 1 pixel", "noise", _blurred(1.0)),
    Shift("an empty slice", "noise", _bad_slice(0.0)),
    Shift("a slice twice as bright", "noise", _bad_slice(2.0)),
    Shift("1 % of voxels NaN", "noise", of_values(_holes(0.01))),
    Shift("five voxels 100 times too bright", "noise", of_values(_spikes)),
)  # fmt: skip
#: for models of one slice distance, on all their patients; several phases, since a linear interpolation at an even one is easy to undo
THIN = tuple(
    Shift(name, "slice distance", change, mended=True)
    for name, change in (
        ("thin slices × 0.5", resampled(1, 0.5)),
        ("thin slices × 0.5, half of one off", thinned(0.5, 0.5)),
        ("thin slices × 0.5, half of one off, nearest", thinned(0.5, 0.5, nearest=True)),
        ("thin slices × 0.31, 0.4 of one off", thinned(0.31, 0.4)),
        ("thin slices × 0.15, 0.3 of one off", thinned(0.154, 0.3)),
    )
)
#: for hearts alone
SHORT_AXIS = Shift("lying as a scanner's short-axis stack", "grid", short_axis, mended=True)
