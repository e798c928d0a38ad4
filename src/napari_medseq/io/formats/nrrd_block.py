"""Voxels to an NRRD file: a header and one gzipped block, and the facts that a header gives for ``meta``.

Source: the NRRD format definition (teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import WriteError
from napari_medseq.geometry import RAS_LPS, Affine
from napari_medseq.io.formats.nrrd_header import Header, one_line
from napari_medseq.io.formats.raw import storable

_WRITTEN = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32", "i8": "int64",
            "u8": "uint64", "f4": "float", "f8": "double"}  # fmt: skip


def facts_of(header: Header) -> dict[str, Any]:
    """Facts for ``meta``."""
    return {"source": str(header.path), "dtype": str(header.dtype.newbyteorder("=")), "format": "NRRD"}


def vector(values: Sequence[float] | NDArray[np.float64]) -> str:
    """A vector as NRRD writes it, to full precision."""
    return "(" + ",".join(repr(float(v)) for v in values) + ")"


def write_block(
    path: Path,
    block: NDArray[np.generic],
    affine: Affine,
    oriented: bool,
    order: Sequence[str],
    kinds: Sequence[str],
    keys: Mapping[str, str],
    units: str | None = None,
) -> None:
    """Write a C-ordered block whose axes are `order` reversed, gzipped, with key/value pairs."""
    block = storable(block)
    code = block.dtype.newbyteorder("=").str[1:]
    if code not in _WRITTEN:
        raise WriteError(f"NRRD cannot store voxels of type {block.dtype}; convert them first.")
    columns = dict(zip("xyz", (RAS_LPS @ affine).T[:3, :3], strict=True))
    lines = ["NRRD0005", f"type: {_WRITTEN[code]}", f"dimension: {block.ndim}"]
    if oriented:
        lines.append("space: left-posterior-superior")
    lines.append("sizes: " + " ".join(str(n) for n in reversed(block.shape)))
    if oriented:
        lines.append("space directions: " + " ".join(vector(columns[a]) if a in columns else "none" for a in order))
    else:
        steps = dict(zip("xyz", np.linalg.norm(affine[:3, :3], axis=0), strict=True))
        lines.append("spacings: " + " ".join(repr(float(steps[a])) if a in steps else "nan" for a in order))
    lines.append("kinds: " + " ".join(kinds))
    if units:
        lines.append(f"units: {units}")
    lines += ["endian: little", "encoding: gzip"]
    if oriented:
        lines.append("space origin: " + vector((RAS_LPS @ affine)[:3, 3]))
    lines += [f"{one_line(k)}:={one_line(v)}" for k, v in keys.items()]
    packer = zlib.compressobj(3, zlib.DEFLATED, 31)
    with open(path, "wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        for plane in np.ascontiguousarray(block.astype(block.dtype.newbyteorder("<"), copy=False)):
            file.write(packer.compress(plane.tobytes()))
        file.write(packer.flush())
