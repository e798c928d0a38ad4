"""Fixtures of the tests that run the command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.commands import Ran, run_command


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command in this process."""
    return lambda *arguments: run_command(capsys, *arguments)
