"""No viewer, widget, study or result outlives its window: each would take its images with it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_medseq import viewer as verbs
from napari_medseq._napari.analyse_widget import AnalyseWidget
from napari_medseq._napari.curves_widget import CurvesWidget
from napari_medseq._napari.display_widget import DisplayWidget
from napari_medseq._napari.edit_widget import EditWidget
from napari_medseq._napari.preprocess_widget import PreprocessWidget
from napari_medseq._napari.progression_widget import ProgressionWidget
from napari_medseq._napari.study_widget import StudyWidget
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.masks import tools
from tests.napari.helpers import Wait, bright, docked


def alive(what: dict[str, ref[Any]]) -> list[str]:
    """Those that are still there when everything that can go has gone."""
    for _ in range(3):
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.DeferredDelete)
        gc.collect()
    return [name for name, one in what.items() if one() is not None]


def test_a_viewer_and_its_results_go_when_nobody_uses_them(ball_study: Path, tmp_path: Path) -> None:
    viewer: Any = ViewerModel()
    verbs.open_path(viewer, ball_study)
    progression = verbs.track_layers(viewer)
    layer = verbs.result_of(viewer).layers[0]
    layer.paint((0, 8, 40, 6), 9)
    verbs.correct(viewer, "exclude", 2)
    verbs.undo(viewer)
    verbs.edit(viewer, tools.Margin(mm=2), layer)
    verbs.limit_brush(viewer, 100, 200)
    verbs.show_values(viewer)
    verbs.show_diameters(viewer)
    verbs.colour_by(viewer, "change")
    verbs.values_at(viewer, viewer.dims.point)
    verbs.save_session(viewer, tmp_path / "kept.medseq")
    what = {"viewer": ref(viewer), "result": ref(progression), "layer": ref(layer)}
    del viewer, progression, layer
    assert alive(what) == []


@pytest.mark.viewer
@pytest.mark.usefixtures("knows")
def test_no_widget_outlives_its_window(make_napari_viewer: Any, ball_study: Path, wait: Wait) -> None:
    viewer = make_napari_viewer(show=False)
    verbs.open_path(viewer, ball_study)
    what: dict[str, ref[Any]] = {"viewer": ref(viewer), "image": ref(viewer.layers[0])}
    for kind in (StudyWidget, AnalyseWidget, TeachWidget, PreprocessWidget, CurvesWidget, EditWidget, DisplayWidget):
        what[kind.__name__] = ref(docked(viewer, kind, wait))
    widget = docked(viewer, ProgressionWidget, wait)
    what["ProgressionWidget"] = ref(widget)
    widget.by_model.setChecked(True)
    widget.run()
    wait(lambda: not widget.work.busy)
    image = viewer.layers[0]
    verbs.show_segmentation(viewer, image, bright(verbs.to_sequence(image), None))
    what |= {"plot": ref(widget.result.plot), "result": ref(widget.result.progression)}
    what |= {f"layer {layer.name}": ref(layer) for layer in viewer.layers}
    widget, image = None, None
    viewer.close()
    del viewer
    assert alive(what) == []


@pytest.mark.viewer
def test_no_layer_outlives_a_window_that_only_opened_it(make_napari_viewer: Any, ball_study: Path) -> None:
    viewer = make_napari_viewer(show=False)
    viewer.open(str(ball_study), plugin="napari-medseq")  # as a person does: the window is watched over from here on
    QApplication.processEvents()
    viewer.dims.set_current_step(0, 1)
    kinds = {type(layer).__name__ for layer in viewer.layers}
    assert kinds >= {"Image", "Labels"}
    what: dict[str, ref[Any]] = {layer.name: ref(layer) for layer in viewer.layers}
    controls = viewer.window._qt_viewer.controls.widgets
    what |= {f"controls of {layer.name}": ref(controls[layer]) for layer in viewer.layers if layer in controls}
    del controls
    viewer.close()
    del viewer
    assert alive(what) == []
