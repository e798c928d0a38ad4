"""Whose images are shown: patient, visit and sides on the canvas, one patient in front."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.inference import Segmentation
from napari_medseq.viewer.editing.active import visit_of
from tests.balls import write_ball_study
from tests.napari.helpers import texts

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


# -- whose images are shown --------------------------------------------------------------------------------------------
def test_patient_visit_date_series_and_sides_are_on_the_canvas(ball_study: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    assert texts(viewer) == {
        "medseq identity": "sub-x\nvisit 1 of 2, 2020-01-31\nT1post\nslice 8 of 16",
        "medseq top": "A", "medseq bottom": "P", "medseq left": "R", "medseq right": "L",
    }  # fmt: skip
    viewer.dims.set_point(0, 1)
    assert texts(viewer)["medseq identity"] == "sub-x\nvisit 2 of 2, 2020-05-04\nT1post\nslice 8 of 16"
    verbs.step_through(viewer, "y")
    assert [texts(viewer)[f"medseq {edge}"] for edge in ("top", "bottom", "left", "right")] == ["S", "I", "R", "L"]
    verbs.step_through(viewer, "x")
    assert [texts(viewer)[f"medseq {edge}"] for edge in ("top", "bottom", "left", "right")] == ["S", "I", "A", "P"]
    viewer.dims.ndisplay = 3
    assert set(texts(viewer)) == {"medseq identity"}


def test_a_file_that_belongs_to_no_patient_shows_its_name_and_slice(tmp_path: Path) -> None:
    frames = ms.ImageSequence(
        np.zeros((2, 5, 6, 7)), ("t", "z", "y", "x"), np.eye(4), times=np.arange(2.0), name="cine", modality="MR"
    )
    viewer = ViewerModel()
    verbs.open_path(viewer, ms.write(frames, tmp_path / "cine.nii.gz"))
    viewer.dims.set_point(1, 3.0)
    assert texts(viewer)["medseq identity"].splitlines() == ["cine", "slice 4 of 5", "frame 1 of 2"]
    viewer.layers.clear()
    assert "medseq identity" not in texts(viewer)


def test_of_two_files_the_slices_of_the_one_that_covers_the_other_are_counted(tmp_path: Path) -> None:
    viewer = ViewerModel()
    for folder, depth, value in (("one", 8, 1), ("other", 10, 2)):
        (tmp_path / folder).mkdir()
        image = ms.ImageSequence(np.full((depth, 6, 7), value, np.uint8), ("z", "y", "x"), np.eye(4), modality="MR")
        verbs.open_path(viewer, ms.write(image.replace(name="ED"), tmp_path / folder / "ED.nii.gz"))
    viewer.dims.set_point(0, 3.0)
    assert texts(viewer)["medseq identity"].splitlines()[1:] == ["slice 4 of 10"]
    assert [reading.text for reading in verbs.values_at(viewer, (3.0, -2.0, -2.0))] == ["ED [1]: 2", "ED: 1"]
    viewer.layers[1].blending = "additive"
    viewer.dims.set_point(0, 2.0)
    assert texts(viewer)["medseq identity"].splitlines()[1:] == ["slice 3 of 8"]
    viewer.layers[1].blending = "translucent"
    viewer.dims.set_point(0, 9.0)
    assert texts(viewer)["medseq identity"].splitlines()[1:] == ["slice 10 of 10"]
    viewer.layers.move(1, 0)
    viewer.dims.set_point(0, 1.0)
    assert texts(viewer)["medseq identity"].splitlines()[1:] == ["slice 2 of 8"]


def test_a_file_of_no_patient_that_hides_one_is_not_called_by_the_patient(ball_study: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    image = verbs.to_sequence(viewer.layers[0])
    loose = verbs.add_sequence(viewer, image.replace(name="other"))
    assert texts(viewer)["medseq identity"].splitlines() == ["of no patient", "other", "slice 8 of 16"]
    loose.visible = False
    assert texts(viewer)["medseq identity"].splitlines()[0] == "sub-x"
    loose.visible = True
    loose.blending = "additive"
    assert texts(viewer)["medseq identity"].splitlines()[0] == "sub-x"
    loose.blending = "translucent"
    loose.translate = np.asarray(loose.translate) + np.array([0, 500, 0])  # beside the patient
    viewer.dims.set_point(0, 1)
    assert texts(viewer)["medseq identity"].splitlines()[0] == "sub-x"


@pytest.mark.parametrize("canvas", [0.0, 1.0])
def test_texts_on_the_canvas_are_read_in_both_themes(ball_study: Path, canvas: float) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    overlay = viewer.canvas.overlays["medseq identity"]

    def luminance(colour: np.ndarray) -> float:  # as WCAG 2.1 defines it
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    paper = np.asarray(overlay.box_color)
    behind = luminance(paper[:3] * paper[3] + canvas * (1 - paper[3]))
    assert (luminance(np.asarray(overlay.color)[:3]) + 0.05) / (behind + 0.05) >= 7  # its level AAA
    assert not viewer.canvas.overlays["_brush_circle"].box  # a square that stays where the brush was last


def test_boxes_belong_to_the_visit_of_their_image(ball_study: Path) -> None:
    viewer = ViewerModel()
    layers = verbs.open_path(viewer, ball_study)
    found = ms.Locations.of(Segmentation(verbs.to_sequence(layers[3]), None, None, "m 1"))
    boxes, centres = verbs.show_locations(viewer, layers[2], found)
    assert [visit_of(layer) for layer in (*layers, boxes, centres)] == [0, 0, 1, 1, 1, 1]
    assert texts(viewer)["medseq identity"].startswith("sub-x\nvisit 1 of 2")


def test_one_patient_is_in_front(ball_study: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    viewer.layers[1].visible = False
    before = [layer.visible for layer in viewer.layers]
    verbs.open_path(viewer, write_ball_study(tmp_path / "sub-y"))
    assert verbs.patient_in_front(viewer) == "sub-y"
    assert not any(layer.visible for layer in viewer.layers[:4])
    assert "sub-y" in viewer.title
    verbs.bring_to_front(viewer, "sub-x")
    assert [layer.visible for layer in viewer.layers[:4]] == before
    assert not any(layer.visible for layer in viewer.layers[4:])
    assert texts(viewer)["medseq identity"].startswith("sub-x")
