"""The description of each field of a settings model: title, unit, bounds, choices and text, as its pydantic fields
hold them.

Forms, the command line and docstrings all take it from here. Beside ``title``, ``description`` and bounds, ``json_schema_extra`` holds

``unit``
    "mm", "HU", "%", "s".
``choices``
    Values of a free text to choose from.
``none``
    What None means, in words; default "automatic".
``advanced``
    True: most people never touch it, so that forms put it under *More*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class SettingFacts:
    """The description of one setting.

    Attributes
    ----------
    name, title : str
        The name in files, and the title that people read.
    unit : str
        Empty where it has none.
    description : str
    default : object
        None where there is none.
    minimum, maximum : float or None
        Bounds; `minimum_excluded` and `maximum_excluded` say that the bound itself is not allowed.
    minimum_excluded, maximum_excluded : bool
    choices : tuple of object
        All values there are, or those that are offered, where these are few.
    optional : bool
        Whether it may be None.
    none : str
        What None means, in words.
    advanced : bool
        Whether most people never touch it.
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
    choices: tuple[object, ...] = ()
    optional: bool = False
    none: str = "automatic"
    advanced: bool = False


def setting_facts(model: type[BaseModel], name: str) -> SettingFacts:
    """The description of one field of a settings model.

    Parameters
    ----------
    model : type of BaseModel
    name : str
        Name of the field.

    Raises
    ------
    KeyError
        If the model has no such field.

    Examples
    --------
    >>> from pydantic import Field
    >>> class Smooth(BaseModel):
    ...     width_mm: float = Field(2.0, gt=0, title="width", description="Of the Gaussian.", json_schema_extra={"unit": "mm"})
    >>> width = setting_facts(Smooth, "width_mm")
    >>> width.title, width.unit, width.default, width.minimum, width.minimum_excluded
    ('width', 'mm', 2.0, 0.0, True)
    """
    field = model.model_fields[name]
    extra = more_of(field)
    limits = dict(_limits(field))
    minimum = next((limits[rule] for rule in ("ge", "gt") if rule in limits), None)
    maximum = next((limits[rule] for rule in ("le", "lt") if rule in limits), None)
    default = field.get_default(call_default_factory=True)
    offered = extra.get("choices")
    return SettingFacts(
        name=name,
        title=field.title or name.replace("_", " "),
        unit=str(extra.get("unit", "")),
        description=field.description or "",
        default=None if default is PydanticUndefined else default,
        minimum=minimum,
        maximum=maximum,
        minimum_excluded="gt" in limits and "ge" not in limits,
        maximum_excluded="lt" in limits and "le" not in limits,
        choices=tuple(offered) if isinstance(offered, Sequence) else tuple(_choices(field.annotation)),
        optional=type(None) in get_args(field.annotation),
        none=str(extra.get("none", "automatic")),
        advanced=bool(extra.get("advanced")),
    )


def more_of(field: FieldInfo) -> Mapping[str, object]:
    """The entries of a field's ``json_schema_extra``."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, Mapping) else {}


def _limits(field: FieldInfo) -> Iterator[tuple[str, float]]:
    """The bounds of a field, or those inside its type: of what may be None, of the items of a tuple."""
    for rule in (*field.metadata, *_marks(field.annotation)):
        for key in ("ge", "gt", "le", "lt"):
            if isinstance(limit := getattr(rule, key, None), int | float):
                yield key, float(limit)


def _marks(annotation: object) -> Iterator[object]:
    """All annotations anywhere inside a type."""
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
