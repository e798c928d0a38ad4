"""The objects: axes by name, checked at construction, derived without losing their place."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.errors import GeometryError, MedseqError
from napari_medseq.sequence import (
    AXES,
    ImageSequence,
    Study,
    Visit,
    affine_from,
    check_same_grid,
    matches,
    matches_name,
)

LENGTHS = {"t": 4, "z": 5, "y": 6, "x": 7, "c": 3}


def make(axes: tuple[str, ...] = ("z", "y", "x"), **changes: Any) -> ImageSequence:
    fields: dict[str, Any] = {"data": np.zeros([LENGTHS.get(a, 1) for a in axes]), "axes": axes, "affine": np.eye(4)}
    return ImageSequence(**{**fields, **changes})


@given(st.sets(st.sampled_from(AXES)).map(lambda s: tuple(a for a in AXES if a in s)))
def test_every_allowed_set_of_axes_is_addressed_by_name(axes: tuple[str, ...]) -> None:
    if not {"y", "x"} <= set(axes):
        with pytest.raises(MedseqError, match="lack"):
            make(axes)
        return
    seq = make(axes)
    assert seq.sizes == {a: LENGTHS[a] for a in axes}
    for name in AXES:
        assert seq.size(name) == (LENGTHS[name] if name in axes else 1)
        if name in axes:
            assert seq.data.shape[seq.axis(name)] == LENGTHS[name]
        else:
            with pytest.raises(MedseqError, match=name):
                seq.axis(name)
    assert seq.grid == (7, 6, 5 if "z" in axes else 1)


@settings(max_examples=50)
@given(st.permutations(("t", "z", "y", "x")))
def test_axes_in_another_order_are_refused(axes: list[str]) -> None:
    if tuple(axes) == ("t", "z", "y", "x"):
        assert make(tuple(axes)).axes == tuple(axes)
    else:
        with pytest.raises(MedseqError, match="in that order"):
            make(tuple(axes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": np.zeros((2, 2))}, "dimensions"),
        ({"axes": ("z", "y", "q")}, "distinct names"),
        ({"times": [0.0]}, "no axis 't'"),
        ({"slice_axis": "t"}, "slice_axis"),
        ({"kind": "mask"}, "kind"),
        ({"kind": "labels"}, "whole numbers"),
        ({"axes": ("y", "x", "c"), "data": np.zeros((4, 4, 2))}, "RGB"),
        ({"axes": ("t", "y", "x"), "times": [0.0, 1.0]}, "2 times for 5 frames"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(MedseqError, match=says):
        make(**{"data": np.zeros((5, 6, 7)), **changes})


def test_an_unusable_affine_is_refused() -> None:
    with pytest.raises(GeometryError, match="singular"):
        make(affine=np.diag([0.0, 1.0, 1.0, 1.0]))


def test_uneven_times_are_kept_and_cannot_be_changed() -> None:
    times = np.array([0.0, 1.5, 9.0, 30.0])
    seq = make(("t", "z", "y", "x"), times=times)
    times[0] = 5
    assert seq.times is not None
    np.testing.assert_array_equal(seq.times, [0, 1.5, 9, 30])
    with pytest.raises(ValueError, match="read-only"):
        seq.times[0] = 1
    assert seq.frame(2).axes == ("z", "y", "x")
    assert seq.frame(2).times is None


def test_missing_times_are_one_second_apart() -> None:
    seq = make(("t", "y", "x"))
    assert seq.times is not None
    np.testing.assert_array_equal(seq.times, [0, 1, 2, 3])


def test_frame_takes_the_named_frame() -> None:
    data = np.arange(4 * 5 * 6 * 7).reshape(4, 5, 6, 7)
    seq = make(("t", "z", "y", "x"), data=data)
    np.testing.assert_array_equal(seq.frame(3).data, data[3])


def test_labels_like_keep_place_and_time_and_drop_colour() -> None:
    affine = affine_from((1, 2, 3), (10, 20, 30))
    image = make(("t", "y", "x", "c"), affine=affine, times=[0, 1, 5, 9], meta={"stored": {"order": [0, 1, 2]}})
    labels = image.labels_like(np.zeros((4, 6, 7), np.uint8), name="mask", label_names={1: "tumour"})
    assert labels.axes == ("t", "y", "x")
    assert labels.kind == "labels"
    assert labels.label_names == {1: "tumour"}
    assert labels.meta == image.meta
    np.testing.assert_array_equal(labels.affine, affine)
    np.testing.assert_array_equal(labels.times, image.times)
    assert labels.same_grid(image)


def test_spacing_goes_by_axis_name() -> None:
    assert make(affine=affine_from((1, 2, 3))).spacing == pytest.approx({"x": 1, "y": 2, "z": 3})


def test_same_grid_looks_at_places_not_only_shapes() -> None:
    seq = make()
    assert seq.same_grid(make(affine=affine_from((-1, -1, 1))))
    assert not seq.same_grid(make(affine=affine_from((-1, -1, 1), (0, 0, 0.01))))
    assert not seq.same_grid(make(("y", "x")))


def test_a_volume_is_refused_where_there_are_frames_or_colours() -> None:
    assert make(("y", "x")).volume_zyx().shape == (1, 6, 7)
    assert make().volume_zyx().shape == (5, 6, 7)
    with pytest.raises(MedseqError, match="Choose a frame"):
        make(("t", "z", "y", "x")).volume_zyx()
    with pytest.raises(MedseqError, match="colours have to be one grey channel first"):
        make(("y", "x", "c")).volume_zyx()


def test_lazy_voxels_are_computed_once_asked() -> None:
    da = pytest.importorskip("dask.array")
    seq = make(data=da.ones((5, 6, 7), chunks=1))
    assert seq.is_lazy
    done = seq.compute()
    assert not done.is_lazy
    assert isinstance(done.data, np.ndarray)
    assert done.compute() is done


def test_repr_says_what_it_is() -> None:
    assert repr(make(modality="MR", name="T1")) == "<ImageSequence 'T1' image MR z5 y6 x7 1×1×1 mm>"


def test_visits_are_sorted_by_date_only_when_all_are_known() -> None:
    late, early, unknown = Visit(date(2021, 5, 1)), Visit(datetime(2020, 1, 31, 12)), Visit(None)
    assert Study("s", (late, early)).dates == [date(2020, 1, 31), date(2021, 5, 1)]
    assert Study("s", (late, unknown, early)).dates == [date(2021, 5, 1), None, date(2020, 1, 31)]


@pytest.mark.parametrize(
    ("name", "patterns", "fits"),
    [
        ("sub-01_T1c", "*t1C", True),
        ("sub-01_T1c", ["*T2*", "SUB-0?_*"], True),
        ("T1 [post]", "T1 [post]", True),
        ("T1p", "T1[op]", True),
        ("Straße", "STRASSE", True),
        ("T1", [], False),
        ("T1", "", False),
        ("T10", "T1", False),
    ],
)
def test_names_are_matched_whatever_their_case(name: str, patterns: str | list[str], fits: bool) -> None:
    assert matches_name(name, patterns) is fits
    assert matches(make(name=name), patterns) is fits


def test_a_series_is_also_named_by_its_uid() -> None:
    seq = make(name="T1", meta={"series_uid": "1.2.840.1"})
    assert matches(seq, "1.2.840.1")
    assert matches(seq, ["FLAIR", "1.2.840.1"])
    assert not matches(seq, "1.2.840.2")
    assert not matches(make(name="T1"), "1.2.840.1")


def test_another_grid_is_refused_with_both_grids_and_the_way_out() -> None:
    image = make(name="image")
    check_same_grid(image, make(), make(affine=image.affine + np.eye(4, k=3) * 5e-4))
    moved = image.replace(affine=np.array([[1, 0, 0, 2.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), name="mask")
    with pytest.raises(GeometryError, match=r"^visit 2: mask \(z5 y6 x7, 1×1×1 mm, from \(2\.0, .*image \(.*resample"):
        check_same_grid(image, image, moved, where="visit 2")
    with pytest.raises(MedseqError, match="resample"):
        check_same_grid(image, make(("y", "x"), name="mask"))
    check_same_grid(image, moved, tolerance_mm=2.5)


def test_the_frames_of_a_series_count_unless_only_the_space_is_asked_for() -> None:
    series, mask = make(("t", "z", "y", "x")), make(name="mask")
    check_same_grid(series, mask, frames=False)
    with pytest.raises(GeometryError, match="choose the frame"):
        check_same_grid(series, mask)
    check_same_grid(make(("y", "x", "c")), make(("y", "x")))


def test_moments_of_acquisition_can_be_compared_whether_or_not_they_state_a_zone() -> None:
    moments = (datetime(2020, 1, 31, 10, tzinfo=UTC), datetime(2020, 1, 31, 11))
    first, second = (ImageSequence(np.zeros((2, 2)), ("y", "x"), np.eye(4), acquired=at).acquired for at in moments)
    assert first is not None
    assert second is not None
    assert first < second


def _image(**facts: Any) -> ImageSequence:
    given: dict[str, Any] = {"data": np.zeros((2, 2, 2), np.uint8), "axes": ("z", "y", "x"), "affine": np.eye(4)}
    return ImageSequence(**given | facts)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"data": np.zeros((2, 2, 2), complex)}, "complex128"),
        ({"data": np.zeros((2, 2, 2), object)}, "object"),
        ({"data": np.full((2, 2, 2), "a")}, "U1"),
        ({"data": np.zeros((2, 2, 2), "datetime64[s]")}, "datetime64"),
        ({"data": np.ma.masked_equal(np.zeros((2, 2, 2)), 0)}, "masked array"),
        ({"affine": "x"}, "4×4"),
        ({"acquired": 20200131}, "acquired: 20200131 is not a date"),
        ({"kind": "labels", "label_names": ["background", "lesion"]}, "label_names is .* give a mapping"),
        ({"axes": ("t", "y", "x"), "times": [0, np.nan]}, "times"),
    ],
)
def test_facts_of_another_type_are_one_clear_error(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(MedseqError, match=words):
        _image(**facts)


def test_facts_of_like_types_are_taken() -> None:
    seq = _image(kind="labels", label_names={"1": "a", np.int64(2): "b"}, acquired=np.datetime64("2020-01-31"))
    assert seq.label_names == {1: "a", 2: "b"}
    assert seq.acquired == datetime(2020, 1, 31)
    cine = _image(axes=("t", "y", "x"), times=np.array([0, 40], "timedelta64[ms]"))
    assert cine.times is not None
    assert cine.times.tolist() == [0.0, 0.04]


def test_visits_and_studies_take_dates_of_any_type_and_refuse_what_is_no_image() -> None:
    visits = [Visit(day, [_image()], (), f"v{k}") for k, day in enumerate(["2020-05-04", np.datetime64("2020-01-31")])]  # type: ignore[arg-type]
    assert Study("p", visits).dates == [date(2020, 1, 31), date(2020, 5, 4)]  # type: ignore[arg-type]
    assert len(Visit(None, _image()).images) == 1  # type: ignore[arg-type]
    with pytest.raises(MedseqError, match="v1: images hold str"):
        Visit(None, ["a.nii"], (), "v1")  # type: ignore[arg-type]
    with pytest.raises(MedseqError, match="p: visits hold ImageSequence; give a list of Visit"):
        Study("p", [_image()])  # type: ignore[arg-type]
