"""Whatever order a person paints, corrects, follows, undoes, saves and reloads in: every voxel and correction is kept, or named."""

from __future__ import annotations

import tempfile
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import napari_medseq as ms
from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError, MedseqWarning
from napari_medseq.sequence import ImageSequence, Study, Visit, affine_from
from tests.narrowing import some

SHAPE = (4, 14, 14)
#: z, y, x of the corner of each lesion's cube, by visit
LESIONS = (((1, 1, 1), (1, 9, 9)), ((1, 1, 1), (1, 9, 2)))


PLACE = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))


def two_visits() -> Study:
    visits = []
    for k, corners in enumerate(LESIONS):
        data = np.zeros(SHAPE, np.uint8)
        for z, y, x in corners:
            data[z : z + 2, y : y + 3, x : x + 3] = 1
        image = ImageSequence(
            data.astype(np.int16) * 300, ("z", "y", "x"), affine_from((1, 1, 1)), name="T1post", modality="MR"
        )
        mask = image.labels_like(data, name="mask", label_names={1: "lesion"})
        visits.append(Visit(date(2020, 1 + k, 1), (image,), (mask,), f"v{k + 1}"))
    return Study("patient", tuple(visits))


class Person(RuleBasedStateMachine):
    """Does what a person may do, and remembers what must be true afterwards.

    `painted` is, per visit, 1 where a lesion was painted last, 0 where something was erased last, -1 where nobody painted.
    """

    @initialize()
    def open(self) -> None:
        from napari.components import ViewerModel

        self.viewer: Any = ViewerModel()
        study = two_visits()
        verbs.add_study(self.viewer, study)
        self.layers = verbs.show_progression(
            self.viewer, ms.track([v.labels[0] for v in study.visits], dates=study.dates), study
        )
        self.painted = [np.full(SHAPE, -1) for _ in self.layers]
        self.corrections: list[str] = []
        self.done: list[Any] = []
        self.undone: list[Any] = []
        self.saved = self.reopened = False

    # -- what is remembered ------------------------------------------------------------------------------------------
    def state(self) -> Any:
        return [p.copy() for p in self.painted], list(self.corrections)

    def step(self, before: Any) -> None:
        self.done.append(before)
        self.undone.clear()

    def result(self) -> Any:
        return verbs.result_of(self.viewer)

    # -- what is done ------------------------------------------------------------------------------------------------
    @rule(visit=st.integers(0, 1), where=PLACE, value=st.integers(0, 4), size=st.integers(1, 4))
    def paint(self, visit: int, where: tuple[int, int, int], value: int, size: int) -> None:
        layer, before = self.layers[visit], self.state()
        self.viewer.dims.set_point(0, visit)
        self.viewer.layers.selection.active = layer
        layer.brush_size = size
        old = np.array(layer.data)
        layer.paint((0, *where), value)
        changed = (old != layer.data)[0]
        if changed.any():
            self.painted[visit][changed] = int(value > 0)
            self.step(before)

    @rule(
        how=st.sampled_from(["merge", "split", "exclude", "unlink", "link"]),
        visit=st.integers(0, 1),
        pick=st.integers(0, 3),
    )
    def correct(self, how: Any, visit: int, pick: int) -> None:
        graph = self.result().progression.graph
        there = sorted({i for key, i in graph.identities.items() if key[0] == visit and key not in graph.excluded})
        if not there:
            return
        lesion, before = there[pick % len(there)], self.state()
        names: tuple[Any, ...] = {
            "merge": (visit, there[:2]), "split": (visit, lesion, 2), "exclude": (lesion, visit), "unlink": (visit, lesion),
            "link": (visit, lesion, 1),
        }[how]  # fmt: skip
        shown = [np.array(layer.data) for layer in self.layers]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                verbs.correct(self.viewer, how, *names)
            except MedseqError:  # it makes no sense: nothing changed
                assert all(np.array_equal(a, layer.data) for a, layer in zip(shown, self.layers, strict=True))
                return
        self.corrections = list(self.result().progression.corrections)
        self.step(before)
        self.drop_what_was_named([str(w.message) for w in said if issubclass(w.category, MedseqWarning)])

    def drop_what_was_named(self, said: list[str]) -> None:
        """Painting may go only with a lesion that was excluded, and with a word."""
        for visit, layer in enumerate(self.layers):
            gone = (self.painted[visit] == 1) & (layer.data[0] == 0)
            if gone.any():
                assert any("voxels painted as lesion" in text and f"at visit {visit + 1}" in text for text in said)
                self.painted[visit][gone] = -1

    @rule()
    def follow(self) -> None:
        before, made = self.state(), len(self.corrections)
        chosen = list(self.layers)
        taken = verbs.masks_now(chosen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source, arguments = verbs.tracking_job(self.viewer, chosen)
            found = verbs.track_job(source, arguments, register="none")
            notes = verbs.show_followed(self.viewer, found, source, chosen, taken)
        self.corrections = list(found.corrections)
        if len(self.corrections) < made:  # what is not made again is named
            assert any("could not be made again" in note for note in notes)
        assert not verbs.painted(self.viewer)
        self.step(before)

    @precondition(lambda self: self.done)
    @rule()
    def undo(self) -> None:
        self.undone.append(self.state())
        verbs.undo(self.viewer)
        self.painted, self.corrections = self.done.pop()

    @precondition(lambda self: self.undone)
    @rule()
    def redo(self) -> None:
        self.done.append(self.state())
        verbs.redo(self.viewer)
        self.painted, self.corrections = self.undone.pop()

    @precondition(lambda self: not self.saved)  # drawing the plot takes half a second
    @rule()
    def save_and_reload(self) -> None:
        self.saved = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if verbs.differs(self.viewer, self.result()):
                with pytest.raises(MedseqError, match="not followed yet"):
                    verbs.write_result(self.viewer, self.result(), Path("/nowhere"))
                self.follow()
            with tempfile.TemporaryDirectory() as folder:
                verbs.write_result(self.viewer, self.result(), Path(folder))
                loaded = ms.Progression.load(folder)
        for layer, seq in zip(self.layers, loaded.labels, strict=True):
            assert np.array_equal(verbs.to_sequence(layer).data, some(seq).data)

    @precondition(lambda self: not self.reopened)  # as above
    @rule()
    def leave_and_come_back(self) -> None:
        """Save the session with what is not followed yet, and go on in another window."""
        from napari.components import ViewerModel

        self.reopened = True
        pending = list(verbs.painted(self.viewer).values())
        shown = [np.array(layer.data) for layer in self.layers]
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            verbs.save_session(self.viewer, Path(folder) / "work.medseq")
            again: Any = ViewerModel()
            verbs.open_session(again, Path(folder) / "work.medseq")
        self.viewer, self.layers = again, verbs.result_of(again).layers
        assert list(verbs.painted(again).values()) == pending
        assert all(np.array_equal(a, layer.data) for a, layer in zip(shown, self.layers, strict=True))
        self.done.clear()  # what was done before cannot be undone in another window
        self.undone.clear()

    # -- what is always true -----------------------------------------------------------------------------------------
    @invariant()
    def every_painted_voxel_is_there(self) -> None:
        for visit, layer in enumerate(self.layers):
            assert layer in self.viewer.layers
            data = layer.data[0]
            assert (data[self.painted[visit] == 1] > 0).all()
            assert not data[self.painted[visit] == 0].any()

    @invariant()
    def every_correction_is_there(self) -> None:
        assert list(self.result().progression.corrections) == self.corrections


Person.TestCase.settings = settings(
    max_examples=8, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestWhateverOrder = Person.TestCase
