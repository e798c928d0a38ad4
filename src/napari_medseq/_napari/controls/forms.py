"""Forms made from the settings models: label, tooltip, unit and bounds of each row come from the pydantic field
itself; see `fields`."""

from __future__ import annotations

import ast
import math
import types
from collections.abc import Mapping, Sequence
from html import escape
from typing import Generic, Literal, TypeVar, Union, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_medseq._napari.controls.choosers import CollapsibleSection
from napari_medseq.errors import MedseqError
from napari_medseq.fields import SettingFacts, setting_facts
from napari_medseq.preprocessing import Step
from napari_medseq.settings import checked

S = TypeVar("S", bound=BaseModel)
Row = CheckBox | ComboBox | FloatSpinBox | LineEdit | SpinBox

_WIDEST_LABEL = 150
#: limits beyond which numbers are typed, not stepped to
_LEAST_STEPPED, _MOST_STEPPED, _MOST_DIGITS = 1e-3, 1e6, 6


class _Title(QLabel):  # type: ignore[misc]
    """A row's title, on one line if that is not too wide, else as high as its lines need, because Qt's form gives all
    titles the width of their longest word and the height of one or two lines."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setWordWrap(True)
        self.setMaximumWidth(_WIDEST_LABEL)

    def minimumSizeHint(self) -> QSize:
        """As wide as one line, or as a title may be."""
        measure = self.fontMetrics().horizontalAdvance
        longest_word = max((measure(word) for word in self.text().split()), default=0)
        around = max(super().minimumSizeHint().width() - longest_word, 2)  # which the theme keeps free
        width = min(measure(self.text()) + around, _WIDEST_LABEL)
        return QSize(width, self.heightForWidth(width))

    def sizeHint(self) -> QSize:
        """The same: what is left of the row belongs to its control."""
        return self.minimumSizeHint()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the width."""
        super().resizeEvent(event)
        self.setMinimumHeight(self.heightForWidth(self.width()))


