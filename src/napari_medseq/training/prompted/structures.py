"""The structures that a prompted network learns to carry: all structures of an image, labelled or found by intensity
alone.

Of labels: each class, each connected component, and unions of classes. Without labels: connected components of random classes of
the smoothed intensities, whose outlines the image shows. So the network is not tied to the organs that somebody labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence, check_same_grid

_MOST_PARTS = 255  # most components of one image, whose numbers are bytes
_SMALLEST = 40  # least voxels of a structure
_PART = 30  # voxels from which on a component gets a number of its own
_FOUND = 20  # most structures found without labels

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Structure:
    """One structure of an image: which values of which volume, and where it lies.

    Attributes
    ----------
    found : bool
        Whether it was found without labels.
    values : tuple of int
        In `PromptedCase.parts`, or in `PromptedCase.found`.
    box : ndarray of int, (3, 2)
        First and last + 1 along step, row and column.
    """

    found: bool
    values: tuple[int, ...]
    box: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PromptedCase:
    """An image with its structures, on a device.

    Attributes
    ----------
    name : str
    image, parts, found : Tensor of uint8, (step, row, column)
        Intensities, numbers of the labels' connected components, and of the structures found without labels.
    spacing : (float, float, float)
        mm; 0 from frame to frame.
    labelled, unlabelled : list of Structure
    """

    name: str
    image: Tensor
    parts: Tensor
    found: Tensor
    spacing: tuple[float, float, float]
    labelled: list[Structure]
    unlabelled: list[Structure]


def prompted_case(
    image: ImageSequence,
    labels: ImageSequence,
    *,
    rng: np.random.Generator,
    device: torch.device,
    window: tuple[float, float] | None = None,
    margin: float | None = None,
) -> PromptedCase:
    """An image and its labels as a case to learn from.

    Parameters
    ----------
    image, labels : ImageSequence
        A volume along "z", or frames along "t"; on one grid.
    rng : numpy.random.Generator
        Random choice of the classes of intensities.
    device : torch.device
    window : (float, float), optional
        Intensities that become black and white; None: the 0.3 and 99.8 % quantiles of what is not the darkest value.
    margin : float, optional
        mm around the labels that are kept, in the plane; None keeps the plane.

    Raises
    ------
    MedseqError
        If the axes are others, the grids differ, nothing is labelled, or there are more than 255 classes.
    """
    axis = "t" if "t" in image.axes else "z"
    if image.axes != (axis, "y", "x"):
        raise MedseqError(f"{image.name} has axes {image.axes}; a case to learn from is (z, y, x) or (t, y, x).")
    check_same_grid(image, labels)
    volume, drawn = np.asarray(image.data, np.float32), np.asarray(labels.data).astype(np.int64)
    if not drawn.any():
        raise MedseqError(f"{labels.name} labels nothing; leave it out.")
    spacing = (image.spacing["z"] if axis == "z" else 0.0, image.spacing["y"], image.spacing["x"])
    if margin is not None:
        volume, drawn = _cut(volume, drawn, [margin / spacing[1], margin / spacing[2]])
    grey = _as_bytes(volume, window)
    parts, classes = _parts(drawn, labels.name)
    structures = _by_intensity(grey, spacing, rng)
    tensors = [torch.from_numpy(v.copy()).to(device) for v in (grey, parts, structures)]
    numbers: list[tuple[int, ...]] = [(int(v),) for v in np.unique(structures) if v]
    return PromptedCase(
        image.name,
        tensors[0],
        tensors[1],
        tensors[2],
        spacing,
        _structures(parts, _groups(classes), found=False),
        _structures(structures, numbers, found=True),
    )


def _cut(
    volume: NDArray[np.float32], drawn: NDArray[np.int64], room: list[float]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    where = (drawn != 0).any(axis=0)
    cut = []
    for axis, margin in enumerate(room):
        at = np.flatnonzero(where.any(axis=1 - axis))
        cut.append(slice(max(0, int(at[0] - margin)), int(at[-1] + margin) + 1))
    return volume[:, cut[0], cut[1]], drawn[:, cut[0], cut[1]]


def _as_bytes(volume: NDArray[np.float32], window: tuple[float, float] | None) -> Bytes:
    if window is None:
        bright = volume[volume > volume.min()]
        low, high = (float(v) for v in np.percentile(bright, (0.3, 99.8))) if bright.size else (0.0, 1.0)
    else:
        low, high = window
    grey: Bytes = np.round(np.clip((volume - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return grey


def _parts(drawn: NDArray[np.int64], name: str) -> tuple[Bytes, dict[int, tuple[int, ...]]]:
    """Numbers of the connected components, small ones of a class together, and those of each class.

    When numbers run short, further components of a class count as small; one number is kept free for each class to come.
    """
    out = np.zeros(drawn.shape, np.uint8)
    classes: dict[int, tuple[int, ...]] = {}
    values = [int(v) for v in np.unique(drawn) if v]
    if len(values) > _MOST_PARTS:
        raise MedseqError(
            f"{name} has {len(values)} classes; a case to learn from has {_MOST_PARTS} at most. Split it into several."
        )
    number = 0
    for later, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
        pieces, _ = ndimage.label(drawn == value, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())
        own, remainder = list[int](), 0
        for k, where in enumerate(ndimage.find_objects(pieces), 1):
            apart = sizes[k] >= _PART and number + later + (not remainder) < _MOST_PARTS
            if apart or not remainder:
                number += 1
                own.append(number)
                remainder = remainder if apart else number
            out[where][pieces[where] == k] = number if apart else remainder
        classes[value] = tuple(own)
    return out, classes


def _groups(classes: dict[int, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Each class, each component, everything, and pairs of classes."""
    groups = list(classes.values())
    groups += [(part,) for own in classes.values() if len(own) > 1 for part in own]
    if len(classes) > 1:
        groups.append(tuple(part for own in classes.values() for part in own))
        groups += [a + b for a, b in combinations(classes.values(), 2)]
    return list(dict.fromkeys(groups))


