"""The result of a registration: the position in the moving image of each point of the fixed image, and its
trustworthiness."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq import files, geometry
from napari_medseq.errors import MedseqError, ReadError, RegistrationError, WriteError
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.registration.transform_file import Kind, Quality, SplineRecord, TransformRecord
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.grid import Interpolation, itk_affine, matrix_of, resample

if TYPE_CHECKING:
    import SimpleITK as sitk

#: how nearly the inverse of a deformation is found, mm
_INVERSE_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Spline:
    """A cubic B-spline displacement, applied before the linear part, in its own `frame`.

    Attributes
    ----------
    frame : ndarray, shape (4, 4)
        RAS+ mm → the coordinates of the spline.
    fixed_parameters : tuple of float
        ITK's description of the control grid (size, origin, spacing, direction).
    parameters : ndarray, shape (3 · control points,)
        Displacements in mm.
    """

    frame: Affine
    fixed_parameters: tuple[float, ...]
    parameters: NDArray[np.float64]

    def itk(self) -> sitk.Transform:
        """The spline as SimpleITK's transform, in its own frame."""
        import SimpleITK as sitk

        spline = sitk.BSplineTransform(3, 3)
        spline.SetFixedParameters([float(v) for v in self.fixed_parameters])
        spline.SetParameters([float(v) for v in self.parameters])
        return spline


