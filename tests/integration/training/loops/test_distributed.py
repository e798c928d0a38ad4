"""Two processes, as torchrun starts them, train one network: the same weights as one process that sees both their windows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_medseq.training.loops.losses import image_loss
from napari_medseq.training.loops.sequences import fit
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.loops.windows import Batch, Windows
from tests.unit.training.lessons import Tiny, windows

ITERATIONS = 3
ROOT = Path(__file__).parents[4]


def loop(**changes: Any) -> LoopSettings:
    values: dict[str, Any] = {
        "iterations": ITERATIONS,
        "batch": 2,
        "steps": 2,
        "size": (16, 16),
        "warm_up": 1,
        "rate": 1e-2,
    }
    return LoopSettings(**{**values, **changes})


def work(folder: Path) -> None:
    """What each process does: train, be cancelled (by one of them), go on; and keep its weights for the comparison."""
    from napari_medseq.errors import OperationCancelled
    from napari_medseq.training.loops.distributed import process_group

    with process_group("cpu") as group:
        assert group.size == 2
        assert group.mean(float(group.rank)) == 0.5
        assert group.any(group.rank == 1)
        assert group.broadcast(float(group.rank)) == 0.0
        network = Tiny()
        fit(network, windows(target="image"), image_loss, loop(), folder / "whole")
        torch.save(network.state_dict(), folder / f"rank{group.rank}.pt")
        calls = []

        def stop() -> bool:  # rank 1 alone wants to stop, after the first iteration
            calls.append(1)
            return group.rank == 1 and len(calls) == 2

        try:
            fit(Tiny(), windows(target="image"), image_loss, loop(), folder / "cut", cancelled=stop)
        except OperationCancelled:
            again = Tiny()
            fit(again, windows(target="image"), image_loss, loop(accumulate=1), folder / "cut")
            torch.save(again.state_dict(), folder / f"again{group.rank}.pt")


class Both(Windows):
    """The windows of both processes in one batch."""

    def __init__(self) -> None:
        self.ranks = [windows(target="image"), windows(target="image")]
        self.ranks[1].generator.manual_seed(7919)
        self.generator, self.lesion_share = self.ranks[0].generator, 0.0

    def draw(self, batch: int) -> Batch:
        for w in self.ranks:
            w.lesion_share = self.lesion_share
        pairs = [w.draw(batch) for w in self.ranks]
        return Batch(torch.cat([p.x for p in pairs]), torch.cat([p.y for p in pairs]), {})


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="its processes are forked")
def test_two_processes_equal_one_that_sees_all_windows(tmp_path: Path) -> None:
    run = [sys.executable, __file__, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second, again = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("rank0", "rank1", "again1"))
    alone = Tiny()
    fit(alone, Both(), image_loss, loop(), tmp_path / "alone")
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], again[name]), name
        assert torch.allclose(first[name], value, atol=1e-5), name
    curve = (tmp_path / "whole" / "curve.csv").read_text().splitlines()
    assert len(curve) == ITERATIONS + 1


def start(rank: int, folder: Path) -> int:
    """A process that works with what torchrun writes into its environment; libraries are loaded once, before it is forked."""
    child = os.fork()
    if child:
        return child
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"})
    status = 1
    try:
        work(folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])})
    children = [start(rank, Path(sys.argv[1])) for rank in range(2)]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
