"""Teaching and propagating in a viewer: corrections are taken over, answers leave them alone, and the next slice is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError
from napari_medseq.inference import Segmentation
from napari_medseq.sequence import ImageSequence, affine_from

SHAPE = (6, 8, 10)


@pytest.fixture(params=["z", "y"])
def taught(request: pytest.FixtureRequest) -> tuple[Any, Any, Any, Any]:
    """A viewer with an image whose slices run along z or y, its painted labels, and a model's answer."""
    viewer = ViewerModel()
    seq = ImageSequence(
        np.zeros(SHAPE, np.float32),
        ("z", "y", "x"),
        affine_from((1, 1, 1)),
        slice_axis=request.param,
        name="T1",
        modality="MR",
    )
    image = verbs.add_sequence(viewer, seq)
    labels = verbs.new_labels(viewer, image)
    answer = verbs.show_answer(viewer, image, result(seq, np.ones(SHAPE, np.uint8)))
    return viewer, image, labels, answer


def result(seq: ImageSequence, data: Any, sure: Any = None) -> Segmentation:
    found = seq.labels_like(data, name="found", label_names={1: "lesion"})
    return Segmentation(found, None, None if sure is None else seq.like(sure), "m 1")


def paint(viewer: Any, layer: Any, index: tuple[int, ...], value: int) -> None:
    viewer.layers.selection.active = layer
    layer.data_setitem(tuple(np.array([i]) for i in index), value)


def test_corrected_slices_become_painted_ones_whole(taught: tuple[Any, Any, Any, Any]) -> None:
    viewer, image, labels, answer = taught
    seq = verbs.to_sequence(image)
    own = [3, 4, 5]
    paint(viewer, answer, tuple(verbs_index(answer, own)), 0)
    step = own[seq.axes.index(seq.slice_axis)]
    assert verbs.corrected_slices(viewer, answer) == [step]
    assert verbs.take_over(viewer, answer, labels) == [step]
    got = np.moveaxis(np.asarray(verbs.to_sequence(labels).data), seq.axes.index(seq.slice_axis), 0)
    assert got[step].sum() == got[step].size - 1  # all of it is right but the voxel that was erased
    assert not np.delete(got, step, axis=0).any()
    assert verbs.painted_slices(labels) == [step]
    # what was painted there before stays
    verbs.undo(viewer)
    assert not labels.data.any()


def test_a_slice_that_is_right_counts_as_painted_even_where_it_is_empty(taught: tuple[Any, Any, Any, Any]) -> None:
    viewer, image, labels, answer = taught
    seq = verbs.to_sequence(image)
    own = np.moveaxis(np.zeros(SHAPE, np.uint8), seq.axes.index(seq.slice_axis), 0)
    own[2] = 1
    again = verbs.show_answer(viewer, image, result(seq, np.moveaxis(own, 0, seq.axes.index(seq.slice_axis))), answer)
    paint(viewer, labels, tuple(verbs_index(labels, [4, 4, 4])), 5)
    verbs.go_to_slice(viewer, again, 2)
    assert verbs.accept_slice(viewer, again, labels) == 2
    got = np.moveaxis(np.asarray(verbs.to_sequence(labels).data), seq.axes.index(seq.slice_axis), 0)
    assert (got[2] == 1).all()
    assert verbs.editing_of(viewer).marks(labels).painted.sum() == got[2].size + 1
    # the answer is empty in slice 4: what was painted there is not right
    assert verbs.accept_slice(viewer, again, labels, 4) == 4
    got = np.moveaxis(np.asarray(verbs.to_sequence(labels).data), seq.axes.index(seq.slice_axis), 0)
    assert not got[4].any()
    verbs.undo(viewer)
    verbs.undo(viewer)
    assert (np.asarray(labels.data) == 5).sum() == np.count_nonzero(labels.data) == 1
    with pytest.raises(MedseqError, match="no slice 100"):
        verbs.accept_slice(viewer, again, labels, 99)


