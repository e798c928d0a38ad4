"""What a test takes for granted of a value, said so that the type checker knows it too; where it is not so, the test fails here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Kind = TypeVar("Kind")


def some(value: T | None) -> T:
    """The value, which is there."""
    assert value is not None
    return value


def of(kind: type[Kind], value: object) -> Kind:
    """The value, which is of this class."""
    assert isinstance(value, kind), f"{type(value).__name__} is no {kind.__name__}"
    return value


def function(value: object) -> Callable[..., object]:
    """The value, which can be called."""
    assert callable(value), f"{type(value).__name__} cannot be called"
    return value
