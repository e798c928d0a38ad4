"""*Time curves*: the intensity of each label of a dynamic series over its true times, with measures of the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QFormLayout, QPushButton, QSpinBox, QWidget

import napari
from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import LayerBox, ShortBox, follow_layers, scrolled, wrapped
from napari_medseq._napari.controls.tables import Table
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.window.services import accompany
from napari_medseq.colours import lesion_colour
from napari_medseq.dynamics import Beat, measure_beat
from napari_medseq.dynamics import enhancement as dynamic
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.layers.studies import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from napari.layers import Layer

    from napari_medseq._napari.curves_plot import CurvesPlot
    from napari_medseq.progress import Cancelled, Progress

_SHOWN = {
    "lesion": "label",
    "time_to_peak_s": "to peak (s)",
    "enhancement_percent": "rise (%)",
    "wash_in_per_s": "wash-in\n(intensity/s)",
    "wash_out_per_s": "wash-out\n(intensity/s)",
    "auc_s": "area\n(intensity·s)",
}
_PUMPED = {
    "lesion": "label",
    "ejection_fraction_percent": "EF (%)",
    "end_diastolic_ml": "largest\n(mL)",
    "end_systolic_ml": "smallest\n(mL)",
    "stroke_ml": "stroke\n(mL)",
}
_WALLS = {
    "segment": "segment",
    "thickening_percent": "thickens\n(%)",
    "end_diastolic_mm": "diastole\n(mm)",
    "end_systolic_mm": "systole\n(mm)",
}
INTENSITY, VOLUME = "intensity of each label", "volume of each label (cine)"

_NO_SERIES = "Open a series with frames first, such as perfusion or a cine: drag its file or folder into the viewer."
_NO_LABELS = "No labels yet? File → New Layer → New labels on this image's grid, then paint."


class CurvesWidget(QWidget):  # type: ignore[misc]
    """The dock widget; `measures` is the table of measures of the curves."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.measures: pd.DataFrame | None = None
        self._plot: CurvesPlot | None = None
        self._measured: tuple[Layer, ...] = ()
        accompany(napari_viewer)
        self._make_inputs()
        self._make_results()
        self._lay_out()
        self.work.busy_changed.connect(self._update)
        self.image.currentIndexChanged.connect(self._update)
        follow_layers(napari_viewer, self._update)
        connect_until_destroyed(napari_viewer.layers.events.removed, self._forget_removed)

    def _make_inputs(self) -> None:
        self.image = LayerBox(self.viewer, ["image"], fit=_has_frames)
        self.image.setPlaceholderText("none is open")
        self.image.setToolTip("A series with frames: perfusion, contrast over time, cine")
        self.labels = LayerBox(self.viewer, ["labels"])
        self.labels.setToolTip("What is measured: one mask for all frames, or one per frame")
        self.what = ShortBox()
        self.what.addItems([INTENSITY, VOLUME])
        self.what.setToolTip(
            "The brightness of each label in each frame; or its size and the ejection fraction, of a cine with a mask per frame"
        )
        self.what.currentTextChanged.connect(self._update)
        self.cavity, self.wall = QSpinBox(), QSpinBox()
        for box, title in ((self.cavity, "cavity"), (self.wall, "wall")):
            box.setRange(0, 1000)
            box.setSpecialValueText("none")
            box.setToolTip(
                f"The label of the ventricle's {title}. If cavity and wall are given, the thickening of the wall is measured by segment"
            )
        self.baseline = QSpinBox()
        self.baseline.setRange(1, 1000)
        self.baseline.valueChanged.connect(self._count_frames)
        self._count_frames(self.baseline.value())
        self.baseline.setToolTip("The number of frames before the contrast agent arrives; their mean is the baseline")
        self.run_button = QPushButton("Run")
        self.run_button.setStyleSheet("font-weight: bold; padding: 6px;")
        self.run_button.clicked.connect(self.run)

    def _count_frames(self, number: int) -> None:
        """Say what the number of the baseline counts."""
        self.baseline.setSuffix(" frame before contrast" if number == 1 else " frames before contrast")

    def _make_results(self) -> None:
        self.subject, self.hint = wrapped(), wrapped()
        self.work = WorkBar()
        self.table, self.walls = Table(), Table()
        self.table.row_chosen.connect(self._row_chosen)
        self.table.setToolTip("Click a row to select its label; Ctrl+C copies the table")
        self.walls.setToolTip("Thickness of the wall by segment, and how much it thickens. Ctrl+C copies the table")
        self.table.hide()
        self.walls.hide()

    def _lay_out(self) -> None:
        layout = scrolled(self)
        self.form = QFormLayout()
        for title, widget in (
            ("Series", self.image),
            ("Labels", self.labels),
            ("Measure", self.what),
            ("Baseline", self.baseline),
            ("Cavity", self.cavity),
            ("Wall", self.wall),
        ):
            self.form.addRow(title, widget)
        layout.addLayout(self.form)
        for widget in (self.hint, self.run_button, self.work, self.subject):
            layout.addWidget(widget)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.walls, 1)
        layout.addStretch(0)

    def _update(self, _event: object = None) -> None:
        of_volume = self.what.currentText() == VOLUME
        for widget, visible in ((self.image, not of_volume), (self.baseline, not of_volume), (self.cavity, of_volume)):
            self.form.setRowVisible(widget, visible)
        self.form.setRowVisible(self.wall, of_volume)
        why = (
            "A job of this widget runs"
            if self.work.busy
            else "Open or paint a mask first"
            if self.labels.layer is None
            else ""
            if of_volume or self.image.layer is not None
            else "No series with frames is open: open one, such as perfusion, or measure the volume of each label"
        )
        first = _NO_SERIES if self.image.layer is None else _NO_LABELS
        self.hint.setText(first if self.labels.layer is None else "" if self.work.busy or not why else f"{why}.")
        self.hint.setVisible(bool(self.hint.text()))
        self.run_button.setEnabled(not why)
        self.run_button.setToolTip(why or "Measure each label in each frame, and plot it below the image")

    def run(self) -> None:
        """Measure the curves; the plot is shown when the worker is done."""
        guarded("Time curves", self._run)

    def _run(self) -> None:
        if self.what.currentText() == VOLUME:
            self._run_volumes()
            return
        image, layer = self.image.layer, self.labels.layer
        if image is None or layer is None:
            raise MedseqError("A series and a label layer are needed. Open and choose both.")
        series, mask = verbs.to_sequence(image), verbs.to_sequence(layer)
        mask = mask.replace(data=np.array(mask.data))  # painting may go on meanwhile
        frames = self.baseline.value()

        def job(progress: Progress, cancelled: Cancelled) -> tuple[pd.DataFrame, pd.DataFrame]:
            curves = dynamic.time_intensity(series, mask, progress=progress, cancelled=cancelled)
            if curves.empty:
                raise MedseqError(f"{layer.name} has no label painted. Paint at least one, then run again.")
            return curves, dynamic.curve_measures(curves, baseline_frames=frames)

        self.work.start("Measuring curves", job, lambda tables: self._show(tables, image, layer))

    def _run_volumes(self) -> None:
        """Volumes over the frames of a mask, the ejection fraction of each label, and the thickening of the wall."""
        layer = self.labels.layer
        if layer is None:
            raise MedseqError("A mask with frames is needed. Open one, or segment a cine series first.")
        mask = verbs.to_sequence(layer)
        mask = mask.replace(data=np.array(mask.data))
        cavity, wall = self.cavity.value(), self.wall.value()

        def job(_progress: Progress, _cancelled: Cancelled) -> Beat:
            return measure_beat(mask, cavity, wall)

        self.work.start("Measuring volumes", job, lambda beat: self._show_beat(beat, layer))

    def _name(self, *layers: Layer) -> bool:
        """Say what the tables are of, if that is still open."""
        self._measured = layers
        self.subject.setText(" in ".join(layer.name for layer in layers))
        self._forget_removed()
        return bool(self._measured)

    def _forget_removed(self, _event: object = None) -> None:
        """Clear the table and the plot if their layers were removed."""
        if all(layer in self.viewer.layers for layer in self._measured):
            return
        self.measures, self._measured = None, ()
        self.subject.setText("")
        for table in (self.table, self.walls):
            table.fill([], [])
            table.hide()
        if self._plot is not None:
            self._plot.show_nothing()

    def _show_beat(self, beat: Beat, layer: Layer) -> None:
        if not self._name(layer):
            return
        self.measures = beat.pumped
        rows = [tuple(row) for row in beat.pumped[list(_PUMPED)].itertuples(index=False)]
        self.table.fill(list(_PUMPED.values()), rows, [lesion_colour(int(row[0])) for row in rows])
        self.table.show()
        self.walls.setVisible(beat.walls is not None)
        if beat.walls is not None:
            self.walls.fill(
                list(_WALLS.values()), [tuple(row) for row in beat.walls[list(_WALLS)].itertuples(index=False)]
            )
        verbs.apply_lesion_colours(layer, beat.volumes["lesion"].unique().tolist())
        self._plotted(lambda: self.plot.show_curves(beat.volumes, layer, layer, quantity="volume (mL)"))

    def _show(self, tables: tuple[pd.DataFrame, pd.DataFrame], image: Layer, layer: Layer) -> None:
        if not self._name(layer, image):
            return
        curves, self.measures = tables
        self.walls.hide()
        rows = [tuple(row) for row in self.measures[list(_SHOWN)].itertuples(index=False)]
        self.table.fill(list(_SHOWN.values()), rows, [lesion_colour(int(row[0])) for row in rows])
        self.table.show()
        verbs.apply_lesion_colours(layer, curves["lesion"].unique().tolist())
        self._plotted(lambda: self.plot.show_curves(curves, image, layer))

    def _plotted(self, draw: Callable[[], object]) -> None:
        """Show the plot; where it takes room from the canvas, the image is fitted into what is left."""
        is_new = self.plot.dock("Time curves plot")
        draw()
        if is_new:
            self.viewer.reset_view()

    @property
    def plot(self) -> CurvesPlot:
        """The plot, docked below the canvas."""
        if self._plot is None:
            # matplotlib takes its time, and is not waited for when the widget opens
            from napari_medseq._napari.curves_plot import CurvesPlot

            self._plot = CurvesPlot(self.viewer)
        return self._plot

    def _row_chosen(self, row: int) -> None:
        step = self.plot.shown_step()
        assert self.measures is not None  # the row belongs to its table
        self.plot.go(0 if step is None else step, int(self.measures["lesion"].iloc[row]))


def _has_frames(layer: Layer) -> bool:
    axes = facts_of(layer).get("axes")
    if axes is not None:
        return "t" in axes
    try:
        return "t" in verbs.to_sequence(layer).axes
    except MedseqError:
        return False
