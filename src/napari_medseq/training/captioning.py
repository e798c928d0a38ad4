"""Training of the captioner on pairs of image sequence and report sentence."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_medseq.errors import SettingsError
from napari_medseq.inference.captioning import CaptionSettings
from napari_medseq.models import bundle
from napari_medseq.models.captioner import PAD, Captioner, Vocabulary, caption_loss
from napari_medseq.progress import Cancelled, Progress, check


def train_captioner(
    images: NDArray[np.generic] | Tensor,
    texts: Sequence[str],
    *,
    epochs: int = 30,
    batch: int = 16,
    learning_rate: float = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    **network: Any,
) -> tuple[Captioner, Vocabulary]:
    """Learn to write the sentence that belongs to a sequence of images.

    Parameters
    ----------
    images : array, shape (case, step, channel, y, x)
        About zero mean and unit spread.
    texts : sequence of str
        One sentence per case.
    epochs, batch, learning_rate, seed, device
        Of the training (Adam; the rate rises for a tenth of the time and then falls to nothing).
    **network
        Of `Captioner`.

    Returns
    -------
    network : Captioner
    vocabulary : Vocabulary

    Raises
    ------
    SettingsError
        If the numbers of cases differ or there is none.
    """
    if not len(texts) or len(texts) != len(images):
        raise SettingsError(
            f"{len(images)} image sequences and {len(texts)} sentences; give one sentence per sequence."
        )
    torch.manual_seed(seed)
    vocabulary = Vocabulary.of(texts)
    codes = [torch.tensor(vocabulary.encode(text)) for text in texts]
    padded = torch.nn.utils.rnn.pad_sequence(codes, batch_first=True, padding_value=PAD).to(device)
    cases = torch.as_tensor(np.asarray(images), dtype=torch.float32).to(device)
    model = Captioner(len(vocabulary), cases.shape[2], **network).to(device)
    optimiser = torch.optim.Adam(model.parameters(), learning_rate)
    rounds = -(-len(cases) // batch)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, epochs * rounds, pct_start=0.1)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        total = 0.0
        for chosen in np.array_split(order.permutation(len(cases)), rounds):
            check(cancelled)
            at = torch.as_tensor(chosen, device=cases.device)
            loss = caption_loss(model(cases[at], padded[at]), padded[at])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            rates.step()
            total += loss.item() * len(chosen)
        if progress is not None:
            progress(epoch + 1, epochs, f"loss {total / len(cases):.3f}")
    return model.eval().cpu(), vocabulary


def save_captioner(
    network: Captioner,
    vocabulary: Vocabulary,
    folder: str | PathLike[str],
    *,
    size: int,
    steps: int = 2,
    card: str,
    name: str = "captioner",
    version: str = "1",
    modality: str | None = None,
    licence: str = "unknown",
) -> Path:
    """Write a captioner as a bundle, which ``Progression.report(..., captioner=folder)`` takes.

    Parameters
    ----------
    network, vocabulary
        As `train_captioner` gives them.
    folder : path
    size, steps : int
        Rows and columns of the pictures, and how many visits a sentence is about, as in training.
    card : str
        The model card: what it learned from, and how often it was right.
    name, version, modality, licence
        Facts about the model.

    Raises
    ------
    ModelError
        If `folder` exists and is not a bundle.
    """
    first = network.encoder[0]
    assert isinstance(first, nn.Conv2d)  # as Captioner makes it
    settings = CaptionSettings(vocabulary=" ".join(vocabulary.known), size=size, steps=steps)
    return bundle.write_bundle(
        Path(folder),
        facts={"name": name, "task": "captioning", "modality": modality, "sequence_axis": "visit"},
        network={
            "_target_": "Captioner",
            "vocabulary": len(vocabulary),
            "in_channels": first.in_channels,
            "channels": first.out_channels,
            "hidden": network.cell.hidden_size,
            "embedding": network.embed.embedding_dim,
        },
        inference=settings.model_dump(mode="json"),
        weights=network.state_dict(),
        card=card,
        licence_text=licence + "\n",
        description="Writes a sentence about what changed from visit to visit.",
        licence=licence,
        version=version,
        storage="float32",
    )
