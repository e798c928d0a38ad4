"""The base of every settings model, and the one text in which a setting that cannot be used is reported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from types import UnionType
from typing import Annotated, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.fields import setting_facts

#: a value that is repeated in a message is cut to this many characters
_SHOWN = 80


#: a path in a setting, with ``~`` for the user's own folder
PathText: TypeAlias = Annotated[str, AfterValidator(os.path.expanduser)]


def _whole(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


#: the same for settings that are kept as the record of a result: the whole path, which is the same place from any other folder
WholePathText: TypeAlias = Annotated[str, AfterValidator(_whole)]


class Settings(BaseModel):
    """Settings of one step: frozen, checked, without unknown names and without NaN or infinite numbers.

    A subclass lists its settings as fields with bounds (``Field(0.1, gt=0, lt=1)``), each with its ``title`` and ``description``, and a
    unit in ``json_schema_extra={"unit": "mm"}``: forms, the API reference and ``help()`` take them from there.

    Raises
    ------
    SettingsError
        If a value cannot be used or a name is unknown, as from `checked`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(problems(error, type(self))) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        cls.__doc__ = _with_fields(cls)

    # pydantic then checks nested settings itself, so that a message names the whole way to the field
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def _with_fields(model: type[BaseModel]) -> str:
    """The docstring of a model, with what its fields say of themselves as numpydoc's section of attributes."""
    text = cleandoc(model.__doc__ or "")
    described = [facts for name in model.model_fields if (facts := setting_facts(model, name)).description]
    if not described or "Attributes\n------" in text:
        return text
    lines = ["Attributes", "----------"]
    for facts in described:
        unit = f", in {facts.unit}" if facts.unit else ""
        empty = f" None: {facts.none}." if facts.optional and facts.none != "automatic" else ""
        lines += [
            f"{facts.name} : {_type_in_words(model.model_fields[facts.name])}{unit}",
            f"    {facts.description}{empty}",
        ]
    head, raises, tail = text.partition("\nRaises\n------")
    return f"{head.rstrip()}\n\n" + "\n".join(lines) + (f"\n{raises}{tail}" if raises else "\n")


def _type_in_words(field: FieldInfo) -> str:
    words = _name_of(field.annotation)
    return words if field.is_required() else f"{words}, default {field.get_default(call_default_factory=True)!r}"


def _name_of(kind: object) -> str:
    """A type as people write it, without the bounds inside it."""
    if get_origin(kind) is Annotated:
        return _name_of(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(_name_of(inner) for inner in get_args(kind))
    if get_origin(kind) is tuple:
        return f"tuple[{', '.join('...' if inner is Ellipsis else _name_of(inner) for inner in get_args(kind))}]"
    if kind is type(None):
        return "None"
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


S = TypeVar("S", bound=BaseModel)


def checked(
    model: type[S],
    values: S | Mapping[str, object] | None,
    *,
    where: str = "",
    error: type[MedseqError] = SettingsError,
) -> S:
    """The settings that a caller gave as a model, as a mapping, or not at all.

    Parameters
    ----------
    model : type of the settings
    values : model, mapping or None
        None: all defaults.
    where : str
        What the settings belong to, for the message; by default the name of their class.
    error : type of MedseqError
        The error that is raised; `ModelError` for the settings of a bundle.

    Raises
    ------
    SettingsError
        If a field is not valid; the message names each, what is wrong with it, and what is allowed.
    """
    if isinstance(values, model):
        return values
    try:
        return model.model_validate({} if values is None else dict(values) if isinstance(values, Mapping) else values)
    except ValidationError as problem:
        raise error(problems(problem, model, where)) from None


def problems(error: ValidationError, model: type[BaseModel] | None = None, where: str = "") -> str:
    """The errors of pydantic as one sentence: field, value, what is wrong and what is allowed.

    Parameters
    ----------
    error : ValidationError
    model : type of the settings, optional
        The model whose names are listed if an unknown one is given.
    where : str
        What the settings are of; default the model's name.
    """
    lines: list[str] = []
    unknown: dict[str, list[str]] = {}  # names that are no settings, by those that there are
    for item in error.errors(include_url=False):
        place, kind, message = item["loc"], item["type"], item["msg"].removeprefix("Value error, ")
        field = ".".join(str(part) for part in place)
        if kind == "missing":
            lines.append(f"{field} is missing")
        elif kind == "extra_forbidden":
            choices = ", ".join(_fields(model, place[:-1])) if model is not None else ""
            unknown.setdefault(choices, []).append(field)
        elif field and not isinstance(item["input"], Mapping):
            value = repr(item["input"])
            value = value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"
            lines.append(f"{field} = {value}: {message[:1].lower()}{message[1:]}")
        else:
            lines.append(f"{field}: {message}" if field else message)
    for choices, names in unknown.items():
        what = f"{names[0]} is not a setting" if len(names) == 1 else f"{', '.join(names)} are not settings"
        lines.append(what + (f"; there are {choices}" if choices else ""))
    place_of = where or (model.__name__ if model is not None else error.title)
    return f"{place_of}: {'; '.join(dict.fromkeys(lines))}."


def _fields(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Names of the settings at a position inside nested settings; none if it is not a settings model."""
    for part in place:
        field = model.model_fields.get(str(part))
        if field is None:
            return []
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if _is_model(t)]
        if len(inner) != 1:
            return []
        model = inner[0]
    return list(model.model_fields)


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
