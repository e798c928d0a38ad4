"""How an overlay combines two images on one grid, and the colours of their difference; no layer is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq.geometry import Volume
from napari_medseq.volumes.blending import checkerboard, curtain, difference

if TYPE_CHECKING:
    from napari.utils.colormaps import Colormap

Mode = Literal["blink", "fade", "checkerboard", "curtain", "difference"]

#: percentile of the absolute difference that gets the full colour
_FULL = 99.5


def mixed_images(
    mode: Mode, moved: Volume, fixed: Volume, seen: NDArray[np.bool_], *, tile: Sequence[int], across: int, share: float
) -> Volume:
    """The image that an overlay draws.

    Parameters
    ----------
    mode : {"blink", "fade", "checkerboard", "curtain", "difference"}
    moved, fixed : ndarray
        The image that was resampled onto the other's grid, and that other image.
    seen : ndarray of bool
        Where `moved` reaches; elsewhere `fixed` is drawn, or no difference.
    tile : sequence of int
        Size of the checkerboard's tiles in voxels along each axis; 0: the axis is not divided.
    across : int
        The axis along which the curtain is drawn.
    share : float
        Position of the curtain, 0 to 1.
    """
    if mode == "difference":
        return difference(moved, fixed, seen)
    if mode == "checkerboard":
        moved = checkerboard(moved, fixed, tile)
    elif mode == "curtain":
        moved = curtain(moved, fixed, across, share)
    return np.where(seen, moved, fixed)


def largest_difference(differences: Volume, seen: NDArray[np.bool_]) -> float:
    """The difference that gets the full colour; 1 if the images are equal."""
    full = float(np.percentile(np.abs(differences[seen]), _FULL)) if seen.any() else 1.0
    return full or 1.0


def difference_colours() -> Colormap:
    """Blue where the later image is darker, black where both are equal, orange where it is brighter."""
    from napari.utils.colormaps import Colormap as Colours

    return Colours(
        [(0.45, 0.75, 1.0, 1.0), (0.0, 0.25, 0.6, 1.0), (0, 0, 0, 1), (0.65, 0.3, 0.0, 1.0), (1.0, 0.8, 0.4, 1.0)],
        controls=[0, 0.25, 0.5, 0.75, 1],
        name="darker-brighter",
    )
