"""Windows around structures, for the training of a prompted network: any structure, any axis, any scale, bent and turned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_medseq.errors import MedseqError
from napari_medseq.training.prompted.structures import PromptedCase, Structure

_TRIES = 50
_UNLABELLED = 0.4  # share of windows around structures that were found without labels


@dataclass(frozen=True, eq=False)
class PlacedWindow:
    """The position of one window: its steps, and the map from its plane to the image.

    Attributes
    ----------
    case : PromptedCase
    structure : Structure
    axis : int
        Axis of the case's arrays along which the steps lie.
    steps : ndarray of int
    real : ndarray of bool
        False beyond the ends of the image, where its outermost step is repeated.
    centre : (float, float)
        In native pixels.
    matrix : ndarray of float32, (2, 2)
        Window pixels (y, x) to native pixels.
    gap : float
        Distance from step to step in window pixels; 0: unknown to the network.
    """

    case: PromptedCase
    structure: Structure
    axis: int
    steps: NDArray[np.int64]
    real: NDArray[np.bool_]
    centre: tuple[float, float]
    matrix: NDArray[np.float32]
    gap: float

    def bounds(self, side: int) -> list[tuple[int, int]]:
        """First and last + 1 of the rows and columns that the window may need."""
        shape = [n for a, n in enumerate(self.case.image.shape) if a != self.axis]
        reach = np.abs(self.matrix).sum(1) * (side / 2 + 4) + 2
        ranges = []
        for middle, most, n in zip(self.centre, reach, shape, strict=True):
            low = int(np.clip(np.floor(middle - most), 0, n - 8))
            ranges.append((low, int(np.clip(np.ceil(middle + most), low + 8, n))))
        return ranges


def place_window(
    groups: Mapping[str, Sequence[PromptedCase]],
    shares: Mapping[str, float],
    steps: int,
    side: int,
    rng: np.random.Generator,
) -> PlacedWindow:
    """A window of `steps` × `side` × `side` around a random structure of a random case.

    Parameters
    ----------
    groups : mapping of name to cases
    shares : mapping of name to float
        How often each group is chosen, of their sum.
    steps, side : int
    rng : numpy.random.Generator

    Raises
    ------
    MedseqError
        If no structure fits.
    """
    names = list(groups)
    chance = np.array([shares[n] for n in names])
    for _ in range(_TRIES):
        group = groups[names[int(rng.choice(len(names), p=chance / chance.sum()))]]
        case = group[int(rng.integers(len(group)))]
        pool = case.unlabelled if rng.random() < _UNLABELLED else case.labelled
        if not pool:
            continue
        structure = pool[int(rng.integers(len(pool)))]
        axis = _axis(case, structure, rng)
        step_numbers, stride = _steps(structure, axis, steps, rng)
        if rng.random() < 0.5:
            step_numbers = step_numbers[::-1]  # read backwards
        real = (step_numbers >= 0) & (step_numbers < case.image.shape[axis])
        if real.mean() >= 0.5:
            return _turned(case, structure, axis, step_numbers, real, stride, side, rng)
    raise MedseqError("No structure fits a window; are the images large enough, and is anything labelled?")


def _axis(case: PromptedCase, structure: Structure, rng: np.random.Generator) -> int:
    """Mostly the image's own; another in plane where the structure is thick and the voxels are not too long."""
    extent = structure.box[:, 1] - structure.box[:, 0]
    if rng.random() < 0.3 and case.spacing[0] > 0:
        other = [a for a in (1, 2) if extent[a] >= 6 and extent[0] >= 5]
        if other and case.spacing[0] / case.spacing[1] < 4.5:
            return int(rng.choice(other))
    return 0


