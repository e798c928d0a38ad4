"""Modality values of a stack of frames: each frame is decoded and rescaled into one array, on demand.

Uncompressed and RLE grey frames whose type fits go from the file straight into the array. Source: DICOM PS3.3 C.11.1
(modality LUT).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom import codecs
from napari_medseq.io.dicom.decoding import decode, is_plain, masked, read_plain
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.stored import is_colour, stored_dtype
from napari_medseq.io.dicom.values import integer, number, value

if TYPE_CHECKING:
    from napari_medseq.io.dicom.headers import FileHeader
    from napari_medseq.io.dicom.stacks import Stack


def value_dtype(frames: list[Frame]) -> np.dtype[np.generic]:
    """The smallest type that holds the modality values of all frames without loss (float for scalings that are not integer).

    Files of one series may store their samples in different types; then it is one that holds all of these.
    """
    ds = frames[0].file.ds
    if is_colour(frames[0]):
        return (
            np.dtype(np.uint8)
            if integer(ds, "BitsAllocated", 8) <= 8 or value(ds, "PhotometricInterpretation") == "PALETTE COLOR"
            else np.dtype(np.uint16)
        )
    if any(f.lut is not None for f in frames):
        return np.dtype(np.uint16) if all(f.lut is not None for f in frames) else np.dtype(np.float32)
    files = list({id(f.file): f.file for f in frames}.values())
    types = stored_types(files)
    if any(t.kind == "f" for t in types):
        return np.result_type(*types)
    scalings = {(f.slope, f.inter) for f in frames}
    if scalings == {(1.0, 0.0)} and len(types) == 1:
        return types[0]
    ranges = {_range_of(file) for file in files}
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    wide = max(t.itemsize for t in types) > 2 and max(high, -low - 1) >= 1 << 24
    if any(s != 1.0 or i != int(i) for s, i in scalings):
        return np.dtype(np.float64 if wide else np.float32)
    low, high = low + min(i for _, i in scalings), high + max(i for _, i in scalings)
    fits = (t for t in (np.int16, np.uint16, np.int32, np.int64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.dtype(next(fits, np.float64))


def stored_types(files: Sequence[FileHeader]) -> list[np.dtype[np.generic]]:
    """The types in which files store their samples, each once, in native byte order."""
    return list(dict.fromkeys(stored_dtype(f.ds, f.pixel_keyword).newbyteorder("=") for f in files))


def _range_of(file: FileHeader) -> tuple[float, float]:
    """The least and the largest whole number that a file's samples can be."""
    stored = stored_dtype(file.ds, file.pixel_keyword)
    bits = integer(file.ds, "BitsStored", 8 * stored.itemsize)
    bits = bits if 0 < bits <= 8 * stored.itemsize else 8 * stored.itemsize
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if stored.kind == "i" else (0, (1 << bits) - 1)


def padding_of(stack: Stack) -> float | list[float] | None:
    """The value of pixels outside the scanned field (PS3.3 C.7.5.1.1.2), rescaled as pixels are; a range as [low, high].

    None if there is none, or if slices have different ones.
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


def _as_stored(stored: float, ds: Attributes) -> float:
    """A padding value with the sign of the pixels, because some files write signed values as unsigned and vice versa."""
    bits = integer(ds, "BitsAllocated", 16)
    signed = integer(ds, "PixelRepresentation") == 1
    if signed and stored >= 1 << (bits - 1):
        return stored - (1 << bits)
    return stored + (1 << bits) if not signed and stored < 0 else stored


class FrameArray:
    """The frames of a stack as one array (t, z, rows, columns[, c]) that decodes on demand, for dask to slice.

    With `defer`, an intercept that all frames share is left out if 16-bit samples would otherwise need a wider type for
    values that may not occur; `settled` adds it to the whole array when the values are known.
    """

    def __init__(self, stack: Stack, *, defer: bool = False) -> None:
        self.grid = stack.grid
        frames = [f for row in stack.grid for f in row]
        self.dtype = value_dtype(frames)
        self.deferred = 0
        if defer and self.dtype == np.int32 and len({f.inter for f in frames}) == 1:
            types = stored_types([f.file for f in frames])
            if len(types) == 1 and types[0].itemsize == 2:
                self.dtype, self.deferred = types[0], int(frames[0].inter)
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
            out[...] = np.right_shift(picture, 8 * (picture.itemsize - 2))  # of colours of 32 bits the higher 16
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
        """The filled array with the deferred intercept added, in place if the values still fit into 16 bits."""
        if not self.deferred:
            return out
        low, high = int(out.min()) + self.deferred, int(out.max()) + self.deferred
        for narrow in (np.int16, np.uint16):
            if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
                view = out.view(narrow)
                view += np.int64(self.deferred).astype(narrow)  # modulo 2^16, where the result fits
                return view
        wide = out.astype(np.int32)
        wide += self.deferred
        return wide

    def _read_into(self, frame: Frame, inter: float, out: NDArray[np.generic]) -> bool:
        """Read integer samples of the array's size from the file straight into the array; return False if that is not possible."""
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
        elif is_plain(file):
            read_plain(file, frame.index, view)
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
