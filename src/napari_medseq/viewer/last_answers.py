"""What the layer of an answer was computed from, which any window of the viewer can look up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

import numpy as np

from napari_medseq.viewer.editing import real

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_medseq.inference.prediction import Segmentation


@dataclass(frozen=True, eq=False)
class Answered:
    """What an answer was computed from, and what a person said about it; kept as long as its layer.

    Attributes
    ----------
    image, labels : weakref to Layer
        The image, and the labels that were painted on it.
    segmentation : Segmentation
        The answer as the model gave it, with its doubts.
    finished : set of int
        Labels of objects that a new answer must not change; a window adds to them and removes from them.
    """

    image: ref[Image]
    labels: ref[Labels]
    segmentation: Segmentation
    finished: set[int]


_ANSWERED: WeakKeyDictionary[Labels, Answered] = WeakKeyDictionary()


def answered(answer: Labels) -> Answered | None:
    """What an answer was computed from; None for another layer."""
    return _ANSWERED.get(real(answer))


def remember_answer(answer: Labels, image: Image, labels: Labels, segmentation: Segmentation) -> None:
    """Record what an answer was computed from; finished objects stay finished while the image is the same."""
    image, labels, before = real(image), real(labels), answered(answer)
    finished = before.finished if before is not None and before.image() is image else set[int]()
    _ANSWERED[real(answer)] = Answered(ref(image), ref(labels), segmentation, finished)


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


def hide_painted(answer: Labels, labels: Labels) -> bool:
    """Hide the painted labels below an answer that holds all that is painted, so that erasing in the answer is seen.

    Returns
    -------
    bool
        Whether they are hidden; where the answer lacks a painted voxel, they stay visible.
    """
    painted, shown = np.asarray(labels.data), np.asarray(answer.data)
    if real(answer) is real(labels) or painted.shape != shown.shape:
        return False
    if ((painted != 0) & (painted != shown)).any():
        return False
    labels.visible = False
    return True
