"""How messages count things and list names."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_NAMES = 4


def how_many(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: "1 slice", "3 slices".

    Parameters
    ----------
    number : int
    one : str
        The word for one of them, with its verb where there is one: "file is".
    many : str
        The words for none or several, "files are"; by default `one` with an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str]) -> str:
    """The first few names, with "…" where there are more."""
    return ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
