"""One DICOM file's header: parsed once, with the place of its pixels in the file; files that are none are declined.

Also the safe getters that every other module of this sub-package reads attributes with: a broken value is None, never a
traceback.
"""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom import elements
from napari_medseq.io.dicom.tags import PRIVATE, TAGS, creator_of
from napari_medseq.io.handles import Source, keep, opened
from napari_medseq.io.notes import hush

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Clocks count seconds from here, in the scanner's own time.
EPOCH = datetime(1970, 1, 1)
_MOST_UNZIPPED = 1 << 31
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(slots=True)
class FileHeader:
    """A parsed header.

    Attributes
    ----------
    path : str
    ds : Elements or pydicom.Dataset
        Everything before the pixels.
    syntax : str
        Transfer syntax UID.
    source : Source
        The file's bytes; in memory where it was gzipped or deflated.
    pixel_keyword : str
        ``"PixelData"``, ``"FloatPixelData"``, ``"DoubleFloatPixelData"`` or "" where there are none.
    pixel_at, pixel_length : int
        Byte offset and length of the pixel value; length -1 where encapsulated.
    fragments : list or None
        Where each compressed frame lies, once it was looked up.
    """

    path: str
    ds: Any
    syntax: str
    source: Source
    pixel_keyword: str = ""
    pixel_at: int = 0
    pixel_length: int = 0
    notes: list[str] = field(default_factory=list)
    fragments: list[list[tuple[int, int]]] | None = None

    @property
    def size(self) -> int:
        """Bytes in the file (unzipped where it was zipped)."""
        return self.source.size

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

    @property
    def complete(self) -> Dataset:
        """The whole header as pydicom's data set."""
        found: Dataset = self.ds.complete() if isinstance(self.ds, elements.Elements) else self.ds
        return found


def parse(path: str | os.PathLike[str]) -> FileHeader:
    """Read the header of one DICOM file.

    Raises
    ------
    ReadError
        If it is empty, no DICOM, or damaged before its pixels.
    """
    path = os.fspath(path)
    try:
        source = opened(path)
        if source.size == 0:
            source.close()
            raise ReadError(f"{path}: the file is empty (zero bytes); copy or export it again.")
        keep(source)
        if source.head[:2] == b"\x1f\x8b":
            source = Source(path, held=_unzipped(source))
        fast = elements.parse(source)
        if fast is not None:
            ds, syntax, at = fast
            header = FileHeader(path, ds, syntax, source)
            _find_pixels(header, at)
        else:
            header = _parsed_by_pydicom(source)
    except ReadError:
        raise
    except OSError as error:
        raise ReadError(
            f"{path}: cannot be read ({error.strerror or error}); check that it is there and allowed."
        ) from error
    except EOFError as error:
        raise ReadError(f"{path}: this is no DICOM file, or it is cut before its pixels.") from error
    except Exception as error:  # a parser fed with mutated bytes raises anything; all of it means the same
        raise ReadError(f"{path}: the DICOM header is damaged ({type(error).__name__}); export it again.") from error
    ds = header.ds
    if len(ds) == 0 or ("SOPClassUID" not in ds and "Rows" not in ds and "DirectoryRecordSequence" not in ds):
        raise ReadError(f"{path}: this is no DICOM file (no SOP class and no image size in it).")
    return header


def _parsed_by_pydicom(source: Source) -> FileHeader:
    """The header of a file in an unusual encoding."""
    import pydicom

    hush()
    stream: Any = source.stream()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds: Any = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    syntax = str(ds.file_meta.get("TransferSyntaxUID", "")) if hasattr(ds, "file_meta") else ""
    if syntax == _DEFLATED:
        source = Source(source.path, held=_inflated(source))
        stream = source.stream()
        ds = _second_part(stream, source.path, ds.file_meta)
    if not syntax:
        implicit, little = ds.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
    header = FileHeader(source.path, ds, syntax, source)
    _find_pixels(header, stream.tell())
    return header


