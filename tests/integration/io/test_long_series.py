"""A series that is larger than memory opens and scrolls: what is read is what is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.nifti import write_sparse

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
    write_sparse(path, shape)
    with path.open("r+b") as stream:
        stream.seek(-2 * int(np.prod(shape[:3], dtype=np.int64)), 2)
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


#: segments a small part of each frame of a series, with so much memory (MB) as is left to it, and writes the labels
SEGMENT = """
import json, resource, sys, warnings
from pathlib import Path
import numpy as np, torch
import napari_medseq as ms
from tests.unit.training.small import UNET, model

warnings.simplefilter("ignore")
torch.set_num_threads(1)
folder, small, series, left = Path(sys.argv[1]), *sys.argv[2:]
m = model(folder / "m", {**UNET, "ahead": 1}, along="t")
ms.write(ms.segment(ms.read(small, lazy=True)[0], m).labels, folder / "small_labels.nii")  # what is loaded once
status = Path("/proc/self/status").read_text().splitlines()
limit = next(int(line.split()[1]) for line in status if line.startswith("VmData:")) * 1024 + int(left) * 10**6
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
labels = ms.segment(ms.read(series, lazy=True)[0], m, region={"y": (0, 16), "x": (0, 16)}).labels
(again,) = ms.read(ms.write(labels, folder / "labels.nii"), lazy=True)
print(json.dumps({"shape": again.data.shape, "same": bool(np.array_equal(again.data[-1], labels.data[-1]))}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory on Linux")
def test_a_long_series_is_segmented_and_written_in_less_memory_than_its_labels_take(tmp_path: Path) -> None:
    shape = (512, 512, 8, 160)  # 671 MB, its labels 336
    series = write_series(tmp_path / "long.nii", shape)
    small = write_series(tmp_path / "small.nii", (32, 32, 4, 5))
    done = subprocess.run(
        [sys.executable, "-c", SEGMENT, tmp_path, small, series, "150"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {"shape": [160, 8, 512, 512], "same": True}
