"""Forms made from settings models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from napari.components import ViewerModel
from pydantic import BaseModel, Field
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QComboBox

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import LayerBox
from napari_medseq._napari.controls.forms import ModelForm, _Title, label_of, tooltip_of
from napari_medseq.errors import SettingsError
from napari_medseq.preprocessing import PRESETS, STEPS, Window
from napari_medseq.progression import TrackSettings
from napari_medseq.settings import Settings
from tests.napari.helpers import as_plugins_see_it

pytestmark = [pytest.mark.viewer, pytest.mark.usefixtures("qapp")]

#: models whose forms people fill in
DESCRIBED = (TrackSettings,)


class Inner(Settings):
    deep: int = 3


class Example(Settings):
    """Settings."""

    kind: Literal["example"] = "example"
    count: int = Field(3, ge=1, le=9, title="how many", description="How many there are.")
    size: float = Field(0.014, ge=0, description="Edge.", json_schema_extra={"unit": "mm"})
    tiny: float = Field(1e-6, gt=0)
    exact: float = Field(0.0625, gt=0, le=0.0625)
    share: float | None = Field(None, gt=0)
    wide: Annotated[float, Field(gt=0)] | None = Field(None, json_schema_extra={"none": "as wide as the image"})
    mode: Literal["a", "b"] = "a"
    maybe: Literal["x", "y"] | None = None
    perhaps: bool | None = None
    flag: bool = True
    points: tuple[int, ...] = (30, 20)
    name: str = "n"
    region: str = Field("brain", json_schema_extra={"choices": ["brain", "lung"]})
    seed: int = Field(0, json_schema_extra={"advanced": True})
    hidden: int = Field(5, exclude=True)
    inner: Inner = Inner()


def test_an_untouched_form_gives_the_defaults() -> None:
    models: list[type[BaseModel]] = [Example, TrackSettings, *STEPS.values()]
    for model in models:
        if model is Window:
            continue
        assert ModelForm(model).settings == model()
    window = Window(preset="lung")
    assert ModelForm(Window, window, choices={"preset": [None, *PRESETS]}).settings == window


def test_every_kind_of_row_is_read() -> None:
    form = ModelForm(Example)
    assert list(form.rows) == [
        "count", "size", "tiny", "exact", "share", "wide", "mode", "maybe", "perhaps", "flag", "points", "name", "region", "seed",
    ]  # fmt: skip
    values: dict[str, Any] = {
        "count": 5, "size": 0.5, "tiny": "2e-7", "share": "0.5", "mode": "b", "maybe": "y", "perhaps": False, "flag": False,
        "points": "1, 2, 3", "name": "m", "region": "lung", "seed": 7,
    }  # fmt: skip
    for name, value in values.items():
        form[name].value = value
    wanted = Example(
        count=5, size=0.5, tiny=2e-7, share=0.5, mode="b", maybe="y", perhaps=False, flag=False, points=(1, 2, 3), name="m",
        region="lung", seed=7,
    )  # fmt: skip
    assert form.settings == wanted
    form["points"].value = "9"
    assert form.settings.points == (9,)


def test_a_field_without_a_row_keeps_the_value_given() -> None:
    value = Example(inner=Inner(deep=8))
    assert ModelForm(Example, value).settings == value


def test_what_cannot_be_used_is_said_with_its_field() -> None:
    form = ModelForm(Example)
    assert form.problem == ""
    form["share"].value = "half"
    assert "share" in form.problem
    with pytest.raises(SettingsError, match="share"):
        _ = form.settings


def test_label_tooltip_unit_and_bounds_are_those_of_the_field() -> None:
    assert label_of(Example, "count") == "how many"
    assert label_of(Example, "size") == "size (mm)"
    tip = tooltip_of(Example, "count")
    assert "How many there are." in tip
    assert "≥ 1, ≤ 9" in tip
    assert "as wide as the image" in tooltip_of(Example, "wide")
    assert "&gt; 0" in tooltip_of(Example, "wide")
    assert label_of(STEPS["crop"], "margin_mm") == "margin (mm)"
    form = ModelForm(Example)
    box = form["count"].native
    assert box.toolTip() == tip
    assert (box.minimum(), box.maximum()) == (1, 9)


def test_every_row_of_a_form_says_what_it_is() -> None:
    silent = [f"{m.__name__}.{n}" for m in DESCRIBED for n, f in m.model_fields.items() if not f.description]
    assert silent == []


def test_none_has_a_name_in_a_list_of_choices() -> None:
    form = ModelForm(Example)
    box = form["maybe"].native
    assert [box.itemText(k) for k in range(box.count())] == ["automatic", "x", "y"]


def test_help_lists_what_the_fields_say_of_themselves() -> None:
    text = str(TrackSettings.__doc__)
    assert "min_volume_ml : float, default 0.014, in ml\n    Smaller lesions" in text
    assert text.index("Attributes\n---") < text.index("Raises\n---")


def test_the_wheel_scrolls_the_dock_and_changes_no_number(qtbot: Any) -> None:
    form = ModelForm(Example)
    qtbot.addWidget(form)
    form.show()
    box = form["count"].native
    box.clearFocus()
    at = QPointF(box.rect().center())
    none = Qt.NoModifier
    turn = QWheelEvent(at, at, QPoint(0, 120), QPoint(0, 120), Qt.NoButton, none, Qt.ScrollUpdate, False)
    QApplication.sendEvent(box, turn)
    assert form["count"].value == 3


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None cannot be released any more since Python 3.12")
def test_the_qt_binding_does_not_release_none() -> None:
    box = QComboBox()
    before = sys.getrefcount(None)
    for _ in range(500):
        box.currentData()
    assert sys.getrefcount(None) - before > -250  # PySide6 6.12.0: -500, and an abort after some minutes of use


def test_titles_that_fit_are_on_one_line(qtbot: Any) -> None:
    form = ModelForm(TrackSettings)
    qtbot.addWidget(form)
    form.resize(380, 900)
    form.show()
    titles = [title for title in form.findChildren(_Title) if title.isVisible()]
    assert len(titles) > 5
    for title in titles:
        line = title.fontMetrics().height()
        assert (
            title.height() < 2 * line or title.fontMetrics().horizontalAdvance(title.text()) > title.maximumWidth() - 4
        )


def test_a_list_of_layers_begins_with_one_that_is_shown_and_keeps_what_was_chosen(qtbot: Any) -> None:
    viewer = ViewerModel()
    mask = np.zeros((3, 4), np.uint8)
    hidden = viewer.add_labels(mask, name="hidden", visible=False)
    box = LayerBox(viewer, ["labels"])
    qtbot.addWidget(box)
    assert box.layer == hidden  # there is no other
    shown = viewer.add_labels(mask, name="shown")
    assert box.layer == shown
    shown.visible = False  # as labels are that have an answer
    viewer.add_labels(mask, name="answer")
    assert box.layer == shown
    box.choose(hidden)
    viewer.add_labels(mask, name="another")
    assert box.layer == hidden
    late = LayerBox(viewer, ["labels"])
    qtbot.addWidget(late)
    assert late.currentText() == "answer"


def test_what_is_worked_on_begins_with_the_image_that_is_looked_at(ball_study: Path, qtbot: Any) -> None:
    viewer: Any = ViewerModel()
    verbs.open_path(viewer, ball_study)
    first, second = (layer for layer in viewer.layers if layer.name.endswith("T1post"))
    viewer.layers.selection.active = next(layer for layer in viewer.layers if "20200504 tumor" in layer.name)
    for visit, image in ((0, first), (1, second)):
        viewer.dims.set_point(0, visit)
        for active in (
            viewer.layers.selection.active,
            first,
            second,
        ):  # a mask; images, of which one is at another visit
            viewer.layers.selection.active = active
            box = LayerBox(as_plugins_see_it(viewer), ["image", "labels"])
            qtbot.addWidget(box)
            box.begin_with_shown()
            assert box.layer == image
