"""Autoencoder and denoiser: shapes, what they start as, transfer to the classifier, and that tiny ones learn in seconds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from napari_medseq.errors import ModelError
from napari_medseq.inference.streaming import stream
from napari_medseq.models import networks
from napari_medseq.models.autoencoder import ConvAutoencoder
from napari_medseq.models.denoiser import RecurrentDenoiser
from napari_medseq.models.recurrent_unet import with_neighbours
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.training.loops.losses import image_loss
from napari_medseq.training.transfer import take_over

DENSENET: dict[str, Any] = {"_target_": "DenseNet", "block_config": [1, 1], "init_features": 8, "growth_rate": 8}


def moving_discs(batch: int, steps: int, size: int, seed: int) -> Tensor:
    """Sequences (batch, step, 1, y, x) of a disc that wanders slowly over a flat ground."""
    g = torch.Generator().manual_seed(seed)
    at = size * (0.3 + 0.4 * torch.rand(batch, 1, 2, generator=g))
    way = (torch.rand(batch, 1, 2, generator=g) - 0.5) * torch.arange(steps)[None, :, None] * 0.6
    radius = size * (0.15 + 0.1 * torch.rand(batch, 1, 1, 1, generator=g))
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = (at + way)[..., None, None]
    inside = (y - centre[:, :, 0]) ** 2 + (x - centre[:, :, 1]) ** 2 < radius**2
    return inside.float()[:, :, None] * 2 - 1


def train(network: torch.nn.Module, iterations: int, level: float, neighbours: int = 0, rate: float = 0.01) -> None:
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), rate)
    network.train()
    for i in range(iterations):
        clean = moving_discs(4, 5, 16, i)
        seen = clean + level * torch.randn(clean.shape)
        seen = torch.stack([with_neighbours(s, neighbours) for s in seen])
        loss = image_loss(network, seen, clean)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()


# -- autoencoder -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_goes_in_comes_out_in_size(dimensions: Any) -> None:
    network = ConvAutoencoder(in_channels=2, encoder=DENSENET, code=3, width=4, dimensions=dimensions).eval()
    x = torch.randn(2, 3, 2, *[16] * dimensions)
    assert network(x).shape == x.shape
    assert network.encode(x.flatten(0, 1)).shape == (6, 3, *[2] * dimensions)
    neighbours = ConvAutoencoder(in_channels=1, neighbours=1, encoder=DENSENET, width=4).eval()
    assert neighbours(torch.randn(1, 2, 3, 16, 16)).shape == (1, 2, 1, 16, 16)
    with pytest.raises(ModelError, match="multiples of 8"):
        network(x[..., :10])
    with pytest.raises(ModelError, match="vector"):
        ConvAutoencoder(in_channels=1, encoder={"_target_": "ResNet10", "width": 8}, width=4).eval()(
            torch.randn(1, 1, 1, 64, 64)
        )
    with pytest.raises(ModelError, match="hide"):
        networks.build({"_target_": "ConvAutoencoder", "hide": 1.0})


def test_all_goes_through_the_code() -> None:
    network = ConvAutoencoder(in_channels=1, encoder=DENSENET, code=2, width=4).eval()
    x = torch.randn(1, 1, 1, 16, 16)
    assert torch.equal(network(x)[0], network.decode(network.encode(x[0])))
    assert not torch.allclose(network(x)[0], network.decode(torch.zeros(1, 2, 2, 2)), atol=1e-4)


def test_squares_are_hidden_in_training_alone() -> None:
    network = ConvAutoencoder(in_channels=1, encoder=DENSENET, width=4, hide=0.5)
    seen: list[Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.ones(4, 5, 1, 32, 32)
    network.train()(x)
    network.eval()(x)
    cells = seen[0].unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert bool(((cells == 0).all(-1) | (cells == 1).all(-1)).all())
    assert 0.35 < float(seen[0].mean()) < 0.65
    assert torch.equal(seen[1], x.flatten(0, 1))


def test_a_tiny_autoencoder_learns_discs_it_has_not_seen() -> None:
    torch.manual_seed(0)
    network = ConvAutoencoder(in_channels=1, encoder={"_target_": "Blocks", "widths": [8, 16]}, code=4, width=8)
    test = moving_discs(8, 3, 16, 999)
    with torch.no_grad():
        before = float(image_loss(network.eval(), test, test))
    train(network, 60, 0.0)
    with torch.no_grad():
        assert float(image_loss(network, test, test)) < 0.25 * before


def test_the_classifier_begins_with_what_the_autoencoder_learned() -> None:
    encoder = {**DENSENET, "init_features": 16, "growth_rate": 16}
    learned = ConvAutoencoder(in_channels=1, neighbours=1, encoder=encoder, width=4)
    classifier = SequenceClassifier(encoder=encoder, neighbours=1, hidden=4)
    assert take_over(classifier, learned) == len(learned.encoder.state_dict())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(classifier.eval().features(x), learned.eval().encoder(x))


# -- denoiser ----------------------------------------------------------------------------------------------------------
TINY: dict[str, Any] = {
    "widths": (8, 16),
    "rnn_levels": (0, 1),
    "hidden": 8,
    "ahead": 2,
    "neighbours": 0,
    "dropout": 0.0,
}


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_untrained_denoiser_gives_back_what_it_gets(neighbours: int, channels: int) -> None:
    network = RecurrentDenoiser(in_channels=channels, **{**TINY, "neighbours": neighbours}).eval()
    image = torch.randn(5, channels, 8, 8)
    assert torch.allclose(network(with_neighbours(image, neighbours)[None])[0], image)
    with pytest.raises(ModelError, match="no classes"):
        networks.build({"_target_": "RecurrentDenoiser", "classes": 2})


@pytest.mark.parametrize("rnn", ["gru", "lstm", "none"])
def test_it_streams_to_what_the_whole_gives(rnn: Any) -> None:
    torch.manual_seed(0)
    network = RecurrentDenoiser(in_channels=2, **{**TINY, "neighbours": 1}, rnn=rnn).eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    image = torch.randn(6, 2, 8, 8)
    whole = network(with_neighbours(image, 1)[None])[0]
    assert torch.allclose(torch.stack(list(stream(network, image))), whole, atol=1e-5)
    assert not torch.allclose(whole, image, atol=1e-2)


def test_a_tiny_denoiser_takes_noise_out_and_the_other_steps_help() -> None:
    errors = {}
    test = moving_discs(8, 6, 16, 999)
    seen = test + 0.8 * torch.randn(test.shape, generator=torch.Generator().manual_seed(5))
    for rnn in ("gru", "none"):
        torch.manual_seed(0)
        network = RecurrentDenoiser(in_channels=1, **TINY, rnn=rnn)
        train(network, 70, 0.8)
        with torch.no_grad():
            errors[rnn] = float(image_loss(network, seen, test))
    noise = float((seen - test).abs().mean())
    assert errors["gru"] < 0.5 * noise
    assert errors["gru"] < errors["none"]
