"""The memory that training needs is said before its first step, and is about what a step takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_medseq.errors import MedseqWarning
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.training.loops import memory

MEASURE = """
import json, sys
from pathlib import Path
import torch
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.training.loops.memory import learning_bytes

torch.set_num_threads(1)

def status(field):
    return next(int(x.split()[1]) * 1024 for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))

def learn(network, x):
    network.zero_grad()
    found = network(x)
    sum(y.square().mean() for y in (found if isinstance(found, list) else [found])).backward()

found = {}
for name, network, small, large in (
    ("recurrent", RecurrentUNet(widths=(8, 16), rnn_levels=(1,), hidden=4, ahead=1, neighbours=0), (1, 2, 1, 32, 32), (2, 4, 1, 160, 160)),
    ("slab", SlabUNet(channels=1, classes=2, widths=(8, 16), strides=((1, 2, 2),)), (1, 4, 1, 32, 32), (2, 8, 1, 128, 128)),
):
    learn(network.train(), torch.randn(small))
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    said = learning_bytes(network, large)
    learn(network, torch.randn(large))
    found[name] = [said, status("VmHWM") - before]
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the highest memory is asked of Linux")
def test_what_is_said_is_about_what_a_step_takes() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, (said, taken) in json.loads(done.stdout.splitlines()[-1]).items():
        assert 0.5 * taken < said < 2.5 * taken, (name, said, taken)


def test_larger_batches_need_more_and_want_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    network = RecurrentUNet(widths=(4, 8), rnn_levels=(1,), hidden=4, ahead=1, neighbours=0)
    one, two = (memory.learning_bytes(network, (n, 3, 1, 32, 32)) for n in (1, 2))
    assert 0 < one < two < 2 * one
    assert next(network.parameters()).device == torch.device("cpu")
    monkeypatch.setattr(memory, "WORTH_SAYING", 0)
    monkeypatch.setattr("napari_medseq.memory.available_bytes", lambda: 1000)
    with pytest.warns(MedseqWarning, match=r"Training: about 0\.0 GB .*programs, lower loop\.batch"):
        memory.warn_of_learning(network, (1, 3, 1, 32, 32), torch.device("cpu"), "lower loop.batch")
