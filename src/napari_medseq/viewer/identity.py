"""Whose images are shown: patient, visit, date and series in a corner, and letters of the patient's sides at the
edges.

One patient is in front. Everything is text of the canvas (napari's overlays) and the viewer's title; no Qt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary, ref

import numpy as np

from napari_medseq.viewer.canvas_text import Place, write_text
from napari_medseq.viewer.editing.active import shown_visit, visit_of
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.placement import along_of, camera_of
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import facts_of, series_name, studies_in, visits_of
from napari_medseq.viewer.visibility import covers, set_visible

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event

#: world axis → the patient's side at its end and at its beginning; world is S, P, L (DICOM's LPS read as z, y, x)
_SIDES = {"z": ("S", "I"), "y": ("P", "A"), "x": ("L", "R")}
_EDGES: dict[str, Place] = {
    "top": "top_center",
    "bottom": "bottom_center",
    "left": "middle_left",
    "right": "middle_right",
}
_CORNER = "medseq identity"


def patient_in_front(viewer: ViewerModel) -> str | None:
    """The study whose layers are shown: that of the topmost visible layer that belongs to one; None if there is
    none."""
    for layer in reversed(list(viewer.layers)):
        study = facts_of(layer).get("study")
        if layer.visible and study is not None:
            return str(study)
    return None


def bring_to_front(viewer: ViewerModel, study: str) -> None:
    """Show one patient and hide the layers of the others, which get their former visibility back when their patient is
    shown again.

    Layers that belong to no study stay as they are. The slider of visits goes to the nearest one that this patient has, and where
    no slice of the patient lies at what is shown, the middle of its image is shown.
    """
    for layer in viewer.layers:
        facts = facts_of(layer)
        owner = facts.get("study")
        if owner is None:
            continue
        if owner != study and layer.visible:
            facts["shown_in_front"] = True
            layer.visible = False
        elif owner == study and facts.pop("shown_in_front", False):
            set_visible(layer, True)
    study_layers = [layer for layer in viewer.layers if facts_of(layer).get("study") == study]
    if study_layers and not any(
        layer.visible for layer in study_layers
    ):  # opened behind another patient, and never shown yet
        for layer in study_layers:
            layer.visible = facts_of(layer).get("shown_first", True)
    visits = {visit for layer in study_layers if (visit := visit_of(layer)) is not None}
    if visits and (shown := shown_visit(viewer)) is not None and shown not in visits:
        nearest = min(visits, key=lambda visit: abs(visit - shown))
        viewer.dims.set_point(list(viewer.dims.axis_labels).index("visit"), float(nearest))
    _go_to_image(viewer)
    _activate_front(viewer, study)
    describe(viewer)


def _go_to_image(viewer: ViewerModel) -> None:
    """Show the middle of the image in front, if no slice of it is shown now: patients lie anywhere in the scanner."""
    image, along = image_in_front(viewer), along_of(viewer)
    names = [] if image is None else [str(a) for a in image.axis_labels]
    if image is None or viewer.dims.ndisplay != 2 or along not in names or shown_step(viewer, image, along) is not None:
        return
    shape = np.array(image.data.shape[: image.ndim])
    middle = np.asarray(image.data_to_world((shape - 1) // 2), float)
    lead = viewer.dims.ndim - image.ndim
    viewer.dims.set_point(lead + names.index(along), float(middle[names.index(along)]))
    camera = camera_of(viewer)
    shown = [float(middle[axis - lead]) for axis in viewer.dims.displayed]
    camera.center = (*camera.center[: 3 - len(shown)], *shown)


def _activate_front(viewer: ViewerModel, study: str | None) -> None:
    """If the active layer belongs to another patient, activate one of the patient in front, so that painting goes into
    that one."""
    active = viewer.layers.selection.active
    if active is not None and study is not None and facts_of(active).get("study") not in (None, study):
        seen = [layer for layer in viewer.layers if layer.visible and facts_of(layer).get("study") == study]
        shown = [layer for layer in seen if visit_of(layer) in (None, shown_visit(viewer))]
        viewer.layers.selection.active = (shown or seen or [None])[-1]


def identity(viewer: ViewerModel, visits: int | None = None) -> list[str]:
    """Patient, visit with its date, series and slice that are shown, one per line, counted from 1; of an image that
    belongs to no study series and slice, below "of no patient" where it hides one's; empty if there is none.

    `visits` is the number of the patient's visits, if the viewer does not show them all.
    """
    study, image = patient_in_front(viewer), image_in_front(viewer)
    if study is None:
        return _series_and_steps(viewer)
    if image is not None and facts_of(image).get("study") is None:
        return ["of no patient", *_series_and_steps(viewer)]
    candidates = _shown_of(viewer, study)
    lines = [study]
    if candidates:
        facts = facts_of(candidates[-1])
        count = visits or _visits_in(viewer, study)
        has_visits = visits is not None or visit_of(candidates[-1]) is not None
        number = f"visit {facts['ordinal'] + 1} of {count}" if count > 1 and has_visits else ""
        lines.append(", ".join(part for part in (number, facts.get("date") or "no date") if part))
        lines += _series_and_steps(viewer)
    return lines


def _series_and_steps(viewer: ViewerModel) -> list[str]:
    """The series of the image in front, and which of its slices and frames is shown."""
    image = image_in_front(viewer)
    if image is None:
        return []
    steps = ((word, shown_step(viewer, image, axis)) for word, axis in (("slice", along_of(viewer)), ("frame", "t")))
    numbers = [f"{word} {place[0] + 1} of {place[1]}" for word, place in steps if place is not None]
    return [series_name(facts_of(image)), *numbers]


def _shown_of(viewer: ViewerModel, *studies: str | None) -> list[Layer]:
    """The layers of patients (None: those of this package that belong to none) that are visible at the visit that is
    shown."""
    visit = shown_visit(viewer)
    return [
        layer
        for layer in viewer.layers
        if layer.visible
        and (facts := facts_of(layer))
        and facts.get("study") in studies
        and visit_of(layer) in (None, visit)
    ]


def image_in_front(viewer: ViewerModel) -> Layer | None:
    """The image whose slices are counted on the canvas: of the visible ones of the patient in front, at the visit that is shown, and of
    those that a file of no patient held, the topmost one that hides the others; else the lowest of the patient."""
    front = patient_in_front(viewer)
    of_front = [layer for layer in _shown_of(viewer, front) if layer_kind(layer) == "image"]
    visible = [layer for layer in _shown_of(viewer, front, None) if layer_kind(layer) == "image"]
    lowest = next(iter(of_front or visible), None)
    for layer in reversed(visible):
        if layer is lowest or (lowest is not None and _hides(viewer, layer, lowest)):
            return layer
    return lowest


def _hides(viewer: ViewerModel, layer: Layer, other: Layer) -> bool:
    """Whether one image lies on the middle of another one, where it is shown, and hides it."""
    if not covers(layer) or shown_step(viewer, layer, along_of(viewer)) is None:
        return False
    point = np.array(viewer.dims.point, float)
    middle = (np.array(other.data.shape[: other.ndim]) - 1) / 2
    shown = [axis for axis in viewer.dims.displayed if axis >= viewer.dims.ndim - min(layer.ndim, other.ndim)]
    point[shown] = np.asarray(other.data_to_world(middle))[[axis - viewer.dims.ndim for axis in shown]]
    at = np.asarray(layer.world_to_data(point[-layer.ndim :]))
    return all(
        -0.5 <= at[axis - viewer.dims.ndim] <= layer.data.shape[: layer.ndim][axis - viewer.dims.ndim] - 0.5
        for axis in shown
    )


def shown_step(viewer: ViewerModel, layer: Layer, along: str) -> tuple[int, int] | None:
    """Index, from 0, of a layer's step along an axis that is shown, and the number of steps; None in three dimensions
    or outside."""
    names = [str(a) for a in layer.axis_labels]
    if viewer.dims.ndisplay != 2 or along not in names:
        return None
    point = np.asarray(viewer.dims.point)[viewer.dims.ndim - layer.ndim :]
    at = round(float(np.asarray(layer.world_to_data(point))[names.index(along)]))
    count = int(layer.data.shape[names.index(along)])
    return (at, count) if 0 <= at < count else None


def _visits_in(viewer: ViewerModel, study: str) -> int:
    study_layers = [layer for layer in viewer.layers if facts_of(layer).get("study") == study]
    return max(
        visits_of(study_layers), 1 + max((facts_of(layer).get("ordinal", 0) for layer in study_layers), default=0)
    )


def orientation_letters(viewer: ViewerModel) -> dict[str, str]:
    """The patient's side (R, L, A, P, S, I) at each edge of the canvas: ``top``, ``bottom``, ``left_end``, ``right``.

    Empty in three dimensions, and if the orientation of what is shown is unknown.
    """
    visible = [layer for layer in viewer.layers if layer.visible and facts_of(layer)]
    if viewer.dims.ndisplay != 2 or not visible or not all(facts_of(layer).get("oriented") for layer in visible):
        return {}
    names = [str(viewer.dims.axis_labels[axis]) for axis in viewer.dims.displayed]
    if not all(name in _SIDES for name in names):
        return {}
    vertical, horizontal = (str(direction) for direction in camera_of(viewer).orientation2d)
    (end_v, begin_v), (end_h, begin_h) = (_SIDES[name] for name in names)
    top, bottom = (end_v, begin_v) if vertical == "up" else (begin_v, end_v)
    left_end, right = (begin_h, end_h) if horizontal == "right" else (end_h, begin_h)
    return {"top": top, "bottom": bottom, "left": left_end, "right": right}


def describe(viewer: ViewerModel) -> None:
    """Write identity and sides on the canvas, and the patient and *unsaved* into the title, from now on."""
    _Described.of(viewer).update()


def annotate(viewer: ViewerModel, *, title: str = "", visits: int | None = None) -> None:
    """Write the current identity and sides on a canvas; `title` stands above the slice if no study is open."""
    lines = identity(viewer, visits)
    if title and patient_in_front(viewer) is None:
        lines = [title, *lines[1:]]
    write_text(viewer, _CORNER, "\n".join(lines), "top_left")
    letters = orientation_letters(viewer)
    for edge, place in _EDGES.items():
        write_text(viewer, f"medseq {edge}", letters.get(edge, ""), place)


class _Described:
    """The texts that are written about a viewer, and its original title."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self._title = str(viewer.title)
        self._known: set[str] = set(studies_in(viewer.layers))
        for event in (viewer.dims.events.point, viewer.dims.events.order, viewer.dims.events.ndisplay):
            event.connect(self.update)
        camera_of(viewer).events.connect(self._camera_moved)
        viewer.layers.events.removed.connect(self.update)
        viewer.layers.events.reordered.connect(self.update)
        viewer.layers.events.inserted.connect(self._inserted)
        editing_of(viewer).events.arrived.connect(self._arrived)
        editing_of(viewer).events.changed.connect(self._retitle)

    _all: ClassVar[WeakKeyDictionary[Editing, _Described]] = WeakKeyDictionary()

    @classmethod
    def of(cls, viewer: ViewerModel) -> _Described:
        """The texts of a viewer."""
        viewer = real(viewer)
        editing = editing_of(viewer)
        if editing not in cls._all:
            cls._all[editing] = cls(viewer)
        return cls._all[editing]

    def _inserted(self, event: Event) -> None:
        layer: Layer = event.value
        viewer = self._viewer()
        study = facts_of(layer).get("study")
        for event in (layer.events.visible, layer.events.opacity, layer.events.blending):
            event.connect(self.update)
        if viewer is None:
            return
        if study is not None and study not in self._known:
            self._known.add(study)
            if layer.visible and len(self._known) > 1:
                bring_to_front(viewer, study)
        self.update()

    def _arrived(self, _event: object = None) -> None:
        """Handle a new layer, which napari activates: one of a patient behind must not be painted in."""
        viewer = self._viewer()
        active = None if viewer is None else viewer.layers.selection.active
        if viewer is not None and active is not None and not active.visible:
            _activate_front(viewer, patient_in_front(viewer))

    def _camera_moved(self, event: Event) -> None:
        """Update when the camera is turned over, because only that changes the sides; the camera moves far more
        often."""
        if "orientation" in str(event.type):
            self.update()

    def update(self, _event: object = None) -> None:
        """Write the current texts."""
        viewer = self._viewer()
        if viewer is None:
            return
        self._known &= set(studies_in(viewer.layers))
        annotate(viewer)
        self._retitle()

    def _retitle(self, _event: object = None) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        parts = [self._title, patient_in_front(viewer), "not saved" if editing_of(viewer).is_unsaved else None]
        title = " – ".join(part for part in parts if part)
        if viewer.title != title:
            viewer.title = title
