"""The exception family: everything the package raises or warns about on purpose.

Each message says what is wrong, where, and what to do about it; the command line prints it as one line and
napari shows it as a notification, so it never needs a traceback to be understood.
"""

from __future__ import annotations

import contextvars
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_LISTENERS: contextvars.ContextVar[tuple[list[str], ...]] = contextvars.ContextVar(
    "napari-medseq-listeners", default=()
)


class MedseqError(Exception):
    """Something could not be done. The message names what, where and the way out."""


class ReadError(MedseqError):
    """A file or folder could not be opened."""


class WriteError(MedseqError):
    """A result could not be written."""


class GeometryError(MedseqError, ValueError):
    """Positions in space are missing, contradictory or do not fit together."""


class ModelError(MedseqError):
    """A model bundle is unsafe, broken, or does not fit the images."""


class SettingsError(MedseqError, ValueError):
    """A setting has a value that cannot be used."""


class RegistrationError(MedseqError):
    """Two images could not be aligned well enough to be trusted."""


class DeviceError(MedseqError):
    """The device asked for is not there or cannot be used."""


class OperationCancelled(MedseqError):
    """The caller's ``cancelled()`` returned True; nothing was written."""


class MedseqWarning(UserWarning):
    """Something was done, but with a doubt that the user should know about."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        for doubts in _LISTENERS.get():
            if str(self) not in doubts:
                doubts.append(str(self))


class ReadWarning(MedseqWarning):
    """A file was read with a doubt; the text also stands in ``ImageSequence.warnings``."""


def warn(text: str, category: type[MedseqWarning] = MedseqWarning) -> None:
    """Issue a doubt that points at the line outside this package which called into it, however deep the doubt arose.

    Parameters
    ----------
    text : str
    category : type of MedseqWarning
    """
    caller = sys._getframe(1)
    frame: FrameType | None = caller
    ours = True
    while frame is not None and frame.f_back is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        ours = package == __package__ or (ours and package == "contextlib")  # which calls a decorated function
        frame = frame.f_back
        caller = frame if ours else caller
    registry = caller.f_globals.setdefault("__warningregistry__", {})
    module = caller.f_globals.get("__name__", "")
    warnings.warn_explicit(text, category, caller.f_code.co_filename, caller.f_lineno, module, registry)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect the doubts that are issued within this context, each text once, whatever Python's warning filters are.

    Python's own recorder belongs to the whole process: of two jobs at the same time, one takes the other's warnings, and
    whichever ends last may leave a recorder behind that nobody reads. This one belongs to the calling thread, and to those
    that run in a copy of its context.
    """
    doubts: list[str] = []
    token = _LISTENERS.set((*_LISTENERS.get(), doubts))
    try:
        yield doubts
    finally:
        _LISTENERS.reset(token)


@contextmanager
def unheard() -> Iterator[None]:
    """Neither show nor collect the doubts that are issued within this context, because they are reported elsewhere."""
    token = _LISTENERS.set(())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedseqWarning)
            yield
    finally:
        _LISTENERS.reset(token)
