"""Forms made from the settings models: label, tooltip, unit and bounds of each row are those of the pydantic field itself.

What a field says of itself beside ``title`` and ``description`` stands in ``json_schema_extra``:

``unit``
    "mm", "HU", "%", "s": stands behind the label.
``choices``
    Values of a free text to choose from.
``none``
    What an empty row means, in words; default "automatic".
``advanced``
    True: the row is under *More*, since most people never touch it.
"""

from __future__ import annotations

import ast
import math
import types
from collections.abc import Mapping, Sequence
from typing import Generic, Literal, TypeVar, Union, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_medseq._napari.choosers import CollapsibleSection
from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing import Step, settings_of
from napari_medseq.settings import checked

S = TypeVar("S", bound=BaseModel)
Row = CheckBox | ComboBox | FloatSpinBox | LineEdit | SpinBox

_WIDEST_LABEL = 150
#: numbers beyond these are typed, not stepped to
_LEAST_STEPPED, _MOST_STEPPED, _MOST_DIGITS = 1e-3, 1e6, 6


class ModelForm(QWidget, Generic[S]):  # type: ignore[misc]
    """One row per field of a settings model; `settings` is the validated model.

    Parameters
    ----------
    model : type of pydantic.BaseModel
        Fields of a kind that has no row (other models) keep what `value` or the model says.
    value : BaseModel, optional
        What to begin with.
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
        plain, more = QFormLayout(), QFormLayout()
        for name, field in model.model_fields.items():
            start = getattr(value, name) if value is not None else field.get_default(call_default_factory=True)
            named_step = name == "kind" and issubclass(model, Step)
            row = None if named_step else _row(name, field, start, (choices or {}).get(name))
            if row is not None:
                self.rows[name] = row
                self._add(more if extra(field).get("advanced") else plain, name, row)
            elif not field.exclude and start is not PydanticUndefined:
                self._kept[name] = start
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(plain)
        if more.rowCount():
            hidden = QWidget()
            hidden.setLayout(more)
            column.addWidget(CollapsibleSection("More", hidden))

    def _add(self, form: QFormLayout, name: str, row: Row) -> None:
        form.setContentsMargins(0, 0, 0, 0)
        label = QLabel(label_of(self.model, name))
        label.setWordWrap(True)
        label.setMaximumWidth(_WIDEST_LABEL)
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
        """The model with what the form says.

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
        """Why the form cannot be used as it is; empty where it can."""
        try:
            _ = self.settings
        except MedseqError as error:
            return str(error)
        return ""


class _NoWheel(QObject):  # type: ignore[misc]
    """Scrolling a dock must not change the numbers that pass under the mouse."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        turned = event.type() == QEvent.Wheel and isinstance(watched, QAbstractSpinBox | QComboBox)
        if turned and not watched.hasFocus():
            event.ignore()
            return True
        return False


# -- what a field says of itself ---------------------------------------------------------------------------------------
def extra(field: FieldInfo) -> Mapping[str, object]:
    """What stands in the field's ``json_schema_extra``."""
    said = field.json_schema_extra
    return said if isinstance(said, Mapping) else {}


def label_of(model: type[BaseModel], name: str) -> str:
    """A field's title, or its name in words, with the unit."""
    title, unit, _ = _words(model, name)
    return f"{title} ({unit})" if unit else title


def tooltip_of(model: type[BaseModel], name: str) -> str:
    """What a field is, its bounds, and by which name scripts call it."""
    field = model.model_fields[name]
    lines = [_words(model, name)[2] or label_of(model, name)]
    bounds = _said_bounds(field)
    if bounds:
        lines.append(f"Allowed: {bounds}.")
    if _plain(field.annotation)[1] and field.default is None:
        lines.append(f"Empty: {_none_means(field)}.")
    lines.append(f"In scripts: {name}.")
    # Qt breaks lines only in rich text
    return f"<qt>{'<br>'.join(_escaped(line) for line in lines)}</qt>"


def _words(model: type[BaseModel], name: str) -> tuple[str, str, str]:
    """Title, unit and description of a field."""
    field = model.model_fields[name]
    if issubclass(model, Step):
        facts = next(f for f in settings_of(model) if f.name == name)
        return facts.title, facts.unit or str(extra(field).get("unit", "")), facts.description
    return field.title or name.replace("_", " "), str(extra(field).get("unit", "")), field.description or ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _none_means(field: FieldInfo) -> str:
    return str(extra(field).get("none", "automatic"))


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _limits(field: FieldInfo) -> dict[str, float]:
    return {
        key: float(limit)
        for rule in (*field.metadata, *_inner_rules(field))
        for key in _SIGNS
        if isinstance(limit := getattr(rule, key, None), int | float)
    }