@dataclass(frozen=True, eq=False)
class Transform:
    """Maps points of the fixed image to points of the moving image, both in RAS+ mm, as ITK does.

    Resampling needs that direction: for each voxel of the fixed grid it gives the position to read in the moving image.
    To carry points or lesions of the moving image to the fixed one use `to_fixed` or `to_fixed_matrix`.

    Attributes
    ----------
    kind : {"translation", "rigid", "affine", "deformable"}
    linear : ndarray, shape (4, 4)
        The linear part, fixed → moving.
    spline : Spline or None
        The deformation that is applied before it, for ``kind="deformable"``.
    fixed_affine, fixed_grid : optional
        The grid that `apply` resamples onto unless told otherwise.
    quality : Quality
    fixed_name, moving_name : str
    """

    kind: Kind
    linear: Affine
    fixed_affine: Affine | None = None
    fixed_grid: tuple[int, int, int] | None = None
    spline: Spline | None = None
    quality: Quality = field(default_factory=Quality)
    fixed_name: str = ""
    moving_name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "linear", geometry.as_affine(self.linear))

    @property
    def matrix(self) -> Affine | None:
        """4×4, RAS+ mm, fixed world → moving world; None for a deformable transform, which is not a matrix."""
        return self.linear if self.spline is None else None

    @property
    def to_fixed_matrix(self) -> Affine:
        """4×4, RAS+ mm, moving world → fixed world: the matrix that maps a visit's lesions to the reference visit.

        Raises
        ------
        RegistrationError
            If the transform is deformable; use `to_fixed` on points.
        """
        if self.spline is not None:
            raise RegistrationError(
                "A deformable transform has no matrix; map points with to_fixed(), or register with kind='affine'."
            )
        return geometry.as_affine(np.linalg.inv(self.linear))

    def inverse(self) -> Transform:
        """The transform with moving and fixed exchanged; it has no grid of its own, so `apply` needs ``reference=``.

        Raises
        ------
        RegistrationError
            If the transform is deformable.
        """
        return Transform(
            self.kind,
            self.to_fixed_matrix,
            quality=self.quality,
            fixed_name=self.moving_name,
            moving_name=self.fixed_name,
        )

    def to_moving(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map (n, 3) RAS+ points of the fixed image to the moving image."""
        p = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        if self.spline is not None:
            spline = self.spline.itk()
            inner = geometry.apply_points(self.spline.frame, p)
            inner = np.array([spline.TransformPoint(q) for q in inner.tolist()]).reshape(-1, 3)
            p = geometry.apply_points(np.asarray(np.linalg.inv(self.spline.frame)), inner)
        return geometry.apply_points(self.linear, p)

    def to_fixed(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map (n, 3) RAS+ points of the moving image to the fixed image; a spline is inverted by fixed-point iteration.

        Raises
        ------
        RegistrationError
            If the inversion does not converge, which happens where the deformation folds.
        """
        points_fixed = geometry.apply_points(
            np.asarray(np.linalg.inv(self.linear)), np.asarray(points, dtype=np.float64).reshape(-1, 3)
        )
        if self.spline is None or not len(points_fixed):
            return points_fixed
        guess = points_fixed.copy()
        bent = Transform("deformable", np.eye(4), spline=self.spline)
        for _ in range(60):
            miss = points_fixed - bent.to_moving(guess)
            guess += miss
            if np.abs(miss).max() < _INVERSE_MM:
                return guess
        raise RegistrationError(
            f"The deformation cannot be inverted to {_INVERSE_MM} mm at some points (it folds there); "
            "use kind='affine', or a coarser control grid."
        )

    def itk(self) -> sitk.Transform:
        """SimpleITK's transform of LPS+ points of the fixed image to LPS+ points of the moving image."""
        import SimpleITK as sitk

        lps = geometry.RAS_LPS
        outer = itk_affine(np.asarray(lps @ self.linear @ lps))
        if self.spline is None:
            return outer
        into = np.asarray(self.spline.frame @ lps)
        # the last transform of a composite is applied first
        return sitk.CompositeTransform(
            [outer, itk_affine(np.asarray(np.linalg.inv(into))), self.spline.itk(), itk_affine(into)]
        )

    def apply(
        self,
        seq: ImageSequence,
        *,
        reference: ImageSequence | None = None,
        interpolation: Interpolation | None = None,
        fill: float | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> ImageSequence:
        """Resample a sequence in the moving image's space onto the fixed grid.

        Parameters
        ----------
        seq : ImageSequence
            The moving image, or another one in its space (its labels, another channel); all frames are moved alike.
        reference : ImageSequence, optional
            Another grid to resample onto, in the fixed image's space.
        interpolation : {"linear", "bspline", "nearest", "label"}, optional
            Default linear for images, nearest for labels.
        fill : float, optional
            Value outside; default the image's smallest value, 0 for labels.

        Raises
        ------
        RegistrationError
            If no grid is known.
        """
        affine, grid = (
            (reference.affine, reference.grid) if reference is not None else (self.fixed_affine, self.fixed_grid)
        )
        if affine is None or grid is None:
            raise RegistrationError(
                "This transform has no grid to resample onto; give reference=, an image on that grid."
            )
        return resample(
            seq,
            affine,
            grid,
            transform=self.itk(),
            interpolation=interpolation,
            fill=fill,
            progress=progress,
            cancelled=cancelled,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the transform.

        ``.json`` keeps everything (matrix, spline, grid, quality); ``.tfm`` or ``.h5`` is ITK's own file of the point mapping,
        which 3D Slicer and ITK-SNAP read.

        Raises
        ------
        MedseqError
            If the file name has another ending, or the file cannot be written.
        """
        import SimpleITK as sitk

        target = files.path_of(path)
        if target.suffix not in (".json", ".tfm", ".h5"):
            raise MedseqError(f"{target.name}: a transform is saved as .json (complete), .tfm or .h5 (ITK's formats).")
        if target.suffix == ".json":
            return self.to_record().write(target)
        with files.replacing(target) as temporary:
            try:
                sitk.WriteTransform(self.itk(), str(temporary))
            except RuntimeError as problem:
                raise WriteError(f"{target}: ITK could not write the transform ({problem}).") from problem
        return target

    def to_record(self) -> TransformRecord:
        """All data of the transform as plain values: the content of the ``.json`` file."""
        spline = None
        if self.spline is not None:
            spline = SplineRecord(
                frame=self.spline.frame.tolist(),
                fixed_parameters=self.spline.fixed_parameters,
                parameters=tuple(self.spline.parameters.tolist()),
            )
        return TransformRecord(
            kind=self.kind,
            linear=self.linear.tolist(),
            spline=spline,
            fixed_affine=None if self.fixed_affine is None else self.fixed_affine.tolist(),
            fixed_grid=self.fixed_grid,
            fixed_name=self.fixed_name,
            moving_name=self.moving_name,
            quality=self.quality,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Transform:
        """Read what `save` wrote, or a linear ITK transform file (``.tfm``, ``.txt``, ``.h5``, ``.mat``, ``.xfm``).

        Raises
        ------
        ReadError
            If the file is missing or broken, or its transform is not supported.
        """
        source = files.path_of(path)
        if not source.is_file():
            raise ReadError(f"{source}: there is no such transform file.")
        try:
            if source.suffix == ".json":
                return cls.from_record(TransformRecord.read(source))
            return cls._from_itk(source)
        except (MedseqError, ValueError, RuntimeError, OSError) as problem:
            raise ReadError(f"{source}: the transform cannot be read ({str(problem).splitlines()[0]}).") from problem

    @classmethod
    def from_record(cls, record: TransformRecord) -> Transform:
        """The transform that `to_record` described.

        Raises
        ------
        GeometryError
            If it holds an invalid matrix.
        """
        spline = None
        if record.spline is not None:
            parameters = np.array(record.spline.parameters, dtype=np.float64)
            spline = Spline(geometry.as_affine(record.spline.frame), record.spline.fixed_parameters, parameters)
            spline.itk()
        return cls(
            record.kind,
            geometry.as_affine(record.linear),
            None if record.fixed_affine is None else geometry.as_affine(record.fixed_affine),
            record.fixed_grid,
            spline,
            record.quality,
            record.fixed_name,
            record.moving_name,
        )

    @classmethod
    def _from_itk(cls, source: Path) -> Transform:
        import SimpleITK as sitk

        transform = sitk.ReadTransform(str(source))
        if transform.GetDimension() != 3 or not transform.IsLinear():
            raise ReadError("only 3D linear transforms are read from ITK's files; deformable ones from .json")
        return cls("affine", np.asarray(geometry.RAS_LPS @ matrix_of(transform) @ geometry.RAS_LPS))

    def __repr__(self) -> str:
        q = self.quality
        state = "trustworthy" if q.trustworthy else "NOT trustworthy"
        return (
            f"<Transform {self.kind} {self.moving_name!r} → {self.fixed_name!r}: {q.rotation_deg:.1f}°, "
            f"{q.shift_mm:.1f} mm, error ~{q.error_mm:.2g} mm, {state}>"
        )


#: how a visit is brought to a common space; see `to_common`
Position = ArrayLike | Transform | None


def to_common(position: Position) -> Affine:
    """The 4×4 matrix that brings a visit to a common space, RAS+ mm.

    Parameters
    ----------
    position : array_like, Transform or None
        Visit → common space as a 4×4 matrix; or what ``register(visit, first)`` gave, whose `Transform.matrix` has the other direction;
        None: it lies there already.

    Raises
    ------
    RegistrationError
        If the transform is deformable.
    GeometryError
        If the matrix is not a usable affine.
    """
    if position is None:
        return geometry.as_affine(np.eye(4))
    return position.to_fixed_matrix if isinstance(position, Transform) else geometry.as_affine(position)


__all__ = ["Kind", "Position", "Quality", "Spline", "Transform", "to_common"]