def _unzipped(source: Source) -> bytes:
    import gzip

    path = source.path
    try:
        with source.stream() as stream, gzip.open(stream, "rb") as file:
            data = file.read(_MOST_UNZIPPED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: the gzip stream is damaged or cut short ({error}); copy it again.") from error
    if len(data) > _MOST_UNZIPPED:
        raise ReadError(f"{path}: unzips to more than 2 GiB; unzip it on disk first.")
    return data


def _inflated(source: Source) -> bytes:
    """The data set of a deflated file (PS3.5 A.5), without its group 2."""
    import pydicom

    raw = source.read(0, source.size)
    stream = BytesIO(raw)
    pydicom.filereader.read_preamble(stream, force=True)
    pydicom.filereader._read_file_meta_info(stream)
    try:
        out = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[stream.tell() :], _MOST_UNZIPPED)
    except zlib.error as error:
        raise ReadError(f"{source.path}: the deflated data set is damaged ({error}); export it again.") from error
    return out


def _second_part(stream: Any, path: str, meta: Any) -> Any:
    """The data set that follows the (stored) group 2, explicit little-endian, up to its pixels."""
    import pydicom

    def at_pixels(tag: Any, _vr: Any, _length: Any) -> bool:
        return int(tag) in elements.PIXELS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.filereader.read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=at_pixels)
        return pydicom.dataset.FileDataset(path, ds, file_meta=meta, is_implicit_VR=False, is_little_endian=True)


