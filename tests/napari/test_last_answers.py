"""What an answer came from: it is stored in a session, and taken back and made again with the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseq import viewer as verbs
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.errors import MedseqError
from napari_medseq.inference import Segmentation
from napari_medseq.sequence import ImageSequence, affine_from
from tests.napari.helpers import as_plugins_see_it
from tests.narrowing import some

SHAPE = (6, 8, 10)


def found(seq: ImageSequence, doubtful: int, name: str = "lesion") -> Segmentation:
    """An answer that labels a box in each slice, and is unsure of one slice."""
    data, unsure = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.float32)
    data[:, 2:6, 2:6] = 1
    unsure[doubtful] = 0.5
    return Segmentation(seq.labels_like(data, name="found", label_names={1: name}), None, seq.like(unsure), "m 1")


def answer_again(viewer: Any, image: Any, labels: Any, doubtful: int, **options: Any) -> Any:
    """Show an answer as *Propagate* and *Teach* do, with the corrections of the last one taken over."""
    job = verbs.lesson_job(viewer, image, labels, answer=verbs.last_answer(viewer, image, labels))
    return verbs.show_lesson(viewer, job, found(verbs.to_sequence(image), doubtful, **options))


@pytest.fixture
def scene() -> tuple[Any, Any, Any, Any]:
    """A viewer with an image, one slice painted in labels on it, and an answer that doubts slice 4."""
    viewer = ViewerModel()
    seq = ImageSequence(np.zeros(SHAPE, np.float32), ("z", "y", "x"), affine_from((1, 1, 1)), name="T1", modality="MR")
    image = verbs.add_sequence(viewer, seq)
    labels = verbs.new_labels(viewer, image)
    fill(labels, 1)
    return viewer, image, labels, answer_again(viewer, image, labels, 4)


def fill(layer: Any, step: int, value: int = 1) -> None:
    """Paint a part of a slice, as a stroke does."""
    rows, columns = (a.ravel() for a in np.mgrid[2:5, 2:5])
    layer.data_setitem((np.full(rows.shape, step), rows, columns), value)


def test_a_session_knows_what_its_answers_came_from(scene: tuple[Any, Any, Any, Any], tmp_path: Path) -> None:
    viewer, _, _, answer = scene
    fill(answer, 3, 0)  # a correction
    some(verbs.answered(answer)).finished.add(7)
    folder = verbs.save_session(viewer, tmp_path / "s.medseq")
    again = ViewerModel()
    image, labels, reopened = verbs.open_session(again, folder)
    assert verbs.last_answer(again, image, labels) is reopened
    assert verbs.next_slice(again, reopened) == 4
    assert some(verbs.answered(reopened)).finished == {7}
    # the correction is taken over, into the same layers
    assert answer_again(again, image, labels, 2) is reopened
    assert verbs.settled_slices(again, labels) == [3]
    assert not labels.data[3, 2:5, 2:5].any()
    assert verbs.next_slice(again, reopened) == 2


def test_an_answer_whose_labels_are_not_in_the_session_is_only_a_mask_afterwards(
    scene: tuple[Any, Any, Any, Any], tmp_path: Path
) -> None:
    viewer, _, labels, _ = scene
    viewer.layers.remove(labels)
    again = ViewerModel()
    image, reopened = verbs.open_session(again, verbs.save_session(viewer, tmp_path / "s.medseq"))
    assert verbs.last_answer(again, image) is None
    assert verbs.answered(reopened) is None


def test_the_answer_of_a_damaged_layer_is_left_out(scene: tuple[Any, Any, Any, Any], tmp_path: Path) -> None:
    """The first layer, the image, cannot be read: the numbers of the other two still mean what they did."""
    viewer, image, labels, _ = scene
    seq = verbs.to_sequence(image)
    other = verbs.add_sequence(viewer, seq.replace(name="T2"))
    answer_again(viewer, other, labels, 2)
    folder = verbs.save_session(viewer, tmp_path / "s.medseq")
    next(folder.rglob("image-0.npy")).write_bytes(b"")
    again = ViewerModel()
    with pytest.warns(UserWarning, match="T1"):
        verbs.open_session(again, folder)
    by_name = {layer.name: layer for layer in again.layers}
    assert verbs.answered(by_name["T1 labels"]) is None
    assert verbs.last_answer(again, by_name["T2"]) is by_name["T2 labels"]
    assert verbs.next_slice(again, by_name["T2 labels"]) == 2


def test_a_session_of_an_earlier_version_opens_and_a_damaged_list_of_answers_is_one_error(
    scene: tuple[Any, Any, Any, Any], tmp_path: Path
) -> None:
    folder = verbs.save_session(scene[0], tmp_path / "s.medseq")
    file = folder / "session.json"
    facts = json.loads(file.read_text())
    assert facts.pop("answers")
    file.write_text(json.dumps(facts))
    again = ViewerModel()
    verbs.open_session(again, folder)
    assert len(again.layers) == 3
    file.write_text(json.dumps(facts | {"answers": [{"answer": 2}]}))
    with pytest.raises(MedseqError, match="not a session"):
        verbs.open_session(ViewerModel(), folder)


def test_undo_takes_back_what_is_known_of_an_answer_together_with_it(scene: tuple[Any, Any, Any, Any]) -> None:
    viewer, image, labels, answer = scene
    first = (verbs.next_slice(viewer, answer), verbs.to_sequence(answer).label_names)
    fill(labels, 5, 2)
    answer_again(viewer, image, labels, 2, name="organ")
    assert verbs.next_slice(viewer, answer) == 2
    assert verbs.undo(viewer) == "a new answer"
    assert (verbs.next_slice(viewer, answer), verbs.to_sequence(answer).label_names) == first
    assert verbs.redo(viewer) == "a new answer"
    assert (verbs.next_slice(viewer, answer), verbs.to_sequence(answer).label_names) == (2, {1: "organ"})


def test_other_labels_on_the_same_image_have_an_answer_of_their_own(scene: tuple[Any, Any, Any, Any]) -> None:
    viewer, image, labels, answer = scene
    fill(answer, 3, 0)
    other = verbs.new_labels(viewer, image)
    fill(other, 2)
    second = answer_again(viewer, image, other, 0)
    assert second is not answer
    assert not verbs.settled_slices(viewer, other)  # a correction in the other answer is none of these
    assert verbs.corrected_slices(viewer, answer) == [3]
    assert verbs.last_answer(viewer, image, labels) is answer


def test_the_dock_follows_a_session_undo_and_a_choice_of_other_labels(
    scene: tuple[Any, Any, Any, Any], tmp_path: Path, make_napari_viewer: Any
) -> None:
    folder = verbs.save_session(scene[0], tmp_path / "s.medseq")
    viewer = make_napari_viewer(show=False)
    widget = TeachWidget(as_plugins_see_it(viewer))
    viewer.window.add_dock_widget(widget, name="Teach")
    image, labels, answer = verbs.open_session(viewer, folder)
    assert (widget.image.layer, widget.labels.layer, widget.answer, widget._next) == (image, labels, answer, 4)
    # a stroke that the first answer does not hold, and another answer
    widget.outcome.setText("where it is")
    fill(labels, 5, 2)
    widget._show(widget._lesson(), found(verbs.to_sequence(image), 2), "taught")
    assert (widget.answer, widget._next, labels.visible) == (answer, 2, False)
    widget.outcome.setText("where it is")
    verbs.undo(viewer)
    assert (widget._next, labels.visible, widget.outcome.text()) == (4, True, "")
    verbs.redo(viewer)
    assert widget._next == 2
    # labels of another object: nothing of the first answer is taken over into them, and strokes do not choose the others
    fill(answer, 3, 0)
    other = verbs.new_labels(viewer, image)
    assert widget.labels.layer == other
    assert widget.answer is None
    fill(other, 2)
    assert widget.labels.layer == other
    assert tuple(widget._lesson().labelled) == (2,)
    widget.labels.choose(labels)
    assert widget.answer == answer
    assert set(widget._lesson().corrected) == {3}


def test_undo_gives_an_answer_its_former_name_back(scene: tuple[Any, Any, Any, Any]) -> None:
    viewer, image, labels, answer = scene
    job = verbs.lesson_job(viewer, image, labels, answer=answer)
    verbs.show_lesson(viewer, job, found(verbs.to_sequence(image), 2), name="T1 propagated")
    verbs.show_lesson(viewer, job, found(verbs.to_sequence(image), 2), name="T1 taught")
    assert answer.name == "T1 taught"
    verbs.undo(viewer)
    assert answer.name == "T1 propagated"
    verbs.redo(viewer)
    assert answer.name == "T1 taught"
