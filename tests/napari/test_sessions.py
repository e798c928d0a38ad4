"""Sessions and saved results bring back everything, and nothing unsaved is closed without a question."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls import plot_dock
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq._napari.window.services import accompany
from napari_medseq.cli.results import with_inputs
from napari_medseq.errors import OperationCancelled
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.sessions import saving
from napari_medseq.viewer.sessions.records import plain, restored
from tests.balls import write_ball_study
from tests.napari.at_work import at_work
from tests.napari.helpers import Wait, as_plugins_see_it, click, saved_mask, texts
from tests.napari.person import paint
from tests.unit.io import dicoms

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


def same(one: Any, other: Any) -> None:
    assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]
    for a, b in zip(one.layers, other.layers, strict=True):
        assert np.array_equal(a.data, b.data)
        assert a.visible == b.visible
        np.testing.assert_allclose(verbs.world_affine(a), verbs.world_affine(b))
    assert verbs.painted(one) == verbs.painted(other)
    assert list(verbs.result_of(one).progression.corrections) == list(verbs.result_of(other).progression.corrections)
    pd_one, pd_two = (verbs.result_of(v).progression.lesions for v in (one, other))
    assert pd_one["volume_ml"].tolist() == pytest.approx(pd_two["volume_ml"].tolist())


def test_a_session_brings_back_images_masks_painting_corrections_and_view(ball_study: Path, tmp_path: Path) -> None:
    viewer = at_work(ball_study)
    viewer.dims.set_point(0, 1)
    assert viewer.title.endswith("not saved")
    folder = verbs.save_session(viewer, tmp_path / "work.medseq")
    assert viewer.title == "napari – sub-x"
    assert not list(folder.rglob("image-*"))  # images are named, not copied
    again = ViewerModel()
    verbs.open_session(again, folder)
    same(viewer, again)
    assert again.dims.point == viewer.dims.point
    assert again.layers.selection.active.name == viewer.layers.selection.active.name
    assert verbs.recent_sessions() == [folder.resolve()]
    # and work goes on: what is painted is followed, and the exclusion is made again
    verbs.follow_again(again)
    assert not verbs.painted(again)


def test_a_session_brings_back_how_layers_look(ball_study: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    verbs.track_layers(viewer)
    image: Any = viewer.layers[0]
    image.gamma, image.interpolation2d, image.colormap = 0.7, "linear", "magma"
    painted = verbs.new_labels(viewer, image)
    painted.contour = 2
    plain_labels = viewer.add_labels(np.zeros((3, 4, 5), np.uint8), name="of napari")
    plain_labels.new_colormap(seed=3)
    again = ViewerModel()
    verbs.open_session(again, verbs.save_session(viewer, tmp_path / "s.medseq"))
    for one, other in zip(viewer.layers, again.layers, strict=True):
        if one._type_string == "labels":
            for value in (*range(1, 6), 99):
                np.testing.assert_allclose(one.get_color(value), other.get_color(value), atol=1e-6)
    shown: Any = again.layers[0]
    assert (shown.gamma, shown.interpolation2d, shown.colormap.name) == (0.7, "linear", "magma")
    assert again.layers[painted.name].contour == 2
    # what was damaged by hand is named, and an older session has no colours
    file = tmp_path / "s.medseq" / "session.json"
    facts = json.loads(file.read_text())
    facts["layers"][1]["colours"] = {"table": "red"}
    del facts["layers"][3]["colours"]
    file.write_text(json.dumps(facts))
    damaged = ViewerModel()
    with pytest.warns(ms.MedseqWarning, match="colours of a mask"):
        verbs.open_session(damaged, tmp_path / "s.medseq")
    assert len(damaged.layers) == len(viewer.layers) - 1


def test_visits_of_one_folder_whose_series_are_called_alike_keep_their_own_images(tmp_path: Path) -> None:
    for visit, (study, day) in enumerate((("1.2.3", "20200101"), ("1.2.9", "20200601"))):
        for z in range(3):
            ds = dicoms.dataset(np.full((6, 5), 100 * visit + z, np.uint16), (0, 0, 2.5 * z), StudyDate=day)
            ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.7"
            dicoms.save(ds, tmp_path / "heap" / f"{visit}-{z}.dcm")
    viewer, again = ViewerModel(), ViewerModel()
    verbs.open_path(viewer, tmp_path / "heap")
    verbs.save_session(viewer, tmp_path / "session")
    verbs.open_session(again, tmp_path / "session")
    assert [int(np.max(layer.data)) for layer in again.layers] == [2, 102]
    # and so does a saved result, opened alone
    visits = ms.read_study(tmp_path / "heap").visits
    images = [visit.images[0] for visit in visits]
    masks = [i.labels_like(np.array(i.data >= np.max(i.data), np.uint8), name="m", label_names={}) for i in images]
    result = ms.track(masks, dates=[visit.date for visit in visits], images=images)
    result.provenance["inputs"] = [
        {"name": v.name, "images": {"image": {"name": i.name, "source": i.meta["source"]}}}
        for v, i in zip(visits, images, strict=True)
    ]
    result.save(tmp_path / "result")
    loaded = ms.Progression.load(tmp_path / "result")
    with_inputs(loaded, tmp_path / "result")  # which the commands report and dicom take
    assert [int(np.max(image.data)) for image in loaded.images if image is not None] == [2, 102]
    shown = ViewerModel()
    verbs.open_result(shown, tmp_path / "result")
    assert [int(np.max(layer.data)) for layer in shown.layers if layer._type_string == "image"] == [2, 102]


def test_a_session_whose_image_is_gone_brings_back_the_rest(tmp_path: Path) -> None:
    study = write_ball_study(tmp_path / "sub-x")
    viewer = at_work(study)
    folder = verbs.save_session(viewer, tmp_path / "work.medseq")
    next(study.rglob("*_T1post.nii.gz")).unlink()
    again = ViewerModel()
    with pytest.warns(ms.MedseqWarning, match=r"Not everything .* T1post"):
        verbs.open_session(again, folder)
    assert verbs.painted(again) == verbs.painted(viewer)


def test_what_is_damaged_in_a_session_is_named_and_the_rest_comes_back(tmp_path: Path) -> None:
    """The study moves with its session; a mask and the result are damaged."""
    viewer = at_work(write_ball_study(tmp_path / "one" / "sub-x"))
    folder = verbs.save_session(viewer, tmp_path / "one" / "work.medseq")
    (tmp_path / "one").rename(tmp_path / "two")
    folder = tmp_path / "two" / folder.name
    first = min(folder.rglob("labels-*.npz"), key=lambda file: int(file.stem.partition("-")[2]))
    first.write_bytes(first.read_bytes()[:40])
    next(folder.rglob("result-0")).joinpath("lesions.csv").write_text("")
    again = ViewerModel()
    with pytest.warns(ms.MedseqWarning, match=r"tumor: .*labels-\d+\.npz.* result of sub-x, whose masks"):
        verbs.open_session(again, folder)
    assert {layer.name for layer in viewer.layers} - {layer.name for layer in again.layers} == {
        "sub-x ses-20200131 tumor"
    }
    assert all(len(v.images) == 1 for v in verbs.study_of(again).visits)


def test_a_folder_with_something_else_is_not_replaced(ball_study: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    viewer = at_work(ball_study)
    with pytest.raises(ms.MedseqError, match="not a session"):
        verbs.save_session(viewer, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "state") == ["thesis.tex"]
    assert viewer.title.endswith("not saved")


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": 99}', '{"format": 1, "layers": [{}], "results": {}, "view": {}}']
)
def test_a_damaged_session_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "session.json").write_text(text)
    with pytest.raises(ms.MedseqError):
        verbs.open_session(ViewerModel(), tmp_path)


def test_facts_come_back_from_json_as_they_were() -> None:
    facts = {"colors": {1: [1.0, 0.0, 0.0]}, "a": np.eye(2), "n": np.int64(3), "deep": [{"x": None}], "flag": True}
    back: Any = restored(json.loads(json.dumps(plain(facts))))
    assert back["colors"] == {1: [1.0, 0.0, 0.0]}
    np.testing.assert_array_equal(back["a"], np.eye(2))
    assert (back["n"], back["deep"], back["flag"]) == (3, [{"x": None}], True)


# -- results, dates, visits --------------------------------------------------------------------------------------------
def test_a_saved_result_alone_brings_its_images_and_its_patient(ball_study: Path, tmp_path: Path) -> None:
    viewer = at_work(ball_study)
    verbs.follow_again(viewer)
    verbs.write_result(viewer, verbs.result_of(viewer), tmp_path / "result")
    alone = ViewerModel()
    verbs.open_result(alone, tmp_path / "result")
    kinds = [verbs.to_sequence(layer).kind for layer in alone.layers]
    assert kinds == ["image", "image", "labels", "labels"]
    assert texts(alone)["medseq identity"].startswith("sub-x")
    for mine, theirs in zip(verbs.result_of(alone).layers, verbs.result_of(viewer).layers, strict=True):
        assert np.array_equal(mine.data, theirs.data)
    # over the open study, and not over another patient's
    verbs.open_result(viewer, tmp_path / "result")
    assert len(viewer.layers) == 6
    other = ViewerModel()
    verbs.open_path(other, write_ball_study(tmp_path / "sub-y"))
    verbs.open_result(other, tmp_path / "result")
    assert verbs.patient_in_front(other) == "sub-x"
    assert set(verbs.results_of(other)) == {"sub-x"}


def test_the_record_keeps_what_the_result_was_made_from_when_it_is_followed_again(
    ball_study: Path, tmp_path: Path
) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    progression = verbs.track_layers(viewer)
    progression.provenance["run"] = {"study": str(ball_study), "model": "tiny"}
    layer = verbs.result_of(viewer).layers[0]
    layer.paint((0, 8, 40, 6), 9)
    again = verbs.follow_again(viewer)
    assert again.provenance["run"] == {"study": str(ball_study), "model": "tiny"}
    verbs.write_result(viewer, verbs.result_of(viewer), tmp_path / "result")
    facts = json.loads((tmp_path / "result" / "run.json").read_text())
    assert facts["run"]["model"] == "tiny"
    assert facts["patient"] == "sub-x"


def test_a_patient_whose_folder_holds_the_series_itself_is_named_once(ball_study: Path) -> None:
    image = ms.read_study(ball_study).visits[0].images[0].replace(name="P7_CT")
    viewer = ViewerModel()
    verbs.add_study(viewer, ms.Study("P7", (ms.Visit(None, (image,), (), "P7"),)))
    assert [layer.name for layer in viewer.layers] == ["P7 CT"]


def test_a_date_that_was_corrected_is_used_from_then_on(ball_study: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    verbs.set_visit_date(viewer, "sub-x", 1, date(2020, 6, 1))
    assert [str(d) for d in verbs.study_of(viewer).dates] == ["2020-01-31", "2020-06-01"]
    assert [str(d) for d in verbs.track_layers(viewer).dates] == ["2020-01-31", "2020-06-01"]
    viewer.dims.set_point(0, 1)
    assert "2020-06-01" in texts(viewer)["medseq identity"]
    assert verbs.set_visit_date(viewer, "sub-x", 1, date(2019, 1, 1)) == 0
    assert [str(d) for d in verbs.follow_again(viewer).dates] == ["2019-01-01", "2020-01-31"]


def test_a_mask_is_given_to_a_visit_and_masks_are_saved_into_the_study(ball_study: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    file = next((ball_study / "ses-20200504").glob("*_tumor.nii.gz"))
    (single,) = verbs.open_path(viewer, file)
    assert single.ndim == 3
    mine = verbs.assign_visit(viewer, single, "sub-x", 1)
    assert single not in viewer.layers
    assert (mine.name, mine.translate[0]) == ("sub-x ses-20200504 tumor [1]", 1.0)
    np.testing.assert_array_equal(verbs.to_sequence(mine).data, ms.read(file)[0].data)
    viewer.layers.remove(mine)
    files = verbs.save_masks(viewer, "sub-x", tmp_path / "sub-x")
    assert [f.relative_to(tmp_path).as_posix() for f in files] == [
        "sub-x/ses-20200131/sub-x_tumor.nii.gz", "sub-x/ses-20200504/sub-x_tumor.nii.gz",
    ]  # fmt: skip
    assert all(seq.kind == "labels" for f in files for seq in ms.read(f))
    later = verbs.add_visit(viewer, "sub-x", ball_study / "ses-20200131")
    assert {layer.translate[0] for layer in later} == {2.0}
    assert len(verbs.study_of(viewer).visits) == 3


@pytest.mark.parametrize("scale", [(1, 1, 1), (-1, 1, -1)])
def test_painting_in_a_mask_stays_painted_and_unsaved_when_the_mask_is_given_to_a_visit(
    ball_study: Path, scale: tuple[float, ...]
) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    mask = viewer.add_labels(np.zeros((4, 9, 9), np.uint8), scale=scale, units="mm")
    mask.brush_size = 1
    mask.paint((1, 2, 3), 7)
    mine = verbs.assign_visit(viewer, mask, "sub-x", 1)
    assert viewer.title.endswith("not saved")
    assert mine in editing_of(viewer).unsaved
    assert np.array_equal(editing_of(viewer).marks(mine).painted, np.asarray(mine.data) == 7)
    assert (np.asarray(mine.data) == 7).sum() == 1
    if min(scale) > 0:  # the mask lies as the visit's images do, so that its strokes are strokes in it
        editing_of(viewer).undo()
        assert not np.asarray(mine.data).any()
    else:
        with pytest.raises(ms.MedseqError, match="nothing to undo"):
            editing_of(viewer).undo()
        assert {layer.name for layer in editing_of(viewer).unsaved} == {mine.name}


@pytest.mark.viewer
def test_a_folder_is_listed_ticked_loaded_and_its_patient_brought_to_front(
    make_napari_viewer: Callable[..., Any], wait: Wait, ball_study: Path, tmp_path: Path
) -> None:
    viewer = make_napari_viewer(show=False)
    widget = StudyWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Study")
    widget.look_into(str(ball_study))
    wait(lambda: not widget.work.busy)
    assert len(viewer.layers) == 0
    rows = [item for item in widget.tree.rows() if item.data(0, Qt.UserRole)[0] == "listed"]
    assert len(rows) == 4
    assert rows[0].text(2) == "image, 48×48×16"
    for item in rows[2:]:  # the second visit is left out
        item.setCheckState(0, Qt.Unchecked)
    widget.load()
    wait(lambda: not widget.work.busy and len(viewer.layers) == 2)
    assert isinstance(viewer.layers[1].data, np.ndarray)  # it can be painted in
    verbs.open_path(viewer, write_ball_study(tmp_path / "sub-y"))
    tops = [widget.tree.topLevelItem(k) for k in range(widget.tree.topLevelItemCount())]
    assert [(top.text(0), top.font(0).bold()) for top in tops] == [("sub-x", False), ("sub-y", True)]
    widget.tree.itemClicked.emit(tops[0], 0)
    assert verbs.patient_in_front(viewer) == "sub-x"
    visit = widget.tree.topLevelItem(1).child(1)
    visit.setText(1, "2020-07-01")  # as typed after a double click
    assert str(verbs.study_of(viewer, "sub-y").dates[1]) == "2020-07-01"


@pytest.mark.viewer
@pytest.mark.parametrize("low", [False, True])
def test_a_session_that_is_opened_shows_its_table_and_plot_and_says_what_can_be_done(
    make_napari_viewer: Any, qtbot: Any, ball_study: Path, tmp_path: Path, low: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot_dock, "LOW_SCREEN", 10_000 if low else 0)
    folder = verbs.save_session(at_work(ball_study), tmp_path / "work.medseq")
    viewer = make_napari_viewer(show=False)
    widget = ProgressionWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Progression")
    verbs.open_session(viewer, folder)
    qtbot.wait(50)
    assert not widget.result.isHidden()
    assert not widget.how.button.isChecked()  # folded, to make room
    assert "Correct its lesions below" in widget.facts.text()
    assert (widget.result.plot.parent() is None) == low  # there it would lie over the table


def test_from_visit_to_visit_and_from_lesion_to_lesion(ball_study: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    with pytest.raises(ms.MedseqError, match="Progression"):
        verbs.next_lesion(viewer)
    verbs.track_layers(viewer)
    assert [verbs.next_visit(viewer), verbs.next_visit(viewer), verbs.next_visit(viewer, -1)] == [1, 1, 0]
    verbs.result_of(viewer).layers[0].selected_label = 0  # nothing is chosen yet
    largest = verbs.next_lesion(viewer)
    assert viewer.layers.selection.active == verbs.result_of(viewer).layers[0]
    assert viewer.layers.selection.active.selected_label == largest == 1
    assert [verbs.next_lesion(viewer), verbs.next_lesion(viewer), verbs.next_lesion(viewer, -1)] == [2, 1, 2]


@pytest.mark.viewer
def test_a_visit_is_added_in_a_job(
    make_napari_viewer: Callable[..., Any], wait: Wait, ball_study: Path, tmp_path: Path, notices: list[Any]
) -> None:
    viewer = make_napari_viewer(show=False)
    verbs.open_path(viewer, ball_study)
    widget = StudyWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Study")
    widget.add_visit("sub-x", str(ball_study / "ses-20200131"))
    assert widget.work.busy
    wait(lambda: not widget.work.busy)
    assert len(verbs.study_of(viewer).visits) == 3
    (tmp_path / "empty").mkdir()
    widget.add_visit("sub-x", str(tmp_path / "empty"))
    wait(lambda: not widget.work.busy)
    assert len(notices) == 1
    assert len(verbs.study_of(viewer).visits) == 3


# -- closing -----------------------------------------------------------------------------------------------------------
@pytest.mark.viewer
def test_unsaved_painting_is_asked_about_before_the_window_closes(
    make_napari_viewer: Callable[..., Any],
    wait: Wait,
    ball_study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    answers = [QMessageBox.Cancel, QMessageBox.Save]

    def ask(_parent: Any, _title: str, text: str, *_more: Any) -> Any:
        asked.append(text)
        return answers.pop(0)

    viewer = make_napari_viewer(show=True)
    guardian = accompany(viewer)
    assert guardian is not None
    verbs.open_path(viewer, ball_study)
    monkeypatch.setattr(QMessageBox, "question", ask)
    monkeypatch.setattr(
        "napari_medseq._napari.window.services.QFileDialog.getSaveFileName",
        lambda *_a: (str(tmp_path / "kept.medseq"), ""),
    )
    layer = viewer.layers[1]
    layer.brush_size = 3
    layer.paint((0, 8, 40, 6), 1)
    assert "not saved" in viewer.window._qt_window.windowTitle()
    assert not viewer.window._qt_window.close()
    assert viewer.window._qt_window.isVisible()
    assert len(asked) == 1
    assert layer.name in asked[0]
    closed: list[bool] = []  # napari's fixture closes the window itself
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer.window._qt_window, "close", lambda: closed.append(guardian._may_close()))
        assert not guardian._may_close()  # a worker writes it first, then the window closes by itself
        wait(lambda: closed == [True])
    assert (tmp_path / "kept.medseq" / "session.json").exists()
    assert not editing_of(viewer).is_unsaved
    assert len(asked) == 2  # nothing is left to ask about


# -- saving beside the work --------------------------------------------------------------------------------------------
@pytest.mark.viewer
def test_a_stroke_painted_while_a_session_or_masks_are_saved_is_neither_lost_nor_half_written(
    viewer: Any, wait: Wait, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = StudyWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Study")
    dialogs = "napari_medseq._napari.{}.QFileDialog.{}"
    monkeypatch.setattr(
        dialogs.format("window.services", "getSaveFileName"), lambda *_a: (str(tmp_path / "s.medseq"), "")
    )
    monkeypatch.setattr(dialogs.format("study_widget", "getExistingDirectory"), lambda *_a: str(tmp_path / "masks"))
    mine, other = viewer.layers[1], viewer.layers[3]
    for layer in (other, mine):
        assert paint(viewer, layer, (8, 30, 30), label=5).any()
    assert "●" in widget.save_button.text()
    editing, before = editing_of(viewer), np.array(mine.data)
    click(qtbot, widget.save_button)
    assert widget.work.busy
    assert not widget.save_button.isEnabled()
    assert paint(viewer, mine, (8, 10, 10), label=6).any()  # while it is written
    wait(lambda: not widget.work.busy)
    assert np.array_equal(saved_mask(tmp_path / "s.medseq", mine.name), before)
    assert set(editing.unsaved) == {mine}
    assert "●" in widget.save_button.text()
    before = np.array(mine.data)
    click(qtbot, widget.masks_button)
    assert paint(viewer, mine, (8, 40, 6), label=6).any()
    wait(lambda: not widget.work.busy)
    file = next((tmp_path / "masks").rglob("ses-20200131/*.nii.gz"))
    assert np.array_equal(ms.read(file)[0].data, before[0])
    assert set(editing.unsaved) == {mine}
    click(qtbot, widget.save_button)
    wait(lambda: not widget.work.busy)
    assert np.array_equal(saved_mask(tmp_path / "s.medseq", mine.name), mine.data)
    assert not editing.is_unsaved
    assert widget.save_button.text() == "Save session …"


def test_saving_that_is_cancelled_leaves_the_old_session_and_the_old_masks(ball_study: Path, tmp_path: Path) -> None:
    viewer = at_work(ball_study)
    folder = verbs.save_session(viewer, tmp_path / "work.medseq")
    verbs.save_masks(viewer, "sub-x", tmp_path / "masks")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    layer = verbs.result_of(viewer).layers[0]
    layer.paint((0, 8, 10, 10), 9)
    steps: list[int] = []
    stop: Any = {"progress": lambda done, _of, _text: steps.append(done), "cancelled": lambda: len(steps) in (2, 4)}
    with pytest.raises(OperationCancelled):
        verbs.save_session(viewer, folder, **stop)
    steps.append(0)
    with pytest.raises(OperationCancelled):
        verbs.save_masks(viewer, "sub-x", tmp_path / "masks", **stop)
    assert steps == [1, 2, 0, 1]
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert editing_of(viewer).is_unsaved


def test_a_save_that_is_killed_leaves_a_session_that_opens(
    ball_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = at_work(ball_study)
    folder = verbs.save_session(viewer, tmp_path / "work.medseq")
    (folder / "notes.txt").write_text("of a person")
    left: list[Path] = []

    def after(step: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **options: Any) -> Any:
            out = step(*args, **options)
            left.append(tmp_path / f"killed-{len(left)}")  # as the folder is now, a killed process leaves it
            if folder.exists():
                shutil.copytree(folder, left[-1])
            return out

        return done

    for module, name in ((os, "replace"), (shutil, "rmtree"), (saving, "write_labels")):
        monkeypatch.setattr(module, name, after(getattr(module, name)))
    verbs.save_session(viewer, folder)
    monkeypatch.undo()
    assert len(left) > 2
    for kept in left:
        again = ViewerModel()
        verbs.open_session(again, kept)
        same(viewer, again)
    verbs.save_session(viewer, left[0])
    assert {p.name for p in left[0].iterdir() if not p.name.startswith("files-")} == {"session.json", "notes.txt"}
    assert len(list(left[0].iterdir())) == 3


def test_masks_of_one_name_are_written_to_files_of_their_own(ball_study: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    twin = verbs.new_labels(viewer, viewer.layers[0])
    again = verbs.new_labels(viewer, viewer.layers[0])
    other = verbs.new_labels(viewer, viewer.layers[0])
    other.name = twin.name.upper()
    twin.data[0, 3, 3, 3] = again.data[0, 4, 4, 4] = other.data[0, 5, 5, 5] = 1
    files = verbs.save_masks(viewer, "sub-x", tmp_path)
    assert len({str(file).casefold() for file in files}) == 5
    assert all(seq.kind == "labels" for f in files for seq in ms.read(f))
