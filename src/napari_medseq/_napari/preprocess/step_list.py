"""The steps of a recipe as a list: add, switch off, move, remove; with a form for the chosen step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGroupBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_medseq._napari.controls.choosers import TICKS, wrapped
from napari_medseq._napari.controls.forms import ModelForm
from napari_medseq.errors import SettingsError
from napari_medseq.preprocessing import PRESETS, STEPS, Step, parse

if TYPE_CHECKING:
    from napari_medseq.preprocessing.pipeline import StepLike

#: initial settings of steps that have no defaults
_START = {"window": "window:brain"}
#: topics of the steps of this package, in the order of the menu; those of other packages follow
_GROUPS = {
    "Intensity": ("n4", "n3", "zscore", "percentile", "window", "nyul"),
    "Noise": ("median", "nlm", "curvature-flow", "diffusion"),
    "Geometry": ("resample", "reorient", "crop", "region", "register"),
    "Sequence": ("slices", "motion", "temporal", "baseline", "difference"),
    "Masks": ("brain", "tissue"),
    "Features": ("gabor",),
}
_OTHER = "Other steps"
_ALL_SEEN = 7


@dataclass(eq=False)
class Entry:
    """One line of the list: a step's form, and its item."""

    form: ModelForm[Step]
    item: QListWidgetItem

    @property
    def kind(self) -> str:
        """The step's name in files."""
        return str(self.form.model.model_fields["kind"].default)

    @property
    def on(self) -> bool:
        """Whether the step is switched on."""
        return bool(self.item.checkState() == Qt.Checked)


