"""What is learned from is what is seen in use: the order of an array's axes, and padding, change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Reorientation
from napari_medseq.models import load_model, networks
from napari_medseq.sequence import ImageSequence
from napari_medseq.training import teaching
from napari_medseq.training.cases import Case, make_case
from napari_medseq.training.config import TrainConfig
from napari_medseq.training.prompted.adapting import _lessons
from napari_medseq.training.teaching import _continued
from napari_medseq.volumes.turning import turned
from tests.unit.training.small import UNET, blob, model, written

TURN = Reorientation((1, 2, 0), (True, True, False))  # and slices run the other way


@pytest.fixture
def painted() -> tuple[ImageSequence, ImageSequence]:
    image = blob()
    data = np.zeros(image.data.shape, np.uint8)
    data[2:5, 10:20, 12:24] = 1
    data[3, 15:] = 0
    return image, image.labels_like(data, name="painted", label_names={1: "core"})


def same(a: Case, b: Case) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels)


def test_a_case_does_not_depend_on_the_order_of_axes(painted: tuple[ImageSequence, ImageSequence]) -> None:
    image, labels = painted
    other, drawn = (turned(seq, TURN) for seq in painted)
    assert other.slice_axis == "y"
    assert same(make_case("p", [image], labels), make_case("p", [other], drawn))
    assert same(make_case("p", [image], labels, sparse=True), make_case("p", [other], drawn, sparse=True))
    forward, backward = make_case("p", [image], labels, steps=(0, 2)), make_case("p", [other], drawn, steps=(6, 4))
    assert (forward.labels >= 0).flatten(1).any(1).tolist() == [k in (0, 2) for k in range(7)]
    assert same(forward, backward)
    with pytest.raises(MedseqError, match=r"has steps 0 to 6, not \[7\]"):
        make_case("p", [other], drawn, steps=(7,))


def test_padding_that_is_left_out_in_use_is_not_learned(painted: tuple[ImageSequence, ImageSequence]) -> None:
    def padded(seq: ImageSequence) -> ImageSequence:
        at = seq.affine @ np.array([-4.0, -6.0, 0.0, 1.0])
        return seq.replace(data=np.pad(seq.data, ((0, 0), (6, 9), (4, 4))), affine=np.c_[seq.affine[:, :3], at])

    image, labels = painted
    plain = make_case("p", [image], labels, trimmed="planes")
    assert same(plain, make_case("p", [padded(image)], padded(labels), trimmed="planes"))


def test_lessons_do_not_depend_on_the_order_of_axes(painted: tuple[ImageSequence, ImageSequence]) -> None:
    start = load_model("propagate")
    (here,) = _lessons(start, *painted, {1: (0, 5)})
    (there,) = _lessons(start, turned(painted[0], TURN), turned(painted[1], TURN), {1: (6, 1)})
    assert here.filled == there.filled
    assert torch.equal(here.image, there.image)
    assert torch.equal(here.painted, there.painted)


def test_slices_that_were_averaged_are_learned_from_as_they_are(tmp_path: Path) -> None:
    thick, thin = blob(), blob(affine=np.diag([-0.9, -0.9, 2.0, 1.0]))
    start = model(tmp_path / "net", UNET, step_mm=5.0)
    assert _continued(start, thick).step_mm == 5.0
    assert _continued(start, thin).step_mm == pytest.approx(2.0)


def test_channels_of_a_model_that_is_continued_are_in_its_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {**UNET, "in_channels": 2}
    facts = {"name": "two", "task": "segmentation", "channels": ["A", "B"], "classes": {"1": "core"}}
    written(tmp_path / "two", facts, network, {}, networks.build(network))
    first, second = blob(name="A"), blob(1, name="B")
    data = np.zeros(first.data.shape, np.uint8)
    data[3, 10:20, 12:24] = 1
    labels = first.labels_like(data, name="painted", label_names={1: "core"})
    learned: list[tuple[TrainConfig, Case]] = []
    monkeypatch.setattr(teaching, "train_cases", lambda config, cases, *_: learned.append((config, cases[0])))
    settings = {"out": str(tmp_path / "net"), "start_from": str(tmp_path / "two"), "device": "cpu"}
    for images in ({"A": first, "B": second}, {"B": second, "A": first}):
        ms.teach(images, labels, settings)
    assert [list(config.channels) for config, _ in learned] == [["A", "B"]] * 2
    assert same(learned[0][1], learned[1][1])
