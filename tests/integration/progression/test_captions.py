"""Sentences of a captioner in the report: only where a bundle is named, marked, and apart from what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.inference.captioning import caption
from napari_medseq.models.captioner import MARK
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.captioning import save_captioner, train_captioner


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner that knows two sentences: the front grew brighter, or the back."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (32, 2, 1, 16, 16)).astype(np.float32)
    images[:, 1] = rng.normal(-1, 0.1, (32, 1, 16, 16))
    images[::2, 1, 0, :8] += 2
    images[1::2, 1, 0, 8:] += 2
    texts = ["The front grew by 20 %.", "The <back> grew."] * 16
    network, vocabulary = train_captioner(
        images, texts, epochs=40, batch=16, learning_rate=1e-2, channels=4, hidden=16, embedding=8
    )
    folder = tmp_path_factory.mktemp("captioner") / "tiny"
    return save_captioner(network, vocabulary, folder, size=16, card="# tiny\n\nTwo sentences.", modality="MR")


@pytest.fixture
def progression() -> ms.Progression:
    """Two visits; in the slice with most lesion the front is bright at the second."""
    masks, images = [], []
    for k in range(2):
        labels = np.zeros((6, 16, 16), np.uint8)
        labels[2, 2:6, 4 : 10 + k] = 1
        mask = ImageSequence(labels, ("z", "y", "x"), affine_from((1, 1, 3)), kind="labels", name="mask")
        grey = np.random.default_rng(k).normal(100, 2, labels.shape)
        if k:
            grey[2, :8] += 50
        masks.append(mask)
        images.append(mask.replace(kind="image", data=grey, modality="MR", name="T1"))
    return ms.track(masks, dates=["2020-01-01", "2020-03-01"], images=images)


def test_a_bundle_says_what_changed_and_that_a_model_wrote(bundle: Path) -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(0, 5, (16, 16)), rng.normal(0, 2, (16, 16))
    after[8:] += 40.0
    found = caption([before, after], bundle)
    assert found.text == f"{MARK}the back grew."
    assert found.attention.shape[1] == 2
    with pytest.raises(ms.MedseqError, match="writes about 2 visits at a time, and 1 are given"):
        caption([before], bundle)


def test_the_report_has_its_sentences_only_where_it_is_named(
    progression: ms.Progression, bundle: Path, tmp_path: Path
) -> None:
    plain = progression.report(tmp_path / "plain.html").read_text(encoding="utf-8")
    assert "written by a model" not in plain
    text = progression.report(tmp_path / "r.html", captioner=bundle).read_text(encoding="utf-8")
    part = text.partition("<h2>Written by a model</h2>")[2].partition("<h2>")[0]
    assert "captioner 1 wrote them from pictures alone" in part
    assert f"{MARK}the front grew by 20%." in part
    assert text.count(MARK) == 1
    assert "but for what is marked as written by a model" in text


def test_the_command_takes_the_bundle(progression: ms.Progression, bundle: Path, tmp_path: Path) -> None:
    progression.save(tmp_path / "result")
    assert cli.main(["report", str(tmp_path / "result"), "--captioner", str(bundle)]) == 0
    text = (tmp_path / "result" / "report.html").read_text(encoding="utf-8")
    # a saved result names its images elsewhere
    assert "there is no image of" in text.partition("<h2>Written by a model</h2>")[2]


def test_what_is_no_captioner_is_refused(progression: ms.Progression, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ms.MedseqError, match="is a model for segmentation, no captioner"):
        progression.report(tmp_path / "r.html", captioner=tiny_bundle)
    assert not (tmp_path / "r.html").exists()


def test_without_lesion_or_image_it_is_said_why_nothing_is_written(bundle: Path) -> None:
    from napari_medseq.progression.captions import captions

    empty = ImageSequence(np.zeros((3, 8, 8), np.uint8), ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels")
    (line,) = captions(ms.track([empty, empty]), bundle).lines
    assert "nothing is written; no lesion is there" in line
    (line,) = captions(ms.track([empty]), bundle).lines
    assert "the model writes about 2 visits at a time" in line
