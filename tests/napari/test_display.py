"""Windows, values under the cursor, diameters, numbers and colours: without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes
from skimage.measure import regionprops

import napari_medseq as ms
from napari_medseq import viewer as view
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import affine_from
from napari_medseq.viewer.results.colouring import BETTER, CHANGES, STABLE, UNKNOWN, WORSE, response_colour

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


def scan(modality: str | None, **meta: Any) -> ms.ImageSequence:
    data = np.random.default_rng(0).normal(40, 10, (4, 20, 30)).astype(np.float32)
    return ms.ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 3)), modality=modality, name="scan", meta=meta)


def shown(seq: ms.ImageSequence) -> tuple[Any, Any]:
    viewer = ViewerModel()
    return viewer, view.add_sequence(viewer, seq)


@pytest.fixture
def followed(ball_study: Path) -> Any:
    """The study of balls with its lesions followed."""
    viewer = ViewerModel()
    view.open_path(viewer, ball_study)
    view.track_layers(viewer)
    return viewer


# -- windows -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("lung", -1350, 150), ("bone", -500, 1300), ("brain", 0, 80), ("liver", -45, 105), ("mediastinum", -125, 225)],
)
def test_presets_are_hounsfield_units_on_the_layer(name: str, low: float, high: float) -> None:
    viewer, layer = shown(scan("CT"))
    assert view.set_window(viewer, layer, name) == (low, high)
    assert list(layer.contrast_limits) == [low, high]


def test_pet_has_windows_in_suv_whatever_its_voxels_are() -> None:
    viewer, layer = shown(scan("PT", suv_bw=0.001))
    assert "lung" not in view.window_presets(layer)
    assert view.set_window(viewer, layer, "SUV 0–7") == pytest.approx((0, 7000))
    assert view.set_window(viewer, layer, (2, 2)) == pytest.approx((1000, 3000))


def test_mr_has_percentiles_and_no_hounsfield_units() -> None:
    viewer, layer = shown(scan("MR"))
    with pytest.raises(MedseqError, match="no window 'lung'"):
        view.set_window(viewer, layer, "lung")
    low, high = view.set_window(viewer, layer, "5–95 %")
    assert (low, high) == pytest.approx(np.percentile(layer.data, (5, 95)), abs=0.1)
    with pytest.raises(MedseqError, match="width"):
        view.set_window(viewer, layer, (1, 0))


def test_a_file_that_does_not_say_what_it_is_has_hounsfield_windows_if_it_has_air() -> None:
    seq = scan(None)
    assert "lung" not in view.window_presets(shown(seq)[1])
    data = np.array(seq.data)
    data[:, :5] = -990
    assert "lung" in view.window_presets(shown(seq.replace(data=data))[1])


def test_padding_does_not_count_among_percentiles() -> None:
    seq = scan("CT", padding_value=-2000)
    data = np.array(seq.data)
    data[:, :10] = -2000
    viewer, layer = shown(seq.replace(data=data))
    low, high = view.set_window(viewer, layer, "all values")
    assert low > -100
    assert high < 200


def test_an_image_that_is_nearly_all_background_has_the_window_that_it_was_opened_with() -> None:
    data = np.zeros((10, 40, 40), np.float32)
    data[5, 20, 20] = 700  # beyond the 99.8th percentile
    viewer, layer = shown(scan("MR").replace(data=data))
    opened = tuple(layer.contrast_limits)
    assert view.set_window(viewer, layer, "0.5–99.8 %") == opened == (0, 700)


def test_a_window_holds_for_the_series_at_every_visit(followed: Any) -> None:
    images = [k for k in followed.layers if isinstance(k, Image)]
    assert len(images) == 2
    view.set_window(followed, images[0], (300, 200))
    assert [list(k.contrast_limits) for k in images] == [[200, 400]] * 2
    view.set_window(followed, images[0], (100, 20), everywhere=False)
    assert list(images[1].contrast_limits) == [200, 400]


def test_overlays_are_drawn_smooth() -> None:
    viewer, layer = shown(scan("PT"))
    values = np.array(layer.data)
    view.interpolate_image(viewer, layer, "cubic")
    assert str(layer.interpolation2d) == "cubic"
    assert np.array_equal(layer.data, values)


# -- values ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("modality", "meta", "factor", "unit"),
    [
        ("CT", {}, 1, "HU"),
        ("PT", {"suv_bw": 0.5}, 0.5, "SUV"),
        ("PT", {"suv_missing": "no weight"}, 1, ""),
        ("MR", {}, 1, ""),
    ],
)
def test_the_value_has_its_unit(modality: str, meta: dict[str, Any], factor: float, unit: str) -> None:
    viewer, layer = shown(scan(modality, **meta))
    viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    (reading,) = view.values_at(viewer, layer.data_to_world((2, 7, 9)))
    assert reading.value == pytest.approx(float(layer.data[2, 7, 9]) * factor)
    assert reading.unit == unit
    assert reading.text.endswith(unit)
    assert view.values_at(viewer, layer.data_to_world((2, 700, 9))) == []


def test_padding_is_said_to_be_none_and_labels_have_their_names() -> None:
    seq = scan("CT", padding_value=-2000)
    data = np.array(seq.data)
    data[:, :10] = -2000
    viewer, layer = shown(seq.replace(data=data))
    mask = seq.labels_like(np.full(seq.data.shape, 2, np.uint8), name="mask", label_names={2: "liver"})
    view.add_sequence(viewer, mask)
    label, value = view.values_at(viewer, layer.data_to_world((1, 3, 3)))
    assert label.text == "label 2 liver"
    assert value.value is None
    assert "padding" in value.text


def test_only_the_visit_that_is_shown_is_read(followed: Any) -> None:
    for visit in (0, 1):
        followed.dims.set_point(0, visit)
        for reading in view.values_at(followed, followed.dims.point):
            assert reading.layer.translate[0] == visit


def test_values_are_written_in_the_canvas_and_go(followed: Any) -> None:
    view.show_values(followed)
    followed.cursor.position = tuple(followed.dims.point)
    overlay = followed.canvas.overlays["medseq values"]
    assert "T1post:" in overlay.text
    view.show_values(followed, False)
    assert not overlay.visible


def test_values_are_those_after_a_correction_and_its_undo(followed: Any) -> None:
    view.show_values(followed)
    tracked: Any = view.result_of(followed).layer_at(0)
    index = np.argwhere(tracked.data)[0]
    lesion, place = int(tracked.data[tuple(index)]), tracked.data_to_world(index)
    for axis, at in enumerate(place):
        followed.dims.set_point(axis, at)
    followed.cursor.position = tuple(place)
    overlay = followed.canvas.overlays["medseq values"]
    assert f"label {lesion} lesion" in overlay.text
    view.correct(followed, "exclude", lesion)
    assert f"label {lesion} lesion" not in overlay.text
    view.undo(followed)
    assert f"label {lesion} lesion" in overlay.text


# -- diameters and numbers ---------------------------------------------------------------------------------------------
def test_diameters_are_drawn_where_and_as_long_as_measured(followed: Any) -> None:
    table = view.result_of(followed).progression.lesions
    layers = view.show_diameters(followed)
    assert all(isinstance(layer, Shapes) for layer in layers)
    for visit, layer in enumerate(layers):
        tracked: Any = view.result_of(followed).layer_at(visit)
        rows = table[(table["visit"] == visit) & (table["volume_ml"] > 0)].set_index("lesion")
        assert len(layer.data) == 2 * len(rows)
        affine = view.world_affine(tracked)
        for (k, line), lesion in zip(enumerate(layer.data), layer.features["lesion"], strict=True):
            one, other = (affine[:3, :3] @ (end[:0:-1]) for end in line)
            wanted = rows.loc[lesion, "longest_mm" if k % 2 == 0 else "perpendicular_mm"]
            assert np.linalg.norm(one - other) == pytest.approx(wanted, abs=1e-6)
            assert line[0][1] == line[1][1] == round(line[0][1])  # within one slice
            mask = np.asarray(tracked.data)[0, int(line[0][1])] == lesion
            (region,) = regionprops(mask.astype(np.uint8))
            low, high = np.array(region.bbox[:2]) - 0.51, np.array(region.bbox[2:]) - 0.49
            assert ((line[:, 2:] >= low) & (line[:, 2:] <= high)).all()
        pairs = [layer.data[k : k + 2] for k in range(0, len(layer.data), 2)]
        for longest, across in pairs:
            a, b = (affine[:3, :3] @ (p[1] - p[0])[:0:-1] for p in (longest, across))
            assert abs(a @ b) < 1e-6 * np.linalg.norm(a) * np.linalg.norm(b) + 1e-9


def test_drawing_again_replaces_and_masks_stay_active(followed: Any) -> None:
    active = followed.layers.selection.active
    first = view.show_diameters(followed)
    again = view.show_diameters(followed)
    assert not set(first) & set(followed.layers)
    assert followed.layers.selection.active == active
    view.hide_marks(followed)
    assert not set(again) & set(followed.layers)
    assert len(view.study_of(followed).visits) == 2


def test_numbers_stand_in_every_slice_of_a_lesion(followed: Any) -> None:
    for visit, layer in enumerate(view.show_numbers(followed)):
        assert isinstance(layer, Points)
        tracked: Any = view.result_of(followed).layer_at(visit)
        data = np.asarray(tracked.data)
        at = np.round(layer.data).astype(int)
        numbers = layer.features["lesion"].to_numpy()
        assert np.array_equal(data[tuple(at.T)], numbers)
        for lesion in np.unique(numbers):
            slices = np.flatnonzero((data[0] == lesion).any(axis=(1, 2)))
            assert sorted(at[numbers == lesion, 1].tolist()) == slices.tolist()


def test_nothing_is_drawn_before_lesions_are_followed(ball_study: Path) -> None:
    viewer = ViewerModel()
    view.open_path(viewer, ball_study)
    for draw in (view.show_diameters, view.show_numbers, view.colour_by):
        with pytest.raises(MedseqError, match="No lesions are followed"):
            draw(viewer)


# -- colours -----------------------------------------------------------------------------------------------------------
def test_colours_say_what_became_of_a_lesion(followed: Any) -> None:
    found = view.result_of(followed)
    legend = view.colour_by(followed, "change")
    table = found.progression.lesions
    for _, row in table[table["volume_ml"] > 0].iterrows():
        layer: Labels = found.layer_at(int(row["visit"]))
        assert layer.get_color(int(row["lesion"])) == pytest.approx(CHANGES[row["event"]], abs=0.01)
        assert legend[row["event"]] == CHANGES[row["event"]]
    before = view.colour_by(followed, "identity")
    assert len(before) == table["lesion"].nunique()


def test_response_colours_a_whole_visit_and_corrections_keep_the_meaning(followed: Any) -> None:
    found = view.result_of(followed)
    view.colour_by(followed, "response", rule="volumetric")
    category = found.progression.response("volumetric").verdicts[-1].category
    layer: Any = found.layer_at(1)
    lesions = [int(v) for v in np.unique(layer.data) if v]
    assert all(layer.get_color(i) == pytest.approx(response_colour(category), abs=0.01) for i in lesions)
    view.correct(followed, "exclude", lesions[-1])
    assert view.meaning_of_colours(followed, found.source.name) == "response"
    now = view.result_of(followed)
    category = now.progression.response("volumetric").verdicts[-1].category
    assert now.layers[1].get_color(lesions[0]) == pytest.approx(response_colour(category), abs=0.01)
    with pytest.raises(MedseqError, match="cannot be coloured"):
        view.colour_by(followed, "size")


@pytest.mark.parametrize(
    ("category", "colour"),
    [("CR", BETTER), ("PR (unconfirmed)", BETTER), ("SD", STABLE), ("non-CR/non-PD", STABLE), ("PD", WORSE), ("no growth", STABLE),
     ("growth", WORSE), ("not active", STABLE), ("active", WORSE), ("not evaluable", UNKNOWN)],
)  # fmt: skip
def test_categories_of_all_rules_have_a_colour(category: str, colour: tuple[float, ...]) -> None:
    assert response_colour(category) == colour


def test_values_follow_layers_that_are_hidden_shown_added_and_removed(followed: Any) -> None:
    view.show_values(followed)
    followed.cursor.position = tuple(followed.dims.point)
    overlay = followed.canvas.overlays["medseq values"]
    images = [layer for layer in followed.layers if "T1post" in layer.name and layer._type_string == "image"]
    for layer in images:
        layer.visible = False
    assert "T1post:" not in overlay.text
    images[0].visible = True
    assert "T1post:" in overlay.text
    other = followed.add_image(
        np.full(images[0].data.shape, 7.0), name="other", scale=images[0].scale, translate=images[0].translate
    )
    assert "other: 7" in overlay.text
    other.visible = False
    assert "other" not in overlay.text
    followed.layers.clear()
    assert not overlay.visible
