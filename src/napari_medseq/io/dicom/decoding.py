"""Decoding: the stored samples of one frame, from uncompressed bytes, a fast codec, a video, or pydicom's decoders.

Uncompressed grey frames are read from the file directly; all others go through `codecs`, `video` or pydicom. Bits that
are not stored are masked out. Source: DICOM PS3.3 C.7.6.3 (image pixel).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom import codecs, video
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.helper import HELPER
from napari_medseq.io.dicom.stored import promised_bytes, stored_dtype
from napari_medseq.io.dicom.values import integer, text

if TYPE_CHECKING:
    from pydicom.uid import UID

#: The mosaic that each thread decoded last, because its tiles are needed one after the other.
_MOSAIC = threading.local()


def decode(frame: Frame) -> NDArray[np.generic]:
    """The stored samples of one frame: (rows, columns) or (rows, columns, 3), native byte order, not yet rescaled.

    Raises
    ------
    ReadError
        If the transfer syntax has no decoder here or the pixels are damaged.
    """
    file = frame.file
    if frame.tile is None:
        picture = _whole(file, frame.index)
    else:
        key = (file.path, frame.index)
        if getattr(_MOSAIC, "key", None) != key:
            _MOSAIC.key, _MOSAIC.picture = key, _whole(file, frame.index)
        r, c = frame.tile
        picture = _MOSAIC.picture[r : r + frame.shape[0], c : c + frame.shape[1]]
    if picture.shape[:2] != frame.shape:
        raise ReadError(
            f"{file.path}: decoded to {picture.shape[:2]} but the header announces {frame.shape}; export it again."
        )
    return picture


def _whole(file: FileHeader, index: int) -> NDArray[np.generic]:
    if is_plain(file):
        return _native(file, index)
    if file.syntax in video.SYNTAXES:
        return video.frame(file, index)
    if file.encapsulated and file.pixel_keyword == "PixelData":
        data, stored = codecs.frame_bytes(file, index), stored_dtype(file.ds)
        if not codecs.check_frame(file, data, stored):
            return _decoded(file, index, data, in_helper=True)
        assert data is not None
        fast = codecs.decode(file, index, data, stored)
        if fast is not None:
            return masked(fast, file.ds) if file.syntax == codecs.RLE else fast
        return _decoded(file, index, data)
    return _decoded(file, index)


def is_plain(file: FileHeader) -> bool:
    """Whether frames are uncompressed grey samples of whole bytes, which need no decoder."""
    ds = file.ds
    bits = integer(ds, "BitsAllocated", 16)
    return (
        not file.encapsulated
        and integer(ds, "SamplesPerPixel", 1) == 1
        and (bits in (16, 32, 64) or (bits == 8 and file.little))
        and text(ds, "PhotometricInterpretation") != "PALETTE COLOR"
    )


def _native(file: FileHeader, index: int) -> NDArray[np.generic]:
    ds = file.ds
    dtype = stored_dtype(ds, file.pixel_keyword)
    if not file.little:
        dtype = dtype.newbyteorder(">")
    rows, columns = integer(ds, "Rows"), integer(ds, "Columns")
    count = rows * columns * dtype.itemsize
    try:
        block = bytearray(file.source.read(file.pixel_at + index * count, count))
    except OSError as error:
        raise ReadError(f"{file.path}: cannot be read ({error.strerror or error}).") from error
    if len(block) < count:
        block.extend(bytes(count - len(block)))
    picture = np.frombuffer(block, dtype).reshape(rows, columns)
    if not dtype.isnative:
        picture = picture.byteswap().view(dtype.newbyteorder("="))
    return masked(picture, ds) if file.pixel_keyword == "PixelData" else picture


def read_plain(file: FileHeader, index: int, out: NDArray[np.generic]) -> None:
    """Read the uncompressed samples of one frame into an array of their size; samples beyond the end of the file are 0."""
    raw = out.reshape(-1).view(np.uint8)
    try:
        count_read = file.source.read_into(file.pixel_at + index * out.nbytes, raw.data)
    except OSError as error:
        raise ReadError(f"{file.path}: cannot be read ({error.strerror or error}).") from error
    raw[count_read:] = 0


def masked(picture: NDArray[np.generic], ds: Attributes) -> NDArray[np.generic]:
    """Keep only the bits stored: drop overlays in higher bits and extend the sign; in place if the array is writeable."""
    allocated = integer(ds, "BitsAllocated", 16)
    stored = integer(ds, "BitsStored", allocated)
    high = integer(ds, "HighBit", stored - 1)
    if not 0 < stored < allocated or not stored - 1 <= high < allocated:
        return picture
    low = high + 1 - stored
    if not picture.flags.writeable:
        picture = picture.copy()
    if picture.dtype.kind == "u":
        if low:
            np.right_shift(picture, low, out=picture)
        np.bitwise_and(picture, (1 << stored) - 1, out=picture)
    else:
        np.left_shift(picture, allocated - 1 - high, out=picture)
        np.right_shift(picture, allocated - stored, out=picture)
    return picture


def _decoded(
    file: FileHeader, index: int, frame: bytes | None = None, *, in_helper: bool = False
) -> NDArray[np.generic]:
    """Decode one frame by pydicom, here or in the helper process; `frame` holds its compressed bytes if they are known."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.uid import UID

    syntax = UID(file.syntax)
    options = _decoder_options(file, syntax)
    try:
        if file.encapsulated:
            array = _of_fragments(file, syntax, index, frame, options, in_helper=in_helper)
        else:
            array = _uncompressed(file, syntax, index, options)
        if options["photometric_interpretation"] == "PALETTE COLOR":
            every_index = np.arange(1 << min(options["bits_stored"], 16), dtype=np.uint16)
            wide = int(apply_color_lut(every_index, file.complete).max(initial=0)) > np.iinfo(np.uint8).max
            coloured = apply_color_lut(array, file.complete)
            array = (np.right_shift(coloured, 8) if wide else coloured).astype(np.uint8, copy=False)
    except ReadError:
        raise
    except NotImplementedError as error:
        raise ReadError(
            f"{file.path}: transfer syntax {syntax.name} ({syntax}) has no decoder here; convert it to another."
        ) from error
    except RuntimeError as error:
        colour = codecs.decode_colour(file, index)
        if colour is not None:
            return colour
        raise ReadError(
            f"{file.path}: pixels in {syntax.name} ({syntax}) cannot be decoded: {_short(error)}. Export the file uncompressed."
        ) from error
    except BaseException as error:  # for damaged streams codecs raise errors of any type; those in Rust no `Exception`
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ReadError(
            f"{file.path}: its pixels are damaged ({type(error).__name__}: {_short(error)}); copy it again."
        ) from error
    return np.array(array, copy=not array.flags.writeable)


