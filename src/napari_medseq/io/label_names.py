"""Marking voxels as labels, with their names, in formats that have no such field: one line in a private field that
other programs ignore."""

from __future__ import annotations

import json
from collections.abc import Mapping

#: the field, in NRRD (a key/value pair) and in MetaImage
FIELD = "LabelNames"
#: a name is not longer, and a file names no more
_MOST, _LONGEST = 10_000, 200


def as_text(names: Mapping[int, str]) -> str:
    """The names on one line of ASCII; "{}" says that the voxels are labels without names."""
    return json.dumps({str(value): name for value, name in names.items()})


def from_text(text: str | None) -> dict[int, str] | None:
    """The names that a file's field holds; None where it has no such field, or what stands there cannot be names."""
    if text is None:
        return None
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or len(content) > _MOST:
            return None
        return {int(value): str(name)[:_LONGEST] for value, name in content.items()}
    except (ValueError, RecursionError):
        return None
