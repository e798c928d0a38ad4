"""Hand-crafted features of the slices or frames of a sequence, as tables for classical classifiers.

Intensity and texture are described by the usual radiomics features (Haralick et al. 1973,
doi:10.1109/TSMC.1973.4309314; Ojala et al. 2002, doi:10.1109/TPAMI.2002.1017623), by scikit-image; wavelengths and
directions by the bank of `preprocessing.gabor`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Reorientation
from napari_medseq.preprocessing.gabor import Gabor, gabor_responses
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import SPACE, ImageSequence, check_same_grid
from napari_medseq.settings import Settings, checked
from napari_medseq.volumes.turning import turned

Plane = NDArray[np.float64]
Part = Literal["intensity", "gabor", "cooccurrence", "patterns", "shape"]

_PERCENTILES = (5, 25, 50, 75, 95)
_TEXTURE = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM")
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_NEIGHBOURS = 8  # neighbours and radius of a local binary pattern; uniform patterns have _NEIGHBOURS + 2 values
_SHAPE = ("area", "perimeter", "eccentricity", "solidity", "extent", "axis_major_length", "axis_minor_length")


class FeatureSettings(Settings):
    """The features that are measured.

    Attributes
    ----------
    parts : tuple of {"intensity", "gabor", "cooccurrence", "patterns", "shape"}
        "shape" needs a mask.
    range : (float, float) or None
        Range of intensities, such as a window in HU; None: the image's own 1st to 99th percentile.
    bins : int
        Number of bins of the histogram.
    levels : int
        Grey levels of the co-occurrence matrix.
    distances : tuple of int
        Distances of the co-occurrence matrix in pixels, and radii of the patterns.
    gabor : Gabor
        The bank; its output is not used.
    """

    parts: tuple[Part, ...] = Field(("intensity", "gabor", "cooccurrence", "patterns"), min_length=1)
    range: tuple[float, float] | None = None
    bins: int = Field(16, ge=2, le=256)
    levels: int = Field(16, ge=2, le=64)
    distances: tuple[PositiveInt, ...] = Field((1, 3), min_length=1)
    gabor: Gabor = Gabor()


def slice_features(
    image: ImageSequence,
    mask: ImageSequence | None = None,
    *,
    settings: FeatureSettings | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> pd.DataFrame:
    """Compute features of every slice along the slice axis, or of every frame of a dynamic plane.

    Parameters
    ----------
    image : ImageSequence
        A grey image with three axes.
    mask : ImageSequence, optional
        A mask on the same grid. In slices that it reaches, intensity is measured within it, together with its shape.
    settings, progress, cancelled

    Returns
    -------
    DataFrame
        A row per step, a column per feature, such as ``intensity mean`` or ``gabor 0.1/mm 45° mean``. There are no
        missing values: shape features (in pixels) of a slice without a mask are 0.

    Raises
    ------
    MedseqError
        If the image is not a stack of grey planes, has no finite voxel, or "shape" is requested without a mask.
    GeometryError
        If the mask lies on another grid.
    """
    s = checked(FeatureSettings, settings)
    if image.kind == "labels" or "c" in image.axes:
        raise MedseqError(f"{image.name}: features need a grey image, not labels or colour.")
    if "shape" in s.parts and mask is None:
        raise MedseqError('Features of shape need a mask; give one, or leave "shape" out of parts.')
    if mask is not None:
        check_same_grid(image, mask)
    # directions within a slice are those that readers give it
    turn = geometry.to_codes(image.affine) if "z" in image.axes and image.oriented else Reorientation()
    if turn != Reorientation():
        image, mask = turned(image, turn), None if mask is None else turned(mask, turn)
    planes, axis = _planes(image)
    inside = None if mask is None else _along(np.asarray(mask.data), mask.axes, axis) != 0
    grey = _grey(planes, s)
    parts: dict[Part, Callable[[int], dict[str, float]]] = {
        "intensity": lambda k: _intensity(planes[k], grey[k], None if inside is None else inside[k], s),
        "cooccurrence": lambda k: _cooccurrence(grey[k], s),
        "patterns": lambda k: _patterns(grey[k], s),
        "shape": lambda k: _shape(np.zeros(planes[k].shape, bool) if inside is None else inside[k]),
    }
    rows = []
    for k in with_progress(list(range(len(planes))), len(planes), "measuring slices", progress, cancelled):
        row: dict[str, float] = {}
        for part in s.parts:
            if part != "gabor":
                row |= parts[part](k)
        rows.append(row)
    table = pd.DataFrame(rows, index=pd.RangeIndex(len(planes), name="step"))
    table = table if "gabor" not in s.parts else table.join(_gabor(image, axis, s, cancelled))
    backwards = axis in SPACE and turn.flips["xyz".index(axis)]
    return table[::-1].set_index(table.index) if backwards else table


def _planes(image: ImageSequence) -> tuple[Plane, str]:
    axis = image.series_axis
    if axis not in image.axes or len(image.axes) != 3:
        raise MedseqError(
            f"{image.name} has axes {image.axes}; features are of a stack of planes, (z, y, x) or (t, y, x)."
        )
    planes = _along(np.asarray(image.data), image.axes, axis).astype(np.float64)
    finite = np.isfinite(planes)
    if not finite.any():
        raise MedseqError(f"{image.name} has no finite voxel; there is nothing to measure.")
    return np.where(finite, planes, planes[finite].min()), axis


def _along(data: NDArray[np.generic], axes: tuple[str, ...], axis: str) -> NDArray[np.generic]:
    return np.moveaxis(data, axes.index(axis), 0)


def _grey(planes: Plane, s: FeatureSettings) -> Plane:
    """Intensities scaled from 0 at the lower bound to 1 at the upper one."""
    low, high = s.range if s.range is not None else (float(v) for v in np.percentile(planes, (1, 99)))
    if high <= low and s.range is None:  # nearly all of it is background
        low, high = float(planes.min()), float(planes.max())
    if high <= low:
        return np.zeros(planes.shape)
    return np.clip((planes - low) / (high - low), 0, 1)


def _intensity(plane: Plane, grey: Plane, inside: NDArray[np.bool_] | None, s: FeatureSettings) -> dict[str, float]:
    from scipy import stats

    within = inside is not None and inside.any()
    values, shades = (plane[inside], grey[inside]) if within else (plane.ravel(), grey.ravel())
    counts = np.bincount(np.minimum((shades * s.bins).astype(np.int64), s.bins - 1), minlength=s.bins) / shades.size
    even = float(np.ptp(values)) == 0  # without spread there is no skewness
    features = {
        "intensity mean": float(values.mean()),
        "intensity sd": float(values.std()),
        "intensity skewness": 0.0 if even else float(stats.skew(values)),
        "intensity kurtosis": 0.0 if even else float(stats.kurtosis(values)),
        "intensity entropy": float(stats.entropy(counts, base=2)),
    }
    features |= {
        f"intensity p{p}": float(v) for p, v in zip(_PERCENTILES, np.percentile(values, _PERCENTILES), strict=True)
    }
    return features | {f"histogram {k}": float(v) for k, v in enumerate(counts)}


def _cooccurrence(grey: Plane, s: FeatureSettings) -> dict[str, float]:
    from skimage.feature import graycomatrix, graycoprops

    levels = np.minimum((grey * s.levels).astype(np.uint8), s.levels - 1)
    matrix = graycomatrix(levels, s.distances, _ANGLES, levels=s.levels, symmetric=True, normed=True)
    features = {}
    for name in _TEXTURE:
        for distance, of_angle in zip(s.distances, graycoprops(matrix, name), strict=True):
            features[f"co-occurrence {name} {distance}px"] = float(of_angle.mean())
    return features


def _patterns(grey: Plane, s: FeatureSettings) -> dict[str, float]:
    from skimage.feature import local_binary_pattern

    features: dict[str, float] = {}
    shades = np.round(grey * 255).astype(np.uint8)
    for radius in s.distances:
        uniform = local_binary_pattern(shades, _NEIGHBOURS, radius, method="uniform")
        codes = uniform.astype(np.int64)
        share = np.bincount(codes.ravel(), minlength=_NEIGHBOURS + 2) / codes.size
        features |= {f"pattern {k} {radius}px": float(v) for k, v in enumerate(share)}
    return features


def _shape(inside: NDArray[np.bool_]) -> dict[str, float]:
    from skimage.measure import label, regionprops

    features = {f"shape {name}": 0.0 for name in _SHAPE} | {"shape parts": float(label(inside).max())}
    if inside.any():
        whole = regionprops(inside.astype(np.uint8))[0]
        features |= {f"shape {name}": float(whole[name]) for name in _SHAPE}
    return features


def _gabor(image: ImageSequence, axis: str, s: FeatureSettings, cancelled: Cancelled | None) -> pd.DataFrame:
    columns = {}
    for response in gabor_responses(image, settings=s.gabor, cancelled=cancelled):
        strength = _along(np.asarray(response.magnitude.data), response.magnitude.axes, axis)
        name = f"gabor {response.frequency:g}/mm {response.angle:g}°"
        columns[f"{name} mean"] = strength.mean((1, 2))
        columns[f"{name} sd"] = strength.std((1, 2))
    return pd.DataFrame(columns, index=pd.RangeIndex(image.size(axis), name="step"))
