"""The training loop: schedules, early stopping, frozen encoders, and a checkpoint that is whole whatever happens."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError, WriteError
from napari_medseq.training.loops import checkpoint
from napari_medseq.training.loops.sequences import learning_rate
from napari_medseq.training.loops.settings import LoopSettings
from tests.narrowing import some
from tests.unit.training.lessons import Tiny, run, windows


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_schedules_start_at_the_peak_and_end_at_one_percent() -> None:
    for schedule, middle in (("cosine", 0.505), ("polynomial", 0.01 + 0.99 * 0.5**0.9), ("constant", 1.0)):
        s = LoopSettings(rate=1.0, warm_up=0, schedule=schedule)
        assert learning_rate(0.0, 0, s) == pytest.approx(1.0)
        assert learning_rate(0.5, 50, s) == pytest.approx(middle)
        assert learning_rate(1.0, 100, s) == pytest.approx(1.0 if schedule == "constant" else 0.01)
    assert learning_rate(0.0, 4, LoopSettings(rate=1.0, warm_up=10)) == pytest.approx(0.5)


def test_the_curve_holds_the_rate_and_the_measure(tmp_path: Path) -> None:
    run(tmp_path, validate=lambda _: 0.25, validate_every=3, measure="psnr")
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert list(curve) == ["iteration", "minutes", "loss", "rate", "psnr"]
    assert curve["psnr"].notna().tolist() == [False, False, True] * 2
    assert curve["rate"].iloc[0] == pytest.approx(1e-2)
    assert curve["rate"].is_monotonic_decreasing


def test_training_stops_without_a_gain_and_keeps_the_best_weights(tmp_path: Path) -> None:
    scores, seen = iter([1.0, 2.0, 0.5, 1.9, 9.0]), []

    def validate(network: nn.Module) -> float:
        assert not network.training
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return next(scores)

    kept = run(tmp_path, validate=validate, validate_every=1, patience=2, iterations=50)
    assert len(seen) == 4
    assert same(kept, seen[1])
    assert same(run(tmp_path, validate=validate, validate_every=1, patience=2, iterations=50), kept)  # it has stopped
    assert len(seen) == 4


def test_random_numbers_of_a_cuda_device_go_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Tensor] = {"cuda:1": torch.tensor([1, 2, 3], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: kept[str(device)])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: kept.update({str(device): state}))
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 1)
    states = checkpoint.random_states(cuda)
    drawn = torch.rand(3)
    kept["cuda:1"] = torch.zeros(3, dtype=torch.uint8)
    checkpoint.restore_random(states, cuda)
    assert kept["cuda:1"].tolist() == [1, 2, 3]
    assert torch.equal(torch.rand(3), drawn)
    checkpoint.restore_random(checkpoint.random_states(cpu), cuda)  # of a run on the CPU
    assert kept["cuda:1"].tolist() == [1, 2, 3]


def test_an_encoder_is_frozen_or_slowed(tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in Tiny().state_dict().items()}

    def moved(weights: dict[str, Tensor], part: str) -> float:
        return max(float((weights[k] - before[k]).abs().max()) for k in before if k.startswith(part))

    frozen, slow, free = (
        run(tmp_path / str(r), encoder_rate=r, iterations=1, average=0.0, weight_decay=0.0) for r in (0.0, 0.1, 1.0)
    )
    assert moved(frozen, "encoder") == 0
    assert moved(frozen, "head") > 0
    # AdamW's first step is the rate, whatever the gradient
    assert moved(slow, "encoder") == pytest.approx(0.1 * moved(free, "encoder"), rel=1e-3)
    assert moved(slow, "head") == pytest.approx(moved(free, "head"))
    with pytest.raises(SettingsError, match="encoder"):
        run(tmp_path / "none", nn.Conv2d(1, 1, 1), encoder_rate=0.5)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    large = run(tmp_path / "a", batch=4, iterations=3)
    summed = run(tmp_path / "b", batch=2, accumulate=2, iterations=3)
    assert all(torch.allclose(large[k], summed[k], atol=1e-6) for k in large)


def test_gradients_are_clipped_and_weights_averaged(tmp_path: Path) -> None:
    norms: list[float] = []

    class Watched(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            if self.head.weight.grad is not None:
                norms.append(float(torch.cat([some(p.grad).flatten() for p in self.parameters()]).norm()))
            return super().forward(x)

    from unittest.mock import patch

    with patch.object(torch.optim.AdamW, "zero_grad"):  # gradients stay, so that the next pass can look at them
        run(tmp_path / "clip", Watched(), clip=1e-3, iterations=1)
        run(tmp_path / "clip2", Watched(), clip=1e-3, iterations=2)
    assert norms
    assert max(norms) <= 1.001e-3
    network = Tiny()
    averaged = run(tmp_path / "a", network, average=0.9)
    assert not same(averaged, network.state_dict())
    network = Tiny()
    plain = run(tmp_path / "b", network, average=0.0)
    assert same(plain, network.state_dict())


def test_mixed_precision_learns_the_same_within_its_precision(tmp_path: Path) -> None:
    whole, half = run(tmp_path / "a"), run(tmp_path / "b", bfloat16=True)
    assert not same(whole, half)
    assert all(torch.allclose(whole[k], half[k], atol=0.05) for k in whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_iteration_and_the_run_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    whole = run(tmp_path / "whole")
    before = signal.getsignal(number)

    def interrupt(done: int, _total: int, _message: str) -> None:
        if done == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(OperationCancelled, match="continues from it"):
        run(tmp_path / "cut", progress=interrupt)
    assert signal.getsignal(number) is before
    assert len(pd.read_csv(tmp_path / "cut" / "curve.csv")) == 3
    assert same(run(tmp_path / "cut"), whole)
    assert list(pd.read_csv(tmp_path / "cut" / "curve.csv")["loss"]) == list(
        pd.read_csv(tmp_path / "whole" / "curve.csv")["loss"]
    )


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def insist(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=insist)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_a_full_disk(_content: object, _file: object) -> None:
        with Path("/dev/full").open("wb") as full:
            full.write(b"checkpoint")

    whole = run(tmp_path / "whole")
    with pytest.raises(OperationCancelled):
        run(tmp_path / "full", cancelled=lambda: (tmp_path / "full" / "started").exists(), progress=_after(tmp_path, 2))
    kept = (tmp_path / "full" / "checkpoint.pt").read_bytes()
    files_before = set((tmp_path / "full").iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", to_a_full_disk)
        with pytest.raises(WriteError, match=r"No space left.*the one written before is whole"):
            run(tmp_path / "full")
    assert (tmp_path / "full" / "checkpoint.pt").read_bytes() == kept
    assert set((tmp_path / "full").iterdir()) == files_before
    assert same(run(tmp_path / "full"), whole)


def _after(folder: Path, iteration: int):  # type: ignore[no-untyped-def]
    def note(done: int, *_: object) -> None:
        if done == iteration:
            (folder / "full" / "started").touch()

    return note


def test_a_process_that_dies_while_writing_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    done: list[int] = []
    with pytest.raises(OperationCancelled):
        run(tmp_path / "cut", progress=lambda d, *_: done.append(d), cancelled=lambda: len(done) >= 2)
    content = (tmp_path / "cut" / "checkpoint.pt").read_bytes()
    (tmp_path / "cut" / ".writing-0.pt").write_bytes(content[: len(content) // 2])
    assert same(run(tmp_path / "cut"), whole)
    assert {file.name for file in (tmp_path / "cut").iterdir()} == {"checkpoint.pt", "curve.csv"}


def test_a_damaged_checkpoint_and_one_of_another_network_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    content = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(SettingsError, match="another network"):
        run(tmp_path, nn.Conv2d(1, 1, 1))
    (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(SettingsError, match="remove it to start again"):
        run(tmp_path)


def test_a_loss_that_is_not_finite_spoils_nothing(tmp_path: Path) -> None:
    run(tmp_path, iterations=2)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    bad = windows(target="image")
    bad.cases[0].image[:] = float("nan")
    bad.cases[1].image[:] = float("nan")
    with pytest.raises(MedseqError, match="lower the learning rate"):
        run(tmp_path, drawn=bad, iterations=9)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_too_little_memory_is_said(tmp_path: Path) -> None:
    class Greedy(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[0] > 1:
                raise torch.OutOfMemoryError
            return super().forward(x)

    with pytest.raises(MedseqError, match=r"loop\.batch"):
        run(tmp_path, Greedy(), batch=2)


def test_tensorboard_gets_the_curve_or_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(SettingsError, match=r"napari-medseq\[tensorboard\]"):
            run(tmp_path, tensorboard=True)
        return
    run(tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard").glob("events*"))
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingsError, match=r"napari-medseq\[tensorboard\]"):
        run(tmp_path / "without", tensorboard=True)
