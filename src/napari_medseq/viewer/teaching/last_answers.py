"""What the layer of an answer was computed from, which any window of the viewer can look up, and a session stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from napari_medseq.viewer.editing.model import lock_labels
from napari_medseq.viewer.editing.slices import corrected_slices, painted_slices, settled_slices
from napari_medseq.viewer.layers.conversion import from_layer
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.teaching.lessons import most_doubtful
from napari_medseq.viewer.visibility import set_visible

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels


@dataclass(frozen=True, eq=False)
class Answered:
    """What an answer was computed from, and what a person said about it; kept as long as its layer.

    Attributes
    ----------
    image, labels : weakref to Layer
        The image, and the labels that were painted on it.
    doubt : ndarray of float64, shape (steps,), or None
        How much of each slice (or frame) the model is unsure of, in any unit; None if it did not say.
    finished : set of int
        Labels of objects that neither a new answer nor strokes with another label may change; a window adds to them and removes from them.
    axis : str or None
        The axis of the sequence along which the slices (or frames) of the answer are counted; None: frames, else its own slices.
    """

    image: ref[Image]
    labels: ref[Labels]
    doubt: NDArray[np.float64] | None
    finished: set[int]
    axis: str | None = None


_ANSWERED: WeakKeyDictionary[Labels, Answered] = WeakKeyDictionary()


def answered(answer: Labels) -> Answered | None:
    """What an answer was computed from; None for another layer."""
    return _ANSWERED.get(real(answer))


def remember_answer(
    answer: Labels,
    image: Image,
    labels: Labels,
    doubt: NDArray[np.float64] | None,
    finished: Iterable[int] = (),
    axis: str | None = None,
) -> None:
    """Record what an answer was computed from; finished objects stay finished while the image is the same."""
    image, labels, before = real(image), real(labels), answered(answer)
    kept = before.finished if before is not None and before.image() is image else set[int]()
    kept.update(finished)
    _keep(real(answer), Answered(ref(image), ref(labels), doubt, kept, axis))


def _keep(answer: Labels, known: Answered) -> None:
    """Keep what is known of an answer; strokes leave its finished objects alone."""
    _ANSWERED[answer] = known
    lock_labels(answer, known.finished)


def answer_axis(answer: Labels) -> str:
    """The axis of an answer's sequence along which its slices (or frames) are counted."""
    known = answered(answer)
    return from_layer(answer).series_axis if known is None or known.axis is None else known.axis


def as_it_is(answer: Labels) -> Callable[[], None]:
    """A function that gives an answer back what is known of it now, its name and those of its labels, for undo and redo."""
    weak, known, features, name = ref(real(answer)), answered(answer), real(answer).features.copy(), str(answer.name)

    def restore() -> None:
        layer = weak()
        if layer is not None and known is not None:
            _keep(layer, known)
            layer.features, layer.name = features, name

    return restore


def last_answer(viewer: ViewerModel, image: Image, labels: Labels | None = None) -> Labels | None:
    """The layer of the last answer for an image whose painted labels are still open (these, if given), or None."""
    for layer in reversed(viewer.layers):
        known = _ANSWERED.get(real(layer))
        if known is None or known.image() is not real(image):
            continue
        painted = known.labels()
        if painted is not None and painted in viewer.layers and (labels is None or painted is real(labels)):
            return real(layer)
    return None


def next_slice(viewer: ViewerModel, answer: Labels) -> int | None:
    """The slice (or frame) of an answer that is most worth looking at next, as an index of its sequence.

    Parameters
    ----------
    viewer : ViewerModel
    answer : Labels
        The layer of an answer of `propagate` or `show_lesson`.

    Returns
    -------
    int or None
        The most doubtful one among those that are not painted, corrected or accepted; None if nothing is in doubt.
    """
    known = answered(answer)
    labels = None if known is None else known.labels()
    if known is None or labels is None or known.doubt is None:
        return None
    done = {
        *painted_slices(labels, known.axis),
        *settled_slices(viewer, labels, known.axis),
        *corrected_slices(viewer, answer, known.axis),
    }
    return most_doubtful(known.doubt, done)


def holds_painted(answer: Labels, labels: Labels) -> bool:
    """Whether an answer has every voxel that is painted in other labels; the same layer does not."""
    painted, shown = np.asarray(labels.data), np.asarray(answer.data)
    if real(answer) is real(labels) or painted.shape != shown.shape:
        return False
    return not bool(((painted != 0) & (painted != shown)).any())


def hide_painted(answer: Labels, labels: Labels) -> bool:
    """Hide the painted labels below an answer that holds all that is painted, so that erasing in the answer is seen.

    Returns
    -------
    bool
        Whether they are hidden; where the answer lacks a painted voxel, they stay visible.
    """
    if not holds_painted(answer, labels):
        return False
    set_visible(labels, False)
    return True
