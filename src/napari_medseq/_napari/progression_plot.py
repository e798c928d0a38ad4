"""The docked plot of a progression: its cursor follows the visit slider, a click goes to that visit and lesion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.dates import date2num
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_medseq._napari.canvas import PlotCanvas
from napari_medseq._napari.work import DISCLAIMER
from napari_medseq.progression import plots

#: title → what is drawn; each has visits on the x axis, but the waterfall
_VIEWS: dict[str, Callable[..., plots.Artists]] = {
    "Volume of each lesion": plots.spaghetti,
    "Change of each lesion (%)": lambda p, axes, **kw: plots.spaghetti(p, axes, relative=True, **kw),
    "What happened (tree)": plots.swimmer,
    "Change, first to last": plots.waterfall,
}
_WITHOUT_TIME = "Change, first to last"


class ProgressionPlot(QWidget):  # type: ignore[misc]
    """Lesions on the left, total burden on the right; `go_to(visit, lesion)` is called for a clicked point."""

    def __init__(self, viewer: Any, go_to: Callable[[int, int | None], None]) -> None:
        super().__init__()
        self.viewer, self._go_to = viewer, go_to
        self.progression: Any = None
        self.visit: int | None = None
        self._ordinals: list[int] = []
        self._cursors: list[Any] = []
        self._owners: dict[Any, int] = {}
        self.view = QComboBox()
        self.view.addItems(list(_VIEWS))
        self.log = QCheckBox("log scale")
        self.canvas = PlotCanvas(viewer, height=190)
        row = QHBoxLayout()
        row.addWidget(self.view)
        row.addWidget(self.log)
        row.addStretch(1)
        row.addWidget(QLabel("Click a point to go to that visit and lesion. " + DISCLAIMER))
        layout = QVBoxLayout(self)
        layout.addLayout(row)
        layout.addWidget(self.canvas, 1)
        self.view.currentTextChanged.connect(self._draw)
        self.log.toggled.connect(self._draw)
        self.canvas.canvas.mpl_connect("button_press_event", self._clicked)
        viewer.dims.events.point.connect(self._follow)

    def show_progression(self, progression: Any, ordinals: list[int]) -> None:
        """Draw a progression; `ordinals` are its visits' places on the slider."""
        self.progression, self._ordinals = progression, list(ordinals)
        self._draw()

    def _draw(self, _event: Any = None) -> None:
        if self.progression is not None:
            self.canvas.paint(self._paint)
            self.visit = None
            self._follow()

    def _paint(self, figure: Any) -> None:
        lesions, total = figure.subplots(1, 2, width_ratios=(1.6, 1))
        name = self.view.currentText()
        more = {"log": self.log.isChecked()} if "Volume" in name or "%)" in name else {}
        shown = _VIEWS[name](self.progression, lesions, **more)
        lesions.set_title(name, loc="left")
        plots.burden(self.progression, total)
        total.set_title("Total burden", loc="left")
        self._owners = {artist: lesion for lesion, artists in shown.items() for artist in artists}
        timed = [total] if name == _WITHOUT_TIME else [lesions, total]
        style = {"color": lesions.xaxis.label.get_color(), "linestyle": "--", "linewidth": 1, "alpha": 0.8}
        self._cursors = [axes.axvline(self._x()[0], **style) for axes in timed]

    def _x(self) -> Any:
        x, real = plots.x_positions(self.progression)
        return np.asarray(date2num(x) if real else x, dtype=float)

    def _follow(self, _event: Any = None) -> None:
        """Move the cursor to the visit that the slider shows."""
        if self.progression is None:
            return
        visit = self.shown_visit()
        if visit is None or visit == self.visit:
            return
        self.visit = visit
        for line in self._cursors:
            line.set_xdata([self._x()[visit]] * 2)
        self.canvas.canvas.draw_idle()

    def shown_visit(self) -> int | None:
        """The progression's visit that the viewer shows, or None."""
        dims = self.viewer.dims
        if "visit" not in dims.axis_labels:
            return 0 if len(self._ordinals) == 1 else None
        at = round(dims.point[dims.axis_labels.index("visit")])
        return self._ordinals.index(at) if at in self._ordinals else None

    def _clicked(self, event: Any) -> None:
        if event.inaxes is None or self.progression is None:
            return
        hit = self.point_at(event)
        if hit is not None:
            self._go_to(*hit)

    def point_at(self, event: Any) -> tuple[int, int | None] | None:
        """Visit and lesion (None: the total) under the mouse, or None."""
        timed = len(self._cursors) == 2 or event.inaxes is not self.canvas.figure.axes[0]
        best: tuple[float, int, int | None] | None = None
        x = self._x()
        for artist, lesion in self._owners.items():
            if artist.axes is not event.inaxes or not artist.contains(event)[0]:
                continue
            if not timed:
                return len(x) - 1, lesion
            data = artist.get_xydata() if hasattr(artist, "get_xydata") else np.zeros((0, 2))
            if len(data) == 0:
                continue
            apart = np.hypot(*(artist.axes.transData.transform(data) - (event.x, event.y)).T)
            k = int(apart.argmin())
            visit = int(np.abs(x - data[k, 0]).argmin())
            if best is None or apart[k] < best[0]:
                best = float(apart[k]), visit, lesion
        if best is not None:
            return best[1], best[2]
        if timed and event.xdata is not None and event.inaxes is self.canvas.figure.axes[-1]:
            return int(np.abs(x - event.xdata).argmin()), None
        return None
