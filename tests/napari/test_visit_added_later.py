"""A visit that is added to a patient who was opened with one visit, and painted: both lie on the slider, and nothing is lost."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError
from napari_medseq.inference import Segmentation
from napari_medseq.viewer.editing.model import editing_of
from tests.napari.helpers import as_plugins_see_it
from tests.narrowing import some

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


@pytest.fixture
def single(ball_study: Path, tmp_path: Path) -> tuple[Any, Path]:
    """A viewer with the first visit of a patient alone, and the folder of the second visit."""
    folder = tmp_path / "early" / "sub-x"
    shutil.copytree(ball_study / "ses-20200131", folder / "ses-20200131")
    viewer = ViewerModel()
    verbs.open_path(viewer, folder)
    return viewer, ball_study / "ses-20200504"


def test_both_visits_lie_on_the_slider_and_painting_and_answers_stay(single: tuple[Any, Path]) -> None:
    viewer, later = single
    image, mask = viewer.layers
    assert image.ndim == 3
    labels = verbs.new_labels(viewer, image)
    editing_of(viewer).paint(labels, np.arange(5), np.full(5, 2), "a stroke")
    seq = verbs.to_sequence(image)
    doubt = np.zeros(seq.data.shape, np.float32)
    doubt[3] = 1
    whole = seq.labels_like(np.ones(seq.data.shape, np.uint8), name="found", label_names={1: "lesion"})
    found = Segmentation(whole, None, seq.like(doubt), "m 1")
    answer = verbs.show_lesson(viewer, verbs.lesson_job(viewer, image, labels), found, name="the answer")
    labels.visible = False
    before = {layer.name: (np.array(layer.data), verbs.to_sequence(layer), layer.visible) for layer in viewer.layers}
    offered = verbs.next_slice(viewer, answer)
    names, active = list(before), viewer.layers.selection.active.name
    added = verbs.add_visit(as_plugins_see_it(viewer), "sub-x", later)
    assert [layer.name for layer in viewer.layers][: len(names)] == names
    for name, (voxels, was, visible) in before.items():
        layer = viewer.layers[name]
        assert (layer.ndim, layer.translate[0], layer.visible) == (4, 0.0, visible)
        assert np.array_equal(layer.data[0], voxels)
        np.testing.assert_allclose(verbs.to_sequence(layer).affine, was.affine)
    assert {layer.translate[0] for layer in added} == {1.0}
    assert viewer.dims.nsteps[0] == 2
    assert [visit.date for visit in verbs.study_of(viewer).visits] == [date(2020, 1, 31), date(2020, 5, 4)]
    painted, again = viewer.layers[labels.name], viewer.layers["the answer"]
    assert editing_of(viewer).marks(painted).painted.sum() == 5
    assert painted in editing_of(viewer).unsaved
    assert viewer.title.endswith("not saved")
    assert verbs.last_answer(viewer, viewer.layers[image.name], painted) is again
    assert verbs.next_slice(viewer, again) == offered == 3
    assert active in names
    assert not {image, mask, labels, answer} & set(viewer.layers)
    assert some(verbs.answered(again)).image() is viewer.layers[image.name]


def test_what_was_painted_before_can_be_undone_after_a_visit_was_added(single: tuple[Any, Path]) -> None:
    viewer, later = single
    mask, editing = viewer.layers[1], editing_of(viewer)
    start = np.array(mask.data)
    for voxels, value in ((np.arange(5), 2), (np.arange(3, 9), 3)):
        editing.paint(mask, voxels, np.full(len(voxels), value), f"stroke {value}")
    both = np.array(mask.data)
    verbs.add_visit(viewer, "sub-x", later)
    new = viewer.layers[mask.name]
    assert new is not mask
    assert verbs.undo(viewer) == "stroke 3"
    assert verbs.undo(viewer) == "stroke 2"
    assert np.array_equal(new.data[0], start)
    assert not editing.marks(new).painted.any()
    verbs.redo(viewer)
    verbs.redo(viewer)
    assert np.array_equal(new.data[0], both)
    assert editing.marks(new).painted.sum() == 9
    with pytest.raises(MedseqError, match="nothing to do again"):
        verbs.redo(viewer)


def test_a_visit_is_not_added_where_lesions_were_followed_at_the_only_one(single: tuple[Any, Path]) -> None:
    viewer, later = single
    verbs.track_layers(viewer)
    before = list(viewer.layers)
    with pytest.raises(MedseqError, match="followed at its only visit"):
        verbs.add_visit(viewer, "sub-x", later)
    assert list(viewer.layers) == before
