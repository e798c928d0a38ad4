"""Mosaics: one file holds all slices of a volume as tiles of one picture, and each tile becomes a frame.

For Siemens, ImagePositionPatient is that of the big picture's corner; the corner of the first tile lies half the size
difference inwards. Slices run along the CSA header's SliceNormalVector. For United Imaging, a private sequence lists
the position of each slice. The size of a tile comes from the maker's tags, else from the tiles that are not empty,
else from the most plausible arrangement. Sources: Siemens' DICOM conformance statements, the public description of the
CSA header by nibabel (nibabel/nicom, "Siemens format DICOM with CSA header"), pydicom's private dictionary ("Image
Private Header").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.values import integer, numbers, texts, value

_MOST_ELEMENTS, _MOST_ITEMS = 1024, 4096
#: United Imaging's "MR VFrame Sequence": one item per slice of a grid.
_GRID = (0x0065, 0x1051)


@dataclass
class Tiles:
    """The division of a picture into tiles.

    Attributes
    ----------
    count : int
        Number of slices.
    down, across : int
        Number of tiles below and beside one another.
    normal : array (3,) or None
        Direction of the slices, if known.
    positions : list of array (3,) or None
        Position of each slice, if known.
    certain : bool
        Whether the division follows from the maker's tags.
    """

    count: int
    down: int
    across: int
    normal: NDArray[np.float64] | None = None
    positions: list[NDArray[np.float64]] | None = None
    certain: bool = True


def is_mosaic(ds: Attributes) -> bool:
    """Whether a single-frame image is a mosaic by its image type."""
    return bool({"MOSAIC", "VFRAME"} & set(texts(ds, "ImageType")))


def csa(block: bytes) -> dict[str, list[str]]:
    """The elements of a Siemens CSA header (both versions) as lists of texts; {} if it is not one.

    Sizes inside the block are checked against its length.
    """
    out: dict[str, list[str]] = {}
    try:
        second = block[:4] == b"SV10"
        at = 8 if second else 0
        (count,) = struct.unpack_from("<I", block, at)
        at += 8
        if not 1 <= count <= _MOST_ELEMENTS:
            return {}
        for _ in range(count):
            name, _, _, _, items, _ = struct.unpack_from("<64si4siii", block, at)
            at += 84
            if not 0 <= items <= _MOST_ITEMS:
                return out
            values = []
            for _ in range(items):
                lengths = struct.unpack_from("<4i", block, at)
                at += 16
                length = lengths[1] if second else lengths[0]
                if length < 0 or at + length > len(block):
                    return out
                values.append(block[at : at + length].split(b"\0")[0].decode("latin-1").strip())
                at += (length + 3) // 4 * 4
            out[name.split(b"\0")[0].decode("latin-1")] = [v for v in values if v]
    except struct.error:
        pass
    return out


def _private(ds: Attributes, tag: tuple[int, int]) -> Any:
    try:
        return ds[tag].value if tag in ds else None
    except Exception:
        return None


def tiles(ds: Attributes) -> Tiles | None:
    """The division of a mosaic by its private header; None if that does not tell (it may then be counted from the
    pixels)."""
    shape = integer(ds, "Rows"), integer(ds, "Columns")
    listed = _private(ds, _GRID)
    if listed is not None and not isinstance(listed, (str, bytes)):
        places = [numbers(item, "ImagePositionPatient", 3) for item in listed[:_MOST_ITEMS]]
        if places and all(p is not None for p in places):
            sizes = [*_item_sizes(listed[0]), *_matrix_sizes(ds)]
            return _divided(len(places), shape, sizes, positions=[p for p in places if p is not None])
    block = _private(ds, (0x0029, 0x1010))
    header = csa(bytes(block)) if isinstance(block, (bytes, bytearray)) else {}
    count: int | None = None
    for candidate in (header.get("NumberOfImagesInMosaic"), _private(ds, (0x0019, 0x100A))):
        try:
            first = candidate[0] if isinstance(candidate, list) else candidate
            if isinstance(first, bytes) and len(first) == 2:
                first = int.from_bytes(first, "little")
            count = int(str(first)) if first is not None and count is None else count
        except (ValueError, IndexError):
            continue
    if not count or not 1 <= count <= 4096:
        return None
    normal = None
    try:
        vector = np.array([float(v) for v in header.get("SliceNormalVector", [])[:3]])
        if vector.shape == (3,) and 0.9 < np.linalg.norm(vector) < 1.1:
            normal = vector / np.linalg.norm(vector)
    except ValueError:
        pass
    side = int(np.ceil(np.sqrt(count)))  # Siemens' mosaics are square
    if shape[0] % side == 0 == shape[1] % side:
        return Tiles(count, side, side, normal)
    return _divided(count, shape, _matrix_sizes(ds), normal=normal)


def _item_sizes(item: Attributes) -> list[tuple[int, int]]:
    """The size of a tile according to a slice's own item."""
    size = integer(item, "Rows"), integer(item, "Columns")
    return [size] if min(size) > 0 else []


