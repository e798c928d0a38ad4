"""Errors and warnings as notifications in the window."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from napari.utils.notifications import show_error, show_warning

from napari_medseq import faults
from napari_medseq._napari.words import in_the_window
from napari_medseq.errors import MedseqError, heard

R = TypeVar("R")

_log = logging.getLogger(__name__)


def tell(error: BaseException, doing: str) -> None:
    """Show an error as one notification without traceback; foreign errors are logged in full."""
    faults.note(doing, error)
    if isinstance(error, MedseqError):
        show_error(in_the_window(str(error)))
        return
    _log.error("%s failed", doing, exc_info=error)
    if _is_out_of_memory(error):
        advice = "Close layers or other programs, or choose a smaller image or another device."
        show_error(f"{doing}: there is not enough memory; nothing was changed. {advice}")
        return
    if _is_lost_device(error):
        reason = str(error).splitlines()[0].rstrip(".")
        advice = "Choose cpu as the device to go on now; to use the card again, save the session and restart napari."
        show_error(
            f"{doing}: the graphics card failed ({reason}); nothing was changed, and what is painted is kept. {advice}"
        )
        return
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        show_error(f"{doing}: {where}{error.strerror}. Look whether the file or folder is still there and can be used.")
        return
    show_error(f"{doing} failed: {type(error).__name__}: {error}. The log has the details; please report it.")


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, also that of a graphics card; torch is not imported for the check."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from napari_medseq.inference.resources.devices import is_out_of_memory

    return is_out_of_memory(error)


def _is_lost_device(error: BaseException) -> bool:
    """Whether a graphics card failed."""
    if "torch" not in sys.modules:
        return False
    from napari_medseq.inference.resources.devices import is_lost

    return is_lost(error)


def guarded(doing: str, action: Callable[[], R]) -> R | None:
    """Run a short action of a button in the GUI thread; an error becomes one notification, and the result is None."""
    try:
        return action()
    except Exception as error:  # an exception must never reach Qt
        tell(error, doing)
        return None


@contextmanager
def warned() -> Iterator[None]:
    """Show the warnings that are issued within this context as one notification, in the GUI thread."""
    with heard() as doubts, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        yield
    if doubts:
        show_warning("\n".join(doubts))
