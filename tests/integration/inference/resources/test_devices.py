"""Too little memory, and a worker of a Dask cluster: the same answer, and what was done is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import DeviceError, MedseqWarning, ModelError, OperationCancelled
from napari_medseq.inference.resources import devices, remote
from napari_medseq.models import networks
from tests.unit.training.small import CLASSIFIER, blob, model, written

GPU = torch.device("cuda:0")


class TooSmall:
    """A device that holds `room` steps; the CPU holds all."""

    def __init__(
        self, room: int, error: type[Exception] = torch.OutOfMemoryError, text: str = "CUDA out of memory"
    ) -> None:
        self.room, self.error, self.text = room, error, text
        self.tried: list[tuple[str, int | None]] = []

    def __call__(self, device: torch.device, chunk: int | None) -> str:
        self.tried.append((device.type, chunk))
        if device.type != "cpu" and (chunk or 8) > self.room:
            raise self.error(self.text)
        return f"{device.type} {chunk}"


def test_the_chunk_is_halved_until_it_fits() -> None:
    run = TooSmall(room=2)
    with pytest.warns(MedseqWarning, match="does not suffice for 4 steps at once; trying 2"):
        result, said = devices.within_memory(run, GPU, None, "scan")
    assert result == "cuda 2"
    assert run.tried == [("cuda", None), ("cuda", 4), ("cuda", 2)]
    assert len(said) == 2


@pytest.mark.parametrize(("error", "text"), [(RuntimeError, "MPS backend out of memory"), (MemoryError, "")])
def test_the_cpu_is_used_when_the_smallest_chunk_does_not_fit(error: type[Exception], text: str) -> None:
    run = TooSmall(room=0, error=error, text=text)
    with pytest.warns(MedseqWarning, match="the CPU is used"):
        result, _ = devices.within_memory(run, GPU, 3, "scan")
    assert run.tried == [("cuda", 3), ("cuda", 1), ("cpu", 1)]
    assert result == "cpu 1"


def test_other_failures_are_not_taken_for_want_of_memory() -> None:
    with pytest.raises(RuntimeError, match="illegal"):
        devices.within_memory(TooSmall(0, RuntimeError, "an illegal instruction"), GPU, 2, "scan")


def test_a_computer_that_is_too_small_says_so() -> None:
    def run(device: torch.device, chunk: int | None) -> None:  # noqa: ARG001
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    with pytest.raises(DeviceError, match="scan: the memory of this computer does not suffice"):
        devices.within_memory(run, torch.device("cpu"), None, "scan")


def test_a_gpu_without_memory_leaves_the_answer_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m, seq = model(tmp_path / "m"), blob()
    before = np.array(seq.data)
    expected = ms.segment(seq, m).labels.data
    to = torch.nn.Module.to

    def full(self: torch.nn.Module, device: torch.device, *rest: Any) -> torch.nn.Module:
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
        return to(self, device, *rest)

    monkeypatch.setattr(devices, "choose", lambda _: (GPU, "asked for"))
    monkeypatch.setattr(torch.nn.Module, "to", full)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    seen: list[int] = []
    with pytest.warns(MedseqWarning, match="the CPU is used"):
        out = ms.segment(seq, m, chunk=1, progress=lambda done, *_: seen.append(done))
    assert np.array_equal(out.labels.data, expected)
    assert any("the CPU is used" in w for w in out.labels.warnings)
    assert np.array_equal(seq.data, before)
    assert seen == list(range(1, 8))


# -- a cluster -----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
        ) as there:
            yield there.scheduler_address.replace("tcp://", "dask://")


def test_a_cluster_gives_the_same_answers(cluster: str, tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m", mirror=True), blob()
    seen: list[tuple[int, int]] = []
    got = ms.segment(
        seq, m, device=cluster, outputs=("labels", "probability"), progress=lambda d, t, _: seen.append((d, t))
    )
    here = ms.segment(seq, m, outputs=("labels", "probability"))
    assert np.array_equal(got.labels.data, here.labels.data)
    assert got.labels.same_grid(seq)
    assert got.probability is not None
    assert here.probability is not None
    assert np.array_equal(got.probability.data, here.probability.data)
    assert seen[-1] == (7, 7)
    c = model(tmp_path / "c", CLASSIFIER)
    assert ms.classify(seq, c, device=cluster).probabilities == ms.classify(seq, c).probabilities
    assert np.array_equal(ms.explain(seq, m, device=cluster).data, ms.explain(seq, m).data)
    visits = [ms.Visit(None, (blob(i),), name=f"v{i}") for i in range(2)]
    together = ms.segment(visits, m, device=cluster)
    assert [o.labels.name for o in together] == [o.labels.name for o in ms.segment(visits, m)]


def slab_model(folder: Path, seed: int) -> ms.Model:
    """A slab network with weights of its own."""
    network: dict[str, Any] = {
        "_target_": "SlabUNet", "channels": 1, "classes": 2, "widths": [4, 8], "strides": [[1, 2, 2]],
    }  # fmt: skip
    torch.manual_seed(seed)
    facts = {"name": folder.name, "task": "segmentation", "modality": "MR", "classes": {"1": "lesion"}}
    working = {"axis": "z", "spacing_mm": [5.0, 0.9, 0.9]}
    inference = {"kind": "slab", "window": [4, 32, 32], "working": working}
    return written(folder, facts, network, inference, networks.build(network))


@pytest.mark.parametrize("make", [slab_model, lambda folder, _: model(folder, mirror=True)])
def test_a_cluster_averages_several_models_as_this_computer_does(
    cluster: str, tmp_path: Path, make: Callable[[Path, int], ms.Model]
) -> None:
    seq, models = blob(), [make(tmp_path / f"fold{k}", k) for k in range(2)]
    there, here, alone = (
        ms.segment(seq, m, device=device, outputs=("probability",))
        for m, device in ((models, cluster), (models, "cpu"), (models[0], "cpu"))
    )
    assert there.model == here.model == "fold0 0 + fold1 0"
    assert there.probability is not None
    assert here.probability is not None
    assert np.array_equal(there.probability.data, here.probability.data)
    if make is slab_model:
        assert alone.probability is not None
        assert not np.allclose(there.probability.data, alone.probability.data)


def test_a_model_is_sent_once(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = model(tmp_path / "sent", {**CLASSIFIER, "hidden": 5})
    from distributed import Client

    asked: list[str] = []
    submit = Client.submit

    def counted(self: Client, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        asked.append(function.__name__)
        return submit(self, function, *args, **options)

    monkeypatch.setattr(Client, "submit", counted)
    for seed in (0, 1):
        ms.classify(blob(seed), m, device=cluster)
    assert asked == ["has", "put", "work", "has", "work"]


def test_errors_and_doubts_come_back(cluster: str, tmp_path: Path) -> None:
    m = model(tmp_path / "m")
    with pytest.raises(ModelError, match="trained on MR"):
        ms.segment(blob(modality="CT"), m, device=cluster)
    with pytest.warns(MedseqWarning, match="does not say its modality"):
        ms.segment(blob(modality=None), m, device=cluster)


def test_cancelling_reaches_the_worker(cluster: str, tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m"), blob(shape=(600, 64, 64))
    seen: list[int] = []
    with pytest.raises(OperationCancelled):
        ms.segment(
            seq,
            m,
            device=cluster,
            progress=lambda d, *_: seen.append(d),
            cancelled=lambda: bool(seen),
        )
    assert max(seen) < 600


def test_what_arrives_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = {"../../escape.txt": b"x"}
    with pytest.raises(ModelError, match="outside its folder"):
        remote.put(remote.content_hash(files), files)
    with pytest.raises(ModelError, match="not the one that was sent"):
        remote.put("0" * 64, {"a": b"b"})
    assert not list(tmp_path.rglob("escape.txt"))


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE", 0.3)
    with pytest.raises(DeviceError, match=r"No Dask scheduler answers at 'dask://127.0.0.1:9'"):
        ms.segment(blob(), model(tmp_path / "m"), device="dask://127.0.0.1:9")
    with pytest.raises(DeviceError, match="is a cluster"):
        devices.choose("dask://127.0.0.1:9")
