"""Compressed frames: where each lies in its file, and fast decoders that work in threads, where they are installed.

What is not handled here (colour, odd signs, rare syntaxes) is left to pydicom's decoders.
Source: DICOM PS3.5 annex A.4 (encapsulated pixel data).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom.headers import FileHeader, integer

_JPEG_12 = "1.2.840.10008.1.2.4.51"
#: Transfer syntax → decoder of imagecodecs.
_DECODERS = {
    _JPEG_12: "jpeg8_decode",
    "1.2.840.10008.1.2.4.57": "jpeg8_decode",
    "1.2.840.10008.1.2.4.70": "jpeg8_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.201": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.202": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.203": "jpeg2k_decode",
}
_MOST_ITEMS = 1_000_000


@lru_cache(maxsize=16)
def _decoder(syntax: str) -> Callable[[bytes], Any] | None:
    name = _DECODERS.get(syntax)
    if name is None:
        return None
    try:
        found = getattr(import_module("imagecodecs"), name)
    except (ImportError, AttributeError):
        return None
    return found  # type: ignore[no-any-return]


def decode(file: FileHeader, index: int, stored: np.dtype[Any]) -> NDArray[Any] | None:
    """One grey frame decoded fast, or None where that cannot be done with certainty.

    Parameters
    ----------
    file : FileHeader
    index : int
    stored : numpy.dtype
        Type of the samples as the header says.
    """
    ds = file.ds
    decoder = _decoder(file.syntax)
    if decoder is None or integer(ds, "SamplesPerPixel", 1) != 1 or stored.itemsize > 2:
        return None
    try:
        data = frame_bytes(file, index)
        picture = None if data is None else decoder(data)
    except Exception:  # pydicom's decoders are asked next, and their complaint is the one that is told
        return None
    if not isinstance(picture, np.ndarray) or picture.shape != (integer(ds, "Rows"), integer(ds, "Columns")):
        return None
    if picture.dtype == stored.newbyteorder("="):
        return picture if picture.flags.writeable else picture.copy()
    if (
        picture.dtype.kind == "u"
        and stored.kind == "i"
        and picture.itemsize == stored.itemsize
        and "jpegls" in _DECODERS[file.syntax]
    ):
        bits = integer(ds, "BitsStored", 8 * stored.itemsize)
        signed = picture.copy().view(stored.newbyteorder("="))
        shift = 8 * stored.itemsize - bits
        signed <<= shift
        signed >>= shift
        return signed
    return None


def frame_bytes(file: FileHeader, index: int) -> bytes | None:
    """The compressed bytes of one frame; None where fragments cannot be told apart."""
    if file.fragments is None:
        file.fragments = _fragments(file)
    if index >= len(file.fragments):
        return None
    with _opened(file) as stream:
        parts = []
        for at, length in file.fragments[index]:
            stream.seek(at)
            parts.append(stream.read(length))
    return b"".join(parts)


def _opened(file: FileHeader) -> BinaryIO:
    return io.BytesIO(file.held) if file.held is not None else open(file.path, "rb", buffering=0)


def _fragments(file: FileHeader) -> list[list[tuple[int, int]]]:
    """(offset, length) of each fragment of each frame: by the offset table, or one fragment each, or all for one frame."""
    count = max(integer(file.ds, "NumberOfFrames", 1), 1)
    items: list[tuple[int, int]] = []
    table = b""
    with _opened(file) as stream:
        at = file.pixel_at
        for number in range(_MOST_ITEMS):
            stream.seek(at)
            head = stream.read(8)
            if len(head) < 8 or head[:4] != b"\xfe\xff\x00\xe0":
                break
            length = int.from_bytes(head[4:8], "little")
            if number == 0:
                table = stream.read(min(length, 8 * _MOST_ITEMS))
            else:
                items.append((at + 8, length))
            at += 8 + length
    if count == 1:
        return [items] if items else []
    if len(items) == count:
        return [[one] for one in items]
    offsets = np.frombuffer(table[: len(table) // 4 * 4], "<u4").astype(np.int64)
    if len(offsets) != count or not items:
        return []
    starts = np.array([at - 8 - (items[0][0] - 8) for at, _ in items])
    owner = np.searchsorted(offsets, starts, side="right") - 1
    return [[items[k] for k in np.flatnonzero(owner == frame)] for frame in range(count)]
