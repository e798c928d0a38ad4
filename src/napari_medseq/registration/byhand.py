"""An alignment made by hand, from landmarks or by nudging, which is kept with the image and measured like any other.

It is stored in the image's ``meta``, so that it goes with the image into sessions and results, and `visits` uses it
instead of a registration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq import geometry
from napari_medseq.errors import RegistrationError
from napari_medseq.geometry import Affine
from napari_medseq.registration.linear import Pair, prepared
from napari_medseq.registration.measure import Agreement, Sampler
from napari_medseq.registration.optimise import nearest_rotation
from napari_medseq.sequence import ImageSequence

#: its key in ``ImageSequence.meta``
KEY = "aligned_by_hand"
#: landmarks count as collinear if they spread across their line by less than this share of its length
_LINE = 1e-3


@dataclass(frozen=True, eq=False)
class HandAlignment:
    """The alignment of a visit to the first one as a person made it.

    Attributes
    ----------
    to_first : ndarray, shape (4, 4)
        RAS+ mm of the visit → RAS+ mm of the first visit.
    how : str
        How it was made, in words, for the record.
    error_mm : float or None
        Root-mean-square distance of the landmarks; None if it was nudged by eye.
    """

    to_first: Affine
    how: str
    error_mm: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The alignment as plain values, for ``meta`` and the record."""
        return {"to_first": np.asarray(self.to_first).tolist(), "how": self.how, "error_mm": self.error_mm}

    @classmethod
    def of(cls, image: ImageSequence | None) -> HandAlignment | None:
        """The alignment by hand of an image; None if there is none, or if the stored value is not valid."""
        record = None if image is None else image.meta.get(KEY)
        return cls.from_dict(record) if isinstance(record, Mapping) else None

    @classmethod
    def from_dict(cls, record: Mapping[str, object]) -> HandAlignment | None:
        """The alignment that `as_dict` described; None if the value is not valid."""
        try:
            matrix = geometry.as_affine(np.asarray(record["to_first"], dtype=np.float64))
        except (KeyError, TypeError, ValueError):
            return None
        error = record.get("error_mm")
        return cls(matrix, str(record.get("how", "by hand")), float(error) if isinstance(error, int | float) else None)


def fit_landmarks(fixed: ArrayLike, moving: ArrayLike) -> tuple[Affine, float]:
    """The rigid map that brings landmarks of the fixed image to the same landmarks of the moving one, by least
    squares.

    The method is the singular value decomposition of Arun, Huang and Blostein 1987, doi:10.1109/TPAMI.1987.4767965.
    One pair gives a shift. Two pairs, or more on one line, leave the rotation about that line open, and the smallest
    one is taken.

    Parameters
    ----------
    fixed, moving : array_like, shape (n, 3)
        Landmarks, pair by pair, in RAS+ mm.

    Returns
    -------
    tuple of (4×4 ndarray, float)
        Fixed → moving, and the remaining root-mean-square distance in mm.

    Raises
    ------
    RegistrationError
        If there is no pair, or the numbers differ.
    """
    f, m = (np.asarray(p, dtype=np.float64).reshape(-1, 3) for p in (fixed, moving))
    if len(f) != len(m) or not len(f):
        raise RegistrationError(
            f"Landmarks come in pairs: there are {len(f)} at one visit and {len(m)} at the other. Mark the same places in both."
        )
    middle_f, middle_m = f.mean(axis=0), m.mean(axis=0)
    spread = np.linalg.svd(f - middle_f, compute_uv=False)
    if len(f) == 1 or spread[0] == 0:
        turn = np.eye(3)
    elif len(f) == 2 or spread[1] < _LINE * spread[0]:
        line = np.linalg.svd(f - middle_f)[2][0]
        turn = _least_turn(line, (m - middle_m).T @ ((f - middle_f) @ line))
    else:
        turn = nearest_rotation((m - middle_m).T @ (f - middle_f))
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = middle_m - turn @ middle_f
    residuals = geometry.apply_points(matrix, f) - m
    return geometry.as_affine(matrix), float(np.sqrt((residuals**2).sum(axis=1).mean()))


def _least_turn(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rotation that maps one direction to another."""
    a, b = (v / (np.linalg.norm(v) or 1.0) for v in (one, other))
    axis, cosine = np.cross(a, b), float(a @ b)
    if np.linalg.norm(axis) < 1e-12 and cosine >= 0:
        return np.eye(3)
    if 1 + cosine < 1e-12:  # half a turn, about any axis across
        across = np.linalg.svd(a[None])[2][1]
        return np.asarray(2 * np.outer(across, across) - np.eye(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cosine))


def rigid_about(centre: ArrayLike, shift_mm: ArrayLike, turn_deg: ArrayLike) -> Affine:
    """A rotation about a point, about the R, A and S axes in this order, followed by a shift, in RAS+ mm."""
    from scipy.spatial.transform import Rotation

    c = np.asarray(centre, dtype=np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", np.asarray(turn_deg, dtype=np.float64), degrees=True).as_matrix()
    matrix[:3, 3] = c - matrix[:3, :3] @ c + np.asarray(shift_mm, dtype=np.float64)
    return geometry.as_affine(matrix)


class AlignmentMeter:
    """Measures how well two images agree under any alignment; prepared once, then fast.

    Parameters
    ----------
    moving, fixed : ImageSequence
        As for `register`.
    """

    def __init__(self, moving: ImageSequence, fixed: ImageSequence) -> None:
        self._pair: Pair = prepared(moving, fixed)
        self._sampler: Sampler = self._pair.sampler(1)

    def at(self, matrix: Affine) -> Agreement:
        """The agreement if points of the fixed image are mapped to the moving one by ``matrix`` (RAS+ mm)."""
        return self._sampler.at(self._pair.framed(matrix))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the fixed body, RAS+ mm."""
        back = np.asarray(np.linalg.inv(self._pair.fixed_frame))
        return np.asarray(geometry.apply_points(back, self._sampler.centre[None])[0])
