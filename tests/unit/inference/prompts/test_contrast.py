"""Intensities end where they tell an object from its surroundings no better."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_medseq.inference.prompts.contrast import limit

ANNOTATED = torch.tensor([False, True, False])


def scan(air: int, own: float = 60.0, beside: float = 20.0) -> tuple[Tensor, Tensor]:
    """A disc in tissue with a little noise, three steps, and so many columns of air on one side."""
    line = torch.arange(48) - 23.5
    disc = (line[:, None] ** 2 + line**2 <= 100).expand(3, 48, 48)
    image = torch.where(disc, own, beside) + torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(0))
    image[:, :, 48 - air :] = -1000
    painted = disc & ANNOTATED[:, None, None]
    return image, painted


def limited(image: Tensor, painted: Tensor, annotated: Tensor = ANNOTATED) -> Tensor:
    found = image.clone()
    limit(found, painted, annotated, 3)
    return found


def test_air_beside_an_organ_becomes_as_dark_as_it_need_be() -> None:
    image, painted = scan(air=12)
    found = limited(image, painted)
    assert torch.equal(found[..., :36], image[..., :36])
    low = float(found.min())
    assert low == pytest.approx(60 - 3 * max(40.0, 0.1 * float(image.std())), abs=6)
    assert (found[..., 36:] == low).all()


def test_an_object_in_air_keeps_the_air() -> None:
    image, painted = scan(air=2, own=0.0, beside=-850.0)
    assert torch.equal(limited(image, painted), image)


def test_limits_do_not_depend_on_the_unit() -> None:
    image, painted = scan(air=12)
    found = limited(image, painted)
    for scale in (1e-6, 1e6):
        assert torch.allclose(limited(image * scale, painted) / scale, found, rtol=1e-4)


def test_without_paint_or_contrast_an_image_is_as_it_was() -> None:
    image, painted = scan(air=12)
    assert torch.equal(limited(image, torch.zeros_like(painted)), image)
    even = torch.ones_like(image)
    assert torch.equal(limited(even, painted), even)
    assert torch.equal(limited(image, painted, ~ANNOTATED), image)  # painted on a step that is not annotated


@pytest.mark.parametrize("value", [-32768.0, 65535.0])
def test_padding_of_any_value_costs_no_contrast(value: float) -> None:
    image, painted = scan(air=12)
    padded = image.clone()
    padded[..., 36:] = value
    found = limited(padded, painted)
    assert torch.equal(found[..., :36], image[..., :36])
    assert float((found[..., 36:] - 60).abs().max()) < 250


def test_all_within_the_width_of_the_ring_is_the_surroundings() -> None:
    image = torch.zeros(1, 64, 64)
    painted = torch.zeros(1, 64, 64, dtype=torch.bool)
    painted[0, 32, 32] = True
    image[0, 20:45, 20:45] = 10.0
    image[0, 32, 32] = 0.0  # ten from all within twelve rows and columns, none from what is further
    image[0, 0, 0] = -1000.0
    assert float(limited(image, painted, torch.tensor([True])).min()) == -30.0
