"""The header of one DICOM file, parsed once, with the position of its pixels; files that are not DICOM are refused."""

from __future__ import annotations

import os
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from napari_medseq.errors import ReadError
from napari_medseq.io.archives import HARMLESS, MOST_GROWTH
from napari_medseq.io.dicom import elements
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.values import integer
from napari_medseq.io.handles import Source, keep, opened
from napari_medseq.io.notes import silence_pydicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.tag import BaseTag

#: A compressed file is unpacked up to the first size to find its pixels, then as far as its header announces; never beyond the second.
_FIRST, _MOST_UNZIPPED = 1 << 25, 1 << 31
_CHUNK = 1 << 18
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
        The file's bytes; in memory if it was gzipped or deflated.
    pixel_keyword : str
        ``"PixelData"``, ``"FloatPixelData"``, ``"DoubleFloatPixelData"`` or "" where there are none.
    pixel_at, pixel_length : int
        Byte offset and length of the pixel value; the length is -1 if encapsulated.
    pixel_vr : str
        ``"OB"`` (bytes) or ``"OW"`` (words, whose bytes are swapped in a big-endian file) where the file states it, else "".
    fragments : list or None
        Position of each compressed frame, once it was looked up.
    """

    path: str
    ds: Attributes
    syntax: str
    source: Source
    pixel_keyword: str = ""
    pixel_at: int = 0
    pixel_length: int = 0
    notes: list[str] = field(default_factory=list)
    fragments: list[list[tuple[int, int]]] | None = None
    pixel_vr: str = ""

    @property
    def size(self) -> int:
        """Size of the file in bytes, after unpacking."""
        return self.source.size

    @property
    def little(self) -> bool:
        """Whether stored pixels are little-endian."""
        return self.syntax != "1.2.840.10008.1.2.2"

    @property
    def encapsulated(self) -> bool:
        """Whether pixels are compressed, in fragments."""
        return self.pixel_length == -1

    @property
    def name(self) -> str:
        """File name for messages."""
        return Path(self.path).name

    @property
    def complete(self) -> Dataset:
        """The whole header as pydicom's data set."""
        return self.ds.complete() if isinstance(self.ds, elements.Elements) else self.ds


def parse(path: str | os.PathLike[str]) -> FileHeader:
    """Read the header of one DICOM file.

    Raises
    ------
    ReadError
        If it is empty, not DICOM, or damaged before its pixels.
    """
    path = os.fspath(path)
    try:
        source = opened(path)
        if source.size == 0:
            source.close()
            raise ReadError(f"{path}: the file is empty (zero bytes); copy or export it again.")
        keep(source)
        packed = _packed(source)
        if packed is not None:
            source = Source(path, data=packed.up_to(_FIRST))
        fast = elements.parse(source)
        if fast is not None:
            plain, syntax, at = fast
            header = FileHeader(path, plain, syntax, source)
            _find_pixels(header, at)
        else:
            header = _parsed_by_pydicom(source, deflated=packed is not None and packed.deflated)
        if packed is not None and header.pixel_keyword:
            header.source = Source(path, data=packed.up_to(_needed(header)))
    except ReadError:
        raise
    except OSError as error:
        raise ReadError(
            f"{path}: cannot be read ({error.strerror or error}); check that it is there and allowed."
        ) from error
    except EOFError as error:
        raise ReadError(f"{path}: this is not a DICOM file, or it is cut before its pixels.") from error
    except Exception as error:  # for damaged bytes a parser may raise any error; all of them mean the same
        raise ReadError(f"{path}: the DICOM header is damaged ({type(error).__name__}); export it again.") from error
    ds = header.ds
    if len(ds) == 0 or ("SOPClassUID" not in ds and "Rows" not in ds and "DirectoryRecordSequence" not in ds):
        raise ReadError(f"{path}: this is not a DICOM file (no SOP class and no image size in it).")
    return header


def _packed(source: Source) -> Packed | None:
    """The compressed bytes of a gzipped file or of a deflated data set; None if nothing is compressed."""
    if source.head[:2] == b"\x1f\x8b":
        return Packed(source, 0, b"", zlib.MAX_WBITS | 16)
    preamble = elements.group_2(source.head)
    if preamble is None or preamble[0] != _DEFLATED:
        return None
    return Packed(source, preamble[1], source.read(0, preamble[1]), -zlib.MAX_WBITS)


def _needed(header: FileHeader) -> int:
    """Number of bytes up to the end of the pixels that the header announces; for compressed pixels the largest
    possible number."""
    if header.encapsulated:
        return _MOST_UNZIPPED
    ds = header.ds
    samples = integer(ds, "Rows") * integer(ds, "Columns") * max(integer(ds, "SamplesPerPixel", 1), 1)
    bits = integer(ds, "BitsAllocated", 16) if header.pixel_keyword == "PixelData" else 64
    return header.pixel_at + (samples * max(integer(ds, "NumberOfFrames", 1), 1) * bits + 7) // 8