class StepList(QWidget):  # type: ignore[misc]
    """The list with its buttons, and the form of the chosen step.

    Attributes
    ----------
    modality : str or None
        Modality of the image; a step that is added begins with the usual settings for it.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.modality: str | None = None
        self.entries: list[Entry] = []
        self._filling = False
        self.list = QListWidget()
        self.list.setStyleSheet(TICKS)
        self.list.setDragDropMode(QAbstractItemView.InternalMove)
        self.list.setToolTip("Steps run from top to bottom. Untick one to leave it out; drag it to another place.")
        self.list.setAccessibleName("Steps")
        self.add_button = QPushButton()
        self.add_button.setText("Add step …")
        self.add_button.setToolTip("Add a step at the end of the list")
        self.menu = QMenu(self)
        self.menu.setToolTipsVisible(True)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.add_button.setMenu(self.menu)
        self.up_button = self._button("▲", "Move the chosen step up", lambda: self.move_step(-1))
        self.down_button = self._button("▼", "Move the chosen step down", lambda: self.move_step(1))
        self.remove_button = self._button("Remove", "Remove the chosen step (Delete)", self.remove_step)
        self.problem_label = wrapped()
        self.problem_label.setStyleSheet("color: #e0574f;")
        self.form_box = QGroupBox()
        self.form_box.hide()
        self._form_column = QVBoxLayout(self.form_box)
        row = QHBoxLayout()
        for button in (self.add_button, self.up_button, self.down_button, self.remove_button):
            button.setStyleSheet("padding: 3px 6px;")
            row.addWidget(button, 0 if button in (self.up_button, self.down_button) else 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        for widget in (self.list, self.form_box, self.problem_label):
            column.addWidget(widget)
        self.list.currentRowChanged.connect(self._show_form)
        self.list.itemChanged.connect(self._tick_changed)
        self.list.model().rowsMoved.connect(self._dragged)
        self.list.installEventFilter(self)
        self._update()

    def _button(self, text: str, tip: str, action: object) -> QPushButton:
        button = QPushButton()
        button.setText(text)
        button.setToolTip(tip)
        button.setAccessibleName(tip)
        button.clicked.connect(action)
        return button

    # -- what the list says --------------------------------------------------------------------------------------------
    @property
    def steps(self) -> list[Step]:
        """The steps that are switched on, validated.

        Raises
        ------
        SettingsError
            If a value in a form cannot be used, naming the step.
        """
        return [self._settings(n, entry) for n, entry in enumerate(self.entries, 1) if entry.on]

    def _settings(self, number: int, entry: Entry) -> Step:
        try:
            return entry.form.settings
        except SettingsError as error:
            raise SettingsError(f"Step {number}, {error}") from None

    @property
    def problem(self) -> str:
        """Why the list cannot be run; empty if it can."""
        if not self.entries:
            return "Add a step first."
        if not any(entry.on for entry in self.entries):
            return "Every step is switched off; tick one."
        try:
            _ = self.steps
        except SettingsError as error:
            return str(error)
        return ""

    @property
    def takes_reference(self) -> bool:
        """Whether a step uses another layer."""
        return any(entry.form.model.takes_reference for entry in self.entries if entry.on)

    # -- changing it ---------------------------------------------------------------------------------------------------
    def add_step(self, step: StepLike) -> None:
        """Add a step by name or as settings, and choose it."""
        model = parse(self._start(step) if isinstance(step, str) else step)[0]
        choices = {"preset": [None, *PRESETS]} if model.kind == "window" else {}
        form: ModelForm[Step] = ModelForm(type(model), model, choices=choices)
        form.changed.connect(self._changed)
        item = QListWidgetItem(_title(type(model)))
        item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable | Qt.ItemIsUserCheckable | Qt.ItemIsDragEnabled)
        item.setCheckState(Qt.Checked)
        item.setToolTip(_first_line(type(model)))
        self.entries.append(Entry(form, item))
        self._filling = True
        self.list.addItem(item)
        self._filling = False
        self.list.setCurrentItem(item)
        self._changed()

    def _start(self, kind: str) -> StepLike:
        if kind in _START:
            return _START[kind]
        return STEPS[kind].usual(self.modality) if kind in STEPS else kind

    def replace_steps(self, steps: Iterable[StepLike]) -> None:
        """Replace all steps by these."""
        parsed = [parse(step)[0] for step in steps]  # either all of them can be used, or nothing changes
        self._filling = True
        removed, self.entries = self.entries, []
        self.list.clear()
        self._filling = False
        self._show_form(-1)
        for entry in removed:
            _forget(entry)
        for step in parsed:
            self.add_step(step)
        if not parsed:
            self._changed()

    def move_step(self, by: int) -> None:
        """Move the chosen step up (-1) or down (1)."""
        row = self.list.currentRow()
        if 0 <= row < len(self.entries) and 0 <= row + by < len(self.entries):
            self._filling = True
            item = self.list.takeItem(row)
            self.list.insertItem(row + by, item)
            self._filling = False
            self.list.setCurrentItem(item)
            self._dragged()

    def remove_step(self) -> None:
        """Remove the chosen step."""
        row = self.list.currentRow()
        if 0 <= row < len(self.entries):
            removed = self.entries.pop(row)
            self.list.takeItem(row)
            self._show_form(self.list.currentRow())
            _forget(removed)
            self._changed()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Remove the chosen step with the keys Delete and Backspace."""
        is_delete = event.type() == QEvent.KeyPress and event.key() in (Qt.Key_Delete, Qt.Key_Backspace)
        if is_delete and watched is self.list:
            self.remove_step()
            return True
        return False

    # -- following the user --------------------------------------------------------------------------------------------
    def _dragged(self, *_where: object) -> None:
        order = [self.list.item(k) for k in range(self.list.count())]
        self.entries.sort(key=lambda entry: next(k for k, item in enumerate(order) if item is entry.item))
        self._show_form(self.list.currentRow())
        self._changed()

    def _tick_changed(self, _item: QListWidgetItem) -> None:
        if not self._filling:
            self._changed()

    def _changed(self) -> None:
        self._update()
        self.changed.emit()

    def _update(self) -> None:
        self._filling = True
        for number, entry in enumerate(self.entries, 1):
            entry.item.setText(f"{number}. {_title(entry.form.model)}{'' if entry.on else ' (off)'}")
        self._filling = False
        # an empty list is hidden
        self.list.setVisible(bool(self.entries))
        rows = min(max(len(self.entries), 2), _ALL_SEEN)
        self.list.setFixedHeight(max(self.list.sizeHintForRow(0), 18) * rows + 2 * self.list.frameWidth() + 4)
        row, last = self.list.currentRow(), len(self.entries) - 1
        none = "Choose a step in the list first"
        _enable(self.up_button, row > 0, "Move the chosen step up", none if row < 0 else "It is the first step")
        _enable(
            self.down_button, 0 <= row < last, "Move the chosen step down", none if row < 0 else "It is the last step"
        )
        _enable(self.remove_button, row >= 0, "Remove the chosen step (Delete)", none)
        problem = self.problem if self.entries else ""
        self.problem_label.setText(problem)
        self.problem_label.setVisible(bool(problem))

    def _show_form(self, row: int) -> None:
        while self._form_column.count():
            self._form_column.takeAt(0).widget().hide()
        has_form = 0 <= row < len(self.entries)
        self.form_box.setVisible(has_form and bool(self.entries[row].form.rows))
        if has_form:
            form = self.entries[row].form
            self.form_box.setTitle(f"{row + 1}. {_title(form.model)}")
            self._form_column.addWidget(form)
            form.show()
        self._update()

    def _fill_menu(self) -> None:
        """Fill the menu with all steps, including those of other packages, by topic."""
        self.menu.clear()
        grouped = {kind for kinds in _GROUPS.values() for kind in kinds}
        groups = {**_GROUPS, _OTHER: tuple(kind for kind in STEPS if kind not in grouped)}
        for name, kinds in groups.items():
            models = [STEPS[kind] for kind in kinds if kind in STEPS]
            if not models:
                continue
            menu = self.menu.addMenu(name)
            menu.setToolTipsVisible(True)
            for model in sorted(models, key=_title):
                kind = str(model.model_fields["kind"].default)
                action = menu.addAction(_title(model))
                action.setToolTip(_first_line(model))
                action.triggered.connect(lambda _checked=False, kind=kind: self.add_step(kind))


def _forget(entry: Entry) -> None:
    entry.form.setParent(None)
    entry.form.deleteLater()


def _title(model: type[Step]) -> str:
    title = model.title or str(model.model_fields["kind"].default)
    return title[:1].upper() + title[1:]


def _first_line(model: type[Step]) -> str:
    return (model.__doc__ or "").strip().split("\n", 1)[0]


def _enable(button: QPushButton, on: bool, tip: str, why: str) -> None:
    button.setEnabled(on)
    button.setToolTip(tip if on else why)
