"""Packages that load their parts when these are asked for (PEP 562), and packages that are a verb besides. Standard library only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def attributes(package: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__``: `where` maps each public name to the module inside `package` that defines it."""

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{where[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


def make_callable(package: str, verb: str) -> None:
    """Let the package itself be called as its function `verb`, so that importing it never hides ``napari_medseq.<verb>``."""

    class Verb(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(self, verb)(*args, **kwargs)

    sys.modules[package].__class__ = Verb
