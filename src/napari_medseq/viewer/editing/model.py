"""The model of editing of a viewer: what is painted where, what is not yet followed, and undo of all of it.

`editing_of` gives the model of a viewer. Everything that changes a label layer, be it a person's brush or a verb, goes
through it; ``docs/explanation/editing.md`` explains it. It needs no Qt: a `ViewerModel` is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary, WeakSet, ref

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.active import (
    MouseEvent,
    Stroke,
    follow_visit,
    guarded_stroke,
    still_open,
    take_vertex_back,
)
from napari_medseq.viewer.editing.history import Action, Change, History, Step
from napari_medseq.viewer.editing.marks import PAINTED, PENDING, Flags, Marks, Mask, Values, Voxels, read_at, write_at
from napari_medseq.viewer.editing.moving import watch_moves
from napari_medseq.viewer.editing.removal import Removal, is_redone
from napari_medseq.viewer.editing.unsaved import Unsaved
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import TRACKED, facts_of, studies_in

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from napari.utils.events import EmitterGroup, Event


@dataclass(frozen=True, eq=False)
class VoxelChange:
    """Voxels of one layer whose values and flags changed."""

    editing: Editing
    layer: ref[Labels]
    voxels: Voxels
    before: Values
    after: Values
    flags_before: Flags
    flags_after: Flags

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return int(self.voxels.nbytes + self.before.nbytes + self.after.nbytes + 2 * self.flags_before.nbytes)

    def undo(self) -> None:
        """Give the voxels their former values."""
        layer = self.layer()
        if layer is not None:  # napari announces a fill before it makes it, so that its result is known only now
            np.copyto(self.after, read_at(layer.data, self.voxels), casting="unsafe")
        self._set(self.before, self.flags_before)

    def redo(self) -> None:
        """Give the voxels the new values again."""
        self._set(self.after, self.flags_after)

    def _set(self, values: Values, flags: Flags) -> None:
        layer = self.layer()
        if layer is None:
            return
        write_at(layer.data, self.voxels, values)
        self.editing.marks(layer).put(self.voxels, flags)
        if layer in self.editing.viewer.layers:
            self.editing.unsaved.add(layer)
        layer.refresh()


class Limit(Protocol):
    """A restriction on where strokes may change voxels."""

    def outside(self, layer: Labels, voxels: Voxels) -> Mask:
        """Which of these voxels, flat indices into a layer's data, strokes must leave alone."""


