"""On a CUDA device: the CPU's answer within 1e-4, whatever the chunk; little memory; lower precision; one process of NCCL.

Run alone with ``pytest -m cuda``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_medseq as ms
from napari_medseq.errors import MedseqWarning
from napari_medseq.inference.explanation import Method
from napari_medseq.inference.resources import tuning
from napari_medseq.inference.resources.tuning import Plan
from napari_medseq.inference.streaming import stream_side_by_side
from napari_medseq.models import Model
from napari_medseq.models.recurrent_unet import RecurrentUNet, with_neighbours
from napari_medseq.models.stepwise import Stepwise
from tests.unit.training.small import CLASSIFIER, blob, model

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device that this torch can use"),
]
GPU = torch.device("cuda:0")
ROOT = Path(__file__).parents[3]
LARGE: dict[str, Any] = {"widths": [16, 32, 64], "rnn_levels": [1, 2], "hidden": 16, "ahead": 2}


def awake(**settings: Any) -> RecurrentUNet:
    """A network whose recurrence is not the identity."""
    torch.manual_seed(2)
    network = RecurrentUNet(**{"widths": (8, 16, 24), "rnn_levels": (1, 2), "hidden": 8, "ahead": 3, **settings}).eval()
    for name, value in network.named_parameters():
        if name.endswith(("out.weight", "gap.weight")):
            nn.init.normal_(value, std=0.3)
    return network


class Slabs(Stepwise):
    """A network without a state: two 3D convolutions over slabs of eight steps, a quarter of them shared."""

    classes, slab, slab_overlap = 3, 8, 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.layers = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.transpose(1, 2)).transpose(1, 2)
        return y


@contextmanager
def only(megabytes: float) -> Iterator[None]:
    """Within it torch gets no more of the GPU's memory than so much."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(megabytes * 2**20 / total, GPU)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
        torch.cuda.empty_cache()


def probability(image: ms.ImageSequence, m: ms.Model, **options: Any) -> np.ndarray:
    found = ms.segment(image, m, outputs=("labels", "probability"), **options).probability
    assert found is not None
    return np.asarray(found.data)


# -- the same answer ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("together", [1, 3, 8])
@pytest.mark.parametrize("settings", [{}, {"rnn": "lstm"}, {"rnn": "none"}, {"gap_unit": 5.0}])
def test_streaming_equals_the_whole_sequence_and_the_cpu(
    settings: dict[str, Any], together: int, channels_last: bool
) -> None:
    network = awake(**settings)
    steps = torch.randn(13, 1, 64, 48, generator=torch.Generator().manual_seed(0))
    times = [float(t) for t in range(0, 39, 3)] if "gap_unit" in settings else None
    extra = {} if times is None else {"times": torch.tensor([times])}
    with torch.inference_mode():
        expected = network(with_neighbours(steps, 1)[None], **extra)[0]
    network.to(GPU)
    plan = Plan(channels_last=channels_last, together=together, device="cuda")
    with torch.inference_mode(), plan.precision():
        whole = network(with_neighbours(steps, 1)[None].to(GPU), **{k: v.to(GPU) for k, v in extra.items()})[0]
    seen = (x[None].to(GPU) for x in steps)
    got = torch.cat(list(stream_side_by_side(network, seen, plan=plan, times=times)))
    assert float((got - whole).abs().max()) < 1e-4
    assert float((got.cpu() - expected).abs().max()) < 1e-4


