"""Doubts on their way to the user: each stands in ``ImageSequence.warnings`` and is also a Python warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable

from napari_medseq.errors import ReadWarning
from napari_medseq.sequence import ImageSequence


def warn(text: str) -> None:
    """Issue a `ReadWarning` that points at the line outside this package which asked for the file."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("napari_medseq"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, ReadWarning, stacklevel=level)


def announce(sequences: Iterable[ImageSequence], also: Iterable[str] = ()) -> None:
    """Issue each distinct doubt once, with the name of the sequence that it is about."""
    said: set[str] = set()
    for seq in sequences:
        for text in seq.warnings:
            line = text if seq.name in text else f"{seq.name}: {text}"
            if text not in said:
                said.add(text)
                warn(line)
    for text in also:
        if text not in said:
            said.add(text)
            warn(text)
