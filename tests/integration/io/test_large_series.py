"""A series in time of 20 GB, a file with holes on the disk, opens, scrolls and is segmented frame by frame in a process of 3 GiB."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

#: columns, rows, slices, frames: 20 GB of 16-bit integers
SHAPE = (256, 256, 40, 3815)
FRAMES = (0, 1907, 3814)

OPENED = """
import json, resource, sys, warnings
from pathlib import Path
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
import numpy as np
import napari_medseq as ms
from napari_medseq.viewer.opening import layer_data

warnings.simplefilter("ignore")
path, model, frames = sys.argv[1], ms.load_model(sys.argv[2]), json.loads(sys.argv[3])
(seq,) = ms.read(path, lazy=True)
((data, kwargs, kind),) = layer_data(path)
seen, labelled = [], []
for number in frames:
    shown = np.asarray(data[number, 20])
    seen.append(int(shown.max()))
    labels = ms.segment(seq.frame(number), model, device="cpu").labels
    labelled.append(list(labels.data.shape))
peak = next(int(x.split()[1]) for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmData"))
print(json.dumps({"shape": list(data.shape), "kind": kind, "seen": seen, "labelled": labelled, "data_kb": peak}))
"""


def write_sparse(path: Path) -> None:
    """The header, a block of noise in the frames that are looked at, and holes."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(SHAPE)
    header.set_zooms((1.0, 1.0, 2.0, 0.5))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(np.diag([1.0, 1.0, 2.0, 1.0]), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    each = 2 * int(np.prod(SHAPE[:3]))
    with path.open("wb") as stream:
        stream.write(header.binaryblock + struct.pack("4B", 0, 0, 0, 0))
        for number in FRAMES:
            block = np.random.default_rng(number).integers(1, 1000, SHAPE[:3], dtype=np.int16)
            block[0, 0, 20] = 2000 + number
            stream.seek(352 + number * each)
            stream.write(block.tobytes(order="F"))
        stream.truncate(352 + SHAPE[3] * each)


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory on Linux")
def test_it_opens_scrolls_and_is_segmented_frame_by_frame(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "cine_T1post.nii"
    write_sparse(path)
    assert path.stat().st_size > 20e9
    if path.stat().st_blocks * 512 > 1e9:
        pytest.skip("this disk has no files with holes")
    try:
        done = subprocess.run(
            [sys.executable, "-c", OPENED, str(path), str(tiny_bundle), json.dumps(FRAMES)],
            capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip
    finally:
        path.unlink()
        shutil.rmtree(tmp_path, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["kind"], found["shape"]) == ("image", list(SHAPE[::-1]))
    assert found["seen"] == [2000 + n for n in FRAMES]
    assert found["labelled"] == [list(SHAPE[2::-1])] * len(FRAMES)
