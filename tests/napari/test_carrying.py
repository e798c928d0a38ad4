"""A mask carried to another visit lies where the truth of that visit is, is editable, and is marked until somebody looked at it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.layers.studies import facts_of
from tests.balls import AFFINES, ball_image
from tests.napari.helpers import masks

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")

#: how the patient lay at the second visit: turned by 4°, 6 mm off
TURN = np.array([[np.cos(0.07), -np.sin(0.07), 0, 6], [np.sin(0.07), np.cos(0.07), 0, -4], [0, 0, 1, 3], [0, 0, 0, 1]])


@pytest.fixture
def model(ball_study: Path) -> ViewerModel:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    return viewer


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.fixture
def moved(tmp_path: Path) -> ViewerModel:
    """The same balls at both visits, the patient moved between them; only the first visit has a mask."""
    image, mask = ball_image(0)
    for day, affine in ((date(2020, 1, 31), AFFINES[0]), (date(2020, 5, 4), TURN @ AFFINES[0])):
        folder = tmp_path / "sub-x" / f"ses-{day:%Y%m%d}"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(image, affine), folder / "sub-x_T1post.nii.gz")
        if day.month == 1:
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / "sub-x_tumor.nii.gz")
        else:
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / "truth_mask.nii.gz")
    viewer = ViewerModel()
    verbs.open_path(viewer, tmp_path / "sub-x")
    return viewer


def test_a_carried_mask_lies_on_the_lesions_of_its_visit(moved: ViewerModel, tmp_path: Path) -> None:
    source = masks(moved)[0]
    carried = verbs.carry_mask(moved, source, 1)
    truth = np.asarray(ms.read(tmp_path / "truth_mask.nii.gz")[0].data) != 0
    found = np.asarray(verbs.to_sequence(carried).data) != 0
    assert dice(found, truth) > 0.85
    as_it_lies = verbs.carry_mask(moved, source, 1, how="as it lies")
    assert dice(np.asarray(verbs.to_sequence(as_it_lies).data) != 0, truth) < 0.5
    # it is a mask of that visit, on its image's own grid, and the one that is edited now
    assert facts_of(carried)["ordinal"] == 1
    assert carried.translate[0] == 1
    assert len(verbs.study_of(moved).visits[1].labels) == 2
    assert moved.dims.point[0] == 1


def test_it_is_marked_until_somebody_looked(moved: ViewerModel) -> None:
    carried = verbs.carry_mask(moved, masks(moved)[0], 1, how="as it lies")
    assert carried.name.endswith("(carried: check)")
    assert verbs.carried_unseen(moved) == [carried]
    assert verbs.editing_of(moved).is_unsaved
    with pytest.warns(ms.MedseqWarning, match=r"Visit 2: .* was carried from visit 1 .* nobody has checked"):
        verbs.track_layers(moved)
    verbs.looked_at(moved, carried)
    assert verbs.carried_unseen(moved) == []
    assert not carried.name.endswith(")")
    progression = verbs.track_layers(moved, [masks(moved)[0], carried])
    assert not any("carried" in text for text in progression.warnings)
    with pytest.raises(MedseqError, match="looked at already"):
        verbs.looked_at(moved, carried)


def test_a_session_keeps_the_mark(moved: ViewerModel, tmp_path: Path) -> None:
    verbs.carry_mask(moved, masks(moved)[0], 1, how="as it lies")
    verbs.save_session(moved, tmp_path / "s.medseq")
    again = ViewerModel()
    verbs.open_session(again, tmp_path / "s.medseq")
    assert [layer.name.endswith("(carried: check)") for layer in verbs.carried_unseen(again)] == [True]


def test_the_registration_of_the_result_carries_too(model: ViewerModel) -> None:
    with pytest.raises(MedseqError, match="not registered yet"):
        verbs.carry_mask(model, masks(model)[0], 1, how="registered")
    verbs.track_layers(model)
    carried = verbs.carry_mask(model, masks(model)[0], 1, how="registered")
    place = {n: np.asarray(nib.affines.apply_affine(verbs.world_affine(layer), np.argwhere(own)[:, ::-1])).mean(0)
             for n, layer in (("from", masks(model)[0]), ("to", carried))
             for own in [np.asarray(verbs.to_sequence(layer).data)]}  # fmt: skip
    assert np.allclose(place["from"], place["to"], atol=0.5)


def test_into_a_mask_that_is_there_only_background_changes(model: ViewerModel) -> None:
    first, last = masks(model)
    editing = verbs.editing_of(model)
    data = np.array(last.data)
    data[data == 1] = 2
    editing.write(last, data)
    flags = np.zeros(last.data.shape, np.uint8)
    wanted = np.asarray(verbs.carry_mask(model, first, 1, how="as it lies").data) != 0
    model.layers.remove(verbs.carried_unseen(model)[0])
    empty = tuple(int(v) for v in np.argwhere(wanted & (data == 0))[0])
    flags[empty] = 1
    editing.marks(last).replace(flags)  # a person said: background
    layer = verbs.carry_mask(model, first, 1, how="as it lies", into=last)
    assert layer is last
    now = np.asarray(last.data)
    assert (now[data == 2] == 2).all()
    assert now[empty] == 0
    assert ((now == 1) == (wanted & (data == 0) & (flags == 0))).all()
    verbs.undo(model)
    assert np.array_equal(last.data, data)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"visit": 0}, "is of visit 1 already"),
        ({"visit": 7}, "has no image"),
        ({"how": "by magic"}, "cannot be carried by"),
    ],
)
def test_what_cannot_be_carried_is_refused(model: ViewerModel, change: dict[str, Any], word: str) -> None:
    count = len(model.layers)
    with pytest.raises(MedseqError, match=word):
        verbs.carry_mask(model, masks(model)[0], **{"visit": 1, "how": "as it lies", **change})
    assert len(model.layers) == count


def test_an_empty_mask_and_one_of_no_visit_are_refused(model: ViewerModel) -> None:
    layer = masks(model)[0]
    verbs.editing_of(model).write(layer, np.zeros(layer.data.shape, np.uint8))
    with pytest.raises(MedseqError, match="is empty"):
        verbs.carry_mask(model, layer, 1)
    foreign = model.add_labels(np.ones((3, 4, 5), np.uint8))
    with pytest.raises(MedseqError, match="not a mask of a patient's visit"):
        verbs.carry_mask(model, foreign, 1)


def test_a_visit_that_was_closed_while_a_mask_was_carried_to_it_is_said(model: ViewerModel) -> None:
    mask = masks(model)[0]
    result = verbs.carry(verbs.carrying_job(model, mask, 1, how="as it lies"))
    for layer in [layer for layer in model.layers if layer.translate[0] == 1]:
        model.layers.remove(layer)
    with pytest.raises(MedseqError, match=r"Visit 2 of sub-x was closed meanwhile"):
        verbs.show_carried(model, mask, 1, result)


def test_what_is_resampled_onto_a_visit_is_shown_there(model: ViewerModel) -> None:
    images = [layer for layer in model.layers if "T1post" in layer.name]
    found = verbs.resample_onto(model, images[0], images[1])
    assert found.translate[0] == 1
    assert facts_of(found)["ordinal"] == 1
    back = verbs.resample_onto(model, images[1], images[0])
    assert back.translate[0] == 0
    # its images are still the study's own
    assert [len(v.images) for v in verbs.study_of(model).visits] == [1, 1]


def test_what_lies_on_another_visits_grid_is_shown_there_without_being_told(moved: ViewerModel) -> None:
    images = [layer for layer in moved.layers if "T1post" in layer.name]
    first, last = (verbs.to_sequence(layer) for layer in images)
    brought = ms.preprocess(first, ["resample"], reference=last)
    assert facts_of(verbs.show_derived(moved, images[0], brought))["ordinal"] == 1
    assert facts_of(verbs.show_derived(moved, images[0], first.like(np.asarray(first.data))))["ordinal"] == 0
