"""YAML and JSON that someone else may have written, as plain values: bounded, without aliases, and one error for all that is wrong."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path

import yaml
from pydantic import JsonValue

from napari_medseq.errors import MedseqError, SettingsError

#: bytes; lists of some thousand patients fit, and reading takes seconds at most
LARGEST = 1 << 18
#: what PyYAML lets out besides its own errors: ``!!bool x`` is a KeyError, ``!!timestamp x`` an AttributeError, ``!!int ""`` an IndexError
_FAILURES = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def _each_once(names: Sequence[str]) -> None:
    """Refuse a name that is there twice, of whose values all but the last would be passed over."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"it says {', '.join(twice)} twice; leave one")


def _object(pairs: Sequence[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """A JSON object, each name once."""
    _each_once([name for name, _ in pairs])
    return dict(pairs)


# not the loader in C: it has no bound on nesting, and a deep file ends the process
class _Loader(yaml.SafeLoader):
    """Plain values only, and each written out: what aliases stand for can grow without end. Dates stay text."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it holds aliases, which can grow without end; write the values out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        _each_once([str(key.value) for key, _ in node.value])
        return super().construct_mapping(node, deep)


#: all but that of dates, of which a month 99 would be an error
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_values(path: Path, *, largest: int = LARGEST, error: type[MedseqError] = SettingsError) -> JsonValue:
    """The contents of a YAML or JSON file.

    Parameters
    ----------
    path : Path
    largest : int
        Bytes that it may have.
    error : subclass of MedseqError
        What is raised.

    Raises
    ------
    MedseqError
        If the file cannot be read, is larger than `largest`, is not YAML, or holds aliases.
    """
    try:
        if not path.is_file():
            raise error(f"{path} is not a file; name a YAML or JSON file.")
        if path.stat().st_size > largest:
            raise error(f"{path} is larger than {largest >> 10} KiB, which no such file needs; it is refused.")
        text = path.read_text(encoding="utf-8-sig")  # some editors of Windows put a mark before the text
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path} cannot be read as YAML or JSON: {_short(problem)}.") from None
    return parse_values(text, where=str(path), as_json=path.suffix == ".json", error=error)


def read_settings(path: Path) -> dict[str, JsonValue]:
    """A YAML or JSON file of names and values; an empty file holds none.

    Raises
    ------
    SettingsError
        If it cannot be read, see `read_values`, or holds something else.
    """
    content = read_values(path)
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{path} must hold names and values, not {type(content).__name__}.")
    return content or {}


def parse_values(
    text: str, *, where: str, as_json: bool = False, error: type[MedseqError] = SettingsError
) -> JsonValue:
    """The values in YAML or JSON text.

    Parameters
    ----------
    text : str
    where : str
        What it is called in the message.
    as_json : bool
        JSON and no more of YAML.
    error : subclass of MedseqError
        What is raised.

    Raises
    ------
    MedseqError
        If it is not YAML, holds aliases, or says something twice.
    """
    try:
        value: JsonValue = json.loads(text, object_pairs_hook=_object) if as_json else yaml.load(text, Loader=_Loader)
    except _FAILURES as problem:
        raise error(f"{where} cannot be read as YAML or JSON: {_short(problem)}.") from None
    return value


def _short(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}".rstrip(".: ")
