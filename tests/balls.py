"""A study of bright balls in a grey head, whose lesions are known by construction."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np

#: visit → (day, centres in mm (r, a, s) and radii of the bright balls)
BALLS = (
    (date(2020, 1, 31), (((-10, 8, 0), 6.0), ((14, -10, 6), 4.0))),
    (date(2020, 5, 4), (((-10, 8, 0), 8.5), ((12, 16, -6), 5.0))),
)


#: RAS affine of each visit's file, on different grids and axis orders
AFFINES = (
    np.array([[2, 0, 0, -47], [0, 2, 0, -47], [0, 0, 3, -22.5], [0, 0, 0, 1]], float),
    np.array([[0, -2, 0, 47], [2, 0, 0, -47], [0, 0, 3, -22.5], [0, 0, 0, 1]], float),
)


SHAPE = (48, 48, 16)


def ball_image(visit: int, *, noise: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """(x, y, z) image with bright balls (value 500) in a grey head with structure, and their mask."""
    affine = AFFINES[visit]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    mask = np.zeros(SHAPE, bool)
    for centre, radius in BALLS[visit][1]:
        mask |= np.linalg.norm(world - centre, axis=-1) <= radius
    head = np.sqrt(((world - (0, 3, 0)) ** 2 / np.square([38.0, 44.0, 24.0])).sum(-1)) < 1
    grey = np.where(head, 120.0, 0.0)
    blobs = np.random.default_rng(5)  # the same anatomy at each visit, in patient space
    for _ in range(14):
        where, width, height = blobs.uniform(-30, 30, 3) * (1, 1, 0.6), blobs.uniform(5, 12), blobs.uniform(-70, 70)
        grey += head * height * np.exp(-((world - where) ** 2).sum(-1) / (2 * width**2))
    rng = np.random.default_rng(visit)
    image = np.where(mask, 500, grey) + rng.normal(0, noise, SHAPE)
    return image.clip(0).astype(np.int16), mask


def write_ball_study(folder: Path, *, visits: int = 2, masks: bool = True) -> Path:
    """A BIDS-like study of `visits` visits with one ``_T1post`` image each, and the expert's mask beside it."""
    for visit in range(visits):
        day = BALLS[visit][0]
        session = folder / f"ses-{day:%Y%m%d}"
        session.mkdir(parents=True)
        image, mask = ball_image(visit)
        nib.save(nib.Nifti1Image(image, AFFINES[visit]), session / "sub-x_T1post.nii.gz")
        if masks:
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINES[visit]), session / "sub-x_tumor.nii.gz")
    return folder
