"""Warnings about doubtful files: each stands in ``ImageSequence.warnings`` and is also issued as a Python warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from napari_medseq.errors import MedseqError, OperationCancelled, ReadWarning, warn
from napari_medseq.sequence import ImageSequence

_SILENCED: ContextVar[bool] = ContextVar("napari-medseq-silenced", default=False)


def _passes_filter(_record: object) -> bool:
    return not _SILENCED.get()


def silence_pydicom() -> None:
    """Make pydicom's log obey `silenced`; called where pydicom is loaded, because loading a log takes time of its own."""
    import logging

    log = logging.getLogger("pydicom")
    if _passes_filter not in log.filters:
        log.addFilter(_passes_filter)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep pydicom's log and warnings, which quote the values of damaged elements (a patient's name among them), silent."""
    token = _SILENCED.set(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pydicom\b")
            yield
    finally:
        _SILENCED.reset(token)


@contextmanager
def collect_failures(subject: str, failures: list[str]) -> Iterator[None]:
    """Turn any error with one file into a line in `failures`, so that it does not stop the others.

    Cancelling goes through. Parsers fed with damaged bytes raise anything; what they say may quote the patient's name, so that
    only its kind is told.
    """
    try:
        yield
    except OperationCancelled:
        raise
    except MedseqError as error:
        message = str(error)
        failures.append(message if subject in message else f"{subject}: {message}")
    except MemoryError:
        failures.append(f"{subject}: it does not fit in memory; open it with lazy=True.")
    except Exception as error:
        failures.append(f"{subject}: it is damaged or contradicts itself ({type(error).__name__}); export it again.")


def emit_warnings(sequences: Iterable[ImageSequence], also: Iterable[str] = ()) -> None:
    """Issue each distinct doubt once, with the name of the sequence that it is about."""
    emitted: set[str] = set()
    for seq in sequences:
        for text in seq.warnings:
            line = text if seq.name in text else f"{seq.name}: {text}"
            if text not in emitted:
                emitted.add(text)
                warn(line, ReadWarning)
    for text in also:
        if text not in emitted:
            emitted.add(text)
            warn(text, ReadWarning)
