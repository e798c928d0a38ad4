"""`propagate`: carry an object that is painted on one or two steps to all others; each corrected step is one more
prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, ModelError, warn
from napari_medseq.inference.inputs import visits
from napari_medseq.inference.outputs.prediction import Segmentation
from napari_medseq.inference.prompts.carrying import Carrier
from napari_medseq.inference.prompts.merging import Merged
from napari_medseq.inference.prompts.objects import Annotated, checked_steps, objects_of, one_label_image
from napari_medseq.inference.prompts.parts import in_parts
from napari_medseq.inference.prompts.passes import ready
from napari_medseq.inference.prompts.planes import painted_axis, planes_along
from napari_medseq.inference.prompts.visits import labels_by_visit, prompted_visits
from napari_medseq.inference.prompts.window import PromptSettings
from napari_medseq.inference.resources import devices
from napari_medseq.inference.upright import Upright, upright_exams
from napari_medseq.models import Model, ModelLike, loaded
from napari_medseq.models.prompted_unet import PromptedNetwork
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.registration.transform import Position
from napari_medseq.sequence import ImageSequence, Visit
from napari_medseq.settings import checked


@dataclass(frozen=True, eq=False)
class Propagation(Segmentation):
    """The result of `propagate` for one image: a `Segmentation`, and the step to check next.

    Attributes
    ----------
    axis : str
        The axis along which the objects were carried.
    doubt : ndarray of float32, (step,)
        Expected wrong pixels of a step, as a share of the object's largest painted area: the sum of ``min(p, 1 − p)`` over the
        pixels of its window, which is what thresholding a calibrated probability at one half gets wrong; and where the network's
        first answer and the one that is given differ, half of the difference. The largest of all objects and their parts; 0 where a
        step is annotated.
    """

    axis: str
    doubt: NDArray[np.float32]

    @property
    def next_step(self) -> int | None:
        """The most doubtful step, which is the next to check; None where nothing is in doubt."""
        return int(self.doubt.argmax()) if self.doubt.size and self.doubt.max() > 0 else None


class _Options(TypedDict, total=False):
    """The keywords of `propagate`, once, for its two overloads."""

    annotated: Annotated | None
    axis: str | None
    steps: Sequence[int] | None
    transforms: Sequence[Position] | None
    device: str
    progress: Progress | None
    cancelled: Cancelled | None


@overload
def propagate(
    image: ImageSequence,
    prompts: ImageSequence | Sequence[ImageSequence],
    model: ModelLike = ...,
    **options: Unpack[_Options],
) -> Propagation: ...
@overload
def propagate(
    image: Sequence[Visit],
    prompts: ImageSequence | Sequence[ImageSequence | None],
    model: ModelLike = ...,
    **options: Unpack[_Options],
) -> list[Propagation]: ...
def propagate(
    image: ImageSequence | Sequence[Visit],
    prompts: ImageSequence | Sequence[ImageSequence] | Sequence[ImageSequence | None],
    model: ModelLike = "propagate",
    *,
    annotated: Annotated | None = None,
    axis: str | None = None,
    steps: Sequence[int] | None = None,
    transforms: Sequence[Position] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Propagation | list[Propagation]:
    """Carry painted objects along slices, frames or visits.

    Painted voxels are never changed, and a step on which an object is painted gets no more of it: to correct a step, paint it as it
    should be and propagate again. Where two objects claim a voxel, the more probable one gets it.

    Memory beyond the image, per step and whatever the number of objects: the labels; where there are several objects 2 bytes per
    pixel of the boxes that they fill, and no more than 2 per pixel of the image; 5 bytes per pixel of the windows that wait, up to
    128 MB; and of the one object that is carried (of several small ones, up to 16 MB) 52 bytes per pixel of its window beside the
    network's features (`prompts.passes`), of which there are no more than half a gigabyte.

    Parameters
    ----------
    image : ImageSequence, or sequence of Visit
        A volume, a 2D or 3D cine, or one slice; colours are taken as luminance. Visits: a patient's, each with its image; their
        dates put them in order, the days between them do not enter (docs/benchmarks.md says why).
    prompts : ImageSequence, or sequence of them
        Labels on the image's grid: each value is one object, annotated on the steps where it is painted. Several label images
        of one image are taken together. Of visits: one label image, on the grid of the visit that it belongs to, or one or None per
        visit; a visit that is painted is complete.
    model : Model, str or path
        A promptable network, its name, or the folder of its bundle.
    annotated : sequence of int, or mapping of value to sequence of int, optional
        More steps that are complete, for all objects or for each: an object ends before a complete step on which it is not painted.
    axis : {"z", "y", "x", "t"}, optional
        Along which objects are carried. None: the slice axis, or that across which somebody painted; frames of 2D images.
        Along "t" the slices of volumes are sequences of their own, and along a space axis frames are.
    steps : sequence of int, optional
        Label only these steps; painted voxels stay in any case.
    transforms : sequence of 4×4, Transform or None, optional
        For visits: the matrix from each visit's patient coordinates to a common space (RAS mm; None: the identity), or what
        ``register(visit, first)`` gave.
        Without it visits that align are left as they lie, and others are registered.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".
    progress, cancelled : callable, optional
        Looked at at least once per object and stretch of 8 steps.

    Returns
    -------
    Propagation
        Its ``labels`` are on the image's grid, its ``next_step`` is the one to check next. A list of them, one per visit, for
        visits.

    Raises
    ------
    MedseqError
        If nothing is painted, the labels lie on another grid, two objects are painted on one voxel, or a step is not there.
    ModelError
        If the model is not a promptable network.
    RegistrationError
        If a visit has to be registered and the result cannot be trusted.
    DeviceError
        If the device is not there, or its memory does not suffice.
    OperationCancelled
        When `cancelled` says so.
    """
    model = loaded(model)
    if not isinstance(model.network, PromptedNetwork):
        raise ModelError(
            f"{model.info.name} is a {model.info.task} model, which cannot take painted steps; use model='propagate'."
        )
    job = _Job(model, model.network, devices.choose(device)[0], cancelled)
    if isinstance(image, ImageSequence):
        if transforms is not None:
            raise MedseqError("transforms are for visits; one image lies where it lies.")
        labels = one_label_image(_listed(prompts), image)
        turn = Upright.of(image)
        upright, drawn = turn.there(image), turn.there(labels)
        along = painted_axis(upright, drawn) if axis is None else turn.axis(axis)
        known = annotated_there(annotated, turn, along)
        return _as_stored(job.of_image(upright, drawn, known, along, turn.steps(steps, along), progress), turn)
    if annotated is not None or axis is not None or steps is not None:
        raise MedseqError(
            "annotated, axis and steps are for one image; along visits, a visit that is painted is complete."
        )
    patient = visits.patient_of(image, model, transforms, cancelled=cancelled)
    return job.of_visits(patient, labels_by_visit(prompts, patient, len(image)), progress)


def annotated_there(annotated: Annotated | None, turn: Upright, axis: str) -> Annotated | None:
    """Complete steps of an image as steps of the turned one."""
    if isinstance(annotated, Mapping):
        return {value: turn.steps(steps, axis) or () for value, steps in annotated.items()}
    return turn.steps(annotated, axis)


def _as_stored(answer: Propagation, turn: Upright) -> Propagation:
    """An answer about a turned image on the grid of the image itself."""
    doubt = turn.along(answer.doubt, answer.axis)
    return replace(answer, labels=turn.back(answer.labels), axis=turn.own(answer.axis), doubt=doubt)


def _unpainted_frames(labels: ImageSequence, axis: str) -> list[str]:
    """A warning that frames without paint stay empty where objects are carried through space."""
    if "t" not in labels.axes or axis == "t":
        return []
    painted = np.asarray(np.any(labels.data, axis=tuple(k for k, a in enumerate(labels.axes) if a != "t")))
    if painted.all():
        return []
    text = (
        f"{int((~painted).sum())} of {len(painted)} frames are not painted and stay empty, for objects were carried along {axis}; to "
        'carry the answer on to them, propagate it with axis="t".'
    )
    warn(text)
    return [text]


def _listed(prompts: ImageSequence | Sequence[ImageSequence] | Sequence[ImageSequence | None]) -> list[ImageSequence]:
    return [prompts] if isinstance(prompts, ImageSequence) else [p for p in prompts if p is not None]


class _Job:
    """One call of `propagate`, for any kind of image."""

    def __init__(
        self, model: Model, network: PromptedNetwork, device: torch.device, cancelled: Cancelled | None
    ) -> None:
        self.model, self.network, self.device, self.cancelled = model, network, device, cancelled
        self.settings = checked(PromptSettings, model.inference, where=model.info.name, error=ModelError)

    def of_image(
        self,
        image: ImageSequence,
        labels: ImageSequence,
        annotated: Annotated | None,
        axis: str | None,
        steps: Sequence[int] | None,
        progress: Progress | None,
    ) -> Propagation:
        """The objects of one image."""
        planes = planes_along(image, axis or painted_axis(image, labels))
        step_numbers = None if steps is None else checked_steps(steps, planes, "steps")
        objects = objects_of(labels, planes, annotated)
        if self.settings.parts:
            objects = in_parts(objects, planes.view(np.asarray(labels.data)), planes.spacing)

        def run(where: torch.device, chunk: int | None) -> Merged:
            network = ready(self.network, where, self.settings.precision)
            merged = Merged(planes, labels, self.settings, step_numbers, several=len(objects) > 1)
            carrier = Carrier(planes, merged.painted, network, self.settings, where, chunk, progress, self.cancelled)
            carrier.carry(objects, merged.add)
            return merged

        check(self.cancelled)
        merged, notes = devices.within_memory(run, self.device, None, image.name)
        check(self.cancelled)
        name = f"{image.name}_{self.model.info.name}"
        carried = image.labels_like(merged.data, name=name, label_names=labels.label_names)
        notes = [*notes, *_unpainted_frames(labels, planes.axis)]
        carried = carried.replace(warnings=(*carried.warnings, *notes))
        return Propagation(carried, None, None, self._name, planes.axis, merged.doubt)

    def of_visits(
        self, patient: visits.Patient, labels: Mapping[int, ImageSequence], progress: Progress | None
    ) -> list[Propagation]:
        """Each visit of a patient; one that is painted is as it was."""
        results = {k: self._painted(seq) for k, seq in labels.items()}
        unannotated = len(patient.exams) - len(labels)
        turns, exams = upright_exams(patient.exams)
        drawn = {k: turns[k].there(seq) for k, seq in labels.items()}
        for k, visit in enumerate(prompted_visits(replace(patient, exams=exams), drawn, self.cancelled)):
            watched = part(progress, k / unannotated, (k + 1) / unannotated, f"visit {visit.number + 1}: ")
            carried = self.of_image(visit.image, visit.labels, visit.painted, "t", None, watched)
            image = exams[visit.number][0]
            data = np.asarray(carried.labels.data)[visit.frame].reshape(image.data.shape)
            own = image.labels_like(
                data, name=f"{image.name}_{self.model.info.name}", label_names=visit.labels.label_names
            )
            own = turns[visit.number].back(own.replace(warnings=(*own.warnings, *carried.labels.warnings)))
            results[visit.number] = replace(carried, labels=own, doubt=carried.doubt[visit.frame : visit.frame + 1])
        return [results[k] for k in sorted(results)]

    def _painted(self, labels: ImageSequence) -> Propagation:
        return Propagation(labels, None, None, self._name, "t", np.zeros(1, np.float32))

    @property
    def _name(self) -> str:
        return f"{self.model.info.name} {self.model.info.version}"
