"""The time that a training which configures itself may take, and the threads that it uses."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from napari_medseq.training.automatic.config import AutoConfig

#: share of the time for writing
SPARE = 0.01
_LEAST_SECONDS = 5.0  # least time for training, however long reading took; half of a total under ten seconds


class Budget:
    """The time that a training may take as a whole, counted from when this object is made."""

    def __init__(self, c: AutoConfig) -> None:
        self._now = time.process_time if c.clock == "process" else time.monotonic
        self.seconds, self._began = 60 * c.minutes, self._now()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self._now() - self._began

    def after(self, share: float) -> Deadline:
        """When more than this share of the time is spent."""
        return Deadline(self, share)

    def for_training(self, to_judge: float) -> float:
        """Seconds that the training loop may take: what remains, less the time for validating and writing."""
        return max(self.seconds * (1 - SPARE) - to_judge - self.spent, min(_LEAST_SECONDS, self.seconds / 2))


@dataclass(frozen=True, eq=False)
class Deadline:
    """The end of a share of the time; called it says whether that is past."""

    budget: Budget
    share: float

    def __call__(self) -> bool:
        return self.budget.spent > self.share * self.budget.seconds

    def advice(self, done: int, total: int) -> str:
        """How many minutes suffice for the whole of something of which so much is done, or what else helps."""
        if not done or self.share <= 0:
            return "give more minutes"
        needed = self.budget.spent / 60 * total / done / self.share
        return f"at this speed about {max(math.ceil(needed), math.ceil(self.budget.seconds / 60) + 1)} minutes suffice for all"


class threads:
    """Within this context torch uses the given number of threads."""

    def __init__(self, count: int | None) -> None:
        self.count, self.before = count, torch.get_num_threads()

    def __enter__(self) -> None:
        if self.count is not None:
            torch.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)
