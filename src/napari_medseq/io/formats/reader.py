"""The interface of the module of each format: reading files of that format, and their facts from headers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from napari_medseq.io.formats.raw import Laziness
from napari_medseq.progress import Cancelled
from napari_medseq.sequence import ImageSequence, Kind


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts about one image that a header states.

    Attributes
    ----------
    name, kind, format, source : str
    shape : tuple of int
        Along (x, y, z, t), as far as they are there; empty where it is known only after decoding.
    spacing_mm : tuple of float, or None
        Along (x, y, z); None for pictures.
    frames : int
    dtype : str
    compressed : bool
    warnings : tuple of str
    stored_in_colour : bool
        Whether its pixels are stored as colours or in a palette; `info` does not show it.
    """

    name: str
    kind: Kind
    format: str
    source: str
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    frames: int | None = None
    dtype: str = ""
    compressed: bool | None = None
    warnings: tuple[str, ...] = field(default=())
    stored_in_colour: bool = False

    def to_dict(self) -> dict[str, object]:
        """Plain values for `info`; what is not known is left out."""
        out: dict[str, object] = {
            "name": self.name,
            "kind": self.kind,
            "format": self.format,
            "shape": list(self.shape),
        }
        if self.spacing_mm is not None:
            out["spacing_mm"] = [round(v, 6) for v in self.spacing_mm]
        optional: Mapping[str, object] = {
            "frames": self.frames,
            "dtype": self.dtype or None,
            "compressed": self.compressed,
        }
        out.update({key: value for key, value in optional.items() if value is not None})
        return out | {"source": self.source, "warnings": list(self.warnings)}


class Reader(Protocol):
    """The module of a format, or a part of one; `detection.detect` decides which files it reads."""

    def read(
        self, path: Path, *, lazy: Laziness = False, kind: Kind | None = None, cancelled: Cancelled | None = None
    ) -> list[ImageSequence]:
        """The images of one file."""
        ...

    def facts(self, path: Path) -> list[Facts]:
        """The same from headers only."""
        ...
