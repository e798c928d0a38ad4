"""How the pixels of a file are stored: the type of a sample and the number of bytes, as its header announces them.

Sizes are compared with the file before anything is allocated. Source: DICOM PS3.3 C.7.6.3 (image pixel).
"""

from __future__ import annotations

import numpy as np

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom import video
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.values import integer, text

#: The largest compression ratio of medical images by any codec in use.
_BEST_RATIO = 5000
#: Bytes of decoded pixels that are accepted at any ratio.
_SMALL = 256 << 20
#: No file holds more frames than this.
_MOST_FRAMES = 1 << 18


def stored_dtype(ds: Attributes, keyword: str = "PixelData") -> np.dtype[np.generic]:
    """Type of one stored sample, in the file's little-endian order.

    Raises
    ------
    ReadError
        If BitsAllocated is not a size in use.
    """
    if keyword != "PixelData":
        return np.dtype("<f4" if keyword == "FloatPixelData" else "<f8")
    bits = integer(ds, "BitsAllocated", 16)
    if bits not in (1, 8, 16, 32, 64):
        raise ReadError(f"BitsAllocated is {bits}; 1, 8, 16, 32 and 64 are read.")
    sign = "i" if integer(ds, "PixelRepresentation") == 1 else "u"
    return np.dtype(f"<{sign}{max(bits, 8) // 8}")


def check_promise(file: FileHeader) -> str | None:
    """Compare the size of the pixels that the header announces with that of the file.

    Returns
    -------
    str or None
        A warning if an uncompressed file is a little too short.

    Raises
    ------
    ReadError
        If most of the pixels are missing, or the file cannot possibly hold them.
    """
    ds, count = file.ds, max(integer(file.ds, "NumberOfFrames", 1), 1)
    promised = promised_bytes(ds, file.pixel_keyword, count)
    available = max(file.size - file.pixel_at, 0)
    each_has_an_item = file.encapsulated and file.syntax not in video.SYNTAXES
    if count > _MOST_FRAMES or (count > 1 and each_has_an_item and count > available // 8):
        raise ReadError(f"{file.path}: the header promises {count:,} frames, which {available:,} bytes cannot hold.")
    if file.encapsulated:
        if promised > max(available * _BEST_RATIO, _SMALL):
            raise ReadError(
                f"{file.path}: the header promises {promised:,} bytes of pixels, {available:,} compressed ones cannot hold them."
            )
        return None
    if available >= promised - 1:
        return None
    if available < promised // 2:
        raise ReadError(
            f"{file.path}: the header promises {promised:,} bytes of pixels but {available:,} are there; "
            "the file was cut short. Copy it again."
        )
    return f"{file.name} is cut {promised - available:,} bytes short; the missing pixels are filled with 0."


def promised_bytes(ds: Attributes, keyword: str, frames: int = 1) -> int:
    """Bytes of `frames` uncompressed frames; samples of one bit are packed over all of them."""
    bits = 8 * stored_dtype(ds, keyword).itemsize if integer(ds, "BitsAllocated", 16) != 1 else 1
    voxels = integer(ds, "Rows") * integer(ds, "Columns") * max(integer(ds, "SamplesPerPixel", 1), 1)
    if text(ds, "PhotometricInterpretation") == "YBR_FULL_422" and voxels:
        voxels = voxels * 2 // 3
    return (voxels * frames * bits + 7) // 8


def is_colour(frame: Frame) -> bool:
    """Whether a frame's samples are colours."""
    ds = frame.file.ds
    return integer(ds, "SamplesPerPixel", 1) > 1 or text(ds, "PhotometricInterpretation") == "PALETTE COLOR"
