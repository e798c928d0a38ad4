"""Messages in the window name controls, not arguments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import napari_medseq
from napari_medseq._napari.words import in_the_window

#: an argument of ours in the text of an error, as the package's sources hold it
_ARGUMENT = re.compile(r'"[^"\n]*\b(force|series|register)=[^"\n]*"')


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Choose another model, or force=True if the modality is wrong.", "tick 'also offer models that do not fit'"),
        ("Choose another image or model, or pass force=True.", "tick 'also offer models that do not fit'"),
        ("a, b. Choose one with series=.", "Choose one in the field 'series'"),
        ("Give register=none.", "'align visits: none'"),
        ("Labels need the series; give reference=its folder.", "open that series, paint on it, and save that"),
        ("Nothing is painted yet.", "Nothing is painted yet."),
    ],
)
def test_arguments_become_controls(message: str, shown: str) -> None:
    found = in_the_window(message)
    assert shown in found
    assert "=" not in found


def test_no_message_of_the_models_keeps_an_argument() -> None:
    """What Analyse and Progression can show of the rooms that they call."""
    root = Path(napari_medseq.__file__).parent
    told = [
        m[0]
        for room in ("models", "inference")
        for p in (root / room).glob("*.py")
        for m in _ARGUMENT.finditer(p.read_text())
    ]
    assert told
    assert [text for text in told if re.search(r"(force|series|register)=", in_the_window(text))] == []
