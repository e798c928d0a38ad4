"""Plans: whatever the data are like, the network can be built, the window fits it, and every choice has a reason."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.errors import SettingsError
from napari_medseq.inference.doubts import Doubt
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.automatic.judging import Judged
from napari_medseq.training.automatic.kind import Kind
from napari_medseq.training.automatic.plan import Plan, make_plan
from napari_medseq.training.automatic.training import _with_doubt
from tests.unit.training.automatic.fingerprints import facts

SIDE = st.integers(1, 600)
MM = st.floats(0.2, 12)


@given(
    shape=st.tuples(SIDE, SIDE, SIDE),
    spacing=st.tuples(MM, MM, MM),
    cases=st.integers(1, 500),
    minutes=st.floats(0.5, 600),
    frames=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_any_data_get_a_plan_that_fits_together(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], cases: int, minutes: float, frames: bool
) -> None:
    plan = make_plan(facts(shape, spacing, cases=cases, frames=frames), seconds=60 * minutes, bfloat16=True)
    assert len(plan.widths) == len(plan.strides) + 1
    whole = [math.prod(s[k] for s in plan.strides) for k in range(3)]
    assert all(n % m == 0 and n >= m for n, m in zip(plan.window, whole, strict=True))
    assert math.prod(plan.window) < 600_000
    assert {"axis", "spacing_mm", "window", "strides", "batch", "bfloat16", "mirrored", "schemes"} <= set(plan.reasons)
    assert "optimiser" in plan.reasons


def test_small_cubes_are_seen_whole_and_steps_shrink_later_than_pixels() -> None:
    plan = make_plan(facts(), seconds=1110, bfloat16=True)
    assert plan.axis == "y"
    assert plan.strides == ((1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert all(w >= n for w, n in zip(plan.window, (50, 35, 35), strict=True))
    assert plan.spacing_mm == (1.0, 1.0, 1.0)


def test_thick_slices_stay_as_they_are_and_are_not_tilted() -> None:
    plan = make_plan(facts((256, 256, 10), (1.4, 1.4, 8.0)), seconds=3600, bfloat16=True)
    assert plan.axis == "z"
    assert plan.spacing_mm[0] is None
    assert plan.augment.tilt == 0
    assert all(s[0] == 1 for s in plan.strides[:3])


def test_frames_of_sagittal_planes_are_not_mirrored_from_front_to_back() -> None:
    plane = facts((256, 256, 30), (1.0, 1.0, 0.04), frames=True)
    assert make_plan(plane, seconds=3600, bfloat16=True).mirrored == ("column",)
    plan = make_plan(plane.model_copy(update={"left_right": False}), seconds=3600, bfloat16=True)
    assert not plan.mirrored
    assert not any(plan.augment.mirror)
    assert "sagittal" in plan.reasons["mirrored"]


def test_frames_are_steps() -> None:
    plan = make_plan(facts((256, 256, 30), (1.0, 1.0, 0.04), frames=True), seconds=3600, bfloat16=True)
    assert plan.axis == "t"
    assert plan.spacing_mm[0] is None


def test_little_time_makes_voxels_larger_but_not_larger_than_the_smallest_class_allows() -> None:
    large = facts((512, 512, 100), (0.8, 0.8, 3.0), cases=40, size=200_000.0)
    short, long = (make_plan(large, seconds=60 * m, bfloat16=True) for m in (10, 600))
    assert short.spacing_mm[1] is not None
    assert long.spacing_mm[1] is not None
    assert short.spacing_mm[1] > long.spacing_mm[1]
    tiny = make_plan(facts((512, 512, 100), (0.8, 0.8, 3.0), cases=40, size=20.0), seconds=600, bfloat16=True)
    assert tiny.spacing_mm[1] == pytest.approx(0.8)


def test_hounsfield_units_are_kept_and_other_units_are_not() -> None:
    ct = make_plan(facts(modality="CT"), seconds=600, bfloat16=True).schemes[0]
    assert (ct.kind, ct.centre, ct.scale, ct.low) == ("fixed", 50.0, 40.0, -150 / 40)
    assert make_plan(facts(modality="MR"), seconds=600, bfloat16=True).schemes[0].kind == "robust"


def test_left_and_right_are_mirrored_only_where_no_class_is_told_by_its_side() -> None:
    assert make_plan(facts(sided=False), seconds=600, bfloat16=True).mirrored == ("column",)
    plan = make_plan(facts(sided=True), seconds=600, bfloat16=True)
    assert plan.mirrored == ()
    assert plan.augment.mirror == (0, 0, 0)


def test_where_all_labels_lie_in_the_middle_no_more_is_looked_at() -> None:
    heart = partial(facts, (256, 256, 10), (1.4, 1.4, 8.0), reach=(60.0, 50.0, 40.0), cases=60)
    plan = make_plan(heart(off=(20.0, 20.0, 8.0)), seconds=3600, bfloat16=True)
    assert plan.focus[0] is None
    rows, columns = plan.focus[1:]
    assert rows is not None
    assert columns is not None
    assert rows * 1.4 >= 2 * 50
    assert columns * 1.4 >= 2 * 60
    assert max(rows, columns) < 192
    assert plan.position is not None
    assert "middle" in plan.reasons["focus"]
    apart = make_plan(heart(off=(40.0, 20.0, 8.0)), seconds=3600, bfloat16=True)
    assert apart.position is None  # the middle of the image is not that of what is labelled
    middle = partial(heart, off=(0.0, 0.0, 0.0))
    for other in (middle(reach=(150.0, 50.0, 40.0)), middle(cases=5), middle(measured=5), middle(reach=None)):
        everywhere = make_plan(other, seconds=3600, bfloat16=True)
        assert everywhere.focus == (None, None, None)
        assert everywhere.position is None


def test_several_channels_are_learned_to_be_missed() -> None:
    assert make_plan(facts(channels=3), seconds=600, bfloat16=True).augment.drop_channel > 0
    assert make_plan(facts(), seconds=600, bfloat16=True).augment.drop_channel == 0
    colours = facts(names=("red", "green", "blue"))  # which are never missing
    assert make_plan(colours, seconds=600, bfloat16=True).augment.drop_channel == 0


def test_a_plan_can_be_written_changed_and_read(tmp_path: Path) -> None:
    plan = make_plan(facts(), seconds=600, bfloat16=True)
    path = plan.save(tmp_path / "plan.yaml")
    assert Plan.read(path) == plan
    path.write_text(path.read_text().replace("batch: 2", "batch: 3"))
    assert Plan.read(path).batch == 3
    assert "# voxels are about as long as wide" in str(plan)
    path.write_text("axis: q\n")
    with pytest.raises(SettingsError, match="axis"):
        Plan.read(path)
    path.write_text("- 1\n")
    with pytest.raises(SettingsError, match="names and values"):
        Plan.read(path)
    assert isinstance(plan, Plan)


def test_of_a_group_of_settings_only_what_is_given_changes() -> None:
    plan = make_plan(facts(), seconds=60, bfloat16=False)
    assert plan.augment.mirror[2] > 0
    changed = plan.overruled({"augment": {"invert": 0.1}})
    assert changed.augment == plan.augment.model_copy(update={"invert": 0.1})
    assert changed.reasons["augment"] == "as the settings say"


def test_doubts_that_somebody_took_out_of_a_plan_stay_out() -> None:
    found, config = Judged({}, 0.3), AutoConfig(data="data", out="out")
    many, few = (facts().model_copy(update={"kind": Kind(patients=n, field_mm=(200, 220))}) for n in (12, 9))
    plan = make_plan(many, seconds=600)
    measured = _with_doubt(config, plan, many, found).doubt
    assert measured is not None
    assert measured.above == 0.3
    assert measured.field_mm is not None
    assert _with_doubt(config, plan.model_copy(update={"doubt": None}), many, found).doubt is None
    assert make_plan(few, seconds=600).doubt is None
    assert _with_doubt(config, make_plan(few, seconds=600), few, found).doubt == Doubt(above=0.3)