def test_what_is_erased_in_the_painted_labels_after_a_correction_was_taken_over_stays_erased(
    taught: tuple[Any, Any, Any, Any],
) -> None:
    viewer, image, labels, answer = taught
    seq = verbs.to_sequence(image)
    axis = seq.axes.index(seq.slice_axis)
    step = [3, 4, 5][axis]
    paint(viewer, answer, tuple(verbs_index(answer, [3, 4, 5])), 0)
    verbs.take_over(viewer, answer, labels)
    here = tuple(verbs_index(labels, [(3, 3, 3)[k] if k != axis else step for k in range(3)]))
    assert labels.data[here] == 1
    paint(viewer, labels, here, 0)
    # the correction is taken over once, not again over what was painted since
    assert verbs.take_over(viewer, answer, labels) == []
    assert labels.data[here] == 0
    # nor does another correction of that slice bring back what was erased
    paint(viewer, answer, tuple(verbs_index(answer, [(1, 1, 1)[k] if k != axis else step for k in range(3)])), 2)
    assert verbs.take_over(viewer, answer, labels) == [step]
    assert labels.data[here] == 0
    # and the next answer holds the slice as it is painted
    found = verbs.with_painted(result(seq, np.full(SHAPE, 3, np.uint8)), verbs.to_sequence(labels), [step])
    again = verbs.show_answer(viewer, image, found, answer)
    assert again.data[here] == 0
    assert (again.data == 3).sum() == again.data.size * (SHAPE[axis] - 1) // SHAPE[axis]


def test_a_slice_that_is_rejected_is_empty_in_answer_and_labels_and_counts_as_painted(
    taught: tuple[Any, Any, Any, Any],
) -> None:
    viewer, _, labels, answer = taught
    verbs.go_to_slice(viewer, answer, 2)
    assert verbs.reject_slice(viewer, answer, labels) == 2
    n = answer.data.size
    axis = verbs.to_sequence(answer).axes.index(verbs.to_sequence(answer).slice_axis)
    assert (answer.data == 0).sum() == n // SHAPE[axis]
    assert not labels.data.any()
    assert verbs.editing_of(viewer).marks(labels).painted.sum() == n // SHAPE[axis]
    verbs.undo(viewer)
    assert (answer.data == 1).all()
    assert not verbs.editing_of(viewer).marks(labels).painted.any()


def test_an_answer_has_the_colours_of_what_was_painted_and_new_labels_those_of_no_other_mask(
    taught: tuple[Any, Any, Any, Any],
) -> None:
    viewer, image, labels, answer = taught
    other = verbs.new_labels(viewer, image)
    assert not np.allclose(labels.get_color(1), answer.get_color(1))
    assert not np.allclose(other.get_color(1), labels.get_color(1))
    alike = verbs.show_answer(viewer, image, result(verbs.to_sequence(image), np.ones(SHAPE, np.uint8)), None, labels)
    np.testing.assert_allclose(alike.get_color(1), labels.get_color(1))


def verbs_index(layer: Any, own: list[int]) -> list[int]:
    from napari_medseq.viewer.layers.conversion import in_layer

    return [int(v) for v in in_layer(layer, [own])[0]]


def test_a_new_answer_leaves_corrections_alone(taught: tuple[Any, Any, Any, Any]) -> None:
    viewer, image, _, answer = taught
    index = tuple(verbs_index(answer, [3, 4, 5]))
    paint(viewer, answer, index, 0)
    again = verbs.show_answer(viewer, image, result(verbs.to_sequence(image), np.full(SHAPE, 2, np.uint8)), answer)
    assert again is answer
    assert answer.data[index] == 0
    assert (answer.data == 2).sum() == answer.data.size - 1


def test_the_slice_of_the_most_doubt_is_next_and_not_one_that_is_painted(taught: tuple[Any, Any, Any, Any]) -> None:
    viewer, image, labels, _ = taught
    seq = verbs.to_sequence(image)
    sure = np.zeros(SHAPE, np.float32)
    axis = seq.axes.index(seq.slice_axis)
    np.moveaxis(sure, axis, 0)[4] = 0.6
    np.moveaxis(sure, axis, 0)[2] = 0.9
    found = result(seq, np.ones(SHAPE, np.uint8), sure)
    assert verbs.doubtful_slice(found, []) == 2
    assert verbs.doubtful_slice(found, [2]) == 4
    assert verbs.doubtful_slice(found, [2, 4]) is None
    np.moveaxis(sure, axis, 0)[3] = 0.8  # beside slice 2: once that is corrected, slice 4 is worth more
    found = result(seq, np.ones(SHAPE, np.uint8), sure)
    assert verbs.doubtful_slice(found, [0]) == 2
    assert verbs.doubtful_slice(found, [0, 2]) == 4
    verbs.go_to_slice(viewer, labels, 4)
    shown = np.asarray(labels.world_to_data(viewer.dims.point)).round().astype(int)
    assert shown[axis] == verbs_index(labels, [4, 4, 4])[axis]


