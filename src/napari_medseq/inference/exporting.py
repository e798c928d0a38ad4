"""`export`: a model's network as a file that runs without this package, as ONNX or as a `torch.export` program.

What is exported is the network alone, for sequences of a fixed number of steps of a fixed size: steps in robust units with their
neighbours as channels go in (docs/how-to/explain.md says how they are made), logits come out; a slab network takes a window of its
working volume. Streaming, framing and post-processing stay here.
"""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_medseq import files
from napari_medseq.errors import ModelError, SettingsError, WriteError
from napari_medseq.models import ModelLike, loaded
from napari_medseq.models.recurrent_unet import RecurrentUNet
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.models.slab_unet import InstanceNorm, SlabUNet

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_SUFFIXES = (".onnx", ".pt2")


class _Tensors(nn.Module):
    """A network whose answer is plain tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out: Tensor | tuple[Tensor, ...] = self.network(x)
        return tuple(out) if isinstance(out, tuple) else out


def export(
    model: ModelLike, path: str | os.PathLike[str], *, steps: int = 16, size: tuple[int, int] = (192, 192)
) -> Path:
    """Write a model's network for other programs.

    Parameters
    ----------
    model : Model, str or path
        A loaded model, its name, or the folder of a bundle.
    path : path
        ``.onnx`` for ONNX (needs ``pip install onnx onnxscript``) or ``.pt2`` for `torch.export.load`.
    steps : int
        Steps of the sequence.
    size : tuple of int
        Rows and columns; multiples of the network's stride.

    Returns
    -------
    Path
        The file. Its input, ``steps``, has shape (1, step, channel, row, column), channels being the image's channels of
        the step's neighbours, from the one before to the one after; of a slab network they are its own (a slab looks at
        neighbouring steps by itself). A segmentation network's output, ``logits``, has
        shape (1, step, class, row, column); a classifier's are ``steps_logits`` (1, step, class), ``exam_logits`` (1, class),
        ``attention`` (1, step) and ``evidence`` (1, step, class, row, column).

    Raises
    ------
    SettingsError
        If the suffix is another, a size does not fit, or a package that is needed is not there.
    ModelError
        If the model is not a network of this package, or its steps are volumes.
    WriteError
        If the file cannot be written.
    """
    model = loaded(model)
    network, target = model.network, files.path_of(path)
    if not isinstance(network, RecurrentUNet | SequenceClassifier | SlabUNet):
        raise ModelError(
            f"{model.info.name} is not a network of this package; export it with the program it came from."
        )
    if network.volumes:
        raise ModelError(f"{model.info.name} takes volumes as its steps, and cannot be exported yet.")
    if target.suffix not in _SUFFIXES:
        raise SettingsError(f"{target.name}: the name must end in {' or '.join(_SUFFIXES)}.")
    multiple = network.multiple if isinstance(network, SlabUNet) else (1, network.stride, network.stride)
    if steps < 1 or steps % multiple[0] or any(n < 2 * m or n % m for n, m in zip(size, multiple[1:], strict=True)):
        raise SettingsError(
            f"steps is {steps} and size {size}; there must be a step, steps a multiple of {multiple[0]}, and rows and columns "
            f"multiples of {multiple[1]} and {multiple[2]}, at least two of each."
        )
    if target.suffix == ".onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise SettingsError("ONNX needs two more packages: pip install onnx onnxscript, then try again.")
    example = torch.zeros(1, steps, network.input_channels, *size)
    # the model stays where it is
    own = _plain(network) if isinstance(network, SlabUNet) else copy.deepcopy(network).cpu()
    whole = _Tensors(own).eval()
    try:
        with tempfile.TemporaryDirectory(dir=target.resolve().parent) as folder:
            temporary = Path(folder) / target.name
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.export(whole, (example,), strict=False)
                if target.suffix == ".pt2":
                    torch.export.save(program, temporary)
                else:
                    _onnx(program, temporary, isinstance(network, SequenceClassifier))
            os.replace(temporary, target)
    except OSError as error:
        raise WriteError(
            f"{target} could not be written: {error.strerror}. Choose a folder you may write to."
        ) from None
    return target


def _plain(network: SlabUNet) -> SlabUNet:
    """A copy with operators that every runtime has: instance norms by that name, and batch norms folded."""
    plain = (network.folded() if network.norm == "batch" else copy.deepcopy(network)).cpu()
    for block in list(plain.modules()):
        for name, norm in list(block.named_children()):
            if isinstance(norm, InstanceNorm):
                setattr(block, name, norm.as_torch())
    return plain


def _onnx(program: ExportedProgram, path: Path, classifier: bool) -> None:
    names = ["steps_logits", "exam_logits", "attention", "evidence"] if classifier else ["logits"]
    exported = torch.onnx.export(program, input_names=["steps"], output_names=names, dynamo=True, verbose=False)
    assert exported is not None
    exported.save(str(path), external_data=False)
