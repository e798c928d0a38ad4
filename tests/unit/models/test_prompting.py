"""What plain methods know of painted steps: distances and interpolated shapes, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_medseq.masks.interpolation import nearest_annotated, signed_distance, squared_distance
from napari_medseq.models.prompting import CHANNELS, HORIZON, PromptedSequence, annotated_distance, smoothed


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(2, 20), st.floats(0.05, 0.95))
def test_distance_is_that_of_scipy(seed: int, height: int, width: int, share: float) -> None:
    inside = np.random.default_rng(seed).random((2, height, width)) < share
    inside[:, 0, 0] = True
    expected = np.stack([ndimage.distance_transform_edt(~i) ** 2 for i in inside])
    assert squared_distance(torch.from_numpy(inside)).numpy() == pytest.approx(expected, abs=1e-3)


def test_signed_distance_is_zero_on_the_outline() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 2:7, 2:7] = True
    row = signed_distance(mask)[0, 4]
    assert row.tolist() == pytest.approx([-1.5, -0.5, 0.5, 1.5, 2.5, 1.5, 0.5, -0.5, -1.5])


def test_nearest_annotated_steps() -> None:
    before, after = nearest_annotated(torch.tensor([[False, True, False, True, False]]))
    assert before.tolist() == [[-1, 1, 1, 3, 3]]
    assert after.tolist() == [[1, 1, 3, 3, -1]]


def squares(halves: dict[int, int], steps: int = 9, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Painted squares of half sides (0: painted empty) at some steps, (1, step, y, x), and the flags."""
    mask, annotated = torch.zeros(1, steps, size, size, dtype=torch.bool), torch.zeros(1, steps, dtype=torch.bool)
    middle = size // 2
    for step, half in halves.items():
        annotated[0, step] = True
        mask[0, step, middle - half : middle + half, middle - half : middle + half] = True
    return mask, annotated


def sequence(halves: dict[int, int]) -> PromptedSequence:
    mask, annotated = squares(halves)
    image = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0)) + 3 * mask
    return PromptedSequence.of(image, mask, annotated, torch.tensor([1.0]))


def test_the_interpolated_shape_is_halfway_in_the_middle() -> None:
    shape = sequence({2: 4, 6: 8}).prior()[0] > 0
    assert [int(s.any(0).sum()) for s in shape[2:7]] == pytest.approx([8, 10, 12, 14, 16], abs=1)
    assert torch.equal(shape[0], shape[2])  # copied beyond the ends
    assert torch.equal(shape[8], shape[6])


def test_an_empty_step_ends_the_shape_halfway() -> None:
    shape = sequence({2: 6, 6: 0}).prior()[0] > 0
    areas = [int(s.sum()) for s in shape]
    assert areas[2] == 144
    assert 0 < areas[3] < areas[2]
    assert areas[5:] == [0, 0, 0, 0]


def test_what_is_not_annotated_is_not_looked_at() -> None:
    mask, annotated = squares({3: 5})
    image = torch.rand(mask.shape)
    more = mask.clone()
    more[0, 7] = True
    a, b = (PromptedSequence.of(image, m, annotated, torch.zeros(1)).channels() for m in (mask, more))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_channels_of_stretches_are_those_of_the_whole(chunk: int) -> None:
    whole = sequence({2: 4, 6: 8})
    x, prior = whole.channels()
    assert x.shape == (1, 9, CHANNELS, 32, 32)
    parts = [whole.channels(i, i + chunk) for i in range(0, 9, chunk)]
    assert torch.equal(torch.cat([p[0] for p in parts], 1), x)
    assert torch.equal(torch.cat([p[1] for p in parts], 1), prior)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 1000), st.floats(-1000, 1000))
def test_units_of_the_image_do_not_matter(gain: float, offset: float) -> None:
    mask, annotated = squares({3: 5})
    image = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a = PromptedSequence.of(image, mask, annotated, torch.zeros(1)).image
    b = PromptedSequence.of(image * gain + offset, mask, annotated, torch.zeros(1)).image
    assert torch.allclose(a, b, atol=1e-6)


