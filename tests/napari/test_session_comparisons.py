"""Sessions bring back maps of change, differences of masks and the meaning of colours, and whether they are outdated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseq import viewer as verbs
from napari_medseq._napari.display_widget import DisplayWidget

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


def test_a_map_of_change_follows_its_result_in_a_reopened_session_too(ball_study: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    verbs.track_layers(viewer)
    name = verbs.show_change(viewer, 0, 1).name
    verbs.save_session(viewer, tmp_path / "current")
    verbs.correct(viewer, "exclude", 2)
    verbs.save_session(viewer, tmp_path / "outdated")
    again = ViewerModel()
    verbs.open_session(again, tmp_path / "current")
    shown = again.layers[name]
    assert not shown.editable
    verbs.correct(again, "exclude", 2)
    assert shown.name == f"{name} (outdated)"
    verbs.undo(again)
    assert shown.name == name
    other = ViewerModel()
    verbs.open_session(other, tmp_path / "outdated")
    assert f"{name} (outdated)" in other.layers
    assert verbs.show_change(other, 0, 1).name == name
    assert f"{name} (outdated)" not in other.layers  # it was replaced


@pytest.mark.viewer
def test_the_meaning_of_colours_is_kept_and_the_next_correction_keeps_to_it(
    ball_study: Path, tmp_path: Path, qtbot: Any
) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    verbs.track_layers(viewer)
    verbs.colour_by(viewer, "response", rule="volumetric")
    verbs.save_session(viewer, tmp_path / "work")
    again = ViewerModel()
    verbs.open_session(again, tmp_path / "work")
    assert verbs.colours_chosen(again, "sub-x") == ("response", "volumetric")
    for v in (viewer, again):
        verbs.correct(v, "unlink", 1, 1)
    for one, other in zip(verbs.result_of(viewer).layers, verbs.result_of(again).layers, strict=True):
        assert one.colormap.color_dict.keys() == other.colormap.color_dict.keys()
        assert all(np.allclose(colour, other.get_color(v)) for v, colour in one.colormap.color_dict.items() if v)
    widget = DisplayWidget(again)
    qtbot.addWidget(widget)
    assert (widget.meaning.currentData(), widget.rule.currentText()) == ("response", "volumetric")


def test_differences_of_two_masks_are_outdated_when_one_of_them_is_changed(ball_study: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    verbs.open_path(viewer, ball_study)
    one = next(layer for layer in viewer.layers if "tumor" in layer.name)
    other = viewer.add_layer(type(one)(np.array(one.data), name="second", scale=one.scale, translate=one.translate))
    other.axis_labels, other.units, other.metadata = one.axis_labels, one.units, one.metadata
    layer = verbs.compare_masks(viewer, one, other).layer
    name = layer.name
    verbs.save_session(viewer, tmp_path / "work")
    again = ViewerModel()
    verbs.open_session(again, tmp_path / "work")
    for v in (viewer, again):
        v.layers["second"].brush_size = 2
        v.layers[one.name].visible = True
        assert name in v.layers
        v.layers["second"].paint((0, 8, 40, 6), 1)
        assert name not in v.layers
        assert f"{name} (outdated)" in v.layers
        new = verbs.compare_masks(v, v.layers[one.name], v.layers["second"])
        assert new.layer.name == name
        assert f"{name} (outdated)" not in v.layers
        v.layers["second"].data = np.array(one.data)  # by a script or another plugin
        assert f"{name} (outdated)" in v.layers
    verbs.save_session(viewer, tmp_path / "outdated")
    third = ViewerModel()
    verbs.open_session(third, tmp_path / "outdated")
    assert f"{name} (outdated)" in third.layers
