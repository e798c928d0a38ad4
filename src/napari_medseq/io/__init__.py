"""The door: files and folders in, `ImageSequence` and `Study` out, and back to files without loss.

One module per format; `reading` chooses among them by magic bytes, `study` sorts a patient's visits, `writing` writes.
Format libraries (nibabel, pydicom, SimpleITK) are loaded only when a file of theirs is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq import lazy
from napari_medseq.io.detect import detect
from napari_medseq.io.reading import info, read

if TYPE_CHECKING:
    from napari_medseq.io.study import read_study
    from napari_medseq.io.writing import write

__all__ = ["detect", "info", "read", "read_study", "write"]

__getattr__ = lazy.attributes(__name__, {"read_study": "study", "write": "writing"})
