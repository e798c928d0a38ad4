"""Preprocessing on a `ViewerModel`: the same voxels as a script's, masks that follow, recipes and transforms that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.preprocess.preview_picture import picture_of
from napari_medseq.errors import MedseqError, RegistrationError, SettingsError
from napari_medseq.preprocessing import STEPS, Job, Percentile, Step
from napari_medseq.preprocessing.pipeline import StepLike
from napari_medseq.registration import Transform
from napari_medseq.sequence import ImageSequence, affine_from

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")

FIRST, SECOND = "sub-x ses-20200131 T1post", "sub-x ses-20200504 T1post"
MASK = "sub-x ses-20200504 tumor"


def small(**changes: object) -> ImageSequence:
    data = np.random.default_rng(3).normal(100, 20, (4, 10, 12)).astype(np.float32)
    return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 3))).replace(**changes)


# -- the result --------------------------------------------------------------------------------------------------------
def test_a_layer_gets_what_a_script_gets_and_keeps_its_recipe(opened: ViewerModel) -> None:
    steps: list[StepLike] = ["percentile", {"kind": "resample", "spacing": (3.0, 4.0, 4.0)}]
    (new,) = verbs.preprocess(opened, opened.layers[SECOND], steps)
    wanted = ms.preprocess(verbs.to_sequence(opened.layers[SECOND]), steps)
    found = verbs.to_sequence(new)
    np.testing.assert_array_equal(found.data, wanted.data)
    np.testing.assert_allclose(found.affine, wanted.affine)
    assert new.name == f"{SECOND} (percentile, resample)"
    assert new.translate[0] == 1
    # the recipe of the layer does to another one what it did to this one
    assert [s.kind for s in verbs.recipe_of(new)] == ["percentile", "resample"]
    again = ms.preprocess(verbs.to_sequence(opened.layers[SECOND]), verbs.recipe_of(new))
    np.testing.assert_array_equal(again.data, wanted.data)
    assert verbs.recipe_of(opened.layers[SECOND]) == []


def test_results_are_none_of_the_study(opened: ViewerModel) -> None:
    verbs.preprocess(opened, [opened.layers[SECOND], opened.layers[MASK]], ["crop"])
    study = verbs.study_of(opened)
    assert [len(v.images) for v in study.visits] == [1, 1]
    assert [len(v.labels) for v in study.visits] == [1, 1]


def test_one_layer_that_fails_does_not_take_the_others_with_it() -> None:
    viewer = ViewerModel()
    layers = [verbs.add_sequence(viewer, small(name=m, modality=m)) for m in ("MR", "CT")]
    with pytest.raises(MedseqError, match=r"MR: .*Hounsfield"):
        verbs.preprocess(viewer, layers, ["window:brain"])
    assert [layer.name for layer in viewer.layers] == ["MR", "CT", "CT (window)"]


# -- masks -------------------------------------------------------------------------------------------------------------
def test_a_mask_beside_its_image_goes_onto_the_same_grid(opened: ViewerModel) -> None:
    image, mask = verbs.preprocess(opened, [opened.layers[SECOND], opened.layers[MASK]], ["percentile", "crop"])
    found, grid = verbs.to_sequence(mask), verbs.to_sequence(image)
    assert found.kind == "labels"
    assert found.same_grid(grid)
    # the voxels are those of the mask in that box
    source = verbs.to_sequence(opened.layers[MASK])
    first = np.round(np.linalg.inv(source.affine) @ grid.affine)[:3, 3].astype(int)[::-1]
    box = tuple(slice(a, a + n) for a, n in zip(first, grid.data.shape, strict=True))
    np.testing.assert_array_equal(found.data, source.data[box])
    assert found.data.any()


def test_a_mask_alone_gets_the_steps_of_geometry_and_this_is_said(opened: ViewerModel) -> None:
    job = verbs.Preprocessing([opened.layers[MASK]], ["zscore", {"kind": "resample", "spacing": (3, 4, 4)}])
    ((_, found),) = job.run()
    assert set(np.unique(found.data)) <= set(np.unique(opened.layers[MASK].data))
    assert found.spacing == pytest.approx({"z": 3, "y": 4, "x": 4})
    assert len(job.notes) == 1
    assert "left out" in job.notes[0]
    with pytest.raises(MedseqError, match="none of the steps"):
        verbs.preprocess(opened, opened.layers[MASK], ["zscore"])


def test_a_mask_follows_the_registration_of_its_image_now_and_later(opened: ViewerModel, tmp_path: Path) -> None:
    image, mask = opened.layers[SECOND], opened.layers[MASK]
    steps: list[StepLike] = [{"kind": "register", "transform": "translation"}]
    made, together = verbs.preprocess(opened, [image, mask], steps, reference=opened.layers[FIRST])
    (later,) = verbs.bring_along(opened, mask, made)
    np.testing.assert_array_equal(later.data, together.data)
    # what was brought onto the first visit is shown there
    assert [layer.translate[0] for layer in (made, together, later)] == [0, 0, 0]
    # what the saved transform does is the same
    kept = Transform.load(verbs.transform_of(made).save(tmp_path / "t.json"))
    moved = kept.apply(verbs.to_sequence(mask), interpolation="nearest")
    np.testing.assert_array_equal(verbs.to_sequence(later).data, moved.data)
    assert verbs.to_sequence(later).same_grid(verbs.to_sequence(opened.layers[FIRST]))
    with pytest.raises(RegistrationError, match="was not registered"):
        verbs.transform_of(image)
    with pytest.raises(MedseqError, match="not made by preprocessing"):
        verbs.bring_along(opened, mask, image)


def test_what_belongs_together_is_found(opened: ViewerModel) -> None:
    first, second = opened.layers[FIRST], opened.layers[SECOND]
    assert verbs.masks_of(opened, second) == [opened.layers[MASK]]
    assert verbs.other_visits(opened, first) == [second]
    assert verbs.other_visits(opened, opened.layers[MASK]) == [opened.layers["sub-x ses-20200131 tumor"]]
    lone = ViewerModel()
    image = verbs.add_sequence(lone, small(name="a"))
    mask = verbs.new_labels(lone, image)
    assert verbs.masks_of(lone, image) == [mask]
    assert verbs.other_visits(lone, image) == []


# -- the preview -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [FIRST, SECOND])
@pytest.mark.parametrize("along", ["z", "y", "x"])
def test_the_preview_is_of_the_slice_that_is_shown(opened: ViewerModel, name: str, along: str) -> None:
    layer = opened.layers[name]
    verbs.step_through(opened, along)
    axis = opened.dims.axis_labels.index(along)
    for step in (0, 5, opened.dims.nsteps[axis] - 1):
        opened.dims.set_current_step(axis, step)
        at = round(float(layer.world_to_data(opened.dims.point)[axis]))
        shown = np.take(layer.data[0], at, axis=axis - 1)
        found = verbs.preview(opened, layer, ["percentile"])
        # the picture has the orientation of the canvas, but that superior is up
        picture = picture_of(found, layer.contrast_limits)
        seen = canvas_of(picture.before[..., 0], picture.before_to_mm)
        low, high = layer.contrast_limits
        wanted = np.clip((shown.astype(float) - low) / (high - low), 0, 1) * 255
        if along != "z":
            wanted = wanted[::-1]
        np.testing.assert_allclose(seen, wanted, atol=1.01)


def canvas_of(pixels: np.ndarray, to_mm: np.ndarray) -> np.ndarray:
    """Pixels where their millimetres say, on the grid of these millimetres."""
    rows, columns = np.indices(pixels.shape)
    x, y = (to_mm[k, 0] * columns + to_mm[k, 1] * rows + to_mm[k, 2] for k in (0, 1))
    step_x, step_y = (np.abs(to_mm[k, :2]).max() for k in (0, 1))
    column, row = np.round(x / step_x).astype(int), np.round(y / step_y).astype(int)
    out = np.full((row.max() + 1, column.max() + 1), np.nan)
    out[row, column] = pixels
    return out


def test_an_exact_preview_is_the_slice_of_the_whole(opened: ViewerModel) -> None:
    layer = opened.layers[SECOND]
    opened.dims.set_current_step(1, 6)
    found = verbs.preview(opened, layer, [Percentile(lower=5, upper=90)])
    (whole,) = verbs.preprocess(opened, layer, [Percentile(lower=5, upper=90)])
    assert found.exact
    np.testing.assert_allclose(found.after.data, verbs.to_sequence(whole).data[found.position["z"]][None], atol=1e-6)


def test_the_frame_of_a_series_that_is_shown_is_previewed() -> None:
    viewer = ViewerModel()
    seq = small()
    frames = np.stack([np.asarray(seq.data) + 100 * k for k in range(3)])
    layer = verbs.add_sequence(viewer, seq.replace(data=frames, axes=("t", "z", "y", "x"), times=[0.0, 2.0, 4.0]))
    viewer.dims.set_current_step(0, 2)
    found = verbs.preview(viewer, layer, ["zscore"])
    assert found.position["t"] == 2
    assert found.axis == "z"
    np.testing.assert_array_equal(found.before.data[0], frames[2, found.position["z"]])


def test_in_three_dimensions_the_middle_slice_is_previewed(opened: ViewerModel) -> None:
    opened.dims.ndisplay = 3
    found = verbs.preview(opened, opened.layers[FIRST], ["zscore"])
    assert found.before.size("z") == 1
    assert found.position["z"] == opened.layers[FIRST].data.shape[-3] // 2


def test_a_flat_picture_can_be_previewed() -> None:
    viewer = ViewerModel()
    layer = verbs.add_sequence(
        viewer,
        ImageSequence(np.random.default_rng(0).random((20, 30), np.float32), ("y", "x"), np.eye(4), oriented=False),
    )
    picture = picture_of(verbs.preview(viewer, layer, ["zscore"]))
    assert picture.after.shape == (20, 30, 4)
    np.testing.assert_allclose(picture.before_to_mm, picture.after_to_mm)


def test_a_result_on_another_grid_lies_at_its_place_in_the_picture(opened: ViewerModel) -> None:
    layer = opened.layers[SECOND]
    picture = picture_of(verbs.preview(opened, layer, [{"kind": "resample", "spacing": (3, 1, 4)}]))

    def edges(pixels: np.ndarray, to_mm: np.ndarray) -> np.ndarray:
        rows, columns = pixels.shape[:2]
        corners = np.array([[-0.5, -0.5, 1], [columns - 0.5, rows - 0.5, 1]]) @ to_mm.T
        return np.array([corners[:, :2].min(axis=0), corners[:, :2].max(axis=0)])

    assert picture.after.shape != picture.before.shape
    np.testing.assert_allclose(
        edges(picture.before, picture.before_to_mm), edges(picture.after, picture.after_to_mm), atol=1e-6
    )


@pytest.fixture
def bright() -> Iterator[type[Step]]:
    """A step that gives labels."""

    class Bright(Step):
        """Labels of what is bright."""

        kind: str = "bright for a test"

        def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
            del job
            found = (np.asarray(seq.data) > 100).astype(np.uint8)
            return seq.labels_like(found, name="bright", label_names={1: "bright"})

    yield Bright
    del STEPS["bright for a test"]


def test_labels_are_drawn_over_the_image(bright: Callable[[], Step]) -> None:
    viewer = ViewerModel()
    layer = verbs.add_sequence(viewer, small())
    found = verbs.preview(viewer, layer, [bright()])
    picture = picture_of(found)
    where = np.asarray(found.after.data)[0] == 1
    assert where.any()
    coloured = (picture.after[..., :3] != picture.before[..., :3]).any(axis=-1)
    np.testing.assert_array_equal(coloured, where)
    (shown,) = verbs.preprocess(viewer, layer, [bright()])
    assert verbs.to_sequence(shown).kind == "labels"


def test_the_time_for_several_layers_is_the_sum_of_theirs(opened: ViewerModel) -> None:
    layers = [opened.layers[FIRST], opened.layers[SECOND], opened.layers[MASK]]
    found = verbs.estimate_seconds(layers, ["zscore"])
    assert found is not None
    assert found > 0
    assert verbs.estimate_seconds([opened.layers[MASK]], ["zscore"]) == 0
    with pytest.raises(SettingsError):
        verbs.estimate_seconds(layers, ["no such step"])
