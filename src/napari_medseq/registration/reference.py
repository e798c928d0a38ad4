"""Common spaces that are not one visit's own: by the chain of visits, or midway between two visits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from napari_medseq import geometry
from napari_medseq.errors import RegistrationError, SettingsError
from napari_medseq.geometry import Affine
from napari_medseq.registration.transform import Transform


def chained(steps: Sequence[Affine], errors: Sequence[float]) -> tuple[list[Affine], list[float]]:
    """The map from each visit to the first one through all visits between.

    Parameters
    ----------
    steps : sequence of (4, 4) ndarray
        Visit → the visit before it, RAS+ mm; the first is the identity.
    errors : sequence of float
        Estimate of each step's error in mm; the squares of errors add up.

    Returns
    -------
    matrices : list of (4, 4) ndarray
    errors : list of float
    """
    whole = [geometry.as_affine(m) for m in accumulate(steps, lambda so_far, step: so_far @ step)]
    return whole, [float(e) for e in np.sqrt(np.cumsum(np.square(errors)))]


def midway(forth: Transform, back: Transform) -> tuple[Affine, Affine, float]:
    """The space half-way between two images, in which neither is the reference, so that neither is blurred or
    favoured.

    Both directions are averaged in the logarithm (Arsigny et al. 2009, "A fast and log-Euclidean polyaffine framework",
    doi:10.1007/s10851-008-0135-9), and half of the mean map is applied to each image.

    Parameters
    ----------
    forth : Transform
        Fixed = first image, moving = second.
    back : Transform
        Fixed = second image, moving = first.

    Returns
    -------
    first, second : (4, 4) ndarray
        Image → midway space, RAS+ mm.
    error_mm : float
        Disagreement of the two directions at 50 mm from the centre of the first image's grid (or the world's origin).

    Raises
    ------
    SettingsError
        If one is deformable.
    RegistrationError
        If the map has no real logarithm (a mirror or a half turn).
    """
    from scipy.linalg import expm, logm

    if forth.matrix is None or back.matrix is None:
        raise SettingsError("The midway space of a deformable registration is not defined; use 'rigid' or 'affine'.")
    forth_matrix, back_matrix = forth.matrix, np.linalg.inv(back.matrix)
    centre = np.zeros(3)
    if forth.fixed_affine is not None and forth.fixed_grid is not None:
        centre = geometry.apply_points(forth.fixed_affine, (np.array(forth.fixed_grid)[None] - 1) / 2)[0]
    forth_matrix, back_matrix = geometry.as_affine(forth_matrix), geometry.as_affine(back_matrix)
    logs = [np.asarray(logm(m)) for m in (forth_matrix, back_matrix)]
    if any(np.iscomplexobj(log) and np.abs(log.imag).max() > 1e-6 for log in logs):
        raise RegistrationError(
            "There is no half of this transform (it mirrors or turns by 180°); use another reference."
        )
    mean = (logs[0].real + logs[1].real) / 2
    around = np.asarray(centre + 50.0 * np.concatenate([np.eye(3), -np.eye(3)]), dtype=np.float64)
    apart = geometry.apply_points(forth_matrix, around) - geometry.apply_points(back_matrix, around)
    half = np.asarray(expm(mean / 2), dtype=np.float64)
    error = float(np.sqrt((apart**2).sum(axis=1).mean()))
    return geometry.as_affine(half), geometry.as_affine(np.linalg.inv(half)), error
