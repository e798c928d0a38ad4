"""A prompted network adapted to one image: what is hidden and asked for, that it is kept only if it helps, and the bundle it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ModelError, OperationCancelled, SettingsError
from napari_medseq.inference.prompts.objects import objects_of
from napari_medseq.inference.prompts.planes import planes_along
from napari_medseq.inference.prompts.window import PromptSettings
from napari_medseq.models import Model
from napari_medseq.models.prompted_unet import PromptedUNet
from napari_medseq.models.prompting import HORIZON
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.prompted.adapting import AdaptSettings, adapt
from napari_medseq.training.prompted.lessons import Lesson, draw_tasks, lesson_of
from tests.unit.models.prompted import SMALL, prompted_model
from tests.unit.training import small

CPU = torch.device("cpu")
Z, Y, X = np.indices((30, 40, 40))
#: a tube whose width changes as no interpolation knows
TUBE = (7 + 3 * np.sin(Z / 2.5)) ** 2 >= (Y - 20) ** 2 + (X - 18 - 0.1 * Z) ** 2
SHORT = AdaptSettings(iterations=4, folds=1, rate=1e-3)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(0)
    return prompted_model(tmp_path_factory.mktemp("m") / "plain", PromptedUNet(**SMALL).eval())


def painted(steps: Sequence[int]) -> tuple[ImageSequence, ImageSequence]:
    noise = np.random.default_rng(0).normal(0, 0.1, TUBE.shape)
    image = ImageSequence((TUBE + noise).astype(np.float32), ("z", "y", "x"), affine_from((1, 1, 1)), name="scan")
    drawn = np.zeros(TUBE.shape, np.uint8)
    drawn[list(steps)] = TUBE[list(steps)]
    return image, image.labels_like(drawn, name="painted", label_names={1: "tube"})


def lesson(steps: Sequence[int]) -> Lesson:
    image, labels = painted(steps)
    planes = planes_along(image, "z")
    return lesson_of(
        planes, planes.view(np.asarray(labels.data)), objects_of(labels, planes, None)[0], PromptSettings()
    )


def test_a_lesson_is_what_is_painted_in_its_window() -> None:
    one = lesson([6, 12, 20])
    assert [a + 1 for a in one.annotated] == [6, 12, 20]  # it begins five steps before the first
    assert one.filled == one.annotated.tolist()
    assert one.painted.flatten(1).any(1).nonzero()[:, 0].tolist() == one.filled
    without = one.without(one.filled[1])
    assert without.filled == [one.filled[0], one.filled[2]]
    assert one.painted[one.filled[1]].any()


@pytest.mark.parametrize("steps", [(6, 12, 20), (2, 14, 28), (1, 2, 29)])
def test_each_task_hides_one_painted_slice(steps: Sequence[int]) -> None:
    torch.manual_seed(0)
    one, rng, hidden = lesson(steps), np.random.default_rng(0), set()
    for _ in range(8):
        tasks = draw_tasks(one, 2, HORIZON, rng, CPU)
        assert tasks.real.sum(1).tolist() == [3, 3]
        assert (tasks.real & ~tasks.sequence.annotated).sum(1).tolist() == [1, 1]
        assert not (tasks.sequence.annotated & ~tasks.real).any()
        assert tasks.kept.all()
        assert torch.isfinite(tasks.sequence.channels()[0]).all()
        assert tasks.truth[tasks.real].flatten(1).any(1).all()
        assert not tasks.truth[~tasks.real].any()
        hidden |= {int((tasks.real & ~tasks.sequence.annotated)[b].nonzero()[0, 0]) for b in range(2)}
    assert len(hidden) > 2


def test_it_is_kept_only_if_slices_held_back_gain(plain: Model) -> None:
    image, labels = painted([4, 9, 14, 19, 24])
    found = adapt(plain, image, labels, settings=SHORT)
    assert set(found.held_back) == {0, 2, 4}
    gained = max(found.held_back.values()) - found.held_back[0] > SHORT.gain
    assert (found.iterations > 0) == gained == (len(found.losses) > 0)
    never = adapt(plain, image, labels, settings=AdaptSettings(iterations=2, folds=1, gain=1.0))
    assert never.iterations == 0
    assert "does not help" in str(never)
    assert all(torch.equal(v, plain.network.state_dict()[k]) for k, v in never.weights.items())


def test_what_is_learned_is_the_same_again_and_the_model_stays_as_it_was(plain: Model) -> None:
    before = {k: v.clone() for k, v in plain.network.state_dict().items()}
    image, labels = painted([4, 12, 20])
    always = AdaptSettings(iterations=2, folds=1, gain=-1.0)
    found, again = (adapt(plain, image, labels, settings=always) for _ in range(2))
    assert found.iterations == len(found.losses) > 0
    assert found.losses == again.losses
    assert all(torch.equal(v, before[k]) for k, v in plain.network.state_dict().items())
    assert any(not torch.equal(v, before[k]) for k, v in found.weights.items())


def test_teach_makes_a_bundle_for_propagate(plain: Model, tmp_path: Path) -> None:
    image, labels = painted([4, 12, 20])
    settings = {"out": str(tmp_path / "mine"), "start_from": plain.info.folder, "iterations": 2, "device": "cpu"}
    result = ms.teach(image, labels, settings)
    assert (result.model.info.name, result.model.info.task) == ("mine", "propagation")
    assert "Dice on painted slices that were held back" in result.model.info.description
    assert result.model.inference == plain.inference
    found = ms.propagate(image, labels, tmp_path / "mine")
    assert np.array_equal(np.asarray(found.labels.data)[[4, 12, 20]] > 0, TUBE[[4, 12, 20]])
    with pytest.raises(SettingsError, match="takes one image, not 2"):
        ms.teach({"a": image, "b": image}, labels, settings)


def test_what_cannot_be_adapted_is_named(plain: Model, tmp_path: Path) -> None:
    image, labels = painted([4, 12])
    with pytest.raises(MedseqError, match="three steps"):
        adapt(plain, image, labels, settings=SHORT)
    with pytest.raises(ModelError, match="cannot take painted steps"):
        adapt(small.model(tmp_path / "m"), image, labels, settings=SHORT)
    told: list[int] = []
    image, labels = painted([4, 12, 20])
    with pytest.raises(OperationCancelled):
        adapt(
            plain, image, labels, settings=SHORT, progress=lambda *a: told.append(a[0]), cancelled=lambda: len(told) > 2
        )
    assert told == [1, 2, 3]
