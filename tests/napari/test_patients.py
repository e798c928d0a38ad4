"""Several patients in one viewer: they are listed together, never taken for one another, and the widgets follow the one in front."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.compare_widget import CompareWidget
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq.errors import ReadError
from napari_medseq.viewer.layers.placement import camera_of
from napari_medseq.viewer.layers.studies import facts_of
from tests.balls import write_ball_study
from tests.napari.helpers import as_plugins_see_it

Wait = Callable[..., None]


def three_patients(folder: Path) -> Path:
    """The first has three visits, the others two."""
    for name in ("sub-a", "sub-b", "sub-c"):
        write_ball_study(folder / name)
    later = folder / "sub-a" / "ses-20200901"
    (folder / "sub-a" / "ses-20200131").rename(later)
    write_ball_study(folder / "again", visits=1)
    (folder / "again" / "ses-20200131").rename(folder / "sub-a" / "ses-20200131")
    (folder / "again").rmdir()
    return folder


@pytest.mark.viewer
def test_a_folder_of_patients_is_listed_and_what_is_ticked_of_each_is_loaded(
    make_napari_viewer: Callable[..., Any], wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    three_patients(tmp_path)
    (tmp_path / "sub-c" / "ses-20200131" / "sub-x_T1post.nii.gz").write_bytes(b"broken")
    viewer = make_napari_viewer(show=False)
    study = StudyWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(study, name="Study")
    progression = ProgressionWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(progression, name="Progression")
    compare = CompareWidget(as_plugins_see_it(viewer))
    qtbot.addWidget(compare)
    study.look_into(str(tmp_path))
    wait(lambda: not study.work.busy)
    tops = [study.tree.topLevelItem(k) for k in range(3)]
    assert [(top.text(0), top.text(1)) for top in tops] == [(f"sub-{c}", "to load") for c in "abc"]
    assert [top.checkState(0) for top in tops] == [Qt.Checked, Qt.Unchecked, Qt.Unchecked]
    tops[1].setCheckState(0, Qt.Checked)  # the whole patient
    study.load()
    wait(lambda: not study.work.busy and len(viewer.layers) == 10)
    assert verbs.patient_in_front(viewer) == "sub-a"
    # what came last is hidden, and none to paint in
    assert facts_of(viewer.layers.selection.active)["study"] == "sub-a"
    assert progression.study.study == "sub-a"
    assert (compare.chosen, compare.later.currentData()) == ([0, 1, 2], 2)  # though they came one by one
    progression.by_labels.setChecked(True)
    assert {facts_of(layer)["study"] for layer in progression.labels.layers} == {"sub-a"}
    viewer.dims.set_point(0, 2.0)
    study.tree.itemClicked.emit(study.tree.topLevelItem(1), 0)
    assert verbs.patient_in_front(viewer) == progression.study.study == "sub-b"
    assert {facts_of(layer)["study"] for layer in progression.labels.layers} == {"sub-b"}
    assert viewer.dims.point[0] == 1.0  # the last visit that there is
    series = [item for item in study.tree.rows() if item.data(0, Qt.UserRole)[0] == "layer"]
    ticked = {item.parent().parent().text(0) for item in series if item.checkState(0) == Qt.Checked}
    assert ticked == {"sub-b"}
    assert facts_of(viewer.layers.selection.active)["ordinal"] == 1
    assert verbs.next_visit(viewer) == 1
    assert (compare.chosen, compare.earlier.currentData(), compare.later.currentData()) == ([0, 1], 0, 1)
    verbs.editing_of(viewer).unsaved.add(viewer.layers.selection.active)
    asked: list[str] = []
    answers = [QMessageBox.Cancel, QMessageBox.Discard]

    def answer(_parent: object, _title: str, text: str, *_buttons: object) -> object:
        asked.append(text)
        return answers.pop(0)

    monkeypatch.setattr(QMessageBox, "question", answer)
    study.close_button.click()
    assert verbs.patient_in_front(viewer) == "sub-b"
    study.close_button.click()
    assert "sub-b ses-20200504" in asked[1]
    assert verbs.patient_in_front(viewer) == progression.study.study == "sub-a"
    study.close_button.click()  # nothing is unsaved: nothing is asked
    assert not viewer.layers
    assert not study.close_button.isEnabled()
    assert not answers
    with pytest.raises(ReadError, match=r"3 patients.*Study"):
        verbs.open_path(viewer, tmp_path)


def test_a_patient_that_cannot_be_opened_is_named_and_the_others_are_there(tmp_path: Path) -> None:
    for name in ("sub-a", "sub-b"):
        write_ball_study(tmp_path / name, visits=1)
    for file in (tmp_path / "sub-b").rglob("*.gz"):
        file.write_bytes(b"broken")
    with pytest.warns(ms.MedseqWarning, match="sub-b was left out"):
        studies = verbs.open_patients(tmp_path)
    assert [study.name for study in studies] == ["sub-a"]


def test_patients_whose_folders_are_called_alike_are_two(tmp_path: Path) -> None:
    viewer = ViewerModel()
    for hospital in ("one", "other"):
        write_ball_study(tmp_path / hospital / "sub-x")
    verbs.open_path(viewer, tmp_path / "one" / "sub-x")
    verbs.track_layers(viewer)
    verbs.result_of(viewer).progression.save(tmp_path / "result")
    session = verbs.save_session(viewer, tmp_path / "session")
    viewer.layers.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verbs.open_path(viewer, tmp_path / "other" / "sub-x")
    layer = viewer.layers[1]
    layer.paint((0, 8, 40, 6), 9)
    with pytest.warns(ms.MedseqWarning, match=r"called sub-x \(2\)"):
        verbs.open_session(viewer, session)
    assert set(verbs.results_of(viewer)) == {"sub-x (2)"}
    assert [len(v.images) for v in verbs.study_of(viewer, "sub-x").visits] == [1, 1]
    assert list(verbs.editing_of(viewer).unsaved) == [layer]  # what was open before is not saved by opening another
    assert verbs.undo(viewer)
    assert not np.any(layer.data == 9)
    verbs.open_result(viewer, tmp_path / "result")  # of the other hospital's patient: not over these images
    names = {facts_of(layer)["study"] for layer in verbs.result_of(viewer, "sub-x (3)").layers}
    assert names == {"sub-x (3)"}
    assert any(layer.name.startswith("sub-x (3) ses-20200131 T1post") for layer in viewer.layers)


def test_of_several_patients_it_has_to_be_said_whose_masks_are_followed(tmp_path: Path) -> None:
    viewer = ViewerModel()
    for name in ("sub-a", "sub-b"):
        verbs.open_path(viewer, write_ball_study(tmp_path / name))
    with pytest.raises(ms.MedseqError, match=r"2 patients are open \(sub-a, sub-b\)"):
        verbs.track_layers(viewer)
    assert verbs.track_layers(viewer, study="sub-b").provenance["patient"] == "sub-b"


def test_a_patient_that_lies_elsewhere_is_shown_and_no_value_of_another_stays() -> None:
    """The second patient was scanned 500 mm further up: the slider stood where nothing of it is, so the canvas was black."""
    viewer: Any = ViewerModel()
    verbs.describe(viewer)
    verbs.show_values(viewer)
    for name, place in (("sub-a", 0.0), ("sub-b", 500.0)):
        affine = np.diag([-1.0, -1.0, 2.0, 1.0])
        affine[:3, 3] = place
        image = ms.ImageSequence(
            np.full((9, 8, 8), 7, np.float32), ("z", "y", "x"), affine, name=f"T1 of {name}", modality="MR"
        )
        verbs.add_study(viewer, ms.Study(name, (ms.Visit(None, (image,), (), "v1"),)))
        if name == "sub-a":
            viewer.cursor.position = tuple(viewer.dims.point)
            assert "sub-a: 7" in viewer.canvas.overlays["medseq values"].text
    assert verbs.identity(viewer)[0] == "sub-b"
    assert verbs.identity(viewer)[-1] == "slice 5 of 9"
    inside = np.asarray(
        viewer.layers[-1].world_to_data(np.array([viewer.dims.point[-3], *camera_of(viewer).center[-2:]]))
    )
    assert ((inside >= 0) & (inside <= np.array([8, 7, 7]))).all()
    assert "sub-a" not in viewer.canvas.overlays["medseq values"].text
    # who is brought back is shown where the slider stood last, or in the middle
    verbs.bring_to_front(viewer, "sub-a")
    assert verbs.identity(viewer)[-1] == "slice 5 of 9"
    viewer.dims.set_point(0, viewer.dims.point[0] + 2)
    before = viewer.dims.point
    verbs.bring_to_front(viewer, "sub-a")
    assert viewer.dims.point == before  # what shows the patient is left alone


@pytest.mark.viewer
def test_masks_that_are_there_are_replaced_only_when_that_is_wanted(
    make_napari_viewer: Callable[..., Any], wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_ball_study(tmp_path / "sub-a")
    viewer = make_napari_viewer(show=False)
    verbs.open_path(viewer, folder)
    study = StudyWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(study, name="Study")
    out, asked = tmp_path / "out", list[str]()
    out.mkdir()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(out))
    answers = [QMessageBox.Cancel, QMessageBox.Yes]

    def answer(_parent: object, _title: str, text: str, *_buttons: object) -> object:
        asked.append(text)
        return answers.pop(0)

    monkeypatch.setattr(QMessageBox, "question", answer)

    def written() -> list[Path]:
        return sorted(p for p in out.rglob("*.nii.gz") if p.stat().st_size > len(drawn))

    drawn = b"drawn by an expert"
    wait(study.masks_button.isEnabled)
    study.masks_button.click()
    wait(lambda: len(written()) == 2 and not study.work.busy)
    assert not asked
    files = written()
    files[0].write_bytes(drawn)
    study.masks_button.click()
    assert all(str(p.relative_to(out)) in asked[0] for p in files)
    assert not study.work.busy
    assert files[0].read_bytes() == drawn
    study.masks_button.click()
    wait(lambda: written() == files and not study.work.busy)
    assert len(ms.read(files[0], kind="labels")) == 1
    assert not answers
