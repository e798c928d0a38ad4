"""The memory that a segmentation needs is said before it starts, and is about what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqWarning
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.options import OUTPUTS, SegmentKeywords
from napari_medseq.inference.resources import memory
from napari_medseq.inference.resources.tuning import Plan
from napari_medseq.inference.settings import InferenceSettings
from napari_medseq.memory import available_bytes, warn_if_short
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.sequence import ImageSequence
from napari_medseq.unread import UnreadVoxels
from tests.unit.training.small import UNET, blob, model

MEASURE = """
import json, os, sys
from pathlib import Path
import numpy as np, torch
import napari_medseq as ms
from napari_medseq.inference.resources import memory
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.options import SegmentOptions
from napari_medseq.inference.segmentation_run import SegmentationRun
from napari_medseq.inference.options import OUTPUTS, SegmentKeywords
from napari_medseq.inference.settings import inference_settings
from napari_medseq.inference.resources.tuning import Plan
from tests.unit.training.small import UNET, blob, model

def status(field):
    return next(int(x.split()[1]) * 1024 for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))

torch.set_num_threads(1)

def measure(folder, classes, steps, side):
    m = model(folder / "m", {**UNET, "widths": [16, 16, 16], "classes": classes})
    ms.segment(blob(shape=(2, 32, 32)), m)  # libraries are loaded
    image = blob(shape=(steps, side, side))
    framing = frame([image], along="slices", pixel_mm=None, stride=4)
    settings = inference_settings(m.inference, "m")
    needed = memory.segmentation_bytes(framing, m.network, settings, Plan(), ("labels",))
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    ms.segment(image, m)
    print(json.dumps({"needed": needed, "taken": status("VmHWM") - before}), flush=True)

for number, case in enumerate(json.loads(sys.argv[2])):
    child = os.fork()  # libraries are loaded once; each case has a process of its own
    if not child:
        measure(Path(sys.argv[1]) / str(number), *case)
        os._exit(0)
    os.waitpid(child, 0)
"""
#: classes, steps, side: large steps, and many steps of many classes
CASES = [(2, 6, 512), (20, 24, 256)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, int]]:
    """Bytes that are said to be needed, and those that are taken, for each case."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path_factory.mktemp("measured")), json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    return [json.loads(line) for line in done.stdout.splitlines()[-len(CASES) :]]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the highest memory is asked of Linux")
@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_is_said_is_about_what_is_taken(measured: list[dict[str, int]], number: int) -> None:
    (classes, steps, side), found = CASES[number], measured[number]
    assert 0.5 * found["taken"] < found["needed"] < 2.5 * found["taken"] + (32 << 20)
    # never a full stack of probabilities
    assert found["taken"] < max(classes * steps * side**2 * 4, 10 * found["needed"])


def test_more_steps_classes_and_outputs_need_more() -> None:
    network = RecurrentUNet(widths=(8, 16), rnn_levels=(1,), hidden=4, ahead=2)
    settings = InferenceSettings()

    def needed(shape: tuple[int, int, int], *outputs: str, of: RecurrentUNet = network) -> int:
        framing = frame([blob(shape=shape)], along="slices", pixel_mm=None, stride=2)
        return memory.segmentation_bytes(framing, of, settings, Plan(), outputs)

    def answer(steps: int) -> int:
        framing = frame([blob(shape=(steps, 64, 64))], along="slices", pixel_mm=None, stride=2)
        return memory.answer_bytes(framing, settings, ("labels",))

    base = needed((4, 64, 64), "labels")
    assert answer(8) == 2 * answer(4) == 8 * 64 * 64 * 3
    assert needed((4, 64, 64), "labels", "probability") - base == 4 * 64 * 64 * 8
    assert needed((4, 128, 64), "labels") > 1.8 * base
    many = RecurrentUNet(widths=(8, 16), rnn_levels=(1,), hidden=4, ahead=2, classes=40)
    assert needed((4, 64, 64), "labels", of=many) > base
    mirrored = memory.network_bytes(
        frame([blob()], along="slices", pixel_mm=None, stride=2), network, InferenceSettings(mirror=True), Plan()
    )
    plain = memory.network_bytes(frame([blob()], along="slices", pixel_mm=None, stride=2), network, settings, Plan())
    assert mirrored == 2 * plain
    assert next(network.parameters()).device == torch.device("cpu")


def test_want_of_memory_is_said_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SMALL", 0)
    monkeypatch.setattr("napari_medseq.memory.available_bytes", lambda: 1 << 20)
    with pytest.warns(MedseqWarning, match=r"blob0_T1: about 0\.0 GB of memory are needed and 0\.0 GB are free"):
        ms.segment(blob(shape=(3, 200, 200)), model(tmp_path / "m"))


@pytest.mark.parametrize("slice_axis", ["z", "x"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_series_larger_than_memory_is_segmented_frame_by_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dimensions: int, slice_axis: str
) -> None:
    """Neither its frames nor its labels are ever all in memory, and the answer is the same."""
    network = {**UNET, "dimensions": dimensions, "ahead": 1, "rnn_levels": [2]}
    m = model(tmp_path / "m", network, along="t", min_volume_mm3=20.0)
    frames = np.random.default_rng(0).integers(0, 900, (24, 6, 96, 96)).astype(np.int16)
    np.save(tmp_path / "series.npy", frames)
    unread = UnreadVoxels(np.load(tmp_path / "series.npy", mmap_mode="r"), frames.dtype)
    locked = np.zeros(frames.shape, np.uint8)
    locked[3, 1, 2, 2] = 7
    series = ImageSequence(unread, ("t", "z", "y", "x"), np.eye(4), name="T1", modality="MR", slice_axis=slice_axis)
    keep = series.labels_like(locked, name="kept", label_names={})
    asked: SegmentKeywords = {
        "region": {"y": (0, 8), "x": (0, 8)},
        "keep": keep,
        "steps": [2, 3],
        "outputs": OUTPUTS[:2],
    }
    plain = ms.segment(series, m, **asked)
    monkeypatch.setattr("napari_medseq.memory.WORTH_SAYING", 1 << 18)
    monkeypatch.setattr("napari_medseq.memory.available_bytes", lambda: 1 << 18)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedseqWarning)
            streamed = ms.segment(series, m, **asked)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(streamed.labels.data, plain.labels.data)
    assert streamed.probability is not None
    assert plain.probability is not None
    assert np.array_equal(streamed.probability.data, plain.probability.data)
    assert streamed.labels.data[3, 1, 2, 2] == 7
    assert plain.labels.data[2].any()
    assert peak < frames.nbytes  # samples of it, whose number is bounded; the probabilities alone are twice as much


def test_what_is_free_is_known_here_or_unknown() -> None:
    free = available_bytes()
    assert free is None or 0 <= free < 1 << 50
    warn_if_short(1 << 10, "image", None)
