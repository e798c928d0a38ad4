"""Training cases: an image and its labels as network steps, kept in memory in half precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import MedseqError
from napari_medseq.inference.inputs.frame import Framing, frame, take
from napari_medseq.inference.inputs.visits import VisitStack
from napari_medseq.inference.upright import Upright
from napari_medseq.sequence import ImageSequence

_LARGEST_LABEL = 126


@dataclass(frozen=True)
class Case:
    """One image with what is known of it, framed for a network.

    Attributes
    ----------
    patient, name : str
        Splits are by `patient`.
    image : Tensor, shape (step, channel, y, x), or (step, channel, position, y, x), float16, robust units
        With positions where a step is a frame or a visit: its slices.
    labels : Tensor, shape (step, y, x), or (step, position, y, x), int8; -1 is unlabelled
    target : Tensor, shape (class,), float32, or None
        Answers for the whole exam, 0 or 1, NaN where unknown.
    times : Tensor, shape (step,), float32, or None
        Where (mm) or when (s, days) each step is, from the first; None where unknown.
    table : Tensor, shape (value,), float32, or None
        Values from a table, NaN where missing.
    of_steps : Tensor, shape (step, class), float32, or None
        Answers for each step, 0 or 1, NaN where unknown; `target` is their mean then.
    """

    patient: str
    name: str
    image: Tensor
    labels: Tensor
    target: Tensor | None = None
    times: Tensor | None = None
    table: Tensor | None = None
    of_steps: Tensor | None = None


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
    table: Tensor | None = None,
    least: tuple[int, int] | None = None,
    trimmed: bool | Literal["planes"] = False,
    middle_mm: float | None = None,
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
        Label value that marks unlabelled voxels.
    merge : bool
        All positive labels become class 1.
    sparse : bool
        Whether steps without any positive label are unlabelled.
    steps : sequence of int, optional
        The only steps that somebody looked at, with or without something to label.
    target, table : Tensor, optional
        As in `Case`.
    least : (int, int), optional
        As in `frame.frame`; what it adds is unlabelled.
    trimmed, middle_mm
        As in `InferenceSettings`; the case is what lies within.

    Raises
    ------
    MedseqError
        If labels and image are not on one grid, or labels are not whole numbers from 0 to 126, or `steps` are not there.
    """
    first = channels[0]
    if labels is not None:
        _check_grid(labels, first)
    # as in use: an image made in memory may lie otherwise than readers turn it
    turn, channels = Upright.of_channels(channels, trimmed=trimmed, middle_mm=middle_mm)
    labels = None if labels is None else turn.there(labels)
    f = frame(channels, along=along, pixel_mm=pixel_mm, stride=1, least=least)
    image = _read_image(f, channels)
    if labels is None:
        y = torch.full((image.shape[0], *image.shape[2:]), -1, dtype=torch.int8)
    else:
        y = _at_size(_read_labels(labels, f, unlabelled, merge), f.inner)
        more = (0, image.shape[-1] - y.shape[-1], 0, image.shape[-2] - y.shape[-2])
        y = functional.pad(y, more, value=-1)
    if labels is not None and steps is not None:
        count = first.size(turn.own(f.axes[0])) if f.axes[0] else 1
        bad = [i for i in steps if not 0 <= i < count]
        if bad:
            raise MedseqError(f"{labels.name} has steps 0 to {count - 1}, not {bad}.")
        y[sorted(set(range(f.steps)) - set(turn.steps(steps, f.axes[0]) or ()))] = -1
    elif sparse:
        y = _only_labelled(y)
    return Case(patient, first.name, image, y, target, _from_first(f), table)


def make_visit_case(
    patient: str,
    group: VisitStack,
    labels: Mapping[int, ImageSequence],
    *,
    pixel_mm: float | None = None,
    unlabelled: int | None = None,
    merge: bool = True,
    sparse: bool = False,
    target: Tensor | None = None,
    table: Tensor | None = None,
) -> Case:
    """Frame a patient's visits on the grid of one of them, with the labels of those whose own grid it is.

    Parameters
    ----------
    patient : str
    group : VisitStack
    labels : mapping of int to ImageSequence
        By the visit's index; a visit without is unlabelled, and so is one of another grid.
    pixel_mm, unlabelled, merge, sparse, target, table
        As in `make_case`.

    Raises
    ------
    MedseqError
        As `make_case`.
    """
    f = group.framing(pixel_mm=pixel_mm, stride=1)
    image = _read_image(f, group.channels)
    y = torch.full((image.shape[0], *image.shape[2:]), -1, dtype=torch.int8)
    for at in group.own:
        own = labels.get(group.visits[at])
        if own is not None:
            _check_grid(own, group.channels[0])
            planes = _at_size(_read_labels(own, f, unlabelled, merge, only=at), f.inner)
            y[at] = (_only_labelled(planes) if sparse else planes)[0]
    return Case(patient, group.channels[0].name, image, y, target, _from_first(f), table)


def _check_grid(labels: ImageSequence, image: ImageSequence) -> None:
    if image.grid != labels.grid or not labels.same_grid(image, 1e-2):
        raise MedseqError(f"{labels.name} is not on the grid of {image.name}; labels must lie on the image's own grid.")


def _read_image(f: Framing, channels: Sequence[ImageSequence]) -> Tensor:
    """(step, channel, y, x), or where steps are frames or visits (step, channel, position, y, x); float16."""
    if f.axes[0] != "t":
        return torch.stack([f.read(channels, i) for i in range(f.steps)]).half()
    return torch.stack([f.read_volume(channels, i) for i in range(f.steps)]).half()


def _from_first(f: Framing) -> Tensor | None:
    return None if f.times is None else torch.tensor([t - f.times[0] for t in f.times])


def _only_labelled(y: Tensor) -> Tensor:
    """Planes (…, y, x) without any positive label become unlabelled."""
    return torch.where(y.gt(0).flatten(-2).any(-1)[..., None, None], y, torch.full_like(y, -1))


def _at_size(y: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (step, …, y, x) at so many rows and columns, int8."""
    if tuple(y.shape[-2:]) != size:
        flat = y.reshape(1, -1, *y.shape[-2:]).float()
        y = functional.interpolate(flat, size=size, mode="nearest-exact").reshape(*y.shape[:-2], *size)
    return y.to(torch.int8)


def _read_labels(
    labels: ImageSequence, f: Framing, unlabelled: int | None, merge: bool, only: int | None = None
) -> Tensor:
    """Labels (step, [position,] row, column) in the framing's crop, int16, 0 or 1 with `merge`; -1 where unlabelled.

    `only`: the labels are those of this step alone.
    """
    r0, r1, c0, c1 = f.crop
    steps = range(f.steps) if only is None else [only]
    planes = [_whole(take(labels, f.axes, i, f.across, p), labels.name) for i in steps for p in f.positions]
    y = torch.from_numpy(np.stack([p[r0:r1, c0:c1] for p in planes]))
    if f.axes[0] == "t":
        y = y.unflatten(0, (len(steps), len(f.positions)))
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
                f"{name} holds the label {bad[0]:g}, which is not a whole number; labels are classes, not probabilities: "
                "apply a threshold first."
            )
    return plane.astype(np.int64)
