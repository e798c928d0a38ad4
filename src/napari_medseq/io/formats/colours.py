"""What viewers do with a stored picture before they show it: grey that is stored as red, green and blue of the same value, and rows that
run from another corner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLOURS = 3


def without_grey_colours(
    array: NDArray[np.generic], axes: tuple[str, ...]
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """The array and its axes; a last axis "c" of three equal channels is dropped, since the picture is grey.

    Parameters
    ----------
    array : ndarray
    axes : tuple of str
        Names of the axes of `array`; colours, where there are any, come last.
    """
    if axes[-1] != "c" or array.shape[-1] != COLOURS:
        return array, axes
    if all(np.array_equal(array[..., 0], array[..., k]) for k in range(1, COLOURS)):
        return array[..., 0], axes[:-1]
    return array, axes


#: TIFF 6.0 and EXIF tag 274: whether rows and columns are exchanged, and whether rows and columns then run backwards
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def upright(
    array: NDArray[np.generic], axes: tuple[str, ...], orientation: object
) -> tuple[NDArray[np.generic], bool, bool]:
    """An array as viewers show it, by the orientation that the file states (TIFF 6.0, tag 274; EXIF's is the same).

    Parameters
    ----------
    array : ndarray
    axes : tuple of str
        Names of its axes, "y" and "x" among them.
    orientation : int
        1 to 8; anything else is taken as 1, as it is stored.

    Returns
    -------
    array : ndarray
    turned : bool
        Whether anything was changed.
    exchanged : bool
        Whether rows are columns now, so that the sizes of pixels are exchanged.
    """
    if not isinstance(orientation, int) or orientation not in _ORIENTATIONS:
        return array, False, False
    exchanged, rows_back, columns_back = _ORIENTATIONS[orientation]
    y, x = axes.index("y"), axes.index("x")
    out = np.swapaxes(array, y, x) if exchanged else array
    out = np.flip(out, y) if rows_back else out
    out = np.flip(out, x) if columns_back else out
    return np.ascontiguousarray(out), True, exchanged


#: what is said of a picture that was turned
TURNED = "The picture was turned as its file says (orientation tag), as viewers show it."
