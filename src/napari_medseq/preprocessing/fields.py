"""What a form or a page says of a step's settings: title, unit, bounds, choices, description, taken from its model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from napari_medseq.preprocessing.step import STEPS, Step
from napari_medseq.preprocessing.units import Unit


@dataclass(frozen=True)
class SettingFacts:
    """What is known of one setting of a step.

    Attributes
    ----------
    name, title : str
        As in files, and as people read it.
    unit : str
        Empty where it has none.
    description : str
    default : object
        None where there is none.
    minimum, maximum : float or None
        Bounds; `minimum_excluded` and `maximum_excluded` say that the bound itself is not allowed.
    minimum_excluded, maximum_excluded : bool
    choices : tuple of str
        All values there are, where these are few.
    optional : bool
        Whether it may be None (automatic, or none).
    """

    name: str
    title: str
    unit: str
    description: str
    default: object
    minimum: float | None = None
    maximum: float | None = None
    minimum_excluded: bool = False
    maximum_excluded: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False


def settings_of(step: type[Step] | str) -> tuple[SettingFacts, ...]:
    """What is known of each setting of a step, in the order of its model; `kind` is left out.

    Parameters
    ----------
    step : type of Step, or its kind

    Examples
    --------
    >>> margin, *_ = settings_of("crop")
    >>> margin.title, margin.unit, margin.default, margin.minimum
    ('margin', 'mm', 5.0, 0.0)
    """
    model = STEPS[step] if isinstance(step, str) else step
    notes = field_notes(model)
    return tuple(_facts(model, name, notes.get(name, "")) for name in model.model_fields if name != "kind")


def field_notes(model: type[BaseModel]) -> dict[str, str]:
    """What the numpydoc ``Parameters`` or ``Attributes`` of a settings model, or of the models it stands on, say of each field."""
    notes: dict[str, str] = {}
    for one in reversed([c for c in model.__mro__ if issubclass(c, BaseModel) and "__doc__" in vars(c)]):
        own: dict[str, str] = {}
        names: list[str] = []
        for line in cleandoc(one.__doc__ or "").splitlines():  # Python 3.13 takes the indent away itself
            if head := re.match(r"^(\w+(?:, \w+)*) : ", line):
                names = head[1].split(", ")
            elif names and line.startswith("    "):
                own.update({name: f"{own.get(name, '')} {line.strip()}".strip() for name in names})
            elif line.strip():
                names = []
        notes.update(own)
    return notes


def _facts(model: type[Step], name: str, note: str) -> SettingFacts:
    field = model.model_fields[name]
    marks = [*field.metadata, *_marks(field.annotation)]
    unit = next((m.symbol for m in marks if isinstance(m, Unit)), _unit_by_name(name))

    def bound(*names: str) -> tuple[float | None, bool]:
        for mark in marks:
            for rule in names:
                value = getattr(mark, rule, None)
                if value is not None:
                    return float(value), rule in ("gt", "lt")
        return None, False

    minimum, above = bound("ge", "gt")
    maximum, below = bound("le", "lt")
    default = field.get_default(call_default_factory=True)
    return SettingFacts(
        name=name,
        title=field.title or name.removesuffix("_mm").removesuffix("_s").replace("_", " "),
        unit=unit,
        description=field.description or note,
        default=None if default is PydanticUndefined else default,
        minimum=minimum,
        maximum=maximum,
        minimum_excluded=above,
        maximum_excluded=below,
        choices=tuple(str(c) for c in _choices(field.annotation)),
        optional=type(None) in get_args(field.annotation),
    )


def _unit_by_name(name: str) -> str:
    """The unit that a setting's name ends in."""
    return (
        {"mm": "mm", "s": "s", "hu": "HU", "deg": "°", "percent": "%"}.get(name.rpartition("_")[2], "")
        if "_" in name
        else ""
    )


def _marks(annotation: object) -> Iterator[object]:
    """What is annotated anywhere inside a type: the bounds of the items of a tuple, the unit of what may be None."""
    if get_origin(annotation) is Annotated:
        for mark in get_args(annotation)[1:]:
            yield mark
            yield from getattr(mark, "metadata", ())
    for inner in get_args(annotation):
        yield from _marks(inner)


def _choices(annotation: object) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for inner in get_args(annotation):
        yield from _choices(inner)
