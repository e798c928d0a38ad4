"""The frame: one image plane with the facts that its file gives, whatever kind of file that is.

Source: DICOM PS3.3 C.7.6.2 (image plane module).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.kinds import Kind, Vector
from napari_medseq.io.dicom.values import first_item, number, numbers, value


@dataclass(slots=True, eq=False)
class Frame:
    """One image plane.

    Attributes
    ----------
    file : FileHeader
    index : int
        Number of the frame in its file.
    shape : (rows, columns)
    position, row, column : arrays (3,) or None
        LPS mm of the first voxel, and unit directions along a row and down a column.
    spacing : (down a column, along a row) mm, or None
    slope, inter : float
        Stored value → modality value.
    lut : (first stored value, table) or None
        A modality look-up table, which replaces slope and intercept.
    kind : Kind
        Facts that distinguish its image from others of the series (image type, echo, component).
    location : float or None
        Position along the normal in mm, for slices whose position in the patient is unknown.
    oriented : bool
        False if position and directions are not those of the patient's world.
    tile : (row, column) offset in a mosaic, or None.
    clock : mapping of time source → value
        ``temporal`` (index), ``trigger``/``reference``/``acquired``/``content`` (seconds), ``acquisition``, ``instance``.
    """

    file: FileHeader
    index: int
    shape: tuple[int, int]
    position: Vector | None = None
    row: Vector | None = None
    column: Vector | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    between: float | None = None
    slope: float = 1.0
    inter: float = 0.0
    kind: Kind = field(default_factory=Kind)
    location: float | None = None
    tile: tuple[int, int] | None = None
    clock: dict[str, float] = field(default_factory=dict)
    acquired: datetime | None = None
    b_value: float | None = None
    b_vector: Vector | None = None
    oriented: bool = True
    window: tuple[float, float] | None = None
    repetition_ms: float | None = None
    lut: tuple[int, NDArray[np.generic]] | None = None

    @property
    def normal(self) -> Vector | None:
        """Unit normal: row × column."""
        if self.row is None or self.column is None:
            return None
        return np.cross(self.row, self.column)

    @property
    def plane(self) -> tuple[Vector, Vector, Vector]:
        """Position, row direction and column direction of a frame that has them.

        Raises
        ------
        ReadError
            If the frame does not have them."""
        if self.position is None or self.row is None or self.column is None:
            raise ReadError(f"{self.file.path}: its position or orientation is missing; it cannot be placed.")
        return self.position, self.row, self.column


def unit_directions(iop: Vector | None) -> tuple[Vector, Vector] | None:
    """Row and column direction from ImageOrientationPatient; None if they are not a valid pair of directions."""
    if iop is None:
        return None
    row, column = iop[:3], iop[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.5 or max(lengths) > 2 or abs(row @ column) > 0.1 * lengths[0] * lengths[1]:
        return None
    return row / lengths[0], column / lengths[1]


def pixel_spacing(ds: Attributes) -> tuple[float, float] | None:
    """Row and column spacing in mm if they are usable."""
    spacing = numbers(ds, "PixelSpacing", 2)
    if (
        spacing is None
        and (size := positive(ds, "PixelSpacing"))
        and not isinstance(value(ds, "PixelSpacing"), Sequence)
    ):
        return size, size
    return (float(spacing[0]), float(spacing[1])) if spacing is not None and (spacing > 0).all() else None


def positive(ds: Attributes, keyword: str) -> float | None:
    """A number above zero, or None."""
    magnitude = number(ds, keyword)
    return abs(magnitude) if magnitude else None


def window_of(ds: Attributes) -> tuple[float, float] | None:
    """Lower and upper end of the first VOI window."""
    centre, width = number(ds, "WindowCenter"), number(ds, "WindowWidth")
    return None if centre is None or width is None or width < 1e-9 else (centre - width / 2, centre + width / 2)


def modality_lut(ds: Attributes) -> tuple[int, NDArray[np.generic]] | None:
    """The first stored value and the table of a modality LUT (PS3.3 C.11.1.1.1); None if there is no valid one."""
    item = first_item(ds, "ModalityLUTSequence") if "ModalityLUTSequence" in ds else None
    shape = numbers(item, "LUTDescriptor", 3) if item is not None else None
    stored = value(item, "LUTData") if item is not None else None
    if shape is None or stored is None:
        return None
    count, first, bits = (int(v) for v in shape)
    if isinstance(stored, (bytes, bytearray)):
        table = np.frombuffer(stored[: len(stored) // 2 * 2], "<u2")
    else:
        try:
            table = np.array(stored, dtype=np.int64).astype(np.uint16)
        except (TypeError, ValueError):
            return None
    count = count or 65536
    if not 8 <= bits <= 16 or len(table) < count:
        return None
    return first, np.ascontiguousarray(table[:count], dtype=np.uint16)


def depths(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Position of each frame along the first one's normal, in mm."""
    _, row, column = frames[0].plane
    normal = np.cross(row, column)
    return np.array([float(frame.plane[0] @ normal) for frame in frames])


def placed(frames: Sequence[Frame]) -> bool:
    """Whether all frames have a position, and the first one has a direction."""
    return all(f.position is not None for f in frames) and frames[0].normal is not None
