"""A few small patients."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.balls import write_ball_study


@pytest.fixture(scope="session")
def three_patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients: one with two visits, one with one, and one without images. Do not write into it."""
    root = tmp_path_factory.mktemp("cohort") / "patients"
    write_ball_study(root / "a")
    write_ball_study(root / "b", visits=1)
    (root / "c").mkdir()
    (root / "c" / "note.txt").write_text("no image here")
    return root


@pytest.fixture
def patients(three_patients: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(three_patients, tmp_path / "patients"))
