"""Checks of compressed streams before a native decoder gets them: what they announce is compared with the DICOM
header.

Decoders written in C allocate the size that a stream's own header announces, and some wait for ever for the end of a
truncated stream. `checked` refuses streams that cannot be an image of the announced size, and its result tells whether
the stream is plain, without anything unusual. Other streams are decoded in a helper process with limits
(`napari_medseq.io.dicom.helper`). Sources: ITU-T T.81 annex B (JPEG), ITU-T T.87 annex C (JPEG-LS), ITU-T T.800
annexes A and I (JPEG 2000), PS3.5 annex G (RLE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

_JPEG_SOI, _JP2 = b"\xff\xd8", b"\0\0\0\x0cjP  "
_CODESTREAM = b"\xff\x4f\xff\x51"
#: JPEG frame headers (SOF0 to SOF15 except DHT, JPG and DAC; SOF55 of JPEG-LS).
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
_SOS, _EOI, _LSE, _SOT = 0xDA, 0xD9, 0xF8, 0x90
#: Upper limits of quality layers and wavelet levels that encoders write; each multiplies a decoder's work.
_MOST_LAYERS, _MOST_LEVELS = 128, 12
_MOST_TILES = 4096
_MOST_SEGMENTS = 100_000


@dataclass(frozen=True)
class Announced:
    """The properties that a stream announces.

    Attributes
    ----------
    rows, columns, samples, bits : int
    plain : bool
        Whether all of it is as encoders write it, up to the end.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    plain: bool


def checked(data: bytes, *, rows: int, columns: int, samples: int) -> Announced | None:
    """The properties that a JPEG, JPEG-LS or JPEG 2000 stream announces; None for other streams.

    Raises
    ------
    ValueError
        If it announces another size than the DICOM header, or its structure is damaged.
    """
    if data[:2] == _JPEG_SOI:
        header = _jpeg(data)
    elif data[:4] == _CODESTREAM or data[:8] == _JP2:
        header = _jpeg_2000(codestream(data))
    else:
        return None
    if (header.rows, header.columns) != (rows, columns):
        raise ValueError(
            f"the compressed picture announces {header.columns}×{header.rows} pixels, the DICOM header {columns}×{rows}"
        )
    if header.samples != samples:
        raise ValueError(
            f"the compressed picture announces {header.samples} samples a pixel, the DICOM header {samples}"
        )
    return header


