"""One kill of the fifty that ``make endurance`` makes of each job; each step of a result is killed in ``test_result_folder``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that were forked")
@pytest.mark.timeout(600)
def test_a_kill_and_a_second_call_give_what_an_undisturbed_call_gives() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.endurance", "--kills", "1", "--seed", "3"],
        cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["run", "cohort", "train"]
