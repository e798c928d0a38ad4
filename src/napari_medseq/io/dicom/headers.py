"""One DICOM file's header: parsed once, with the place of its pixels in the file; files that are none are declined.

Also the safe getters that every other module of this sub-package reads attributes with: a broken value is None, never a
traceback.
"""

from __future__ import annotations

import gzip
import io
import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MOST_UNZIPPED = 1 << 31
_LONG = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXELS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}


@dataclass(slots=True)
class FileHeader:
    """A parsed header.

    Attributes
    ----------
    path : str
    ds : pydicom.Dataset
        Everything before the pixels.
    syntax : str
        Transfer syntax UID.
    pixel_keyword : str
        ``"PixelData"``, ``"FloatPixelData"``, ``"DoubleFloatPixelData"`` or "" where there are none.
    pixel_at, pixel_length : int
        Byte offset and length of the pixel value; length -1 where encapsulated.
    size : int
        Bytes in the file (unzipped where it was zipped).
    held : bytes or None
        The unzipped bytes of a gzipped or deflated file, whose offsets cannot be sought on disk.
    fragments : list or None
        Where each compressed frame lies, once it was looked up.
    """

    path: str
    ds: Dataset
    syntax: str
    pixel_keyword: str = ""
    pixel_at: int = 0
    pixel_length: int = 0
    size: int = 0
    held: bytes | None = None
    notes: list[str] = field(default_factory=list)
    fragments: list[list[tuple[int, int]]] | None = None

    @property
    def little(self) -> bool:
        """Whether stored pixels are little-endian."""
        return self.syntax != "1.2.840.10008.1.2.2"

    @property
    def encapsulated(self) -> bool:
        """Whether pixels are compressed into fragments."""
        return self.pixel_length == -1

    @property
    def name(self) -> str:
        """File name for messages."""
        return Path(self.path).name


