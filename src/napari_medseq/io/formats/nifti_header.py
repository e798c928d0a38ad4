"""The fields of a NIfTI-1, NIfTI-2 or Analyze 7.5 header as numbers, straight from the bytes; whether they are plausible is checked by
`nifti`.

Sources: nifti1.h and nifti2.h of the NIfTI Data Format Working Group; for Analyze, the Mayo Clinic's description.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError

SIZE = 544
#: Data type codes of nifti1.h; binary (1) and everything else is refused.
_TYPES: dict[int, Any] = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 128: [("R", "u1"), ("G", "u1"), ("B", "u1")], 256: "i1", 512: "u2",
    768: "u4", 1024: "i8", 1280: "u8", 1792: "c16", 2304: [("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")],
}  # fmt: skip
#: What a quaternion may be longer than 1 by, from rounding to float32.
_ROUNDING = 1e-6


@dataclass
class RawHeader:
    """Fields as stored.

    Attributes
    ----------
    name : str
        ``"NIfTI-1"``, ``"NIfTI-2"`` or ``"Analyze 7.5"``.
    size : int
        Bytes of the header itself.
    order : str
        ``"<"`` or ``">"``.
    srow : array (3, 4)
    """

    name: str
    size: int
    order: str
    dim: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    offset: float
    slope: float = 1.0
    inter: float = 0.0
    units: int = 0
    intent: int = 0
    qform_code: int = 0
    sform_code: int = 0
    quaternion: tuple[float, ...] = (0.0, 0.0, 0.0)
    qoffset: tuple[float, ...] = (0.0, 0.0, 0.0)
    srow: NDArray[np.float64] | None = None

    @property
    def is_nifti(self) -> bool:
        """Whether it is NIfTI rather than Analyze."""
        return self.name != "Analyze 7.5"

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along (x, y, z, t, …)."""
        return tuple(self.dim[1 : 1 + self.dim[0]]) if 1 <= self.dim[0] <= 7 else ()

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """Type of one voxel; None if that type is not supported."""
        if self.datatype == 1536 and np.dtype(np.longdouble).itemsize == 16:
            return np.dtype(np.longdouble).newbyteorder("<" if self.order == "<" else ">")
        code = _TYPES.get(self.datatype)
        if code is None:
            return None
        return np.dtype(code) if isinstance(code, list) else np.dtype(self.order + code)

    def sform(self) -> NDArray[np.float64]:
        """The affine of the srow fields, in the file's own unit."""
        matrix = np.eye(4)
        matrix[:3] = self.srow
        return matrix

    def qform(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """The affine of the quaternion with voxel steps `steps`.

        Raises
        ------
        ValueError
            If the quaternion is not a rotation.
        """
        b, c, d = self.quaternion
        squared = 1.0 - (b * b + c * c + d * d)
        if not np.isfinite(squared) or squared < -_ROUNDING:
            raise ValueError("its quaternion is longer than 1")
        a = float(np.sqrt(max(squared, 0.0)))
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        length = a * a + b * b + c * c + d * d
        matrix = np.eye(4)
        matrix[:3, :3] = rotation / length * (steps * (1, 1, -1 if self.pixdim[0] < 0 else 1))
        matrix[:3, 3] = self.qoffset
        return matrix


def parse(block: bytes, where: object) -> RawHeader:
    """The fields of the header that `block` begins with.

    Raises
    ------
    ReadError
        If it is too short.
    """
    if block[4:8] in (b"n+2\0", b"ni2\0"):
        name, size = "NIfTI-2", 540
    else:
        name, size = ("NIfTI-1" if block[344:348] in (b"n+1\0", b"ni1\0") else "Analyze 7.5"), 348
    if len(block) < size:
        raise ReadError(f"{where}: {len(block)} bytes are too few for a {name} header; the file was cut short.")
    order = _order(block, name)

    def at(offset: int, form: str) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, block, offset)

    if name == "NIfTI-2":
        codes, scaling = at(344, "2i"), at(176, "2d")
        return RawHeader(
            name, size, order, at(16, "8q"), at(12, "h")[0], at(104, "8d"), at(168, "q")[0], slope=scaling[0], inter=scaling[1],
            units=at(500, "i")[0], intent=at(504, "i")[0], qform_code=codes[0], sform_code=codes[1], quaternion=at(352, "3d"),
            qoffset=at(376, "3d"), srow=np.array(at(400, "12d")).reshape(3, 4),
        )  # fmt: skip
    header = RawHeader(name, size, order, at(40, "8h"), at(70, "h")[0], at(76, "8f"), at(108, "f")[0])
    if name == "NIfTI-1":
        header.slope, header.inter = at(112, "2f")
        header.units, header.intent = at(123, "B")[0], at(68, "h")[0]
        header.qform_code, header.sform_code = at(252, "2h")
        header.quaternion, header.qoffset = at(256, "3f"), at(268, "3f")
        header.srow = np.array(at(280, "12f")).reshape(3, 4)
    return header


def _order(block: bytes, name: str) -> str:
    """Byte order: the one in which the number of dimensions makes sense."""
    offset, form = (16, "q") if name == "NIfTI-2" else (40, "h")
    (count,) = struct.unpack_from("<" + form, block, offset)
    return "<" if 1 <= count <= 7 else ">"