class Editing:
    """What is painted in a viewer, and how to take it back; one per viewer, from `editing_of`.

    Attributes
    ----------
    history : History
        Strokes, corrections and what verbs filled in, in the order in which they happened.
    limit : Limit or None
        The restriction on strokes that holds now; `napari_medseq.viewer.limit_brush` sets it.
    unsaved : Unsaved
        Layers that changed by hand since they were saved.
    events : EmitterGroup
        ``changed`` after each step, its undo or redo, and after saving; ``arrived`` when a layer that came has become the active one.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        from napari.utils.events import EmitterGroup

        self._viewer = ref(viewer)
        self._marks: WeakKeyDictionary[Labels, Marks] = WeakKeyDictionary()
        self._watched: WeakSet[Labels] = WeakSet()
        self._open: Step | None = None
        self._fresh: ref[Layer] | None = None
        self._announced = 0
        self.history = History()
        self.limit: Limit | None = None
        self.unsaved = Unsaved()
        self.events: EmitterGroup = EmitterGroup(source=self, changed=None, arrived=None)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        viewer.layers.selection.events.active.connect(self._activated)
        viewer.dims.events.point.connect(self._slider_moved)
        for layer in viewer.layers:
            self._watch(layer)
        self._slider_moved()

    @property
    def viewer(self) -> ViewerModel:
        """The viewer.

        Raises
        ------
        MedseqError
            If it was closed.
        """
        return still_open(self._viewer)

    # -- which layer is edited -----------------------------------------------------------------------------------------
    def _inserted(self, event: Event) -> None:
        self._watch(event.value)
        self._fresh, self._announced = ref(event.value), 1

    def _activated(self, event: Event) -> None:
        """Correct napari's choice of the active layer: it activates the newest one, whatever visit the slider shows. A
        person's choice stays."""
        fresh = None if self._fresh is None else self._fresh()
        if fresh is None:
            return
        if event.value is None:
            # napari announces a new layer twice if another was active; only at the second time may it be changed
            self._announced = 2
        elif event.value is not fresh:
            self._fresh = None
        else:
            self._announced -= 1
            if self._announced == 0:
                self._fresh = None
                self._slider_moved()
                self.events.arrived()

    def _watch(self, layer: Layer) -> None:
        watch_moves(self, layer)
        if layer_kind(layer) != "labels" or layer in self._watched:
            return
        self._watched.add(layer)
        layer.events.paint.connect(self._stroke)
        weak = ref(self)  # a layer that an undone step or a result holds must not keep the viewer alive

        def guard(layer: Labels, event: MouseEvent) -> Stroke:
            alive = weak()
            return iter(()) if alive is None else alive._guard(layer, event)

        def by_key(redo: bool, layer: Labels) -> None:
            alive = weak()
            if alive is not None and (redo or not take_vertex_back(real(layer))):
                alive.by_key(redo=redo)

        layer.mouse_drag_callbacks.insert(0, guard)
        layer.bind_key("Control-Z", lambda layer: by_key(False, layer), overwrite=True)
        layer.bind_key("Control-Shift-Z", lambda layer: by_key(True, layer), overwrite=True)

    def _removed(self, event: Event) -> None:
        layer = event.value
        unsaved = layer_kind(layer) == "labels" and layer in self.unsaved
        if unsaved:
            self.unsaved.discard(layer)
        if unsaved and (is_redone(layer) or facts_of(layer).get("role") != TRACKED):
            if not is_redone(layer):
                with self.step(f"removing {layer.name}"):
                    self._add(Removal(self._viewer, self.unsaved, layer, event.index))
                self.viewer.status = f"{layer.name} was removed, and its painting is not saved: Ctrl+Z brings it back."
            self.events.changed()
            return
        if self.history.forget(lambda change: self._is_gone(change, layer)) or unsaved:
            self.events.changed()

    def _is_gone(self, change: Change, layer: Layer) -> bool:
        """Whether a change is one of a layer that was removed, or of a patient of whom nothing is open any more."""
        if isinstance(change, VoxelChange):
            return change.layer() in (None, layer)
        study = facts_of(layer).get("study")
        return (
            isinstance(change, Action)
            and change.of is not None
            and change.of == study
            and (study not in studies_in(self.viewer.layers))
        )

    def _slider_moved(self, _event: Event | None = None) -> None:
        viewer = self._viewer()
        if viewer is not None:
            follow_visit(viewer)

    def _guard(self, layer: Labels, event: MouseEvent) -> Stroke:
        """Before each press in a label layer, refuse a stroke that would not land where it is shown, with a
        message."""
        return guarded_stroke(self.viewer, layer, event)

    @property
    def is_unsaved(self) -> bool:
        """Whether something was painted or corrected since it was saved."""
        return any(layer in self.viewer.layers for layer in self.unsaved)

    # -- what is painted -----------------------------------------------------------------------------------------------
    def marks(self, layer: Labels) -> Marks:
        """The marks of what a person painted in a layer."""
        layer = real(layer)
        marks = self._marks.get(layer)
        if marks is None or marks.shape != layer.data.shape:
            marks = self._marks[layer] = Marks(layer.data.shape)
        return marks

    def pending(self, layers: Sequence[Labels] | None = None) -> dict[Labels, int]:
        """Number of voxels painted and not yet followed, by layer, of these layers or of all; layers without any are
        left out."""
        among = self.viewer.layers if layers is None else layers
        counts = {real(layer): self.marks(layer).count for layer in among if layer_kind(layer) == "labels"}
        return {layer: count for layer, count in counts.items() if count}

    def _stroke(self, event: Event) -> None:
        """Take a finished stroke, fill or polygon; napari announces what changed."""
        self.stroke(event.source, event.value)

    def stroke(self, layer: Labels, atoms: Sequence[object]) -> None:
        """Take a finished stroke, as napari's ``paint`` event holds it, as one in `layer`, whose voxels have changed
        already.

        A layer's own strokes arrive here by themselves; those in its twin in another canvas are passed in.
        """
        voxels, before = _changed(atoms, layer.data.shape)
        if self.limit is not None:
            voxels, before = self._limited(self.limit.outside(layer, voxels), layer, voxels, before)
        closed = [value for value in _LOCKED.get(real(layer), ()) if value != int(layer.selected_label)]
        locked = np.isin(before, closed)
        if locked.any():
            voxels, before = self._limited(locked, layer, voxels, before)
            numbers = ", ".join(map(str, sorted(closed)))
            self.viewer.status = (
                f"Finished objects are not painted over (label {numbers}); select the label to change it."
            )
        if not len(voxels):
            return
        after = np.array(read_at(layer.data, voxels))
        self._record(layer, voxels, before, after, np.full(len(voxels), PAINTED | PENDING), f"painting in {layer.name}")

    @staticmethod
    def _limited(outside: Mask, layer: Labels, voxels: Voxels, before: Values) -> tuple[Voxels, Values]:
        """The part of a stroke that is not outside of what may be painted; the rest is taken back."""
        if outside.any():
            write_at(layer.data, voxels[outside], before[outside])
            layer.refresh()
        return voxels[~outside], before[~outside]

    def paint(self, layer: Labels, voxels: Voxels, values: Values, name: str) -> None:
        """Give voxels other labels as a person's stroke does: painted, not yet followed, one step of undo.

        Parameters
        ----------
        layer : Labels
        voxels : ndarray of int
            Flat indices into the layer's data.
        values : ndarray of int
            Their labels, one each.
        name : str
            Name of the step.
        """
        layer = real(layer)
        if not len(voxels):
            return
        own = layer.data.dtype
        if not isinstance(layer.data, np.ndarray) or int(values.max()) > np.iinfo(own).max:
            layer.data = np.array(layer.data, dtype=np.promote_types(own, np.min_scalar_type(int(values.max()))))
        where = np.unravel_index(voxels, layer.data.shape)
        before = np.asarray(layer.data[where])
        layer.data[where] = values
        after, flags = np.asarray(layer.data[where]), np.full(len(voxels), PAINTED | PENDING)
        self._record(layer, voxels, before, after, flags, name)
        layer.refresh()

    def _record(self, layer: Labels, voxels: Voxels, before: Values, after: Values, flags: Flags, name: str) -> None:
        """Mark voxels that have changed already, as a step of its own or as part of the one that is open."""
        marks = self.marks(layer)
        change = VoxelChange(self, ref(layer), voxels, before, after, marks.at(voxels), flags)
        marks.put(voxels, flags)
        self.unsaved.add(layer)
        with self.step(name):
            self._add(change)

    def _add(self, change: Change) -> None:
        assert self._open is not None
        self._open.changes.append(change)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Make everything that is written within this context one step of undo called `name`; a nested step becomes
        part of it."""
        if self._open is not None:
            yield
            return
        self._open = Step(name)
        try:
            yield
        finally:
            step, self._open = self._open, None
            if step.changes:
                self.history.add(step)
        self.events.changed()

    def act(
        self, undo: Callable[[], None], redo: Callable[[], None], name: str = "a change", *, of: str | None = None
    ) -> None:
        """Remember an action that changed no voxel, by how it is taken back and made again.

        `of`: the patient of whom it is; once nothing of that one is open, it cannot be taken back any more.
        """
        with self.step(name):
            self._add(Action(undo, redo, of))

    # -- what verbs write ----------------------------------------------------------------------------------------------
    def write(self, layer: Labels, data: Values, *, flags: Flags | None = None, name: str | None = None) -> None:
        """Give a layer other labels, as a step that can be undone. What is painted there is lost unless `data` holds
        it.

        Parameters
        ----------
        layer : Labels
        data : ndarray of int
            Labels, of the layer's shape.
        flags : ndarray of uint8, optional
            What counts as painted afterwards; None: as before.
        name : str, optional
            Name of the step.
        """
        layer = real(layer)
        marks, old = self.marks(layer), np.asarray(layer.data)
        new = np.array(data, dtype=np.promote_types(old.dtype, data.dtype))
        flags = marks.flags if flags is None else flags
        voxels = np.flatnonzero((old != new) | (marks.flags != flags))
        before, after = old.reshape(-1)[voxels], new.reshape(-1)[voxels]
        change = VoxelChange(self, ref(layer), voxels, before, after, marks.at(voxels), flags.reshape(-1)[voxels])
        marks.replace(flags)
        with self.step(name or f"new labels in {layer.name}"):
            if len(voxels):
                self._add(change)
                layer.data = new
                self.unsaved.add(layer)

    def fill(self, layer: Labels, data: Values, *, overwrite: bool = False, name: str | None = None) -> int:
        """Give a layer the labels that a verb computed, except in the voxels that a person painted.

        Parameters
        ----------
        layer : Labels
        data : ndarray of int
            Labels, of the layer's shape.
        overwrite : bool
            Change painted voxels too; they no longer count as painted.
        name : str, optional
            Name of the step.

        Returns
        -------
        int
            Number of painted voxels that keep a value that `data` would have changed.
        """
        layer = real(layer)
        marks = self.marks(layer)
        if overwrite:
            self.write(layer, data, flags=np.zeros(marks.shape, np.uint8), name=name)
            return 0
        old = np.asarray(layer.data)
        differs = marks.painted & (old != data)
        self.write(layer, np.where(differs, old, data), name=name)
        return int(differs.sum())

    def followed(self, layers: Sequence[Labels], *, undoable: bool = True) -> None:
        """Record that a result holds what is painted in these layers: it is still protected, but no longer pending.

        `undoable`: whether that is a part of a step; not where the result itself cannot be taken back.
        """
        for layer in map(real, layers):
            marks = self.marks(layer)
            if marks.any and undoable:
                self.write(layer, np.asarray(layer.data), flags=marks.flags & PAINTED, name=f"following {layer.name}")
            elif marks.any:
                marks.replace(marks.flags & PAINTED)
        self.events.changed()

    def saved(self, layers: Sequence[Labels] | None = None) -> None:
        """Record that these layers, or all, were written to disk as they are."""
        for layer in list(self.unsaved) if layers is None else [real(layer) for layer in layers]:
            self.unsaved.discard(layer)
        self.events.changed()

    def written(self, changes: WeakKeyDictionary[Labels, int]) -> None:
        """Record that a copy was written to disk; what changed since the copy was made is not saved. `changes` is what
        `Unsaved.as_they_are` gave when the copy was made."""
        self.unsaved.discard_unchanged(changes)
        self.events.changed()

    # -- undo ----------------------------------------------------------------------------------------------------------
    def undo(self) -> str:
        """Take back the latest step, a stroke or a correction, and return its name in words.

        Raises
        ------
        MedseqError
            If there is none.
        """
        name = self.history.undo().name
        self.events.changed()
        return name

    def redo(self) -> str:
        """Make the step again that was taken back last, and return its name in words.

        Raises
        ------
        MedseqError
            If there is none.
        """
        name = self.history.redo().name
        self.events.changed()
        return name

    def by_key(self, *, redo: bool = False) -> None:
        """Undo or redo as a key does: the status bar says what, or that there is nothing."""
        viewer = self.viewer
        try:
            viewer.status = f"Done again: {self.redo()}" if redo else f"Undone: {self.undo()}"
        except MedseqError as error:
            viewer.status = str(error)


def _changed(atoms: Sequence[object], shape: tuple[int, ...]) -> tuple[Voxels, Values]:
    """Flat indices that a stroke changed, each once, and their former values.

    napari describes a stroke as a list of edits of two kinds: ``(indices, old, new)``, and since 0.8 one with a box, a
    mask and the old values.
    """
    where: list[Voxels] = []
    old: list[Values] = []
    for atom in atoms:
        box = getattr(atom, "slice_key", None)
        if box is None:
            indices, values = atom[0], atom[1]  # type: ignore[index]
            where.append(np.ravel_multi_index(indices, shape).reshape(-1))
        else:
            mask, values = atom.mask, atom.old_values  # type: ignore[attr-defined]
            starts = [s.indices(n)[0] for s, n in zip(box, shape, strict=True)]
            inside = np.nonzero(np.ones(values.shape, bool) if mask is None else mask)
            moved = tuple(i + start for i, start in zip(inside, starts, strict=True))
            where.append(np.ravel_multi_index(moved, shape))
        old.append(np.broadcast_to(np.asarray(values).reshape(-1), where[-1].shape))
    if not where:
        return np.zeros(0, np.intp), np.zeros(0, np.uint8)
    # the first edit of a voxel holds its value before the stroke
    voxels, first = np.unique(np.concatenate(where), return_index=True)
    return voxels, np.concatenate(old)[first]


#: label layers → labels that only strokes with the same label selected change; the sets are those of their owners
_LOCKED: WeakKeyDictionary[Labels, Set[int]] = WeakKeyDictionary()


def lock_labels(layer: Labels, values: Set[int]) -> None:
    """Let strokes in a layer leave labels alone while another label is selected; changes of the set count at once."""
    _LOCKED[real(layer)] = values


#: event emitters of a viewer → its model; unlike the emitters, the viewer is handed to plugins as a new proxy each time
_MODELS: WeakKeyDictionary[object, Editing] = WeakKeyDictionary()


def editing_of(viewer: ViewerModel) -> Editing:
    """The model of editing of a viewer, made when it is first asked for; from then on the viewer's strokes are
    watched."""
    viewer = real(viewer)
    editing = _MODELS.get(viewer.events)
    if editing is None:
        editing = _MODELS[viewer.events] = Editing(viewer)
    return editing
