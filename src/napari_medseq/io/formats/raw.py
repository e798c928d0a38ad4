"""Plain and gzipped blocks of voxels into one array: sizes checked before anything is allocated, no second copy.

Used by every format whose voxels lie as one block behind a header (NIfTI, NRRD, MGH).
"""

from __future__ import annotations

import math
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_medseq import memory
from napari_medseq.errors import ReadError, WriteError
from napari_medseq.io.formats.packing import cannot_hold
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import Voxels
from napari_medseq.unread import Source, UnreadVoxels

Laziness = bool | Literal["auto"]
#: More bytes than this are big; a series of this many frames is long.
_BIG, _MANY_FRAMES = 1 << 29, 100
#: Bytes from which it is worth mapping a block instead of copying it into memory.
_MAPPED = 1 << 26
#: Types that every format holds.
_STORABLE = frozenset(np.dtype(t) for t in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"))
_CHUNK, _PIECE = 1 << 15, 1 << 16


def is_gzip(path: str | Path) -> bool:
    """Whether a file starts with the gzip magic."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def head(path: str | Path, size: int) -> bytes:
    """The first `size` bytes of a file, unzipped if it is gzipped; shorter if the file is."""
    with open(path, "rb") as file:
        start = file.read(2)
        file.seek(0)
        if start != b"\x1f\x8b":
            return file.read(size)
        stream, out = zlib.decompressobj(wbits=31), b""
        try:
            while len(out) < size and (block := file.read(1 << 16)):
                out += stream.decompress(block, size - len(out))
                if stream.eof:
                    break
        except zlib.error as error:
            raise ReadError(f"{path}: the gzip stream is damaged ({error}); copy the file again.") from error
        return out


def check_size(path: str | Path, promised: int, offset: int = 0) -> None:
    """Refuse a header that promises more bytes than the file can hold, before anything is allocated.

    Raises
    ------
    ReadError
        If the file is too short.
    """
    size = os.path.getsize(path)
    if is_gzip(path):
        if cannot_hold(size, promised):
            raise ReadError(
                f"{path}: the header promises {promised:,} bytes of voxels, but {size:,} gzipped bytes cannot hold that; "
                "the header is wrong or the file was cut. Copy or export it again."
            )
    elif size - offset < promised:
        raise ReadError(
            f"{path}: the header promises {promised:,} bytes of voxels, but only {max(size - offset, 0):,} follow it; "
            "the file was cut short. Copy or export it again."
        )


def empty(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], where: str = "", *, packed: bool = False
) -> NDArray[np.generic]:
    """An array to read voxels into.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    where : str
        Beginning of the message.
    packed : bool
        The voxels are compressed, so that no part of them can be read alone.

    Raises
    ------
    ReadError
        If the memory that is free does not suffice.
    """
    byte_count = math.prod(shape) * dtype.itemsize
    if not memory.is_too_much(byte_count):
        with suppress(MemoryError, ValueError):
            return np.empty(shape, dtype)
    unpacked = "save it without compression and " if packed else ""
    raise ReadError(
        f"{where}{byte_count / 2**30:,.1f} GB of voxels do not fit in the memory that is free; close other programs, or "
        f"{unpacked}open it in napari or with ms.read(..., lazy=True), which read the parts that are looked at."
    )


def load_block(
    path: str | Path, offset: int, dtype: DTypeLike, shape: tuple[int, ...], cancelled: Cancelled | None = None
) -> NDArray[np.generic]:
    """Read one block of voxels in C order, in native byte order, from a plain or gzipped file.

    Raises
    ------
    ReadError
        If the file is too short, cut, or its gzip stream is damaged.
    """
    dtype = np.dtype(dtype)
    byte_count = int(np.prod(shape, dtype=object)) * dtype.itemsize
    check_size(path, byte_count, offset)
    array = empty(shape, dtype, f"{path}: ", packed=is_gzip(path))
    target = memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b"")
    if is_gzip(path):
        _gunzip_into(path, offset, target, cancelled)
    else:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            at = 0
            while at < byte_count:
                check(cancelled)
                count = file.readinto(target[at : at + (1 << 25)])
                if not count:
                    raise ReadError(f"{path}: ends {byte_count - at:,} bytes early; copy or export it again.")
                at += count
    return native(array)


def load_packed(path: str | Path, offset: int, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Voxels that lie as a gzip or zlib stream behind a plain header: C order, native byte order.

    Raises
    ------
    ReadError
        If the stream cannot hold them, is cut or damaged.
    """
    array = empty(shape, _checked_packed(path, offset, dtype, shape), f"{path}: ", packed=True)
    _gunzip_into(path, 0, memoryview(array.reshape(-1).view(np.uint8).data), offset=offset)
    return native(array)


def _checked_packed(path: str | Path, offset: int, dtype: DTypeLike, shape: tuple[int, ...]) -> np.dtype[np.generic]:
    dtype = np.dtype(dtype)
    promised, available = int(np.prod(shape, dtype=object)) * dtype.itemsize, os.path.getsize(path) - offset
    if cannot_hold(available, promised):
        raise ReadError(
            f"{path}: the header promises {promised:,} bytes of voxels, which {max(available, 0):,} packed bytes cannot hold; "
            "save it again."
        )
    return dtype


def lazy_packed(path: str | Path, offset: int, dtype: DTypeLike, shape: tuple[int, ...]) -> Voxels:
    """Voxels of such a stream, unpacked whole at the first look."""
    checked_dtype = _checked_packed(path, offset, dtype, shape)
    return on_demand(partial(load_packed, path, offset, checked_dtype, shape), checked_dtype, shape)


def on_demand(load: Callable[[], NDArray[np.generic]], dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Voxels:
    """Voxels that `load` gives, called once, at the first look."""
    source = OnDemand(load, dtype, shape)
    return lazily(source, source.dtype)


def native(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same values in the machine's byte order, swapped in place."""
    if array.dtype.isnative or array.dtype.fields:
        return array
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def unzipped(path: str | Path, offset: int = 0) -> Iterator[bytes]:
    """The bytes of a gzip (all its members) or zlib stream in small pieces, which stay in the processor's cache.

    It begins at byte `offset` of the file.

    Raises
    ------
    ReadError
        If the stream is damaged; a stream that ends early simply ends.
    """
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(offset)
        stream, block = _decompressor(gzipped), b""
        try:
            while True:
                if stream.eof:
                    if not gzipped:
                        return
                    block = stream.unused_data.lstrip(b"\0")
                    stream = _decompressor(gzipped)
                    block = block or file.read(_CHUNK).lstrip(b"\0")
                    if not block:
                        return
                elif stream.needs_input:
                    block = file.read(_CHUNK)
                    if not block:
                        return
                out = stream.decompress(block, _PIECE)
                block = b""
                if out:
                    yield out
        except Exception as error:  # zlib.error or isal's IsalError
            if type(error).__module__.split(".")[0] not in ("zlib", "isal", "igzip_lib", "isal_zlib", "builtins"):
                raise
            raise ReadError(f"{path}: the gzip stream is damaged ({error}); copy or export it again.") from error


class _Decompressor(Protocol):
    """The interface of isal's decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, block: bytes, most: int, /) -> bytes: ...


class _Slow:
    """zlib with the manners of isal's decompressor, where isal is not installed."""

    def __init__(self, gzipped: bool) -> None:
        self._stream = zlib.decompressobj(wbits=31 if gzipped else 15)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    def decompress(self, block: bytes, most: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + block, most)


def _decompressor(gzipped: bool) -> _Decompressor:
    try:
        fast: Any = import_module("isal.igzip_lib")  # more than twice as fast; optional
    except ImportError:
        return _Slow(gzipped)
    decompressor: _Decompressor = fast.IgzipDecompressor(flag=fast.DECOMP_GZIP if gzipped else fast.DECOMP_ZLIB)
    return decompressor


def _gunzip_into(
    path: str | Path, skip: int, target: memoryview, cancelled: Cancelled | None = None, offset: int = 0
) -> None:
    """Unzip the stream at `offset` of a file into `target`, leaving out the first `skip` bytes of what comes out."""
    at, total = 0, len(target)
    for number, out in enumerate(unzipped(path, offset) if total else ()):
        if number % 64 == 0:
            check(cancelled)
        if skip:
            cut = min(skip, len(out))
            skip, out = skip - cut, out[cut:]
        count = min(len(out), total - at)
        target[at : at + count] = out[:count]
        at += count
        if at == total:
            return
    if at < total:
        raise ReadError(
            f"{path}: the gzip stream ends early: {total - at:,} of {total:,} bytes of voxels are missing; "
            "copy or export it again."
        )


def is_wanted_lazy(lazy: Laziness, size: int, frames: int = 1) -> bool:
    """Whether voxels are left to be read on demand: as asked, or ("auto") where they are many.

    Parameters
    ----------
    lazy : bool or "auto"
    size : int
        Bytes of all voxels.
    frames : int
        Time points.
    """
    if lazy == "auto":
        return size > _BIG or (frames >= _MANY_FRAMES and size > _BIG // 8)
    return bool(lazy)


def decided(lazy: Laziness, size: int, frames: int, *, in_parts: bool) -> Laziness:
    """How `block` is to be called where "auto" is asked for: voxels that cannot be used in parts are read into memory."""
    if lazy != "auto":
        return lazy
    return in_parts and (is_wanted_lazy(lazy, size, frames) or lazy)


def block(
    path: str | Path,
    offset: int,
    dtype: DTypeLike,
    shape: tuple[int, ...],
    *,
    lazy: Laziness = False,
    cancelled: Cancelled | None = None,
) -> Voxels:
    """Voxels of a block in a file: in memory, still to be read (`lazy`), or ("auto") mapped where that is worth it.

    A mapped block is an ordinary numpy array. The system reads a part of it when it is used and can drop it again, and
    what is written into the array stays in memory, not in the file. Gzipped and small blocks, and those in the other byte
    order, are read into memory.

    Raises
    ------
    ReadError
        If the file is too short, cut, or its gzip stream is damaged.
    """
    if lazy is True:
        return lazy_block(path, offset, dtype, shape)
    stored = np.dtype(dtype)
    byte_count = int(np.prod(shape, dtype=object)) * stored.itemsize
    if not lazy or byte_count < _MAPPED or not stored.isnative or is_gzip(path):
        return load_block(path, offset, stored, shape, cancelled)
    check_size(path, byte_count, offset)
    return np.memmap(path, stored, "c", offset, shape).view(np.ndarray)


class OnDemand:
    """An array that is read whole at the first look inside: what is sliced when a block cannot be read in parts."""

    def __init__(
        self, load: Callable[[], NDArray[np.generic]], dtype: np.dtype[np.generic], shape: tuple[int, ...]
    ) -> None:
        self.dtype = dtype if dtype.fields else dtype.newbyteorder("=")
        self.shape, self.ndim = shape, len(shape)
        self._load = load
        self._lock = threading.Lock()
        self._array: NDArray[np.generic] | None = None

    def __reduce__(self) -> tuple[type[OnDemand], tuple[Any, ...]]:
        """As it was made, for another process, which reads the file itself."""
        return OnDemand, (self._load, self.dtype, self.shape)

    def __getitem__(self, index: Any) -> NDArray[np.generic]:
        with self._lock:
            if self._array is None:
                self._array = self._load()
        return np.asarray(self._array[index])


class Mapped:
    """An uncompressed block of voxels mapped from its file, of which only the parts that are used are read.

    Not `numpy.memmap` itself, of which dask takes a copy into memory. What comes out is in native byte order.
    """

    def __init__(self, path: str | Path, offset: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
        self._voxels = np.memmap(path, dtype, "r", offset, shape)
        self._made_of = Path(path).absolute(), offset, dtype, shape
        self.shape, self.ndim = shape, len(shape)
        self.dtype = dtype if dtype.fields else dtype.newbyteorder("=")

    def __reduce__(self) -> tuple[type[Mapped], tuple[Any, ...]]:
        """Where the voxels lie, not the voxels, for another process."""
        return Mapped, self._made_of

    def __getitem__(self, index: Any) -> NDArray[np.generic]:
        return native(np.array(self._voxels[index]))


def lazily(source: Source, dtype: np.dtype[np.generic], together: int = 2) -> Voxels:
    """Voxels of anything that can be sliced, its last `together` axes at once; nothing is read yet."""
    return cast("Voxels", UnreadVoxels(source, dtype, together))


def lazy_block(path: str | Path, offset: int, dtype: DTypeLike, shape: tuple[int, ...]) -> Voxels:
    """Voxels of a block in a file, plane by plane (last two axes); nothing is read yet."""
    dtype = np.dtype(dtype)
    byte_count = int(np.prod(shape, dtype=object)) * dtype.itemsize
    check_size(path, byte_count, offset)
    if is_gzip(path):
        return on_demand(partial(load_block, path, offset, dtype, shape), dtype, shape)
    source = Mapped(path, offset, dtype, shape)
    return lazily(source, source.dtype)


def storable(data: Voxels) -> NDArray[np.generic]:
    """Voxels as numpy of a type that files know, without loss.

    Raises
    ------
    WriteError
        If there is no such type.
    """
    array = np.asarray(data)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    native = array.dtype.newbyteorder("=")
    if native in _STORABLE:
        return array.astype(native, copy=False)
    raise WriteError(f"Voxels of type {array.dtype} cannot be stored; convert them to a whole-number or float type.")
