"""Units of settings, written where the setting is: ``radius: Millimetres = 2.0``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Unit:
    """The unit of a setting, as an annotation: ``Annotated[float, Unit("mm")]``."""

    symbol: str


Millimetres = Annotated[float, Unit("mm")]
Hounsfield = Annotated[float, Unit("HU")]
Seconds = Annotated[float, Unit("s")]
Degrees = Annotated[float, Unit("°")]
Percent = Annotated[float, Unit("%")]
VoxelCount = Annotated[int, Unit("voxels")]
FrameCount = Annotated[int, Unit("frames")]
SliceCount = Annotated[int, Unit("slices")]
