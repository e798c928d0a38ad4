"""The public viewer functions on a `ViewerModel`: the main job without Qt, and where layers are drawn."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from napari.components import ViewerModel
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.colours import lesion_colour
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, Study, Visit, affine_from
from napari_medseq.viewer.layers.conversion import KEY
from napari_medseq.viewer.layers.placement import camera_of
from napari_medseq.viewer.opening import layer_data
from tests.narrowing import some
from tests.unit.training.small import CLASSIFIER, UNET, model

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


def test_following_painted_masks_is_at_most_one_step_of_undo(opened: ViewerModel) -> None:
    masks = verbs.label_layers(opened)
    history = verbs.editing_of(opened).history
    for mask in masks:
        mask.paint((0, 2, 2, 2), 1)
    strokes = list(history.done)
    verbs.track_layers(opened, masks)
    assert not verbs.painted(opened)
    assert history.done == strokes  # the first result cannot be taken back, so nothing of it can
    for mask in masks:
        mask.paint((0, 2, 20, 2), 1)
    strokes, waiting = list(history.done), verbs.painted(opened)
    verbs.track_layers(opened, masks)
    assert len(history.done) == len(strokes) + 1
    assert not verbs.painted(opened)
    assert verbs.undo(opened) == "following the lesions of sub-x"
    assert verbs.painted(opened) == waiting


def tilted(degrees: float = 25.0, **changes: Any) -> ImageSequence:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix() @ np.diag([1.0, 1.0, 4.0])
    data = np.arange(6 * 20 * 20, dtype=np.int32).reshape(6, 20, 20)
    return ImageSequence(data, ("z", "y", "x"), affine, **changes)


def test_a_study_folder_opens_on_one_visit_slider(opened: ViewerModel) -> None:
    assert [layer.name for layer in opened.layers] == [
        "sub-x ses-20200131 T1post", "sub-x ses-20200131 tumor", "sub-x ses-20200504 T1post", "sub-x ses-20200504 tumor",
    ]  # fmt: skip
    assert opened.dims.axis_labels == ("visit", "z", "y", "x")
    assert opened.dims.nsteps[0] == 2
    assert opened.dims.current_step[0] == 0
    study = verbs.study_of(opened)
    assert study.name == "sub-x"
    assert study.dates == [date(2020, 1, 31), date(2020, 5, 4)]
    for visit, here in zip(ms.read_study(opened.layers[0].metadata[KEY]["meta"]["source"].rsplit("/", 2)[0]).visits,
                           study.visits, strict=True):  # fmt: skip
        np.testing.assert_array_equal(here.images[0].data, visit.images[0].data)
        np.testing.assert_allclose(here.images[0].affine, visit.images[0].affine, atol=1e-4)


def test_the_brush_stays_with_the_visit_that_is_shown_and_nothing_is_drawn_anew_for_it(ball_study: Path) -> None:
    viewer, shown = ViewerModel(), list[str]()
    for item in layer_data(ball_study):
        (layer,) = verbs.add_layers(viewer, [item])
        layer.events.visible.connect(lambda event: shown.append(event.source.name))
    assert viewer.layers.selection.active.name == "sub-x ses-20200131 tumor"  # not the last one: it is of another visit
    assert shown == []  # napari draws the whole canvas anew where a layer is shown that was shown already


@pytest.mark.usefixtures("knows")
def test_the_main_job_on_a_viewer_model_equals_the_script(
    opened: ViewerModel, ball_study: Path, bright_bundle: Path
) -> None:
    scripted = ms.run(ball_study, bright_bundle)
    progression = verbs.run(opened, bright_bundle)
    layers = [layer for layer in opened.layers if layer.name.endswith("lesions")]
    assert len(layers) == 2
    for layer, ours, theirs in zip(layers, progression.labels, scripted.labels, strict=True):
        np.testing.assert_array_equal(some(ours).data, some(theirs).data)
        np.testing.assert_array_equal(verbs.to_sequence(layer).data, some(theirs).data)
        np.testing.assert_allclose(verbs.world_affine(layer), some(theirs).affine, atol=1e-4)
    assert progression.lesions.equals(scripted.lesions)


@pytest.mark.usefixtures("knows")
def test_tracked_labels_wear_the_colours_of_the_plots_and_are_updated_not_doubled(
    opened: ViewerModel, bright_bundle: Path
) -> None:

    verbs.run(opened, bright_bundle)
    count = len(opened.layers)
    layer = opened.layers["sub-x ses-20200504 lesions"]
    np.testing.assert_allclose(layer.get_color(1), lesion_colour(1), atol=0.01)
    assert layer.features["name"].tolist()[0] == "background"
    assert layer.translate[0] == 1
    # paint the first lesion away at the second visit and follow again
    layer.data[np.asarray(layer.data) == 1] = 0
    again = verbs.track_layers(opened)
    assert len(opened.layers) == count
    events = {(r.visit, r.lesion): r.event for r in again.lesions.itertuples()}
    assert events[(1, 1)] == "resolved"
    assert 1 not in np.unique(opened.layers["sub-x ses-20200504 lesions"].data)


def test_masks_that_lie_in_the_study_can_be_followed(opened: ViewerModel) -> None:
    progression = verbs.track_layers(opened, register="none")
    events = {(r.visit, r.lesion): r.event for r in progression.lesions.itertuples()}
    assert events[(1, 1)] == "growing"
    assert set(progression.dates) == {date(2020, 1, 31), date(2020, 5, 4)}


def test_visits_keep_their_images_and_places_when_an_earlier_one_is_closed(tmp_path: Path) -> None:
    for k, day in enumerate(("20200101", "20200301", "20200601")):
        image, box = np.zeros((8, 20, 20), np.int16), (slice(3, 6), slice(6, 12), slice(6, 12))
        image[box] = 100 * (k + 1)
        seq = ImageSequence(image, ("z", "y", "x"), affine_from((1, 1, 1)))
        ms.write(seq, tmp_path / "p" / f"ses-{day}" / "t1.nii.gz")
        mask = seq.labels_like((image > 0).astype(np.uint8), name="t1_seg", label_names={})
        ms.write(mask, tmp_path / "p" / f"ses-{day}" / "t1_seg.nii.gz")
    viewer = ViewerModel()
    verbs.open_path(viewer, tmp_path / "p")
    for layer in [one for one in viewer.layers if one.metadata[KEY]["ordinal"] == 0]:
        viewer.layers.remove(layer)
    masks = [layer for layer in viewer.layers if layer._type_string == "labels"]
    result = verbs.track_layers(viewer, masks, register="none")
    assert result.lesions["intensity_mean"].tolist() == [200, 300]
    lesions = verbs.result_of(viewer).layers
    assert [layer.metadata[KEY]["ordinal"] for layer in lesions] == [1, 2]
    assert [layer.translate[0] for layer in lesions] == [1, 2]
    assert [bool(visit.images) for visit in verbs.study_of(viewer).visits] == [False, True, True]


def test_lesions_of_undated_visits_stay_at_their_visits_where_one_between_has_no_mask(tmp_path: Path) -> None:
    for k in range(3):
        image = np.zeros((8, 20, 20), np.int16)
        image[3:6, 6:12, 6:12] = 100
        seq = ImageSequence(image, ("z", "y", "x"), affine_from((1, 1, 1)))
        ms.write(seq, tmp_path / "p" / f"ses-{k + 1}" / "t1.nii.gz")
        if k != 1:
            mask = seq.labels_like((image > 0).astype(np.uint8), name="t1_seg", label_names={})
            ms.write(mask, tmp_path / "p" / f"ses-{k + 1}" / "t1_seg.nii.gz")
    viewer = ViewerModel()
    with pytest.warns(ms.MedseqWarning, match="date of a visit is unknown"):
        verbs.open_path(viewer, tmp_path / "p")
    verbs.track_layers(viewer, register="none")
    assert [layer.metadata[KEY]["ordinal"] for layer in verbs.result_of(viewer).layers] == [0, 2]


def test_a_lesion_is_gone_to(opened: ViewerModel) -> None:
    progression = verbs.track_layers(opened, register="none")
    layers = [opened.layers["sub-x ses-20200131 lesions"], opened.layers["sub-x ses-20200504 lesions"]]
    assert verbs.go_to(opened, layers, 1, 1, center=True)
    assert opened.dims.point[0] == 1
    assert layers[1].selected_label == 1
    world = (*opened.dims.point[:2], *camera_of(opened).center[-2:])
    assert layers[1].get_value(world, world=True) == 1
    gone = int(progression.lesions.query("event == 'resolved'")["lesion"].iloc[0])
    assert not verbs.go_to(opened, layers, 1, gone)


@pytest.mark.usefixtures("knows")
def test_segment_shows_named_labels_on_the_images_grid(opened: ViewerModel, bright_bundle: Path) -> None:
    image = opened.layers["sub-x ses-20200504 T1post"]
    labels, doubt = verbs.segment(opened, image, bright_bundle, outputs=("labels", "uncertainty"))
    assert labels.features["name"].tolist() == ["background", "lesion"]
    np.testing.assert_allclose(labels.affine.affine_matrix, image.affine.affine_matrix)
    assert (labels.scale == image.scale).all()
    assert (labels.translate == image.translate).all()
    assert labels.units == image.units
    assert doubt.name.endswith("uncertainty")
    assert "role" in doubt.metadata[KEY]  # no new image of the study


@pytest.mark.usefixtures("knows")
def test_a_model_along_visits_takes_layers_as_one_patients_visits(
    opened: ViewerModel, bright_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, asked = ms.load_model(bright_bundle), []
    along = replace(loaded, info=loaded.info.model_copy(update={"sequence_axis": "visit"}))
    alone = ms.segment

    def together(images: object, _model: object, **options: Any) -> object:
        assert isinstance(images, list)
        asked.extend(images)
        return [alone(v.images[0], loaded, **options) for v in images]

    monkeypatch.setattr(ms, "segment", together, raising=False)
    images = [layer for layer in opened.layers if layer.name.endswith("T1post")]
    assert len(verbs.segment(opened, images, along)) == 2
    assert [v.date for v in asked] == [date(2020, 1, 31), date(2020, 5, 4)]
    images[1].metadata[KEY]["study"] = "another"
    with pytest.raises(MedseqError, match="of 2 patients"):
        verbs.segment(opened, images, along)


@pytest.mark.usefixtures("knows")
def test_what_cannot_be_done_leaves_the_layers_as_they_were(opened: ViewerModel, bright_bundle: Path) -> None:
    before = list(opened.layers)
    image = opened.layers[0]
    with pytest.raises(MedseqError, match="no-such-model"):
        verbs.segment(opened, image, "no-such-model")
    with pytest.raises(MedseqError, match="called like"):
        verbs.run(opened, bright_bundle, series="*FLAIR*")
    with pytest.raises(MedseqError, match="same visit"):
        verbs.track_layers(opened, [opened.layers[1], opened.layers[1]])
    with pytest.raises(MedseqError, match="no label layers"):
        verbs.track_layers(opened, [])
    with pytest.raises(MedseqError, match="nothing"):
        verbs.study_of(opened, "nothing")
    with pytest.raises(MedseqError, match="no study is open"):
        verbs.study_of(ViewerModel())
    assert list(opened.layers) == before


def test_two_studies_are_told_apart(opened: ViewerModel) -> None:
    visit = Visit(date(2021, 1, 1), (tilted(name="a"),), (), "v1")
    later = Visit(None, (tilted(name="b"),), (), "v2")
    verbs.add_study(opened, Study("other", (visit, later)))
    with pytest.raises(MedseqError, match="sub-x, other"):
        verbs.study_of(opened)
    assert [v.name for v in verbs.study_of(opened, "other").visits] == ["v1", "v2"]


def test_world_placement_and_back() -> None:
    viewer = ViewerModel()
    layer = verbs.add_sequence(viewer, tilted())
    drawn = np.array(layer.data_to_world((0, 0, 0)))
    assert verbs.use_world_placement(viewer) == [layer]
    for index in ((0, 0, 0), (5, 19, 0), (3, 7, 11)):
        facts = layer.metadata[KEY]
        z, y, x = index
        voxel = (19 - x if facts["flips"][0] else x, 19 - y if facts["flips"][1] else y, z, 1)
        r, a, s, _ = verbs.world_affine(layer) @ voxel
        np.testing.assert_allclose(layer.data_to_world(index), (s, -a, -r), atol=1e-6)
    verbs.use_world_placement(layer, on=False)
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), drawn)


@pytest.mark.filterwarnings("error:Non-orthogonal")
def test_sagittal_slices_open_along_their_axis_head_up_and_rolling_keeps_clicks_true() -> None:
    viewer = ViewerModel()
    lps = np.zeros((4, 4))
    lps[:3, :3] = Rotation.from_euler("x", 20, degrees=True).as_matrix() @ [[0, 0, 5], [1, 0, 0], [0, -1, 0]]
    lps[3, 3] = 1
    affine = np.diag([-1, -1, 1, 1]) @ lps
    data = np.random.default_rng(0).integers(1, 1000, (8, 16, 12))
    seq = ImageSequence(data, ("z", "y", "x"), affine, kind="labels")  # slices run to the left
    layer = verbs.add_sequence(viewer, seq)
    assert [viewer.dims.axis_labels[a] for a in viewer.dims.order] == ["x", "z", "y"]
    assert str(camera_of(viewer).orientation2d[0]) == "up"
    for along in ("x", "z", "y"):
        verbs.step_through(viewer, along)
        assert str(camera_of(viewer).orientation2d[0]) == ("down" if along == "z" else "up")
        axis = viewer.dims.not_displayed[0]
        seen = set()
        for k in range(viewer.dims.nsteps[axis]):
            viewer.dims.set_current_step(axis, k)
            world = np.array(layer.data_to_world((4, 5, 6)))
            world[axis] = viewer.dims.point[axis]
            voxel = np.round(layer.world_to_data(world)).astype(int)
            down, right = viewer.dims.displayed
            assert layer.get_value(world, world=True) == layer._slice.image.raw[voxel[down], voxel[right]]
            seen.add(voxel[axis])
        assert seen == set(range(layer.data.shape[axis]))
    with pytest.raises(MedseqError, match="'q'"):
        verbs.step_through(viewer, "q")


def test_a_progression_alone_can_be_shown(opened: ViewerModel) -> None:
    progression = verbs.track_layers(opened, register="none")
    viewer = ViewerModel()
    shown = verbs.show_progression(viewer, progression)
    assert [layer.name for layer in shown] == ["sub-x ses-20200131 lesions", "sub-x ses-20200504 lesions"]
    assert viewer.dims.nsteps[0] == 2


def test_resampling_onto_another_layer_gives_true_overlay() -> None:
    def places(seq: ImageSequence) -> np.ndarray:
        index = np.stack(np.meshgrid(*[np.arange(n) for n in seq.grid], indexing="ij"), -1).transpose(2, 1, 0, 3)
        return index @ seq.affine[:3, :3].T + seq.affine[:3, 3]

    viewer = ViewerModel()
    one = tilted(name="one")
    one = one.replace(data=places(one) @ (1.0, 2.0, 3.0))  # a ramp in the patient
    two = ImageSequence(np.zeros((8, 8, 8)), ("z", "y", "x"), affine_from((1, 1, 1), (12.0, 8.0, 6.0)), name="two")
    moved = verbs.resample_onto(viewer, verbs.add_sequence(viewer, one), verbs.add_sequence(viewer, two))
    assert moved.name == "one on two"
    assert verbs.to_sequence(moved).same_grid(two)
    inside = places(two)
    np.testing.assert_allclose(
        verbs.to_sequence(moved).data[2:6, 2:6, 2:6], (inside @ (1, 2, 3))[2:6, 2:6, 2:6], atol=0.1
    )


def test_label_layers_without_a_study_are_followed() -> None:
    viewer = ViewerModel()
    for visit, size in enumerate((2, 4)):
        data = np.zeros((10, 20, 20), int)
        data[2 : 2 + size, 5 : 5 + size, 5 : 5 + size] = 1
        seq = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 2)), kind="labels", name=f"m{visit}")
        verbs.add_sequence(viewer, seq)
    progression = verbs.track_layers(viewer, list(viewer.layers))
    assert progression.lesions["event"].tolist() == ["baseline", "growing"]


_LOADED = """
import importlib, sys
import napari_medseq.viewer
print({"napari", "qtpy", "PySide6", "torch"} & set(sys.modules))
for name in sys.argv[1:]:
    importlib.import_module(name)
