"""The registry, what networks say of themselves, and slabs of steps through a network without a state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from napari_medseq.errors import ModelError
from napari_medseq.models import networks, registry
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.stepwise import Stepwise

SMALL: dict[str, dict[str, Any]] = {
    "BasicUNet": {"features": [4] * 6},
    "ConvAutoencoder": {"encoder": {"_target_": "Blocks", "widths": [4, 8]}, "width": 4},
    "DynUNet": {"filters": [4] * 5},
    "RecurrentDenoiser": {"widths": [4, 8], "rnn_levels": [1], "hidden": 4},
    "RecurrentUNet": {"widths": [4, 8], "rnn_levels": [1], "hidden": 4},
    "SegResNet": {"init_filters": 8},
    "SequenceClassifier": {"widths": [4, 8], "hidden": 4},
}


def test_the_registry_knows_no_network_until_they_enter_themselves() -> None:
    code = "from napari_medseq.models import registry; a = len(registry.NETWORKS); from napari_medseq.models import networks; "
    code += "print(a, len(networks.NETWORKS))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after = map(int, out.split())
    assert before == 0
    assert after >= 11


def test_the_page_of_the_models_lists_every_network() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "models.md").read_text(encoding="utf-8")
    rows = " ".join(line.partition("|")[2].partition("|")[0] for line in page.splitlines() if line.startswith("| `"))
    ours = [name for name, network in registry.NETWORKS.items() if network.__module__.startswith("napari_medseq.")]
    assert [name for name in ours if f"`{name}`" not in rows] == []


def test_two_networks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two networks"):
        registry.register("RecurrentUNet")(RecurrentUNet)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_takes_what_it_says(name: str) -> None:
    """`forward` takes steps of twice the stride with their neighbours as channels, and the extra inputs that are declared."""
    network = networks.build_sequence_network({"_target_": name, **SMALL[name]}).eval()
    side = 2 * max(network.stride, 16 if isinstance(network, Stepwise) else 1)
    x = torch.zeros(1, 3, 2 * network.neighbours + 1, side, side)
    extra = {"present": torch.ones(1, 3, dtype=torch.bool)} if "present" in network.extra_inputs else {}
    with torch.inference_mode():
        out = network(x, **extra)
        if network.deep_supervision:
            heads = network(x, every_head=True)
            assert [h.shape[-1] for h in heads] == [side // 2**k for k in reversed(range(len(heads)))]
    if isinstance(network, Stepwise):
        assert out.shape == (1, 3, network.classes, side, side)


def test_a_network_of_another_kind_is_no_network_along_a_sequence() -> None:
    with pytest.raises(ModelError, match="along a sequence"):
        networks.build_sequence_network({"_target_": "RecurrentRegistration", "channels": 4, "hidden": 4, "steps": 1})


def test_silenced_classes_have_no_probability() -> None:
    network = networks.build_sequence_network({"_target_": "RecurrentUNet", **SMALL["RecurrentUNet"], "classes": 4})
    network.silence([1, 3])
    with torch.inference_mode():
        p = network.eval()(torch.randn(1, 2, 3, 16, 16)).softmax(2)
    assert float(p[:, :, [1, 3]].max()) < 1e-6
    assert float(p[:, :, 2].min()) > 1e-3


class Slabs(Stepwise):
    """A 3D convolution over (step, y, x), with zeros beyond the ends: what it says of a step depends on one step either way."""

    classes = 2

    def __init__(self, slab: int | None, overlap: int, stride: int = 1) -> None:
        super().__init__()
        self.slab, self.slab_overlap, self.step_stride = slab, overlap, stride
        torch.manual_seed(3)
        self.conv = nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] % self.step_stride == 0
        assert self.slab is None or x.shape[1] <= self.slab
        y: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return y


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 7), st.integers(1, 3))
def test_slabs_answer_each_step_once_as_their_windows_do(n: int, blocks: int, overlap: int, stride: int) -> None:
    slab = blocks * stride
    overlap = min(overlap, slab - 1)
    network = Slabs(slab, overlap, stride)
    steps = torch.randn(n, 1, 1, 4, 4, generator=torch.Generator().manual_seed(n))
    got = list(network.side_by_side(iter(steps)))
    # the same written down at once: windows at fixed steps, the last one at the end, a triangle as weight
    starts = [0]
    while starts[-1] + slab < n:
        starts.append(min(starts[-1] + slab - overlap, n - slab))
    total, weight = torch.zeros(n, 1, 2, 4, 4), torch.zeros(n, 1, 1, 1, 1)
    for start in starts:
        window = steps[start : start + slab]
        padded = torch.cat([window, window[-1:].expand(-len(window) % stride, -1, -1, -1, -1)])
        with torch.inference_mode():
            y = network(padded.transpose(0, 1))[0, : len(window)]
        triangle = torch.tensor([min(k + 1, len(window) - k) for k in range(len(window))]).reshape(-1, 1, 1, 1, 1)
        total[start : start + slab] += triangle * y[:, None]
        weight[start : start + slab] += triangle
    assert len(got) == n
    assert torch.allclose(torch.stack(got), total / weight, atol=1e-5)


def test_slabs_hold_no_more_steps_than_they_need() -> None:
    network, taken = Slabs(4, 1), 0

    def steps() -> Iterator[Tensor]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield torch.zeros(1, 1, 4, 4)

    for given_out, _ in enumerate(network.side_by_side(steps())):
        assert taken - given_out <= 4 + 3 + 1


def test_a_network_without_slabs_sees_the_whole_sequence_as_forward_does() -> None:
    network = Slabs(None, 0)
    x = torch.randn(1, 7, 1, 4, 4)
    got = torch.stack(list(network.side_by_side(x.unbind(1))), 1)
    with torch.inference_mode():
        assert torch.equal(got, network(x))


@pytest.mark.parametrize(("slab", "overlap", "stride"), [(4, 4, 1), (4, -1, 1), (5, 0, 2)])
def test_slabs_that_cannot_be_are_refused(slab: int, overlap: int, stride: int) -> None:
    with pytest.raises(ModelError, match="slab"):
        list(Slabs(slab, overlap, stride).side_by_side([torch.zeros(1, 1, 4, 4)]))


def test_times_are_refused_by_a_network_without_gaps() -> None:
    with pytest.raises(ModelError, match="gap_unit"):
        list(Slabs(2, 0).side_by_side([torch.zeros(1, 1, 4, 4)], times=[0.0]))


def test_models_have_no_circle() -> None:
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("napari_medseq")
    for module in sorted(graph.find_descendants("napari_medseq.models")):
        assert module not in graph.find_upstream_modules(module), module
