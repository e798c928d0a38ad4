"""Visits change places, or get other dates, as a whole: layers, painting, results, sessions and files follow."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

import napari_medseq as ms
from napari_medseq import viewer as view
from napari_medseq.errors import MedseqError
from napari_medseq.registration.byhand import HandAlignment
from napari_medseq.viewer.layers.studies import facts_of, visit_title
from tests.napari.helpers import texts

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")

#: affine of the images of each visit: each on a grid of its own, so that voxels cannot be mistaken
_GRIDS = (np.diag([1.0, 1, 2, 1]), np.diag([-1.0, 1, 2, 1]), np.diag([1.0, -1, 2, 1]))


def study_of(days: tuple[date | None, ...], names: tuple[str, ...] = ("one", "two", "three", "four")) -> ms.Study:
    """A patient with a ball in each visit, which grows from the first visit to the last."""
    visits = []
    for k, day in enumerate(days):
        grid = np.array(_GRIDS[k % 3])
        grid[:3, 3] = -(np.diag(grid)[:3] * 10)
        z, y, x = np.ogrid[:20, :20, :20]
        ball = (z - 10) ** 2 + (y - 10) ** 2 + (x - 10) ** 2 < (3 + k) ** 2
        image = ms.ImageSequence(np.where(ball, 200.0, 10.0 + k), ("z", "y", "x"), grid, modality="MR", name="T1")
        mask = ms.ImageSequence(ball.astype(np.uint8), ("z", "y", "x"), grid, kind="labels", name="tumor_mask")
        visits.append(ms.Visit(day, (image,), (mask,), names[k]))
    return ms.Study("P1", tuple(visits))


def viewer_of(*days: date | None, **kwargs: Any) -> ViewerModel:
    viewer = ViewerModel()
    view.add_study(viewer, study_of(days, **kwargs))
    return viewer


def named(viewer: ViewerModel, *words: str) -> Any:
    (layer,) = [layer for layer in viewer.layers if all(word in layer.name for word in words)]
    return layer


def names(viewer: ViewerModel) -> list[str]:
    return [visit.name for visit in view.study_of(viewer).visits]


def check_places(viewer: ViewerModel) -> None:
    """Every layer stands on the slider where its facts say."""
    for layer in viewer.layers:
        facts = facts_of(layer)
        assert facts["ordinal"] == facts["visit"] == layer.translate[0]


def test_a_corrected_date_puts_the_visit_in_its_place_and_undated_ones_keep_theirs() -> None:
    viewer = viewer_of(date(2020, 1, 1), None, date(2020, 3, 1), date(2020, 4, 1))
    image = named(viewer, "four", "T1")
    viewer.dims.set_point(0, 3)
    assert view.set_visit_date(viewer, "P1", 3, date(2019, 5, 1)) == 0
    assert names(viewer) == ["four", "two", "one", "three"]
    assert [str(v.date) for v in view.study_of(viewer).visits] == ["2019-05-01", "None", "2020-01-01", "2020-03-01"]
    check_places(viewer)
    assert viewer.dims.point[0] == 0  # the same image is shown
    assert image.name == "P1 four 2019-05-01 T1"
    assert texts(viewer)["medseq identity"].splitlines()[1] == "visit 1 of 4, 2019-05-01"
    view.undo(viewer)
    assert names(viewer) == ["one", "two", "three", "four"]
    assert image.name == "P1 four 2020-04-01 T1"
    assert viewer.dims.point[0] == 3
    view.redo(viewer)
    assert names(viewer) == ["four", "two", "one", "three"]
    assert view.set_visit_date(viewer, "P1", 0, None) == 0
    assert named(viewer, "four", "T1").name == "P1 four T1"


def test_layers_are_named_as_if_the_study_had_been_opened_in_that_order() -> None:
    viewer = viewer_of(date(2020, 1, 1), date(2020, 2, 1), None, names=("ses-20200101", "", ""))
    view.set_visit_date(viewer, "P1", 0, date(2021, 1, 1))
    study = view.study_of(viewer)
    assert names(viewer) == ["visit 1", "ses-20200101", "visit 3"]
    for layer in viewer.layers:
        assert layer.name.startswith(visit_title(study, facts_of(layer)["ordinal"]) + " ")


def test_a_dated_visit_does_not_lie_before_an_earlier_one() -> None:
    viewer = viewer_of(date(2020, 1, 1), date(2020, 2, 1), None)
    with pytest.raises(MedseqError, match=r"Visit 2 \(2020-02-01\) cannot lie before visit 1 \(2020-01-01\)"):
        view.reorder_visits(viewer, "P1", [1, 0, 2])
    with pytest.raises(MedseqError, match="does not name each open visit of P1 once; these are 0, 1, 2"):
        view.reorder_visits(viewer, "P1", [0, 1])
    with pytest.raises(MedseqError, match="P1 has no visit 4 that is open"):
        view.move_visit(viewer, "P1", 3, 1)
    assert names(viewer) == ["one", "two", "three"]
    assert view.move_visit(viewer, "P1", 2, -1) == 1
    assert names(viewer) == ["one", "three", "two"]
    assert view.move_visit(viewer, "P1", 1, -5) == 0
    assert view.move_visit(viewer, "P1", 0, -1) == 0  # no step
    view.undo(viewer)
    view.undo(viewer)
    assert names(viewer) == ["one", "two", "three"]


def test_a_visit_of_which_nothing_is_open_keeps_its_place() -> None:
    viewer = viewer_of(None, None, None)
    for layer in [layer for layer in viewer.layers if "two" in layer.name]:
        viewer.layers.remove(layer)
    view.move_visit(viewer, "P1", 2, -1)
    assert [facts_of(named(viewer, name, "T1"))["ordinal"] for name in ("three", "one")] == [0, 2]


def test_a_result_is_outdated_until_it_is_followed_again_and_is_then_as_if_followed_in_that_order(
    tmp_path: Path,
) -> None:
    viewer = viewer_of(None, None, None)
    view.track_layers(viewer, register="none")
    view.correct(viewer, "unlink", 2, 1)
    followed = view.result_of(viewer)
    assert view.why_outdated(viewer, followed) == ""
    first, second = followed.layers[:2]
    view.reorder_visits(viewer, "P1", [1, 2, 0])
    assert "in another order" in view.why_outdated(viewer, followed)
    with pytest.raises(MedseqError, match="in another order than when the lesions were followed"):
        view.write_result(viewer, followed, tmp_path / "result")
    with pytest.raises(MedseqError, match="in another order"):
        view.show_change(viewer, 0, 1)
    # the old result still finds its visits
    assert [layer.translate[0] for layer in followed.layers] == followed.places == [2, 0, 1]
    now = view.follow_again(viewer, register="none")
    assert now.corrections == ["unlink lesion 2 at visit 2 from all"]
    assert view.why_outdated(viewer, view.result_of(viewer)) == ""
    assert view.result_of(viewer).layers == [second, followed.layers[2], first]
    oracle = ms.track([view.study_of(viewer).visits[k].labels[0] for k in range(3)])
    for column in ("volume_ml", "longest_mm"):
        assert now.lesions.query("volume_ml > 0")[column].tolist() == oracle.lesions[column].tolist()
    saved = view.write_result(viewer, view.result_of(viewer), tmp_path / "result")
    assert ms.Progression.load(saved).lesions["volume_ml"].tolist() == now.lesions["volume_ml"].tolist()
    inputs = now.provenance["inputs"]
    assert isinstance(inputs, list)
    assert [facts["name"] for facts in inputs] == ["two", "three", "one"]
    view.undo(viewer)
    view.undo(viewer)
    assert view.result_of(viewer) is followed
    assert followed.places == [0, 1, 2]
    assert view.why_outdated(viewer, followed) == ""


def test_a_date_alone_outdates_a_result_and_its_record_gets_the_new_one() -> None:
    viewer = viewer_of(date(2020, 1, 1), date(2020, 3, 1))
    view.track_layers(viewer, register="none")
    view.set_visit_date(viewer, "P1", 1, date(2020, 2, 1))
    followed = view.result_of(viewer)
    assert view.why_outdated(viewer, followed) == "Visit 2 has another date than when the lesions were followed."
    assert view.differs(viewer, followed)
    now = view.follow_again(viewer, register="none")
    assert [str(day) for day in now.dates] == ["2020-01-01", "2020-02-01"]
    inputs = now.provenance["inputs"]
    assert isinstance(inputs, list)
    assert [facts["date"] for facts in inputs] == ["2020-01-01", "2020-02-01"]
    assert not view.differs(viewer, view.result_of(viewer))


def test_a_correction_after_visits_changed_places_changes_the_right_masks() -> None:
    viewer = viewer_of(None, None)
    view.track_layers(viewer, register="none")
    view.reorder_visits(viewer, "P1", [1, 0])
    before = {layer: np.array(layer.data) for layer in view.result_of(viewer).layers}
    view.correct(viewer, "unlink", 1, 1)
    first, last = view.result_of(viewer).layers
    assert np.array_equal(first.data, before[first])
    assert np.array_equal(last.data, before[last] * 2)
    assert [layer for layer in viewer.layers if "earlier grid" in layer.name] == []


@pytest.mark.parametrize("how", ["labels", "model"])
def test_visits_may_change_places_while_lesions_are_followed(how: str) -> None:
    """A job shows its result in the masks that it was made from, wherever their visits are by then."""
    viewer = viewer_of(None, None)
    view.track_layers(viewer, register="none")
    if how == "labels":
        chosen = view.result_of(viewer).layers
        source, arguments = view.tracking_job(viewer, chosen)
        snapshot = view.masks_now(chosen)
        result = view.track_job(source, arguments, register="none")
    else:
        source = view.study_of(viewer)
        rerun = view.Rerun(viewer, source)
        result = ms.track([visit.labels[0] for visit in source.visits])
    before = {layer: np.array(layer.data) for layer in view.result_of(viewer).layers}
    view.reorder_visits(viewer, "P1", [1, 0])
    if how == "labels":
        view.show_followed(viewer, result, source, chosen, snapshot)
    else:
        rerun.show(viewer, result)
    followed = view.result_of(viewer)
    assert set(followed.layers) == set(before)
    assert all(np.array_equal(layer.data, data) for layer, data in before.items())
    assert followed.places == [1, 0]
    assert "another order" in view.why_outdated(viewer, followed)


def test_a_session_brings_an_outdated_result_back_to_the_right_masks(tmp_path: Path) -> None:
    viewer = viewer_of(None, None, date(2020, 1, 1))
    view.track_layers(viewer, register="none")
    view.reorder_visits(viewer, "P1", [2, 0, 1])
    mask = view.result_of(viewer).layers[0]
    mask.brush_size = 1
    mask.paint((0, 2, 3, 4), 7)
    view.save_session(viewer, tmp_path / "work")
    again = ViewerModel()
    view.open_session(again, tmp_path / "work")
    followed = view.result_of(again)
    assert followed.places == [1, 2, 0]
    assert "another order" in view.why_outdated(again, followed)
    for one, other in zip(viewer.layers, again.layers, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.data, other.data)
        assert np.array_equal(one.translate, other.translate)
    assert view.painted(viewer) == view.painted(again)
    both = [view.follow_again(v, register="none").lesions for v in (viewer, again)]
    assert both[0]["volume_ml"].tolist() == both[1]["volume_ml"].tolist()


def test_a_saved_result_is_shown_at_the_visits_that_it_names_whatever_their_order(tmp_path: Path) -> None:
    viewer = viewer_of(None, None)
    view.track_layers(viewer, register="none")
    folder = view.write_result(viewer, view.result_of(viewer), tmp_path / "result")
    other = viewer_of(None, None)
    view.reorder_visits(other, "P1", [1, 0])
    view.open_result(other, folder)
    followed = view.result_of(other)
    assert followed.places == [1, 0]
    for layer, name in zip(followed.layers, ("one", "two"), strict=True):
        assert np.array_equal(np.asarray(layer.data) > 0, np.asarray(named(other, name, "mask").data) > 0)


def test_alignments_made_by_hand_hold_for_the_visit_that_is_first_now() -> None:
    viewer = viewer_of(None, None, None)
    shift = {k: np.eye(4) for k in (1, 2)}
    shift[1][:3, 3], shift[2][:3, 3] = (5, 0, 0), (0, 7, 1)
    for k, matrix in shift.items():
        view.set_hand_alignment(viewer, "P1", k, HandAlignment(matrix, "by landmarks", 0.5))
    view.reorder_visits(viewer, "P1", [1, 0, 2])
    first, second, third = (view.hand_alignment(viewer, "P1", k) for k in range(3))
    assert first is None
    assert second is not None
    assert third is not None
    np.testing.assert_allclose(second.to_first, np.linalg.inv(shift[1]))
    np.testing.assert_allclose(third.to_first, np.linalg.inv(shift[1]) @ shift[2])
    view.undo(viewer)
    for k, matrix in shift.items():
        hand = view.hand_alignment(viewer, "P1", k)
        assert hand is not None
        np.testing.assert_allclose(hand.to_first, matrix)
    assert view.hand_alignment(viewer, "P1", 0) is None
    view.set_hand_alignment(viewer, "P1", 1, None)
    with pytest.warns(ms.MedseqWarning, match="alignments made by hand at visit 3 were taken out"):
        view.reorder_visits(viewer, "P1", [1, 0, 2])


def test_the_note_of_a_carried_mask_names_the_visit_where_it_is_now() -> None:
    viewer = viewer_of(None, None, None)
    carried = view.carry_mask(viewer, named(viewer, "one", "mask"), 2, how="as it lies")
    view.reorder_visits(viewer, "P1", [1, 0, 2])
    assert facts_of(carried)["meta"]["carried"]["from"] == "visit 2"
    view.set_visit_date(viewer, "P1", 1, date(2020, 1, 1))
    assert facts_of(carried)["meta"]["carried"]["from"] == "visit 2 (2020-01-01)"


@pytest.mark.parametrize("what", ["T1", "mask"])
def test_a_layer_is_assigned_to_another_visit_with_its_painting_and_back(what: str) -> None:
    viewer = viewer_of(date(2020, 1, 1), date(2020, 2, 1))
    view.track_layers(viewer, register="none")
    layer = named(viewer, "one", what)
    if what == "mask":
        layer.brush_size = 1
        layer.paint((0, 2, 3, 4), 7)
    before, steps = np.array(layer.data), len(view.editing_of(viewer).history.done)
    assert view.assign_visit(viewer, layer, "P1", 1) == layer
    assert layer.name.startswith("P1 two 2020-02-01 ")
    assert (facts_of(layer)["ordinal"], facts_of(layer)["date"], layer.translate[0]) == (1, "2020-02-01", 1)
    assert np.array_equal(layer.data, before)
    assert "assigned to another visit" in view.why_outdated(viewer, view.result_of(viewer))
    assert len(view.study_of(viewer).visits[1].images) == 1 + (what == "T1")
    view.undo(viewer)
    assert layer.name.startswith("P1 one 2020-01-01 ")
    assert (facts_of(layer)["ordinal"], facts_of(layer)["date"], layer.translate[0]) == (0, "2020-01-01", 0)
    assert view.why_outdated(viewer, view.result_of(viewer)) == ""
    assert len(view.editing_of(viewer).history.done) == steps
    with pytest.raises(MedseqError, match="shows what was followed at visit 1"):
        view.assign_visit(viewer, view.result_of(viewer).layers[0], "P1", 1)


def test_a_duplicate_of_a_layer_stays_where_it_is_and_moves_once_with_its_visit() -> None:
    viewer = viewer_of(None, None)
    image = named(viewer, "one", "T1")
    twin = type(image)(image.data, name="copy", metadata=image.metadata, translate=image.translate, scale=image.scale)
    twin.axis_labels = image.axis_labels
    viewer.add_layer(twin)
    view.reorder_visits(viewer, "P1", [1, 0])
    assert [(facts_of(k)["ordinal"], k.translate[0]) for k in (image, twin)] == [(1, 1), (1, 1)]
    view.assign_visit(viewer, image, "P1", 0)
    assert [(facts_of(k)["ordinal"], k.translate[0]) for k in (image, twin)] == [(0, 0), (1, 1)]


def test_steps_of_layers_that_are_gone_are_forgotten_and_no_others() -> None:
    viewer = viewer_of(None, None)
    one, two = (named(viewer, name, "mask") for name in ("one", "two"))
    editing = view.editing_of(viewer)
    for layer in (one, two, one):
        layer.brush_size = 1
        layer.paint((0, 2, 3, 4), 7 if layer.data[0, 2, 3, 4] == 0 else 8)
    view.reorder_visits(viewer, "P1", [1, 0])
    view.undo(viewer)
    view.undo(viewer)
    editing.saved([one])  # else undo could bring it back
    viewer.layers.remove(one)
    assert [step.name for step in editing.history.done] == [f"painting in {two.name}"]
    assert [step.name for step in editing.history.undone] == ["putting visits in another order"]
    assert view.undo(viewer) == f"painting in {two.name}"
    assert two.data[0, 2, 3, 4] == 0
    view.close_patient(viewer, "P1")
    assert editing.history.done == editing.history.undone == []


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_order_of_painting_moving_undoing_and_following_keeps_every_painted_voxel(data: st.DataObject) -> None:
    """What each visit's mask holds is known by a plain table beside the viewer."""
    viewer = viewer_of(None, None, None)
    masks = {name: named(viewer, name, "mask") for name in ("one", "two", "three")}
    states = [({name: np.array(layer.data) for name, layer in masks.items()}, ["one", "two", "three"])]
    undone: list[Any] = []
    for number in range(data.draw(st.integers(1, 8))):
        held, order = states[-1]
        match data.draw(st.sampled_from(["paint", "move", "undo", "redo", "follow"])):
            case "paint":
                place = data.draw(st.integers(0, 2))
                viewer.dims.set_point(0, place)
                viewer.layers.selection.active = masks[order[place]]
                at = data.draw(st.tuples(*[st.integers(0, 19)] * 3))
                active = viewer.layers.selection.active
                active.brush_size = 1
                active.paint((0, *at), 20 + number)
                new = {**held, order[place]: np.array(held[order[place]])}
                new[order[place]][0][at] = 20 + number
                states.append((new, order))
                undone.clear()
            case "move":
                moved = data.draw(st.permutations([0, 1, 2]))
                view.reorder_visits(viewer, "P1", moved)
                if list(moved) != [0, 1, 2]:
                    states.append((held, [order[k] for k in moved]))
                    undone.clear()
            case "undo" if len(states) > 1:
                view.undo(viewer)
                undone.append(states.pop())
            case "redo" if undone:
                view.redo(viewer)
                states.append(undone.pop())
            case "follow":
                result = ms.track([view.to_sequence(masks[name]) for name in order])
                expected = result.lesions.query("volume_ml > 0").groupby("visit")["volume_ml"].sum().tolist()
                study = view.study_of(viewer)
                assert [visit.name for visit in study.visits] == order
                found = ms.track([visit.labels[0] for visit in study.visits]).lesions.query("volume_ml > 0")
                assert found.groupby("visit")["volume_ml"].sum().tolist() == expected
            case _:
                continue
        held, order = states[-1]
        assert names(viewer) == order
        check_places(viewer)
        for name, layer in masks.items():
            assert np.array_equal(layer.data, held[name])
            assert layer.translate[0] == order.index(name)
