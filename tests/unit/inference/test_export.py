"""Exported networks give the same answers outside: through onnxruntime, and through `torch.export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from tests.unit.training.small import CLASSIFIER, UNET, model

SMALL: dict[str, Any] = {"steps": 3, "size": (8, 12)}
RECURRENT = {**UNET, "widths": [4, 8], "rnn_levels": [1], "ahead": 1}
#: an encoder for each
MODALITIES: dict[str, Any] = {"in_channels": 2, "modalities": 2, "fusion": "attention"}


@pytest.mark.parametrize("network", [RECURRENT, CLASSIFIER, {**CLASSIFIER, **MODALITIES}])
def test_a_torch_program_gives_the_same(tmp_path: Path, network: dict[str, Any]) -> None:
    m = model(tmp_path / "m", network)
    path = ms.export(m, tmp_path / "m.pt2", **SMALL)
    x = torch.randn(1, 3, 3 * network.get("in_channels", 1), 8, 12)
    with torch.no_grad():
        got, expected = torch.export.load(path).module()(x), m.network(x)
    pairs = zip(got, expected, strict=True) if isinstance(expected, tuple) else [(got, expected)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m.pt2"]


@pytest.mark.parametrize("network", [RECURRENT, CLASSIFIER])
def test_onnx_gives_the_same(tmp_path: Path, network: dict[str, Any]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    m = model(tmp_path / "m", network)
    path = ms.export(m, tmp_path / "m.onnx", **SMALL)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.randn(1, 3, 3, 8, 12)
    with torch.no_grad():
        out = m.network(x)
    expected = list(out) if isinstance(out, tuple) else [out]
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert session.get_inputs()[0].name == "steps"
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert np.allclose(a, b.numpy(), atol=1e-4)
    assert [p.name for p in tmp_path.glob("m.*")] == ["m.onnx"]


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_a_slab_network_gives_the_same(tmp_path: Path, ending: str, norm: str) -> None:
    m = model(
        tmp_path / "m", {"_target_": "SlabUNet", "channels": 2, "widths": [4, 8], "strides": [[1, 2, 2]], "norm": norm}
    )
    path = tmp_path / f"m{ending}"
    x = torch.randn(1, 3, 2, 8, 12)
    with torch.no_grad():
        for weights in m.network.parameters():  # norms that do something
            weights.add_(0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))
        expected = m.network(x)
    if ending == ".onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(str(ms.export(m, path, **SMALL)), providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"steps": x.numpy()})
    else:
        got = torch.export.load(ms.export(m, path, **SMALL)).module()(x).detach().numpy()
    assert np.allclose(got, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("m.pth", {}, r"must end in \.onnx or \.pt2"),
        ("m.pt2", {"size": (17, 24)}, "multiples of 4"),
        ("m.pt2", {"steps": 0}, "there must be a step"),
        ("nowhere/m.pt2", SMALL, "could not be written"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path: Path, name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(MedseqError, match=reason):
        ms.export(model(tmp_path / "m"), tmp_path / name, **options)


def test_volumes_as_steps_cannot_be_exported(tmp_path: Path) -> None:
    m = model(tmp_path / "m", {**RECURRENT, "dimensions": 3, "neighbours": 0}, along="t")
    with pytest.raises(MedseqError, match="takes volumes as its steps"):
        ms.export(m, tmp_path / "m.pt2", **SMALL)


def test_without_the_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_medseq.inference.exporting.find_spec", lambda _: None)
    with pytest.raises(MedseqError, match="pip install onnx onnxscript"):
        ms.export(model(tmp_path / "m"), tmp_path / "m.onnx", **SMALL)
