"""What is left after the affine map: a free-form deformation on a cubic B-spline grid (Rueckert et al. 1999).

Few control points keep it smooth; the local volume change (Jacobian) is measured everywhere and tells where space folds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_medseq.register.grid import itk_affine, one_thread
from napari_medseq.register.linear import Pair
from napari_medseq.register.measure import Sampler
from napari_medseq.register.optimise import Level, Watch
from napari_medseq.register.transform import Spline

Matrix = NDArray[np.float64]
#: control cells along the longest side
CELLS = 8


def bend(
    pair: Pair, compare: Sampler, matrix: Matrix, *, seed: int, watch: Watch
) -> tuple[Spline | None, dict[str, float]]:
    """Refine an affine result by a B-spline deformation of the fixed space (Rueckert et al. 1999, doi:10.1109/42.796284).

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        The affine result, fixed → moving in the pair's frame; the deformation is applied before it.

    Returns
    -------
    spline : Spline or None
        None if bending does not raise the mutual information.
    measures : dict
        ``mi_after``, ``jacobian_min``, ``jacobian_max``, ``folded``.
    """
    import SimpleITK as sitk

    level = pair.levels[1]
    fixed, moving, zone = level.itk()
    size = np.array(fixed.GetSize()) * np.array(fixed.GetSpacing())
    longest = float(size.max())
    cells = [max(1, round(CELLS / 2 * float(s) / longest)) for s in size]
    start = sitk.BSplineTransformInitializer(fixed, cells, 3)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(sitk.Cast(zone, sitk.sitkUInt8))
    share = 25_000 / max(1, int(np.count_nonzero(level.zone))) / (4 if level.flat else 1)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, seed % (2**31 - 2) + 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGS2(solutionAccuracy=1e-4, numberOfIterations=40, deltaConvergenceTolerance=1e-4)
    method.SetMovingInitialTransform(itk_affine(matrix))
    # the grid is refined once; both resolutions use the same voxels
    method.SetShrinkFactorsPerLevel([1, 1])
    method.SetSmoothingSigmasPerLevel([0, 0])
    method.SetInitialTransformAsBSpline(start, inPlace=True, scaleFactors=[1, 2])
    watch.attach(method, method.StopRegistration)
    try:
        with one_thread():
            method.Execute(fixed, moving)
    except RuntimeError:
        watch.check()
        return None, _straight(compare, matrix)
    watch.check()
    spline = Spline(
        pair.fixed_frame,
        tuple(float(v) for v in start.GetFixedParameters()),
        np.array(start.GetParameters(), dtype=np.float64),
    )
    bent = start
    points = np.array([bent.TransformPoint(p) for p in compare.points.tolist()])
    after = compare.at(matrix, points=points)
    if after.mi <= compare.at(matrix).mi:
        return None, _straight(compare, matrix)
    local = jacobian(bent, level)[level.zone]
    return spline, {
        "mi_after": after.mi,
        "jacobian_min": float(local.min()),
        "jacobian_max": float(local.max()),
        "folded": float((local <= 0).mean()),
    }


def _straight(compare: Sampler, matrix: Matrix) -> dict[str, float]:
    return {"mi_after": compare.at(matrix).mi, "jacobian_min": 1.0, "jacobian_max": 1.0, "folded": 0.0}


def jacobian(transform: object, level: Level) -> NDArray[np.float64]:
    """Local volume change of a deformation at each fixed voxel of a level, shape (z, y, x); 1 keeps volume, ≤ 0 folds."""
    import SimpleITK as sitk

    fixed, _, _ = level.itk()
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        fixed.GetSize(),
        fixed.GetOrigin(),
        fixed.GetSpacing(),
        fixed.GetDirection(),
    )
    shift = sitk.GetArrayFromImage(field)  # (z, y, x, component)
    # derivative along voxel axes → along the frame's axes
    back = np.linalg.inv(level.fixed_affine[:3, :3])
    slopes = np.stack(
        [np.gradient(shift, axis=axis) if shift.shape[axis] > 1 else np.zeros_like(shift) for axis in (2, 1, 0)],
        axis=-1,
    )
    grad = slopes @ back + np.eye(3)
    result = np.linalg.det(grad)
    return np.asarray(result[:1] if level.flat else result)