def _find_pixels(header: FileHeader, at: int) -> None:
    """Read the tag and length at `at`, where the parser stopped."""
    order: Any = "little" if header.little else "big"
    head = header.source.read(at, 12)
    if len(head) < 8:
        return
    tag = int.from_bytes(head[0:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag not in elements.PIXELS:
        return
    header.pixel_keyword = elements.PIXELS[tag]
    implicit = header.syntax == "1.2.840.10008.1.2" or not head[4:6].isalpha()
    if implicit:
        length, start = int.from_bytes(head[4:8], order), 8
    elif head[4:6] in elements.LONG:
        length, start = int.from_bytes(head[8:12], order), 12
    else:
        length, start = int.from_bytes(head[6:8], order), 8
    header.pixel_at = at + start
    header.pixel_length = -1 if length == 0xFFFFFFFF else length


_SLOW = object()
_TEXTS = frozenset((b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"PN", b"SH", b"TM", b"UI"))
_NUMBERS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}


def _quick(data: bytes, vr: bytes, little: bool) -> Any:
    """Value of a stored element of ASCII text or plain numbers; `_SLOW` for all else."""
    if vr in _TEXTS:
        if not data.isascii() or b"\x1b" in data:
            return _SLOW
        said = data.decode("ascii").rstrip(" \0")
        if "\\" in said:
            return [part.strip() for part in said.split("\\")]
        return said.strip() or None
    form = _NUMBERS.get(vr)
    if form is None:
        return _SLOW
    size = struct.calcsize(form)
    if len(data) == size:
        return struct.unpack(("<" if little else ">") + form, data)[0]
    if len(data) % size or not data:
        return _SLOW
    return list(struct.unpack(f"{'<' if little else '>'}{len(data) // size}{form}", data))


_CONTROL = re.compile("[\\0-\\x1f\\x7f]")


# -- safe getters ----------------------------------------------------------------------------------------------------
def value(ds: Any, keyword: str) -> Any:
    """An attribute's value, or None where it is absent, empty or cannot be parsed.

    Plain texts and numbers come as str or number (or a list of them) straight from the header's bytes, which is much
    faster than pydicom's conversion; everything else through pydicom.
    """
    known = TAGS.get(keyword)
    try:
        found = ds[keyword].value if known is None else _stored(ds, *known)
    except Exception:  # a broken element raises anything; to us it is not there
        return None
    return None if found is None or (isinstance(found, (str, bytes)) and len(found) == 0) else found


def private(ds: Any, name: str) -> list[float]:
    """The finite numbers of a private attribute of `PRIVATE`; [] where it is absent, empty or another maker's."""
    try:
        found = private_value(ds, name)
        parts = found if isinstance(found, Sequence) and not isinstance(found, str) else [found]
        values = [_decimal(part) for part in parts]
    except (TypeError, ValueError):
        return []
    return values if np.isfinite(values).all() else []


def private_value(ds: Any, name: str) -> Any:
    """The value of a private attribute of `PRIVATE`, or None."""
    tag, vr, creator, maker = PRIVATE[name]
    try:
        found = _stored(ds, tag, vr)
        if found is None:
            return None
        said = str(_stored(ds, creator_of(tag), "LO") or "").strip()
        if not (said.startswith(creator) if said else text(ds, "Manufacturer").upper().startswith(maker)):
            return None
        if isinstance(found, bytes):  # an unknown representation, as some archives store private elements
            found = _quick(found, vr.encode(), True)
    except Exception:  # a broken element raises anything; to us it is not there
        return None
    return None if found is _SLOW else found


def _stored(ds: Any, tag: int, vr: str) -> Any:
    """The value of a known element, quickly where it is plain; None where there is none."""
    found = _SLOW
    if isinstance(ds, elements.Elements):
        stored = ds.values.get(tag)
        if stored is None:
            return None
        found = _quick(stored[1], vr.encode() if stored[0] == b"UN" else stored[0], True)
    else:
        raw = ds.get_item(tag)
        if raw is None:
            return None
        if getattr(raw, "is_raw", False):
            if not raw.value:
                return None
            known = vr if raw.VR in (None, "UN") else raw.VR
            found = _quick(raw.value, known.encode(), raw.is_little_endian)
    return ds[tag].value if found is _SLOW else found


def _decimal(said: Any) -> float:
    """A number as stored; a comma, which some exporters write, counts as the decimal point."""
    try:
        return float(said)
    except ValueError:
        return float(str(said).replace(",", "."))


def text(ds: Any, keyword: str) -> str:
    """An attribute as stripped text, "" where absent; it ends where control characters begin (a damaged length took in more)."""
    found = value(ds, keyword)
    return "" if found is None else _CONTROL.split(str(found), maxsplit=1)[0].strip()


def number(ds: Any, keyword: str) -> float | None:
    """An attribute (its first value) as a finite float, or None."""
    found = value(ds, keyword)
    try:
        if isinstance(found, Sequence) and not isinstance(found, (str, bytes)):
            found = found[0]
        result = _decimal(found)
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
        result = np.array([_decimal(v) for v in found], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return result if result.shape == (count,) and np.isfinite(result).all() else None


def texts(ds: Any, keyword: str) -> tuple[str, ...]:
    """A multi-valued attribute as upper-case texts."""
    found = value(ds, keyword)
    if found is None:
        return ()
    parts = [found] if isinstance(found, str) else list(found) if isinstance(found, Sequence) else [found]
    return tuple(_CONTROL.split(str(p), maxsplit=1)[0].strip().upper() for p in parts)


def moment(ds: Any, date_keyword: str, time_keyword: str) -> datetime | None:
    """Date and time attributes as one datetime (without zone); midnight where there is no time, None without a date."""
    day, clock = text(ds, date_keyword).replace(".", ""), text(ds, time_keyword).replace(":", "")
    at = _day(day)
    return None if at is None else at + timedelta(seconds=seconds_of(clock) or 0.0)


@lru_cache(64)
def _day(said: str) -> datetime | None:
    """Midnight of a date written as YYYYMMDD."""
    try:
        return datetime(int(said[:4]), int(said[4:6]), int(said[6:8]))
    except ValueError:
        return None


def stamp(ds: Any, keyword: str) -> datetime | None:
    """A DT attribute as datetime, its zone left out; None if absent or broken."""
    found = text(ds, keyword)
    at = _day(found)
    return None if at is None else at + timedelta(seconds=seconds_of(found[8:].split("+")[0].split("-")[0]) or 0.0)


@lru_cache(256)
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
