"""The plan for classes of whole exams follows from the exams' shapes and the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseq.errors import SettingsError
from napari_medseq.models import networks
from napari_medseq.training.classes.plan import ClassPlan, ExamShape, make_class_plan
from napari_medseq.training.loops.augment import AugmentSettings

HEAD = ExamShape(steps=24, slices=1, rows=200, columns=160, row_mm=1.0, column_mm=1.0)


def plan(*shapes: ExamShape, seconds: float = 3600.0, exams: int = 20, **changes: object) -> ClassPlan:
    values: dict[str, object] = {"channels": ("T1",), "along": "slices", "cores": 2} | changes
    classes = changes.pop("classes", ("ill", "well"))
    values.pop("classes", None)
    assert isinstance(classes, tuple)
    return make_class_plan(shapes, dict.fromkeys(classes, exams), seconds=seconds, **values)  # type: ignore[arg-type]


def test_time_decides_how_fine_the_pixels_are() -> None:
    rich, poor = plan(HEAD), plan(HEAD, seconds=60.0)
    assert rich.pixel_mm is None
    assert rich.size == (208, 160)
    assert rich.coarse
    assert networks.build_sequence_network(rich.definition).stride == 16
    assert poor.pixel_mm is not None
    assert poor.pixel_mm > 1.5
    assert min(poor.size) >= 32
    assert poor.steps == rich.steps == 24
    assert all(n % 2 ** len(poor.widths) == 0 for n in poor.size)
    assert "million voxels" in poor.reasons["pixel_mm"]


def test_pixels_of_different_sizes_become_one_size() -> None:
    fine = ExamShape(steps=24, slices=1, rows=400, columns=320, row_mm=0.5, column_mm=0.5)
    found = plan(HEAD, HEAD, fine)
    assert found.pixel_mm == pytest.approx(1.0)
    assert found.size == (208, 160)


def test_pictures_videos_and_long_series() -> None:
    picture = ExamShape(steps=1, slices=1, rows=30, columns=40, row_mm=1.0, column_mm=1.0)
    assert plan(picture).rnn == "none"
    assert len(plan(picture).widths) == 3
    assert not plan(picture).coarse
    video = ExamShape(steps=5000, slices=1, rows=480, columns=640, row_mm=1.0, column_mm=1.0)
    found = plan(video, along="t")
    assert found.steps < 5000
    assert found.steps * found.size[0] * found.size[1] <= 1_600_000
    assert "in a row" in found.reasons["steps"]
    cine = ExamShape(steps=20, slices=10, rows=60, columns=60, row_mm=1.5, column_mm=1.5)
    assert plan(cine, along="t").definition["dimensions"] == 3


def test_classes_that_are_sides_are_not_mirrored() -> None:
    assert plan(HEAD).flip == 0.5
    assert plan(HEAD, classes=("left_hip", "right_hip")).flip == 0.0


def test_classes_are_learned_without_dropout_and_with_milder_changes_than_outlines() -> None:
    made = plan(HEAD)
    assert made.definition["dropout"] == 0
    usual, mild = AugmentSettings(), made.augmentation
    assert (mild.flip, mild.zoom, mild.rotate_degrees) == (0.5, 0.4 * usual.zoom, 0.4 * usual.rotate_degrees)
    assert "augment: 0.4  # less than for outlines" in str(made)
    still = made.overruled({"augment": 0, "flip": 0}).augmentation.model_dump(exclude={"extra"})
    assert set(still.values()) == {0}


def test_a_plan_is_written_and_read_again(tmp_path: Path) -> None:
    made = plan(HEAD)
    assert ClassPlan.read(made.save(tmp_path / "plan.yaml")) == made
    assert "steps: 24  # the longest exams have 24 slices" in str(made)
    (tmp_path / "plan.yaml").write_text("axis: z\n")
    with pytest.raises(SettingsError, match="has no channels, classes"):
        ClassPlan.read(tmp_path / "plan.yaml")
