"""TorchScript is executed only for those who say that they trust it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_medseq as ms
from napari_medseq.errors import MedseqWarning, ModelError
from napari_medseq.sequence import affine_from
from tests.unit.models.foreign import UNET, write_foreign


class Threshold(nn.Module):
    """Three classes by brightness: background, more than 1, more than 2."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        return torch.cat([torch.full_like(x, 1.0), x, 2 * x - 2], 1) * 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle = write_foreign(tmp_path / "scripted", UNET)
    (bundle / "models" / "model.pt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Threshold()).save(bundle / "models" / "model.ts")
    return bundle


def test_without_trust_it_is_not_opened(folder: Path) -> None:
    with pytest.raises(ModelError, match="opened only with trust=True"):
        ms.load_model(folder)


def test_a_scripted_bundle_segments_if_it_is_trusted(folder: Path) -> None:
    model = ms.load_model(folder, trust=True)
    assert (model.info.parameters, model.info.classes) == (1, {1: "liver", 2: "tumour"})
    assert len(model.fingerprint) == 64
    data = np.random.default_rng(0).integers(0, 4, (9, 18, 17)).astype(np.float32)
    image = ms.ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), name="image", modality="MR")
    with pytest.warns(MedseqWarning, match="foreign bundle"):
        labels = np.asarray(ms.segment(image, model).labels.data)
    sure = (data != 1) & (data != 2)  # there two classes are even
    assert np.array_equal(labels[sure], np.where(data > 2, 2, 0)[sure])


def test_trust_takes_what_is_safe_where_it_is_there(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "m", UNET)
    (folder / "models" / "model.ts").write_bytes(b"this would not load")
    assert ms.load_model(folder, trust=True).info.name == "m"
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(ModelError, match="not a TorchScript"):
        ms.load_model(folder, trust=True)