def test_a_shape_that_moves_keeps_its_size() -> None:
    mask, annotated = torch.zeros(1, 7, 40, 40, dtype=torch.bool), torch.zeros(1, 7, dtype=torch.bool)
    annotated[0, [0, 6]] = True
    mask[0, 0, 4:12, 4:12] = mask[0, 6, 22:30, 28:36] = True
    image = torch.zeros(mask.shape)
    image[0, 0, 4:12, 4:12], image[0, 6, 22:30, 28:36] = 1.0, 2.0
    x, prior = PromptedSequence.of(image, mask, annotated, torch.zeros(1)).channels()
    for step in range(7):
        shape = prior[0, step] > 0
        expected = torch.zeros(40, 40, dtype=torch.bool)
        y, x0 = 4 + 3 * step, 4 + 4 * step
        expected[y : y + 8, x0 : x0 + 8] = True
        assert torch.equal(shape, expected)
        inner = (slice(y + 1, y + 7), slice(x0 + 1, x0 + 7))
        for channel, painted in (
            ((7, 0), (8, 6)) if step not in (0, 6) else ()
        ):  # what the painted steps look like moves along
            assert float(x[0, step, channel][inner].std()) < 1e-4
            assert float(x[0, step, channel][inner].mean()) == pytest.approx(
                float(x[0, painted, 0][mask[0, painted]].mean()), abs=1e-4
            )


def test_a_step_that_is_painted_empty_does_not_say_what_is_around_the_object() -> None:
    one, two = squares({3: 5}), squares({3: 5, 7: 0})
    image = torch.rand(one[0].shape, generator=torch.Generator().manual_seed(0))
    image[:, 7] = 50.0
    image[:, 7, 0, 0] = 0.0
    a, b = (PromptedSequence.of(image, *m, torch.zeros(1)) for m in (one, two))
    assert torch.equal(a.ratios, b.ratios)


def test_intensities_of_the_object_are_told_from_those_around_it() -> None:
    mask, annotated = squares({4: 6})
    image = torch.where(mask[:, 4:5].expand(mask.shape), 5.0, 1.0)
    image = image + 0.2 * torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))
    x, _ = PromptedSequence.of(image, mask, annotated, torch.zeros(1)).channels()
    ratio = x[0, 0, 5]
    inside = mask[0, 4]
    assert float(ratio[inside].mean()) > 0.5
    assert float(ratio[~inside].mean()) < -0.5


@pytest.mark.parametrize("gain", [1e-9, 1e12])
def test_diffusion_in_square_metres_per_second_is_seen_as_in_square_millimetres(gain: float) -> None:
    mask, annotated = squares({3: 5})
    image = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1))
    a, b = (PromptedSequence.of(image * g, mask, annotated, torch.zeros(1)).image for g in (1, gain))
    assert torch.allclose(a, b, atol=1e-5)


def test_a_constant_image_gives_numbers() -> None:
    mask, annotated = squares({4: 6})
    x, prior = PromptedSequence.of(torch.full(mask.shape, 7.0), mask, annotated, torch.zeros(1)).channels()
    assert torch.isfinite(x).all()
    assert torch.isfinite(prior).all()


def test_smoothing_keeps_the_mean_of_a_plane() -> None:
    image = torch.rand(1, 2, 8, 8)
    image[..., 0, :] = image[..., -1, :] = image[..., :, 0] = image[..., :, -1] = 0.5
    image[..., 1, :] = image[..., -2, :] = image[..., :, 1] = image[..., :, -2] = 0.5
    assert torch.allclose(smoothed(image).mean((2, 3)), image.mean((2, 3)), atol=1e-6)


def test_empty_steps_lie_as_deep_as_the_shape_is_thick() -> None:
    mask, annotated = squares({2: 6, 6: 0})
    distance = annotated_distance(mask, annotated)
    assert float(distance[0, 6].max()) == -float(distance[0, 2].max())
    assert float(distance[0, 4].abs().max()) == 0


def test_distances_are_in_radii_and_in_usual_gaps() -> None:
    one, two = sequence({4: 6}), sequence({2: 6, 6: 6})
    radius = (144 / np.pi) ** 0.5
    assert one.away[0, [4, 5, 7]].tolist() == pytest.approx([0, 1 / radius / 4, 3 / radius / 4])
    assert one.share[0].tolist() == [-0.25] * 9
    assert two.share[0].tolist() == pytest.approx([0.25, 0.125, 0, 0.125, 0.25, 0.125, 0, 0.125, 0.25])


def test_beyond_the_horizon_all_steps_are_as_far() -> None:
    mask, annotated = squares({4: 6})
    image = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0))
    near, far = (PromptedSequence.of(image, mask, annotated, torch.ones(1), h) for h in ((2.0, 0.3), HORIZON))
    a, b = near.channels()[0][0, :, 11:, 0, 0], far.channels()[0][0, :, 11:, 0, 0]
    radius = (144 / np.pi) ** 0.5
    assert torch.equal(a[4], torch.tensor([1.0, 1.0, 0.0, 0.0, -0.25]))
    assert a[8].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 20, 0.3 / 4, -0.25])
    assert b[8].tolist() == pytest.approx([1 / 5, 1 / 100, 4 / 20, 4 / radius / 4, -0.25])
    assert torch.equal(near.prior(), far.prior())
