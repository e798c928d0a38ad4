"""Several canvases of one viewer, each with twins of some of its layers: all show the same place, and one brush paints
in any of them.

`napari_medseq.viewer.visits.comparing` makes them: visits side by side, or three planes of one visit. They need no Qt: each
canvas is a `ViewerModel`, and the *Compare* widget shows them on the screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary, ref

import numpy as np

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.viewer.canvases.brush import Brush
from napari_medseq.viewer.canvases.linking import Linked, View
from napari_medseq.viewer.canvases.pane import Pane, PanePlan, anchor_among, step_through_plane
from napari_medseq.viewer.canvases.twins import Connections, Twin
from napari_medseq.viewer.canvases.windows import link_windows
from napari_medseq.viewer.editing.active import DRAWING, MouseEvent, shown_visit, still_open, visit_of
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.identity import annotate
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.placement import camera_of
from napari_medseq.viewer.layers.positions import Place, moved, place_of, shown_at
from napari_medseq.viewer.layers.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import EmitterGroup, Event

Kind = Literal["visits", "planes"]


class Panes:
    """Canvases of one viewer that are shown together.

    Attributes
    ----------
    kind : {"visits", "planes"}
    panes : list of Pane
    active : Pane
        The pane that was pressed last; the viewer's slider shows its visit.
    events : EmitterGroup
        ``active`` when another pane becomes the active one, ``closed`` at the end.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        kind: Kind,
        plans: Sequence[PanePlan],
        *,
        visits: int | None = None,
        windows: Literal["alike", "equal", "free"] = "alike",
    ) -> None:
        from napari.utils.events import EmitterGroup

        self._viewer, self.kind, self._visits = ref(viewer), kind, visits
        self.events: EmitterGroup = EmitterGroup(source=self, active=None, closed=None)
        self.panes = [Pane(plan) for plan in plans]
        self._editing: Editing = editing_of(viewer)
        self._links = Connections()
        self._worlds = {pane.plan.ordinal: pane.plan.to_common for pane in self.panes}
        for layer in viewer.layers:
            self._add(layer)
        for pane in self.panes:
            step_through_plane(pane, viewer)
        self._brush = Brush(viewer, self.panes)
        self.active = next((p for p in self.panes if p.plan.ordinal == shown_visit(viewer)), self.panes[0])
        self._hub = View(viewer, self._hub_anchor, self._hub_to_common)
        self._pane_views = [self._view(pane) for pane in self.panes]
        self.linked = Linked([self._hub, *self._pane_views], by_centre=kind == "visits")
        self.linked.pointed.append(self._pointed)
        self._last_visit = shown_visit(viewer)
        self._before = _CanvasBefore.of(viewer, self._hub)
        if windows != "free" and kind == "visits":
            link_windows([list(pane.twins) for pane in self.panes], equal=windows == "equal", links=self._links)
        self._connect(viewer)
        self._brush.hand_on()
        self.linked.follow(self._hub)
        self._annotate()
        self._cross()

    @property
    def viewer(self) -> ViewerModel:
        """The viewer whose layers are shown.

        Raises
        ------
        MedseqError
            If it was closed.
        """
        return still_open(self._viewer)

    def _connect(self, viewer: ViewerModel) -> None:
        self._links.connect(viewer.layers.events.inserted, lambda event: self._inserted(event.value))
        self._links.connect(viewer.layers.events.removed, lambda event: self._remove(event.value))
        self._links.connect(viewer.layers.events.reordered, lambda _event: self._reorder())
        self._links.connect(viewer.dims.events.order, lambda _event: self._turned())
        # connected before the linking is, because another visit is not another place
        viewer.dims.events.point.connect(self._visit_moved, position="first")
        self._links.at_end(lambda: viewer.dims.events.point.disconnect(self._visit_moved))
        self._links.connect(self._editing.events.changed, lambda _event: self._refresh())
        for pane in self.panes:
            dims = pane.viewer.dims
            self._links.connect(dims.events.point, lambda _event: self._moved())
            pane.viewer.mouse_drag_callbacks.append(lambda _viewer, event, pane=pane: self._pressed(pane, event))

    def close(self) -> None:
        """Close the panes; what was painted in them stays, and the one canvas is zoomed and centred as it was before."""
        _PANES.pop(self._editing, None)
        self.linked.close()
        viewer = self._viewer()
        if viewer is not None:
            self._before.restore(viewer, self._hub)
        self._brush.close()
        self._links.close()
        for pane in self.panes:
            for twin in pane.twins.values():
                twin.close()
            pane.twins.clear()
        self.events.closed()

    # -- what they show ------------------------------------------------------------------------------------------------
    def _view(self, pane: Pane) -> View:
        if self.kind == "planes":
            return View(pane.viewer, lambda: self._shown_twin(pane), self._hub_to_common)
        return View(pane.viewer, lambda: pane.anchor, lambda: pane.plan.to_common)

    def _hub_anchor(self) -> Layer | None:
        viewer = self.viewer
        layers = [layer for layer in viewer.layers if visit_of(layer) in (None, shown_visit(viewer))]
        return anchor_among(layers)

    def _shown_twin(self, pane: Pane) -> Layer | None:
        anchor = self._hub_anchor()
        return None if anchor is None or anchor not in pane.twins else pane.twins[anchor].layer

    def _hub_to_common(self) -> Affine:
        return self._worlds.get(shown_visit(self.viewer), self._worlds.get(None, geometry.as_affine(np.eye(4))))

    def _add(self, layer: Layer) -> None:
        for pane in self.panes:
            if pane.plan.shows(layer) and layer not in pane.twins:
                twin = pane.twins[layer] = Twin(layer, self._editing, pane.viewer)
                at = len(pane.viewer.layers) - (pane.crosshair.layer in pane.viewer.layers)
                pane.viewer.layers.insert(at, twin.layer)

    def _inserted(self, layer: Layer) -> None:
        self._add(layer)
        self._brush.watch(layer)
        self._brush.hand_on()

    def _remove(self, layer: Layer) -> None:
        for pane in self.panes:
            twin = pane.twins.pop(layer, None)
            if twin is not None:
                twin.close()
                pane.viewer.layers.remove(twin.layer)

    def _reorder(self) -> None:
        for pane in self.panes:
            order = [pane.twins[layer].layer for layer in self.viewer.layers if layer in pane.twins]
            for at, layer in enumerate(order):
                if pane.viewer.layers.index(layer) != at:
                    pane.viewer.layers.move(pane.viewer.layers.index(layer), at)

    def _refresh(self) -> None:
        for pane in self.panes:
            for layer, twin in pane.twins.items():
                if layer_kind(layer) == "labels":
                    twin.refresh()

    def _turned(self) -> None:
        if self.kind == "planes":
            return
        with self.linked.quiet():
            for pane in self.panes:
                step_through_plane(pane, self.viewer)
        self.linked.follow(self._hub)

    # -- where they are ------------------------------------------------------------------------------------------------
    def fit(self) -> None:
        """Let all canvases show the whole image."""
        first = self.panes[0]
        with self.linked.quiet():
            first.viewer.reset_view()
        self.linked.follow(self._pane_views[0])

    def _visit_moved(self, _event: Event) -> None:
        """When the viewer's slider of visits moves, keep the panes where they are and bring the viewer to the same
        place."""
        visit = shown_visit(self.viewer)
        if visit == self._last_visit:
            return
        self._last_visit = visit
        if self.kind == "planes":
            return
        current = next((pane for pane in self.panes if pane.plan.ordinal == visit), None)
        if current is not None:
            self._come_to(current)

    def _come_to(self, pane: Pane) -> None:
        """Make a pane the active one, and let the viewer show what it shows."""
        view = self._pane_views[self.panes.index(pane)]
        position = self.linked.shown(view)
        if position is not None:
            with self.linked.quiet():
                self.linked.show(self._hub, position)
        if pane is not self.active:
            self.active = pane
            self.events.active()

    def activate(self, pane: Pane) -> None:
        """Make a pane the active one: the viewer's slider goes to its visit, and a layer of that visit is edited."""
        viewer, names = self.viewer, [str(a) for a in self.viewer.dims.axis_labels]
        ordinal = pane.plan.ordinal
        with self._brush.handing_over(pane):
            if ordinal is not None and "visit" in names and shown_visit(viewer) != ordinal:
                self._last_visit = ordinal
                with self.linked.quiet():
                    viewer.dims.set_point(names.index("visit"), float(ordinal))
            if self.kind == "visits":
                self._come_to(pane)
            elif pane is not self.active:
                self.active = pane
                self.events.active()

    def _pressed(self, pane: Pane, event: MouseEvent) -> Iterator[None]:
        why = self._brush.refusal(pane)
        if why is not None:
            from napari.utils.notifications import show_warning

            show_warning(why)
        self.activate(pane)
        if self.kind != "planes":
            return
        start = event.position
        yield
        while event.type == "mouse_move":
            yield
        layer = pane.viewer.layers.selection.active
        drawing = layer is not None and str(getattr(layer, "mode", "")) in DRAWING
        if not drawing and np.allclose(start, event.position):  # a click, not a drag of the view
            pane.viewer.dims.point = tuple(float(v) for v in start)

    def _pointed(self, source: View, place: Place) -> None:
        if self.kind == "planes":
            return
        for pane, view in zip(self.panes, self._pane_views, strict=True):
            anchor = view.anchor()
            if view is source or anchor is None:
                pane.crosshair.hide()
            else:
                own = moved(view.to_common(), place, back=True)
                pane.crosshair.show(anchor, own)

    def _moved(self) -> None:
        self._annotate()
        self._cross()

    def _cross(self) -> None:
        """Let the lines of three planes cross where the planes meet."""
        if self.kind != "planes":
            return
        position = self.linked.shown(self._hub)
        if position is None:
            return
        own = moved(self._hub_to_common(), position.place, back=True)
        for pane, view in zip(self.panes, self._pane_views, strict=True):
            anchor = view.anchor()
            if anchor is not None:
                pane.crosshair.show(anchor, own)

    def _annotate(self) -> None:
        for pane in self.panes:
            annotate(pane.viewer, title=pane.plan.title, visits=self._visits)


