"""How messages count and list."""

from __future__ import annotations

import pytest

from napari_medseq.wording import how_many, some


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("slice",), "0 slices"),
        (1, ("slice",), "1 slice"),
        (2, ("slice",), "2 slices"),
        (1, ("class has", "classes have"), "1 class has"),
        (3, ("class has", "classes have"), "3 classes have"),
    ],
)
def test_one_and_many(number: int, words: tuple[str, ...], text: str) -> None:
    assert how_many(number, *words) == text


def test_long_lists_are_cut() -> None:
    assert some(["a", "b", "c", "d"]) == "a, b, c, d"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c, d, …"
