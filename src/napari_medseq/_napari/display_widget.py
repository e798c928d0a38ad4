"""*Display*: grey-level windows, values under the cursor, and marks on tracked lesions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout, QHBoxLayout, QWidget

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import LayerBox, ShortBox, StudyBox, follow_layers, scrolled, wrapped
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.window.services import accompany
from napari_medseq.progression.response import RULES
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.results.followed import results_of

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_medseq.progression.graph import Graph

_OWN = "level and width as set"
_SMOOTH = {"voxel by voxel": "nearest", "smooth (linear)": "linear", "smoother (cubic)": "cubic"}
_MEANINGS = {"which lesion it is": "identity", "what became of it": "change", "response of the patient": "response"}
_NOT_YET = "No lesions are followed yet, so that none can be marked or coloured: run Progression first"


class DisplayWidget(QWidget):  # type: ignore[misc]
    """The dock widget."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._image: Image | None = None
        self._drawn: dict[str, Graph] = {}
        accompany(napari_viewer)
        self.image = LayerBox(napari_viewer, ["image"])
        self.window_box = ShortBox()
        self.window_box.setToolTip(
            "Windows in HU for CT and in SUV for PET, and percentiles of the values without padding"
        )
        self.level, self.width_box = self._number("Middle of the window"), self._number("Width of the window")
        self.width_box.setMinimum(1e-6)
        self.everywhere = QCheckBox("the same at all visits")
        self.everywhere.setChecked(True)
        self.everywhere.setToolTip("Show this series in the same window at every visit, so that visits can be compared")
        self.smooth = ShortBox()
        for text, how in _SMOOTH.items():
            self.smooth.addItem(text, how)
        self.smooth.setToolTip(
            "How voxels are drawn; their values do not change. Overlays with large voxels are easier to read when they are smoothed"
        )
        self.values = QCheckBox("values under the cursor")
        self.values.setToolTip(
            "Write the value of each visible image with its unit, and the label, in the lower left corner"
        )
        self.values.setChecked(verbs.shows_values(napari_viewer))
        self.study = StudyBox(napari_viewer)
        self.diameters = QCheckBox("diameters")
        self.numbers = QCheckBox("numbers")
        self.meaning = ShortBox()
        for text, meaning in _MEANINGS.items():
            self.meaning.addItem(text, meaning)
        self.rule = ShortBox()
        self.rule.addItems(sorted(RULES))
        self.rule.setCurrentText("recist-1.1")
        self.rule.setToolTip("The response rule whose category gives the colour")
        self.legend = wrapped()
        self._tips = {box: box.toolTip() for box in (self.window_box, self.level, self.width_box, self.smooth)}
        self._lay_out()
        self._connect()

    @staticmethod
    def _number(tip: str) -> QDoubleSpinBox:
        box = QDoubleSpinBox()
        box.setRange(-1e9, 1e9)
        box.setDecimals(2)
        box.setToolTip(tip)
        box.setMinimumWidth(80)
        box.setKeyboardTracking(False)
        return box

    def _lay_out(self) -> None:
        layout = scrolled(self)
        form = QFormLayout()
        numbers, drawn = QHBoxLayout(), QHBoxLayout()
        for row, pair in ((numbers, (self.level, self.width_box)), (drawn, (self.diameters, self.numbers))):
            for widget in pair:
                row.addWidget(widget, 1)
        for title, widget in (
            ("Image", self.image), ("Window", self.window_box), ("Level, width", numbers), ("", self.everywhere),
            ("Drawn", self.smooth), ("", self.values),
            ("Patient", self.study), ("Draw lesions'", drawn), ("Colour says", self.meaning), ("Rule", self.rule),
        ):  # fmt: skip
            form.addRow(title, widget)
        layout.addLayout(form)
        layout.addWidget(self.legend)
        layout.addStretch(1)

    def _connect(self) -> None:
        viewer = self.viewer
        self.image.currentIndexChanged.connect(self._follow)
        self.window_box.activated.connect(lambda _k: guarded("Window", self._preset))
        for box in (self.level, self.width_box):
            box.valueChanged.connect(lambda _value: guarded("Window", self._own_window))
        self.smooth.activated.connect(lambda _k: guarded("Drawing", self._interpolate))
        self.values.toggled.connect(lambda on: verbs.show_values(viewer, on))
        self.diameters.toggled.connect(
            lambda on: guarded("Diameters", lambda: self._draw(verbs.show_diameters, "diameters", on))
        )
        self.numbers.toggled.connect(
            lambda on: guarded("Numbers", lambda: self._draw(verbs.show_numbers, "lesion numbers", on))
        )
        self.meaning.activated.connect(lambda _k: guarded("Colours", self._colour))
        self.rule.activated.connect(lambda _k: guarded("Colours", self._colour))
        self.study.currentIndexChanged.connect(self._patient_chosen)
        connect_until_destroyed(viewer.layers.selection.events.active, self._activated)
        connect_until_destroyed(verbs.editing_of(viewer).events.changed, self._update)
        follow_layers(viewer, self._update)
        self._activated()
        self._follow()

    # -- the image -----------------------------------------------------------------------------------------------------
    def _activated(self, _event: object = None) -> None:
        active = self.viewer.layers.selection.active
        if active is not None and layer_kind(active) == "image":
            self.image.choose(active)

    def _follow(self, _index: int = 0) -> None:
        """Follow the contrast of the chosen image only."""
        layer = self.image.layer
        if self.window_box.count() and layer == self._image:
            return  # only its position in the list has changed; listing the windows of an image would read all of it
        if self._image is not None:
            self._image.events.contrast_limits.disconnect(self._show_limits)
        if layer is not None:
            connect_until_destroyed(layer.events.contrast_limits, self._show_limits)
        self._image = layer
        self.window_box.clear()
        self.window_box.addItem(_OWN)
        grey = layer is not None and not layer.rgb
        if layer is not None and grey:
            self.window_box.addItems(verbs.window_presets(layer))
            self.smooth.setCurrentIndex(max(self.smooth.findData(str(layer.interpolation2d)), 0))
        for widget, tip in self._tips.items():
            widget.setEnabled(grey)
            widget.setToolTip(tip if grey else "Open a grey image first")
        self._show_limits()

    def _show_limits(self, _event: object = None) -> None:
        """Show level and width as the layer has them, in its unit."""
        layer = self._image
        if layer is None or layer.rgb:
            return
        unit = verbs.unit_of(layer)
        low, high = (v * unit.factor for v in layer.contrast_limits)
        for box, value in ((self.level, (low + high) / 2), (self.width_box, high - low)):
            box.blockSignals(True)
            box.setSuffix(f" {unit.name}".rstrip())
            box.setSingleStep(max((high - low) / 20, 1e-3))
            box.setValue(value)
            box.blockSignals(False)

    def _preset(self) -> None:
        if self._image is not None and self.window_box.currentIndex() > 0:
            verbs.set_window(
                self.viewer, self._image, self.window_box.currentText(), everywhere=self.everywhere.isChecked()
            )

    def _own_window(self) -> None:
        if self._image is not None:
            self.window_box.setCurrentIndex(0)
            window = (self.level.value(), self.width_box.value())
            verbs.set_window(self.viewer, self._image, window, everywhere=self.everywhere.isChecked())

    def _interpolate(self) -> None:
        if self._image is not None:
            verbs.interpolate_image(
                self.viewer, self._image, self.smooth.currentData(), everywhere=self.everywhere.isChecked()
            )

    def _patient_chosen(self, _index: int = 0) -> None:
        """Tick what is drawn of this patient."""
        for box, role in ((self.diameters, "diameters"), (self.numbers, "lesion numbers")):
            box.blockSignals(True)
            box.setChecked(verbs.shows_marks(self.viewer, role, self.study.study))
            box.blockSignals(False)
        self._update()

    # -- the lesions ---------------------------------------------------------------------------------------------------
    def _update(self, _event: object = None) -> None:
        """Enable what can be drawn now, and redraw marks of a result that has changed."""
        self._follow()  # the first image is chosen without a signal
        study = self.study.study
        followed = results_of(self.viewer).get(study or "")
        tips = {
            self.diameters: "Draw the longest diameter and the perpendicular one on the slice where they were measured",
            self.numbers: "Write each lesion's number into every slice in which it is",
            self.meaning: "What the colours of the lesions say",
        }
        for widget, tip in tips.items():
            widget.setEnabled(followed is not None)
            widget.setToolTip(tip if followed is not None else _NOT_YET)
        self.rule.setEnabled(followed is not None and self.meaning.currentData() == "response")
        if followed is None or study is None:
            self.legend.setText(f"{_NOT_YET}.")
            return
        if self.legend.text() == f"{_NOT_YET}.":
            self.legend.clear()
        meaning, rule = verbs.colours_chosen(self.viewer, study)
        if self.meaning.currentData() != meaning:  # chosen for another patient, by a script, or in a session
            self.meaning.setCurrentIndex(self.meaning.findData(meaning))
            self.rule.setCurrentText(rule or self.rule.currentText())
            self.rule.setEnabled(meaning == "response")
            self.legend.clear()
        if self._drawn.get(study, followed.progression.graph) is not followed.progression.graph:
            for box, draw, role in (
                (self.diameters, verbs.show_diameters, "diameters"),
                (self.numbers, verbs.show_numbers, "lesion numbers"),
            ):
                if box.isChecked():
                    self._draw(draw, role, True)

    def _draw(self, draw: Callable[..., object], role: str, on: bool) -> None:
        study = self.study.study
        if study is None:
            return
        followed = results_of(self.viewer).get(study)
        if followed is not None:
            self._drawn[study] = followed.progression.graph  # before layers are added and removed, which updates again
        if on:
            draw(self.viewer, study)
        else:
            verbs.hide_marks(self.viewer, role, study)

    def _colour(self) -> None:
        meaning = self.meaning.currentData()
        self.rule.setEnabled(meaning == "response")
        legend = verbs.colour_by(self.viewer, meaning, study=self.study.study, rule=self.rule.currentText())
        rows = []
        for text, (red, green, blue, _alpha) in legend.items():
            code = "#" + "".join(f"{round(255 * v):02x}" for v in (red, green, blue))
            rows.append(f'<span style="color: {code}">■</span>&nbsp;{text}')
        self.legend.setText("&nbsp;&nbsp; ".join(rows))
