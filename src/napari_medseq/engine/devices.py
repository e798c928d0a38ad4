"""Which device a model runs on, and why."""

from __future__ import annotations

import torch

from napari_medseq.errors import DeviceError


def choose(device: str = "auto") -> tuple[torch.device, str]:
    """The device asked for, and the reason in one phrase.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises
    ------
    DeviceError
        If it is not there, or is no device; the message says what is.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if device == "auto":
        if cuda:
            return torch.device("cuda:0"), f"a CUDA device is there: {torch.cuda.get_device_name(0)}"
        if mps:
            return torch.device("mps"), "an Apple GPU is there"
        return torch.device("cpu"), "no GPU that this torch can use was found"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"{device!r} is no device; use auto, cpu, cuda, cuda:N or mps.") from None
    if wanted.type == "cuda" and (wanted.index or 0) >= cuda:
        have = f"this torch ({torch.__version__}) sees {cuda} CUDA device(s)"
        raise DeviceError(f"There is no device {device!r}: {have}. Use device='auto', or run `napari-medseq doctor`.")
    if wanted.type == "mps" and not mps:
        raise DeviceError(f"There is no device {device!r} here. Use device='auto', or run `napari-medseq doctor`.")
    if wanted.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"{device!r} is not supported; use auto, cpu, cuda, cuda:N or mps.")
    return wanted, "asked for"
