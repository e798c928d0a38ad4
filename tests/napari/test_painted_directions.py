"""Painting in another view than the image's own slices: carried along these planes, looked at and accepted there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq._napari.teach_widget import TeachWidget
from napari_medseq.errors import MedseqError
from napari_medseq.inference.propagation import Propagation
from napari_medseq.sequence import ImageSequence, affine_from

SHAPE = (12, 9, 10)


@pytest.fixture
def scan() -> tuple[Any, Any, Any]:
    """A viewer with an axial scan, and empty labels on it."""
    viewer = ViewerModel()
    seq = ImageSequence(np.zeros(SHAPE, np.float32), ("z", "y", "x"), affine_from((1, 1, 1)), name="T1")
    image = verbs.add_sequence(viewer, seq)
    return viewer, image, verbs.new_labels(viewer, image)


def sagittal(layer: Any, step: int, value: int = 1) -> None:
    """Paint a block of one plane across the last axis of a layer."""
    z, y = np.mgrid[2:9, 2:6]
    layer.data_setitem((z.ravel(), y.ravel(), np.full(z.size, step)), value)


def test_planes_painted_in_a_sagittal_view_are_interpolated_across_it(scan: tuple[Any, Any, Any]) -> None:
    viewer, image, labels = scan
    sagittal(labels, 2)
    sagittal(labels, 6)
    answer = verbs.propagate(viewer, image, labels, None)
    assert np.flatnonzero(answer.data.any((0, 1))).tolist() == [2, 3, 4, 5, 6]
    assert verbs.answer_axis(answer) == "x"
    # a correction counts for the whole sagittal slice, and for no other
    answer.data_setitem((np.array([3]), np.array([3]), np.array([4])), 0)
    verbs.propagate(viewer, image, labels, None, before=answer)
    assert np.flatnonzero(labels.data.any((0, 1))).tolist() == [2, 4, 6]
    assert labels.data[:, :, 4].sum() == labels.data[:, :, 2].sum() - 1


def test_objects_do_not_end_where_another_one_is_painted(
    scan: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, image, labels = scan
    asked: dict[str, Any] = {}

    def propagate(seq: ImageSequence, _prompts: ImageSequence, _model: object, **options: Any) -> Propagation:
        asked.update(options)
        found = seq.labels_like(np.ones(SHAPE, np.uint8), name="found", label_names={})
        return Propagation(found, None, None, "m", options["axis"], np.zeros(SHAPE[0], np.float32))

    monkeypatch.setattr(ms, "propagate", propagate)
    labels.data_setitem((np.full(4, 3), np.arange(2, 6), np.full(4, 5)), 1)
    labels.data_setitem((np.full(4, 8), np.arange(2, 6), np.full(4, 5)), 2)
    answer = verbs.propagate(viewer, image, labels)
    assert (asked["axis"], asked["annotated"]) == ("z", [])
    # the first object goes on where the second is painted, which stays as it is painted
    assert (answer.data[8] == 1).sum() == answer.data[8].size - 4
    assert (answer.data[8] == 2).sum() == 4


def test_a_slice_is_looked_at_and_accepted_in_the_view_that_shows_it(scan: tuple[Any, Any, Any]) -> None:
    viewer, image, labels = scan
    sagittal(labels, 2)
    sagittal(labels, 6)
    answer = verbs.propagate(viewer, image, labels, None)
    with pytest.raises(MedseqError, match=r"No single slice of .* along x is shown"):
        verbs.accept_slice(viewer, answer, labels)
    assert not verbs.settled_slices(viewer, labels)
    verbs.go_to_slice(viewer, answer, 4, verbs.answer_axis(answer))
    assert viewer.dims.order[0] == 2
    assert verbs.accept_slice(viewer, answer, labels) == 4
    assert verbs.settled_slices(viewer, labels, "x") == [4]


def test_slices_of_several_directions_are_refused_before_anything_is_computed(scan: tuple[Any, Any, Any]) -> None:
    viewer, image, labels = scan
    sagittal(labels, 4, 2)
    labels.data_setitem((np.full(4, 11), np.arange(2, 6), np.full(4, 5)), 1)
    with pytest.raises(
        MedseqError, match=r"slices of different directions \(2 on slices along x; 1 on slices along z\)"
    ):
        verbs.propagate(viewer, image, labels, None)


def test_the_direction_that_a_person_chooses_goes_before_what_is_found(scan: tuple[Any, Any, Any]) -> None:
    viewer, image, labels = scan
    assert verbs.directions(image) == {"z": "axial slices", "y": "coronal slices", "x": "sagittal slices"}
    sagittal(labels, 2)
    sagittal(labels, 6)
    labels.data_setitem((np.full(20, 5), *np.mgrid[2:6, 2:7].reshape(2, -1)), 0)  # a gap between axial slices
    answer = verbs.propagate(viewer, image, labels, None, along="z")
    assert verbs.answer_axis(answer) == "z"
    assert np.flatnonzero(answer.data.any((0, 1))).tolist() == [2, 6]
    assert answer.data[5].any()
    again = verbs.propagate(viewer, image, labels, None, before=answer, along="x")
    assert again == answer
    assert verbs.answer_axis(answer) == "x"
    assert np.flatnonzero(answer.data.any((0, 1))).tolist() == [2, 3, 4, 5, 6]
    labels.data_setitem((np.full(4, 11), np.arange(2, 6), np.full(4, 5)), 2)  # in another direction
    assert verbs.propagate(viewer, image, labels, None, along="x").data[11].any()
    with pytest.raises(MedseqError, match="no planes along 't'"):
        verbs.propagate(viewer, image, labels, None, along="t")


def test_directions_are_named_as_the_patient_lies_and_not_where_that_is_unknown() -> None:
    viewer = ViewerModel()
    sagittal_scan = ImageSequence(
        np.zeros((4, 5, 6)), ("z", "y", "x"), np.array([[0, 0, 3, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    )
    image = verbs.add_sequence(viewer, sagittal_scan)
    assert verbs.directions(image) == {"z": "sagittal slices", "y": "axial slices", "x": "coronal slices"}
    cine = ImageSequence(np.zeros((3, 5, 6)), ("t", "y", "x"), np.eye(4), times=np.arange(3.0), oriented=False)
    assert verbs.directions(verbs.add_sequence(viewer, cine)) == {"t": "frames"}


@pytest.mark.viewer
def test_a_direction_is_chosen_in_the_dock_where_there_is_a_choice(scan: tuple[Any, Any, Any], qtbot: Any) -> None:
    viewer, image, labels = scan
    widget = TeachWidget(viewer)
    qtbot.addWidget(widget)
    widget.labels.choose(labels)
    sagittal(labels, 2)
    sagittal(labels, 6)
    assert widget._lesson().axis == "x"
    listed = [widget.direction.itemText(k) for k in range(widget.direction.count())]
    assert listed == ["found from what is painted", "axial slices", "coronal slices", "sagittal slices"]
    widget.direction.setCurrentIndex(1)
    viewer.add_labels(np.zeros(SHAPE, np.uint8))  # the choice stays while layers come
    widget.labels.choose(labels)
    assert widget._lesson().axis == "z"
    cine = ImageSequence(np.zeros((3, 5, 6)), ("t", "y", "x"), np.eye(4), times=np.arange(3.0))
    widget.image.choose(verbs.add_sequence(viewer, cine))
    assert widget.direction.isHidden()
    widget.image.choose(image)
    assert not widget.direction.isHidden()
