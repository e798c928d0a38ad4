"""Every verb takes a model as `Model`, as a name, or as a folder, be it str or Path."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import models
from napari_medseq.errors import ModelError
from napari_medseq.sequence import affine_from
from tests.unit.training.small import CLASSIFIER, model

VERBS: dict[str, Callable[[Any, Any, Path], object]] = {
    "segment": lambda image, model, _: ms.segment(image, model),
    "explain": lambda image, model, _: ms.explain(image, model),
    "locate": lambda image, model, _: ms.locate(image, model),
    "compress": lambda _, model, out: ms.compress(model, {"out": str(out / "small")}),
    "export": lambda _, model, out: ms.export(model, out / "net.pt2", steps=2, size=(16, 16)),
    "classify": lambda image, model, _: ms.classify(image, model),
}


@pytest.fixture(scope="module")
def image() -> ms.ImageSequence:
    data = np.random.default_rng(0).normal(100, 30, (3, 24, 24)).astype(np.float32)
    return ms.ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 3)), name="T1post", modality="MR")


@pytest.mark.parametrize("verb", VERBS)
def test_a_path_is_as_good_as_a_model(verb: str, image: ms.ImageSequence, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tiny_bundle
    if verb == "classify":
        folder = Path(model(tmp_path / "classifier", CLASSIFIER).info.folder)
    for given in (folder, str(folder)):
        assert VERBS[verb](image, given, tmp_path) is not None


def test_what_is_no_model_is_an_error_of_ours(image: ms.ImageSequence) -> None:
    number: Any = 3
    with pytest.raises(ModelError, match="give a loaded model"):
        ms.segment(image, number)
    with pytest.raises(ModelError, match="There is no model"):
        ms.segment(image, Path("no-such-folder"))


def test_a_loaded_model_is_handed_back(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = models.loaded(tiny_bundle)
    assert models.loaded(first) is first
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path))
    assert models.loaded("tiny").fingerprint == first.fingerprint