def _steps(structure: Structure, axis: int, steps: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """Steps that hold the structure, or part of it, perhaps not all of them; and the stride."""
    first, last = (int(v) for v in structure.box[axis])
    extent = last - first
    stride = int(np.clip(np.ceil(extent / (0.9 * steps)), 1, 4))
    gap = int(rng.integers(0, 4)) if rng.random() < 0.5 else 0
    if extent / (stride + gap) >= 4:
        stride += gap
    needed = int(np.ceil(extent / stride))
    if needed <= steps:
        start = first - int(rng.integers(0, steps - needed + 1)) * stride - int(rng.integers(0, stride))
    else:
        start = first + int(rng.integers(0, extent - steps * stride + 1)) if extent > steps * stride else first
    return start + stride * np.arange(steps), stride


def _turned(
    case: PromptedCase,
    structure: Structure,
    axis: int,
    step_numbers: NDArray[np.int64],
    real: NDArray[np.bool_],
    stride: int,
    side: int,
    rng: np.random.Generator,
) -> PlacedWindow:
    plane = [a for a in (0, 1, 2) if a != axis]
    frames = case.spacing[0] == 0
    pixel = np.array([1.0 if frames else case.spacing[a] for a in plane])
    box = structure.box[plane]
    span = (box[:, 1] - box[:, 0]) * pixel
    across = float(rng.uniform(0.25, 0.72)) * side
    # mm per window pixel; at most four times as fine as the image
    unit = float(max(span.max() / across, pixel.min() / 4))
    angle = float(rng.uniform(-np.pi, np.pi)) if rng.random() < 0.3 else float(rng.normal(0, 0.2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(np.exp(rng.normal(0, 0.12, 2)) * rng.choice([-1.0, 1.0], 2))
    matrix = (turn @ stretch) * unit / pixel[:, None]
    slack = np.maximum(side * unit - span, 0) / 2
    centre = box.mean(1) + rng.uniform(-0.6, 0.6, 2) * slack / pixel
    gap = 0.0 if frames or rng.random() >= 0.75 else stride * case.spacing[axis] / unit
    return PlacedWindow(
        case,
        structure,
        axis,
        np.clip(step_numbers, 0, case.image.shape[axis] - 1),
        real,
        (float(centre[0]), float(centre[1])),
        matrix.astype(np.float32),
        gap,
    )


def cut_windows(places: Sequence[PlacedWindow], side: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Images (0 to 1) and masks (bool) of the windows, each (batch, step, side, side).

    Parameters
    ----------
    places : sequence of PlacedWindow
    side : int
    shift : Tensor, (batch, step, 2, y, x)
        Displacement of each pixel along (y, x), in window pixels.
    """
    device = shift.device
    line = torch.arange(side, device=device) - (side - 1) / 2
    base = torch.stack(torch.meshgrid(line, line, indexing="ij"))
    bounds = [place.bounds(side) for place in places]
    rows = [_to_grid(place, b) for place, b in zip(places, bounds, strict=True)]
    # what the windows need from the host goes over at once: each transfer waits for the work before it
    moved = _sent(np.stack(rows).astype(np.float32), device)
    steps = _sent(np.stack([place.steps for place in places]), device)
    tables = _sent(np.stack([_table(place.structure) for place in places]), device)
    grid = torch.einsum("bij,btjyx->btyxi", moved[:, :4].view(-1, 2, 2), base + shift) + moved[:, None, None, None, 4:]
    grid = grid.flip(-1)
    pieces = []
    for k, (place, box) in enumerate(zip(places, bounds, strict=True)):
        pair = _native(place, box, steps[k], tables[k])
        pieces.append(
            functional.grid_sample(pair, grid[k], mode="bilinear", padding_mode="border", align_corners=False)
        )
    both = torch.stack(pieces)
    return both[:, :, 0], both[:, :, 1] > 0.5


def _native(place: PlacedWindow, box: list[tuple[int, int]], steps: Tensor, table: Tensor) -> Tensor:
    """Image and mask of the native pixels around a window, (step, 2, y, x)."""
    view = [slice(None)] * 3
    for axis, (low, high) in zip([a for a in range(3) if a != place.axis], box, strict=True):
        view[axis] = slice(low, high)
    values = place.case.found if place.structure.found else place.case.parts
    image, parts = (
        v[tuple(view)].index_select(place.axis, steps).movedim(place.axis, 0) for v in (place.case.image, values)
    )
    pair = torch.stack([image.float() / 255, table[parts.int()]], 1)
    if place.structure.found:  # a rough outline
        pair[:, 1:] = functional.avg_pool2d(pair[:, 1:], 3, 1, 1, count_include_pad=False)
    if abs(float(np.linalg.det(place.matrix))) ** 0.5 > 1.7:  # no aliasing in windows that see much
        pair = functional.avg_pool2d(pair, 2, ceil_mode=True)
    return pair


def _to_grid(place: PlacedWindow, bounds: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Window pixels to grid_sample's −1 to 1 in the box: the matrix's four numbers and the offset's two, along (y, x)."""
    sizes = [high - low for low, high in bounds]
    scale = np.array([2 / n for n in sizes])
    offset = [2 * (c - b[0] + 0.5) / n - 1 for c, b, n in zip(place.centre, bounds, sizes, strict=True)]
    return np.concatenate([(place.matrix * scale[:, None]).ravel(), offset])


def _sent(values: NDArray[np.generic], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _table(structure: Structure) -> NDArray[np.float32]:
    """1 for the values of a structure."""
    table = np.zeros(256, np.float32)
    table[list(structure.values)] = 1
    return table