def _decoder_options(file: FileHeader, syntax: UID) -> dict[str, Any]:
    """The description of the pixels that pydicom's decoders need."""
    ds = file.ds
    bits = integer(ds, "BitsAllocated", 16)
    options: dict[str, Any] = {
        "rows": integer(ds, "Rows"),
        "columns": integer(ds, "Columns"),
        "samples_per_pixel": integer(ds, "SamplesPerPixel", 1),
        "number_of_frames": max(integer(ds, "NumberOfFrames", 1), 1),
        "photometric_interpretation": text(ds, "PhotometricInterpretation") or "MONOCHROME2",
        "pixel_keyword": file.pixel_keyword,
        "transfer_syntax_uid": syntax,
        "bits_allocated": bits,
        "bits_stored": integer(ds, "BitsStored", bits),
    }
    if file.pixel_keyword == "PixelData":
        options["pixel_representation"] = integer(ds, "PixelRepresentation")
    if options["samples_per_pixel"] > 1:
        options["planar_configuration"] = integer(ds, "PlanarConfiguration")
    if bits == 8 and not file.little:
        options["pixel_vr"] = file.pixel_vr if file.pixel_vr == "OB" else "OW"
    return options


def _uncompressed(file: FileHeader, syntax: UID, index: int, options: dict[str, Any]) -> NDArray[np.generic]:
    """Decode one frame of uncompressed pixels."""
    from pydicom.pixels.decoders.base import get_decoder

    # frames of bits, or of swapped words, may begin within a byte or word, so that all frames are read
    all_frames = options["bits_allocated"] == 1 or not file.little
    count = options["number_of_frames"] if all_frames else 1
    size = promised_bytes(file.ds, file.pixel_keyword, count)
    data = file.source.read(file.pixel_at + (0 if all_frames else index * size), size + size % 2)
    padded = data.ljust(size + size % 2, b"\0")
    array, _ = get_decoder(syntax).as_array(
        padded, index=index if all_frames else 0, validate=False, **{**options, "number_of_frames": count}
    )
    return array


def _of_fragments(
    file: FileHeader, syntax: UID, index: int, frame: bytes | None, options: dict[str, Any], *, in_helper: bool
) -> NDArray[np.generic]:
    """Decode one compressed frame, from its own bytes, or from those of all frames if `frame` is None."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    if frame is None:
        data = file.source.read(file.pixel_at, file.size - file.pixel_at)
    else:
        data, index, options = encapsulate([frame]), 0, {**options, "number_of_frames": 1}
    decoder = get_decoder(syntax)
    if not in_helper:
        array, _ = decoder.as_array(data, index=index, validate=False, **options)
        return array
    request = codecs.request(file, data, index, options, stored_dtype(file.ds))
    return HELPER.decode(file.path, request, options["rows"] * options["columns"] * options["samples_per_pixel"])


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
