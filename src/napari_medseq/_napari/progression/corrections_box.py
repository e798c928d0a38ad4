"""Buttons that correct the result of following; they act on the lesion whose label is selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QPushButton, QSpinBox, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import ShortBox, wrapped
from napari_medseq._napari.controls.keys import press_by_keys, with_key
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.notifications import guarded, warned
from napari_medseq.errors import MedseqError
from napari_medseq.viewer.results.followed import Correction

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medseq.progression.components import Key


class CorrectionsBox(QWidget):  # type: ignore[misc]
    """Link, unlink, merge, split, exclude, undo, redo. The signal `corrected` carries the visit and the lesion to
    select afterwards."""

    corrected = Signal(int, int)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.followed: verbs.Followed | None = None
        self._layers: list[Labels] = []
        self.selected = wrapped()
        self.other = ShortBox()
        self.other.setToolTip("The second lesion, for Link and Merge")
        self.pieces = QSpinBox()
        self.pieces.setRange(1, 20)
        self.pieces.setSpecialValueText("parts")
        self.pieces.setToolTip("How many pieces Split makes; 'parts' splits the lesion into its unconnected parts")
        self.only_here = QCheckBox("only at this visit")
        self.only_here.setToolTip("Exclude the lesion only at the visit that is shown, not at all visits")
        self.link_button = self._button("Link with", self._link)
        self.unlink_button = self._button("Unlink", self._unlink)
        self.merge_button = self._button("Merge with", self._merge)
        self.split_button = self._button("Split", self._split)
        self.exclude_button = self._button("Exclude", self._exclude)
        press_by_keys(self, viewer, {"Alt-K": self.link_button, "Alt-E": self.exclude_button})
        self.undo_button = QPushButton("Undo")
        self.redo_button = QPushButton("Redo")
        self.undo_button.clicked.connect(lambda: guarded("Undo", self._undo))
        self.redo_button.clicked.connect(lambda: guarded("Redo", self._redo))
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        places = (
            (self.selected, 0, 0, 4),
            (self.link_button, 1, 0, 1), (self.merge_button, 1, 1, 1), (self.other, 1, 2, 2),
            (self.split_button, 2, 0, 1), (self.pieces, 2, 1, 1), (self.unlink_button, 2, 2, 1),
            (self.exclude_button, 3, 0, 1), (self.only_here, 3, 1, 2),
            (self.undo_button, 2, 3, 1), (self.redo_button, 3, 3, 1),
        )  # fmt: skip
        for widget, row, column, width in places:
            layout.addWidget(widget, row, column, 1, width)
        self.other.currentIndexChanged.connect(self._enable)
        connect_until_destroyed(viewer.layers.selection.events.active, self._update)
        connect_until_destroyed(verbs.editing_of(viewer).events.changed, self._enable)
        self._update()

    def _button(self, text: str, action: Callable[[int, int], int | None]) -> QPushButton:
        button = QPushButton(text)
        button.clicked.connect(lambda: guarded("Correcting", lambda: self._correct(action)))
        return button

    def show_followed(self, followed: verbs.Followed | None) -> None:
        """Correct this result; its Labels layers tell which lesion is selected."""
        for layer in self._layers:
            layer.events.selected_label.disconnect(self._update)
        self.followed, self._layers = followed, [] if followed is None else list(followed.layers)
        for layer in self._layers:
            connect_until_destroyed(layer.events.selected_label, self._update)
        self._update()

    # -- which lesion is meant -----------------------------------------------------------------------------------------
    @property
    def current(self) -> tuple[int, int] | None:
        """Visit and identity of the lesion whose label is selected in the active layer; None if there is none."""
        active = self.viewer.layers.selection.active
        visit = None if self.followed is None else self.followed.visit_of(active)
        if visit is None or (visit, int(active.selected_label)) not in self._here():
            return None
        return visit, int(active.selected_label)

    def _here(self) -> dict[tuple[int, int], Key]:
        """Visit and identity of lesions that can be corrected → their position in the graph."""
        if self.followed is None:
            return {}
        graph = self.followed.progression.graph
        return {(k[0], i): k for k, i in graph.identities.items() if k not in graph.excluded}

    def _update(self, _event: object = None) -> None:
        current, lesions_here = self.current, self._here()
        chosen = self.other.currentData()
        self.other.blockSignals(True)
        self.other.clear()
        if current is None or self.followed is None:
            self.selected.setText("Select a lesion: click its row or its point, or pick its label in the layer.")
        else:
            visit, lesion = current
            self.selected.setText(f"Lesion {lesion} at visit {visit + 1} of {len(self.followed.progression.dates)}")
            for other in sorted({i for _, i in lesions_here if i != lesion}):
                self.other.addItem(f"lesion {other}", other)
            self.other.setCurrentIndex(max(self.other.findData(chosen), 0) if self.other.count() else -1)
        self.other.blockSignals(False)
        self._enable()

    def _enable(self, _event: object = None) -> None:
        current, lesions_here, other = self.current, self._here(), self.other.currentData()
        visit, lesion = current or (-1, 0)
        key = lesions_here.get((visit, lesion))
        parents = {} if self.followed is None else self.followed.progression.graph.parents
        none = "" if key is not None else "Select a lesion first: click its row, its point, or pick its label"
        alone = none or ("" if other is not None else "There is no other lesion")
        earlier = any(i == other and v < visit for v, i in lesions_here)
        for button, why, tip in (
            (self.link_button, alone or ("" if earlier else f"Lesion {other} is at no earlier visit; choose another one"),
             with_key("It is the same lesion as the other one, seen earlier", "Alt-K")),
            (self.merge_button, alone or ("" if (visit, other) in lesions_here else f"Lesion {other} is not at this visit; choose another"),
             "It and the other one, of the same visit, are one lesion"),
            (self.unlink_button, none or ("" if key is not None and parents[key] else "It comes from no earlier lesion"),
             "It does not come from any lesion of an earlier visit"),
            (self.split_button, none, "It is several lesions"),
            (self.exclude_button, none, with_key("It is not a lesion", "Alt-E")),
        ):  # fmt: skip
            button.setEnabled(not why)
            button.setToolTip(why or tip)
        for widget in (self.pieces, self.only_here):
            widget.setEnabled(key is not None)
        history = verbs.editing_of(self.viewer).history
        for button, steps, verb in (
            (self.undo_button, history.done, "undo"),
            (self.redo_button, history.undone, "do again"),
        ):
            button.setEnabled(bool(steps))
            button.setToolTip(f"{steps[-1].name}" if steps else f"There is nothing to {verb}")
        self.undo_button.setText(f"Undo ({len(history.done)})" if history.done else "Undo")

    # -- the corrections -----------------------------------------------------------------------------------------------
    def _correct(self, action: Callable[[int, int], int | None]) -> None:
        """Correct the selected lesion, then report its identity afterwards."""
        current = self.current
        if current is None:
            raise MedseqError("No lesion is selected. Click its row in the table or its point in the plot first.")
        visit, lesion = current
        assert self.followed is not None
        key = self._here().get((visit, lesion))
        heir = action(visit, lesion)
        now = None if key is None else self.followed.progression.graph.identities.get(key)
        if heir is None:
            heir = lesion if now is None else now
        self.corrected.emit(visit, int(heir))

    def _do(self, how: Correction, *names: object) -> None:
        assert self.followed is not None
        with warned():  # painting that goes out with an excluded lesion is said
            verbs.correct(self.viewer, how, *names, study=self.followed.source.name)

    def _link(self, visit: int, lesion: int) -> int | None:
        self._do("link", visit, lesion, self.other.currentData())
        return None

    def _unlink(self, visit: int, lesion: int) -> int | None:
        self._do("unlink", visit, lesion)
        return None

    def _merge(self, visit: int, lesion: int) -> int | None:
        assert self.followed is not None
        other = int(self.other.currentData())
        lesions_here, lesions = self._here(), self.followed.progression.graph.lesions
        # the successor of the largest one
        heir = max((lesion, other), key=lambda one: int(lesions[lesions_here[visit, one]].voxels))
        self._do("merge", visit, [lesion, other])
        return heir

    def _split(self, visit: int, lesion: int) -> int | None:
        pieces = self.pieces.value()
        self._do("split", visit, lesion, None if pieces == 1 else pieces)
        return lesion

    def _exclude(self, visit: int, lesion: int) -> int | None:
        self._do("exclude", lesion, visit if self.only_here.isChecked() else None)
        return lesion

    def _undo(self) -> None:
        self.viewer.status = f"Undone: {verbs.undo(self.viewer)}"

    def _redo(self) -> None:
        self.viewer.status = f"Done again: {verbs.redo(self.viewer)}"
