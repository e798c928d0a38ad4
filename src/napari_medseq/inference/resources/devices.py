"""Choosing the device that a model runs on, and falling back when its memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from napari_medseq.errors import DeviceError, warn
from napari_medseq.wording import how_many

T = TypeVar("T")
_REMOTE = "dask://"
_KINDS = "auto, cpu, cuda, cuda:N, mps or dask://host:port"


def is_remote(device: str | torch.device | None) -> bool:
    """Whether `device` names a Dask cluster."""
    return isinstance(device, str) and device.startswith(_REMOTE)


def choose(device: str | torch.device | None = "auto") -> tuple[torch.device, str]:
    """The device of this computer asked for, and the reason in one phrase.

    Parameters
    ----------
    device : str or torch.device, optional
        "auto", "cpu", "cuda", "cuda:N" or "mps"; None is "auto".

    Raises
    ------
    DeviceError
        If it is not there, or is not a device; the message says what is.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if device is None or device == "auto":
        if cuda:
            return torch.device("cuda:0"), f"a CUDA device is there: {torch.cuda.get_device_name(0)}"
        if mps:
            return torch.device("mps"), "an Apple GPU is there"
        return torch.device("cpu"), "no GPU that this torch can use was found"
    if is_remote(device):
        raise DeviceError(
            f"{device!r} is a cluster: segment, classify and explain go there, this does not. Use device='auto'."
        )
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise DeviceError(f"{device!r} is not a device; use {_KINDS}.") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= cuda:
        have = f"this torch ({torch.__version__}) sees {how_many(cuda, 'CUDA device')}"
        raise DeviceError(f"There is no device {device!r}: {have}. Use device='auto', or run `napari-medseq doctor`.")
    if chosen.type == "mps" and not mps:
        raise DeviceError(f"There is no device {device!r} here. Use device='auto', or run `napari-medseq doctor`.")
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"{device!r} is not supported; use {_KINDS}.")
    return chosen, "asked for"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(s in text for s in ("out of memory", "not enough memory", "can't allocate memory"))
    )


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the device itself failed, such as a graphics card that was taken away or has crashed.

    torch raises `torch.AcceleratorError` for each error of the device's runtime except lack of memory; old drivers and Apple's say it in a
    RuntimeError.
    """
    if is_out_of_memory(error):
        return False
    text = str(error)
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError)
        and text.startswith(("CUDA error", "CUDA driver error", "HIP error", "MPS backend"))
    )


def within_memory(
    run: Callable[[torch.device, int | None], T], device: torch.device, chunk: int | None, name: str
) -> tuple[T, list[str]]:
    """Call ``run(device, chunk)``; where memory does not suffice call it again with half the chunk, and finally on
    the CPU.

    Parameters
    ----------
    run : callable
        Must start from the beginning each time, so that nothing of a failed attempt is left.
    device : torch.device
    chunk : int or None
        Steps held at once; None is 8.
    name : str
        Name of the image, for messages.

    Returns
    -------
    result
        Of the attempt that went through.
    said : list of str
        The warnings that were given.

    Raises
    ------
    DeviceError
        If the memory of the computer itself does not suffice.
    """
    notes: list[str] = []
    while True:
        try:
            return run(device, chunk), notes
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        # out of the except clause, so that the failed attempt's tensors are free by now
        if device.type == "cpu":
            raise DeviceError(
                f"{name}: the memory of this computer does not suffice ({reason}). Close other programs, or crop the image."
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        size = 8 if chunk is None else chunk
        if size > 1:
            chunk = size // 2
            notes.append(f"{name}: the memory of {device} does not suffice for {size} steps at once; trying {chunk}.")
        else:
            notes.append(
                f"{name}: the memory of {device} does not suffice ({reason}); the CPU is used, which takes longer."
            )
            device = torch.device("cpu")
        warn(notes[-1])
