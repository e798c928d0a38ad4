"""Where the real patients lie, for tests that need them; they are never part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_FOLDER = Path(os.environ.get("MEDSEQ_DATA", Path(__file__).parents[2] / "shared" / "data"))
DATA: Path | None = _FOLDER if _FOLDER.is_dir() else None

needs_real_data = pytest.mark.skipif(DATA is None, reason=f"real patients are not at {_FOLDER} (set MEDSEQ_DATA)")
