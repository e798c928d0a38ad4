"""TorchScript of a bundle that others made: a program that runs when it is used, opened only when the caller says that it is trusted.

Nothing of such a file can be checked beforehand. It is read only where a bundle has no weights that can be read safely; facts,
window and channels come from the metadata, as plain text.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_medseq.errors import ModelError
from napari_medseq.models import bundle, foreign

if TYPE_CHECKING:
    from torch import nn

    from napari_medseq.models.info import ModelInfo
    from napari_medseq.models.plain import Plain

SCRIPT = Path("models/model.ts")


def is_scripted(folder: Path) -> bool:
    """Whether a bundle's only weights are a TorchScript program."""
    return (folder / SCRIPT).is_file() and foreign.find_weights(folder) is None


def load(folder: Path) -> tuple[ModelInfo, nn.Module, dict[str, Plain], dict[str, Plain]]:
    """Facts, network (in evaluation mode), inference settings, and an empty definition, as `foreign.load` gives them.

    The program in the file is executed, here and whenever the network is run.

    Raises
    ------
    ModelError
        If it is not a TorchScript, or the metadata do not say what goes in and comes out.
    """
    info = foreign.read_info(folder)
    bundle.check_sum(folder, SCRIPT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises other formats to those who write one
            network: nn.Module = torch.jit.load(folder / SCRIPT, map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:160]
        raise ModelError(f"{folder / SCRIPT} is not a TorchScript that this torch can read ({reason}).") from None
    bundle.check_finite({k: v for k, v in network.state_dict().items() if v.is_floating_point()}, folder / SCRIPT)
    info = info.model_copy(update={"parameters": sum(p.numel() for p in network.parameters())})
    return info, network, foreign.inference_of(folder, {"spatial_dims": foreign.stated_dimensions(folder)}), {}


def fingerprint(folder: Path) -> str:
    """SHA-256 of the program."""
    return hashlib.sha256((folder / SCRIPT).read_bytes()).hexdigest()
