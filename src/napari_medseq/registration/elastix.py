"""Registration by elastix (itk-elastix, an optional extra), with the same preparation and the same checks as our own
search.

Source: Klein et al. 2010, doi:10.1109/TMI.2009.2035616. The default parameter maps of elastix are used, with our
starting position, seed and mask.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_medseq import geometry
from napari_medseq.errors import RegistrationError, SettingsError
from napari_medseq.geometry import Affine, Volume
from napari_medseq.registration.deformable import CELLS, ControlGrid, measured
from napari_medseq.registration.linear import Pair, starts
from napari_medseq.registration.measure import Bending, Sampler
from napari_medseq.registration.optimise import Level, Linear, Watch
from napari_medseq.registration.transform import Spline

if TYPE_CHECKING:
    import itk

#: elastix' default parameter maps, which run one after the other
_MAPS: dict[Linear, tuple[str, ...]] = {
    "translation": ("translation",),
    "rigid": ("rigid",),
    "affine": ("rigid", "affine"),
}


def search(pair: Pair, kind: Linear, *, seed: int, watch: Watch) -> tuple[Affine, float]:
    """Find the linear map with elastix, and the distance to the result of a second run with other samples.

    It returns what `linear.search` does: fixed → moving in the pair's frame, and an error in mm. It starts where the
    images agree best: as they are, with their centres together, or rotated.

    Raises
    ------
    SettingsError
        If itk-elastix is not installed, or the images are 2D.
    RegistrationError
        If elastix fails."""
    if pair.flat:
        raise SettingsError('elastix is offered for volumes; register 2D images with backend="simpleitk".')
    compare = pair.sampler(0, limit=8_000, seed=seed)
    best = max(starts(pair, compare, turn=kind != "translation"), key=lambda m: _worth(compare, m))
    matrices = []
    for salt, level in ((0, pair.levels[2]), (1, pair.levels[1])):
        matrix = best
        for name in _MAPS[kind]:
            watch.check()
            matrix = _linear(level, matrix, name, seed + salt)
        matrices.append(matrix)
        watch.advance_to(0.7 if salt == 0 else 1.0)
    floor = 0.1 * float(geometry.spacing(pair.levels[2].fixed_affine).min())
    return matrices[0], max(floor, compare.apart(*matrices))


def bend(pair: Pair, compare: Sampler, matrix: Affine, *, seed: int, watch: Watch) -> tuple[Spline | None, Bending]:
    """Refine a linear result by elastix' B-spline; parameters and results are those of `deformable.bend`."""
    from scipy import ndimage

    level = pair.levels[2]
    to_moving = np.asarray(np.linalg.inv(level.moving_affine) @ matrix @ level.fixed_affine)[2::-1]
    onto = ndimage.affine_transform(
        level.moving, to_moving[:, 2::-1], to_moving[:, 3], output_shape=level.fixed.shape, order=1, mode="nearest"
    )
    watch.check()
    lengths = np.array(level.fixed.shape) * geometry.spacing(level.fixed_affine)[::-1]
    straight = Level(level.fixed, level.fixed_affine, onto, level.fixed_affine, level.zone, level.spacing)
    cell = f"{float(lengths.max()) / CELLS:.6f}"
    parameters, place = _run(straight, np.eye(4), "bspline", seed, {"FinalGridSpacingInPhysicalUnits": [cell]})
    size, origin, spacing = (_numbers(parameters, name) for name in ("GridSize", "GridOrigin", "GridSpacing"))
    turn = place[:3, :3]
    origin = geometry.apply_points(place, origin[None])[0]
    grid = ControlGrid.of([*size, *origin, *spacing, *turn.ravel()])
    values = (turn @ _numbers(parameters, "TransformParameters").reshape(3, -1)).ravel()
    watch.advance_to(1.0)
    return measured(pair, compare, matrix, grid, values)


def _worth(compare: Sampler, matrix: Affine) -> float:
    agreement = compare.at(matrix)
    return (agreement.nmi - 1) * min(1.0, agreement.covered / 0.9)


def _linear(level: Level, start: Affine, name: str, seed: int) -> Affine:
    """Run one linear map of elastix from `start`, and return its result as a 4×4 matrix in the level's frame."""
    parameters, place = _run(level, start, name, seed, {})
    values = _numbers(parameters, "TransformParameters")
    matrix = np.eye(4)
    if name == "translation":
        matrix[:3, 3] = values
    else:
        centre = _numbers(parameters, "CenterOfRotationPoint")
        if name == "rigid":  # ITK's Euler3DTransform without ComputeZYX
            x, y, z = (Rotation.from_rotvec(np.eye(3)[k] * values[k]).as_matrix() for k in range(3))
            matrix[:3, :3] = z @ x @ y
        else:
            matrix[:3, :3] = values[:9].reshape(3, 3)
        matrix[:3, 3] = centre - matrix[:3, :3] @ centre + values[-3:]
    return np.asarray(start @ place @ matrix @ np.linalg.inv(place))


def _run(
    level: Level, start: Affine, name: str, seed: int, extra: dict[str, list[str]]
) -> tuple[itk.ParameterObject, Affine]:
    """Run one default map of elastix, and return its result and the transform of its coordinates: millimetres along
    the fixed image's axes → frame.

    `start` is applied to the position of the moving image.
    """
    itk = _itk()
    place = np.array(level.fixed_affine)
    place[:3, :3] /= geometry.spacing(level.fixed_affine)
    moving_affine = np.linalg.inv(place) @ np.linalg.inv(start) @ level.moving_affine
    fixed = _image(itk, level.fixed, np.linalg.inv(place) @ level.fixed_affine)
    moving = _image(itk, level.moving, moving_affine)
    zone = _image(itk, level.zone.astype(np.uint8), np.linalg.inv(place) @ level.fixed_affine)
    settings = itk.ParameterObject.New()
    chosen = settings.GetDefaultParameterMap(name, 3)
    for key, value in {
        "AutomaticTransformInitialization": ["false"],
        "RandomSeed": [str(seed + 1)],
        "MaximumNumberOfSamplingAttempts": ["8"],
        "WriteResultImage": ["false"],
        **extra,
    }.items():
        chosen[key] = value
    settings.AddParameterMap(chosen)
    try:
        _, answer = itk.elastix_registration_method(
            fixed, moving, parameter_object=settings, fixed_mask=zone, log_to_console=False
        )
    except RuntimeError as error:
        why = next((line for line in reversed(str(error).splitlines()) if line.strip()), "no reason given")
        raise RegistrationError(f"elastix failed at the {name} registration: {why.strip()}") from error
    return answer, place


def _itk() -> ModuleType:
    try:
        itk = importlib.import_module("itk")
        _ = itk.ElastixRegistrationMethod
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            'backend="elastix" needs itk-elastix: pip install napari-medseq[elastix]. The default backend needs nothing more.'
        ) from error
    return itk


def _image(itk: ModuleType, volume: Volume, affine: Affine) -> itk.Image:
    """A volume as ITK's image; the axes of the affine are treated as orthogonal, as ITK requires."""
    spacing = geometry.spacing(affine)
    u, _, v = np.linalg.svd(affine[:3, :3] / spacing)
    image = itk.image_from_array(np.ascontiguousarray(volume))
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(o) for o in affine[:3, 3]])
    image.SetDirection(np.ascontiguousarray(u @ v))
    return image


def _numbers(parameters: itk.ParameterObject, name: str) -> NDArray[np.float64]:
    return np.array([float(v) for v in parameters.GetParameter(0, name)])
