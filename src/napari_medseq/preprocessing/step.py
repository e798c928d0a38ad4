"""The base of all preprocessing steps: frozen settings with a `kind`, and a transform of one sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import inf
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, SettingsError, warn
from napari_medseq.fields import SettingFacts, setting_facts
from napari_medseq.geometry import Volume
from napari_medseq.plugins import Table
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.settings import Settings
from napari_medseq.volumes.iterate import count_volumes, iter_volumes, map_volumes

Floats = NDArray[np.floating]

#: the reach along each axis, in voxels, of a step that needs the voxel alone, or everything
ONE_VOXEL: Mapping[str, float] = MappingProxyType({})
EVERYTHING: Mapping[str, float] = MappingProxyType(dict.fromkeys(("t", "z", "y", "x"), inf))
ONE_FRAME: Mapping[str, float] = MappingProxyType(dict.fromkeys(("z", "y", "x"), inf))


def sliced_along(seq: ImageSequence) -> str:
    """The axis along which slices were acquired; "z" if the sequence does not have that axis."""
    return seq.slice_axis if seq.slice_axis in seq.axes else "z"


def one_slice(seq: ImageSequence) -> Mapping[str, float]:
    """The reach of a step that works slice by slice."""
    return {a: inf for a in SPACE if a != sliced_along(seq)}


@dataclass(frozen=True)
class Job:
    """The further inputs of a step beside the sequence, and its doubts.

    Attributes
    ----------
    title : str
        Title of the step, for the progress message.
    reference : ImageSequence or None
        Another image, for steps that need one.
    progress, cancelled : callable or None
    doubts : list of str
        Phrases that the step adds to; each becomes a `MedseqWarning` and stands in the result's ``warnings``.
    """

    title: str = ""
    reference: ImageSequence | None = None
    progress: Progress | None = None
    cancelled: Cancelled | None = None
    doubts: list[str] = field(default_factory=list)

    def volumes(self, seq: ImageSequence) -> Iterator[Volume]:
        """Every (z, y, x) volume of the sequence, for a first pass over it; see `iter_volumes`."""
        return iter_volumes(seq, cancelled=self.cancelled)

    def map(self, seq: ImageSequence, work: Callable[[Volume], Volume], *, report: bool = True) -> ImageSequence:
        """The sequence with ``work(volume)`` applied to each (z, y, x) volume; see `map_volumes`."""
        progress = self.progress if report else None
        return map_volumes(seq, work, message=self.title, progress=progress, cancelled=self.cancelled)

    def map_slices(self, seq: ImageSequence, work: Callable[[Volume], Volume]) -> ImageSequence:
        """The sequence with ``work(plane)`` applied to each slice across the axis along which slices were acquired;
        all results have one shape."""
        at = SPACE.index(sliced_along(seq))
        total = count_volumes(seq) * seq.size(sliced_along(seq))
        done = count(1)

        def over(volume: Volume) -> Volume:
            planes = []
            for plane in np.moveaxis(volume, at, 0):
                check(self.cancelled)
                planes.append(work(plane))
                if self.progress is not None:
                    self.progress(next(done), total, self.title)
            return np.moveaxis(np.stack(planes), 0, at)

        return self.map(seq, over, report=False)

    def finite(self, volume: Volume, name: str) -> Floats:
        """The volume as floating point without NaN or infinities; replaced voxels are added to the doubts.

        NaN and −∞ become the smallest finite value, +∞ the largest.

        Raises
        ------
        MedseqError
            If no voxel is finite.
        """
        data: Floats = np.array(volume, dtype=np.float64 if volume.dtype == np.float64 else np.float32)
        good = np.isfinite(data)
        if good.all():
            return data
        if not good.any():
            raise MedseqError(f"{name} has no finite voxel; there is nothing to work on.")
        low, high = float(data[good].min()), float(data[good].max())
        filled = int(data.size - np.count_nonzero(good))
        self.doubts.append(f"{filled} voxels were NaN or infinite and were filled")
        return np.asarray(np.nan_to_num(data, nan=low, neginf=low, posinf=high))


class Step(Settings):
    """Base class of the steps. A subclass states its `kind`, its settings, and its transform of a sequence.

    A custom step is known to `preprocess`, to pipeline files and to the viewer as soon as its class is defined.

    Attributes
    ----------
    kind : str
        The name in pipeline files.

    Raises
    ------
    SettingsError
        If another class has the same `kind`.

    Examples
    --------
    >>> import napari_medseq as ms
    >>> from napari_medseq.sequence import affine_from
    >>> class Power(Step):
    ...     '''Raise intensities to a power.'''
    ...
    ...     title: ClassVar[str] = "power"
    ...     kind: str = "power"
    ...     exponent: float = 2.0
    ...
    ...     def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
    ...         return job.map(seq, lambda volume: job.finite(volume, seq.name) ** self.exponent)
    >>> scan = ImageSequence(np.full((2, 3, 4), 3.0), ("z", "y", "x"), affine_from((1, 1, 5)))
    >>> bright = ms.preprocess(scan, [{"kind": "power", "exponent": 3}])
    >>> float(bright.data.max()), bright.meta["steps"]
    (27.0, [{'kind': 'power', 'exponent': 3.0}])
    """

    #: the title that users read
    title: ClassVar[str] = ""
    #: whether the step makes sense on labels, whose values are names
    takes_labels: ClassVar[bool] = False
    #: whether the step uses `reference`
    takes_reference: ClassVar[bool] = False
    #: modality → its usual settings, where they differ from the defaults
    by_modality: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        super().__pydantic_init_subclass__()
        kind = cls.model_fields["kind"].default
        if not isinstance(kind, str):
            return  # an abstract base of several steps
        entered = STEPS.entered(kind)
        if entered is not None and (entered.__module__, entered.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SettingsError(
                f"There is a preprocessing step {kind!r} already, {entered.__name__}; give yours another name."
            )
        STEPS[kind] = cls

    @classmethod
    def usual(cls, modality: str | None) -> Self:
        """The step with the usual settings for a modality, which it has if only its name is given.

        Raises
        ------
        SettingsError
            If the step has a setting without a default.
        """
        return cls(**cls.by_modality.get(modality or "", {}))

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        """Distance along each axis, in voxels of `seq`, within which other voxels influence the result at one voxel;
        infinite: all of them.

        An axis that is missing counts as 0. A preview of one slice needs only this part; the default is everything.
        """
        del seq
        return EVERYTHING

    def apply(
        self,
        seq: ImageSequence,
        *,
        reference: ImageSequence | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> ImageSequence:
        """Return the sequence with this step applied; its voxels are new, and the sequence itself does not change.

        Parameters
        ----------
        seq : ImageSequence
        reference : ImageSequence, optional
            Another image, for steps that need one.

        Raises
        ------
        SettingsError
            If the sequence holds labels and the step is for images only.
        MedseqError
            If the step cannot work on this sequence.
        """
        job = Job(self.title or self.kind, reference, progress, cancelled)
        result = self.result(seq, job)
        for doubt in sorted(set(job.doubts)):
            warn(f"{seq.name}: {doubt}.")
        return result

    def result(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """The same as `apply`, but doubts are only in the result's ``warnings`` and in ``job.doubts``.

        Raises
        ------
        SettingsError
            If the sequence holds labels and the step is for images only.
        MedseqError
            If the step cannot work on this sequence.
        """
        if seq.kind == "labels" and not self.takes_labels:
            raise SettingsError(
                f"{seq.name} holds labels, whose values are names; {job.title} is for images. Leave this step out."
            )
        doubts_before = len(job.doubts)
        result = self.apply_transform(seq, job)
        doubts = sorted(set(job.doubts[doubts_before:]) - set(result.warnings))
        return result.replace(warnings=(*result.warnings, *doubts)) if doubts else result

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        """The transform of the step, which a subclass implements; `apply` has checked the kind of the sequence."""
        raise NotImplementedError


def _usable(name: str, offered: object) -> type[Step]:
    if not (isinstance(offered, type) and issubclass(offered, Step)):
        raise ValueError("it is not a subclass of napari_medseq.preprocessing.Step")
    if offered.model_fields["kind"].default != name:
        raise ValueError(f"its field `kind` is not {name!r}")
    return offered


#: kind → the step of that kind; custom steps register themselves, and other packages add theirs by entry points
STEPS: Table[type[Step]] = Table("napari_medseq.steps", "preprocessing step", {}, _usable)


def settings_of(step: type[Step] | str) -> tuple[SettingFacts, ...]:
    """A description of each setting of a step, in the order of its model, without `kind`.

    Parameters
    ----------
    step : type of Step, or its kind

    Examples
    --------
    >>> from napari_medseq.preprocessing import Crop
    >>> margin, *_ = settings_of(Crop)
    >>> margin.title, margin.unit, margin.default, margin.minimum
    ('margin', 'mm', 5.0, 0.0)
    """
    model = STEPS[step] if isinstance(step, str) else step
    return tuple(setting_facts(model, name) for name in model.model_fields if name != "kind")
