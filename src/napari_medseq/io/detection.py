"""The format of a file, detected from its first bytes and never from its name alone, in well under 5 ms.

The answer is one word per format module, or None for a format that is not supported.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from napari_medseq.io.handles import keep, opened

#: DICOM value representations, as they stand in an explicit-VR header.
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_HEAD = 1024
_PLAIN = {
    b"\x89PNG\r\n\x1a\n": "picture", b"\xff\xd8\xff": "picture", b"BM": "picture",
    b"GIF87a": "picture", b"GIF89a": "picture",
    b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff",
}  # fmt: skip


def detect(path: str | os.PathLike[str]) -> str | None:
    """Detect a file's format by its magic bytes.

    Parameters
    ----------
    path : path-like
        A file. A folder is answered with ``"folder"``.

    Returns
    -------
    str or None
        ``"nifti"``, ``"dicom"``, ``"nrrd"``, ``"metaimage"``, ``"mgh"``, ``"picture"``, ``"tiff"``, ``"video"``,
        ``"archive"``,
        ``"folder"``, or None when the file is not ours, is empty or cannot be read.
    """
    name = os.fspath(path)
    try:
        source = opened(name)
    except IsADirectoryError:
        return "folder"
    except OSError:
        return None
    kind = _kind_of(source.head, name.lower())
    if kind == "dicom":
        keep(source)
    else:
        source.close()
    return kind


def _kind_of(head: bytes, lower: str) -> str | None:
    if _is_archive(head, lower):
        return "archive"
    if head[:2] == b"\x1f\x8b":
        head = _gunzip_head(head[:_HEAD])
        if lower.endswith((".mgz", ".mgh.gz")) and head[:4] == b"\0\0\0\x01":
            return "mgh"
        return _kind(head, lower.removesuffix(".gz"), compressed=True)
    return _kind(head[:_HEAD], lower, compressed=False)


def _is_archive(head: bytes, lower: str) -> bool:
    """Whether a file is a ZIP or tar whose name does not name another format (many formats are ZIP inside)."""
    suffix = Path(lower).suffix
    if head[:4] == b"PK\x03\x04" and any(head[26:28]):  # a local header with a name
        return suffix in ("", ".zip")
    if head[:2] == b"\x1f\x8b" and lower.endswith((".tgz", ".tar.gz", ".gz")):
        return lower.endswith((".tgz", ".tar.gz")) or _gunzip_head(head[:_HEAD])[257:262] == b"ustar"
    if head[:3] == b"BZh" or head[:6] == b"\xfd7zXZ\0":
        return lower.endswith((".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz"))
    return head[257:262] == b"ustar" or (suffix == ".tar" and len(head) >= 512 and _old_tar(head[:512]))


def _old_tar(block: bytes) -> bool:
    """Whether a block is the header of a tar from before POSIX: its checksum tells."""
    try:
        checksum = int(block[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return checksum == sum(block[:148]) + 8 * 32 + sum(block[156:])


def _gunzip_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except zlib.error:
        return b""


def _kind(head: bytes, lower: str, *, compressed: bool) -> str | None:
    if len(head) < 4:
        return None
    if _is_nifti(head, lower):
        return "nifti"
    if head[128:132] == b"DICM" or looks_like_bare_dicom(head):
        return "dicom"
    if head[:7] == b"NRRD000":
        return "nrrd"
    if compressed:
        return None
    if lower.endswith(".img") and Path(lower).suffix == ".img":
        return "nifti"
    if lower.endswith((".mha", ".mhd")) and b"=" in head[:256]:
        return "metaimage"
    if lower.endswith(".mgh") and head[:4] == b"\0\0\0\x01":
        return "mgh"
    for magic, kind in _PLAIN.items():
        if head.startswith(magic) and (magic != b"BM" or lower.endswith(".bmp")):
            return kind
    if head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "video"
    return None


def _is_nifti(head: bytes, lower: str) -> bool:
    """Whether a file begins with the size of a NIfTI-1 or NIfTI-2 header, in either order of bytes, and has its magic or its name."""
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        return head[344:348] in (b"n+1\0", b"ni1\0") or lower.endswith((".hdr", ".nii"))
    return head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") and head[4:8] in (b"n+2\0", b"ni2\0")


def looks_like_bare_dicom(head: bytes) -> bool:
    """Whether bytes could be a DICOM data set without the 128-byte preamble: a plausible first element of group 2 or 8."""
    if len(head) < 16:
        return False
    for order in ("little", "big"):
        group = int.from_bytes(head[0:2], order)
        element = int.from_bytes(head[2:4], order)
        if group not in (2, 8) or element > 0x0110:
            continue
        if head[4:6] in _VRS:
            return True
        length = int.from_bytes(head[4:8], order)
        follows = int.from_bytes(head[8 + length : 10 + length], order) if length < 256 else -1
        if order == "little" and length % 2 == 0 and follows in (2, 8):
            return True
    return False
