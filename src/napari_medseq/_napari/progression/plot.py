"""The docked plot of a progression: its cursor follows the slider of visits, and a click goes to that visit and
lesion."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from numpy.typing import NDArray
from qtpy.QtWidgets import QCheckBox, QComboBox

from napari_medseq._napari.controls.canvas import is_narrow
from napari_medseq._napari.controls.choosers import ShortBox
from napari_medseq._napari.controls.plot_dock import Drawn, PlotDock, View, owners
from napari_medseq.progression import plots

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.progression import Progression

_BURDEN = "Total burden"
#: views that support "log scale" and "relative"
_LINES: dict[str, str] = {"Volume of each lesion": "volume_ml", "Longest diameter of each lesion": "longest_mm"}
#: title → the view that is drawn
_OTHERS: dict[str, View] = {
    "What happened (tree)": plots.swimmer,
    "Change, first to last": plots.waterfall,
    _BURDEN: plots.burden,
}
_WITHOUT_TIME = "Change, first to last"


class ProgressionPlot(PlotDock):
    """Lesions on the left, total burden on the right; `go_to(visit, lesion)` is called for a clicked point."""

    def __init__(self, viewer: ViewerModel, go_to: Callable[[int, int | None], None]) -> None:
        self.progression: Progression | None = None
        self._ordinals: list[int] = []
        self._rows: dict[tuple[int, int], dict[Hashable, Any]] = {}
        super().__init__(viewer, "Click a point to go to that visit and lesion.")
        self._go_to = go_to
        self.view = ShortBox()
        self.view.setMinimumWidth(self.view.sizeHint().width())
        self.view.setSizeAdjustPolicy(QComboBox.AdjustToContents)  # titles are whole where there is room
        self.view.addItems([*_LINES, *_OTHERS])
        self.log = QCheckBox("log scale")
        self.relative = QCheckBox("relative to the first visit")
        self.view.setToolTip("The plot that is shown")
        self.log.setToolTip("Use a logarithmic scale, on which small lesions can be seen beside large ones")
        self.relative.setToolTip("Show each lesion in percent of its volume at its first visit")
        for widget in (self.view, self.log, self.relative):
            self.controls.addWidget(widget)
        self.view.currentTextChanged.connect(self._view_chosen)
        self.log.toggled.connect(self.redraw)
        self.relative.toggled.connect(self.redraw)

    def show_progression(self, progression: Progression, ordinals: Sequence[int], layers: Sequence[Layer] = ()) -> None:
        """Draw a progression; `ordinals` are the positions of its visits on the slider, `layers` its Labels layers."""
        self.progression, self._ordinals = progression, list(ordinals)
        table = progression.lesions
        self._rows = {(int(r["visit"]), int(r["lesion"])): r for r in table.to_dict("records")}
        self.redraw()
        self.follow_labels(layers)

    def show_nothing(self) -> None:
        """Clear the plot, because the patient in front has no result."""
        self.progression, self._ordinals, self._rows = None, [], {}
        self.clear()

    def _view_chosen(self, name: str) -> None:
        for box in (self.log, self.relative):
            box.setVisible(name in _LINES)
        self.redraw()

    def _known(self) -> Progression:
        assert self.progression is not None  # there is nothing to draw before
        return self.progression

    # -- what PlotDock asks --------------------------------------------------------------------------------------------
    @property
    def ready(self) -> bool:
        """Whether there is a progression."""
        return self.progression is not None

    def draw_on(self, figure: Figure) -> Drawn:
        """Draw the chosen view, and the total burden beside it."""
        progression, name = self._known(), self.view.currentText()
        if name == _BURDEN:
            axes = figure.subplots()
            plots.burden(progression, axes)
            axes.set_title(name, loc="left")
            return Drawn({}, [axes])
        ratios = (1.6, 1)
        if is_narrow(figure):
            lesions, total = figure.subplots(2, 1, height_ratios=ratios)
        else:
            lesions, total = figure.subplots(1, 2, width_ratios=ratios)
        if name in _LINES:
            relative = self.relative.isChecked()
            options = {"log": self.log.isChecked(), "relative": relative, "column": _LINES[name]}
            shown = plots.spaghetti(progression, lesions, **options)
        else:
            shown = _OTHERS[name](progression, lesions)
        lesions.set_title(name, loc="left")
        plots.burden(progression, total)
        total.set_title(_BURDEN, loc="left")
        if is_narrow(figure):
            total.margins(x=0.12)  # room for the words at the first and last point
        return Drawn(owners(shown), [total] if name == _WITHOUT_TIME else [lesions, total])

    def positions(self) -> NDArray[np.float64]:
        """The x position of each visit: its date as matplotlib counts, or its number."""
        x, real = plots.x_positions(self._known())
        return np.asarray(date2num(x) if real else x, dtype=float)

    def shown_step(self) -> int | None:
        """The visit of the progression that the viewer shows; None if there is none."""
        dims = self.viewer.dims
        if "visit" not in dims.axis_labels:
            return 0 if len(self._ordinals) == 1 else None
        at = round(dims.point[dims.axis_labels.index("visit")])
        return self._ordinals.index(at) if at in self._ordinals else None

    def go(self, step: int, lesion: int | None) -> None:
        """Show a visit, and a lesion there."""
        self._go_to(step, lesion)

    def in_words(self, step: int, lesion: int | None) -> str:
        """The lesion's name, its volume and its change in words."""
        row = self._rows.get((step, lesion or 0))
        day = self._known().dates[step]
        parts = [f"lesion {lesion}", str(day) if day else f"visit {step + 1}"]
        if row is not None:
            parts += [f"{row['volume_ml']:.3g} mL", str(row["event"])]
        return ", ".join(parts)

    def table(self) -> pd.DataFrame:
        """The lesions, or the summary of visits for the total burden."""
        whole = self.view.currentText() == _BURDEN
        table: pd.DataFrame = self._known().summary if whole else self._known().lesions
        return table
