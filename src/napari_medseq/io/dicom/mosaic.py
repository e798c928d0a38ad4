"""Mosaics: one file holds all slices of a volume as tiles of one picture; here each tile becomes a frame.

Siemens: ImagePositionPatient is that of the big picture's corner; the first tile's lies half the size difference inwards.
Slices run along the CSA header's SliceNormalVector. United Imaging: a private sequence lists each slice's position.
Sources: Siemens' DICOM conformance statements, the public description of the CSA header by nibabel (nibabel/nicom, "Siemens
format DICOM with CSA header"), pydicom's private dictionary ("Image Private Header").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.values import numbers, texts, value

_MOST_ELEMENTS, _MOST_ITEMS = 1024, 4096
#: United Imaging's "MR VFrame Sequence": one item per slice of a grid.
_GRID = (0x0065, 0x1051)


@dataclass
class Tiles:
    """Number of slices, tiles per side, and the slices' direction if known."""

    count: int
    side: int
    normal: NDArray[np.float64] | None
    positions: list[NDArray[np.float64]] | None = None


def is_mosaic(ds: Any) -> bool:
    """Whether a single-frame image is a mosaic by its image type."""
    return bool({"MOSAIC", "VFRAME"} & set(texts(ds, "ImageType")))


def csa(block: bytes) -> dict[str, list[str]]:
    """The elements of a Siemens CSA header (both versions) as lists of texts; {} if it is none.

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


def _private(ds: Any, tag: tuple[int, int]) -> Any:
    try:
        return ds[tag].value if tag in ds else None
    except Exception:
        return None


def tiles(ds: Any) -> Tiles | None:
    """How a mosaic is divided, from its private header; None if it does not say (counted from the pixels later, if at all)."""
    listed = _private(ds, _GRID)
    if listed is not None and not isinstance(listed, (str, bytes)):
        places = [numbers(item, "ImagePositionPatient", 3) for item in listed[:_MOST_ITEMS]]
        if places and all(p is not None for p in places):
            return Tiles(len(places), int(np.ceil(np.sqrt(len(places)))), None, [p for p in places if p is not None])
    block = _private(ds, (0x0029, 0x1010))
    found = csa(bytes(block)) if isinstance(block, (bytes, bytearray)) else {}
    count: int | None = None
    for candidate in (found.get("NumberOfImagesInMosaic"), _private(ds, (0x0019, 0x100A))):
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
        vector = np.array([float(v) for v in found.get("SliceNormalVector", [])[:3]])
        if vector.shape == (3,) and 0.9 < np.linalg.norm(vector) < 1.1:
            normal = vector / np.linalg.norm(vector)
    except ValueError:
        pass
    return Tiles(count, int(np.ceil(np.sqrt(count))), normal)


def counted(ds: Any, picture: NDArray[Any]) -> Tiles | None:
    """How a mosaic without its private header is divided: tiles as large as the acquisition matrix, empty last ones left out."""
    try:
        matrix = sorted({int(v) for v in value(ds, "AcquisitionMatrix") or [] if int(v) > 0})
    except (TypeError, ValueError):
        return None
    rows, columns = picture.shape[:2]
    for size in reversed(matrix):
        side = rows // size
        if side < 2 or rows % size or columns % side:
            continue
        blocks = picture.reshape(side, size, side, columns // side).transpose(0, 2, 1, 3).reshape(side * side, -1)
        filled = np.flatnonzero(blocks.any(axis=1))
        if len(filled) and int(filled[-1]) + 1 > (side - 1) ** 2:
            return Tiles(int(filled[-1]) + 1, side, None)
    return None


def expand(base: Frame, layout: Tiles) -> list[Frame]:
    """One frame per tile of a mosaic."""
    rows, columns = base.shape[0] // layout.side, base.shape[1] // layout.side
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
        tile = (k // layout.side * rows, k % layout.side * columns)
        position = None if start is None or normal is None else start + normal * step * k
        if layout.positions is not None:
            position = layout.positions[k]
        out.append(replace(base, shape=(rows, columns), tile=tile, position=position, clock=dict(base.clock)))
    return out
