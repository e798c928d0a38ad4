"""Write docs/reference/cli.md from the command's own parser: ``python tools/cli_reference.py``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from napari_medseq.cli import parser

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
HEAD = """# The commands

This page is generated from the command's own help by `tools/cli_reference.py`. Results go to stdout (`--json` for
machine-readable output), progress and warnings to stderr. The exit status is 0 for success, 1 for bad input (the last
line of stderr gives the reason), 2 for wrong usage, and 130 if interrupted.
"""


def text() -> str:
    """The page."""
    os.environ["COLUMNS"] = "110"
    os.environ["NO_COLOR"] = "1"
    top = parser()
    action = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    parts = [HEAD]
    for name, command in action.choices.items():
        parts.append(f"## {name}\n\n```text\n{command.format_help().rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET)
