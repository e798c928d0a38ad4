"""One DICOM file's header: parsed once, with the place of its pixels in the file; files that are none are declined."""

from __future__ import annotations

import os
import warnings
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom import elements
from napari_medseq.io.handles import Source, keep, opened
from napari_medseq.io.notes import hush

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

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
