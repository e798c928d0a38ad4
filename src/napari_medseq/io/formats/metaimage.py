"""MetaImage files (``.mha``, ``.mhd`` with raw or zlib-packed voxels) without SimpleITK: lazy or in one go.

Whatever is spread over many files or says things that are not understood here is left to SimpleITK.
Source: the MetaIO documentation of Kitware (itk.org/Wiki/MetaIO).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseq.io.formats.raw import lazy_block, lazy_packed, load_block, load_packed

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_LONGEST_HEADER = 1 << 16
#: Fields that mean what is done here, or nothing; any other is SimpleITK's to judge.
# fmt: off
_KNOWN = frozenset((
    "objecttype", "ndims", "binarydata", "binarydatabyteordermsb", "elementbyteordermsb", "compresseddata",
    "transformmatrix", "offset", "position", "origin", "centerofrotation", "anatomicalorientation", "elementspacing",
    "elementsize", "dimsize", "elementnumberofchannels", "elementtype", "elementdatafile", "itk_inputfiltername",
    "comment", "compresseddatasize", "frametimes", "objectsubtype", "color", "name", "id", "parentid", "elementmin", "elementmax",
))
# fmt: on


@dataclass
class Grid:
    """Voxels in C order and their place, as ITK says it: numbers per axis, direction cosines row by row.

    `times`: seconds of the frames where they are not even, in a field of our own that other programs pass over.
    """

    array: Any
    components: int
    spacing: list[float]
    origin: list[float]
    direction: list[float]
    times: list[float] = field(default_factory=list)


def load(path: Path, *, lazy: bool) -> Grid | None:
    """Read a plain MetaImage; None if SimpleITK must.

    Raises
    ------
    ReadError
        If the file is shorter than its header promises.
    """
    with open(path, "rb") as file:
        block = file.read(_LONGEST_HEADER)
    fields: dict[str, str] = {}
    at = 0
    while "elementdatafile" not in fields:
        end = block.find(b"\n", at)
        if end < 0:
            return None
        key, equals, value = block[at:end].decode("latin-1").partition("=")
        if not equals:
            return None
        fields[key.strip().lower()] = value.strip()
        at = end + 1
    if not set(fields) <= _KNOWN:
        return None
    try:
        return _plain(path, fields, at, lazy)
    except (KeyError, ValueError):
        return None


def _plain(path: Path, fields: dict[str, str], at: int, lazy: bool) -> Grid | None:
    n = int(fields["ndims"])
    swapped = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")).lower() == "true"
    dtype = np.dtype((">" if swapped else "<") + _TYPES[fields["elementtype"]])
    sizes = [int(v) for v in fields["dimsize"].split()]
    spacing = [float(v) for v in fields["elementspacing"].split()]
    origin = [float(v) for v in fields.get("offset", fields.get("position", fields.get("origin", "0 " * n))).split()]
    axes = np.array([float(v) for v in fields.get("transformmatrix", " ".join(map(str, np.eye(n).ravel()))).split()])
    components = int(fields.get("elementnumberofchannels", "1"))
    data = fields["elementdatafile"]
    plain = (
        fields.get("binarydata", "True").lower() == "true"
        and fields.get("compresseddata", "False").lower() in ("false", "true")
        and 2 <= n <= 4
        and len(sizes) == len(spacing) == len(origin) == n
        and axes.size == n * n
        and min(sizes) > 0
        and components > 0
        and min(spacing) > 0
        and data.upper() != "LIST"
        and "%" not in data
    )
    if not plain:
        return None
    where, offset = (path, at) if data.upper() == "LOCAL" else (path.parent / data, 0)
    shape = (*reversed(sizes), *((components,) if components > 1 else ()))
    if fields.get("compresseddata", "False").lower() == "true":
        array = (lazy_packed if lazy else load_packed)(where, offset, dtype, shape)
    else:
        array = (lazy_block if lazy else load_block)(where, offset, dtype, shape)
    times = [float(v) for v in fields.get("frametimes", "").split()]
    return Grid(array, components, spacing, origin, axes.reshape(n, n).T.ravel().tolist(), times)