@dataclass(frozen=True, eq=False)
class _CanvasBefore:
    """How the one canvas was zoomed and centred before panes took its place.

    Attributes
    ----------
    place : Place or None
        What lay at its centre, in common mm; None without a layer whose position is known.
    order : tuple of int
        The order of axes; if it is another one at the end, another plane is shown, and the centre stays.
    """

    ndisplay: int
    order: tuple[int, ...]
    centre: tuple[float, ...]
    zoom: float
    place: Place | None

    @classmethod
    def of(cls, viewer: ViewerModel, hub: View) -> _CanvasBefore:
        """What a viewer shows now."""
        dims, camera, anchor = viewer.dims, camera_of(viewer), hub.anchor()
        place = None
        if anchor is not None and dims.ndisplay == 2:
            point = [float(v) for v in dims.point]
            for axis, value in zip(dims.displayed, camera.center[-2:], strict=True):
                point[axis] = float(value)
            place = moved(hub.to_common(), place_of(anchor, point))
        return cls(dims.ndisplay, tuple(dims.order), tuple(camera.center), float(camera.zoom), place)

    def restore(self, viewer: ViewerModel, hub: View) -> None:
        """Zoom and centre a viewer as it was; at the slice and visit that it shows by now."""
        dims, camera, anchor = viewer.dims, camera_of(viewer), hub.anchor()
        if dims.ndisplay != self.ndisplay or tuple(dims.order) != self.order:
            return
        camera.zoom = self.zoom
        if self.place is None or anchor is None:
            camera.center = self.centre
            return
        at = shown_at(anchor, moved(hub.to_common(), self.place, back=True))  # the visit may be another one by now
        names = [str(dims.axis_labels[axis]) for axis in dims.displayed]
        old = camera.center
        camera.center = (*old[:-2], *(at.get(name, value) for name, value in zip(names, old[-2:], strict=True)))


_PANES: WeakKeyDictionary[Editing, Panes] = WeakKeyDictionary()


def panes_of(viewer: ViewerModel) -> Panes | None:
    """The panes that are open for a viewer; None if there are none."""
    return _PANES.get(editing_of(viewer))


def open_panes(
    viewer: ViewerModel,
    kind: Kind,
    plans: Sequence[PanePlan],
    *,
    visits: int | None = None,
    windows: Literal["alike", "equal", "free"] = "alike",
) -> Panes:
    """Open panes for a viewer in place of those that are open."""
    close_panes(viewer)
    viewer = real(viewer)
    panes = _PANES[editing_of(viewer)] = Panes(viewer, kind, plans, visits=visits, windows=windows)
    return panes


def close_panes(viewer: ViewerModel) -> None:
    """Close the panes of a viewer, if any are open."""
    panes = panes_of(viewer)
    if panes is not None:
        panes.close()
