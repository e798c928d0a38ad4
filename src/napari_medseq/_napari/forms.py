"""Forms made from the settings models: the same pydantic class that a pipeline file is checked against."""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, LineEdit, SpinBox, Widget
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from napari_medseq.errors import MedseqError, SettingsError


class ModelForm(Container[Any]):
    """One row per field of a settings model; `settings` is the validated model.

    Parameters
    ----------
    model : type of pydantic.BaseModel
        Fields of a kind that has no row keep their default.
    value : BaseModel, optional
        What to begin with.
    choices : mapping of str to sequence, optional
        Values to offer for a field that is free text otherwise; None among them means none.
    """

    def __init__(
        self,
        model: type[BaseModel],
        value: BaseModel | None = None,
        choices: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.model = model
        notes = field_notes(model)
        rows = []
        for name, field in model.model_fields.items():
            start = getattr(value, name) if value is not None else field.get_default(call_default_factory=True)
            row = _row(name, field, start, (choices or {}).get(name))
            if row is not None:
                row.tooltip = notes.get(name, field.description or "")
                rows.append(row)
        super().__init__(widgets=rows, labels=True)

    @property
    def settings(self) -> Any:
        """The model with what the form says.

        Raises
        ------
        SettingsError
            If a value cannot be used.
        """
        values = {row.name: _read(row, self.model.model_fields[row.name]) for row in self}
        values = {k: v for k, v in values.items() if v is not PydanticUndefined}
        try:
            return self.model(**values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or self.model.__name__
            raise SettingsError(f"{where.replace('_', ' ')}: {first['msg']}, not {first.get('input')!r}.") from None
        except MedseqError:
            raise


def field_notes(model: type[BaseModel]) -> dict[str, str]:
    """What the numpydoc ``Parameters`` or ``Attributes`` of a class say about each field."""
    notes: dict[str, str] = {}
    names: list[str] = []
    for line in (model.__doc__ or "").splitlines():
        head = re.match(r"^ {4}(\w+(?:, \w+)*) : ", line)
        if head:
            names = head[1].split(", ")
        elif names and line.startswith(" " * 8):
            for name in names:
                notes[name] = f"{notes.get(name, '')} {line.strip()}".strip()
        elif line.strip():
            names = []
    return notes


def _plain(annotation: Any) -> tuple[Any, bool]:
    """The type without Annotated and None, and whether None is allowed."""
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [a for a in get_args(annotation) if a is not type(None)]
        return (kept[0] if len(kept) == 1 else kept), len(kept) < len(get_args(annotation))
    return annotation, False


def _row(name: str, field: FieldInfo, start: Any, offered: Sequence[Any] | None) -> Widget | None:
    kind, optional = _plain(field.annotation)
    label = name.replace("_", " ")
    if start is PydanticUndefined:
        start = None
    if field.exclude:
        return None
    choices = list(offered) if offered is not None else list(get_args(kind)) if get_origin(kind) is Literal else []
    if len(choices) == 1:
        return None
    if choices:
        if optional and None not in choices:
            choices.insert(0, None)
        named = [
            ("automatic" if c is None and offered is None else "(none)" if c is None else str(c), c) for c in choices
        ]
        return ComboBox(
            name=name, label=label, choices=named, value=start if start in choices else choices[0], nullable=True
        )
    if kind is bool and not optional:
        return CheckBox(name=name, text=label, value=bool(start))
    if kind in (int, float) and not optional:
        low, high = _bounds(field)
        value = low if start is None else start
        low, high = min(low, value), max(high, value)
        if kind is int:
            return SpinBox(name=name, label=label, min=int(low), max=int(high), value=int(value))
        step = 0.001 if 0 < abs(value) < 0.1 else 0.1
        return FloatSpinBox(name=name, label=label, min=low, max=high, value=value, step=step)
    text = LineEdit(name=name, label=label, value="" if start is None else _text(start))
    if optional:
        text.native.setPlaceholderText("automatic")
    return text


def _text(value: Any) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, tuple | list) else str(value)


def _bounds(field: FieldInfo) -> tuple[float, float]:
    low, high = -1_000_000, 1_000_000
    for rule in field.metadata:
        low = next((getattr(rule, k) for k in ("ge", "gt") if getattr(rule, k, None) is not None), low)
        high = next((getattr(rule, k) for k in ("le", "lt") if getattr(rule, k, None) is not None), high)
    return low, high


def _read(row: Any, field: FieldInfo) -> Any:
    if not isinstance(row, LineEdit):
        return row.value
    text = row.value.strip()
    if not text:
        return PydanticUndefined if field.default is not None else None
    if _plain(field.annotation)[0] is str:
        return text
    try:
        return ast.literal_eval(f"({text},)" if "," in text else text)
    except (ValueError, SyntaxError):
        return text
