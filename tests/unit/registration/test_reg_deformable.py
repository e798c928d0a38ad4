"""The free-form deformation: its splines are ITK's, its Jacobian is right, and it finds a smooth warp."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_medseq import geometry
from napari_medseq.registration import Spline, Transform, register
from napari_medseq.registration.deformable import ControlGrid, _Task, jacobian
from napari_medseq.registration.linear import Pair, prepared
from napari_medseq.registration.measure import Bending
from napari_medseq.registration.optimise import Watch
from napari_medseq.registration.trust import assess_quality
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from tests.unit.registration.phantom import SHAPE, halved, phantom


@pytest.fixture(scope="module")
def pair() -> Pair:
    image = phantom()
    return prepared(image.replace(data=image.data * 1.2 + 3), image)


@pytest.fixture(scope="module")
def grid(pair: Pair) -> ControlGrid:
    return ControlGrid.over(pair.levels[1], 6)


def smooth(grid: ControlGrid, mm: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(3, *grid.size[::-1]))
    values = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5))
    return np.asarray((values / values.std() * mm).ravel())


def test_the_sparse_weights_are_itks_spline(pair: Pair, grid: ControlGrid) -> None:
    values = np.random.default_rng(1).normal(0, 3, 3 * grid.count)
    points = pair.sampler(1).points[::100]
    itk = Spline(pair.fixed_frame, grid.fixed_parameters, values).itk()
    theirs = np.array([itk.TransformPoint(p) for p in points.tolist()])
    ours = points + grid.weights(points) @ values.reshape(3, -1).T
    assert np.abs(ours - theirs).max() < 1e-10
    outside = points + 10_000
    assert not (grid.weights(outside) @ values.reshape(3, -1).T).any()


def test_the_gradient_is_that_of_the_value(pair: Pair, grid: ControlGrid) -> None:
    task = _Task(pair.levels[0], grid, np.eye(4), 0, Watch(1000, ""))
    at = smooth(grid, 0.6)
    _, gradient = task(at)
    for seed in (1, 2):
        way = smooth(grid, 1.0, seed)
        measured = (task(at + 0.01 * way)[0] - task(at - 0.01 * way)[0]) / 0.02
        # the interpolated image has kinks at voxels, so the two agree only nearly
        assert gradient @ way == pytest.approx(measured, rel=0.15, abs=1e-4)


def test_the_jacobian_of_a_stretch_is_its_volume_change(pair: Pair, grid: ControlGrid) -> None:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size[::-1]], indexing="ij"), axis=-1).reshape(-1, 3)
    places = geometry.apply_points(np.asarray(np.linalg.inv(grid.to_index), np.float64), index[:, ::-1])
    values = (places * (0.1, -0.2, 0.05)).T.ravel()  # a spline reproduces straight lines exactly
    local = jacobian(grid, values, pair.levels[0])
    assert local[2:-2, 2:-2, 2:-2] == pytest.approx(1.1 * 0.8 * 1.05, abs=1e-6)
    folded = jacobian(grid, (places * (-1.5, 0, 0)).T.ravel(), pair.levels[0])
    assert (folded[2:-2, 2:-2, 2:-2] < 0).all()


def test_a_smooth_warp_is_found(pair: Pair, grid: ControlGrid) -> None:
    fixed = halved(phantom())
    warp = Transform(
        "deformable",
        np.eye(4),
        fixed.affine,
        fixed.grid,
        Spline(pair.fixed_frame, grid.fixed_parameters, smooth(grid, 4)),
    )
    seen = warp.apply(fixed)
    noise = np.random.default_rng(5).normal(0, 2, fixed.data.shape)
    moving = seen.replace(data=(seen.data * 1.3 + noise).astype(np.float32), name="moving")
    points = geometry.apply_points(fixed.affine, np.argwhere(foreground(fixed.data))[::37, ::-1])
    real = warp.to_fixed(points)

    def error(found: Transform) -> float:
        return float(np.linalg.norm(found.to_moving(points) - real, axis=1).mean())

    affine, bent = (register(moving, fixed, kind=k) for k in ("affine", "deformable"))
    assert error(bent) < 0.88 * error(affine)
    assert bent.quality.mi_after > affine.quality.mi_after
    assert bent.quality.folded == 0
    assert bent.quality.jacobian_min is not None
    assert 0.3 < bent.quality.jacobian_min < 1
    inner = foreground(fixed.data)

    def alike(found: Transform) -> float:
        return float(np.corrcoef(found.apply(moving).data[inner], fixed.data[inner])[0, 1])

    assert alike(bent) > alike(affine)


def test_a_2d_warp_stays_in_the_plane_and_repeats() -> None:
    volume = phantom(noise=1)
    flat = volume.like(volume.data[SHAPE[0] // 2], axes=("y", "x"), name="slice")
    y, x = np.indices(flat.data.shape)
    wave = [y + 2.5 * np.sin(2 * np.pi * x / x.max()), x + 2.5 * np.sin(2 * np.pi * y / y.max())]
    bent = ndimage.map_coordinates(np.asarray(flat.data), wave, order=1, mode="nearest")
    moved = ImageSequence(bent, ("y", "x"), flat.affine, name="moving")
    found, again = (register(moved, flat, kind="deformable") for _ in range(2))
    assert found.spline is not None
    assert again.spline is not None
    assert np.array_equal(found.spline.parameters, again.spline.parameters)
    assert not found.spline.parameters.reshape(3, -1)[2].any()
    assert found.apply(moved).axes == ("y", "x")
    assert found.linear[2, 3] == pytest.approx(0, abs=1e-9)


def test_a_deformation_is_judged_as_bent_and_not_by_its_affine_part() -> None:
    fixed = phantom()
    pair = prepared(fixed, fixed)
    compare = pair.sampler(1)
    here = pair.framed(np.eye(4))
    off = here.copy()
    off[:3, 3] += 8
    straight = assess_quality(pair, compare, off, error_mm=0.0, kind="deformable")
    true = compare.at(here)
    bent = assess_quality(pair, compare, off, error_mm=0.0, kind="deformable", bending=Bending(true.mi, true.nmi))
    assert any("fell" in doubt for doubt in straight.doubts)
    assert not any("fell" in doubt for doubt in bent.doubts)
