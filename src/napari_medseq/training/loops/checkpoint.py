"""The checkpoint of a training run: one file that is replaced as a whole, and the training curve beside it."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from napari_medseq import files
from napari_medseq.errors import SettingsError, WriteError


@dataclass
class State:
    """The course of a run, beside its network and optimiser.

    Attributes
    ----------
    average : dict of str to Tensor
        Exponential moving average of the weights.
    iteration : int
        Iterations done.
    spent : float
        Seconds spent.
    curve : list of dict
        One row per iteration.
    best, best_weights, waited
        The best validation so far, the averaged weights that reached it, and the validations since then.
    """

    average: dict[str, Tensor]
    iteration: int = 0
    spent: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    best: float = float("-inf")
    best_weights: dict[str, Tensor] | None = None
    waited: int = 0

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to keep."""
        return self.average if self.best_weights is None else self.best_weights


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file as a whole and to the disk; the old one stays if anything fails.

    Raises
    ------
    WriteError
    """
    try:
        with files.replacing(path, durable=True) as temporary, temporary.open("wb") as f:
            write(f)
    except (WriteError, RuntimeError) as error:  # torch.save says RuntimeError when the disk is full
        cause = error.__cause__ or error
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        advice = "; the one written before is whole" if path.exists() else ""
        raise WriteError(
            f"{path} could not be written ({reason}){advice}. Make room, then start again: the training continues."
        ) from None


def save(path: Path, state: State, parts: Mapping[str, Any]) -> None:
    """Write a checkpoint: `state`, and the plain `parts` of network, optimiser and random generators.

    Raises
    ------
    WriteError
        If the disk is full or may not be written to; the checkpoint before it stays whole.
    """
    files.remove_unfinished(path.parent)  # what a process that died while it saved left, as large as a checkpoint
    _write(path, lambda f: torch.save({**vars(state), **parts}, f))


def load(path: Path, device: torch.device | str) -> tuple[State, dict[str, Any]]:
    """Read what `save` wrote.

    Raises
    ------
    SettingsError
        If the file is not a checkpoint of this version.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        state = State(**{k: content.pop(k) for k in vars(State({})) if k in content})
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise SettingsError(
            f"{path} is not a checkpoint that can be read ({error}); remove it to start again."
        ) from None
    return state, content


def random_states(device: torch.device) -> list[Tensor]:
    """States of torch's global random generators that a run on a device draws from: the CPU's, and that of a CUDA device."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def restore_random(states: Sequence[Tensor], device: torch.device) -> None:
    """Set torch's global random generators to the states of `random_states`.

    Parameters
    ----------
    states : sequence of Tensor
        The states; of those of a run on another kind of device the CPU's alone is used.
    device : torch.device
    """
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)


def write_curve(path: Path, curve: Sequence[Mapping[str, float]], measure: str) -> None:
    """The curve as CSV: iteration, minutes, loss, rate and the validation's measure.

    Raises
    ------
    WriteError
    """
    from io import StringIO

    text = StringIO(newline="")
    writer = csv.DictWriter(text, ["iteration", "minutes", "loss", "rate", measure], restval="")
    writer.writeheader()
    writer.writerows(curve)
    _write(path, lambda f: f.write(text.getvalue().encode()))
