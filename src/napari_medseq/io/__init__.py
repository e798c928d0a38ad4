"""The door: files and folders in, `ImageSequence` and `Study` out, and back to files without loss.

One module per format; `reading` chooses among them by magic bytes, `study` sorts a patient's visits, `writing` writes.
Format libraries (nibabel, pydicom, SimpleITK) are loaded only when a file of theirs is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_medseq.io.detect import detect
from napari_medseq.io.reading import info, read

if TYPE_CHECKING:
    from napari_medseq.io.study import read_study
    from napari_medseq.io.writing import write

__all__ = ["detect", "info", "read", "read_study", "write"]


def __getattr__(name: str) -> Any:
    """Studies and writers, loaded when they are asked for."""
    if name == "read_study":
        from napari_medseq.io.study import read_study

        return read_study
    if name == "write":
        from napari_medseq.io.writing import write

        return write
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