print({"torch", "monai", "pandas", "matplotlib", "SimpleITK", "sklearn", "scipy.ndimage", "scipy.optimize"} & set(sys.modules))
"""


def test_the_viewer_module_itself_loads_no_napari_and_its_widgets_nothing_heavy() -> None:
    import subprocess

    manifest = yaml.safe_load(Path(str(ms.__file__)).with_name("napari.yaml").read_text(encoding="utf-8"))
    names = [command["python_name"].partition(":")[0] for command in manifest["contributions"]["commands"]]
    assert sum(name.endswith("_widget") for name in names) >= 9
    done = subprocess.run([sys.executable, "-c", _LOADED, *names], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "set()"]


def test_several_models_are_averaged_on_layers(opened: ViewerModel, tmp_path: Path) -> None:
    layer = opened.layers["sub-x ses-20200131 T1post"]
    image = verbs.to_sequence(layer)
    outlining = [model(tmp_path / f"u{k}", UNET) for k in range(2)]
    (labels,) = verbs.segment(opened, layer, [m.info.folder for m in outlining])
    np.testing.assert_array_equal(verbs.to_sequence(labels).data, ms.segment(image, outlining).labels.data)
    telling = [model(tmp_path / f"c{k}", CLASSIFIER) for k in range(2)]
    answer = verbs.classify(layer, telling)
    assert answer.model == "c0 0 + c1 0"
    assert answer.probabilities == ms.classify(image, telling).probabilities
