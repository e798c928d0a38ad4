"""MPEG-2, H.264 and H.265 in DICOM (cine ultrasound, endoscopy), decoded by PyAV if it is installed.

Source: DICOM PS3.5, section 8.2.5 to 8.2.8 (video transfer syntaxes): all frames are one stream in the fragments.
"""

from __future__ import annotations

import io
import threading
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io.dicom.headers import FileHeader
from napari_medseq.io.dicom.values import integer

#: Video transfer syntaxes → their names.
SYNTAXES = {
    "1.2.840.10008.1.2.4.100": "MPEG2 Main Profile / Main Level",
    "1.2.840.10008.1.2.4.100.1": "Fragmentable MPEG2 Main Profile / Main Level",
    "1.2.840.10008.1.2.4.101": "MPEG2 Main Profile / High Level",
    "1.2.840.10008.1.2.4.101.1": "Fragmentable MPEG2 Main Profile / High Level",
    "1.2.840.10008.1.2.4.102": "MPEG-4 AVC/H.264 High Profile / Level 4.1",
    "1.2.840.10008.1.2.4.102.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1",
    "1.2.840.10008.1.2.4.103": "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
    "1.2.840.10008.1.2.4.103.1": "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
    "1.2.840.10008.1.2.4.104": "MPEG-4 AVC/H.264 High Profile / Level 4.2 for 2D video",
    "1.2.840.10008.1.2.4.105": "MPEG-4 AVC/H.264 High Profile / Level 4.2 for 3D video",
    "1.2.840.10008.1.2.4.106": "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
    "1.2.840.10008.1.2.4.107": "HEVC/H.265 Main Profile / Level 5.1",
    "1.2.840.10008.1.2.4.108": "HEVC/H.265 Main 10 Profile / Level 5.1",
}
_MOST_BYTES = 1 << 33
_LOCK = threading.Lock()
#: The video that was decoded last, (path, frames), because its frames are needed one after the other.
_LAST: list[tuple[str, NDArray[np.uint8]]] = []


def frame(file: FileHeader, index: int) -> NDArray[np.uint8]:
    """One RGB frame of a video.

    Raises
    ------
    ReadError
        If PyAV is not installed (the message names the transfer syntax), or the stream is damaged or shorter than announced.
    """
    with _LOCK:  # the stream is decoded once, by the first thread that needs it
        if not _LAST or _LAST[0][0] != file.path:
            _LAST[:] = [(file.path, _decoded(file))]
        frames: NDArray[np.uint8] = _LAST[0][1]
    if index >= len(frames):
        raise ReadError(
            f"{file.path}: the video holds {len(frames)} frames, but frame {index + 1} is announced; export it again."
        )
    picture: NDArray[np.uint8] = frames[index]
    return picture


def _decoded(file: FileHeader) -> NDArray[np.uint8]:
    name = f"{SYNTAXES[file.syntax]} ({file.syntax})"
    try:
        av: Any = import_module("av")
    except ImportError as error:
        raise ReadError(
            f"{file.path}: transfer syntax {name} is video, which needs PyAV; install it with: pip install av"
        ) from error
    rows, columns = integer(file.ds, "Rows"), integer(file.ds, "Columns")
    most = min(max(integer(file.ds, "NumberOfFrames", 1), 1), _MOST_BYTES // max(rows * columns * 3, 1))
    out: list[NDArray[np.uint8]] = []
    try:
        with av.open(io.BytesIO(_stream(file))) as container:
            for picture in container.decode(video=0):
                out.append(picture.to_ndarray(format="rgb24"))
                if len(out) >= most:
                    break
    except Exception as error:  # FFmpeg's errors are of many kinds
        raise ReadError(f"{file.path}: its video in {name} is damaged ({error}); export it again.") from error
    if not out:
        raise ReadError(f"{file.path}: its video in {name} has no pictures in it; export it again.")
    return np.stack(out)


def _stream(file: FileHeader) -> bytes:
    """The concatenated fragments, without the offset table."""
    parts, at = [], file.pixel_at
    while (head := file.source.read(at, 8))[:4] == b"\xfe\xff\x00\xe0" and len(head) == 8:
        length = int.from_bytes(head[4:8], "little")
        if at > file.pixel_at:
            parts.append(file.source.read(at + 8, length))
        at += 8 + length
    return b"".join(parts)
