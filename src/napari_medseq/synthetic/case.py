"""Single random scans, of which hundreds can be made to train a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import SettingsError
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.synthetic.anatomy import Head
from napari_medseq.synthetic.fields import Grid
from napari_medseq.synthetic.lesions import Lesion, paint_lesion, random_lesion
from napari_medseq.synthetic.scanner import Scanner

LABEL_NAMES = {1: "enhancing tumour"}
#: least enhancing share of a voxel that an expert would outline as tumour
FILLED = 0.45


def scan(
    head: Head, lesions: list[Lesion], grid: Grid, scanner: Scanner, rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image one head once.

    Returns
    -------
    image : ndarray of int16, (z, y, x)
    labels : ndarray of uint8, (z, y, x)
        Each lesion's `identity` where at least `FILLED` of the voxel is its enhancing part.
    """
    grid = _windowed(head, grid)
    signal, brain = head.paint(grid)
    best = np.full(grid.shape, FILLED, np.float32)
    labels = np.zeros(grid.shape, np.uint8)
    for lesion in lesions:
        where, enhancing = paint_lesion(signal, brain, grid, lesion)
        share = np.zeros(signal.shape, np.float32)
        share[where] = enhancing
        thick = grid.thicken(share)
        np.copyto(labels, lesion.identity, where=thick > best)
        np.maximum(best, thick, out=best)
    full = grid.thicken(signal)
    if scanner.empty:
        labels[-scanner.empty :] = 0
    return scanner.acquire(full, rng), labels


def _windowed(head: Head, grid: Grid) -> Grid:
    """The grid with its window cut to where the head is."""
    step = 8
    near = head.distances(grid.nodes(step)).head < 6
    rows, columns = np.flatnonzero(near.any((0, 2))), np.flatnonzero(near.any((0, 1)))
    if not rows.size or not columns.size:
        return grid
    scale_y, scale_x = (grid.shape[1] - 1) / (near.shape[1] - 1), (grid.shape[2] - 1) / (near.shape[2] - 1)
    y0, y1 = max(0, int((rows[0] - 1) * scale_y)), min(grid.shape[1], int((rows[-1] + 1) * scale_y) + 1)
    x0, x1 = max(0, int((columns[0] - 1) * scale_x)), min(grid.shape[2], int((columns[-1] + 1) * scale_x) + 1)

    return replace(grid, window=(y0, y1, x0, x1))


def grid_affine(grid: Grid) -> NDArray[np.float64]:
    """Voxel (x, y, z) → RAS mm of a scan on `grid`, in the scanner's own space."""
    (nz, ny, nx), (sz, sy, sx) = grid.shape, grid.spacing
    first = np.array(grid.centre) - np.array([(nx - 1) * sx, (ny - 1) * sy, (nz - 1) * sz]) / 2
    return affine_from((sx, sy, sz), (-first[0], -first[1], first[2]))


def make_case(
    seed: int,
    *,
    shape_zyx: tuple[int, int, int] = (24, 256, 256),
    spacing_zyx: tuple[float, float, float] = (6.5, 0.86, 0.86),
    lesions: int | None = None,
) -> tuple[ImageSequence, ImageSequence]:
    """One random post-contrast T1 scan of a random head, with its tumour mask.

    Parameters
    ----------
    seed : int
        The same seed gives the same voxels.
    shape_zyx, spacing_zyx
        Voxels, and mm per voxel, along z, y and x.
    lesions : int, optional
        Number of tumours to place if there is room; None: 1 to 4 at random; 0: a healthy head.

    Returns
    -------
    image : ImageSequence
        int16, axes (z, y, x), house orientation, modality "MR".
    labels : ImageSequence
        uint8 on the same grid, 1 = enhancing tumour.

    Raises
    ------
    SettingsError
        If the shape, spacing or number of lesions is impossible.
    """
    if min(shape_zyx) < 2 or min(spacing_zyx) <= 0 or (lesions is not None and lesions < 0):
        raise SettingsError(
            f"make_case cannot make {lesions} lesions on {shape_zyx} voxels of {spacing_zyx} mm; "
            "give sizes of 2 or more, positive spacings, and 0 or more lesions."
        )
    rng = np.random.default_rng(seed)
    head = Head(rng)
    count = int(rng.integers(1, 5)) if lesions is None else lesions
    placed: list[Lesion] = []
    for _ in range(count):
        lesion = random_lesion(rng, head, placed, int(rng.integers(2**31)), 1)
        if lesion is not None:
            placed.append(lesion)
    u = rng.uniform
    height = shape_zyx[0] * spacing_zyx[0]
    # the lowest slice lies below the cerebellum, the highest above the vertex; a shorter stack is centred on the brain
    middle = u(-76, -60) + height / 2 if height > 120 else u(-5, 20)
    grid = Grid(
        shape_zyx,
        spacing_zyx,
        centre=(u(-5, 5), u(-5, 5), middle),
        rotation=(u(-12, 8), u(-4, 4), u(-6, 6)),
        thin=1 if spacing_zyx[0] < 2.5 else 2,
    )
    image, labels = scan(head, placed, grid, Scanner.random(rng), rng)
    affine = grid_affine(grid)
    picture = ImageSequence(
        data=image, axes=("z", "y", "x"), affine=affine, modality="MR", name=f"synthetic-{seed}_T1post"
    )
    mask = picture.labels_like(
        (labels > 0).astype(np.uint8), name=f"synthetic-{seed}_tumor", label_names=LABEL_NAMES, modality=None
    )
    return picture, mask


__all__ = ["FILLED", "LABEL_NAMES", "grid_affine", "make_case", "scan"]
