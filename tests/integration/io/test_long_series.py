"""A series that is larger than memory opens and scrolls: what is read is what is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the peak is told by the resource module")

#: opens a series, looks at a slice of some frames, and prints the slices' means and how the peak grew in MB
LOOK = """
import json, resource, sys
import numpy as np
import napari_medseq as ms

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

small, series = sys.argv[1:]
np.asarray(ms.read(small, lazy=True)[0].data[0, 0])  # what is loaded once
before = peak()
seq = ms.read(series, lazy=True)[0]
frames = seq.data.shape[seq.axes.index("t")]
seen = [float(np.asarray(seq.data[t, seq.data.shape[1] // 2]).mean()) for t in [*range(0, frames - 1, frames // 20), frames - 1]]
print(json.dumps({"shape": seq.data.shape, "seen": seen, "grown": peak() - before}))
"""


def write_series(path: Path, shape: tuple[int, int, int, int]) -> Path:
    """A sparse NIfTI of (x, y, z, t) int16 zeros, whose last frame is 7."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_zooms((1, 1, 1, 2))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(np.eye(4), 1)
    frame = 2 * int(np.prod(shape[:3], dtype=np.int64))
    with path.open("wb") as stream:
        stream.write(header.binaryblock + b"\0\0\0\0")
        stream.truncate(352 + frame * shape[3])
        stream.seek(352 + frame * (shape[3] - 1))
        stream.write(np.full(shape[:3], 7, np.int16).tobytes())
    return path


@pytest.mark.parametrize(
    "shape", [(128, 128, 40, 400), pytest.param((256, 256, 100, 1600), marks=pytest.mark.slow)], ids=["0.5 GB", "21 GB"]
)
def test_a_long_series_opens_and_scrolls_in_the_memory_of_some_frames(
    tmp_path: Path, shape: tuple[int, int, int, int]
) -> None:
    series = write_series(tmp_path / "long.nii", shape)
    small = write_series(tmp_path / "small.nii", (8, 8, 4, 30))
    done = subprocess.run(
        [sys.executable, "-c", LOOK, small, series], capture_output=True, text=True, check=True, timeout=200
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shape"] == [shape[3], *shape[2::-1]]
    assert found["seen"] == [0.0] * (len(found["seen"]) - 1) + [7.0]
    frame_mb = 2 * np.prod(shape[:3]) / 2**20
    assert found["grown"] < 25 * frame_mb + 50  # at most the frames that were looked at, of some hundred
    assert 25 * frame_mb + 50 < series.stat().st_size / 2**20
