"""When a registration is trusted: the measures of a result, and the limits that it has to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq.geometry import Affine
from napari_medseq.registration.linear import Pair
from napari_medseq.registration.measure import Bending, Sampler
from napari_medseq.registration.optimise import nearest_rotation
from napari_medseq.registration.transform import Kind, Quality
from napari_medseq.settings import Settings


class TrustLimits(Settings):
    """The limits that a result must keep to be trusted.

    The defaults separate registrations that recovered a known motion from those of noise, of too little overlap and of
    starts too far away. ``benchmarks/registration_limits.py`` prints half of the measures of both kinds beside their
    limits (all but the error, the offset of centres, the normalised mutual information and the folding). Limits that
    follow from anatomy are explained below.

    Parameters
    ----------
    min_covered : float
        Share of the fixed body that must lie inside the moving image.
    min_mi : float
        Least mutual information, in nats. The estimate's own noise is about 0.005 at the number of voxels compared.
    min_mi_over_chance : float
        Least ratio of mutual information to the best of six deliberately wrong positions.
    min_nmi_kept : float
        Least share that must remain of the normalised mutual information above 1 before registration. It is required
        only if the images overlapped before (`min_covered_before`), so that a search may leave a position where they
        agree by chance.
    nmi_noise : float
        A fall of normalised mutual information up to this size is noise of the estimate.
    min_covered_before : float
        Share of the fixed body inside the moving image before registration above which the two count as overlapping.
    max_error_voxels, max_error_extent : float
        Largest distance between repetitions and the result: in voxels of the middle resolution, or as a share of the
        body's extent, whichever is larger.
    max_rotation_deg : float
        Largest rotation; between two scans of the same part patients turn further only from supine to prone, which the
        search cannot find.
    max_offset_extent : float
        Largest distance between the bodies' centres, as a share of the body's extent; beyond it the images show
        different parts.
    min_stretch, max_stretch : float
        Limits of the stretch of the linear part along any direction: the ratio of a child's head or trunk to an
        adult's.
    min_dice : float
        Least Dice overlap of the two bodies where the moving image covers.
    max_folded : float
        Largest share of the body in which a deformation may fold space; tissue does not move like that.
    """

    min_covered: float = Field(0.25, ge=0, le=1)
    min_mi: float = Field(0.02, ge=0)
    min_mi_over_chance: float = Field(1.15, ge=1)
    min_nmi_kept: float = Field(0.95, ge=0, le=1)
    nmi_noise: float = Field(0.002, ge=0, le=0.1)
    min_covered_before: float = Field(0.5, ge=0, le=1)
    max_error_voxels: float = Field(0.9, gt=0)
    max_error_extent: float = Field(0.022, gt=0, le=1)
    max_rotation_deg: float = Field(75.0, gt=0, le=180)
    max_offset_extent: float = Field(0.75, gt=0)
    min_stretch: float = Field(0.6, gt=0, le=1)
    max_stretch: float = Field(1.6, ge=1)
    min_dice: float = Field(0.2, ge=0, le=1)
    max_folded: float = Field(0.005, ge=0, le=1)


def assess_quality(
    pair: Pair,
    compare: Sampler,
    matrix: Affine,
    *,
    error_mm: float,
    kind: Kind,
    bending: Bending | None = None,
    limits: TrustLimits | None = None,
) -> Quality:
    """Measure a result and list the reasons to doubt it.

    Parameters
    ----------
    pair : Pair
    compare : Sampler
        The sampler of the pair's middle level.
    matrix : ndarray, shape (4, 4)
        Fixed → moving, in the pair's frame.
    error_mm : float
        Distance between repetitions and the result.
    kind : {"translation", "rigid", "affine", "deformable"}
    bending : Bending, optional
        The measures of the deformation, which then replace those of the linear part.
    limits : TrustLimits, optional
    """
    limits = limits or TrustLimits()
    before, after = compare.at(pair.framed(np.eye(4))), compare.at(matrix)
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    quality = Quality(
        mi_before=before.mi,
        mi_after=bending.mi if bending else after.mi,
        mi_chance=compare.chance(matrix, flat=pair.flat),
        nmi_before=before.nmi,
        nmi_after=bending.nmi if bending else after.nmi,
        correlation_after=after.correlation,
        covered=after.covered,
        dice=after.dice,
        rotation_deg=0.0 if kind == "translation" else _angle(matrix),
        shift_mm=_shift(pair, compare, matrix),
        scale_min=float(stretch.min()),
        scale_max=float(stretch.max()),
        error_mm=error_mm,
        jacobian_min=bending.jacobian_min if bending else None,
        jacobian_max=bending.jacobian_max if bending else None,
        folded=bending.folded if bending else None,
    )
    # distance of the mapped centre of the fixed body from that of the moving body
    offset = float(np.linalg.norm(matrix[:3, :3] @ compare.centre + matrix[:3, 3] - compare.moving_centre))
    doubts = _doubts(
        quality,
        limits,
        mi_linear=after.mi,
        covered_before=before.covered,
        offset_mm=offset,
        extent_mm=compare.extent,
        spacing_mm=pair.levels[1].spacing,
    )
    return quality.model_copy(update={"trustworthy": not doubts, "doubts": doubts})


def _doubts(
    q: Quality,
    limits: TrustLimits,
    *,
    mi_linear: float,
    covered_before: float,
    offset_mm: float,
    extent_mm: float,
    spacing_mm: float,
) -> tuple[str, ...]:
    """Each limit that is not kept, in words with the measure."""
    met = covered_before > limits.min_covered_before
    min_gain = limits.min_nmi_kept * (q.nmi_before - 1) - limits.nmi_noise
    max_error = max(limits.max_error_voxels * spacing_mm, limits.max_error_extent * extent_mm)
    folded = q.folded or 0.0
    checks = (
        (
            q.covered < limits.min_covered,
            f"only {q.covered:.0%} of the fixed body lies inside the moving image",
        ),
        (
            mi_linear < max(limits.min_mi_over_chance * q.mi_chance, limits.min_mi),
            f"mutual information {mi_linear:.3f} is hardly above that of wrong positions ({q.mi_chance:.3f}; "
            f"{q.mi_before:.3f} before registration)",
        ),
        (
            met and q.nmi_after - 1 < min_gain,
            f"normalised mutual information fell from {q.nmi_before:.3f} to {q.nmi_after:.3f}",
        ),
        (
            q.error_mm > max_error,
            f"other starting positions end {q.error_mm:.1f} mm away",
        ),
        (
            q.rotation_deg > limits.max_rotation_deg,
            f"a rotation of {q.rotation_deg:.0f}° is implausible",
        ),
        (
            offset_mm > limits.max_offset_extent * extent_mm,
            f"the bodies' centres end {offset_mm:.0f} mm apart, for a body of {extent_mm:.0f} mm",
        ),
        (
            q.scale_max > limits.max_stretch or q.scale_min < limits.min_stretch,
            f"a stretch by {q.scale_min:.2f} to {q.scale_max:.2f} is implausible",
        ),
        (
            q.dice < limits.min_dice,
            f"the bodies overlap with a Dice of only {q.dice:.2f}",
        ),
        (
            folded > limits.max_folded,
            f"the deformation folds in {folded:.1%} of the body",
        ),
    )
    return tuple(words for broken, words in checks if broken)


def _angle(matrix: Affine) -> float:
    """The rotation in a linear map, in degrees."""
    rotation = nearest_rotation(matrix[:3, :3])
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def _shift(pair: Pair, compare: Sampler, matrix: Affine) -> float:
    """Distance by which the fixed body's centre is moved, in mm of the patient."""
    world = pair.world(matrix)
    inverse = np.linalg.inv(pair.fixed_frame)
    centre: NDArray[np.float64] = inverse[:3, :3] @ compare.centre + inverse[:3, 3]
    return float(np.linalg.norm(world[:3, :3] @ centre + world[:3, 3] - centre))