def _parsed_by_pydicom(source: Source, *, deflated: bool) -> FileHeader:
    """The header of a file in an unusual encoding; a deflated one has been unpacked already."""
    import pydicom

    silence_pydicom()
    stream = source.stream()
    if deflated:  # pydicom would unpack it again as a whole
        pydicom.filereader.read_preamble(stream, force=True)
        meta = pydicom.filereader._read_file_meta_info(stream)
        ds, syntax = _second_part(stream, source.path, meta), _DEFLATED
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        syntax = str(ds.file_meta.get("TransferSyntaxUID", "")) if hasattr(ds, "file_meta") else ""
    if not syntax:
        implicit, little = ds.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
    header = FileHeader(source.path, ds, syntax, source)
    _find_pixels(header, stream.tell())
    return header


class Packed:
    """A gzipped file, or the deflated data set of a file (PS3.5, A.5), unpacked only as far as needed.

    Parameters
    ----------
    source : Source
    start : int
        Offset of the compressed bytes.
    before : bytes
        The bytes before them, which stay as they are.
    bits : int
        zlib's ``wbits``.
    """

    def __init__(self, source: Source, start: int, before: bytes, bits: int) -> None:
        self.deflated = bits < 0
        self._source, self._at, self._bits = source, start, bits
        self._stream = zlib.decompressobj(bits)
        self._waiting = b""
        self._out = bytearray(before)

    def up_to(self, count: int) -> bytes:
        """The first `count` bytes; fewer if there are not that many.

        Raises
        ------
        ReadError
            If they are damaged, or far more than a file of this size can hold.
        """
        most = min(max(HARMLESS, MOST_GROWTH * self._source.size), _MOST_UNZIPPED)
        name = self._source.path
        if count > most and count != _MOST_UNZIPPED:
            raise ReadError(
                f"{name}: its header promises {count:,} bytes of pixels, which its {self._source.size:,} packed bytes "
                "cannot hold; export it again."
            )
        try:
            while len(self._out) < count and self._more():
                if len(self._out) > most:
                    raise ReadError(f"{name}: it unpacks to more than {most:,} bytes; unpack it on disk first.")
        except zlib.error as error:
            source_kind = "deflated data set" if self.deflated else "gzip stream"
            raise ReadError(f"{name}: the {source_kind} is damaged ({error}); export it again.") from error
        return bytes(self._out)

    def _more(self) -> bool:
        """Unpack a further block; return False at the end."""
        if self._stream.eof:
            following = self._stream.unused_data
            if self.deflated or not following.startswith(b"\x1f\x8b"):
                return False
            self._stream, self._waiting = zlib.decompressobj(self._bits), following
        if not self._waiting:
            self._waiting = self._source.read(self._at, _CHUNK)
            self._at += len(self._waiting)
            if not self._waiting:
                if self.deflated or self._stream.eof:
                    return False
                raise ReadError(f"{self._source.path}: the gzip stream is damaged or cut short; copy it again.")
        self._out += self._stream.decompress(self._waiting, _CHUNK)
        self._waiting = self._stream.unconsumed_tail
        return True


def _second_part(stream: BinaryIO, path: str, meta: FileMetaDataset) -> Dataset:
    """The data set that follows the (stored) group 2, explicit little-endian, up to its pixels."""
    import pydicom

    def at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return int(tag) in elements.PIXELS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.filereader.read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=at_pixels)
        return pydicom.dataset.FileDataset(path, ds, file_meta=meta, is_implicit_VR=False, is_little_endian=True)


def _find_pixels(header: FileHeader, at: int) -> None:
    """Read the tag and length at `at`, where the parser stopped."""
    order: Literal["little", "big"] = "little" if header.little else "big"
    head = header.source.read(at, 12)
    if len(head) < 8:
        return
    tag = int.from_bytes(head[0:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag not in elements.PIXELS:
        return
    header.pixel_keyword = elements.PIXELS[tag]
    implicit = header.syntax == "1.2.840.10008.1.2" or not head[4:6].isalpha()
    header.pixel_vr = "" if implicit else head[4:6].decode("ascii")
    if implicit:
        length, start = int.from_bytes(head[4:8], order), 8
    elif head[4:6] in elements.LONG:
        length, start = int.from_bytes(head[8:12], order), 12
    else:
        length, start = int.from_bytes(head[6:8], order), 8
    header.pixel_at = at + start
    header.pixel_length = -1 if length == 0xFFFFFFFF else length
