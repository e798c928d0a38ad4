"""The bound on the size to which compressed bytes can unpack: a header that announces more is wrong, and no memory is
allocated."""

from __future__ import annotations

#: Bytes that one byte can unpack to at most: Deflate reaches 1032 (RFC 1951: a match of 258 bytes takes 2 bits), and a baseline JPEG
#: needs at least 6 bits, of one block of 64 pixels, per component. A little more is allowed for headers.
_BEST_RATIO = 1100


def cannot_hold(packed: int, unpacked: int, *, harmless: int = 1 << 20) -> bool:
    """Whether `packed` bytes (Deflate, gzip, PNG, TIFF or JPEG) cannot unpack to `unpacked` bytes.

    Parameters
    ----------
    packed, unpacked : int
        Bytes of the file, and bytes that its header promises.
    harmless : int
        A promise of no more bytes than this is never refused.
    """
    return unpacked > max(_BEST_RATIO * max(packed, 0), harmless)
