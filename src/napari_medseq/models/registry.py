"""The networks by name: the table in which each network enters itself, and which is the allow-list of what a bundle may name.

A network's module says ``@register("Name")``; nothing is ever imported by a name from a file. This module knows none of them, so
that a network may be built out of others; `networks` imports all that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from napari_medseq.errors import ModelError
from napari_medseq.models import bounds
from napari_medseq.models.plain import Definition
from napari_medseq.plugins import Table

if TYPE_CHECKING:
    from torch import nn

    from napari_medseq.models.sequence_network import SequenceNetwork

Builder = TypeVar("Builder", bound="Callable[..., nn.Module]")


def _usable(_: str, offered: object) -> Callable[..., nn.Module]:
    if not callable(offered):
        raise ValueError("it is neither a network's class nor a function that builds one")
    return offered


#: name → builder; other packages add theirs by entry points
NETWORKS: Table[Callable[..., nn.Module]] = Table("napari_medseq.networks", "network", {}, _usable)


def register(name: str) -> Callable[[Builder], Builder]:
    """Enter a network's class, or a function that builds one, in the table.

    Parameters
    ----------
    name : str
        What bundles call it (``_target_``).

    Raises
    ------
    ValueError
        If another network has that name.
    """

    def enter(builder: Builder) -> Builder:
        if NETWORKS.entered(name) is not None:
            raise ValueError(f"There are two networks called {name!r}; give one of them another name.")
        NETWORKS[name] = builder
        return builder

    return enter


def build(definition: Definition, *, stored: int | None = None) -> nn.Module:
    """A network from ``{"_target_": name, **arguments}``.

    Parameters
    ----------
    definition : mapping
    stored : int, optional
        Weights that its file holds; a network that would have many more is refused before it is built.

    Raises
    ------
    ModelError
        If the name is not in the table, the arguments do not fit, or the network is too large (`bounds`).
    """
    arguments = dict(definition)
    name = arguments.pop("_target_", None)
    if not isinstance(name, str) or name not in NETWORKS:
        raise ModelError(
            f"network {str(name)[:80]!r} is not one of {', '.join(sorted(NETWORKS))}; the model is refused."
        )
    try:
        with bounds.bounded(bounds.MOST_WEIGHTS if stored is None else bounds.bound_for(stored)):
            return NETWORKS[name](**arguments)
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RuntimeError, MemoryError) as error:
        raise ModelError(f"{name} cannot be built from the bundle's arguments: {str(error)[:200]}") from None


def build_sequence_network(definition: Definition) -> SequenceNetwork:
    """A network along a sequence, as `build`.

    Raises
    ------
    ModelError
        Also if the network is of another kind.
    """
    from napari_medseq.models.sequence_network import SequenceNetwork

    network = build(definition)
    if not isinstance(network, SequenceNetwork):
        raise ModelError(f"{definition.get('_target_')} is not a network along a sequence; it cannot be used here.")
    return network
