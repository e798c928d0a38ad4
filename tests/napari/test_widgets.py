"""The widgets in a real viewer: real clicks, workers, cancel, errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.layers import Image

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari import actions
from napari_medseq._napari.analyse_widget import AnalyseWidget
from napari_medseq._napari.controls.model_box import announce_models
from napari_medseq._napari.reader import get_reader
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.errors import MedseqError
from napari_medseq.inference import Classification
from napari_medseq.preprocessing import Percentile, save
from napari_medseq.training import TeachSettings, lesson_quality, teach
from tests.napari.helpers import Wait, as_plugins_see_it, bright, click, docked
from tests.narrowing import some

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


# -- Analyse -----------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("knows")
def test_a_model_along_visits_answers_for_each_visit_with_boxes(
    viewer: Any, qtbot: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def together(visits: Any, model: Any, **options: Any) -> Any:
        told.append(options)
        return [bright(visit.images[0], model, **options) for visit in visits]

    told: list[dict[str, Any]] = []
    widget = docked(viewer, AnalyseWidget, wait)
    monkeypatch.setattr(ms, "segment", together, raising=False)
    along = widget.model.info.model_copy(update={"sequence_axis": "visit"})
    widget.model.box.setItemData(widget.model.box.currentIndex(), along)
    images = [layer for layer in viewer.layers if layer.name.endswith("T1post")]
    widget.images.tick(images)
    widget.options.boxes.setChecked(True)
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    assert len(widget.found) == 2
    assert told[0]["force"] == widget.model.force
    for image in images:
        assert (viewer.layers[f"{image.name} labels"].data == (image.data > 300)).all()
        assert len(viewer.layers[f"{image.name} centres"].data) == 2


@pytest.mark.usefixtures("knows")
def test_a_model_along_visits_takes_neither_a_part_nor_labels_to_keep(
    viewer: Any, qtbot: Any, wait: Wait, notices: list[tuple[str, str]]
) -> None:
    widget = docked(viewer, AnalyseWidget, wait)
    along = widget.model.info.model_copy(update={"sequence_axis": "visit"})
    widget.model.box.setItemData(widget.model.box.currentIndex(), along)
    widget.images.tick([layer for layer in viewer.layers if layer.name.endswith("T1post")])
    widget.options.where.setCurrentIndex(widget.options.where.findData("slice"))
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    assert "run it on the whole images" in notices[-1][1]
    assert not widget.found


@pytest.mark.usefixtures("knows")
def test_analyse_segments_the_ticked_images(
    viewer: Any, qtbot: Any, wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = docked(viewer, AnalyseWidget, wait)
    image = viewer.layers["sub-x ses-20200504 T1post"]
    widget.images.tick([])
    assert not widget.run_button.isEnabled()
    widget.images.tick([image])
    assert "what is bright" in widget.model.card.toPlainText().lower()
    widget.options.uncertainty.setChecked(True)
    widget.options.boxes.setChecked(True)
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    labels = viewer.layers["sub-x ses-20200504 T1post labels"]
    assert widget.outcome.text() == verbs.found_in_words(viewer, labels)
    assert "lesion" in widget.outcome.text()
    assert labels.features["name"].tolist() == ["background", "lesion"]
    assert (labels.scale == image.scale).all()
    assert labels.units == image.units
    assert "sub-x ses-20200504 T1post uncertainty" in viewer.layers
    # a box around each lesion in each of its slices, from the labels that are shown
    boxes, centres = (
        viewer.layers["sub-x ses-20200504 T1post boxes"],
        viewer.layers["sub-x ses-20200504 T1post centres"],
    )
    assert len(centres.data) == len(ms.Locations.of(widget.found[0]))
    assert len(boxes.data) >= len(centres.data) > 0
    widget.options.boxes.setChecked(False)
    # an explanation, steps before the model, and labels that stay
    asked: list[Any] = []

    def noted(seq: Any, model: Any, **options: Any) -> Any:
        asked.append((seq, options["keep"], options))
        return bright(seq, model, **options)

    monkeypatch.setattr(ms, "segment", noted, raising=False)
    assert widget.options.explanation.isHidden()  # a segmenter's may lie in air
    widget.options.where.setCurrentIndex(1)
    save([Percentile()], tmp_path / "p.yaml")
    widget.options.load(tmp_path / "p.yaml")
    assert widget.options.chain.currentText() == "p.yaml"
    widget.options.locked.choose(viewer.layers["sub-x ses-20200504 tumor"])
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    (seq, keep, options) = asked[0]
    assert seq.data.max() <= 1
    assert keep.kind == "labels"
    assert options["steps"] == [verbs.shown_slice(viewer, image)]
    assert [len(v.images) for v in verbs.study_of(viewer).visits] == [1, 1]


@pytest.mark.usefixtures("knows")
def test_a_model_that_does_not_fit_is_greyed_out_with_the_reason(viewer: Any, wait: Wait) -> None:
    widget = docked(viewer, AnalyseWidget, wait)
    ct = verbs.to_sequence(viewer.layers[0]).replace(modality="CT", name="chest")
    layer = verbs.add_sequence(viewer, ct.replace(name="chest " * 30))
    wide = widget.layout().itemAt(0).widget().widget().minimumSizeHint().width()
    widget.images.tick([layer])
    assert not widget.model.box.model().item(0).isEnabled()
    assert "CT" in widget.model.misfits.text()
    # a long reason breaks; it does not push the buttons out of the dock
    assert widget.layout().itemAt(0).widget().widget().minimumSizeHint().width() <= wide
    widget.images.tick([viewer.layers[0]])
    assert widget.model.box.model().item(0).isEnabled()
    assert widget.model.misfits.isHidden()


@pytest.mark.usefixtures("knows")
def test_classification_shows_probabilities_per_slice(
    viewer: Any, qtbot: Any, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 16
    per_step = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    attention = np.full(n, 1 / n, np.float32)
    answer = Classification({"tumour": 0.9}, per_step, attention, 8, ["tumour"], "z", "c 1")
    monkeypatch.setattr(ms, "classify", lambda *_a, **_k: answer, raising=False)
    widget = docked(viewer, AnalyseWidget, wait)
    info = widget.model.info.model_copy(update={"task": "classification", "name": "c"})
    widget.model.box.addItem("c", info)
    widget.model.box.setCurrentText("c")
    assert widget.options.locked.isHidden()
    widget.images.tick([viewer.layers["sub-x ses-20200504 T1post"]])
    monkeypatch.setattr(ms, "load_model", lambda name: name, raising=False)
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    view = widget.view
    assert "0.90" in view.exam.text()
    assert view.table.rowCount() == n
    for step in (3, 12):
        view.go_to(step)
        assert view.shown_step() == step
        assert view._cursor.get_xdata()[0] == step
        assert viewer.dims.point[0] == 1
    axis = list(viewer.dims.axis_labels).index("z")
    viewer.dims.set_current_step(axis, 5)
    assert view._cursor.get_xdata()[0] == view.shown_step()
    viewer.theme = "light"  # everything is drawn anew
    assert view.shown_step() != 0
    assert view._cursor.get_xdata()[0] == view.shown_step()
    view._clicked(SimpleNamespace(inaxes=True, xdata=7.2))
    assert view.shown_step() == 7
    view.table.selectAll()
    assert view.table.text().splitlines()[0] == "slice\ttumour\tattention"
    assert view.table.text().splitlines()[1].startswith("1\t")
    assert f"of {n}" in view.exam.text()


@pytest.mark.usefixtures("knows")
def test_a_model_of_several_channels_asks_for_each(viewer: Any, wait: Wait) -> None:
    widget = docked(viewer, AnalyseWidget, wait)
    info = widget.model.info.model_copy(update={"channels": ("PD", "T2"), "name": "two"})
    widget.model.box.addItem("two", info)
    widget.model.box.setCurrentText("two")
    assert list(widget._channels) == ["PD", "T2"]
    assert not widget.images.isVisibleTo(widget)
    assert not widget.run_button.isEnabled()
    assert "image of a channel" in widget.run_button.toolTip()
    # images that arrive are chosen by their names; a channel may stay empty, but none gets the image of another one
    name = next(layer.name for layer in viewer.layers if isinstance(layer, Image))
    for contrast in ("PD", "T2"):
        seq = verbs.to_sequence(viewer.layers[name])
        verbs.add_sequence(viewer, seq.replace(name=f"scan {contrast}"))
    assert [box.currentText() for box in widget._channels.values()] == ["scan PD", "scan T2"]
    layers, inputs = widget._inputs()
    assert {name: seq.name for name, seq in inputs[0].items()} == {"PD": "scan PD", "T2": "scan T2"}
    assert [layer.name for layer in layers] == ["scan PD"]
    widget._channels["PD"].setCurrentText("(none)")
    widget._channels["PD"].activated.emit(0)
    viewer.layers.remove(viewer.layers[-1])
    verbs.add_sequence(viewer, seq.replace(name="scan T2 again"))
    assert [box.currentText() for box in widget._channels.values()] == ["(none)", "scan T2 again"]
    assert list(widget._inputs()[1][0]) == ["T2"]
    widget._channels["PD"].setCurrentText("scan T2 again")
    with pytest.raises(MedseqError, match="scan T2 again is chosen for PD and T2"):
        widget._inputs()
    # the colours of one picture are not images of their own
    widget.model.box.addItem(
        "colours", info.model_copy(update={"channels": ("red", "green", "blue"), "name": "colours"})
    )
    widget.model.box.setCurrentText("colours")
    assert not widget._channels
    assert widget.images.isVisibleTo(widget)


def test_a_model_folder_can_be_added(viewer: Any, wait: Wait, tiny_bundle: Path, tmp_path: Path) -> None:
    widget = docked(viewer, AnalyseWidget, wait)
    assert widget.model.info is None or widget.model.info.name != "tiny"
    widget.model.add_folder(str(tiny_bundle))
    assert widget.model.info.name == "tiny"
    assert widget.model.reference == str(tiny_bundle)
    with pytest.raises(ms.MedseqError):
        widget.model.add_folder(str(tmp_path))


# -- opening in the application ----------------------------------------------------------------------------------------
def test_a_folder_that_cannot_be_opened_is_one_notification(
    make_napari_viewer: Any, tmp_path: Path, notices: list[Any]
) -> None:
    viewer = make_napari_viewer(show=False)
    reader = get_reader(str(tmp_path))
    assert reader is not None
    assert reader(str(tmp_path)) == [(None,)]
    assert [severity for severity, _ in notices] == ["error"]
    assert str(tmp_path) in notices[0][1]
    assert len(viewer.layers) == 0


def test_what_is_opened_in_the_application_is_shown_along_its_slices(make_napari_viewer: Any, ball_study: Path) -> None:
    viewer = make_napari_viewer(show=False)
    reader = get_reader(str(ball_study))
    assert reader is not None
    for data, kwargs, kind in (layer for layer in reader(str(ball_study)) if len(layer) == 3):
        viewer._add_layer_from_data(data, kwargs, kind)
    assert viewer.dims.axis_labels == ("visit", "z", "y", "x")
    assert viewer.dims.current_step[0] == 0
    assert 0 < viewer.dims.current_step[1] < viewer.dims.nsteps[1] - 1


def test_commands_of_the_layers_menu(viewer: Any, notices: list[Any]) -> None:
    lower, upper = viewer.layers[0], viewer.layers[2]
    viewer.layers.selection = {upper, lower}
    actions.resample_onto_lowest(as_plugins_see_it(viewer))
    assert viewer.layers.pop(-1).name == f"{upper.name} on {lower.name}"
    assert len(viewer.layers) == 4
    viewer.layers.selection = {lower}
    actions.resample_onto_lowest(viewer)
    assert "Select two layers" in notices[-1][1]
    actions.toggle_world_placement(viewer)
    assert "4 layers are drawn at their true place" in notices[-1][1]
    actions.toggle_world_placement(viewer)
    assert "in the slice view" in notices[-1][1]


# -- Teach -------------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("knows")
def test_teaching_shows_the_answer_and_the_model_is_found_by_analyse(
    viewer: Any, qtbot: Any, wait: Wait, bright_bundle: Path, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    lessons: list[dict[str, Any]] = []

    def taught(image_given: Any, labels: Any, settings: dict[str, Any], **_options: Any) -> Any:
        if not np.any(labels.data):
            raise ms.MedseqError("nothing is painted")
        assert labels.same_grid(image_given)
        lessons.append(dict(settings))
        return SimpleNamespace(model=ms.load_model("tiny"), curve=pd.DataFrame({"iteration": [500]}))

    monkeypatch.setattr(ms, "teach", taught, raising=False)
    analyse = docked(viewer, AnalyseWidget, wait)
    widget = TeachWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Teach")
    widget.lesson.judge.setChecked(False)
    image = viewer.layers["sub-x ses-20200504 T1post"]
    widget.image.choose(image)
    from_menu = verbs.new_labels(viewer, image)
    assert widget.labels.layer == from_menu
    viewer.layers.remove(from_menu)
    click(qtbot, widget.new_button)
    painted = some(widget.labels.layer)
    assert painted.data.shape == image.data.shape
    click(qtbot, widget.lesson.run_button)
    wait(lambda: not widget.work.busy)
    assert notices == [("error", "nothing is painted")]
    painted.data[0, 4:7, 10:14, 10:14] = 1
    for lesson in range(2):
        count = len(viewer.layers)
        click(qtbot, widget.lesson.run_button)
        wait(lambda: not widget.work.busy)
        assert widget.answer in viewer.layers
        assert len(viewer.layers) == count + (lesson == 0)  # the second answer replaces the first
        assert viewer.layers.selection.active == widget.answer  # what is corrected is what is seen
        widget.lesson.go_on.setChecked(True)
    assert "start_from" not in lessons[0]
    assert lessons[1]["start_from"] == str(bright_bundle)
    assert Path(lessons[0]["out"]).name == "taught"
    assert "all of its 500 rounds" in widget.outcome.text()
    # a model that came while Analyse was open is in its list at once, and goes when it is removed
    assert analyse.model.box.findText("taught") < 0
    infos = ms.list_models()
    other = infos[0].model_copy(update={"name": "taught", "folder": "/elsewhere/taught"})
    monkeypatch.setattr(ms, "list_models", lambda: [*infos, other], raising=False)
    before = analyse.model.info
    announce_models()
    assert analyse.model.box.findText("taught") > 0
    assert analyse.model.info == before
    monkeypatch.setattr(ms, "list_models", lambda: infos, raising=False)
    announce_models()
    assert analyse.model.box.findText("taught") < 0


def test_a_few_painted_slices_make_a_model_that_finds_the_rest(
    make_napari_viewer: Any, qtbot: Any, wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network is truly trained, for fewer iterations than a user's."""

    def short(images: Any, labels: Any, settings: dict[str, Any], **options: Any) -> Any:
        return teach(images, labels, settings | {"iterations": 40, "minutes": None}, **options)

    monkeypatch.setattr(ms, "teach", short, raising=False)
    monkeypatch.setattr(
        lesson_quality,
        "teach",
        lambda images, labels, settings, **options: teach(images, labels, _short(settings, 5), **options),
    )
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path))
    z, y, x = np.indices((12, 32, 32))
    truth = (z - 6) ** 2 * 4 + (y - 16) ** 2 + (x - 12) ** 2 < 81
    rng = np.random.default_rng(0)
    data = np.where(truth, 300, 100) + rng.normal(0, 15, truth.shape)
    image = ms.ImageSequence(
        data.astype(np.float32), ("z", "y", "x"), np.diag([-1, -1, 3, 1.0]), name="scan", modality="MR"
    )
    viewer = make_napari_viewer(show=False)
    verbs.add_sequence(viewer, image)
    widget = TeachWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Teach")
    click(qtbot, widget.new_button)
    painted = np.flatnonzero(truth.any(axis=(1, 2)))[1::2]
    some(widget.labels.layer).data[painted] = truth[painted]
    widget.lesson.name.setText("ball")
    click(qtbot, widget.lesson.run_button)
    assert widget.work.busy
    wait(lambda: not widget.work.busy)
    answer = np.asarray(viewer.layers["scan ball"].data) > 0
    rest = np.setdiff1d(np.arange(12), painted)
    dice = 2 * (answer & truth)[rest].sum() / (answer[rest].sum() + truth[rest].sum())
    assert dice > 0.4  # all of it labelled: 0.25
    assert answer[painted][truth[painted]].all()  # what was painted stays
    assert "ball" in [info.name for info in ms.list_models()]
    assert widget.lesson.go_on.isEnabled()
    assert "ball" in widget.outcome.text()
    assert "Estimated Dice" in widget.outcome.text()
    assert "Training ended" in widget.outcome.text()


def _short(settings: TeachSettings, iterations: int) -> TeachSettings:
    return settings.model_copy(update={"iterations": iterations, "minutes": None})
