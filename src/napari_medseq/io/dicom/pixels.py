"""Stored pixels to modality values, one frame at a time: read, decoded, masked to the bits stored, rescaled.

Uncompressed grey frames go from the file straight into the array; all else through pydicom's decoders. Sizes are checked
against the file before anything is allocated. Source: DICOM PS3.3 C.7.6.3 (image pixel), C.11.1 (modality LUT).
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
from napari_medseq.io.dicom.values import integer, number, text, value

if TYPE_CHECKING:
    from pydicom.uid import UID

    from napari_medseq.io.dicom.stacks import Stack

#: The mosaic decoded last, for each thread: its tiles are asked for one after the other.
_MOSAIC = threading.local()
#: No codec in use packs medical images better than this.
_BEST_RATIO = 5000
_SMALL = 256 << 20
#: More frames than this are in no file.
_MOST_FRAMES = 1 << 18


def stored_dtype(ds: Attributes, keyword: str = "PixelData") -> np.dtype[np.generic]:
    """Type of one stored sample, in the file's little-endian order.

    Raises
    ------
    ReadError
        If BitsAllocated is no size in use.
    """
    if keyword != "PixelData":
        return np.dtype("<f4" if keyword == "FloatPixelData" else "<f8")
    bits = integer(ds, "BitsAllocated", 16)
    if bits not in (1, 8, 16, 32, 64):
        raise ReadError(f"BitsAllocated is {bits}; 1, 8, 16, 32 and 64 are read.")
    sign = "i" if integer(ds, "PixelRepresentation") == 1 else "u"
    return np.dtype(f"<{sign}{max(bits, 8) // 8}")


def check_promise(file: FileHeader) -> str | None:
    """Compare what the header promises with the bytes there are.

    Returns
    -------
    str or None
        A doubt, when an uncompressed file is cut a little.

    Raises
    ------
    ReadError
        When most of the pixels are missing or could not possibly be there.
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
    """Bytes that `frames` uncompressed frames take; bits are packed over all of them."""
    bits = 8 * stored_dtype(ds, keyword).itemsize if integer(ds, "BitsAllocated", 16) != 1 else 1
    voxels = integer(ds, "Rows") * integer(ds, "Columns") * max(integer(ds, "SamplesPerPixel", 1), 1)
    if text(ds, "PhotometricInterpretation") == "YBR_FULL_422" and voxels:
        voxels = voxels * 2 // 3
    return (voxels * frames * bits + 7) // 8


def is_colour(frame: Frame) -> bool:
    """Whether a frame's samples are colours."""
    ds = frame.file.ds
    return integer(ds, "SamplesPerPixel", 1) > 1 or text(ds, "PhotometricInterpretation") == "PALETTE COLOR"


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
            f"{file.path}: decoded to {picture.shape[:2]} but {frame.shape} was announced; export it again."
        )
    return picture


def _whole(file: FileHeader, index: int) -> NDArray[np.generic]:
    if _is_simple(file):
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


def _is_simple(file: FileHeader) -> bool:
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


def _read_plain(file: FileHeader, index: int, out: NDArray[np.generic]) -> None:
    """Uncompressed samples of one frame into an array of their size; what is missing at the file's end is 0."""
    raw = out.reshape(-1).view(np.uint8)
    try:
        count_read = file.source.read_into(file.pixel_at + index * out.nbytes, raw.data)
    except OSError as error:
        raise ReadError(f"{file.path}: cannot be read ({error.strerror or error}).") from error
    raw[count_read:] = 0


def masked(picture: NDArray[np.generic], ds: Attributes) -> NDArray[np.generic]:
    """Only the bits stored: overlays in higher bits dropped, signed values sign-extended; in place where it may be."""
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
    """One frame by pydicom's decoders, here or in the helper process; `frame`: its compressed bytes, if they can be told apart."""
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
            array = _eight_bit(apply_color_lut(array, file.complete))
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
    except (
        BaseException
    ) as error:  # codecs raise of their own on damaged streams; those in Rust raise no Exception at all
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ReadError(
            f"{file.path}: its pixels are damaged ({type(error).__name__}: {_short(error)}); copy it again."
        ) from error
    return np.array(array, copy=not array.flags.writeable)


