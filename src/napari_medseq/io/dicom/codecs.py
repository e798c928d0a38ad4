"""Compressed frames: their position in the file, and fast decoders that work in threads, if they are installed.

Other frames (most colours, odd signs, rare syntaxes) are left to pydicom's decoders.
Source: DICOM PS3.5 annex A.4 (encapsulated pixel data).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom import streams
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.values import integer, text

#: A function of imagecodecs: bytes in, samples out.
Decoder: TypeAlias = Callable[..., NDArray[np.generic]]

RLE = "1.2.840.10008.1.2.5"
#: Transfer syntax → decoder of imagecodecs.
_DECODERS = {
    "1.2.840.10008.1.2.4.51": "jpeg8_decode",
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
#: Decoders that ignore signs, so that the position of the sign bit follows from the header.
_UNSIGNED = ("jpeg8_decode", "jpegls_decode")
#: Syntaxes whose decoders do not convert colours.
_COLOUR = frozenset(f"1.2.840.10008.1.2.4.{k}" for k in (57, 70, 80, 81))
_MOST_ITEMS = 1_000_000


class Request(TypedDict):
    """A frame to decode: its compressed bytes, the type of its samples, and whether a fast decoder may try first."""

    data: bytes
    index: int
    options: dict[str, Any]
    stored: str
    grey: bool


@lru_cache(maxsize=16)
def _decoder(syntax: str) -> Decoder | None:
    name = _DECODERS.get(syntax)
    if name is None:
        return None
    try:
        decoder = getattr(import_module("imagecodecs"), name)
    except (ImportError, AttributeError):
        return None
    return decoder  # type: ignore[no-any-return]


def decode(file: FileHeader, index: int, data: bytes, stored: np.dtype[np.generic]) -> NDArray[np.generic] | None:
    """Decode one grey frame fast; None if that cannot be done with certainty.

    Parameters
    ----------
    file : FileHeader
    index : int
        Number of the frame in the file, from 0.
    data : bytes
        The compressed bytes of the frame, which `check_frame` has accepted.
    stored : numpy.dtype
        Type of the samples according to the header.
    """
    ds = file.ds
    if file.syntax == RLE:  # not by imagecodecs.dicomrle_decode, which writes past its memory where a stream is damaged
        return _unpacked_rle(file, index, stored)
    shape = integer(ds, "Rows"), integer(ds, "Columns")
    if integer(ds, "SamplesPerPixel", 1) != 1 or text(ds, "PhotometricInterpretation")[:5] != "MONOC":
        return None
    bits = integer(ds, "BitsStored", 8 * stored.itemsize)
    return _grey(data, file.syntax, shape, stored, bits)


def _grey(
    data: bytes, syntax: str, shape: tuple[int, int], stored: np.dtype[np.generic], bits: int
) -> NDArray[np.generic] | None:
    decoder = _decoder(syntax)
    if decoder is None or stored.itemsize > 2:
        return None
    try:
        picture = decoder(data)
    except Exception:  # pydicom's decoders are tried next, and their error is the one that is reported
        return None
    if not isinstance(picture, np.ndarray) or picture.shape != shape:
        return None
    target_dtype = stored.newbyteorder("=")
    if picture.dtype == target_dtype:
        return picture
    if picture.dtype.kind != "u" or picture.itemsize > stored.itemsize:
        return None
    if stored.kind == "u":
        return picture.astype(target_dtype)
    if _DECODERS[syntax] not in _UNSIGNED:
        return None
    signed = picture.astype(f"u{stored.itemsize}").view(target_dtype)
    shift = 8 * stored.itemsize - bits
    signed <<= shift
    signed >>= shift
    return signed


def check_frame(file: FileHeader, data: bytes | None, stored: np.dtype[np.generic]) -> bool:
    """Whether a compressed frame may be decoded in this process; otherwise a helper has to do it.

    Raises
    ------
    ReadError
        If it cannot be a picture of the size that the DICOM header announces.
    """
    if data is None:
        return False
    ds = file.ds
    samples = max(integer(ds, "SamplesPerPixel", 1), 1)
    try:
        if file.syntax == RLE:
            streams.check_rle(data, samples * stored.itemsize)
            return True
        announced = streams.checked(data, rows=integer(ds, "Rows"), columns=integer(ds, "Columns"), samples=samples)
    except (ValueError, struct.error, IndexError) as error:
        text_ = str(error) if isinstance(error, ValueError) else "the compressed picture's header is damaged"
        raise ReadError(f"{file.path}: {text_}; copy or export it again.") from error
    return announced is not None and announced.plain


def load_decoders() -> None:
    """Import the libraries that decode, which takes longer than decoding a frame."""
    import_module("pydicom.pixels.decoders")
    for syntax in _DECODERS:
        _decoder(syntax)


def request(
    file: FileHeader, data: bytes, index: int, options: dict[str, Any], stored: np.dtype[np.generic]
) -> Request:
    """The data that `decode_request` needs to decode a frame in another process."""
    grey = options["samples_per_pixel"] == 1 and str(options["photometric_interpretation"])[:5] == "MONOC"
    return {
        "data": data,
        "index": index,
        "options": {**options, "transfer_syntax_uid": file.syntax},
        "stored": stored.str,
        "grey": grey,
    }


def decode_request(request: Request) -> NDArray[np.generic]:
    """Decode the frame that a `request` describes."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    options, stored = request["options"], np.dtype(request["stored"])
    syntax = options.pop("transfer_syntax_uid")
    if request["grey"]:
        frame = get_frame(request["data"], request["index"], number_of_frames=options["number_of_frames"])
        shape = options["rows"], options["columns"]
        decoded = _grey(frame, syntax, shape, stored, options["bits_stored"])
        if decoded is not None:
            return decoded
    options["transfer_syntax_uid"] = UID(syntax)
    array, _ = get_decoder(UID(syntax)).as_array(request["data"], index=request["index"], validate=False, **options)
    return np.asarray(array)


