"""The objects that all functions take and return: one image sequence, and one patient's visits.

An `ImageSequence` is pixels with named axes and a place in the patient; a `Study` is one patient's `Visit`s in order.
Nothing here reads files, knows of layers or loads more than numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_medseq import geometry
from napari_medseq.errors import GeometryError, MedseqError
from napari_medseq.geometry import Affine
from napari_medseq.moments import as_date, as_moment, as_seconds
from napari_medseq.unread import is_lazy
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from dask.array import Array

#: Every axis name, in the only order in which they may stand.
AXES = ("t", "z", "y", "x", "c")
SPACE = ("z", "y", "x")
Kind = Literal["image", "labels"]
T = TypeVar("T")
#: What a sequence may hold: voxels in memory, or ones that are read when they are asked for.
Voxels: TypeAlias = "NDArray[np.generic] | Array"


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """Pixels with named axes, their place in the patient, and what is known of them.

    Parameters
    ----------
    data : numpy.ndarray or dask.array.Array
        The voxels; one array axis per name in `axes`. What `read` leaves in its file (``lazy=True``) is unread voxels,
        which stand for a dask array and load dask only when more than one slice or frame is looked at.
    axes : tuple of str
        Names out of ``("t", "z", "y", "x", "c")``, in that order, only those present; ``c`` is RGB(A) only.
    affine : array_like, shape (4, 4)
        Voxel index (x, y, z) → patient RAS+ millimetres.
    times : array_like, shape (t,), optional
        Seconds from the first frame; required with ``t`` unless frames are 1 s apart (then filled in), None without.
    acquired : datetime, optional
        When the image was acquired, in local time; a time zone is left out.
    slice_axis : {"z", "y", "x"}
        The axis along which slices were acquired.
    oriented : bool
        False where the file does not state an orientation.
    kind : {"image", "labels"}
    label_names : dict of int to str
        Names of label values, for ``kind="labels"``.
    modality, name, meta, warnings
        DICOM modality code or None; a readable name; plain serialisable facts; what was doubtful.

    Raises
    ------
    MedseqError
        If axes, array and times do not fit together.
    GeometryError
        If the affine is not usable.
    """

    data: Any
    axes: tuple[str, ...]
    affine: Affine
    times: NDArray[np.float64] | None = None
    acquired: datetime | None = None
    slice_axis: str = "z"
    oriented: bool = True
    kind: Kind = "image"
    label_names: dict[int, str] = field(default_factory=dict)
    modality: str | None = None
    name: str = "image"
    meta: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        known = hasattr(self.data, "ndim") and isinstance(getattr(self.data, "dtype", None), np.dtype)
        data = self.data if known else np.asarray(self.data)  # lists and tensors
        axes = tuple(self.axes)
        put("data", data)
        put("axes", axes)
        put("affine", geometry.as_affine(self.affine))
        put("warnings", tuple(self.warnings))
        put("acquired", as_moment(self.acquired, f"{self.name}: acquired"))
        put("label_names", _names(self.label_names, self.name))
        if any(a not in AXES for a in axes) or list(axes) != sorted(set(axes), key=AXES.index):
            raise MedseqError(f"{self.name}: axes {axes} must be distinct names out of {AXES}, in that order.")
        if not {"y", "x"} <= set(axes):
            raise MedseqError(f"{self.name}: axes {axes} lack 'y' or 'x'; an image needs both.")
        if data.dtype.kind not in "biufV" or isinstance(data, np.ma.MaskedArray):
            what = "a masked array" if isinstance(data, np.ma.MaskedArray) else f"of type {data.dtype}"
            raise MedseqError(
                f"{self.name}: the array is {what}; voxels are whole numbers or fractions: convert it, such as by .astype(float), abs() or "
                ".filled(np.nan)."
            )
        if data.ndim != len(axes):
            raise MedseqError(f"{self.name}: data has {data.ndim} dimensions but {len(axes)} axes {axes} are named.")
        if "c" in axes and data.shape[axes.index("c")] not in (3, 4):
            raise MedseqError(
                f"{self.name}: axis 'c' is for RGB or RGBA only, not {data.shape[axes.index('c')]} channels."
            )
        if self.slice_axis not in SPACE:
            raise MedseqError(f"{self.name}: slice_axis {self.slice_axis!r} must be 'z', 'y' or 'x'.")
        if self.kind not in ("image", "labels"):
            raise MedseqError(f"{self.name}: kind {self.kind!r} must be 'image' or 'labels'.")
        if self.kind == "labels" and np.dtype(data.dtype).kind not in "iub":
            raise MedseqError(
                f"{self.name}: labels have dtype {data.dtype}, but must be whole numbers; round and convert them first."
            )
        put("times", self._checked_times(axes, data.shape))

    def _checked_times(self, axes: tuple[str, ...], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        if "t" not in axes:
            if self.times is not None:
                raise MedseqError(f"{self.name}: times are given but there is no axis 't'.")
            return None
        n = shape[axes.index("t")]
        times = np.arange(n, dtype=np.float64) if self.times is None else as_seconds(self.times, f"{self.name}: times")
        if times.shape != (n,):
            raise MedseqError(
                f"{self.name}: {how_many(times.size, 'time')} for {how_many(n, 'frame')}; give one per frame, in seconds."
            )
        times.setflags(write=False)
        return times

    # -- by name, never by position ------------------------------------------------------------------------------
    def axis(self, name: str) -> int:
        """Position of the axis called `name` in `data`.

        Raises
        ------
        MedseqError
            If the sequence has no such axis.
        """
        if name not in self.axes:
            raise MedseqError(f"{self.name} has axes {self.axes}, not {name!r}.")
        return self.axes.index(name)

    def size(self, name: str) -> int:
        """Length along the axis called `name`; 1 where it is absent."""
        return int(self.data.shape[self.axes.index(name)]) if name in self.axes else 1

    @property
    def sizes(self) -> dict[str, int]:
        """Axis name → length, for the axes present."""
        return {a: int(n) for a, n in zip(self.axes, self.data.shape, strict=True)}

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z), the affine's order."""
        return self.size("x"), self.size("y"), self.size("z")

    @property
    def spacing(self) -> dict[str, float]:
        """Millimetres per step along "z", "y" and "x"."""
        x, y, z = (float(v) for v in geometry.spacing(self.affine))
        return {"z": z, "y": y, "x": x}

    @property
    def is_dynamic(self) -> bool:
        """Whether it holds volumes over time; pictures over time are one sequence."""
        return "t" in self.axes and "z" in self.axes and self.size("z") > 1

    @property
    def series_axis(self) -> str:
        """The axis that it is a series along: ``t`` where there are frames, else `slice_axis`."""
        return "t" if "t" in self.axes else self.slice_axis

    @property
    def is_lazy(self) -> bool:
        """Whether the voxels are still to be read or computed."""
        return is_lazy(self.data)

    # -- derived sequences ---------------------------------------------------------------------------------------
    def replace(self, **changes: Any) -> ImageSequence:
        """A copy with the named fields changed, checked again."""
        return replace(self, **changes)

    def like(self, data: Any, *, axes: tuple[str, ...] | None = None, **changes: Any) -> ImageSequence:
        """A sequence with other voxels on this grid, and the same affine, times and facts; give `axes` if it has
        fewer axes."""
        axes = self.axes if axes is None else axes
        times = self.times if "t" in axes else None
        return replace(self, data=data, axes=axes, times=times, **changes)

    def labels_like(self, data: Any, *, name: str, label_names: Mapping[int, str], **changes: Any) -> ImageSequence:
        """Labels on this grid: no colour axis, no modality-specific facts but the stored orientation."""
        axes = tuple(a for a in self.axes if a != "c")
        return self.like(data, axes=axes, name=name, kind="labels", label_names=dict(label_names), **changes)

    def compute(self) -> ImageSequence:
        """The same sequence with its voxels in memory as numpy."""
        return replace(self, data=np.asarray(self.data)) if not isinstance(self.data, np.ndarray) else self

    def frame(self, index: int) -> ImageSequence:
        """One frame of a ``t`` sequence, without the ``t`` axis."""
        at = (slice(None),) * self.axis("t") + (index,)
        return replace(self, data=self.data[at], axes=tuple(a for a in self.axes if a != "t"), times=None)

    def volume_zyx(self) -> NDArray[np.generic]:
        """The voxels as a numpy (z, y, x) volume; a 2D image has z of length 1.

        Raises
        ------
        MedseqError
            If there is a ``t`` or ``c`` axis.
        """
        if set(self.axes) & {"t", "c"}:
            advice = "Choose a frame." if "t" in self.axes else "Its colours have to be one grey channel first."
            raise MedseqError(f"{self.name} has axes {self.axes}; a single volume (z, y, x) is needed here. {advice}")
        volume = np.asarray(self.data)
        return volume if "z" in self.axes else volume[np.newaxis]

    def same_grid(self, other: ImageSequence, tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same voxels at the same places (corners within `tolerance_mm`)."""
        if self.grid != other.grid:
            return False
        corners = geometry.corners(self.grid)
        apart = geometry.apply_points(self.affine, corners) - geometry.apply_points(other.affine, corners)
        return bool(np.abs(apart).max() <= tolerance_mm)

    def __repr__(self) -> str:
        sizes = " ".join(f"{a}{n}" for a, n in self.sizes.items())
        step = "×".join(f"{self.spacing[a]:.3g}" for a in SPACE)
        return f"<ImageSequence {self.name!r} {self.kind} {self.modality or '?'} {sizes} {step} mm>"


@dataclass(frozen=True, eq=False)
class Visit:
    """One visit of a patient.

    Parameters
    ----------
    date : date or None
        Day of the visit, or None if unknown.
    images, labels : tuple of ImageSequence
        What was acquired, and the masks that lie beside it.
    name : str
        Readable and unique in the study, such as ``ses-20200131``.
    """

    date: date | None
    images: tuple[ImageSequence, ...] = ()
    labels: tuple[ImageSequence, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        where = self.name or "A visit"
        object.__setattr__(self, "images", _listed(self.images, ImageSequence, f"{where}: images"))
        object.__setattr__(self, "labels", _listed(self.labels, ImageSequence, f"{where}: labels"))
        object.__setattr__(self, "date", as_date(self.date, where))


@dataclass(frozen=True, eq=False)
class Study:
    """One patient's visits, ordered by date.

    Parameters
    ----------
    name : str
        A pseudonym or folder name; never a patient's name.
    visits : tuple of Visit
        Sorted by date at construction when every visit has one; otherwise the order given is kept.
    warnings : tuple of str
        What was doubtful when the study was read.
    dropped : tuple of str
        Visits that are there but could not be read: the name of each, and why.
    """

    name: str
    visits: tuple[Visit, ...]
    warnings: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        visits = _listed(self.visits, Visit, f"{self.name}: visits")
        if all(v.date is not None for v in visits):
            visits = tuple(sorted(visits, key=lambda v: v.date or date.min))
        object.__setattr__(self, "visits", visits)
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "dropped", tuple(self.dropped))

    @property
    def dates(self) -> list[date | None]:
        """The visits' dates, in order."""
        return [v.date for v in self.visits]


def _names(given: object, where: str) -> dict[int, str]:
    """Names of label values, from a mapping whose keys are whole numbers, or text of them as JSON has it."""
    try:
        return {int(value): str(name) for value, name in given.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        raise MedseqError(
            f"{where}: label_names is {given!r}; give a mapping of label value to name, such as {{1: 'lesion'}}."
        ) from None


def _listed(given: object, kind: type[T], where: str) -> tuple[T, ...]:
    """What somebody gave as a list of objects of one kind; one of them alone is a list of one."""
    listed = (given,) if isinstance(given, kind) else tuple(given) if isinstance(given, Iterable) else (given,)
    odd = next((item for item in listed if not isinstance(item, kind)), None)
    if odd is not None:
        raise MedseqError(f"{where} hold {kind_of(odd)}; give a list of {kind.__name__}{way_out(odd)}.")
    return listed


def check_images(**given: object) -> None:
    """Raise unless all values are image sequences; None is let through.

    Parameters
    ----------
    **given : object
        The name of a parameter, and what was given for it.

    Raises
    ------
    MedseqError
        Saying what it is instead, and how an image sequence is made of it.

    Examples
    --------
    >>> check_images(image=np.zeros((4, 6, 6)))
    Traceback (most recent call last):
    napari_medseq.errors.MedseqError: image is ndarray; give an ImageSequence: ms.ImageSequence(array, axes, affine).
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, ImageSequence):
            raise MedseqError(f"{name} is {kind_of(value)}; give an ImageSequence{way_out(value)}.")


def kind_of(value: object) -> str:
    """The type of a value for a message, and for a list that of its first item."""
    inside = f" of {type(value[0]).__name__}" if isinstance(value, list) and value else ""
    return f"{type(value).__name__}{inside}"


def way_out(value: object) -> str:
    """How image sequences are made of a value of another type, to follow a colon; empty for other values."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if isinstance(first, (str, PathLike)):
        return ": ms.read(path)[0]"
    if isinstance(first, ImageSequence):
        return ", not several"
    if isinstance(first, Study):
        return ": study.visits[0].images[0], or follow all visits with ms.run(study, model)"
    if isinstance(first, Visit):
        return ": visit.images[0]"
    if type(first).__module__.partition(".")[0] in ("nibabel", "SimpleITK", "itk", "pydicom"):
        return ": ms.read(path)[0] of its file, or ms.ImageSequence(array, axes, affine)"
    return ": ms.ImageSequence(array, axes, affine)" if hasattr(first, "shape") else ""


def matches(image: ImageSequence, patterns: str | Iterable[str]) -> bool:
    """Whether an image's name matches one of `patterns`, or one of them is its DICOM SeriesInstanceUID.

    Parameters
    ----------
    image : ImageSequence
    patterns : str or iterable of str
        As `matches_name`; no pattern matches nothing.
    """
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    return matches_name(image.name, listed) or image.meta.get("series_uid") in listed


def matches_name(name: str, patterns: str | Iterable[str]) -> bool:
    """Whether a name matches one of `patterns` (``*``, ``?``, ``[abc]``), regardless of case.

    A pattern that is the name itself always matches, also where brackets in it would mean something else.

    Examples
    --------
    >>> matches_name("sub-01_T1c", "*t1C"), matches_name("T1 [post]", ["T2", "T1 [post]"]), matches_name("T1", "T2*")
    (True, True, False)
    """
    listed = [patterns] if isinstance(patterns, str) else patterns
    low = name.casefold()
    return any(fnmatchcase(low, p.casefold()) or low == p.casefold() for p in listed)


def placed_like(labels: ImageSequence, image: ImageSequence) -> ImageSequence:
    """Labels in the place of their image where neither file says how it lies in space: the voxels of pictures and stacks are counted."""
    if labels.oriented or image.oriented or labels.grid != image.grid or labels.same_grid(image):
        return labels
    return labels.replace(affine=image.affine)


def check_same_grid(
    first: ImageSequence,
    *others: ImageSequence,
    frames: bool = True,
    tolerance_mm: float = 1e-3,
    where: str = "",
    error: type[MedseqError] = GeometryError,
) -> None:
    """Raise unless all sequences have the same voxels at the same places.

    Parameters
    ----------
    first, *others : ImageSequence
    frames : bool
        Whether they must have the same axes and as many frames too (colour aside); otherwise only the space counts.
    tolerance_mm : float
        How far the corners may lie apart.
    where : str
        Put before the message, such as the visit's name.
    error : type of MedseqError

    Raises
    ------
    GeometryError
        If a grid differs; the message names both images, their grids, and the way out.
    """
    for other in others:
        same_space = first.same_grid(other, tolerance_mm)
        if same_space and (not frames or _without_colour(first) == _without_colour(other)):
            continue
        raise error(
            f"{where}{': ' if where else ''}{other.name} ({describe_grid(other)}) lies on another grid than "
            f"{first.name} ({describe_grid(first)}); {_way_onto(first, other, same_space=same_space)}."
        )


def _way_onto(first: ImageSequence, other: ImageSequence, *, same_space: bool) -> str:
    """What to do about images on different grids."""
    if same_space:
        return "choose the frame that belongs to it"
    if first.oriented != other.oriented and first.grid == other.grid:
        loose = other if first.oriented else first
        return (
            f"{loose.name} does not say where its voxels lie in space: if both are the same voxels, save it with the header (affine) of "
            "the other, as NIfTI or NRRD"
        )
    return (
        "resample one onto the other's grid first, with ms.preprocess or `napari-medseq preprocess LABELS -s '{kind: resample, "
        "interpolation: nearest}' --reference IMAGE -o OUT` (images without interpolation: nearest)"
    )


def describe_grid(seq: ImageSequence) -> str:
    """The grid of a sequence in words: its sizes, voxel size, and where its first voxel lies (RAS+ mm)."""
    size = " ".join(f"{a}{n}" for a, n in seq.sizes.items())
    step = "×".join(f"{seq.spacing[a]:.3g}" for a in SPACE)
    corner = ", ".join(f"{v:.1f}" for v in seq.affine[:3, 3])
    return f"{size}, {step} mm, from ({corner})"


def _without_colour(seq: ImageSequence) -> dict[str, int]:
    return {a: n for a, n in seq.sizes.items() if a != "c"}


def affine_from(spacing_xyz: ArrayLike, origin_ras: ArrayLike = (0.0, 0.0, 0.0)) -> Affine:
    """House-oriented (LPS codes) affine from spacing in mm along (x, y, z) and the RAS position of voxel (0, 0, 0)."""
    affine: Affine = np.diag([*(np.asarray(spacing_xyz, float) * (-1, -1, 1)), 1.0])
    affine[:3, 3] = origin_ras
    return geometry.as_affine(affine)


__all__ = [
    "AXES",
    "SPACE",
    "ImageSequence",
    "Kind",
    "Study",
    "Visit",
    "affine_from",
    "check_same_grid",
    "describe_grid",
    "matches",
    "matches_name",
]