def test_layers_of_other_grids_are_refused(taught: tuple[Any, Any, Any, Any]) -> None:
    viewer, _, labels, _ = taught
    other = viewer.add_labels(np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(ms.MedseqError, match="same grid"):
        verbs.take_over(viewer, other, labels)


# -- one press of Propagate --------------------------------------------------------------------------------------------
def plane(layer: Any, seq: ImageSequence, step: int, value: int = 1) -> None:
    """Paint a slice's middle, as a person does."""
    axis = seq.axes.index(seq.slice_axis)
    for a in range(2, 5):
        for b in range(2, 5):
            own = [a, b]
            own.insert(axis, step)
            layer.data_setitem(tuple(np.array([i]) for i in verbs_index(layer, own)), value)


def steps_with(layer: Any, seq: ImageSequence, value: int = 1) -> list[int]:
    """The slices with a label, counted as the sequence does."""
    data = np.asarray(verbs.to_sequence(layer).data) == value
    axis = seq.axes.index(seq.slice_axis)
    return [int(k) for k in np.flatnonzero(data.any(tuple(k for k in range(3) if k != axis)))]


@pytest.fixture
def carried(taught: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any, ImageSequence]:
    """Two slices are painted and what lies between is filled."""
    viewer, image, labels, old = taught
    viewer.layers.remove(old)
    seq = verbs.to_sequence(image)
    plane(labels, seq, 1)
    plane(labels, seq, 3)
    return viewer, image, labels, verbs.propagate(viewer, image, labels, None), seq


def test_one_press_takes_over_what_was_corrected_and_is_one_step_of_undo(
    carried: tuple[Any, Any, Any, Any, ImageSequence],
) -> None:
    viewer, image, labels, answer, seq = carried
    assert steps_with(answer, seq) == [1, 2, 3]
    plane(answer, seq, 5)  # a correction, which is taken over
    before = [(np.array(k.data), np.array(verbs.editing_of(viewer).marks(k).flags)) for k in (labels, answer)]
    assert verbs.propagate(viewer, image, labels, None, before=answer) == answer
    assert steps_with(labels, seq) == [1, 3, 5]
    assert steps_with(answer, seq) == [1, 2, 3, 4, 5]
    assert verbs.undo(viewer) == "a new answer"
    for layer, (data, flags) in zip((labels, answer), before, strict=True):
        assert np.array_equal(layer.data, data)
        assert np.array_equal(verbs.editing_of(viewer).marks(layer).flags, flags)
    verbs.redo(viewer)
    assert steps_with(answer, seq) == [1, 2, 3, 4, 5]


def test_what_is_painted_while_an_answer_is_looked_for_stays_in_it(
    carried: tuple[Any, Any, Any, Any, ImageSequence],
) -> None:
    viewer, image, labels, answer, seq = carried
    plane(answer, seq, 5)
    job = verbs.lesson_job(viewer, image, labels, answer=answer)
    assert (job.corrected, job.labelled, job.done) == ((5,), (1, 3, 5), (5,))
    assert steps_with(labels, seq) == [1, 3]  # nothing is written before the answer is there
    found = job.propagate(None)
    paint(viewer, answer, tuple(verbs_index(answer, [5, 5, 5])), 7)  # in the slice that is taken over
    paint(viewer, answer, tuple(verbs_index(answer, [0, 0, 0])), 8)  # and in another
    verbs.show_lesson(viewer, job, found)
    data = np.asarray(verbs.to_sequence(answer).data)
    assert (data[5, 5, 5], data[0, 0, 0]) == (7, 8)
    assert verbs.corrected_slices(viewer, answer) == [0]


def test_a_finished_object_stays_as_it_is_and_alone_there_is_nothing_to_carry(
    carried: tuple[Any, Any, Any, Any, ImageSequence],
) -> None:
    viewer, image, labels, answer, seq = carried
    with pytest.raises(MedseqError, match="Every painted object is finished"):
        verbs.propagate(viewer, image, labels, None, before=answer, finished={1})
    plane(labels, seq, 0, 2)
    plane(labels, seq, 2, 2)  # over what was carried of the first object
    verbs.propagate(viewer, image, labels, None, before=answer, finished={1})
    assert steps_with(answer, seq, 1) == [1, 2, 3]
    assert 0 in steps_with(answer, seq, 2)
