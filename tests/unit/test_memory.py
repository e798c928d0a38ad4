"""Arrays that are larger than a quarter of the memory that is free lie in a temporary file without a name."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from napari_medseq.memory import is_large, zeros

#: so much is held already that whatever comes beside it is large, on any machine
MUCH = 1 << 50


def test_a_large_array_lies_in_a_file_that_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = zeros((3, 40, 50), np.int16, beside=MUCH)
    assert isinstance(array, np.memmap)
    assert not array.any()
    array[1] = 7
    assert int(array.sum()) == 7 * 40 * 50
    assert list(tmp_path.iterdir()) == [], "what is killed leaves nothing behind"


def test_a_small_array_lies_in_memory() -> None:
    assert not isinstance(zeros((3, 4), np.int16), np.memmap)


@pytest.mark.parametrize(("size", "beside", "large"), [(1, 0, False), (1, MUCH, True), (MUCH, 0, True)])
def test_what_is_large_counts_what_is_held_beside_it(size: int, beside: int, large: bool) -> None:
    assert is_large(size, beside) is large


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux counts them")
def test_an_array_larger_than_the_limit_of_a_patient_is_made_and_written(tmp_path: Path) -> None:
    """As `cohort` limits each patient; the file counts for the disk, of which its holes take nothing."""
    script = (
        "import resource, numpy as np\n"
        "from napari_medseq.memory import available_bytes, zeros\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (600 << 20, 600 << 20))\n"
        "assert available_bytes() <= 600 << 20\n"
        "array = zeros((3, 256, 1 << 20), np.uint8)\n"
        "array[0, 0, 0] = array[-1, -1, -1] = 9\n"
        "print(type(array).__name__, array[0, 0, 0] + array[-1, -1, -1])\n"
        "try:\n"
        "    np.zeros((3, 256, 1 << 20), np.uint8)\n"
        "except MemoryError:\n"
        "    print('memory would not do')\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["memmap 18", "memory would not do"], done.stderr