def _jpeg(data: bytes) -> Announced:
    at, frame, plain = 2, None, True
    for _ in range(_MOST_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(data) or data[at] != 0xFF:
            raise ValueError("the compressed picture ends in its header")
        code = data[at + 1]
        at += 2
        if code in _ALONE:
            continue
        if code == _EOI:
            break
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2 or at + length > len(data):
            raise ValueError("a part of the compressed picture's header runs past its end")
        if code in _FRAMES:
            if frame is not None or length < 8:
                raise ValueError("the compressed picture has two headers")
            bits, rows, columns, samples = struct.unpack_from(">BHHB", data, at + 2)
            if not 1 <= bits <= 16 or not rows or not columns or length != 8 + 3 * samples:
                raise ValueError("the compressed picture's header is damaged")
            frame = (rows, columns, samples, bits)
        plain &= code != _LSE or (frame is not None and _plain_presets(data[at + 2 : at + length], frame[3]))
        at += length
        if code == _SOS:
            break
    if frame is None:
        raise ValueError("the compressed picture has no header")
    return Announced(*frame, plain=plain and _ends(data))


def _plain_presets(body: bytes, bits: int) -> bool:
    """Whether the coding parameters of JPEG-LS are in ascending order (T.87, C.2.4.1.1)."""
    if len(body) != 11 or body[0] != 1:
        return False
    top, first, second, third, reset = struct.unpack_from(">5H", body, 1)
    return bool(0 < top < 1 << bits and first <= second <= third <= top and 3 <= reset <= max(255, top))


def _ends(data: bytes) -> bool:
    """Whether a stream ends with its end marker, followed by padding at most."""
    return data.rstrip(b"\0")[-2:] == b"\xff\xd9" or data.rstrip(b"\xff\0")[-1:] == b"\xd9"


def is_boxed(data: bytes) -> bool:
    """Whether a JPEG 2000 codestream is inside the boxes of a file."""
    return data[:8] == _JP2


def codestream(data: bytes) -> bytes:
    """The codestream of a JPEG 2000 file, extracted from its boxes.

    Raises
    ------
    ValueError
        If the boxes do not hold one.
    """
    if data[:4] == _CODESTREAM:
        return data
    at = 0
    for _ in range(64):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if kind == b"jp2c":
            return data[at + head :] if length == 0 else data[at + head : at + length]
        if length < head:
            break
        at += length
    raise ValueError("the boxes of the JPEG 2000 file hold no picture")


def _jpeg_2000(data: bytes) -> Announced:
    if data[:4] != _CODESTREAM:
        raise ValueError("the compressed picture has no header")
    (length, _, width, height, left, top, tile_w, tile_h, tile_x, tile_y, samples) = struct.unpack_from(
        ">HHIIIIIIIIH", data, 4
    )
    if length != 38 + 3 * samples or not samples or 4 + length > len(data):
        raise ValueError("the compressed picture's header is damaged")
    rows, columns = height - top, width - left
    if not 0 < rows < 1 << 20 or not 0 < columns < 1 << 20 or not tile_w or not tile_h:
        raise ValueError("the compressed picture's size cannot be true")
    tiles = -(-(width - tile_x) // tile_w) * -(-(height - tile_y) // tile_h)
    if not 0 < tiles <= _MOST_TILES or tile_x > left or tile_y > top:
        raise ValueError(f"the compressed picture has {tiles:,} tiles")
    depths = [data[42 + 3 * k] for k in range(samples)]
    steps = [data[43 + 3 * k : 45 + 3 * k] for k in range(samples)]
    plain = all(s == b"\1\1" for s in steps) and (left, top) == (0, 0)
    plain &= _plain_main_header(data, 4 + length)
    return Announced(rows, columns, samples, max((d & 0x7F) + 1 for d in depths), plain and _ends(data))


def _plain_main_header(data: bytes, at: int) -> bool:
    """Whether the rest of a codestream's main header, and the lengths of its tile parts, are as encoders write them."""
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return False
        code, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if code == _SOT:
            return _plain_tile_parts(data, at)
        if length < 2 or at + 2 + length > len(data):
            return False
        body = data[at + 4 : at + 2 + length]
        if code == 0x52:  # COD
            layers, levels = int.from_bytes(body[2:4], "big"), body[5] if len(body) > 5 else 255
            blocks = body[6:8] if len(body) > 7 else b"\xff\xff"
            sound = 0 < layers <= _MOST_LAYERS and levels <= _MOST_LEVELS and max(blocks) <= 8 and sum(blocks) <= 8
            if not sound or body[1] > 4 or (body[0] & 1 and any(p & 15 < 4 for p in body[10:])):
                return False
        elif code in (0x53, 0x5F, 0x60, 0x61):  # parts of their own, other progressions, packed headers
            return False
        at += 2 + length
    return False


def _plain_tile_parts(data: bytes, at: int) -> bool:
    for _ in range(_MOST_SEGMENTS):
        if data[at : at + 2] == b"\xff\xd9":
            return True
        if at + 12 > len(data) or data[at : at + 4] != b"\xff\x90\0\x0a":
            return False
        (length,) = struct.unpack_from(">I", data, at + 6)
        if length == 0:  # up to the end
            return True
        if length < 14 or at + length > len(data):
            return False
        at += length
    return False


def check_rle(data: bytes, planes: int) -> None:
    """Compare the offsets of an RLE frame's segments with its length.

    Parameters
    ----------
    data : bytes
    planes : int
        Bytes of a pixel over all samples, which is the number of segments.

    Raises
    ------
    ValueError
        If the number of segments differs from that of the header, or one lies outside.
    """
    if len(data) < 64:
        raise ValueError("the compressed picture is shorter than its header")
    count, *offsets = struct.unpack_from("<16I", data)
    starts = offsets[:count] if count <= 15 else []
    if count != planes or starts[:1] != [64] or any(b <= a for a, b in pairwise(starts)):
        raise ValueError(
            f"the compressed picture has {count:,} parts where {planes} are needed, or they are out of order"
        )
    if starts[-1] >= len(data):
        raise ValueError("a part of the compressed picture begins behind its end")
