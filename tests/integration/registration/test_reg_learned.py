"""The recurrent registration network: its warp, its answer as a transform, and that training without labels helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

import napari_medseq as ms
from napari_medseq.errors import ModelError, RegistrationError, SettingsError
from napari_medseq.models.networks import build
from napari_medseq.models.recurrent_registration import (
    RecurrentRegistration,
    jacobian,
    local_step,
    locally_normal,
    warp,
    widened,
)
from napari_medseq.registration import Transform
from napari_medseq.registration.learned import as_spline, network_of, on_grid
from napari_medseq.registration.transform import Spline
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.learned_registration import (
    LearnedRegistrationSettings,
    dissimilarity,
    train_registration,
    write_registration,
)
from tests.narrowing import of

GRID = (24, 24, 16)


def blobs(seed: int, shift: tuple[float, float, float] = (0, 0, 0)) -> ImageSequence:
    """A smooth random volume, seen where `shift` (z, y, x voxels) moved it."""
    data = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(16, 24, 24)), 2.0)
    data = ndimage.shift(data, shift, order=1, mode="nearest").astype(np.float32)
    return ImageSequence(data, ("z", "y", "x"), affine_from((2.0, 2.0, 3.0)), name=f"blobs {seed}")


def test_warp_shows_what_lies_at_x_plus_displacement() -> None:
    image = torch.rand(1, 1, 6, 7, 8)
    field = torch.zeros(1, 3, 6, 7, 8)
    field[:, 0], field[:, 2] = 2, 1  # two voxels along x, one along z
    torch.testing.assert_close(warp(image, field)[0, 0, :-1, :, :-2], image[0, 0, 1:, :, 2:])


def test_jacobian_of_a_stretch() -> None:
    x = torch.arange(8.0)
    field = torch.zeros(1, 3, 8, 8, 8)
    field[:, 0] = 0.5 * x
    field[:, 1] = -0.25 * x[:, None]
    torch.testing.assert_close(jacobian(field), torch.full((1, 7, 7, 7), 1.5 * 0.75))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_untrained_it_takes_local_steps_and_trained_it_remembers(cell: str) -> None:
    network = build({"_target_": "RecurrentRegistration", "channels": 2, "hidden": 4, "steps": 3, "cell": cell})
    a, b = torch.rand(2, 1, 1, 8, 9, 10)
    assert max(f.abs().max().item() for f in network(a, a)) < 1e-5
    step = local_step(locally_normal(a), locally_normal(b))
    torch.testing.assert_close(network(a, b)[0], widened(step, a.shape[2:]))
    torch.nn.init.normal_(of(Tensor, of(nn.Module, network.step).weight), std=0.1)
    first, second, _ = network(a, b)
    assert first.shape == (1, 3, 8, 9, 10)
    assert not torch.equal(first, second)


def test_the_local_step_is_the_shift_of_a_smooth_image() -> None:
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in (16, 24, 24)], indexing="ij")

    def waves(dx: float, dy: float, dz: float) -> torch.Tensor:
        return (((x - dx) / 3).sin() + ((y - dy) / 4).cos() + ((z - dz) / 3.5).sin())[None, None]

    step = local_step(waves(0, 0, 0), waves(0.5, -0.25, 0.3), damping=1e-4)
    assert step.shape == (1, 3, 4, 6, 6)
    inner = step[0, :, 1:-1, 1:-1, 1:-1].mean((1, 2, 3))
    torch.testing.assert_close(inner, torch.tensor([0.5, -0.25, 0.3]), atol=0.08, rtol=0)


def test_a_coarse_field_lies_in_the_middle_of_its_cells() -> None:
    ramp = (torch.arange(4.0) * 4 + 1.5).expand(1, 1, 3, 4)  # the x of each cell's middle
    wide = widened(ramp, (10, 15))
    assert wide.shape == (1, 1, 10, 15)
    torch.testing.assert_close(wide[0, 0, 5, 2:14], torch.arange(2.0, 14.0))


def test_the_answer_is_kept_as_a_spline() -> None:
    z, y, x = np.meshgrid(*[np.linspace(0, 3, n) for n in GRID[::-1]], indexing="ij")
    field = np.stack([np.sin(x) + 0.2 * z, np.cos(y), 0.5 * np.sin(z + x)])
    affine = affine_from((2.0, 2.0, 3.0))
    grid, values = as_spline(field, affine)
    transform = Transform("deformable", np.eye(4), affine, GRID, Spline(np.eye(4), grid.fixed_parameters, values))
    at = np.array([[4, 6, 8], [10, 12, 6], [17, 5, 11]])
    start = at @ affine[:3, :3].T + affine[:3, 3]
    wanted = (at + np.array([field[:, k, j, i] for i, j, k in at])) @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(transform.to_moving(start), wanted, atol=0.1)


def test_training_without_labels_finds_the_shift_and_its_bundle_registers(tmp_path: Path) -> None:
    pairs = [(blobs(k), blobs(k, s)) for k, s in enumerate([(0, 1.5, 2), (1, -2, 0), (0, 2, -1.5), (-1, 0, 2)])]
    settings = LearnedRegistrationSettings(grid=GRID, channels=6, hidden=8, steps=3, iterations=60, learning_rate=5e-3)
    seen: list[int] = []
    network = train_registration(pairs, settings=settings, progress=lambda d, _t, _m: seen.append(d))
    assert isinstance(network, RecurrentRegistration)
    assert seen[-1] == 60
    folder = write_registration(network, tmp_path / "mine", settings=settings, name="mine")
    loaded, grid = network_of(folder)
    assert grid == GRID
    # stored in half precision
    torch.testing.assert_close(loaded.step.weight, network.step.weight, atol=1e-3, rtol=1e-3)
    fixed, moving = (on_grid(s.volume_zyx().astype(np.float32), s.affine, s.affine, GRID) for s in pairs[0])
    field = loaded(fixed, moving)[-1]
    assert dissimilarity(fixed, warp(moving, field)) < 0.7 * dissimilarity(fixed, moving)


def body(seed: int, bend: np.ndarray | None = None) -> ImageSequence:
    """An ellipsoid of smooth tissue in air, its points moved by `bend` (3, z, y, x) in voxels."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (24, 40, 40)], indexing="ij")
    tissue = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=z.shape), (1.5, 2.5, 2.5))
    data = np.where(x**2 / 0.6 + y**2 / 0.7 + z**2 / 0.8 < 1, 100 + 25 * tissue / tissue.std(), 0)
    if bend is not None:
        data = ndimage.map_coordinates(data, np.indices(data.shape) + bend, order=1, mode="nearest")
    return ImageSequence(data.astype(np.float32), ("z", "y", "x"), affine_from((3.0, 3.0, 4.0)), name=f"body {seed}")


