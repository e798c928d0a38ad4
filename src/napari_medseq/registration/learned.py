"""Deformable registration by a recurrent network that refines step by step, after the same linear search and before
the same checks.

Without training each step is the local Gauss–Newton step (Lucas and Kanade 1981); `training.learned_registration`
trains it.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_medseq import geometry
from napari_medseq.errors import ModelError, RegistrationError
from napari_medseq.geometry import Affine
from napari_medseq.models.library import Model, load_model
from napari_medseq.models.recurrent_registration import RecurrentRegistration
from napari_medseq.registration.deformable import ControlGrid, measured
from napari_medseq.registration.linear import Pair
from napari_medseq.registration.measure import Bending, Sampler
from napari_medseq.registration.optimise import Watch
from napari_medseq.registration.transform import Spline
from napari_medseq.volumes.grid import itk_affine, resample_volume

#: grid (x, y, z) that both images are resampled to, if a model does not state its own
GRID = (64, 64, 32)
#: voxels of that grid between the control points of the spline that stores the result
_SPLINE_STEP = 2
#: percentiles of the intensities that become 0 and 1, so that bright vessels or an implant do not compress the tissue's range
_DARK, _BRIGHT = 1.0, 99.5


def network_of(model: Model | str | os.PathLike[str] | None) -> tuple[RecurrentRegistration, tuple[int, int, int]]:
    """The network of a model, or the untrained one, and the grid that it works on.

    Raises
    ------
    ModelError
        If the model is not a registration network.
    """
    if model is None:
        torch.manual_seed(0)
        return RecurrentRegistration().eval(), GRID
    loaded = model if isinstance(model, Model) else load_model(model)
    if not isinstance(loaded.network, RecurrentRegistration):
        raise ModelError(f"{loaded.info.name} is for {loaded.info.task}, not for registration; name another model.")
    match loaded.inference.get("grid", GRID):
        case [int(x), int(y), int(z)]:
            return loaded.network, (x, y, z)
        case other:
            raise ModelError(
                f"{loaded.info.name}: its grid is {other!r:.60}; it must be three whole numbers of voxels."
            )


@torch.inference_mode()
def bend(
    pair: Pair,
    compare: Sampler,
    matrix: Affine,
    *,
    watch: Watch,
    model: Model | str | os.PathLike[str] | None = None,
) -> tuple[Spline | None, Bending]:
    """Refine a linear result by the network; parameters and results are those of `deformable.bend`.

    Raises
    ------
    RegistrationError
        If the images are 2D.
    """
    if pair.flat:
        raise RegistrationError('backend="learned" is for volumes (z, y, x); register 2D images with another backend.')
    network, grid = network_of(model)
    level = pair.levels[2]
    scale = (np.array(level.fixed.shape[::-1]) - 1) / (np.array(grid) - 1)
    affine = np.asarray(level.fixed_affine @ np.diag([*scale, 1.0]))
    fixed = on_grid(level.fixed, level.fixed_affine, affine, grid)
    moving = on_grid(level.moving, level.moving_affine, affine, grid, matrix)
    watch.check()
    field = network(fixed, moving)[-1][0].numpy().astype(np.float64)
    watch.advance_to(1.0)
    return measured(pair, compare, matrix, *as_spline(field, affine))


def on_grid(
    volume: NDArray[np.float32],
    affine: Affine,
    grid_affine: Affine,
    grid: tuple[int, int, int],
    matrix: Affine | None = None,
) -> torch.Tensor:
    """A volume as the network takes it: on the grid, with intensities from 0 to 1.

    Parameters
    ----------
    volume : ndarray, shape (z, y, x)
    affine, grid_affine : ndarray, shape (4, 4)
        Voxel (x, y, z) → mm of the volume and of the grid.
    grid : (x, y, z)
    matrix : ndarray, shape (4, 4), optional
        Point of the grid's space → point of the volume's.

    Returns
    -------
    Tensor, shape (1, 1, z, y, x)
    """
    low, high = np.percentile(volume, (_DARK, _BRIGHT))
    scaled = np.clip((volume - low) / max(float(high - low), np.finfo(np.float32).tiny), 0, 1)
    lps = geometry.RAS_LPS
    transform = None if matrix is None else itk_affine(np.asarray(lps @ matrix @ lps))
    resampled = resample_volume(scaled, affine, grid_affine, grid, transform=transform, antialias=True)
    return torch.from_numpy(np.ascontiguousarray(resampled, dtype=np.float32))[None, None]


def as_spline(field: NDArray[np.float64], affine: Affine) -> tuple[ControlGrid, NDArray[np.float64]]:
    """A displacement on a grid as a cubic B-spline, exact at its control points.

    Parameters
    ----------
    field : ndarray, shape (3, z, y, x)
        Displacement along x, y, z in voxels of the grid.
    affine : ndarray, shape (4, 4)
        Voxel (x, y, z) → frame, mm.

    Returns
    -------
    grid : ControlGrid
        In the frame.
    values : ndarray, shape (3 · control points,)
        Coefficients in mm.
    """
    step = _SPLINE_STEP
    count = (np.array(field.shape[1:]) - 1) // step + 5  # two more control points on each side
    at = np.stack(np.meshgrid(*[step * (np.arange(n) - 2) for n in count], indexing="ij"))
    voxels = np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in field])
    weights = np.stack([ndimage.spline_filter(v, order=3, mode="mirror") for v in voxels])
    values = np.einsum("ij,jzyx->izyx", affine[:3, :3], weights)
    edges = geometry.spacing(affine)
    origin = geometry.apply_points(affine, np.full((1, 3), -2.0 * step))[0]
    grid = ControlGrid.of([*count[::-1], *origin, *(step * edges), *(affine[:3, :3] / edges).ravel()])
    return grid, values.ravel()