def _decoder_options(file: FileHeader, syntax: UID) -> dict[str, Any]:
    """What pydicom's decoders need to know of the pixels."""
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
        options["pixel_vr"] = "OW"
    return options


def _uncompressed(file: FileHeader, syntax: UID, index: int, options: dict[str, Any]) -> NDArray[np.generic]:
    """One frame of pixels that are not compressed."""
    from pydicom.pixels.decoders.base import get_decoder

    # frames of bits, or of swapped words, may begin within a byte or word: then all frames are read
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
    """One compressed frame, from its own bytes, or from those of all frames where `frame` is None."""
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


def _eight_bit(picture: NDArray[np.generic]) -> NDArray[np.uint8]:
    wide = picture.dtype != np.uint8 and picture.max(initial=0) > 255
    return (np.right_shift(picture, 8) if wide else picture).astype(np.uint8, copy=False)


def value_dtype(frames: list[Frame]) -> np.dtype[np.generic]:
    """The smallest type that holds the modality values of all frames without loss (float32 where slopes are no integers)."""
    ds, keyword = frames[0].file.ds, frames[0].file.pixel_keyword
    if is_colour(frames[0]):
        return (
            np.dtype(np.uint8)
            if integer(ds, "BitsAllocated", 8) <= 8 or value(ds, "PhotometricInterpretation") == "PALETTE COLOR"
            else np.dtype(np.uint16)
        )
    stored = stored_dtype(ds, keyword).newbyteorder("=")
    if any(f.lut is not None for f in frames):
        return np.dtype(np.uint16) if all(f.lut is not None for f in frames) else np.dtype(np.float32)
    if stored.kind == "f":
        return stored
    scalings = {(f.slope, f.inter) for f in frames}
    if scalings == {(1.0, 0.0)}:
        return stored
    wide = stored.itemsize > 2 and integer(ds, "BitsStored", 32) > 24
    if any(s != 1.0 or i != int(i) for s, i in scalings):
        return np.dtype(np.float64 if wide else np.float32)
    bits = {integer(f.file.ds, "BitsStored", 8 * stored.itemsize) for f in frames}
    top = max(bits) if min(bits) > 0 else 8 * stored.itemsize
    half, full = 1 << (top - 1), 1 << top
    low = (-half if stored.kind == "i" else 0) + min(i for _, i in scalings)
    high = (half if stored.kind == "i" else full) - 1 + max(i for _, i in scalings)
    fits = (t for t in (np.int16, np.uint16, np.int32, np.int64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.dtype(next(fits, np.float64))


def padding_of(stack: Stack) -> float | list[float] | None:
    """The value of pixels outside the scanned field (PS3.3 C.7.5.1.1.2), rescaled as they are; a range as [low, high].

    None where there is none, or where slices would have different ones.
    """
    ranges: set[tuple[float, float]] = set()
    for frame in (f for row in stack.grid for f in row):
        ds = frame.file.ds
        first = number(ds, "PixelPaddingValue")
        if first is None or is_colour(frame) or frame.lut is not None:
            return None
        last = number(ds, "PixelPaddingRangeLimit")
        ends = [_as_stored(v, ds) * frame.slope + frame.inter for v in (first, first if last is None else last)]
        ranges.add((min(ends), max(ends)))
        if len(ranges) > 1:
            return None
    low, high = ranges.pop()
    return low if low == high else [low, high]


def _as_stored(value_: float, ds: Attributes) -> float:
    """A padding value with the sign that pixels have; some files write signed ones as unsigned, and the other way about."""
    bits = integer(ds, "BitsAllocated", 16)
    signed = integer(ds, "PixelRepresentation") == 1
    if signed and value_ >= 1 << (bits - 1):
        return value_ - (1 << bits)
    return value_ + (1 << bits) if not signed and value_ < 0 else value_


class FrameArray:
    """The frames of a stack as one array (t, z, rows, columns[, c]) that decodes on demand: what dask slices.

    With `defer`, an intercept that all frames share is left out if 16-bit samples would need a wider type only because of
    what they might be; `settled` adds it to the whole array when it is known what they are.
    """

    def __init__(self, stack: Stack, *, defer: bool = False) -> None:
        self.grid = stack.grid
        frames = [f for row in stack.grid for f in row]
        self.dtype = value_dtype(frames)
        self.deferred = 0
        stored = stored_dtype(frames[0].file.ds, frames[0].file.pixel_keyword).newbyteorder("=")
        if defer and self.dtype == np.int32 and stored.itemsize == 2 and len({f.inter for f in frames}) == 1:
            self.dtype, self.deferred = stored, int(frames[0].inter)
        self.shape: tuple[int, ...] = (len(stack.grid), len(stack.grid[0]), *stack.first.shape)
        if is_colour(stack.first):
            self.shape = (*self.shape, 3)
        self.ndim = len(self.shape)

    def fill(self, t: int, z: int, out: NDArray[np.generic]) -> None:
        """Decode and rescale one frame into `out` (rows, columns[, 3])."""
        frame = self.grid[t][z]
        inter = frame.inter - self.deferred
        if self._read_into(frame, inter, out):
            return
        picture = decode(frame)
        if picture.ndim == 3 and picture.shape[-1] == 4 and out.shape[-1] == 3:
            picture = picture[..., :3]
        if frame.lut is not None and out.ndim == 2:
            first, table = frame.lut
            out[...] = table[np.clip(picture.astype(np.int64) - first, 0, len(table) - 1)]
        elif out.ndim == 3 and picture.itemsize > 2:
            out[...] = np.right_shift(picture, 8 * (picture.itemsize - 2))  # colours of 32 bits: the higher 16
        elif (frame.slope == 1.0 and inter == 0.0) or out.ndim == 3:
            out[...] = picture
        elif self.dtype.kind in "iu":
            out[...] = picture
            np.add(out, self.dtype.type(int(inter)), out=out)
        else:
            out[...] = picture
            np.multiply(out, self.dtype.type(frame.slope), out=out)
            np.add(out, self.dtype.type(inter), out=out)

    def settled(self, out: NDArray[np.generic]) -> NDArray[np.generic]:
        """The filled array with the deferred intercept added: in place where the values then still fit 16 bits."""
        if not self.deferred:
            return out
        low, high = int(out.min()) + self.deferred, int(out.max()) + self.deferred
        for narrow in (np.int16, np.uint16):
            if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
                view = out.view(narrow)
                view += np.int64(self.deferred).astype(narrow)  # modulo 2^16, and the result fits
                return view
        wide = out.astype(np.int32)
        wide += self.deferred
        return wide

    def _read_into(self, frame: Frame, inter: float, out: NDArray[np.generic]) -> bool:
        """Read whole-number samples from the file straight into the array, if they have its size; False if they have not."""
        file = frame.file
        stored = stored_dtype(file.ds, file.pixel_keyword)
        same_layout = stored.itemsize == self.dtype.itemsize and stored.kind in "iu" and self.dtype.kind in "iu"
        if not same_layout or not file.little or frame.tile is not None or not out.flags.c_contiguous or out.ndim != 2:
            return False
        if frame.slope != 1.0 or frame.lut is not None:
            return False
        view = out.view(stored.newbyteorder("="))
        if file.syntax == codecs.RLE:
            if is_colour(frame) or not codecs.unpack_rle(file, frame.index, view):
                return False
        elif _is_simple(file):
            _read_plain(file, frame.index, view)
        else:
            return False
        masked(view, file.ds)
        if inter != 0.0:
            np.add(out, self.dtype.type(int(inter)), out=out)
        return True

    def __getitem__(self, index: Any) -> NDArray[np.generic]:
        index = index if isinstance(index, tuple) else (index,)
        index = index + (slice(None),) * (self.ndim - len(index))
        at, zs = (np.arange(n)[i] for n, i in zip(self.shape[:2], index[:2], strict=True))
        ts, zs = np.atleast_1d(at), np.atleast_1d(zs)
        out = np.empty((len(ts), len(zs), *self.shape[2:]), self.dtype)
        for i, t in enumerate(ts):
            for k, z in enumerate(zs):
                self.fill(int(t), int(z), out[i, k])
        keep = tuple(0 if isinstance(i, (int, np.integer)) else slice(None) for i in index[:2])
        return out[(*keep, *index[2:])]