def _structures(volume: Bytes, groups: list[tuple[int, ...]], *, found: bool) -> list[Structure]:
    boxes = ndimage.find_objects(volume)
    sizes = np.bincount(volume.ravel(), minlength=256)
    structures = []
    for group in groups:
        present = [boxes[v - 1] for v in group if boxes[v - 1] is not None]
        if sum(int(sizes[v]) for v in group) < _SMALLEST or not present:
            continue
        spans = np.array([[(s.start, s.stop) for s in box] for box in present])
        box = np.stack([spans[..., 0].min(0), spans[..., 1].max(0)], 1)
        if found and ((box[1:, 1] - box[1:, 0]) > 0.7 * np.array(volume.shape[1:])).any():
            continue  # background, more often than not
        structures.append(Structure(found, group, box))
    return structures


def _by_intensity(grey: Bytes, spacing: tuple[float, float, float], rng: np.random.Generator) -> Bytes:
    """Connected components of random classes of the smoothed intensities, the most compact first, not over each other."""
    fine = min(spacing[1:])
    smooth = ndimage.gaussian_filter(grey.astype(np.float32), (0.6 * min(1.0, fine / max(spacing[0], 0.1)), 1.0, 1.0))
    out = np.zeros(grey.shape, np.uint8)
    bright = smooth[smooth > 8]
    if bright.size < 500:
        return out
    candidates = []
    for _ in range(2):
        cuts = np.quantile(bright, np.sort(rng.uniform(0.03, 0.97, int(rng.integers(3, 7)))))
        classes = np.digitize(smooth, cuts)
        for value in range(len(cuts) + 1):
            candidates += _compact(ndimage.binary_opening(classes == value, np.ones((1, 3, 3))), rng)
    number = 0
    for _, where, region in sorted(candidates, key=lambda c: -c[0]):
        if number < _FOUND and (out[where][region] > 0).mean() <= 0.2:
            number += 1
            out[where][region & (out[where] == 0)] = number
    return out


def _compact(
    mask: NDArray[np.bool_], rng: np.random.Generator
) -> list[tuple[float, tuple[slice, ...], NDArray[np.bool_]]]:
    """Components that could be structures: their rank, where they lie, and their mask there; holes are filled in half of them."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())
    candidates = []
    for k, where in enumerate(ndimage.find_objects(pieces), 1):
        extent = [s.stop - s.start for s in where]
        if sizes[k] < 150 or extent[0] < min(4, mask.shape[0]) or not 6 <= min(extent[1:]) <= max(extent[1:]) <= 140:
            continue
        region = pieces[where] == k
        if rng.random() < 0.5:
            region = np.stack([ndimage.binary_fill_holes(r) for r in region])
        fill = float(region.mean())
        if fill >= 0.12:
            candidates.append((fill * float(sizes[k]) ** 0.33 * float(rng.uniform(0.5, 1.5)), where, region))
    return candidates
