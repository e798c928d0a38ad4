"""Intensity measures inside a lesion: mean, spread and percentiles, in Hounsfield units on CT and SUV on PET."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.progression.components import Lesion
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.padding import is_padding
from napari_medseq.volumes.sampling import spread

#: radius in mm of the 1 mL sphere of SUV peak (Wahl et al., PERCIST, J Nucl Med 2009, 50 Suppl 1:122S)
PEAK_RADIUS_MM = (3 * 1000 / (4 * np.pi)) ** (1 / 3)
#: voxels of an image among which a lesion's brightness is ranked
_SAMPLE = 20_000


def prefix(image: ImageSequence) -> str:
    """The prefix of the measures' names: ``hu`` for CT, ``suv`` for PET in SUV, ``uptake`` for other PET, else
    ``intensity``."""
    if image.modality == "CT":
        return "hu"
    if image.modality == "PT":
        if "suv_bw" in image.meta:
            return "suv"
        units = str(image.meta.get("units", image.meta.get("unit", ""))).upper()
        return "suv" if "SUV" in units or units in ("G/ML", "GML") else "uptake"
    return "intensity"


def scale(image: ImageSequence) -> float:
    """The factor from voxel values to the unit that `prefix` names: the SUV factor of a PET series in Bq/mL, else 1."""
    return float(image.meta.get("suv_bw", 1.0)) if image.modality == "PT" else 1.0


def intensities(lesion: Lesion, image: ImageSequence | None) -> dict[str, float]:
    """Measures of the image inside a lesion; none for colour or dynamic images.

    Parameters
    ----------
    lesion : Lesion
    image : ImageSequence or None
        On any grid in the visit's world: on another grid it is interpolated (linear) at the lesion's voxels.

    Returns
    -------
    dict of str to float
        Mean, sd, 5th, 50th and 95th percentile, maximum; for PET also the peak (highest mean over a 1 mL sphere centred in the
        lesion) and total lesion glycolysis (mean SUV times mL).
    """
    if image is None or set(image.axes) & {"t", "c"}:
        return {}
    values = values_in(lesion, image) * scale(image)
    values = values[np.isfinite(values)]
    if not values.size:
        return {}
    name = prefix(image)
    low, middle, high = np.percentile(values, (5, 50, 95))
    measures = {
        f"{name}_mean": float(values.mean()),
        f"{name}_sd": float(values.std()),
        f"{name}_p05": float(low),
        f"{name}_median": float(middle),
        f"{name}_p95": float(high),
        f"{name}_max": float(values.max()),
    }
    if image.modality == "PT":
        measures[f"{name}_peak"] = peak(lesion, image) * scale(image)
        measures["tlg_ml" if name == "suv" else "total_uptake_ml"] = float(values.mean() * lesion.volume_mm3 / 1000)
    return measures


def comparable(images: Sequence[ImageSequence | None]) -> bool:
    """Whether brightness may be compared: every visit has one plain image, all of one known modality."""
    kinds = {image.modality if image is not None and not set(image.axes) & {"t", "c"} else None for image in images}
    return len(kinds) == 1 and None not in kinds


class Appearance:
    """Brightness of a lesion as a rank: the share of its image's voxels that are darker than its median.

    A rank does not depend on the scanner's scale, so that visits compare. Computed when first asked for.

    Parameters
    ----------
    images : sequence of ImageSequence
        One per visit.
    """

    def __init__(self, images: Sequence[ImageSequence | None]) -> None:
        self._images = list(images)
        self._sorted: dict[int, NDArray[np.float64]] = {}
        self._ranks: dict[tuple[int, int], float] = {}

    def __call__(self, lesion: Lesion) -> float:
        """Rank from 0 to 1; NaN where the image does not show the lesion."""
        image = self._images[lesion.visit]
        if image is None:
            return float("nan")
        if lesion.key not in self._ranks:
            if lesion.visit not in self._sorted:
                voxels = np.asarray(image.data).ravel()
                sample = voxels[spread(voxels.size, _SAMPLE)].astype(np.float64)
                self._sorted[lesion.visit] = np.sort(sample[np.isfinite(sample)])
            values_of_visit = self._sorted[lesion.visit]
            values = values_in(lesion, image)
            values = values[np.isfinite(values)]
            rank = (
                np.searchsorted(values_of_visit, np.median(values)) / len(values_of_visit)
                if values.size and len(values_of_visit)
                else np.nan
            )
            self._ranks[lesion.key] = float(rank)
        return self._ranks[lesion.key]


def values_in(lesion: Lesion, image: ImageSequence) -> NDArray[np.float64]:
    """The image's values at the lesion's voxels, shape (n,); NaN outside the image."""
    volume = image.data if "z" in image.axes else image.data[np.newaxis]
    to_image = np.asarray(np.linalg.solve(image.affine, lesion.affine))
    at = geometry.apply_points(to_image, lesion.index[:, ::-1])[:, ::-1]
    near = np.rint(at).astype(np.int64)
    low, high = near.min(axis=0) - 1, near.max(axis=0) + 2
    low, high = np.maximum(low, 0), np.minimum(high, volume.shape)
    if (low >= high).any():
        return np.full(len(at), np.nan)
    crop = np.asarray(volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]).astype(np.float64)
    padding = is_padding(crop, image)
    if padding is not None:
        crop[padding] = np.nan
    if np.abs(at - near).max() < 1e-3:
        inside = ((near >= low) & (near < high)).all(axis=1)
        values = np.full(len(at), np.nan)
        values[inside] = crop[tuple((near[inside] - low).T)]
        return values
    from scipy import ndimage

    inside = ((at >= -0.5) & (at <= np.array(volume.shape) - 0.5)).all(axis=1)
    # the outer half of a voxel at the edge has its value
    place = np.clip(at[inside] - low, 0, np.array(crop.shape) - 1)
    values = np.full(len(at), np.nan)
    values[inside] = ndimage.map_coordinates(crop, place.T, order=1, mode="nearest")
    return values


def peak(lesion: Lesion, image: ImageSequence) -> float:
    """Highest mean over a sphere of 1 mL whose centre is a voxel of the lesion, on the image's own grid."""
    from scipy import ndimage

    volume = image.data if "z" in image.axes else image.data[np.newaxis]
    to_image = np.asarray(np.linalg.solve(image.affine, lesion.affine))
    centres = np.unique(
        np.rint(geometry.apply_points(to_image, lesion.index[:, ::-1])[:, ::-1]).astype(np.int64), axis=0
    )
    spacing = geometry.spacing(image.affine)[::-1]
    reach = np.ceil(PEAK_RADIUS_MM / spacing).astype(int)
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), axis=-1)
    sphere = ((offsets * spacing) ** 2).sum(axis=-1) <= PEAK_RADIUS_MM**2
    low = np.maximum(centres.min(axis=0) - reach, 0)
    high = np.minimum(centres.max(axis=0) + reach + 1, volume.shape)
    if (low >= high).any():
        return float("nan")
    crop = np.asarray(volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]).astype(np.float64)
    padding = is_padding(crop, image)
    known = np.isfinite(crop) if padding is None else np.isfinite(crop) & ~padding
    total = ndimage.convolve(np.where(known, crop, 0.0), sphere.astype(np.float64), mode="constant")
    count = np.rint(ndimage.convolve(known.astype(np.float64), sphere.astype(np.float64), mode="constant"))
    inside = ((centres >= low) & (centres < high)).all(axis=1)
    at = tuple((centres[inside] - low).T)
    means = total[at][count[at] > 0] / count[at][count[at] > 0]
    return float(means.max()) if means.size else float("nan")
