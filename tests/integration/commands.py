"""Running the command line in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from napari_medseq import cli


class Ran:
    """The exit status and the output of one call of the command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def last(self) -> str:
        return self.err.strip().splitlines()[-1]


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run the command with these arguments."""
    capsys.readouterr()
    try:
        status = cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    output = capsys.readouterr()
    return Ran(status, output.out, output.err)