def test_slabs_equal_those_of_the_cpu() -> None:
    network = Slabs()
    steps = torch.randn(21, 1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(list(network.side_by_side(steps)))
    network.to(GPU)
    plan = Plan(device="cuda")
    got = torch.stack(list(stream_side_by_side(network, steps.to(GPU), plan=plan)))
    assert float((got.cpu() - expected).abs().max()) < 1e-4


def test_the_answer_does_not_depend_on_the_chunk_and_is_that_of_the_cpu(tmp_path: Path) -> None:
    m, image = model(tmp_path / "m", mirror=True), blob(shape=(11, 70, 60))
    cpu = probability(image, m, device="cpu")
    for chunk in (1, 2, 5, 8, 64, None):
        assert np.abs(probability(image, m, device="cuda", chunk=chunk) - cpu).max() < 1e-4
    again = ms.segment(image, m, device="cuda").labels.data
    assert np.array_equal(again, ms.segment(image, m, device="cuda").labels.data)


def test_the_shipped_model_labels_as_on_the_cpu() -> None:
    from napari_medseq.synthetic import make_case

    image, _ = make_case(7, lesions=3)
    cpu = np.asarray(ms.segment(image, "brain-tumor", device="cpu").labels.data)
    gpu = np.asarray(ms.segment(image, "brain-tumor", device="cuda").labels.data)
    assert cpu.any()
    assert float((cpu != gpu).mean()) < 1e-5  # voxels within rounding of the threshold


def test_other_verbs_answer_as_on_the_cpu(tmp_path: Path) -> None:
    c, m, image = model(tmp_path / "c", CLASSIFIER), model(tmp_path / "m"), blob()
    a, b = (ms.classify(image, c, device=d) for d in ("cpu", "cuda"))
    assert np.abs(a.per_step - b.per_step).max() < 1e-4
    assert np.abs(a.attention - b.attention).max() < 1e-4
    assert a.probabilities == pytest.approx(b.probabilities, abs=1e-4)
    pairs: list[tuple[Method, Model]] = [
        ("grad-cam", m), ("occlusion", m), ("grad-cam", c), ("attention", c), ("occlusion", c),
    ]  # fmt: skip
    for method, explained in pairs:
        one, two = (ms.explain(image, explained, method=method, device=d) for d in ("cpu", "cuda"))
        assert np.abs(np.asarray(one.data) - np.asarray(two.data)).max() < 2e-3, method
    for located in (m, c):
        found = [ms.locate(image, located, min_score=0.2, device=d) for d in ("cpu", "cuda")]
        assert [f.box for f in found[0].found] == [f.box for f in found[1].found]


# -- memory ------------------------------------------------------------------------------------------------------------
def test_memory_on_the_device_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    m = model(tmp_path / "m", {**LARGE, "_target_": "RecurrentUNet"})
    peaks = []
    for steps in (24, 24, 240):
        torch.cuda.reset_peak_memory_stats(GPU)
        ms.segment(blob(shape=(steps, 96, 96)), m, device="cuda")
        peaks.append(torch.cuda.max_memory_allocated(GPU))
    assert peaks[2] < 1.05 * peaks[1]


def test_a_small_device_takes_fewer_steps_at_once_and_gives_the_same(tmp_path: Path) -> None:
    m, image = model(tmp_path / "m", {**LARGE, "_target_": "RecurrentUNet"}), blob(shape=(10, 400, 400))
    cpu = ms.segment(image, m, device="cpu").labels.data
    with only(150), pytest.warns(MedseqWarning, match=r"steps at once; trying|the CPU is used"):
        found = ms.segment(image, m, device="cuda", chunk=64)
    assert any("does not suffice" in w for w in found.labels.warnings)
    assert float((np.asarray(found.labels.data) != np.asarray(cpu)).mean()) < 1e-5


def test_a_device_that_is_too_small_leaves_it_to_the_cpu(tmp_path: Path) -> None:
    m, image = model(tmp_path / "m", {**LARGE, "_target_": "RecurrentUNet"}), blob(shape=(6, 400, 400))
    cpu = ms.segment(image, m, device="cpu").labels.data
    with only(8), pytest.warns(MedseqWarning, match="the CPU is used"):
        found = ms.segment(image, m, device="cuda")
    assert np.array_equal(found.labels.data, cpu)
    assert next(m.network.parameters()).device.type == "cpu"


# -- precision ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_is_near(dtype: torch.dtype) -> None:
    network = awake().to(GPU)
    steps = torch.randn(9, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).to(GPU)
    whole = torch.cat(list(stream_side_by_side(network, steps, plan=Plan(device="cuda", together=4))))
    low = torch.cat(list(stream_side_by_side(network, steps, plan=Plan(dtype, device="cuda", together=4)))).float()
    assert bool(low.isfinite().all())
    moved = float((low.softmax(1) - whole.softmax(1)).abs().max())
    assert 0 < moved < 0.05


def test_only_a_bundle_that_allows_it_is_run_in_lower_precision(tmp_path: Path) -> None:
    network = awake()
    assert tuning.prepare(network, GPU)[1].dtype is None
    assert {p.dtype for p in tuning.measure(network, GPU, lower=False)} == {None}
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    assert {p.dtype for p in tuning.measure(network, GPU)} == {None, half}
    m = model(tmp_path / "m", {**LARGE, "_target_": "RecurrentUNet"})
    allowed = replace(m, inference={**m.inference, "precision": "bfloat16"})
    one, two = (probability(blob(), x, device="cuda") for x in (m, allowed))
    assert float(np.abs(one - two).max()) < 0.05


def test_rounding_of_other_code_is_left_as_it_was() -> None:
    convolution: Any = vars(torch.backends.cudnn)["conv"]  # torch's stubs do not know it
    before = convolution.fp32_precision
    with Plan(device="cuda").precision():
        assert convolution.fp32_precision == "ieee"
    assert convolution.fp32_precision == before


# -- several processes -------------------------------------------------------------------------------------------------
def work(folder: Path) -> None:
    """What the one process does that torchrun starts: the training's own group, over NCCL, around a small network."""
    from napari_medseq.training.loops.distributed import process_group

    with process_group("cuda") as group:
        assert torch.distributed.get_backend() == "nccl"
        assert (group.size, group.device.type) == (1, "cuda")
        shared = torch.ones(3, device=group.device)
        torch.distributed.all_reduce(shared)
        assert shared.tolist() == [1.0] * 3
        network = group.wrap(awake().train().to(group.device))
        torch.save({k: v.cpu() for k, v in trained(network, group.device).items()}, folder / "nccl.pt")


def trained(network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Weights after three steps of plain gradient descent towards zero."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        torch.manual_seed(0)  # of dropout
        optimiser.zero_grad()
        with Plan(device=device.type).precision():
            network(torch.randn(1, 4, 3, 16, 16, generator=generator).to(device)).square().mean().backward()
        optimiser.step()
    inner = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    weights: dict[str, Tensor] = inner.state_dict()
    return weights


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")
def test_one_process_over_nccl_trains_as_alone(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", __file__, str(tmp_path)]
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = trained(awake().train().to(GPU), GPU)
    for name, value in torch.load(tmp_path / "nccl.pt", weights_only=True).items():
        assert float((value - alone[name].cpu()).abs().max()) < 1e-4, name


if __name__ == "__main__":
    work(Path(sys.argv[1]))
