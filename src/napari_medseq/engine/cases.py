"""Training cases: an image and its labels as network steps, kept in memory in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.engine.frame import Framing, frame, take
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence

_LARGEST_LABEL = 126


@dataclass(frozen=True)
class Case:
    """One image with what is known of it, framed for a network.

    Attributes
    ----------
    patient, name : str
        Splits are by `patient`.
    image : Tensor, shape (step, channel, y, x), float16, robust units
    labels : Tensor, shape (step, y, x), int8; -1 is unlabelled
    target : Tensor, shape (class,), float32, or None
        Answers for the whole exam, 0 or 1, NaN where unknown.
    """

    patient: str
    name: str
    image: Tensor
    labels: Tensor
    target: Tensor | None = None


def make_case(
    patient: str,
    channels: Sequence[ImageSequence],
    labels: ImageSequence | None,
    *,
    along: str = "slices",
    pixel_mm: float | None = None,
    unlabelled: int | None = None,
    merge: bool = True,
    sparse: bool = False,
    steps: Sequence[int] | None = None,
    target: Tensor | None = None,
) -> Case:
    """Frame an image and its labels for training.

    Parameters
    ----------
    patient : str
    channels : sequence of ImageSequence
    labels : ImageSequence or None
        On the same grid as the channels; None: nothing is labelled.
    along, pixel_mm
        As in `frame.frame`.
    unlabelled : int, optional
        Label value that marks voxels nobody looked at.
    merge : bool
        All positive labels become class 1.
    sparse : bool
        Steps without any positive label are ones that nobody looked at.
    steps : sequence of int, optional
        The only steps that somebody looked at, with or without something to label.
    target : Tensor, optional
        As in `Case`.

    Raises
    ------
    MedseqError
        If labels and image are not on one grid, or labels are no whole numbers from 0 to 126, or `steps` are not there.
    """
    first = channels[0]
    if labels is not None and (first.grid != labels.grid or not labels.same_grid(first, 1e-2)):
        raise MedseqError(f"{labels.name} is not on the grid of {first.name}; labels must lie on the image's own grid.")
    f = frame(channels, along=along, pixel_mm=pixel_mm, stride=1)
    image = torch.stack([f.read(channels, i) for i in range(f.steps)]).half()
    if labels is None:
        y = torch.full((f.steps, *image.shape[-2:]), -1, dtype=torch.int8)
        return Case(patient, first.name, image, y, target)
    y = _read_labels(labels, f, unlabelled, merge)
    if steps is not None:
        bad = [i for i in steps if not 0 <= i < f.steps]
        if bad:
            raise MedseqError(f"{labels.name} has steps 0 to {f.steps - 1}, not {bad}.")
        y[sorted(set(range(f.steps)) - set(steps))] = -1
    elif sparse:
        y[~y.flatten(1).gt(0).any(1)] = -1
    size = tuple(image.shape[-2:])
    if tuple(y.shape[-2:]) != size:
        y = functional.interpolate(y[None].float(), size=size, mode="nearest-exact")[0].to(torch.int16)
    return Case(patient, first.name, image, y.to(torch.int8), target)


def _read_labels(labels: ImageSequence, f: Framing, unlabelled: int | None, merge: bool) -> Tensor:
    """Labels (step, row, column) in the framing's crop, int16, 0 or 1 with `merge`; -1 where unlabelled."""
    r0, r1, c0, c1 = f.crop
    planes = [_whole(take(labels, f.axes, i), labels.name) for i in range(f.steps)]
    y = torch.from_numpy(np.stack([p[r0:r1, c0:c1] for p in planes]))
    blank = y == unlabelled if unlabelled is not None else torch.zeros_like(y, dtype=torch.bool)
    if merge:
        y[(y > 0) & ~blank] = 1
    wrong = sorted(set(y[~blank].unique().tolist()) - set(range(_LARGEST_LABEL + 1)))
    if wrong:
        raise MedseqError(
            f"{labels.name} holds the label {wrong[0]}; training takes 0 to {_LARGEST_LABEL}. Name the value that means "
            "unlabelled (unlabelled=), or renumber the labels."
        )
    y[blank] = -1
    return y.to(torch.int16)


def _whole(plane: NDArray[np.generic], name: str) -> NDArray[np.int64]:
    """Label values as integers.

    Raises
    ------
    MedseqError
        If one is not.
    """
    if plane.dtype.kind not in "iub":
        values = plane.astype(np.float64)
        bad = values[~np.isfinite(values) | (values != np.round(values))]
        if bad.size:
            raise MedseqError(
                f"{name} holds the label {bad[0]:g}, which is no whole number; labels are classes, not probabilities: "
                "apply a threshold first."
            )
    return plane.astype(np.int64)
