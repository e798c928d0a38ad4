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


def folds(
    folder: Path, count: int = 3, network: dict[str, Any] = UNET, spread: float = 0.1, **inference: Any
) -> list[ms.Model]:
    """Models of one kind with weights of their own."""
    made = []
    for k in range(count):
        fold = model(folder / f"fold{k}", network, **inference)
        with torch.no_grad():
            for p in fold.network.parameters():
                p.add_(spread * torch.randn(p.shape, generator=torch.Generator().manual_seed(k)))
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
    with pytest.raises(ModelError, match="fold1 cannot be averaged with fold0: its classes"):
        ms.segment(blob(), [first, other])
    coarse = replace(second, inference={**second.inference, "pixel_mm": 2.0})
    with pytest.raises(ModelError, match=r"its pixel_mm is 2\.0, not None"):
        ms.segment(blob(), [first, coarse])
    with pytest.raises(ModelError, match="needs a segmentation model"):
        ms.segment(blob(), [first, model(tmp_path / "c", CLASSIFIER)])
    with pytest.raises(ModelError, match="empty"):
        ms.segment(blob(), [])


def classifiers(folder: Path, count: int = 2, network: dict[str, Any] = CLASSIFIER, **inference: Any) -> list[ms.Model]:
    """Classifiers of one kind with weights of their own."""
    return folds(folder, count, network, 0.3, **inference)


def test_classifiers_are_averaged(tmp_path: Path) -> None:
    models, image = classifiers(tmp_path, 3), blob()
    each = [ms.classify(image, m) for m in models]
    together = ms.classify(image, models)
    assert len({e.probabilities["lesion"] for e in each}) == 3
    assert together.probabilities["lesion"] == pytest.approx(np.mean([e.probabilities["lesion"] for e in each]))
    assert np.allclose(together.per_step, np.mean([e.per_step for e in each], 0))
    assert np.allclose(together.attention, np.mean([e.attention for e in each], 0))
    assert together.extent == int((together.per_step[:, 0] >= 0.5).sum())
    assert together.model == "fold0 0 + fold1 0 + fold2 0"
    assert ms.classify(image, models[:1]).probabilities == each[0].probabilities
    folders: list[str | PathLike[str] | ms.Model] = [Path(m.info.folder) for m in models[:2]]
    seen: list[float] = []
    visits = ms.classify([ms.Visit(None, (image,), name="v")], folders, progress=lambda d, n, _: seen.append(d / n))
    assert [v.model for v in visits] == ["fold0 0 + fold1 0"]
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_classifiers_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    first, second = classifiers(tmp_path)
    for field, value in (("classes", {0: "vessel"}), ("channels", ("T2",)), ("table", ("age",)), ("modality", "CT")):
        other = replace(second, info=second.info.model_copy(update={field: value}))
        with pytest.raises(ModelError, match=f"fold1 cannot be averaged with fold0: its {field} is"):
            ms.classify(blob(), [first, other])
    for name, setting in (("pixel_mm", 2.0), ("size", [64, 64]), ("along", "t")):
        other = replace(second, inference={**second.inference, name: setting})
        with pytest.raises(ModelError, match=f"fold1 cannot be averaged with fold0: its {name} is"):
            ms.classify(blob(), [first, other])
    two = {**CLASSIFIER, "classes": 1, "target": "exclusive"}
    with pytest.raises(ModelError, match="its target is exclusive, not multilabel"):
        ms.classify(blob(), [first, model(tmp_path / "e", two)])
    with pytest.raises(ModelError, match="is a segmentation model; classify needs a classification model"):
        ms.classify(blob(), [first, model(tmp_path / "s", UNET)])
    with pytest.raises(ModelError, match="empty"):
        ms.classify(blob(), [])
