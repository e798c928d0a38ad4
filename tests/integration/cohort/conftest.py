"""A few small patients."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.balls import write_ball_study


@pytest.fixture(scope="session")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort") / "patients"
    write_ball_study(root / "a")
    write_ball_study(root / "b", visits=1)
    (root / "c").mkdir()
    (root / "c" / "note.txt").write_text("no image here")
    return root


@pytest.fixture
def patients(_three: Path, tmp_path: Path) -> Path:
    """Three patients: one with two visits, one with one, and one without images."""
    return Path(shutil.copytree(_three, tmp_path / "patients"))
