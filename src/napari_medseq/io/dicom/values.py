"""Safe getters: an attribute of a header as text, number, moment or item; a broken value is None and never raises."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io.dicom import elements
from napari_medseq.io.dicom.elements import Attributes
from napari_medseq.io.dicom.tags import BLOCKS, PRIVATE, SECRETS, TAGS, creator_of, in_block

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

#: Origin of the seconds of clocks, in the scanner's own time.
EPOCH = datetime(1970, 1, 1)
_SLOW = object()
_TEXTS = frozenset((b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"PN", b"SH", b"TM", b"UI"))
_NUMBERS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}


def _quick(data: bytes, vr: bytes, little: bool) -> Any:
    """Value of a stored element of ASCII text or plain numbers; `_SLOW` for all others."""
    if vr in _TEXTS:
        if not data.isascii() or b"\x1b" in data:
            return _SLOW
        decoded = data.decode("ascii").rstrip(" \0")
        if "\\" in decoded:
            return [part.strip() for part in decoded.split("\\")]
        return decoded.strip() or None
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
def value(ds: Attributes, keyword: str) -> Any:
    """The value of an attribute; None if it is absent, empty or cannot be parsed.

    Plain texts and numbers are read as str or number (or a list of them) directly from the header's bytes, which is
    much faster than pydicom's conversion; all others are converted by pydicom.
    """
    element = TAGS.get(keyword) or SECRETS.get(keyword)
    try:
        content = ds[keyword].value if element is None else _stored(ds, *element)
    except Exception:  # a broken element may raise any error, and counts as absent
        return None
    return None if content is None or (isinstance(content, (str, bytes)) and len(content) == 0) else content


def private(ds: Attributes, name: str) -> list[float]:
    """The finite numbers of a private attribute of `PRIVATE`; [] if it is absent, empty or another maker's."""
    try:
        content = private_value(ds, name)
        parts = content if isinstance(content, Sequence) and not isinstance(content, str) else [content]
        values = [_decimal(part) for part in parts]
    except (TypeError, ValueError):
        return []
    return values if np.isfinite(values).all() else []


def private_value(ds: Attributes, name: str) -> Any:
    """The value of a private attribute of `PRIVATE`, or None."""
    if isinstance(ds, elements.Elements) and not ds.has_private:
        return None
    tag, vr, creator, maker = PRIVATE[name]
    try:
        content = None
        for place in _places(tag):
            content = _stored(ds, place, vr)
            creator_text = str(_stored(ds, creator_of(place), "LO") or "").strip() if content is not None else ""
            nameless = not creator_text and place == tag and text(ds, "Manufacturer").upper().startswith(maker)
            if content is not None and (creator_text.startswith(creator) if creator_text else nameless):
                break
        else:
            return None
        if isinstance(content, bytes):  # an unknown representation, as some archives store private elements
            content = _quick(content, vr.encode(), True)
    except Exception:  # a broken element may raise any error, and counts as absent
        return None
    return None if content is _SLOW else content


@lru_cache(64)
def _places(tag: int) -> tuple[int, ...]:
    """Possible tags of a private attribute: in its usual block first, then in others."""
    return (tag, *(in_block(tag, block) for block in BLOCKS))


def _stored(ds: Attributes, tag: int, vr: str) -> Any:
    """The value of a known element, read quickly if it is plain; None if it is absent."""
    content = _SLOW
    if isinstance(ds, elements.Elements):
        stored = ds.values.get(tag)
        if stored is None:
            return None
        content = _quick(stored[1], _representation(vr, stored[0]), True)
    else:
        from pydicom.dataelem import RawDataElement

        raw: DataElement | RawDataElement | None = ds.get_item(tag)
        if raw is None:
            return None
        if isinstance(raw, RawDataElement):
            if not raw.value:
                return None
            content = _quick(raw.value, _representation(vr, (raw.VR or "UN").encode()), raw.is_little_endian)
    content = ds[tag].value if content is _SLOW else content
    if vr in _LISTED and isinstance(content, str) and "\\" in content:
        return [part.strip() for part in content.split("\\")]
    return content


#: Representations with several texts or numbers; the standard never splits those of other texts.
_LISTED = frozenset(("DS", "IS", "CS", "DA", "TM", "DT", "UI"))
_LONG_TEXTS = frozenset((b"UN", b"UT", b"UC", b"UR", b"LT", b"ST", b"LO", b"SH", b"OB", b"OW"))


