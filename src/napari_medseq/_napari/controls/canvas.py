"""A matplotlib canvas in the viewer's theme, redrawn when the theme changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseq._napari.gone import connect_until_destroyed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from napari.components import ViewerModel


#: height in inches below which a figure is too low for all of its texts
LOW = 1.5
#: and below which it is too narrow for two plots side by side
NARROW = 5.5


class PlotCanvas(QWidget):  # type: ignore[misc]
    """A figure in the viewer; `paint(figure)` redraws it.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    canvas : FigureCanvasQTAgg
        For ``mpl_connect``.
    """

    def __init__(self, viewer: ViewerModel, height: int = 200) -> None:
        super().__init__()
        self.viewer = viewer
        # the canvas first requests the size of the figure from the window
        self.figure = Figure(figsize=(6.0, height / 100), dpi=100, layout="constrained")
        self.canvas = FigureCanvasQTAgg(self.figure)
        self.canvas.setMinimumHeight(min(height, 100))  # small enough for the window to fit a screen of 768 rows
        self._paint: Callable[[Figure], None] = lambda _figure: None
        self._low = self._narrow = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        connect_until_destroyed(viewer.events.theme, self._repaint)
        self.canvas.mpl_connect("resize_event", self._resized)
        self.paint(self._paint)

    def paint(self, paint: Callable[[Figure], None]) -> None:
        """Clear the figure and let `paint` draw it, in the theme's colours."""
        self._paint = paint
        self._repaint()

    def _resized(self, _event: object) -> None:
        if self._low != self._is_low or self._narrow != is_narrow(self.figure):
            self._repaint()

    @property
    def _is_low(self) -> bool:
        return bool(self.figure.bbox.height < LOW * self.figure.dpi)

    def _repaint(self, _event: object = None) -> None:
        self._low, self._narrow = self._is_low, is_narrow(self.figure)
        style: Any = theme_style(self.viewer.theme)
        with mpl.rc_context(style):
            self.figure.clear()
            self.figure.set_facecolor(mpl.rcParams["figure.facecolor"])
            self._paint(self.figure)
            for axes in self.figure.axes:
                axes.spines[["top", "right"]].set_visible(False)
                if self._low:
                    save_height(axes)
        self.canvas.draw_idle()


def is_narrow(figure: Figure) -> bool:
    """Whether plots fit on it one above the other only."""
    return bool(figure.bbox.width < NARROW * figure.dpi and figure.bbox.height > 2 * LOW * figure.dpi)


def save_height(axes: Axes) -> None:
    """Fit the texts of axes into a low figure: the unit goes into the title, and the name of the x axis into the
    axis."""
    title, label = axes.get_title(loc="left"), axes.get_ylabel()
    if title and label:
        unit = re.search(r" (\([^()]+\))$", label)
        told = label.casefold() in title.casefold()
        axes.set_title(f"{title} {unit[1]}" if unit else title if told else f"{title}: {label}", loc="left")
        axes.set_ylabel("")
    if axes.get_xlabel():
        axes.annotate(axes.get_xlabel(), (1, 0), (-2, 2), "axes fraction", textcoords="offset points", ha="right")
        axes.set_xlabel("")
    for text in axes.texts:
        if "\n" in text.get_text() and isinstance(text, Annotation):
            text.set_text(text.get_text().partition("\n")[0])
            text.set_position((text.get_position()[0], 3))


def theme_style(name: str) -> dict[str, str | float]:
    """matplotlib settings in the colours of a napari theme."""
    theme = get_theme(name)
    back, text = theme.background.as_hex(), theme.text.as_hex()
    coloured = ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color", "axes.titlecolor")
    return {
        "figure.facecolor": back,
        "axes.facecolor": back,
        "legend.facecolor": back,
        "font.size": 8,
        "axes.titlesize": 9,
        **dict.fromkeys(coloured, text),
    }
