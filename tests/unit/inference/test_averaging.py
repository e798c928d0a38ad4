"""Several models at once: their probabilities are averaged; what does not go together is refused."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import ModelError
from tests.unit.training.small import CLASSIFIER, UNET, blob, model


def folds(folder: Path, count: int = 3, **inference: Any) -> list[ms.Model]:
    """Models of one kind with weights of their own."""
    made = []
    for k in range(count):
        fold = model(folder / f"fold{k}", UNET, **inference)
        with torch.no_grad():
            for p in fold.network.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(k)))
        made.append(fold)
    return made


def probability(found: ms.Segmentation) -> np.ndarray:
    assert found.probability is not None
    return np.asarray(found.probability.data)


@pytest.mark.parametrize("mirror", [False, True])
def test_probabilities_are_the_mean_of_the_models(tmp_path: Path, mirror: bool) -> None:
    models, image = folds(tmp_path, mirror=mirror), blob()
    each = [ms.segment(image, m, outputs=("probability",)) for m in models]
    together = ms.segment(image, models, outputs=("labels", "probability", "uncertainty"))
    assert np.allclose(probability(together), np.mean([probability(e) for e in each], 0), atol=1e-5)
    sure = np.abs(probability(together) - 0.5) > 1e-4
    assert np.array_equal((np.asarray(together.labels.data) > 0)[sure], (probability(together) > 0.5)[sure])
    assert together.model == "fold0 0 + fold1 0 + fold2 0"
    assert together.uncertainty is not None
    assert together.labels.name == each[0].labels.name


def test_one_model_in_a_list_is_that_model_and_paths_are_taken(tmp_path: Path) -> None:
    first, second = folds(tmp_path, 2)
    alone = ms.segment(blob(), first).labels.data
    assert np.array_equal(ms.segment(blob(), [first]).labels.data, alone)
    folders: list[str | PathLike[str] | ms.Model] = [Path(first.info.folder), str(second.info.folder)]
    assert ms.segment(blob(), folders).model == "fold0 0 + fold1 0"


def test_models_along_visits_are_averaged_too(tmp_path: Path) -> None:
    models = folds(tmp_path, 2, along="visit")
    visits = [ms.Visit(None, (blob(k),), name=f"v{k}") for k in range(2)]
    each = [ms.segment(visits, m, outputs=("probability",), transforms=[None, None]) for m in models]
    together = ms.segment(visits, models, outputs=("probability",), transforms=[None, None])
    for k in range(2):
        mean = (probability(each[0][k]) + probability(each[1][k])) / 2
        assert np.allclose(probability(together[k]), mean, atol=1e-5)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    first, second = folds(tmp_path, 2)
    other = replace(second, info=second.info.model_copy(update={"classes": {1: "vessel"}}))
    with pytest.raises(ModelError, match="fold1 cannot be averaged with fold0: classes"):
        ms.segment(blob(), [first, other])
    coarse = replace(second, inference={**second.inference, "pixel_mm": 2.0})
    with pytest.raises(ModelError, match=r"2\.0 mm"):
        ms.segment(blob(), [first, coarse])
    with pytest.raises(ModelError, match="needs a segmentation model"):
        ms.segment(blob(), [first, model(tmp_path / "c", CLASSIFIER)])
    with pytest.raises(ModelError, match="empty"):
        ms.segment(blob(), [])
