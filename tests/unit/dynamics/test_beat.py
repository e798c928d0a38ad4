"""A beat of a cine whose volumes are known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseq.dynamics import measure_beat
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, affine_from

SIDES = (10, 8, 6, 8)
WALL = 12


@pytest.fixture
def cine() -> ImageSequence:
    """A square cavity of 10, 8, 6 and 8 pixels a side in a square of 12, over three slices; voxels of 1 mm³."""
    data = np.zeros((4, 3, 20, 20), np.uint8)
    for frame, side in enumerate(SIDES):
        data[frame, :, 4 : 4 + WALL, 4 : 4 + WALL] = 2
        start = 4 + (WALL - side) // 2
        data[frame, :, start : start + side, start : start + side] = 1
    return ImageSequence(
        data,
        ("t", "z", "y", "x"),
        affine_from((1, 1, 1)),
        times=np.array([0.0, 0.2, 0.4, 0.6]),
        kind="labels",
        label_names={1: "cavity", 2: "wall"},
        name="cine",
    )


def test_volumes_ejection_and_thickening(cine: ImageSequence) -> None:
    beat = measure_beat(cine, 1, 2)
    own = beat.volumes[beat.volumes["lesion"] == 1]
    assert own["mean"].tolist() == pytest.approx([3 * side**2 / 1000 for side in SIDES])
    assert own["time_s"].tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6])
    cavity = beat.pumped.set_index("label").loc["cavity"]
    assert cavity["ejection_fraction_percent"] == pytest.approx(100 * (100 - 36) / 100)
    assert (cavity["end_diastole"], cavity["end_systole"]) == (0, 2)
    assert beat.walls is not None
    assert (beat.walls["thickening_percent"] > 0).all()


@pytest.mark.parametrize(("slice_axis", "order"), [("y", (0, 2, 1, 3)), ("x", (0, 2, 3, 1))])
def test_slices_may_lie_along_any_axis(cine: ImageSequence, slice_axis: str, order: tuple[int, ...]) -> None:
    """Readers bring short-axis slices to the package's orientation, where they follow each other along whichever axis is nearest."""
    spacing = {"z": 1.5, "y": 1.5, "x": 1.5, slice_axis: 8.0}
    turned = cine.replace(
        data=np.asarray(cine.data).transpose(order),
        slice_axis=slice_axis,
        affine=affine_from([spacing[a] for a in "xyz"]),
    )
    one = measure_beat(cine.replace(affine=affine_from((1.5, 1.5, 8))), 1, 2).walls
    other = measure_beat(turned, 1, 2).walls
    assert one is not None
    assert other is not None
    assert other["end_diastolic_mm"].tolist() == pytest.approx(one["end_diastolic_mm"].tolist())
    assert other["thickening_percent"].tolist() == pytest.approx(one["thickening_percent"].tolist())


def test_walls_are_measured_only_where_both_are_named(cine: ImageSequence) -> None:
    assert measure_beat(cine, 1).walls is None


def test_nothing_labelled_is_said(cine: ImageSequence) -> None:
    with pytest.raises(MedseqError, match="no label in any frame"):
        measure_beat(cine.replace(data=np.zeros_like(np.asarray(cine.data))))


def test_frames_that_nobody_segmented_are_no_end_of_systole(cine: ImageSequence) -> None:
    two = np.zeros_like(np.asarray(cine.data))
    two[[1, 2]] = np.asarray(cine.data)[[1, 2]]  # as many data sets label them: end-diastole and end-systole alone
    beat = measure_beat(cine.replace(data=two), 1, 2)
    cavity = beat.pumped.set_index("label").loc["cavity"]
    assert cavity["ejection_fraction_percent"] == pytest.approx(100 * (64 - 36) / 64)
    assert (cavity["end_diastole"], cavity["end_systole"]) == (1, 2)
    assert beat.walls is not None
    assert beat.walls["thickening_percent"].notna().all()


def test_a_label_of_one_frame_pumps_nothing(cine: ImageSequence) -> None:
    one = np.zeros_like(np.asarray(cine.data))
    one[1] = np.asarray(cine.data)[1]
    beat = measure_beat(cine.replace(data=one))
    assert beat.pumped.empty
    assert "ejection_fraction_percent" in beat.pumped
    assert set(beat.volumes["label"]) == {"cavity", "wall"}
