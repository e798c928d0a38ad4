"""Reading a slice's header in a few microseconds: the attributes that this package uses, directly from the bytes and
without pydicom.

Only plain little-endian files with a preamble are parsed here. For anything unusual (another encoding, a value that
runs past the end, an unknown representation) the result is None, and pydicom parses the file. Sequences and private
elements are read by pydicom when they are needed. Source: DICOM PS3.5, section 7 (data set encoding), PS3.10, section
7.1 (group 2).
"""

from __future__ import annotations

import struct
import warnings
from typing import TYPE_CHECKING, TypeAlias

from napari_medseq.io.dicom.tags import BLOCKS, PRIVATE, SECRETS, TAGS, creator_of, in_block
from napari_medseq.io.handles import Source
from napari_medseq.io.notes import silence_pydicom

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

PIXELS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset((b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
                    b"SS", b"ST", b"TM", b"UI", b"UL", b"US"))  # fmt: skip
_VR_OF = {
    **{tag: vr.encode() for tag, vr in (*TAGS.values(), *SECRETS.values())},
    **{in_block(tag, block): vr.encode() for tag, vr, _, _ in PRIVATE.values() for block in BLOCKS},
    **{creator_of(in_block(tag, block)): b"LO" for tag, _, _, _ in PRIVATE.values() for block in BLOCKS},
}
_IMPLICIT, _DEFLATED, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED, _DEEPEST, _MOST_HEADER = 0xFFFFFFFF, 32, 1 << 26
_explicit, _implicit = struct.Struct("<HH2sH").unpack_from, struct.Struct("<HHI").unpack_from


class _MoreNeededError(Exception):
    """The header extends beyond the bytes that were read."""


class _OddError(Exception):
    """The data set is not plain."""


class Elements:
    """The attributes of `TAGS` and `PRIVATE` that precede the pixels, as stored; all others are read by pydicom."""

    __slots__ = ("_complete", "_source", "has_private", "values")

    def __init__(self, source: Source, values: dict[int, tuple[bytes, bytes]]) -> None:
        self.values = values
        self.has_private = any(tag & 0x10000 for tag in values)
        self._source = source
        self._complete: Dataset | None = None

    def complete(self) -> Dataset:
        """The whole header as pydicom's data set, read again from the file."""
        if self._complete is None:
            import pydicom

            silence_pydicom()
            with warnings.catch_warnings(), self._source.stream() as stream:
                warnings.simplefilter("ignore")
                self._complete = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        return self._complete

    def __contains__(self, key: str | int | tuple[int, int]) -> bool:
        element = TAGS.get(key) if isinstance(key, str) else None
        return element[0] in self.values if element is not None else key in self.complete()

    def __getitem__(self, key: str | int | tuple[int, int]) -> DataElement:
        return self.complete()[key]

    def __len__(self) -> int:
        return len(self.values)


#: The input of the getters of `values`: a file's plain attributes, or a data set of pydicom (of a file or an item).
Attributes: TypeAlias = "Elements | Dataset"


def parse(source: Source) -> tuple[Elements, str, int] | None:
    """Parse the header of a plain file.

    Returns
    -------
    (elements, transfer syntax, offset of the pixel element or of the file's end), or None for pydicom to try
    """
    raw = source.head
    if raw[128:132] != b"DICM":
        return None
    while True:
        try:
            return _parsed(source, raw)
        except _MoreNeededError:
            if len(raw) >= min(source.size, _MOST_HEADER):
                return None
            raw = source.read(0, len(raw) * 4)
        except _OddError:
            return None


def group_2(raw: bytes) -> tuple[str, int] | None:
    """Transfer syntax and offset of what follows group 2 of a file with a preamble; None if there is no preamble."""
    try:
        return _after_group_2(raw) if raw[128:132] == b"DICM" else None
    except (_OddError, _MoreNeededError):
        return None


def _after_group_2(raw: bytes) -> tuple[str, int]:
    at, end, syntax = 132, len(raw), ""
    while True:  # group 2 is always explicit
        if at + 8 > end:
            raise _MoreNeededError
        group, element, vr, length = _explicit(raw, at)
        if group != 2:
            return syntax, at
        start = at + 8
        if vr in LONG:
            (length,) = struct.unpack_from("<I", raw, at + 8) if at + 12 <= end else (0,)
            start += 4
        elif vr not in _SHORT:
            raise _OddError
        at = start + length
        if at > end:
            raise _MoreNeededError
        if element == 0x0010:
            syntax = raw[start:at].rstrip(b" \0").decode("ascii", "replace")


def _parsed(source: Source, raw: bytes) -> tuple[Elements, str, int] | None:
    syntax, at = _after_group_2(raw)
    if not syntax.startswith(_IMPLICIT) or syntax in (_DEFLATED, _BIG):
        return None
    values: dict[int, tuple[bytes, bytes]] = {}
    at = _walk(raw, at, source.size, syntax == _IMPLICIT, values)
    return Elements(source, values), syntax, at


def _walk(raw: bytes, at: int, size: int, implicit: bool, values: dict[int, tuple[bytes, bytes]]) -> int:
    """Record the values of known elements from offset `at` on, and return the offset of the pixels or of the file's
    end."""
    end, before = len(raw), 0
    wanted, undefined = _VR_OF, _UNDEFINED
    while at < size:
        if at + 12 > end:
            if end < size:
                raise _MoreNeededError
            if size - at >= 8:
                raise _OddError
            break  # a few padding bytes after the last element
        tag, vr, length, start = _head(raw, at, implicit)
        if tag in PIXELS:
            return at
        if tag <= before:
            raise _OddError
        before = tag
        if length == undefined:
            at = _after(raw, start, implicit or vr == b"UN", 0)
            if tag in wanted:
                values[tag] = b"SQ", b""
            continue
        at = start + length
        if at > end:
            if at > size:
                raise _OddError
            raise _MoreNeededError
        if tag in wanted:
            values[tag] = vr or wanted[tag], raw[start:at]
    return at


def _after(raw: bytes, at: int, implicit: bool, depth: int) -> int:
    """Offset after a sequence of undefined length whose first item begins at `at`."""
    if depth > _DEEPEST:
        raise _OddError
    while True:
        tag, length = _item(raw, at)
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _OddError
        if length != _UNDEFINED:
            at += length
            continue
        while True:
            if at + 12 > len(raw):
                raise _MoreNeededError
            group, element = struct.unpack_from("<HH", raw, at)
            if group << 16 | element == _ITEM_END:
                at += 8
                break
            _, vr, length, start = _head(raw, at, implicit)
            at = _after(raw, start, implicit or vr == b"UN", depth + 1) if length == _UNDEFINED else start + length


def _head(raw: bytes, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, representation (empty if implicit), length and start of the value of the element at `at`."""
    if implicit:
        group, element, length = _implicit(raw, at)
        return group << 16 | element, b"", length, at + 8
    group, element, vr, length = _explicit(raw, at)
    start = at + 8
    if vr in LONG:
        (length,) = struct.unpack_from("<I", raw, start)
        start += 4
    elif vr not in _SHORT:
        raise _OddError
    return group << 16 | element, vr, length, start


def _item(raw: bytes, at: int) -> tuple[int, int]:
    if at + 8 > len(raw):
        raise _MoreNeededError
    group, element, length = _implicit(raw, at)
    return group << 16 | element, length
