"""Write docs/reference/cli.md from the command's own parser: ``python tools/cli_reference.py``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from napari_medseq.cli import parser

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
HEAD = """# The commands

Made by `tools/cli_reference.py` from the command's own help. Answers go to stdout (`--json` for machines), progress and warnings to
stderr. Exit status: 0 done, 1 the input is bad (the reason is the last line of stderr), 2 wrong usage, 130 interrupted.
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