def _representation(own_vr: str, stored: bytes) -> bytes:
    """The representation by which a value is split: the stored one, or the dictionary's if the file declares a list of
    numbers as text or bytes."""
    if stored == b"UN" or (own_vr in _LISTED and stored in _LONG_TEXTS):
        return own_vr.encode()
    return stored


def _decimal(value: str | float) -> float:
    """A number as stored; a comma, which some exporters write, counts as the decimal point."""
    try:
        return float(value)
    except ValueError:
        return float(str(value).replace(",", "."))


def text(ds: Attributes, keyword: str) -> str:
    """An attribute as stripped text, "" if absent; it ends at the first control character (a damaged length may have
    read too far)."""
    content = value(ds, keyword)
    return "" if content is None else _CONTROL.split(str(content), maxsplit=1)[0].strip()


def number(ds: Attributes, keyword: str) -> float | None:
    """An attribute (its first value) as a finite float, or None."""
    content = value(ds, keyword)
    try:
        if isinstance(content, Sequence) and not isinstance(content, (str, bytes)):
            content = content[0]
        result = _decimal(content)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return result if np.isfinite(result) else None


def integer(ds: Attributes, keyword: str, default: int = 0) -> int:
    """An attribute as int, or `default`."""
    content = number(ds, keyword)
    return default if content is None else int(content)


def numbers(ds: Attributes, keyword: str, count: int) -> NDArray[np.float64] | None:
    """An attribute as `count` finite floats, or None."""
    content = value(ds, keyword)
    try:
        result = np.array([_decimal(v) for v in content], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return result if result.shape == (count,) and np.isfinite(result).all() else None


def texts(ds: Attributes, keyword: str) -> tuple[str, ...]:
    """A multi-valued attribute as upper-case texts."""
    content = value(ds, keyword)
    if content is None:
        return ()
    parts = [content] if isinstance(content, str) else list(content) if isinstance(content, Sequence) else [content]
    return tuple(_CONTROL.split(str(p), maxsplit=1)[0].strip().upper() for p in parts)


def moment(ds: Attributes, date_keyword: str, time_keyword: str) -> datetime | None:
    """Date and time attributes as one datetime (without zone); midnight if there is no time, None without a date."""
    day, clock = text(ds, date_keyword).replace(".", ""), text(ds, time_keyword).replace(":", "")
    at = _day(day)
    return None if at is None else at + timedelta(seconds=seconds_of(clock) or 0.0)


@lru_cache(64)
def _day(digits: str) -> datetime | None:
    """Midnight of a date written as YYYYMMDD."""
    try:
        return datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


def stamp(ds: Attributes, keyword: str, file: Attributes | None = None) -> datetime | None:
    """A DT attribute as datetime in the local time of its file, as the file's dates and times are; None if absent or broken.

    Parameters
    ----------
    ds : Attributes
    keyword : str
    file : Attributes, optional
        The whole file, where `ds` is an item in it.
    """
    content = text(ds, keyword)
    at = _day(content)
    if at is None:
        return None
    at += timedelta(seconds=seconds_of(re.split("[+-]", content[8:])[0]) or 0.0)
    own, local = _zone(content[8:]), _zone_of(ds if file is None else file)
    return at if own is None or local is None else at - own + local


def _zone_of(file: Attributes) -> timedelta | None:
    """The offset from UTC of a file's dates and times: as it says, else that of the moment of its acquisition."""
    stated = _zone(text(file, "TimezoneOffsetFromUTC"))
    return _zone(text(file, "AcquisitionDateTime")[8:]) if stated is None else stated


def _zone(content: str) -> timedelta | None:
    """The offset from UTC at the end of a time (+0200, -0330), or None."""
    found = re.search(r"([+-])(\d\d)(\d\d)$", content)
    if found is None:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -offset if found[1] == "-" else offset


@lru_cache(256)
def seconds_of(clock: str) -> float | None:
    """Seconds since midnight of a TM value (HHMMSS.ffffff, whose trailing parts are optional)."""
    whole, _, fraction = clock.strip().partition(".")
    try:
        hours, minutes, seconds = int(whole[0:2]), int(whole[2:4] or 0), int(whole[4:6] or 0)
        return hours * 3600 + minutes * 60 + seconds + (float("0." + fraction) if fraction.isdigit() else 0.0)
    except ValueError:
        return None


def first_item(ds: Attributes, keyword: str) -> Dataset | None:
    """The first item of a sequence attribute; None if there is none."""
    content = value(ds, keyword)
    try:
        return content[0] if content is not None and len(content) else None
    except (TypeError, IndexError):
        return None
