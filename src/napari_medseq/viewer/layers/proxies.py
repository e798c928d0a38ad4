"""The viewers and layers behind the proxies that napari hands to plugins."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def real(thing: T) -> T:
    """A viewer or layer itself where napari handed a proxy of it to a plugin; such a proxy is deleted at once."""
    inner: T = getattr(thing, "__wrapped__", thing)
    return inner
