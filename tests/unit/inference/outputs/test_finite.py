"""A network that answers with NaN is an error for every verb, never an empty result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import ModelError
from napari_medseq.inference.explanation import Method
from tests.unit.training.small import CLASSIFIER, blob, model

Output = Literal["labels", "probability", "uncertainty"]


def poisoned(folder: Path, network: dict[str, Any] | None = None) -> ms.Model:
    """A model that was sound when it was loaded: one weight overflows later, as one in low precision may."""
    made = model(folder, network) if network is not None else model(folder)
    with torch.no_grad():
        next(p for p in made.network.parameters() if p.ndim == 4).view(-1)[0] = torch.inf
    return made


@pytest.mark.parametrize("outputs", [("labels",), ("labels", "probability", "uncertainty")])
def test_segment_says_that_the_answer_is_no_number(tmp_path: Path, outputs: tuple[Output, ...]) -> None:
    with pytest.raises(ModelError, match="not numbers at step 1 of blob0_T1"):
        ms.segment(blob(), poisoned(tmp_path / "m"), outputs=outputs)


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_explain_says_so(tmp_path: Path, method: Method) -> None:
    with pytest.raises(ModelError, match="not numbers"):
        ms.explain(blob(shape=(2, 40, 36)), poisoned(tmp_path / "m"), method=method)


def test_classify_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not numbers"):
        ms.classify(blob(), poisoned(tmp_path / "m", CLASSIFIER))


@pytest.mark.parametrize("network", [None, CLASSIFIER])
def test_locate_says_so(tmp_path: Path, network: dict[str, Any] | None) -> None:
    with pytest.raises(ModelError, match="not numbers"):
        ms.locate(blob(), poisoned(tmp_path / "m", network))
