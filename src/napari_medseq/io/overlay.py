"""Several structures in as few label arrays as can hold them: structures that overlap go to different arrays, so that
none is hidden."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Layer:
    """One label array and the values in it."""

    array: NDArray[np.generic]
    values: list[int] = field(default_factory=list)


def layered(structures: Iterable[tuple[int, NDArray[np.bool_]]], shape: tuple[int, ...], top: int) -> list[Layer]:
    """Put each (value, mask) into the first layer in which it touches nothing.

    Parameters
    ----------
    structures : iterable of (int, bool array of `shape`)
    shape : tuple of int
    top : int
        Largest value, which chooses the type.
    """
    dtype = np.uint8 if top < 256 else np.uint16 if top < 65536 else np.int32
    layers: list[Layer] = []
    for value, mask in structures:
        place = next((one for one in layers if not (one.array[mask] != 0).any()), None)
        if place is None:
            place = Layer(np.zeros(shape, dtype))
            layers.append(place)
        place.array[mask] = value
        place.values.append(value)
    return layers or [Layer(np.zeros(shape, dtype))]
