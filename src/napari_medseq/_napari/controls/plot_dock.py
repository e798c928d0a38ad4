"""The common part of docked plots: choice of a view, cursor, hover, highlight of the selected label, and export."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from napari.utils.notifications import show_info
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QBoxLayout, QFileDialog, QHBoxLayout, QToolButton, QToolTip, QVBoxLayout, QWidget

from napari_medseq import files
from napari_medseq._napari.controls.canvas import PlotCanvas, theme_style
from napari_medseq._napari.controls.choosers import wrapped
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.notifications import guarded
from napari_medseq.errors import WriteError
from napari_medseq.progression import plots
from napari_medseq.record import DISCLAIMER

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import MouseEvent
    from napari.components import ViewerModel
    from napari.layers import Layer

#: opacity of what is not selected; fainter, dark colours cannot be seen on the dark theme
_FADED = 0.6
#: rows of a screen below which napari's own docks leave no room for a plot below them
LOW_SCREEN = 760


class Drawn(NamedTuple):
    """What was drawn on a figure: the owner of each artist, and the axes with steps (visits, frames) on their x
    axis."""

    owners: dict[Artist, int]
    timed: list[Axes]


class PlotDock(QWidget):  # type: ignore[misc]
    """A plot of lesions over the steps of a slider. Subclasses draw it, and describe its points.

    Attributes
    ----------
    controls : QHBoxLayout
        For the choices of a subclass; export buttons come after them.
    hovered : str
        The point under the mouse, in words; "" if there is none.
    selected : int or None
        The lesion that is highlighted.
    """

    def __init__(self, viewer: ViewerModel, hint: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.hovered = ""
        self.selected: int | None = None
        self._labels: list[Layer] = []
        self._drawn = Drawn({}, [])
        self._cursors: list[Line2D] = []
        self._looks: dict[Artist, tuple[float | None, float | None]] = {}
        self.canvas = PlotCanvas(viewer, height=210)
        self.controls = QHBoxLayout()
        self._row = QBoxLayout(QBoxLayout.LeftToRight)
        self._row.addLayout(self.controls)
        exports = QHBoxLayout()
        for ending in ("png", "svg", "csv"):
            exports.addWidget(self._export_button(ending))
        exports.addStretch(1)
        self._row.addLayout(exports)
        self.note = wrapped(f"{hint} {DISCLAIMER}")
        self._row.addWidget(self.note, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.addLayout(self._row)
        layout.addWidget(self.canvas, 1)
        mouse = self.canvas.canvas.mpl_connect
        mouse("button_press_event", self._pressed)
        mouse("motion_notify_event", self._moved)
        mouse("figure_leave_event", lambda _event: self._hover(""))
        connect_until_destroyed(viewer.dims.events.point, self._follow)
        connect_until_destroyed(viewer.layers.selection.events.active, self._label_chosen)

    def __init_subclass__(cls, **options: object) -> None:
        # Qt's metaclass allows instances in spite of abstract methods, so that they are checked here
        super().__init_subclass__(**options)
        abstract = (n for n in vars(PlotDock) if getattr(getattr(cls, n), "__isabstractmethod__", False))
        if missing := ", ".join(sorted(abstract)):
            raise NotImplementedError(f"{cls.__name__} does not say {missing}")

    # -- for subclasses ------------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether there is something to draw."""

    @abstractmethod
    def draw_on(self, figure: Figure) -> Drawn:
        """Draw the chosen view on an empty figure."""

    @abstractmethod
    def positions(self) -> NDArray[np.float64]:
        """The position of each step on the x axis of the timed axes."""

    @abstractmethod
    def shown_step(self) -> int | None:
        """The step that the viewer's slider shows; None if there is none."""

    @abstractmethod
    def go(self, step: int, lesion: int | None) -> None:
        """Show a step, and a lesion in it."""

    @abstractmethod
    def in_words(self, step: int, lesion: int | None) -> str:
        """The point of the plot in words."""

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The numbers behind the chosen view."""

    # -- drawing -------------------------------------------------------------------------------------------------------
    def redraw(self, _event: object = None) -> None:
        """Draw the chosen view again."""
        if self.ready:
            self.canvas.paint(self._paint)

    def clear(self) -> None:
        """Clear the plot, because it does not belong to the patient in front any longer."""
        self._drawn, self._cursors, self._looks = Drawn({}, []), [], {}
        self.follow_labels([])
        self.canvas.paint(lambda _figure: None)

    def _paint(self, figure: Figure) -> None:
        if not self.ready:
            return
        self._drawn = self.draw_on(figure)
        self._looks = {
            artist: (artist.get_alpha(), artist.get_linewidth() if isinstance(artist, Line2D) else None)
            for artist in self._drawn.owners
        }
        at = self.positions()[self.shown_step() or 0]
        self._cursors = []
        for axes in self._drawn.timed:
            style: dict[str, Any] = {
                "color": axes.xaxis.label.get_color(),
                "linestyle": "--",
                "linewidth": 1,
                "alpha": 0.8,
            }
            self._cursors.append(axes.axvline(at, **style))
        self.highlight(self.selected)

    def _follow(self, _event: object = None) -> None:
        """Move the cursor to the step that the slider shows."""
        step = self.shown_step() if self.ready else None
        if step is None:
            return
        at = self.positions()[step]
        if any(np.asarray(line.get_xdata())[0] != at for line in self._cursors):
            for line in self._cursors:
                line.set_xdata([at, at])
            self.canvas.canvas.draw_idle()

    # -- the selected label --------------------------------------------------------------------------------------------
    def follow_labels(self, layers: Sequence[Layer]) -> None:
        """Highlight the lesion whose label is selected in one of these Labels layers, from now on."""
        for layer in self._labels:
            layer.events.selected_label.disconnect(self._label_chosen)
        self._labels = list(layers)
        for layer in self._labels:
            connect_until_destroyed(layer.events.selected_label, self._label_chosen)
        self._label_chosen()

    def _label_chosen(self, _event: object = None) -> None:
        active = self.viewer.layers.selection.active
        if active is not None and active in self._labels:
            self.highlight(int(active.selected_label))

    def highlight(self, lesion: int | None) -> None:
        """Highlight one lesion; if it is not in the plot, all look alike."""
        self.selected = lesion
        is_drawn = lesion in self._drawn.owners.values()
        for artist, owner in self._drawn.owners.items():
            alpha, width = self._looks[artist]
            chosen = is_drawn and owner == lesion
            artist.set_alpha(alpha if chosen or not is_drawn else _FADED)
            artist.set_zorder(4 if chosen else 2)
            if width is not None and isinstance(artist, Line2D):
                artist.set_linewidth(width * 1.7 if chosen else width)
        self.canvas.canvas.draw_idle()

    # -- the mouse -----------------------------------------------------------------------------------------------------
    def point_at(self, event: MouseEvent) -> tuple[int, int | None] | None:
        """Step and lesion under the mouse; the lesion is None on timed axes beside any lesion."""
        if event.inaxes is None or event.xdata is None or not self.ready:
            return None
        x = self.positions()
        timed = event.inaxes in self._drawn.timed
        best: tuple[float, int, int] | None = None
        for artist, lesion in self._drawn.owners.items():
            if artist.axes is not event.inaxes or not artist.contains(event)[0]:
                continue
            if not timed:
                return len(x) - 1, lesion
            if not isinstance(artist, Line2D):
                continue
            points = np.asarray(artist.get_xydata(), dtype=float)
            apart = np.hypot(*(artist.axes.transData.transform(points) - (event.x, event.y)).T)
            k = int(np.nanargmin(apart))
            step = int(np.abs(x - points[k, 0]).argmin())
            # on the line between two points the nearer one counts
            if best is None or apart[k] < best[0]:
                best = float(apart[k]), step, lesion
        if best is not None:
            return best[1], best[2]
        return (int(np.abs(x - event.xdata).argmin()), None) if timed else None

    def _pressed(self, event: MouseEvent) -> None:
        hit = self.point_at(event)
        if hit is not None:
            self.go(*hit)

    def _moved(self, event: MouseEvent) -> None:
        hit = self.point_at(event)
        if hit is not None and hit[1] is None and _held(event):
            self.go(*hit)
        self._hover("" if hit is None or hit[1] is None else self.in_words(*hit), event)

    def _hover(self, text: str, event: MouseEvent | None = None) -> None:
        if text == self.hovered:
            return
        self.hovered = text
        if not text or event is None:
            QToolTip.hideText()
            return
        ratio = self.canvas.canvas.devicePixelRatioF()
        at = QPoint(int(event.x / ratio) + 12, int(self.canvas.canvas.height() - event.y / ratio) - 8)
        QToolTip.showText(self.canvas.canvas.mapToGlobal(at), text, self.canvas.canvas)

    # -- export --------------------------------------------------------------------------------------------------------
    def _export_button(self, ending: str) -> QToolButton:
        button = QToolButton()
        button.setText(ending.upper())
        subject = "the numbers of this plot" if ending == "csv" else "this plot, dark on white,"
        button.setToolTip(f"Save {subject} as {ending.upper()}")
        button.clicked.connect(lambda: self._ask(ending))
        return button

    def _ask(self, ending: str) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save", f"progression.{ending}", f"{ending.upper()} (*.{ending})")
        if path:
            guarded("Saving", lambda: self.save(_with_ending(Path(path), ending)))

    def save(self, path: Path) -> None:
        """Save the chosen view, dark on white (.png, .svg, .pdf), or the numbers behind it (.csv).

        Raises
        ------
        WriteError
            If it cannot be written there.
        """
        if path.suffix == ".csv":
            with files.replacing(path) as temporary:
                self.table().to_csv(temporary, index=False)
        else:
            paper: Any = {**theme_style("light"), **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "white")}
            with mpl.rc_context(paper):
                figure = Figure(figsize=(10, 4), layout="constrained")
                self.draw_on(figure)
                for axes in figure.axes:
                    axes.spines[["top", "right"]].set_visible(False)
                figure.supxlabel(DISCLAIMER, fontsize=7)
                plots.save_figure(figure, path)
        show_info(f"Saved: {path}")

    # -- in the window -------------------------------------------------------------------------------------------------
    @property
    def is_screen_low(self) -> bool:
        """Whether the plot is a tab beside the other docks, because there is no room below the canvas."""
        return bool(self.screen().availableGeometry().height() < LOW_SCREEN)

    def dock(self, name: str) -> bool:
        """Show the plot below the canvas, also after its dock was closed; whether it was not there before."""
        was_shown = self.parent() is not None and self.isVisibleTo(self.window())
        if self.parent() is None:
            low = self.is_screen_low
            if low:
                self._row.setDirection(QBoxLayout.TopToBottom)
            self.viewer.window.add_dock_widget(self, name=name, area="right" if low else "bottom")
        self.show()
        self.parent().show()
        return not was_shown


def _with_ending(path: Path, ending: str) -> Path:
    """A path with an ending, which is added where the user typed none.

    Raises
    ------
    WriteError
        If there is a file of that longer name, about which the dialog did not ask.
    """
    if path.suffix.lower() == f".{ending}":
        return path
    longer = path.with_name(f"{path.name}.{ending}")
    if longer.exists():
        raise WriteError(f"{longer} exists. Choose another name, or this one with its ending to replace it.")
    return longer


def _held(event: MouseEvent) -> bool:
    """Whether the left mouse button is held while the mouse moves."""
    return bool(event.guiEvent is not None and event.guiEvent.buttons() & Qt.LeftButton)


def owners(shown: Mapping[int, Sequence[Artist]]) -> dict[Artist, int]:
    """Invert artists by lesion to lesion by artist."""
    return {artist: lesion for lesion, artists in shown.items() for artist in artists}


View = Callable[..., plots.Artists]
