"""Make the links of the README absolute, for PyPI and the napari hub, which show it apart from the checkout.

    python tools/hub_readme.py README.md      # rewrites it; the release does that before it builds

The address is `Repository` of [project.urls] in pyproject.toml; while there is none, relative links become plain text and pictures are
left out.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)]+)\)\n?")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


def absolute(text: str, repository: str) -> str:
    """The text with links into the repository, or without them where it has no address yet."""
    if not repository:
        return _LINK.sub(r"\1", _PICTURE.sub("", text))
    base = repository.rstrip("/")
    text = _PICTURE.sub(rf"![\1]({base}/raw/HEAD/\2)\n", text)
    return _LINK.sub(rf"[\1]({base}/blob/HEAD/\2)", text)


def main() -> None:
    """Rewrite the file that is named."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    path = Path(sys.argv[1])
    path.write_text(absolute(path.read_text(encoding="utf-8"), project["urls"].get("Repository", "")), encoding="utf-8")


if __name__ == "__main__":
    main()
