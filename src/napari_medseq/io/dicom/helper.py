"""Decoding in a separate process with limits of time and memory, for streams on which a native decoder may never
return.

One helper serves all threads of this process. It is started when first needed, killed when it takes too long, and
started again for the next stream. The reason is that CharLS and OpenJPEG, when fuzzed with truncated streams, may loop
for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError

if TYPE_CHECKING:
    from napari_medseq.io.dicom.codecs import Request

#: Seconds allowed for a stream, and for each million pixels; halved with each successive stream that ran out of time.
_PATIENCE, _PER_MEGAPIXEL, _LEAST = 3.0, 0.25, 0.25
_START = 60.0
#: Bytes that the helper may map: libraries take about 1 GiB of addresses, and decoders a few copies of a picture.
_MEMORY, _COPIES = 3 << 30, 16
_LENGTH = 8


class _LateError(Exception):
    """The helper did not answer in time."""


class _GoneError(Exception):
    """The helper process ended."""


class Helper:
    """The helper process and its pipes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0

    def decode(self, where: str, request: Request, pixels: int) -> NDArray[np.generic]:
        """Decode one frame in the helper process.

        Parameters
        ----------
        where : str
            Name of the file, for messages.
        request : dict
            The argument of `codecs.decode_request`.
        pixels : int
            Number of samples of the frame.

        Raises
        ------
        ReadError
            If it cannot be decoded, takes too long, or kills the helper.
        """
        limit = (_PATIENCE + _PER_MEGAPIXEL * pixels / 1e6) * 0.5**self._failures
        with self._lock:
            try:
                answer = self._asked(pickle.dumps(request), max(limit, _LEAST))
            except _LateError:
                self._failures += 1
                self.stop()
                raise ReadError(
                    f"{where}: its pixels are damaged (decoding did not come to an end); copy or export it again."
                ) from None
            except (OSError, _GoneError, pickle.UnpicklingError, ValueError) as error:
                self.stop()
                raise ReadError(
                    f"{where}: its pixels are damaged (they kill the decoder); copy or export it again."
                ) from error
        if isinstance(answer, str):
            raise ReadError(f"{where}: {answer}")
        self._failures = 0
        return answer

    def _asked(self, request: bytes, limit: float) -> NDArray[np.generic] | str:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(len(request).to_bytes(_LENGTH, "little") + request)
        process.stdin.flush()
        end = time.monotonic() + limit
        size = int.from_bytes(_read(process.stdout, _LENGTH, end), "little")
        kind, dtype, shape, data = pickle.loads(_read(process.stdout, size, end + _START))
        return str(data, "utf-8") if kind == "error" else np.frombuffer(bytearray(data), dtype).reshape(shape)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            code = f"import sys; sys.path[:] = {sys.path!r}; from napari_medseq.io.dicom.helper import serve; serve()"
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert self._process.stdout is not None
            if _read(self._process.stdout, 5, time.monotonic() + _START) != b"ready":
                raise _GoneError
        return self._process

    def stop(self) -> None:
        """Kill the helper, if it is running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _read(pipe: IO[bytes], count: int, end: float) -> bytes:
    """Read so many bytes from a pipe before a point in time.

    Raises
    ------
    _LateError, _GoneError
    """
    out = bytearray()
    number = pipe.fileno()
    while len(out) < count:
        remaining = end - time.monotonic()
        if remaining <= 0 or not select.select([number], [], [], remaining)[0]:
            raise _LateError
        block = os.read(number, min(count - len(out), 1 << 20))
        if not block:
            raise _GoneError
        out += block
    return bytes(out)


HELPER = Helper()
atexit.register(HELPER.stop)


def serve() -> None:
    """The loop of the helper process: requests from standard input, answers to standard output."""
    from napari_medseq.io.dicom import codecs

    codecs.load_decoders()  # imported before the time of a stream is measured
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a library prints must not mix with the answers
    _limit_memory(_MEMORY)
    answers.write(b"ready")
    answers.flush()
    while head := sys.stdin.buffer.read(_LENGTH):
        request = pickle.loads(sys.stdin.buffer.read(int.from_bytes(head, "little")))
        try:
            picture = np.ascontiguousarray(codecs.decode_request(request))
            answer = ("picture", picture.dtype.str, picture.shape, picture.tobytes())
        except BaseException as error:  # decoders raise errors of any type; those in Rust no `Exception`
            text = (
                f"its pixels are damaged ({type(error).__name__}: {' '.join(str(error).split())[:200]}); copy it again."
            )
            answer = ("error", "", (), text.encode())
        block = pickle.dumps(answer)
        answers.write(len(block).to_bytes(_LENGTH, "little") + block)
        answers.flush()


def _limit_memory(most: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):  # this system has no such limits
        return
