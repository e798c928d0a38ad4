"""`segment` with a slab network: an answer that is no number is an error, and options that it does not know are refused."""

from __future__ import annotations

import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ModelError
from napari_medseq.models import Model, ModelInfo
from napari_medseq.models.slab_unet import SlabUNet
from tests.unit.training.small import blob


@pytest.fixture
def slab() -> Model:
    torch.manual_seed(0)
    network = SlabUNet(channels=1, classes=2, widths=(4, 8), strides=((1, 2, 2),)).eval()
    info = ModelInfo(name="slab", version="0", task="segmentation", modality="MR", classes={1: "lesion"})
    inference = {
        "kind": "slab",
        "window": [4, 32, 32],
        "working": {"axis": "z", "spacing_mm": [5.0, 0.9, 0.9]},
    }
    return Model(info, network, inference, {})


def test_a_sound_network_labels(slab: Model) -> None:
    assert ms.segment(blob(), slab, device="cpu").labels.data.shape == blob().data.shape


def test_an_answer_that_is_no_number_is_an_error(slab: Model) -> None:
    with torch.no_grad():
        next(p for p in slab.network.parameters() if p.ndim == 5).view(-1)[0] = torch.inf
    with pytest.raises(ModelError, match="no numbers"):
        ms.segment(blob(), slab, device="cpu")


def test_what_it_cannot_do_is_refused(slab: Model) -> None:
    with pytest.raises(MedseqError, match="not known"):
        ms.segment(blob(), slab, outputs=("certainty",))
    with pytest.raises(ModelError, match="views=0"):
        ms.segment(blob(), slab, outputs=("uncertainty",), views=2)
    with pytest.raises(ModelError, match="samples=0"):
        ms.segment(blob(), slab, outputs=("uncertainty",), samples=2)
