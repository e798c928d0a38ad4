"""The measures in a row of the table: those of one lesion at one visit, and those of its change."""

from __future__ import annotations

import numpy as np

from napari_medseq.progression import shape as _shape
from napari_medseq.progression.components import Lesion
from napari_medseq.progression.intensity import intensities
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.sequence import ImageSequence

#: digits of a diameter in mm that are told, and the share of a volume by which rounding may miss a limit
_DIGITS, _ROUNDING = 6, 1e-9
#: measures of a single lesion, in the order of the table
SIZE = (
    "volume_ml",
    "volume_sd_ml",
    "longest_mm",
    "perpendicular_mm",
    "product_mm2",
    "longest_3d_mm",
    "surface_mm2",
    "sphericity",
)


def size(lesion: Lesion, settings: TrackSettings) -> dict[str, float]:
    """Volume with its standard deviation, diameters, surface and shape; only the volume where it is too small to measure."""
    measured = lesion.volume_mm3 >= 1000 * settings.min_volume_ml * (1 - _ROUNDING)
    surface = _shape.surface_mm2(lesion) if measured else (36 * np.pi) ** (1 / 3) * lesion.volume_mm3 ** (2 / 3)
    outline, percent = settings.segmentation_error_voxels, settings.segmentation_error_percent
    sd = _shape.volume_sd_mm3(lesion, outline, _shape.boundary_voxels(lesion), surface, percent)
    sizes: dict[str, float] = dict.fromkeys(SIZE, float("nan"))
    sizes["volume_ml"] = lesion.volume_mm3 / 1000
    sizes["volume_sd_ml"] = sd / 1000
    sizes["measured"] = measured
    sizes["cut_off"] = lesion.is_cut_off
    sizes["voxels"] = lesion.voxels
    r, a, s = (float(v) for v in lesion.centroid)
    sizes.update(centroid_r_mm=r, centroid_a_mm=a, centroid_s_mm=s)
    if measured:
        d = _shape.diameters(lesion)
        # ten voxels of 1 mm on an oblique grid must not miss a limit of 10 mm by the last bit
        longest, perpendicular = round(d.longest_mm, _DIGITS), round(d.perpendicular_mm, _DIGITS)
        sizes.update(
            longest_mm=longest,
            perpendicular_mm=perpendicular,
            product_mm2=longest * perpendicular,
            longest_3d_mm=d.longest_3d_mm,
            surface_mm2=surface,
            sphericity=_shape.sphericity(lesion.volume_mm3, surface),
        )
    return sizes


def change_word(before_ml: float, after_ml: float, bound_ml: float, settings: TrackSettings) -> str:
    """growing, shrinking or stable, by the settings' thresholds or else by the noise bound."""
    change = after_ml - before_ml
    up = bound_ml if settings.growth_percent is None else settings.growth_percent / 100 * before_ml
    down = bound_ml if settings.shrink_percent is None else settings.shrink_percent / 100 * before_ml
    if change > 0 and change >= up:
        return "growing"
    return "shrinking" if change < 0 and -change >= down else "stable"


def of_lesion(lesion: Lesion, image: ImageSequence | None, settings: TrackSettings) -> dict[str, float]:
    """All measures of one lesion at one visit."""
    return {**size(lesion, settings), **intensities(lesion, image)}