def _inner_rules(field: FieldInfo) -> Sequence[object]:
    """Bounds of ``Annotated[float, Field(gt=0)] | None``, which pydantic leaves inside."""
    for part in get_args(field.annotation) if get_origin(field.annotation) in (Union, types.UnionType) else ():
        for note in getattr(part, "__metadata__", ()):
            if isinstance(note, FieldInfo):
                return list(note.metadata)
    return ()


def _said_bounds(field: FieldInfo) -> str:
    return ", ".join(f"{_SIGNS[key]} {limit:g}" for key, limit in _limits(field).items())


def _plain(annotation: object) -> tuple[object, bool]:
    """The type without Annotated and None, and whether None is allowed."""
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [a for a in get_args(annotation) if a is not type(None)]
        optional = len(kept) < len(get_args(annotation))
        annotation = kept[0] if len(kept) == 1 else tuple(kept)
    if hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    return annotation, optional


# -- rows --------------------------------------------------------------------------------------------------------------
def _row(name: str, field: FieldInfo, start: object, offered: Sequence[object] | None) -> Row | None:
    if field.exclude:
        return None
    kind, optional = _plain(field.annotation)
    start = None if start is PydanticUndefined else start
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return None
    choices = _choices(field, kind, offered)
    if len(choices) == 1:
        return None
    if choices or (kind is bool and optional):
        return _choice_row(name, field, choices or [True, False], start, optional, offered is not None)
    if kind is bool:
        tick = CheckBox(name=name, value=bool(start))
        tick.native.setText("")  # the label stands in its own column
        return tick
    if kind in (int, float) and not optional and (start is None or isinstance(start, int | float)):
        spun = _number_row(name, kind is int, _limits(field), start)
        if spun is not None:
            return spun
    text = LineEdit(name=name, value="" if start is None else _text(start))
    if optional:
        text.native.setPlaceholderText(_none_means(field))
    return text


def _choices(field: FieldInfo, kind: object, offered: Sequence[object] | None) -> list[object]:
    if offered is not None:
        return list(offered)
    said = extra(field).get("choices")
    if isinstance(said, Sequence):
        return list(said)
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def _choice_row(
    name: str, field: FieldInfo, choices: list[object], start: object, optional: bool, offered: bool
) -> Row:
    if optional and None not in choices:
        choices.insert(0, None)
    named = [
        (("yes" if c else "no") if isinstance(c, bool) else str(c).replace("_", " "), c)
        for c in choices
        if c is not None
    ]
    value = start if start in choices else choices[0]
    none = "(none)" if offered or "choices" in extra(field) else _none_means(field)
    box = _Choice(none, name=name, choices=named, value=value, nullable=optional or None in choices)
    box.native.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
    box.native.setMinimumContentsLength(6)
    return box


class _Choice(ComboBox):
    """A list to choose from, in which None is called by a name of its own."""

    def __init__(self, none: str, **arguments: object) -> None:
        self.null_string = none
        super().__init__(**arguments)  # type: ignore[arg-type]  # magicgui's own names


def _number_row(name: str, whole: bool, limits: Mapping[str, float], start: float | None) -> Row | None:
    """A box with arrows; None where a number is better typed, since arrows would never get there."""
    low = next((limits[k] for k in ("ge", "gt") if k in limits), -_MOST_STEPPED)
    high = next((limits[k] for k in ("le", "lt") if k in limits), _MOST_STEPPED)
    value = low if start is None else start
    low, high = min(low, value), max(high, value)
    if whole:
        return SpinBox(name=name, min=int(low), max=int(high), value=int(value))
    digits = max(_digits(v) for v in (value, *limits.values()))
    if 0 < abs(value) < _LEAST_STEPPED or abs(value) > _MOST_STEPPED or digits > _MOST_DIGITS:
        return None
    size = -1 if not value else max(-3, math.floor(math.log10(abs(value))) - 1)
    box = FloatSpinBox(name=name, min=low, max=high, value=value, step=min(10.0**size, 1.0))
    box.native.setDecimals(max(2, digits, -size))
    box.min, box.max, box.value = low, high, value  # these were rounded to fewer digits
    return box


def _digits(value: float) -> int:
    """Digits after the point that a number needs."""
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
