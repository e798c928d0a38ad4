"""Alignment of visits: whether they are aligned already, and otherwise the registration of each to the baseline.

`aligned` is the cheap check; `visits` makes it for each visit and registers those that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from napari_medseq import geometry
from napari_medseq.errors import SettingsError
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.registration.byhand import HandAlignment
from napari_medseq.registration.linear import prepared
from napari_medseq.registration.optimise import Watch, optimise
from napari_medseq.registration.reference import chained, midway
from napari_medseq.registration.registration import register
from napari_medseq.registration.transform import Kind, Transform
from napari_medseq.registration.transform_file import Quality
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings


class AlignmentLimits(Settings):
    """The limits beyond which two images count as misaligned; ``benchmarks/registration_limits.py`` prints measures
    beside them.

    Parameters
    ----------
    min_overlap_same_frame : float
        Share of the smaller grid inside the larger above which a shared frame of reference is trusted without looking
        at voxels.
    min_overlap : float
        Share of the smaller grid inside the larger below which the two show different places.
    min_covered : float
        Share of the fixed body inside the moving image below which mutual information is meaningless.
    min_mi : float
        Least mutual information in place, in nats, as `TrustLimits.min_mi`.
    min_mi_over_chance : float
        Least ratio of mutual information in place to that of wrong positions. Lower than for a result of registration: images that
        lie two voxels off must still count as near, so that the distance decides.
    min_gain : float
        A registration that raises the mutual information by less than this share is not evidence of misalignment: for
        CT, PET and MR of one patient in one frame the gain stays below it however far the optimum moves, and a true
        shift of one voxel exceeds it.
    tolerance_mm : float
        Least distance that counts as misalignment; a head in a coil moves about as much within one examination.
    tolerance_voxels : float
        The same in voxels, along the largest voxel edge of either image; two samplings of the same place already
        differ by half a voxel.
    """

    min_overlap_same_frame: float = Field(0.2, ge=0, le=1)
    min_overlap: float = Field(0.05, ge=0, le=1)
    min_covered: float = Field(0.2, ge=0, le=1)
    min_mi: float = Field(0.02, ge=0)
    min_mi_over_chance: float = Field(1.1, ge=1)
    min_gain: float = Field(0.2, ge=0)
    tolerance_mm: float = Field(2.0, ge=0)
    tolerance_voxels: float = Field(0.5, ge=0)


LIMITS = AlignmentLimits()
#: iterations and samples of the short registration that checks whether two images are aligned
_ITERATIONS, _SAMPLES = 40, 15_000
Mode = Literal["auto", "none", "translation", "rigid", "affine", "deformable"]
Reference = int | Literal["previous", "midway"]


@dataclass(frozen=True)
class Alignment:
    """The result of `aligned`, whose truth value is its attribute `aligned`.

    Attributes
    ----------
    aligned : bool
    offset_mm : float
        Displacement (root mean square over the body) by a short rigid registration; 0 if not measured.
    tolerance_mm : float
    mi, mi_chance : float
        Mutual information in place, and the best one of wrong positions; 0 if not measured.
    reason : str
        Reason in words, with the measures.
    """

    aligned: bool
    offset_mm: float
    tolerance_mm: float
    mi: float
    mi_chance: float
    reason: str

    def __bool__(self) -> bool:
        return self.aligned


@dataclass(frozen=True)
class VisitAlignment:
    """How one visit relates to the baseline, or to the reference that was chosen instead.

    Attributes
    ----------
    transform : Transform or None
        Fixed = the visit that this one was registered to, moving = the visit; None if its position is left as it is.
    error_mm : float
        Estimate of the remaining misalignment (root mean square over the body).
    reason : str
        Why the position was left, or how it was changed.
    common : ndarray, shape (4, 4), optional
        Visit → common space, RAS+ mm, if it does not follow from `transform` alone.
    """

    transform: Transform | None
    error_mm: float
    reason: str
    common: Affine | None = None

    @property
    def to_baseline(self) -> Affine:
        """4×4, RAS+ mm: visit world → common world (the baseline's, by default); the linear part if deformable."""
        if self.common is not None:
            return geometry.as_affine(self.common)
        if self.transform is None:
            return geometry.as_affine(np.eye(4))
        return geometry.as_affine(np.linalg.inv(self.transform.linear))


def aligned(
    a: ImageSequence,
    b: ImageSequence,
    *,
    tolerance_mm: float | None = None,
    seed: int = 0,
    cancelled: Cancelled | None = None,
) -> Alignment:
    """Whether two images are already aligned in patient coordinates.

    They are, without looking at voxels, if both have the same frame of reference (DICOM FrameOfReferenceUID) and their
    grids overlap. Otherwise a short, coarse rigid registration starts from their positions: they are aligned if the
    agreement in place is clearly above that of wrong positions, and if the registration moves the body by no more than
    the tolerance, or gains too little by moving it to be evidence of misalignment (`AlignmentLimits`).

    Parameters
    ----------
    a, b : ImageSequence
    tolerance_mm : float, optional
        Default: the larger of 2 mm and half the thickest voxel edge of either.
    seed : int
        Of the random choice of voxels.

    Returns
    -------
    Alignment
        Truth value and measures.

    Raises
    ------
    RegistrationError
        If the images cannot be compared (a constant image, 2D against 3D).
    """
    edges = [float(max(geometry.spacing(s.affine)[: 3 if "z" in s.axes else 2])) for s in (a, b)]
    tolerance = (
        max(LIMITS.tolerance_mm, LIMITS.tolerance_voxels * max(edges)) if tolerance_mm is None else float(tolerance_mm)
    )
    shared = a.meta.get("frame_of_reference")
    if shared and shared == b.meta.get("frame_of_reference") and _share(a, b) > LIMITS.min_overlap_same_frame:
        return Alignment(True, 0.0, tolerance, 0.0, 0.0, "same frame of reference, and the grids overlap")
    if _share(a, b) < LIMITS.min_overlap:
        return Alignment(False, float("inf"), tolerance, 0.0, 0.0, "the grids do not overlap in space")
    pair = prepared(b, a)
    in_place = pair.framed(np.eye(4))
    compare = pair.sampler(1, seed=seed)
    agreement = compare.at(in_place)
    chance = compare.chance(in_place, flat=pair.flat)
    if agreement.covered < LIMITS.min_covered or agreement.mi < max(LIMITS.min_mi, LIMITS.min_mi_over_chance * chance):
        return Alignment(
            False,
            float("inf"),
            tolerance,
            agreement.mi,
            chance,
            f"in place the images agree no better than at wrong positions (mutual information {agreement.mi:.3f} "
            f"against {chance:.3f})",
        )
    level = pair.levels[1]
    moved = optimise(
        level,
        in_place,
        kind="rigid",
        centre=compare.centre,
        step=0.5 * level.spacing,
        smallest=0.01 * level.spacing,
        iterations=_ITERATIONS,
        samples=_SAMPLES,
        seed=seed,
        watch=Watch(_ITERATIONS, "Checking alignment", None, cancelled),
    )
    offset = compare.apart(in_place, moved)
    gain = compare.at(moved).mi / agreement.mi - 1
    good = offset <= tolerance or gain < LIMITS.min_gain
    words = (
        f"a rigid registration would move the body by {offset:.1f} mm (tolerance {tolerance:.1f} mm) "
        f"and raise the mutual information by {gain:.0%} (worth it from {LIMITS.min_gain:.0%})"
    )
    return Alignment(good, offset, tolerance, agreement.mi, chance, words)


def visits(
    images: Sequence[ImageSequence],
    *,
    mode: Mode = "auto",
    reference: Reference = 0,
    tolerance_mm: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[VisitAlignment]:
    """Register the visits of a patient to the reference visit (by default the baseline).

    Parameters
    ----------
    images : sequence of ImageSequence
        One per visit, in order.
    mode : {"auto", "none", "translation", "rigid", "affine", "deformable"}
        "auto" leaves visits that are `aligned` already and registers the others rigidly; "none" leaves all. If the
        first visit is the reference, one that a person aligned to it (`napari_medseq.registration.byhand`) keeps that
        alignment in any mode.
    reference : int, "previous" or "midway"
        Index of the visit that the others are registered to. "previous" registers each to the one before it, which is
        better if a body changes slowly over many visits, although errors add up, and gives maps to the first.
        "midway", for two visits, maps both to the space half-way between them, so that neither is favoured.
    tolerance_mm : float, optional
        See `aligned`.
    seed : int
        Of the random choice of voxels.

    Returns
    -------
    list of VisitAlignment
        One per visit; that of the reference has neither transform nor error.

    Raises
    ------
    RegistrationError
        If a visit has to be registered and the result cannot be trusted; the message names it and holds the measures.
    """
    if mode not in get_args(Mode):
        raise SettingsError(f"Registration {mode!r} is unknown; use one of {', '.join(get_args(Mode))}.")
    if reference == "midway":
        return _midway(images, mode, tolerance_mm, seed, progress, cancelled)
    chain = reference == "previous"
    base = 0 if isinstance(reference, str) else reference
    if not images or (isinstance(reference, str) and not chain) or not -len(images) <= base < len(images):
        raise SettingsError(f"Visit {reference} of {len(images)} cannot be the reference; choose one that exists.")
    base %= len(images)
    results = []
    for number, image in enumerate(images):
        check(cancelled)
        fixed = images[max(number - 1, 0)] if chain else images[base]
        results.append(
            VisitAlignment(None, 0.0, "the reference visit")
            if number == base
            else (None if chain or base else _by_hand(image, fixed))
            or _visit(image, fixed, mode, tolerance_mm, seed, cancelled)
        )
        if progress is not None:
            progress(number + 1, len(images), f"Aligned visit {number + 1} of {len(images)}")
    if chain:
        whole = chained([r.to_baseline for r in results], [r.error_mm for r in results])
        results = [replace(r, common=m, error_mm=e) for r, m, e in zip(results, *whole, strict=True)]
    return results


def _by_hand(image: ImageSequence, first: ImageSequence) -> VisitAlignment | None:
    """The alignment of a visit to the first one that a person made; None if there is none."""
    hand = HandAlignment.of(image)
    if hand is None:
        return None
    error = max(_floor(image, first), hand.error_mm or 0.0)
    transform = Transform(
        "affine",
        geometry.as_affine(np.linalg.inv(hand.to_first)),
        first.affine,
        first.grid,
        quality=Quality(error_mm=error),
        fixed_name=first.name,
        moving_name=image.name,
    )
    return VisitAlignment(transform, error, f"aligned by hand: {hand.how}")


def _floor(image: ImageSequence, fixed: ImageSequence) -> float:
    """Half a pixel, in mm, because no alignment is known better."""
    return 0.5 * float(min(geometry.spacing(image.affine)[:2].min(), geometry.spacing(fixed.affine)[:2].min()))


def _midway(
    images: Sequence[ImageSequence],
    mode: Mode,
    tolerance_mm: float | None,
    seed: int,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> list[VisitAlignment]:
    """Map both of two visits to the space between them."""
    if len(images) != 2:
        raise SettingsError(f"The midway space is between two visits, not {len(images)}; choose another reference.")
    second = _visit(images[1], images[0], mode, tolerance_mm, seed, cancelled)
    if progress is not None:
        progress(1, 2, "Aligned visit 2 to visit 1")
    if second.transform is None:
        return [VisitAlignment(None, 0.0, second.reason), second]
    back = register(images[0], images[1], kind=second.transform.kind, seed=seed, cancelled=cancelled)
    to_first, to_second, apart = midway(second.transform, back)
    if progress is not None:
        progress(2, 2, "Aligned visit 1 to visit 2")
    error = max(second.error_mm, apart)
    reason = f"{second.transform.kind} registration, midway between both; the two directions differ by {apart:.1f} mm"
    return [
        VisitAlignment(back, error, reason, to_first),
        VisitAlignment(second.transform, error, reason, to_second),
    ]


def _visit(
    image: ImageSequence,
    fixed: ImageSequence,
    mode: Mode,
    tolerance_mm: float | None,
    seed: int,
    cancelled: Cancelled | None,
) -> VisitAlignment:
    floor = _floor(image, fixed)
    if mode == "none":
        return VisitAlignment(None, floor, "not asked to be registered")
    kind: Kind = "rigid"
    if mode == "auto":
        alignment = aligned(fixed, image, tolerance_mm=tolerance_mm, seed=seed, cancelled=cancelled)
        if alignment:
            return VisitAlignment(None, max(floor, alignment.offset_mm), f"left as it lies: {alignment.reason}")
    else:
        kind = mode
    transform = register(image, fixed, kind=kind, seed=seed, cancelled=cancelled)
    return VisitAlignment(transform, max(floor, transform.quality.error_mm), f"{kind} registration")


def _share(a: ImageSequence, b: ImageSequence) -> float:
    """Share of the smaller grid's box that lies inside the other's, estimated by sampling."""
    small, big = sorted((a, b), key=lambda s: geometry.voxel_volume_mm3(s.affine) * float(np.prod(s.grid)))
    size = np.array(small.grid)
    ticks = [np.linspace(-0.5, n - 0.5, 13)[1:-1] for n in size]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    inner = geometry.apply_points(np.linalg.inv(big.affine) @ small.affine, points)
    return float(((inner >= -0.5) & (inner <= np.array(big.grid) - 0.5)).all(axis=1).mean())
