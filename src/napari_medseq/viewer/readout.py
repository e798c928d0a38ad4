"""The values under the cursor with their units: Hounsfield units, SUV, label names; padding is named as such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from napari_medseq.progression import intensity
from napari_medseq.viewer.canvas_text import write_text
from napari_medseq.viewer.editing.active import shown_visit, visit_of
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import facts_of, series_name
from napari_medseq.volumes.padding import is_padding

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer
    from napari.utils.events import Event

_KEY = "medseq values"
_NAMES = {"hu": "HU", "suv": "SUV"}


class Unit(NamedTuple):
    """The unit of an image's values.

    Attributes
    ----------
    name : str
        "HU", "SUV", or "" if it is unknown.
    factor : float
        Factor from a voxel's value to that unit.
    """

    name: str
    factor: float


class Reading(NamedTuple):
    """The value of one layer at a place.

    Attributes
    ----------
    layer : Layer
    value : float or None
        Value in `unit`, or the number of a label; None for padding.
    unit : str
    text : str
        Text for display.
    """

    layer: Layer
    value: float | None
    unit: str
    text: str


def unit_of(image: Image) -> Unit:
    """The unit of an image's values: Hounsfield units for CT, SUV for PET if the file holds what they need."""
    facts = facts_of(image)
    if not facts or getattr(image, "rgb", False):
        return Unit("", 1.0)
    seq = from_layer(image)
    name = _NAMES.get(intensity.prefix(seq), "")
    return Unit(name, intensity.scale(seq) if name else 1.0)


def values_at(viewer: ViewerModel, position: Sequence[float] | None = None) -> list[Reading]:
    """The values of the visible images and masks at a place, from the topmost layer down.

    Parameters
    ----------
    viewer : ViewerModel
    position : sequence of float, optional
        World position; default the cursor's.

    Returns
    -------
    list of Reading
        Readings of the layers at the visit that is shown which have a voxel there; of masks only if it is not
        background.
    """
    where = tuple(viewer.cursor.position if position is None else position)
    visit = shown_visit(viewer)
    there: list[tuple[Layer, float]] = []
    for layer in reversed(list(viewer.layers)):
        kind = layer_kind(layer)
        if layer.visible and kind in ("image", "labels") and visit_of(layer) in (None, visit):
            value = _value(viewer, layer, where)
            if value is not None and (kind == "image" or value):
                there.append((layer, value))
    titles = Counter(_title(layer) for layer, _ in there if layer_kind(layer) == "image")
    return [
        _of_label(layer, value)
        if layer_kind(layer) == "labels"
        else _of_image(layer, value, _title(layer) if titles[_title(layer)] == 1 else str(layer.name))
        for layer, value in there
    ]


def _title(layer: Layer) -> str:
    """The short name of an image, which is that of its series."""
    return series_name(facts_of(layer)) or str(layer.name)


def _value(viewer: ViewerModel, layer: Layer, where: tuple[float, ...]) -> float | None:
    """The voxel at a world position of what is drawn; None if there is none."""
    if len(where) != viewer.dims.ndim or viewer.dims.ndisplay != 2 or getattr(layer, "rgb", False):
        return None
    value = layer.get_value(where, view_direction=None, dims_displayed=list(viewer.dims.displayed), world=True)
    if isinstance(value, tuple):  # multiscale: (level, value)
        value = value[1]
    return None if value is None or np.ndim(value) else float(value)


def _of_label(layer: Labels, value: float) -> Reading:
    names = layer.features
    label = int(value)
    named = ""
    if "index" in names and "name" in names and label:
        rows = names.loc[names["index"] == label, "name"]
        named = f" {rows.iloc[0]}" if len(rows) else ""
    return Reading(layer, label, "", f"label {label}{named}")


def _of_image(layer: Image, value: float, title: str) -> Reading:
    unit = _unit(layer)
    padding = is_padding(np.asarray(value), from_layer(layer)) if facts_of(layer) else None
    if padding is not None and bool(padding):
        return Reading(layer, None, unit.name, f"{title}: outside the scan (padding)")
    number = value * unit.factor
    return Reading(layer, number, unit.name, f"{title}: {number:.4g} {unit.name}".rstrip())


#: image layer → its unit, which never changes but is needed at every move of the mouse
_UNITS: WeakKeyDictionary[Layer, Unit] = WeakKeyDictionary()


def _unit(layer: Image) -> Unit:
    layer = real(layer)
    if layer not in _UNITS:
        _UNITS[layer] = unit_of(layer)
    return _UNITS[layer]


def show_values(viewer: ViewerModel, on: bool = True) -> None:
    """Write the values under the cursor in the canvas's lower left corner from now on, or (``on=False``) stop doing
    so.

    Parameters
    ----------
    viewer : ViewerModel
    on : bool
    """
    _Readout.of(viewer).show(on)


def shows_values(viewer: ViewerModel) -> bool:
    """Whether the values under the cursor are written on the canvas."""
    return _Readout.of(viewer).on


class _Readout:
    """Writes the values under the cursor of one viewer."""

    _all: ClassVar[WeakKeyDictionary[Editing, _Readout]] = WeakKeyDictionary()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self.on = False
        changed = editing_of(viewer).events.changed
        layers = viewer.layers.events
        for event in (
            viewer.cursor.events.position,
            viewer.dims.events.point,
            changed,
            layers.removed,
            layers.reordered,
            viewer.events.title,  # which changes with the patient in front
        ):
            event.connect(self.update)
        layers.inserted.connect(self._follow)
        for layer in viewer.layers:
            layer.events.visible.connect(self.update)

    @classmethod
    def of(cls, viewer: ViewerModel) -> _Readout:
        viewer = real(viewer)
        editing = editing_of(viewer)
        if editing not in cls._all:
            cls._all[editing] = cls(viewer)
        return cls._all[editing]

    def show(self, on: bool) -> None:
        self.on = on
        self.update()

    def _follow(self, event: Event) -> None:
        """Follow whether a new layer is shown."""
        event.value.events.visible.connect(self.update)
        self.update()

    def update(self, _event: object = None) -> None:
        viewer = self._viewer()
        if viewer is not None:
            text = "\n".join(reading.text for reading in values_at(viewer)) if self.on else ""
            write_text(viewer, _KEY, text, "bottom_left")
