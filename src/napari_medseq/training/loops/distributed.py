"""Training one network in several processes: each draws its own windows, and gradients are averaged (torch's DDP).

The processes are started by ``torchrun``, whose environment variables give each its rank; they talk by gloo between CPUs and by NCCL
between GPUs. Without torchrun there is one process, and everything here does nothing.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from napari_medseq.inference.resources import devices


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together.

    Attributes
    ----------
    rank, size : int
        This process, and how many there are; rank 0 writes the files.
    device : torch.device
    """

    rank: int
    size: int
    device: torch.device

    def _shared(self, value: float) -> torch.Tensor:
        # MPS has no double precision, but then there is one process only
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def any(self, flag: bool) -> bool:
        """Whether the value is true in any process."""
        if self.size == 1:
            return flag
        shared = self._shared(float(flag))
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return bool(shared)

    def mean(self, value: float) -> float:
        """The mean over the processes."""
        if self.size == 1:
            return value
        shared = self._shared(value)
        distributed.all_reduce(shared)
        return float(shared) / self.size

    def broadcast(self, value: float) -> float:
        """The value of rank 0, in every process."""
        if self.size == 1:
            return value
        shared = self._shared(value)
        distributed.broadcast(shared, 0)
        return float(shared)

    def gather(self, item: Any) -> list[Any]:
        """The objects of all processes, in the order of their ranks."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        distributed.all_gather_object(items, item)
        return items

    def barrier(self) -> None:
        """Wait until every process has come to this call."""
        if self.size > 1:
            self.gather(None)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network that averages its gradients over the processes."""
        if not distributed.is_initialized():
            return network
        return nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)


def current_group(device: torch.device | str = "cpu") -> ProcessGroup:
    """The processes that train together; this one alone where no process group was joined."""
    where = torch.device(device)
    if distributed.is_available() and distributed.is_initialized():
        return ProcessGroup(distributed.get_rank(), distributed.get_world_size(), where)
    return ProcessGroup(0, 1, where)


@contextmanager
def process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, for as long as the context lasts.

    Parameters
    ----------
    device : str
        As in `devices.choose`; with several GPUs each process of a machine takes its own.
    """
    started = {"RANK", "WORLD_SIZE"} <= set(os.environ) and distributed.is_available()
    chosen, _ = devices.choose(device)
    if not started or distributed.is_initialized():
        yield current_group(chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield current_group(chosen)
        distributed.barrier()  # no process leaves while another still needs the group
    finally:
        gc.collect()  # what still holds the group (networks wrapped for it) goes first: its threads end with it
        distributed.destroy_process_group()