def test_the_verb_deforms_by_the_network_and_checks_the_result() -> None:
    z, y, x = np.meshgrid(*[np.linspace(0, np.pi, n) for n in (24, 40, 40)], indexing="ij")
    bend = 2.0 * np.stack([0 * x, np.sin(x) * np.sin(y), np.sin(2 * y) * np.sin(z)])  # (z, y, x) voxels
    fixed, moving = body(3, bend), body(3)
    found = ms.register(moving, fixed, kind="deformable", backend="learned")
    straight = ms.register(moving, fixed, kind="affine")
    assert found.spline is not None
    assert found.quality.trustworthy
    at = np.argwhere(fixed.data > 0)[::37]
    points = at[:, ::-1] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    true = (at + bend[:, at[:, 0], at[:, 1], at[:, 2]].T)[:, ::-1] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    errors = [np.linalg.norm(t.to_moving(points) - true, axis=1).mean() for t in (found, straight)]
    assert errors[0] < 0.6 * errors[1]


def test_what_cannot_be_learned_or_registered_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ms.MedseqError, match="no pair"):
        train_registration([])
    fixed, moving = body(1), body(2)
    with pytest.raises(SettingsError, match="not for kind 'rigid'"):
        ms.register(moving, fixed, backend="learned")
    with pytest.raises(SettingsError, match="takes no model"):
        ms.register(moving, fixed, model=tiny_bundle)
    with pytest.raises(ModelError, match="is for segmentation, not for registration"):
        ms.register(moving, fixed, kind="deformable", backend="learned", model=tiny_bundle)
    with pytest.raises(SettingsError, match="limits: min_dice = 2"):
        ms.register(moving, fixed, limits={"min_dice": 2})
    flat = ImageSequence(fixed.data[12], ("y", "x"), fixed.affine, name="slice")
    with pytest.raises(RegistrationError, match="is for volumes"):
        ms.register(flat, flat.replace(data=np.roll(flat.data, 2, 0)), kind="deformable", backend="learned")
