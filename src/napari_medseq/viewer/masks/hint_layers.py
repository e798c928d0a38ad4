"""Layers of hints, which are points and boxes: made for a label layer, each hint of the label that was selected when it
was set, and every change of them a step of undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.active import MouseEvent, Stroke
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.visibility import set_visible

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Points, Shapes
    from napari.utils.events import Event

#: the names of layers that `new_hints` makes
INSIDE, OUTSIDE, BOXES = "points inside", "points outside", "boxes"
#: the column of a layer's features that holds the label that was selected when a hint was set
LABEL = "label"


def new_hints(viewer: ViewerModel, labels: Labels, kind: str) -> Layer:
    """A layer for clicking hints on the grid of a label layer, active and ready; an existing one of these labels is used
    again.

    Parameters
    ----------
    viewer : ViewerModel
    labels : Labels
    kind : {"points inside", "points outside", "boxes"}

    Raises
    ------
    MedseqError
        If `kind` is none of these.
    """
    from napari.layers import Points as PointsLayer
    from napari.layers import Shapes as ShapesLayer

    if kind not in (INSIDE, OUTSIDE, BOXES):
        raise MedseqError(f"There are no hints {kind!r}; choose from {INSIDE}, {OUTSIDE}, {BOXES}.")
    hints: PointsLayer | ShapesLayer | None = hints_of(viewer, labels, kind)
    if hints is None:
        labels = real(labels)
        placed = {
            n: getattr(labels, n) for n in ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
        }
        if kind == BOXES:
            hints = ShapesLayer(ndim=labels.ndim, name=kind, face_color="transparent", edge_color="yellow", **placed)
        else:
            colour = "lime" if kind == INSIDE else "red"
            hints = PointsLayer(ndim=labels.ndim, name=kind, face_color=colour, border_color="black", size=4, **placed)
        _DRAWN_FOR[hints] = Drawn(editing_of(viewer), hints, kind, labels)
        viewer.layers.append(hints)
    set_visible(hints, True)
    viewer.layers.selection.active = hints
    hints.mode = "add_rectangle" if kind == BOXES else "add"
    return hints


def hints_of(viewer: ViewerModel, labels: Labels, kind: str) -> Layer | None:
    """The layer with the hints of a kind for these labels; None if there is none.

    Hints that were drawn for other labels, which may be another patient's, are none of theirs. A layer that `new_hints`
    did not make is known by its name.
    """
    for layer in viewer.layers:
        layer = real(layer)
        drawn = _DRAWN_FOR.get(layer)
        if drawn is None and layer.name == kind and layer.ndim == labels.ndim:
            return layer
        if drawn is not None and drawn.kind == kind and drawn.labels() is real(labels):
            return layer
    return None


def label_of_each(layer: Points | Shapes, otherwise: int) -> list[int]:
    """The label that each hint of a layer is of: the one that was selected when it was set; `otherwise` where that is not
    known."""
    drawn = _DRAWN_FOR.get(real(layer))
    known = [] if drawn is None else drawn.of_each()
    return [value or otherwise for value in known] + [otherwise] * (len(layer.data) - len(known))


@dataclass(frozen=True, eq=False)
class _Shown:
    """The hints of a layer at one moment."""

    places: list[NDArray[np.float64]]
    kinds: list[str]
    labels: list[int]

    def same(self, other: _Shown) -> bool:
        """Whether another moment shows the same."""
        return len(self.places) == len(other.places) and all(map(np.array_equal, self.places, other.places))


class Drawn:
    """What a layer of hints was made for, and every change in it as a step of undo.

    Attributes
    ----------
    kind : str
    labels : reference of Labels
    """

    def __init__(self, editing: Editing, layer: Points | Shapes, kind: str, labels: Labels) -> None:
        self.kind, self.labels = kind, ref(labels)
        self._editing, self._layer = ref(editing), ref(layer)
        self._held = self._quiet = False
        self._known = self._now(layer)
        layer.events.data.connect(self._changed)
        layer.mouse_drag_callbacks.insert(0, self._drag)

    def of_each(self) -> list[int]:
        """The label that was selected when each hint was set."""
        layer = self._layer()
        return [] if layer is None else self._now(layer).labels

    @staticmethod
    def _now(layer: Any) -> _Shown:
        kinds = [str(k) for k in getattr(layer, "shape_type", ())]
        column = layer.features.get(LABEL)
        labels = [] if column is None else [int(v) if v == v else 0 for v in column]
        return _Shown([np.array(p, float) for p in layer.data], kinds, labels + [0] * (len(layer.data) - len(labels)))

    def _changed(self, event: Event) -> None:
        """Take what a person set, moved or removed; while a mouse button is held, once it is let go."""
        if self._quiet or str(event.action).rpartition(".")[2].casefold() not in ("added", "changed", "removed"):
            return
        layer, labels = self._layer(), self.labels()
        if layer is None:
            return
        more = len(layer.data) - len(self._known.places)
        if more > 0 and labels is not None:  # napari appends what is new
            values = self._now(layer).labels
            self._write_labels(layer, values[:-more] + [int(labels.selected_label)] * more)
        if not self._held:
            self._settle()

    def _drag(self, _layer: Layer, event: MouseEvent) -> Stroke:
        self._held = True
        yield
        while event.type == "mouse_move":
            yield
        self._held = False
        self._settle()

    def _settle(self) -> None:
        """Make what changed since the last time one step of undo."""
        layer, editing = self._layer(), self._editing()
        if layer is None or editing is None:
            return
        before, after = self._known, self._now(layer)
        if before.same(after):
            return
        self._known = after
        editing.act(lambda: self._show(before), lambda: self._show(after), f"setting {layer.name}")

    def _show(self, shown: _Shown) -> None:
        layer = self._layer()
        if layer is None:
            return
        self._quiet = True
        try:
            layer.selected_data = set()
            if shown.kinds:
                layer.data = list(zip(shown.places, shown.kinds, strict=True))
            else:
                layer.data = np.array(shown.places) if shown.places else np.empty((0, layer.ndim))
            self._write_labels(layer, shown.labels)
        finally:
            self._quiet = False
        self._known = self._now(layer)

    @staticmethod
    def _write_labels(layer: Any, values: Sequence[int]) -> None:
        others = layer.features if len(layer.features) == len(values) else {}
        layer.features = {**others, LABEL: np.asarray(values, int)}


#: layers of hints → what they were made for
_DRAWN_FOR: WeakKeyDictionary[Layer, Drawn] = WeakKeyDictionary()
