"""*Display* in a real viewer: windows, the value under the mouse, what is drawn on lesions and goes with corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_medseq import viewer as view
from napari_medseq._napari.display_widget import DisplayWidget
from tests.balls import write_ball_study
from tests.napari.helpers import Wait, docked
from tests.napari.person import at

pytestmark = [pytest.mark.viewer, pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")]


@pytest.fixture
def widget(viewer: Any, wait: Wait) -> DisplayWidget:
    """The dock beside the study of balls."""
    made: DisplayWidget = docked(viewer, DisplayWidget, wait)
    viewer.layers.selection.active = viewer.layers[0]
    return made


def pick(box: Any, text: str) -> None:
    """Choose an entry as a person does."""
    box.setCurrentIndex(box.findText(text))
    box.activated.emit(box.currentIndex())


def hover(viewer: Any, point: tuple[float, ...]) -> None:
    """Move the mouse over a world position."""
    canvas = viewer.window._qt_viewer.canvas
    view_box, _ = canvas._get_viewbox_at((canvas.size[1] // 2, canvas.size[0] // 2))
    shown = [point[d - viewer.dims.ndim] for d in viewer.dims.displayed]
    x, y = (round(float(v)) for v in (view_box.transform * view_box.scene.transform).map(shown[::-1])[:2])
    where = QPointF(x, y)
    event = QMouseEvent(QEvent.MouseMove, where, where, Qt.NoButton, Qt.NoButton, Qt.NoModifier)
    QApplication.sendEvent(canvas.native, event)


def test_a_window_is_chosen_and_typed_for_all_visits(widget: DisplayWidget, viewer: Any) -> None:
    images = [k for k in viewer.layers if "T1post" in k.name]
    assert widget.window_box.findText("lung") < 0  # no file says CT, and no voxel is as low as air
    pick(widget.window_box, "all values")
    assert [list(k.contrast_limits) for k in images] == [[k.data.min(), k.data.max()] for k in images]
    widget.width_box.setValue(300)
    widget.level.setValue(200)
    assert [list(k.contrast_limits) for k in images] == [[50, 350]] * 2
    widget.everywhere.setChecked(False)
    widget.level.setValue(100)
    assert [list(k.contrast_limits) for k in images] == [[-50, 250], [50, 350]]
    images[0].contrast_limits = (0, 400)  # as napari's own slider does
    assert (widget.level.value(), widget.width_box.value()) == (200, 400)


def test_the_first_image_that_comes_is_the_one_whose_window_is_shown(make_napari_viewer: Any, wait: Wait) -> None:
    viewer = make_napari_viewer(show=False)
    widget = docked(viewer, DisplayWidget, wait)
    assert not widget.level.isEnabled()
    viewer.add_image(np.zeros((3, 8, 8)), contrast_limits=(0, 400))
    assert widget.level.isEnabled()
    assert (widget.level.value(), widget.width_box.value()) == (200, 400)
    pick(widget.window_box, "all values")
    viewer.add_labels(np.zeros((3, 8, 8), np.uint8))
    viewer.layers.move(0, 2)  # the list is another, the image is not
    assert widget.window_box.currentText() == "all values"


def test_the_value_under_the_mouse_is_written_and_voxels_are_drawn_smooth(
    widget: DisplayWidget, viewer: Any, wait: Wait
) -> None:
    image = viewer.layers[0]
    viewer.dims.set_point(1, at(image, 8, 0, 0)[1])
    viewer.reset_view()
    hover(viewer, at(image, 8, 20, 22))
    wait(lambda: "medseq values" in viewer.canvas.overlays)
    text = viewer.canvas.overlays["medseq values"].text
    assert f"T1post: {float(image.data[0, 8, 20, 22]):.4g}" in text
    widget.values.setChecked(False)
    assert not viewer.canvas.overlays["medseq values"].visible
    pick(widget.smooth, "smooth (linear)")
    assert str(viewer.layers[0].interpolation2d) == "linear"


def test_lesions_are_marked_once_they_are_followed(widget: DisplayWidget, viewer: Any) -> None:
    assert not widget.diameters.isEnabled()
    assert "run Progression first" in widget.diameters.toolTip()
    view.track_layers(viewer)
    assert widget.diameters.isEnabled()
    widget.diameters.setChecked(True)
    widget.numbers.setChecked(True)
    drawn = [k for k in viewer.layers if k.name.endswith(("diameters", "lesion numbers"))]
    assert len(drawn) == 4
    lesions = [int(v) for v in np.unique(view.result_of(viewer).layers[1].data) if v]
    view.correct(viewer, "exclude", lesions[-1])
    shown = [k for k in viewer.layers if k.name.endswith("lesion numbers")]
    assert all(lesions[-1] not in set(k.features["lesion"]) for k in shown)
    widget.diameters.setChecked(False)
    widget.numbers.setChecked(False)
    assert not [k for k in viewer.layers if k.name.endswith(("diameters", "lesion numbers"))]


def test_ticks_are_of_the_patient_in_front(widget: DisplayWidget, viewer: Any, tmp_path: Path) -> None:
    view.track_layers(viewer)
    widget.numbers.setChecked(True)
    view.open_path(viewer, write_ball_study(tmp_path / "sub-y"))
    assert widget.study.study == "sub-y"
    assert not widget.numbers.isChecked()
    view.bring_to_front(viewer, "sub-x")
    assert widget.numbers.isChecked()


def test_colours_have_a_legend(widget: DisplayWidget, viewer: Any) -> None:
    view.track_layers(viewer)
    pick(widget.meaning, "what became of it")
    assert "growing" in widget.legend.text()
    assert not widget.rule.isEnabled()
    pick(widget.meaning, "response of the patient")
    pick(widget.rule, "volumetric")
    verdict = view.result_of(viewer).progression.response("volumetric").verdicts[-1]
    assert verdict.category in widget.legend.text()
