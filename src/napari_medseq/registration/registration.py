"""`register`: the verb. Searches, measures what was found, and refuses what cannot be trusted."""

from __future__ import annotations

import time
import warnings
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqWarning, RegistrationError, SettingsError
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.registration.linear import STEPS, Pair, prepared, search
from napari_medseq.registration.measure import Sampler
from napari_medseq.registration.optimise import Linear, Watch, nearest_rotation
from napari_medseq.registration.transform import Kind, Quality, Transform
from napari_medseq.sequence import ImageSequence

Backend = Literal["simpleitk", "elastix"]


def register(
    moving: ImageSequence,
    fixed: ImageSequence,
    *,
    kind: Kind = "rigid",
    mask: ImageSequence | None = None,
    backend: Backend = "simpleitk",
    seed: int = 0,
    on_failure: Literal["raise", "warn"] = "raise",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Transform:
    """Align `moving` to `fixed`.

    Maximises Mattes' mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072), so that contrasts and modalities
    may differ, by regular-step gradient descent over three resolutions. It begins from the images' own positions, from
    their centres brought together, and from turned positions, and keeps the best. The same input gives the same result,
    bit for bit, on one machine.

    Parameters
    ----------
    moving, fixed : ImageSequence
        Two volumes (z, y, x) or two 2D images (y, x); no axis ``t`` (take a ``frame``).
    kind : {"rigid", "translation", "affine", "deformable"}
    mask : ImageSequence, optional
        Where in the fixed image to look (> 0), on any grid.
    backend : {"simpleitk", "elastix"}
        Who searches: our own descent, which needs nothing more (``mask``, kinds and 2D all work), or elastix with its default
        parameter maps, for volumes (``pip install napari-medseq[elastix]``). Preparation, starting positions and the checks of the
        result are the same.
    seed : int
        Of the random choice of voxels.
    on_failure : {"raise", "warn"}
        What to do if the result cannot be trusted: raise, or warn and return it with ``quality.trustworthy`` False.

    Returns
    -------
    Transform
        ``.matrix`` maps points of the fixed image to points of the moving one; ``.apply(moving)`` resamples onto the
        fixed grid.

    Raises
    ------
    RegistrationError
        If the images cannot be compared, or the result fails a check; the message holds the measures.
    """
    if kind not in get_args(Kind):
        raise SettingsError(f"kind {kind!r} is no kind of registration; use one of {', '.join(get_args(Kind))}.")
    if on_failure not in ("raise", "warn"):
        raise SettingsError(f"on_failure {on_failure!r} must be 'raise' or 'warn'.")
    if backend not in get_args(Backend):
        raise SettingsError(f"backend {backend!r} is unknown; use one of {', '.join(get_args(Backend))}.")
    began = time.perf_counter()
    pair = prepared(moving, fixed, mask)
    linear: Linear = "affine" if kind == "deformable" else kind
    total = STEPS * 2 if kind == "deformable" else STEPS
    watch = Watch(total, f"Registering {moving.name} to {fixed.name}", progress, cancelled)
    if backend == "elastix":
        from napari_medseq.registration import elastix

        find = elastix.search
    else:
        find = search
    matrix, error = find(pair, linear, seed=seed, watch=watch)
    spline, bending = None, dict[str, float]()
    compare = pair.sampler(1, seed=seed)
    if kind == "deformable":
        from napari_medseq.registration import deformable

        bend = elastix.bend if backend == "elastix" else deformable.bend
        spline, bending = bend(pair, compare, matrix, seed=seed, watch=watch)
    quality = judged(pair, compare, matrix, error, kind, bending)
    quality = quality.model_copy(update={"seconds": round(time.perf_counter() - began, 3)})
    if not quality.trustworthy:
        text = (
            f"{moving.name} could not be aligned to {fixed.name} well enough to be trusted: {'; '.join(quality.doubts)}. "
            "Check that both show the same part of the same patient; a mask or another kind may help."
        )
        if on_failure == "raise":
            raise RegistrationError(text)
        warnings.warn(text, MedseqWarning, stacklevel=2)
    watch.check()
    if progress is not None:
        progress(total, total, watch.message)
    return Transform(
        kind,
        pair.world(matrix),
        fixed.affine,
        fixed.grid,
        spline,
        quality,
        fixed_name=fixed.name,
        moving_name=moving.name,
    )


def judged(
    pair: Pair, compare: Sampler, matrix: Affine, error: float, kind: Kind, bending: dict[str, float] | None = None
) -> Quality:
    """Measure a result (fixed → moving, in the pair's frame) and list the reasons to doubt it."""
    before = compare.at(pair.framed(np.eye(4)))
    after = compare.at(matrix)
    chance = compare.chance(matrix, flat=pair.flat)
    rotation = nearest_rotation(matrix[:3, :3])
    angle = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    # how far the centre moves against simply bringing both bodies together
    centre = matrix[:3, :3] @ compare.centre + matrix[:3, 3]
    offset = float(np.linalg.norm(centre - compare.moving_centre))
    world, here = pair.world(matrix), _world(pair, compare)
    shift = float(np.linalg.norm(world[:3, :3] @ here + world[:3, 3] - here))
    extent, spacing = compare.extent, pair.levels[1].spacing
    bending = bending or {}
    nmi = bending.get("nmi_after", after.nmi)
    doubts = []
    if after.covered < 0.25:
        doubts.append(f"only {after.covered:.0%} of the fixed body lies inside the moving image")
    if after.mi < 1.15 * chance or after.mi < 0.02:
        doubts.append(
            f"mutual information {after.mi:.3f} is hardly above that of wrong positions ({chance:.3f}; "
            f"{before.mi:.3f} before registration)"
        )
    if before.covered > 0.5 and nmi - 1 < 0.95 * (before.nmi - 1) - 0.002:
        doubts.append(f"normalised mutual information fell from {before.nmi:.3f} to {nmi:.3f}")
    if error > max(0.9 * spacing, 0.022 * extent):
        doubts.append(f"other starting positions end {error:.1f} mm away")
    if angle > 75:
        doubts.append(f"a rotation of {angle:.0f}° is implausible")
    if offset > 0.75 * extent:
        doubts.append(f"the bodies' centres end {offset:.0f} mm apart, for a body of {extent:.0f} mm")
    if stretch.max() > 1.6 or stretch.min() < 0.6:
        doubts.append(f"a stretch by {stretch.min():.2f} to {stretch.max():.2f} is implausible")
    if after.dice < 0.2:
        doubts.append(f"the bodies overlap with a Dice of only {after.dice:.2f}")
    if bending.get("folded", 0.0) > 0.005:
        doubts.append(f"the deformation folds in {bending['folded']:.1%} of the body")
    measures: dict[str, Any] = {
        "mi_before": before.mi,
        "mi_after": bending.get("mi_after", after.mi),
        "mi_chance": chance,
        "nmi_before": before.nmi,
        "nmi_after": nmi,
        "correlation_after": after.correlation,
        "covered": after.covered,
        "dice": after.dice,
        "rotation_deg": angle if kind != "translation" else 0.0,
        "shift_mm": shift,
        "scale_min": float(stretch.min()),
        "scale_max": float(stretch.max()),
        "error_mm": error,
    }
    measures |= {k: bending[k] for k in ("jacobian_min", "jacobian_max", "folded") if k in bending}
    return Quality(**measures, trustworthy=not doubts, doubts=tuple(doubts))


def _world(pair: Pair, compare: Sampler) -> NDArray[np.float64]:
    """The fixed body's centre in RAS+ mm."""
    inverse = np.linalg.inv(pair.fixed_frame)
    return np.asarray(inverse[:3, :3] @ compare.centre + inverse[:3, 3])