def _unpacked_rle(file: FileHeader, index: int, stored: np.dtype[np.generic]) -> NDArray[np.generic] | None:
    if integer(file.ds, "SamplesPerPixel", 1) != 1:
        return None
    try:
        out = np.empty((integer(file.ds, "Rows"), integer(file.ds, "Columns")), stored.newbyteorder("="))
    except (ValueError, MemoryError):
        return None
    return out if unpack_rle(file, index, out) else None


def unpack_rle(file: FileHeader, index: int, out: NDArray[np.generic]) -> bool:
    """Unpack one grey RLE frame into `out` (rows, columns); return False if that cannot be done with certainty.

    Each thread keeps blocks of memory for bytes and planes, because new memory costs more than the unpacking.
    Source: DICOM PS3.5 annex G (a segment for each byte of a sample, the highest first).
    """
    try:
        unpack = import_module("imagecodecs").packbits_decode
        data = _raw_bytes(file, index)
        if len(data) < 64 or int.from_bytes(data[:4], "little") != out.itemsize:
            return False
        starts = [int.from_bytes(data[k : k + 4], "little") for k in range(4, 4 + 4 * out.itemsize, 4)]
        flat = out.reshape(-1).view(f"u{out.itemsize}")
        plane = _scratch("plane", out.size)
        for number, (start, stop) in enumerate(pairwise([*starts, len(data)])):
            if not 64 <= start < min(stop, len(data)) or not _unpacked(unpack, data[start:stop], plane):
                return False
            if number:
                flat <<= 8
                flat |= plane
            else:
                flat[...] = plane
    except (ImportError, AttributeError, ValueError):  # there is no such codec, or no such frame
        return False
    return True


def _unpacked(unpack: Decoder, segment: NDArray[np.uint8], plane: NDArray[np.uint8]) -> bool:
    """Unpack a segment; some decoders mistake the padding byte at its end for a broken run."""
    for length in (len(segment), len(segment) - 1):
        try:
            return len(unpack(segment[:length], out=plane)) == len(plane)
        except (
            RuntimeError
        ):  # tried again without the last byte; if that fails too, pydicom's decoder reports what is wrong
            continue
    return False


#: Memory that a thread reuses from frame to frame.
_OWN = threading.local()


def _scratch(name: str, size: int) -> NDArray[np.uint8]:
    block = getattr(_OWN, name, None)
    if block is None or len(block) < size:
        block = np.empty(size, np.uint8)
        setattr(_OWN, name, block)
    pixels: NDArray[np.uint8] = block[:size]
    return pixels


def _raw_bytes(file: FileHeader, index: int) -> NDArray[np.uint8]:
    """The compressed bytes of one frame in this thread's own memory; empty if fragments cannot be told apart."""
    parts = _parts(file, index)
    block, at = _scratch("raw", sum(length for _, length in parts)), 0
    for start, length in parts:
        at += file.source.read_into(start, block[at : at + length].data)
    return block[:at]


def decode_colour(file: FileHeader, index: int) -> NDArray[np.generic] | None:
    """Decode one RGB frame in a lossless syntax for which pydicom has no decoder here; None if there is none here
    either."""
    ds, decoder = file.ds, _decoder(file.syntax)
    if decoder is None or file.syntax not in _COLOUR or text(ds, "PhotometricInterpretation") != "RGB":
        return None
    try:
        data = frame_bytes(file, index)
        picture = None if data is None else decoder(data)
    except Exception:  # damaged: the error of pydicom is reported
        return None
    shape = integer(ds, "Rows"), integer(ds, "Columns"), 3
    return picture if isinstance(picture, np.ndarray) and picture.shape == shape else None


def frame_bytes(file: FileHeader, index: int) -> bytes | None:
    """The compressed bytes of one frame (for JPEG 2000 the codestream without its boxes); None if fragments cannot be
    told apart.

    Raises
    ------
    ReadError
        If the boxes of a JPEG 2000 file hold no picture.
    """
    parts = [file.source.read(at, length) for at, length in _parts(file, index)]
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    try:
        return (streams.codestream(data) if streams.is_boxed(data) else data) or None
    except ValueError as error:
        raise ReadError(f"{file.path}: {error}; copy or export it again.") from error


def _parts(file: FileHeader, index: int) -> list[tuple[int, int]]:
    """(offset, length) of the fragments of one frame; [] if they cannot be told apart."""
    if file.fragments is None:
        file.fragments = _fragments(file)
    return file.fragments[index] if index < len(file.fragments) else []


def _fragments(file: FileHeader) -> list[list[tuple[int, int]]]:
    """(offset, length) of each fragment of each frame: by the offset table, or one fragment per frame, or all for a
    single frame."""
    count = max(integer(file.ds, "NumberOfFrames", 1), 1)
    items: list[tuple[int, int]] = []
    table = b""
    at = file.pixel_at
    for number in range(_MOST_ITEMS):
        head = file.source.read(at, 8)
        if len(head) < 8 or head[:4] != b"\xfe\xff\x00\xe0":
            break
        length = int.from_bytes(head[4:8], "little")
        if number == 0:
            table = file.source.read(at + 8, min(length, 8 * _MOST_ITEMS))
        else:
            items.append((at + 8, max(min(length, file.size - at - 8), 0)))
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
