"""The promptable bundle that ships: small, clean and carded, and better than interpolation on heads that it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import napari_medseq as ms
from napari_medseq.models import bundle
from napari_medseq.models.library import SHIPPED
from napari_medseq.synthetic import make_case
from tests.unit.models.prompted import prompted_model

pytestmark = pytest.mark.skipif(not (SHIPPED / "propagate").is_dir(), reason="the bundle propagate is not there yet")


def test_the_bundle_is_small_clean_and_carded() -> None:
    model = ms.load_model("propagate")
    folder = Path(model.info.folder)
    assert model.info.task == "propagation"
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 6e6
    for part in (bundle.METADATA, bundle.INFERENCE):
        bundle.refuse_expressions(bundle.read_json(folder / part), part.name)
    for said in ("not a medical device", "Data", "Numbers", "Known failures", "CC BY 4.0"):
        assert said in model.info.card
    licence = (folder / "LICENSE").read_text(encoding="utf-8")
    for source in ("creativecommons.org", "Brain-Tumor-Progression", "Sarcoma", "LIDC", "Sunnybrook", "vocalfolds"):
        assert source in licence


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def test_after_one_slice_it_is_better_than_the_shape_copied(tmp_path: Path) -> None:
    image, labels = make_case(100)
    drawn = np.asarray(labels.data)
    counts = np.bincount(drawn.ravel())
    truth = drawn == int(counts[1:].argmax()) + 1
    at = int(truth.sum((1, 2)).argmax())
    painted = labels.replace(data=np.where(np.arange(len(truth))[:, None, None] == at, truth, 0).astype(np.uint8))
    rest = np.arange(len(truth)) != at
    ours, plain = (
        np.asarray(ms.propagate(image, painted, m).labels.data)[rest] > 0
        for m in ("propagate", prompted_model(tmp_path / "plain"))
    )
    assert dice(ours, truth[rest]) > max(0.6, dice(plain, truth[rest]) + 0.2)


def test_a_long_tube_is_followed_to_its_ends() -> None:
    steps = 90
    y, x = np.mgrid[:64, :64]
    turn = 6.28 * np.arange(steps)[:, None, None] / steps
    truth = (y - 32 - 5 * np.sin(turn)) ** 2 + (x - 32 - 5 * np.cos(turn)) ** 2 < 10**2
    voxels = np.random.default_rng(0).normal(100, 15, truth.shape) + 60 * truth
    image = ms.ImageSequence(voxels.astype(np.float32), ("z", "y", "x"), np.eye(4), name="tube")
    drawn = np.zeros(truth.shape, np.uint8)
    drawn[steps // 2] = truth[steps // 2]
    found = np.asarray(ms.propagate(image, image.labels_like(drawn, name="painted", label_names={})).labels.data) > 0
    assert found.any((1, 2)).all()
    assert dice(found, truth) > 0.7


def test_what_moves_is_followed_through_a_video() -> None:
    frames = 40
    y, x = np.mgrid[:64, :80]
    at = np.arange(frames)[:, None, None]
    truth = (y - 28 - 0.1 * at) ** 2 + (x - 20 - 0.5 * at) ** 2 < 9**2  # by its own width in 36 frames
    grain = np.random.default_rng(0).normal(0, 12, truth.shape)
    image = ms.ImageSequence((90 + grain + 50 * truth).astype(np.float32), ("t", "y", "x"), np.eye(4), name="video")
    drawn = np.zeros(truth.shape, np.uint8)
    drawn[0] = truth[0]
    found = np.asarray(ms.propagate(image, image.labels_like(drawn, name="painted", label_names={})).labels.data) > 0
    assert dice(found[1:], truth[1:]) > 0.8
