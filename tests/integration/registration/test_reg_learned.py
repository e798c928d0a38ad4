"""The recurrent registration network: its warp, its answer as a transform, and that training without labels helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.errors import RegistrationError
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
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.learned_registration import (
    LearnedRegistrationSettings,
    _spline,
    register_learned,
    train_registration,
)

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
    torch.nn.init.normal_(network.step.weight, std=0.1)  # type: ignore[union-attr,arg-type]
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
    transform = Transform("deformable", np.eye(4), affine, GRID, _spline(field, affine))
    at = np.array([[4, 6, 8], [10, 12, 6], [17, 5, 11]])
    start = at @ affine[:3, :3].T + affine[:3, 3]
    wanted = (at + np.array([field[:, k, j, i] for i, j, k in at])) @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(transform.to_moving(start), wanted, atol=0.1)


def test_training_without_labels_finds_the_shift() -> None:
    pairs = [(blobs(k), blobs(k, s)) for k, s in enumerate([(0, 1.5, 2), (1, -2, 0), (0, 2, -1.5), (-1, 0, 2)])]
    settings = LearnedRegistrationSettings(grid=GRID, channels=6, hidden=8, steps=3, iterations=60, learning_rate=5e-3)
    seen: list[int] = []
    network = train_registration(pairs, settings, progress=lambda d, _t, _m: seen.append(d))
    assert isinstance(network, RecurrentRegistration)
    assert seen[-1] == 60
    fixed, moving = pairs[0]
    found = register_learned(network, moving, fixed, grid=GRID)
    assert found.quality.correlation_after > found.quality.nmi_before - 1 + 0.1
    assert found.quality.folded == 0
    middle = fixed.affine @ [12, 12, 8, 1]
    true = fixed.affine @ [14, 13.5, 8, 1]
    assert np.linalg.norm(found.to_moving(middle[None, :3])[0] - true[:3]) < 0.5 * np.linalg.norm(true - middle)


def test_what_cannot_be_learned_or_registered_is_refused() -> None:
    with pytest.raises(ms.MedseqError, match="no pair"):
        train_registration([])
    network = RecurrentRegistration(2, 4, 1)
    torch.nn.init.constant_(network.step.bias, 0.0)
    torch.nn.init.normal_(network.step.weight, std=30.0)
    with pytest.raises(RegistrationError, match="could not be deformed"):
        register_learned(network, blobs(1), blobs(2), grid=GRID)
