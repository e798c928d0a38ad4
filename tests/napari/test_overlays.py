"""Overlays of two visits, and the alignment that a person mends in them: drawn as they should be, kept, undone, used again."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError, RegistrationError, SettingsError
from napari_medseq.registration.byhand import KEY, rigid_about
from tests.balls import AFFINES, ball_image

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")

#: where the patient lay at the second visit: whole voxels off, so that what is drawn can be told exactly
SHIFT = rigid_about((0, 0, 0), (6, -4, 3), (0, 0, 0))


def patient(folder: Path, moved: np.ndarray = SHIFT, gain: float = 2.0) -> Path:
    """The same balls at two visits; the second scan is brighter and lies elsewhere."""
    image, mask = ball_image(0, noise=0.0)
    days = (date(2020, 1, 31), date(2020, 5, 4))
    for day, affine, scale in zip(days, (AFFINES[0], moved @ AFFINES[0]), (1.0, gain), strict=True):
        session = folder / f"ses-{day:%Y%m%d}"
        session.mkdir(parents=True)
        nib.save(nib.Nifti1Image((scale * image).astype(np.float32), affine), session / "sub-x_T1post.nii.gz")
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), session / "sub-x_tumor.nii.gz")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> ViewerModel:
    """A viewer model with that patient; how the second visit lies is known by hand, so that nothing is searched."""
    viewer = ViewerModel()
    verbs.open_path(viewer, patient(tmp_path / "sub-x"))
    hand = ms.registration.byhand.HandAlignment(np.asarray(np.linalg.inv(SHIFT), np.float64), "known")
    verbs.set_hand_alignment(viewer, "sub-x", 1, hand)
    return viewer


def image_at(viewer: Any, visit: int) -> Any:
    return next(layer for layer in viewer.layers if "T1post" in layer.name and layer.translate[0] == visit)


# -- how it is drawn ---------------------------------------------------------------------------------------------------
def test_after_alignment_and_matching_nothing_is_different(model: ViewerModel) -> None:
    shown = verbs.overlay(model, 0, 1, "difference")
    assert shown.layer.translate[0] == 1
    assert model.dims.point[0] == 1
    assert np.abs(np.asarray(shown.layer.data)).max() < 1e-2
    low, high = shown.layer.contrast_limits
    assert low == -high


def test_a_lesion_that_grew_is_what_the_difference_shows(tmp_path: Path) -> None:
    folder = patient(tmp_path / "sub-x", np.eye(4))
    file = next((folder / "ses-20200504").glob("*T1post*"))
    image: Any = nib.load(file)
    data = np.asarray(image.dataobj).copy()
    data[20:24, 30:34, 8] += 900
    nib.save(nib.Nifti1Image(data, image.affine), file)
    viewer = ViewerModel()
    verbs.open_path(viewer, folder)
    shown = verbs.overlay(viewer, 0, 1, "difference")
    bright = np.asarray(shown.layer.data) > 450
    assert bright.sum() == 16
    assert np.allclose(np.asarray(shown.layer.data)[bright], 900, atol=20)


def test_a_checkerboard_has_tiles_of_both_in_the_plane_that_is_shown(model: ViewerModel) -> None:
    base = np.asarray(image_at(model, 1).data, np.float32)
    shown = verbs.overlay(model, 0, 1, "checkerboard")
    before = np.asarray(shown.layer.data)
    shown.nudge((0, 0, 1000))  # out of the field of view: what is not seen is the later image
    assert np.array_equal(np.asarray(shown.layer.data), base)
    shown.put_back()
    shown._moved = np.zeros_like(base) - 1  # an image that is told apart from the other
    shown.set_tile(8.0)
    drawn = np.asarray(shown.layer.data)
    tiles = np.indices(base.shape)
    first = (tiles[2] // 4 + tiles[3] // 4) % 2 == 0
    inside = shown._seen
    assert np.array_equal(drawn == -1, first & inside)
    assert before.shape == base.shape


def test_a_curtain_and_a_fade_follow_their_share(model: ViewerModel) -> None:
    shown = verbs.overlay(model, 0, 1, "curtain")
    shown._moved = np.full(shown.layer.data.shape, -1, np.float32)
    shown._seen = np.ones(shown.layer.data.shape, bool)
    for share in (0.0, 0.25, 1.0):
        shown.set_share(share)
        assert (np.asarray(shown.layer.data) == -1).mean() == pytest.approx(share)
    shown.mode = "fade"
    shown.set_share(0.3)
    assert shown.layer.opacity == pytest.approx(0.3)


def test_blinking_shows_one_and_the_other(model: ViewerModel) -> None:
    shown = verbs.overlay(model, 0, 1, "blink")
    assert [shown.blink(), shown.layer.visible, shown.blink()] == [False, False, True]


def test_there_is_one_overlay_and_it_is_no_image_of_the_study(model: ViewerModel) -> None:
    count = len(model.layers)
    verbs.overlay(model, 0, 1)
    shown = verbs.overlay(model, 1, 0, "fade")
    assert len(model.layers) == count + 1
    assert verbs.overlay_of(model) is shown
    assert [len(v.images) for v in verbs.study_of(model).visits] == [1, 1]
    # under the masks, over its image
    names = [layer.name for layer in model.layers]
    assert names.index(shown.layer.name) == names.index(image_at(model, 0).name) + 1
    model.layers.remove(shown.layer)
    assert verbs.overlay_of(model) is None


@pytest.mark.parametrize(("arguments", "word"), [((0, 0), "two different"), ((0, 5), "no image")])
def test_what_cannot_be_overlaid_is_refused(model: ViewerModel, arguments: Any, word: str) -> None:
    with pytest.raises(MedseqError, match=word):
        verbs.overlay(model, *arguments)
    with pytest.raises(SettingsError, match="no overlay"):
        verbs.overlay(model, 0, 1, "magic")


# -- the alignment, mended ---------------------------------------------------------------------------------------------
def test_a_nudge_moves_the_earlier_image_over_the_later_one(model: ViewerModel) -> None:
    shown = verbs.overlay(model, 0, 1, "fade")
    shown.made = replace(shown.made, bodies=None)  # grey levels as they are, as of CT: matched ones follow the place
    shown.put_back()
    before, measured = np.array(shown._moved), shown.measure().mi
    shown.nudge((4, 0, 0))  # two voxels to the patient's right, which is the beginning of x on the screen
    assert np.allclose(shown._moved[..., :-2][shown._seen[..., :-2]], before[..., 2:][shown._seen[..., :-2]], atol=1e-2)
    assert shown.measure().mi < measured
    assert "at first" in shown.measure_in_words()
    assert shown.is_changed
    shown.put_back()
    assert np.allclose(shown._moved, before, atol=1e-3)
    assert not shown.is_changed


def test_landmarks_bring_the_visits_together(model: ViewerModel) -> None:
    verbs.set_hand_alignment(model, "sub-x", 1, ms.registration.byhand.HandAlignment(np.eye(4), "wrong on purpose"))
    shown = verbs.overlay(model, 0, 1, "difference")
    wrong = shown.measure().mi
    there = np.array([(0.0, 0, 0), (20, 5, -9), (-15, 12, 6)])
    left = shown.align_by_landmarks(there, nib.affines.apply_affine(SHIFT, there))
    assert left < 1e-6
    assert np.abs(np.asarray(shown.layer.data)).max() < 1
    assert shown.measure().mi > wrong
    with pytest.raises(RegistrationError, match="come in pairs"):
        shown.align_by_landmarks(there, there[:2])


def test_a_registration_moves_visits_that_were_left_as_they_lie(model: ViewerModel) -> None:
    verbs.set_hand_alignment(model, "sub-x", 1, ms.registration.byhand.HandAlignment(np.eye(4), "wrong on purpose"))
    shown = verbs.overlay(model, 0, 1, "difference")
    wrong = shown.measure().mi
    shown.take(ms.register(shown.job.moving, shown.job.fixed))
    assert shown.measure().mi > wrong
    assert np.allclose(shown.onto[:3, 3], -SHIFT[:3, 3], atol=1.0)
    shown.keep()
    kept = verbs.hand_alignment(model, "sub-x", 1)
    assert kept is not None
    assert kept.how == "rigid registration, against visit 1"
    assert kept.error_mm is not None


def test_what_is_kept_is_used_when_lesions_are_followed_again(model: ViewerModel) -> None:
    verbs.set_hand_alignment(model, "sub-x", 1, None)
    first = verbs.track_layers(model, register="none")
    assert np.allclose(first.to_common(1), np.eye(4))
    shown = verbs.overlay(model, 0, 1, "difference")
    with pytest.raises(MedseqError, match="Nothing was moved"):
        shown.keep()
    shown.nudge((6, -4, 3))
    shown.keep()
    masks = [np.array(layer.data) for layer in model.layers if "tumor" in layer.name]
    assert verbs.overlay(model, 0, 1).reason == "aligned by hand"
    again = verbs.follow_again(model, register="none")
    assert np.allclose(again.to_common(1), np.linalg.inv(SHIFT))
    record: Any = again.provenance[KEY]
    record = record["1"]
    assert record["how"] == "nudged by (6, -4, 3) mm and (0, 0, 0)°, against visit 1"
    # masks are measured as they were painted, not warped
    assert all(
        np.array_equal(a, b.data) for a, b in zip(masks, [x for x in model.layers if "tumor" in x.name], strict=True)
    )
    assert np.allclose(first.lesions["volume_ml"], again.lesions["volume_ml"])
    # and the panes lie by it
    panes = verbs.side_by_side(model)
    assert np.allclose(panes.panes[1].plan.to_common, np.linalg.inv(SHIFT))


def test_an_alignment_that_was_removed_does_not_come_back_when_lesions_are_followed_again(model: ViewerModel) -> None:
    verbs.track_layers(model, register="none")
    assert KEY in verbs.result_of(model).progression.provenance
    verbs.set_hand_alignment(model, "sub-x", 1, None)
    again = verbs.follow_again(model, register="none")
    assert np.allclose(again.to_common(1), np.eye(4))
    assert KEY not in again.provenance  # it was not used
    assert verbs.hand_alignment(model, "sub-x", 1) is None


def test_keeping_an_alignment_can_be_undone(model: ViewerModel) -> None:
    verbs.set_hand_alignment(model, "sub-x", 1, None)
    verbs.track_layers(model, register="none")
    shown = verbs.overlay(model, 0, 1)
    shown.nudge((1, 0, 0))
    shown.keep()
    assert verbs.hand_alignment(model, "sub-x", 1) is not None
    verbs.undo(model)
    assert verbs.hand_alignment(model, "sub-x", 1) is None
    verbs.redo(model)
    kept = verbs.hand_alignment(model, "sub-x", 1)
    assert kept is not None
    assert np.allclose(kept.to_first, rigid_about((0, 0, 0), (-1, 0, 0), (0, 0, 0)))


def test_an_alignment_comes_back_with_the_session_and_with_the_result(model: ViewerModel, tmp_path: Path) -> None:
    progression = verbs.track_layers(model)
    verbs.save_session(model, tmp_path / "s.medseq")
    progression.save(tmp_path / "result")
    for opened in (
        lambda viewer: verbs.open_session(viewer, tmp_path / "s.medseq"),
        lambda viewer: (verbs.open_path(viewer, tmp_path / "sub-x"), verbs.open_result(viewer, tmp_path / "result")),
    ):
        viewer = ViewerModel()
        opened(viewer)
        kept = verbs.hand_alignment(viewer, "sub-x", 1)
        assert kept is not None
        assert np.allclose(kept.to_first, np.linalg.inv(SHIFT))
        again = verbs.follow_again(viewer)
        assert np.allclose(again.to_common(1), np.linalg.inv(SHIFT))