class ModelForm(QWidget, Generic[S]):  # type: ignore[misc]
    """One row per field of a settings model; `settings` is the validated model.

    Parameters
    ----------
    model : type of pydantic.BaseModel
        Fields of a kind that has no row (other models) keep what `value` or the model says.
    value : BaseModel, optional
        The initial values.
    choices : mapping of str to sequence, optional
        Values to offer for a field that is free text otherwise; None among them means none.
    """

    changed = Signal()

    def __init__(
        self, model: type[S], value: S | None = None, choices: Mapping[str, Sequence[object]] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.rows: dict[str, Row] = {}
        self._kept: dict[str, object] = {}
        self._wheel = _NoWheel(self)
        plain, advanced = QFormLayout(), QFormLayout()
        for name, field in model.model_fields.items():
            start = getattr(value, name) if value is not None else field.get_default(call_default_factory=True)
            named_step = name == "kind" and issubclass(model, Step)
            facts = setting_facts(model, name)
            row = None if named_step else _row(facts, field, start, (choices or {}).get(name))
            if row is not None:
                self.rows[name] = row
                self._add(advanced if facts.advanced else plain, name, row)
            elif not field.exclude and start is not PydanticUndefined:
                self._kept[name] = start
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(plain)
        if advanced.rowCount():
            hidden = QWidget()
            hidden.setLayout(advanced)
            column.addWidget(CollapsibleSection("More", hidden))

    def _add(self, form: QFormLayout, name: str, row: Row) -> None:
        form.setContentsMargins(0, 0, 0, 0)
        label = _Title(label_of(self.model, name))
        native = row.native
        for widget in (label, native):
            widget.setToolTip(tooltip_of(self.model, name))
        native.setSizePolicy(QSizePolicy.Ignored, native.sizePolicy().verticalPolicy())
        native.setMinimumWidth(90)
        native.setFocusPolicy(Qt.StrongFocus)
        native.installEventFilter(self._wheel)
        form.addRow(label, native)
        row.changed.connect(self._row_changed)

    def _row_changed(self, _value: object = None) -> None:
        self.changed.emit()

    def __getitem__(self, name: str) -> Row:
        return self.rows[name]

    @property
    def settings(self) -> S:
        """The model with the values of the form.

        Raises
        ------
        SettingsError
            If a value cannot be used.
        """
        values = {name: _read(row, self.model.model_fields[name]) for name, row in self.rows.items()}
        values = {k: v for k, v in values.items() if v is not PydanticUndefined}
        return checked(self.model, self._kept | values, where=str(getattr(self.model, "title", "")))

    @property
    def problem(self) -> str:
        """Why the form cannot be used; empty if it can."""
        try:
            _ = self.settings
        except MedseqError as error:
            return str(error)
        return ""


class _NoWheel(QObject):  # type: ignore[misc]
    """Stops the mouse wheel from changing numbers while the dock is scrolled."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        turned = event.type() == QEvent.Wheel and isinstance(watched, QAbstractSpinBox | QComboBox)
        if turned and not watched.hasFocus():
            event.ignore()
            return True
        return False


# -- what a field says of itself ---------------------------------------------------------------------------------------
def label_of(model: type[BaseModel], name: str) -> str:
    """A field's title, or its name in words, with the unit."""
    facts = setting_facts(model, name)
    return f"{facts.title} ({facts.unit})" if facts.unit else facts.title


def tooltip_of(model: type[BaseModel], name: str) -> str:
    """Description of a field, its bounds, and its name in scripts."""
    facts = setting_facts(model, name)
    lines = [facts.description or label_of(model, name)]
    bounds = _bounds_in_words(facts)
    if bounds:
        lines.append(f"Allowed: {bounds}.")
    if facts.optional and facts.default is None:
        lines.append(f"Empty: {facts.none}.")
    lines.append(f"In scripts: {name}.")
    # Qt wraps lines only in rich text
    return f"<qt>{'<br>'.join(escape(line, quote=False) for line in lines)}</qt>"


def _bounds_in_words(facts: SettingFacts) -> str:
    least, most = "> " if facts.minimum_excluded else "≥ ", "< " if facts.maximum_excluded else "≤ "
    bounds = ((least, facts.minimum), (most, facts.maximum))
    return ", ".join(f"{sign}{limit:g}" for sign, limit in bounds if limit is not None)


def _plain(annotation: object) -> tuple[object, bool]:
    """The type without Annotated and None, and whether None is allowed."""
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        optional = len(members) < len(get_args(annotation))
        annotation = members[0] if len(members) == 1 else tuple(members)
    if hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    return annotation, optional


# -- rows --------------------------------------------------------------------------------------------------------------
def _row(facts: SettingFacts, field: FieldInfo, start: object, offered: Sequence[object] | None) -> Row | None:
    if field.exclude:
        return None
    name = facts.name
    kind, optional = _plain(field.annotation)
    start = None if start is PydanticUndefined else start
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return None
    choices = list(facts.choices if offered is None else offered)
    if len(choices) == 1:
        return None
    if choices or (kind is bool and optional):
        chosen_freely = offered is not None or (bool(choices) and get_origin(kind) is not Literal)
        return _choice_row(name, choices or [True, False], start, optional, "(none)" if chosen_freely else facts.none)
    if kind is bool:
        tick = CheckBox(name=name, value=bool(start))
        tick.native.setText("")  # the label has a column of its own
        return tick
    if kind in (int, float) and not optional and (start is None or isinstance(start, int | float)):
        spun = _number_row(facts, kind is int, start)
        if spun is not None:
            return spun
    text = LineEdit(name=name, value="" if start is None else _text(start))
    if optional:
        text.native.setPlaceholderText(facts.none)
    return text


def _choice_row(name: str, choices: list[object], start: object, optional: bool, none: str) -> Row:
    if optional and None not in choices:
        choices.insert(0, None)
    named = [
        (("yes" if c else "no") if isinstance(c, bool) else str(c).replace("_", " "), c)
        for c in choices
        if c is not None
    ]
    value = start if start in choices else choices[0]
    box = _Choice(none, name=name, choices=named, value=value, nullable=optional or None in choices)
    box.native.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
    box.native.setMinimumContentsLength(6)
    return box


class _Choice(ComboBox):
    """A list to choose from, in which None has a name of its own."""

    def __init__(self, none: str, **arguments: object) -> None:
        self.null_string = none
        super().__init__(**arguments)  # type: ignore[arg-type]  # magicgui's own names


def _number_row(facts: SettingFacts, whole: bool, start: float | None) -> Row | None:
    """A box with arrows; None if a number is better typed, because arrows would never reach it."""
    limits = [limit for limit in (facts.minimum, facts.maximum) if limit is not None]
    low = -_MOST_STEPPED if facts.minimum is None else facts.minimum
    high = _MOST_STEPPED if facts.maximum is None else facts.maximum
    value = low if start is None else start
    low, high = min(low, value), max(high, value)
    if whole:
        return SpinBox(name=facts.name, min=int(low), max=int(high), value=int(value))
    digits = max(_digits(v) for v in (value, *limits))
    if 0 < abs(value) < _LEAST_STEPPED or abs(value) > _MOST_STEPPED or digits > _MOST_DIGITS:
        return None
    size = -1 if not value else max(-3, math.floor(math.log10(abs(value))) - 1)
    box = FloatSpinBox(name=facts.name, min=low, max=high, value=value, step=min(10.0**size, 1.0))
    box.native.setDecimals(max(2, digits, -size))
    box.min, box.max, box.value = low, high, value  # the box would round these to fewer digits
    return box


def _digits(value: float) -> int:
    """Number of digits after the point that a number needs."""
    return len(f"{value:.12f}".rstrip("0").partition(".")[2])


def _text(value: object) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, tuple | list) else str(value)


def _read(row: Row, field: FieldInfo) -> object:
    if not isinstance(row, LineEdit):
        return row.value
    text = str(row.value).strip()
    kind = _plain(field.annotation)[0]
    if not text:
        return PydanticUndefined if field.default is not None else None
    if kind is str:
        return text
    try:
        value: object = ast.literal_eval(f"({text},)" if "," in text else text)
    except (ValueError, SyntaxError):
        words = tuple(word.strip() for word in text.split(","))
        return words if len(words) > 1 else text
    several = get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis
    return (value,) if several and not isinstance(value, tuple) else value