def parse(path: str | os.PathLike[str]) -> FileHeader:
    """Read the header of one DICOM file.

    Raises
    ------
    ReadError
        If it is empty, no DICOM, or damaged before its pixels.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    path = os.fspath(path)
    held: bytes | None = None
    try:
        size = os.path.getsize(path)
        if size == 0:
            raise ReadError(f"{path}: the file is empty (zero bytes); copy or export it again.")
        with open(path, "rb") as file:
            stream: Any = file
            if file.read(2) == b"\x1f\x8b":
                held = _unzipped(path)
                stream, size = io.BytesIO(held), len(held)
            stream.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            syntax = str(ds.file_meta.get("TransferSyntaxUID", "")) if hasattr(ds, "file_meta") else ""
            if syntax == _DEFLATED:
                held = _inflated(path, held)
                stream, size = io.BytesIO(held), len(held)
                ds = _second_part(stream, path, ds.file_meta)
            at = stream.tell()
            if not syntax:
                implicit, little = ds.original_encoding
                syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
            header = FileHeader(path, ds, syntax, size=size, held=held)
            _find_pixels(header, stream, at)
    except ReadError:
        raise
    except OSError as error:
        raise ReadError(
            f"{path}: cannot be read ({error.strerror or error}); check that it is there and allowed."
        ) from error
    except (InvalidDicomError, EOFError) as error:
        raise ReadError(f"{path}: this is no DICOM file, or it is cut before its pixels ({error}).") from error
    except Exception as error:  # a parser fed with mutated bytes raises anything; all of it means the same
        raise ReadError(
            f"{path}: the DICOM header is damaged ({type(error).__name__}: {error}); export it again."
        ) from error
    if len(ds) == 0 or ("SOPClassUID" not in ds and "Rows" not in ds and "DirectoryRecordSequence" not in ds):
        raise ReadError(f"{path}: this is no DICOM file (no SOP class and no image size in it).")
    return header


def _unzipped(path: str) -> bytes:
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(_MOST_UNZIPPED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: the gzip stream is damaged or cut short ({error}); copy it again.") from error
    if len(data) > _MOST_UNZIPPED:
        raise ReadError(f"{path}: unzips to more than 2 GiB; unzip it on disk first.")
    return data


def _inflated(path: str, held: bytes | None) -> bytes:
    """The data set of a deflated file (PS3.5 A.5), without its group 2."""
    import pydicom

    raw = held if held is not None else Path(path).read_bytes()
    stream = io.BytesIO(raw)
    pydicom.filereader.read_preamble(stream, force=True)
    pydicom.filereader._read_file_meta_info(stream)
    try:
        out = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[stream.tell() :], _MOST_UNZIPPED)
    except zlib.error as error:
        raise ReadError(f"{path}: the deflated data set is damaged ({error}); export it again.") from error
    return out


def _second_part(stream: Any, path: str, meta: Any) -> Any:
    """The data set that follows the (stored) group 2, explicit little-endian, up to its pixels."""
    import pydicom

    def at_pixels(tag: Any, _vr: Any, _length: Any) -> bool:
        return int(tag) in _PIXELS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.filereader.read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=at_pixels)
        return pydicom.dataset.FileDataset(path, ds, file_meta=meta, is_implicit_VR=False, is_little_endian=True)


def _find_pixels(header: FileHeader, stream: Any, at: int) -> None:
    """Read the tag and length at `at`, where the parser stopped."""
    order: Any = "little" if header.little else "big"
    stream.seek(at)
    head = stream.read(12)
    if len(head) < 8:
        return
    tag = int.from_bytes(head[0:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag not in _PIXELS:
        return
    header.pixel_keyword = _PIXELS[tag]
    implicit = header.syntax == "1.2.840.10008.1.2" or not head[4:6].isalpha()
    if implicit:
        length, start = int.from_bytes(head[4:8], order), 8
    elif head[4:6].decode("ascii", "replace") in _LONG:
        length, start = int.from_bytes(head[8:12], order), 12
    else:
        length, start = int.from_bytes(head[6:8], order), 8
    header.pixel_at = at + start
    header.pixel_length = -1 if length == 0xFFFFFFFF else length


_SLOW = object()
_TEXTS = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"))


@lru_cache(maxsize=512)
def _tag(keyword: str) -> Any:
    from pydicom.tag import Tag

    return Tag(keyword)


@lru_cache(maxsize=512)
def _usual_vr(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(tag)


def _quick(raw: Any, tag: int) -> Any:
    """Value of an unparsed element of ASCII text or a single 16-bit number; `_SLOW` for all else."""
    data = raw.value
    if not data:
        return None
    vr = raw.VR if raw.VR not in (None, "UN") else _usual_vr(tag)
    if vr in _TEXTS and data.isascii() and b"\x1b" not in data:
        said = data.decode("ascii").rstrip(" \0")
        if "\\" in said:
            return [part.strip() for part in said.split("\\")]
        return said.strip() or None
    if vr == "US" and len(data) == 2:
        return int.from_bytes(data, "little" if raw.is_little_endian else "big")
    return _SLOW


# -- safe getters ----------------------------------------------------------------------------------------------------
def value(ds: Any, keyword: str) -> Any:
    """An attribute's value, or None where it is absent, empty or cannot be parsed.

    Plain texts and numbers come as str (or a list of str) straight from the header's bytes, which is much faster than
    pydicom's conversion; everything else through pydicom.
    """
    try:
        tag = _tag(keyword)
        raw = ds.get_item(tag)
        if raw is None:
            return None
        if getattr(raw, "is_raw", False):
            quick = _quick(raw, tag)
            if quick is not _SLOW:
                return quick
        found = ds[tag].value
    except Exception:  # a broken element raises anything; to us it is not there
        return None
    return None if found is None or (isinstance(found, (str, bytes)) and len(found) == 0) else found


def text(ds: Any, keyword: str) -> str:
    """An attribute as stripped text, "" where absent."""
    found = value(ds, keyword)
    return "" if found is None else str(found).strip().strip("\0")


def number(ds: Any, keyword: str) -> float | None:
    """An attribute (its first value) as a finite float, or None."""
    found = value(ds, keyword)
    try:
        if isinstance(found, Sequence) and not isinstance(found, (str, bytes)):
            found = found[0]
        result = float(found)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return result if np.isfinite(result) else None


def integer(ds: Any, keyword: str, default: int = 0) -> int:
    """An attribute as int, or `default`."""
    found = number(ds, keyword)
    return default if found is None else int(found)


def numbers(ds: Any, keyword: str, count: int) -> NDArray[np.float64] | None:
    """An attribute as `count` finite floats, or None."""
    found = value(ds, keyword)
    try:
        result = np.array([float(v) for v in found], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return result if result.shape == (count,) and np.isfinite(result).all() else None


def texts(ds: Any, keyword: str) -> tuple[str, ...]:
    """A multi-valued attribute as upper-case texts."""
    found = value(ds, keyword)
    if found is None:
        return ()
    parts = [found] if isinstance(found, str) else list(found) if isinstance(found, Sequence) else [found]
    return tuple(str(p).strip().upper() for p in parts)


def moment(ds: Any, date_keyword: str, time_keyword: str) -> datetime | None:
    """Date and time attributes as one datetime (without zone); midnight where there is no time, None without a date."""
    day, clock = text(ds, date_keyword).replace(".", ""), text(ds, time_keyword).replace(":", "")
    try:
        at = datetime.strptime(day[:8], "%Y%m%d")
    except ValueError:
        return None
    return at + timedelta(seconds=seconds_of(clock) or 0.0)


def stamp(ds: Any, keyword: str) -> datetime | None:
    """A DT attribute as datetime, its zone left out; None if absent or broken."""
    found = text(ds, keyword)
    try:
        at = datetime.strptime(found[:8], "%Y%m%d")
    except ValueError:
        return None
    return at + timedelta(seconds=seconds_of(found[8:].split("+")[0].split("-")[0]) or 0.0)


def seconds_of(clock: str) -> float | None:
    """Seconds since midnight of a TM value (HHMMSS.ffffff, trailing parts optional)."""
    whole, _, fraction = clock.strip().partition(".")
    try:
        hours, minutes, seconds = int(whole[0:2]), int(whole[2:4] or 0), int(whole[4:6] or 0)
        return hours * 3600 + minutes * 60 + seconds + (float("0." + fraction) if fraction.isdigit() else 0.0)
    except ValueError:
        return None


def first_item(ds: Any, keyword: str) -> Any:
    """The first item of a sequence attribute, or None."""
    found = value(ds, keyword)
    try:
        return found[0] if found is not None and len(found) else None
    except (TypeError, IndexError):
        return None
