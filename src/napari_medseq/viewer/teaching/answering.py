"""One press of *Propagate* or *Teach*: take what is painted and corrected, compute an answer, show it as one step of
undo.

`propagate` does all of it at once. A window computes the answer in another thread: `lesson_job` copies what is needed,
`LessonJob.propagate` touches no layer, and `show_lesson` shows the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.inference.outputs.prediction import Segmentation
from napari_medseq.inference.prompts.planes import painted_axis, planes_along
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.editing.slices import settled_slices
from napari_medseq.viewer.layers.conversion import KEY, from_layer, layer_axis, own_array
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.teaching.last_answers import answer_axis, answered, as_it_is, remember_answer
from napari_medseq.viewer.teaching.lessons import (
    interpolated,
    show_answer,
    slice_doubt,
    take_over,
    taken_over,
    with_finished,
    with_painted,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_medseq.models import ModelLike

#: the model that carries painted objects
PROPAGATE = "propagate"


@dataclass(frozen=True, eq=False)
class LessonJob:
    """What an answer is computed from, copied from the layers in the GUI thread by `lesson_job`.

    Attributes
    ----------
    image : Image
    labels : Labels
        What a person painted.
    answer : Labels or None
        The layer of the last answer.
    seq : ImageSequence
        The image.
    painted : ImageSequence
        A copy of what is painted, with the corrected slices of the last answer in it.
    corrected : tuple of int
        The slices that are taken over from the last answer into the painted labels, when the new one is shown.
    labelled : tuple of int
        The slices of `painted` that hold a label.
    done : tuple of int
        All slices that are known to be right for every object: corrected, accepted, also as empty, and if asked for those with a label.
    finished : tuple of int
        Labels of objects that a new answer must not change.
    before : ImageSequence or None
        A copy of the last answer, if an object in it is finished.
    axis : str
        The axis of the sequence that these slices lie along: that across which somebody painted.
    answer_axis : str
        The one that the slices of the last answer lie along.
    """

    image: Image
    labels: Labels
    answer: Labels | None
    seq: ImageSequence
    painted: ImageSequence
    corrected: tuple[int, ...]
    labelled: tuple[int, ...]
    done: tuple[int, ...]
    finished: tuple[int, ...]
    before: ImageSequence | None
    axis: str
    answer_axis: str

    def propagate(
        self,
        model: ModelLike | None = PROPAGATE,
        *,
        device: str = "auto",
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Segmentation:
        """Carry what is painted, except finished objects, to all other slices. This is safe in any thread.

        Parameters
        ----------
        model : Model, name or bundle folder, optional
            A promptable network; None: outlines are interpolated between painted slices, without a network.
        device : str
        progress, cancelled : callable, optional

        Raises
        ------
        MedseqError
            If every painted object is finished, or nothing is painted.
        OperationCancelled
        """
        data, prompts = np.asarray(self.painted.data), _unfinished(self.painted, self.finished)
        if data.any() and not np.asarray(prompts.data).any():
            raise MedseqError("Every painted object is finished. Paint another one, or go on with one of them.")
        if model is None:
            return interpolated(prompts, self.axis)
        return ms.propagate(
            self.seq, prompts, model, annotated=list(self.done), axis=self.axis, device=device, progress=progress,
            cancelled=cancelled,
        )  # fmt: skip


def _unfinished(painted: ImageSequence, finished: Iterable[int]) -> ImageSequence:
    """The painted labels without the objects that are finished."""
    data = np.asarray(painted.data)
    return painted.replace(data=np.where(np.isin(data, list(finished)), 0, data))


def lesson_job(
    viewer: ViewerModel,
    image: Image,
    labels: Labels,
    *,
    answer: Labels | None = None,
    right: Iterable[int] = (),
    finished: Iterable[int] = (),
    whole: bool = False,
    along: str | None = None,
) -> LessonJob:
    """Copy from the layers what an answer is computed from; no layer is changed, and painting may go on.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    labels : Labels
        What is painted on it. An object is complete on the slices on which it is painted.
    answer : Labels, optional
        The layer of the last answer: slices that a person corrected in it count as painted, whole.
    right : iterable of int
        Further slices that are right as they are, such as those accepted as empty.
    finished : iterable of int
        Labels of objects that stay as they are in the answer.
    whole : bool
        Slices of the image's own with a label are complete for all objects, as `ms.teach` takes them.
    along : str, optional
        The axis of the sequence ("z", "y", "x" or "t") along which painted slices, or frames, lie; see `directions`. By default it is
        found from what is painted. Ignored where `whole`.

    Raises
    ------
    MedseqError
        If labels and answer do not share a grid, the image has no such axis, or none is given and objects are painted on slices of
        different directions.
    """
    labels = real(labels)
    answer = None if answer is None or answer not in viewer.layers else real(answer)
    painted, corrected, closed = from_layer(labels), list[int](), tuple(sorted(finished))
    own = painted.series_axis
    across = own if answer is None else answer_axis(answer)
    seq = from_layer(image)
    if along is not None and not whole:
        planes_along(seq, along)  # the error of an axis that it does not have
    axis = own if whole else along or _axis(seq, _unfinished(painted, closed), answer)
    data = np.asarray(painted.data)
    if answer is not None and answer is not labels:
        taking = taken_over(viewer, answer, labels, axis_name=across)
        corrected = taking.steps
        data = own_array(labels, taking.data) if KEY in labels.metadata else taking.data.reshape(data.shape)
    painted = painted.replace(data=np.array(data))
    number = painted.axes.index(axis)
    holds = np.asarray(painted.data).any(axis=tuple(k for k in range(painted.data.ndim) if k != number))
    labelled = tuple(int(k) for k in np.flatnonzero(holds))
    before = None
    if closed and answer is not None:
        before = from_layer(answer)
        before = before.replace(data=np.array(before.data))
    known = {
        *settled_slices(viewer, labels, axis),
        *right,
        *(corrected if axis == across else ()),
        *(labelled if whole else ()),
    }
    return LessonJob(
        image, labels, answer, seq, painted, tuple(corrected), labelled, tuple(sorted(known)), closed, before,
        axis, across,
    )  # fmt: skip


#: axis of the world, as layers are drawn → the slices across it
_NAMES = {"z": "axial", "y": "coronal", "x": "sagittal"}


def directions(image: Image) -> dict[str, str]:
    """The axes of an image's sequence along which slices or frames can be painted, with a name for each.

    Returns
    -------
    dict of str to str
        Axis → "axial", "coronal", "sagittal" or "frames"; "slices along x" and so on where the orientation is unknown. Of one axis
        alone if there is no choice.
    """
    seq = from_layer(image)
    names = {}
    for axis in (a for a in SPACE if a in seq.axes and "z" in seq.axes):
        number, _ = layer_axis(image, axis)
        drawn = axis if number is None else str(image.axis_labels[number])
        names[axis] = f"{_NAMES[drawn]} slices" if seq.oriented and drawn in _NAMES else f"slices along {axis}"
    return names | ({"t": "frames"} if "t" in seq.axes else {})


def _axis(seq: ImageSequence, prompts: ImageSequence, answer: Labels | None) -> str:
    """The axis along which objects are carried: as before where one of them is in the last answer, else across what is painted."""
    values = np.unique(np.asarray(prompts.data))
    if answer is not None and np.isin(values[values > 0], np.asarray(answer.data)).any():
        return answer_axis(answer)
    return painted_axis(seq, prompts) if values.any() else seq.series_axis


def show_lesson(viewer: ViewerModel, job: LessonJob, segmentation: Segmentation, *, name: str | None = None) -> Labels:
    """Show an answer; corrected slices are taken over, and painted slices and finished objects stay as they are. One
    step of undo.

    What a person painted while the answer was computed is kept: within the slices that were taken, it becomes part of
    the answer.

    Parameters
    ----------
    viewer : ViewerModel
    job : LessonJob
    segmentation : Segmentation
    name : str, optional
        Name of the layer; by default that of the last answer, or of the segmentation.

    Returns
    -------
    Labels
        The layer of the answer; that of the last answer is used again.
    """
    editing = editing_of(viewer)
    with editing.step("a new answer"):
        if job.answer is not None and job.corrected and job.answer in viewer.layers:
            take_over(viewer, job.answer, job.labels, job.corrected, job.answer_axis)
        segmentation = with_painted(segmentation, from_layer(job.labels), job.done, job.axis)
        if job.before is not None:
            segmentation = with_finished(segmentation, job.before, job.finished)
        before = None if job.answer is None or answered(job.answer) is None else as_it_is(job.answer)
        answer = show_answer(viewer, job.image, segmentation, job.answer, job.labels)
        answer.name = name or answer.name
        remember_answer(answer, job.image, job.labels, slice_doubt(segmentation), axis=job.axis)
        if before is not None and answer is job.answer:
            editing.act(before, as_it_is(answer))
    return answer


def propagate(
    viewer: ViewerModel,
    image: Image,
    labels: Labels,
    model: ModelLike | None = PROPAGATE,
    *,
    before: Labels | None = None,
    right: Iterable[int] = (),
    finished: Iterable[int] = (),
    along: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Labels:
    """Carry what is painted on a few slices to all others with `ms.propagate`, and show it; one step of undo.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image layer
    labels : Labels
        What is painted; an object is complete on the slices on which it is painted.
    model : Model, name or bundle folder, optional
        A promptable network; None: outlines are interpolated between painted slices, without a network.
    before : Labels, optional
        The layer of the last answer: slices that a person corrected in it are taken over into `labels`, and it gets the new
        answer except for the voxels that were painted in it.
    right : iterable of int
        Further slices that are right as they are, such as those accepted as empty.
    finished : iterable of int
        Labels of objects that stay as they are in the answer.
    along : str, optional
        The axis along which painted slices lie, as for `lesson_job`; by default it is found.
    device : str
    progress, cancelled : callable, optional

    Returns
    -------
    Labels
        The layer of the answer.

    Raises
    ------
    MedseqError
        If nothing is painted, or every painted object is finished; nothing is changed then.
    """
    job = lesson_job(viewer, image, labels, answer=before, right=right, finished=finished, along=along)
    return show_lesson(viewer, job, job.propagate(model, device=device, progress=progress, cancelled=cancelled))
