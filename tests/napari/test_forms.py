"""Forms made from settings models."""

from __future__ import annotations

import sys
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from qtpy.QtWidgets import QComboBox

from napari_medseq._napari.forms import ModelForm, field_notes
from napari_medseq.errors import SettingsError
from napari_medseq.preprocessing import PRESETS, STEPS, Window
from napari_medseq.progression import TrackSettings

pytestmark = [pytest.mark.viewer, pytest.mark.usefixtures("qapp")]


class Example(BaseModel):
    """Settings.

    Attributes
    ----------
    count : int
        How many.
    shape, size : float
        In mm.
    """

    model_config = ConfigDict(frozen=True)
    kind: Literal["example"] = "example"
    count: int = Field(3, ge=1, le=9)
    size: float = Field(0.014, ge=0)
    share: float | None = Field(None, gt=0)
    mode: Literal["a", "b"] = "a"
    maybe: Literal["x", "y"] | None = None
    flag: bool = True
    points: tuple[int, ...] = (30, 20)
    name: str = "n"
    hidden: int = Field(5, exclude=True)


def test_an_untouched_form_gives_the_defaults() -> None:
    for model in (Example, TrackSettings, *STEPS.values()):
        if model is Window:
            continue
        assert ModelForm(model).settings == model()
    window = Window(preset="lung")
    assert ModelForm(Window, window, choices={"preset": [None, *PRESETS]}).settings == window


def test_every_kind_of_row_is_read() -> None:
    form = ModelForm(Example)
    assert {row.name for row in form} == {
        "count", "size", "share", "mode", "maybe", "flag", "points", "name",
    }  # fmt: skip
    form["count"].value = 5
    form["share"].value = "0.5"
    form["mode"].value = "b"
    form["maybe"].value = "y"
    form["flag"].value = False
    form["points"].value = "1, 2, 3"
    form["name"].value = "m"
    assert form.settings == Example(count=5, share=0.5, mode="b", maybe="y", flag=False, points=(1, 2, 3), name="m")
    assert form["count"].max == 9
    assert form["count"].tooltip == "How many."
    form["share"].value = "half"
    with pytest.raises(SettingsError, match="share"):
        _ = form.settings


def test_notes_come_from_the_docstring() -> None:
    notes = field_notes(Example)
    assert notes == {"count": "How many.", "shape": "In mm.", "size": "In mm."}
    assert "6, 18, 26" not in field_notes(TrackSettings)["connectivity"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None cannot be released any more since Python 3.12")
def test_the_qt_binding_does_not_release_none() -> None:
    box = QComboBox()
    before = sys.getrefcount(None)
    for _ in range(500):
        box.currentData()
    assert sys.getrefcount(None) - before > -250  # PySide6 6.12.0: -500, and an abort after some minutes of use