def _matrix_sizes(ds: Attributes) -> list[tuple[int, int]]:
    """Possible sizes of a tile by the acquisition matrix: frequency by phase, in either order, and square."""
    try:
        matrix = [int(v) for v in value(ds, "AcquisitionMatrix") or []]
    except (TypeError, ValueError):
        return []
    if len(matrix) != 4:
        return []
    by_rows = max(matrix[0], matrix[2]), max(matrix[1], matrix[3])  # frequency rows, columns; phase rows, columns
    sizes = [by_rows, by_rows[::-1], *((n, n) for n in sorted(set(by_rows), reverse=True))]
    return [size for size in dict.fromkeys(sizes) if min(size) > 1]


def _divided(
    count: int,
    shape: tuple[int, int],
    sizes: list[tuple[int, int]],
    *,
    normal: NDArray[np.float64] | None = None,
    positions: list[NDArray[np.float64]] | None = None,
) -> Tiles:
    """The arrangement of `count` tiles by the sizes that tags give, else the most plausible one."""
    for rows, columns in sizes:
        if shape[0] % rows or shape[1] % columns:
            continue
        down, across = shape[0] // rows, shape[1] // columns
        if _holds(down, across, count):
            return Tiles(count, down, across, normal, positions=positions)
    down, across = (arrangements(count, shape) or [(1, 1)])[0]
    return Tiles(count, down, across, normal, certain=False, positions=positions)


def _holds(down: int, across: int, count: int) -> bool:
    """Whether so many tiles need this arrangement: it has enough of them, and no empty row unless it is square."""
    if down * across < count:
        return False
    return (down - 1) * across < count or (down == across and (down - 1) ** 2 < count)


def arrangements(count: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """All (down, across) that divide a picture of `shape` exactly into at least `count` tiles, the most plausible one
    first.

    That is the square one, which all makers use if possible, then the one with the most nearly square tiles and few
    empty ones.
    """
    square = int(np.ceil(np.sqrt(count)))

    def implausible(layout: tuple[int, int]) -> tuple[bool, float, int]:
        tile = shape[0] / layout[0], shape[1] / layout[1]
        return layout != (square, square), abs(np.log(tile[0] / tile[1])), layout[0] * layout[1] - count

    fitting = [
        (down, shape_across)
        for down in range(1, count + 1)
        if shape[0] % down == 0
        for shape_across in range(1, count + 1)
        if shape[1] % shape_across == 0 and _holds(down, shape_across, count)
    ]
    return sorted(fitting, key=implausible)


def settled(layout: Tiles, picture: NDArray[np.generic]) -> Tiles:
    """Check an uncertain arrangement against the picture: tiles after the last slice are blank, and those of slices
    are not."""
    fitting = [
        pair
        for pair in arrangements(layout.count, picture.shape[:2])
        if _last_filled(picture, *pair) == layout.count - 1
    ]
    if fitting and (layout.down, layout.across) not in fitting:
        return replace(layout, down=fitting[0][0], across=fitting[0][1])
    return layout


def _last_filled(picture: NDArray[np.generic], down: int, across: int) -> int:
    """Index of the last tile that is not blank; -1 if all are blank."""
    rows, columns = picture.shape[0] // down, picture.shape[1] // across
    blocks = picture.reshape(down, rows, across, columns).transpose(0, 2, 1, 3).reshape(down * across, -1)
    filled = np.flatnonzero(blocks.any(axis=1))
    return int(filled[-1]) if len(filled) else -1


def counted(ds: Attributes, picture: NDArray[np.generic]) -> Tiles | None:
    """The division of a mosaic without its private header: tiles as large as the acquisition matrix, without empty
    ones at the end."""
    rows, columns = picture.shape[:2]
    for size in _matrix_sizes(ds):
        if rows % size[0] or columns % size[1]:
            continue
        down, across = rows // size[0], columns // size[1]
        if down * across < 4:
            continue
        count = _last_filled(picture, down, across) + 1
        if count > 0 and _holds(down, across, count):
            return Tiles(count, down, across)
    return None


def expand(base: Frame, layout: Tiles) -> list[Frame]:
    """One frame per tile of a mosaic."""
    rows, columns = base.shape[0] // layout.down, base.shape[1] // layout.across
    if rows < 1 or columns < 1:
        return [base]
    normal = layout.normal if layout.normal is not None else base.normal
    start = base.position
    if start is not None and base.row is not None and base.column is not None and base.spacing is not None:
        start = start + base.row * base.spacing[1] * (base.shape[1] - columns) / 2
        start = start + base.column * base.spacing[0] * (base.shape[0] - rows) / 2
    step = base.between or base.thickness or 1.0
    out = []
    for k in range(layout.count):
        tile = (k // layout.across * rows, k % layout.across * columns)
        position = None if start is None or normal is None else start + normal * step * k
        if layout.positions is not None:
            position = layout.positions[k]
        out.append(replace(base, shape=(rows, columns), tile=tile, position=position, clock=dict(base.clock)))
    return out
