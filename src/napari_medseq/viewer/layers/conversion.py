"""The one pair of functions that turns an `ImageSequence` into layer data and back; readers, writers, samples and
widgets share it.

A layer shows the voxels in house orientation (superior, posterior, left), so that an axial slice looks as a radiologist
expects, at the place of the *slice view* (`napari_medseq.viewer.layers.sliceview`). What a layer cannot hold itself (true
affine, true times, facts, warnings) is in ``layer.metadata["napari-medseq"]``. Nothing here needs napari itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Affine, Reorientation, spacing, to_codes
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.unread import UnreadVoxels
from napari_medseq.viewer.layers.contrast import percentile_limits
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.sliceview import SliceView, ras_affine, slice_view, world_matrix

if TYPE_CHECKING:
    from napari.layers import Layer

KEY = "napari-medseq"
LayerKind = Literal["image", "labels"]
LayerData = tuple[Any, dict[str, Any], LayerKind]

_XYZ = ("x", "y", "z")
#: sizes are rounded to multiples of this, so that napari counts slider steps exactly and never misses the last slice
_GRAIN = 2.0**-24
_JITTER = 0.01
_MOST_AXES = 4
AT_MOST = "at most frames, z, y and x can be used"


# -- to layers ---------------------------------------------------------------------------------------------------------
def to_layer_data(
    seq: ImageSequence,
    *,
    visit: int | None = None,
    facts: Mapping[str, Any] | None = None,
    along: str = "z",
    **kwargs: Any,
) -> LayerData:
    """The layer data of a sequence.

    Parameters
    ----------
    seq : ImageSequence
        The sequence; it must not have frames if `visit` is given.
    visit : int, optional
        The visit's ordinal; the layer gets a leading axis ``visit`` of length 1 at that position.
    facts : mapping, optional
        Facts of study and visit (``study``, ``visit_name``, ``date``), kept in the metadata.
    along : {"z", "y", "x"}
        The axis that the viewer steps through; napari begins with "z". `turn_view` changes it.
    **kwargs
        Any layer argument, such as ``name`` or ``colormap``, which replaces the one made here.

    Returns
    -------
    tuple of (data, kwargs, layer type)
        As napari's readers return it.

    Raises
    ------
    MedseqError
        If frames are to be shown as a visit.
    """
    turn, view = _display(seq, along)
    data = _turned(seq.data, seq.axes, turn)
    if isinstance(data, UnreadVoxels):  # napari caches the slices of a dask array that were shown
        data = data.to_dask_array()
    axes = [a for a in seq.axes if a != "c"]
    space = [SPACE.index(a) for a in axes if a in SPACE]
    lead: list[tuple[str, float, float]] = []
    if visit is not None:
        if "t" in seq.axes:
            raise MedseqError(f"{seq.name} has frames; a visit shows one volume. Choose one frame of it first.")
        data = data[np.newaxis]
        lead = [("visit", 1.0, float(visit))]
    elif "t" in seq.axes:
        assert seq.times is not None
        lead = [("t", *_uniform(seq.times))]
    k = len(lead)
    layer: dict[str, Any] = {
        "name": seq.name,
        **_placed(view, space, [step for _, step, _ in lead], [start for _, _, start in lead]),
        # napari drops all units if layers disagree on one, so that times and ordinals share that of the leading axis
        "units": ["second"] * k + ["millimeter"] * len(space),
        "axis_labels": [label for label, _, _ in lead] + [SPACE[a] for a in space],
        "metadata": {KEY: _facts(seq, turn, view, visit, facts)},
    }
    if seq.kind == "labels":
        layer["features"] = features(seq.label_names)
    else:
        layer |= _look(seq)
    layer |= kwargs
    return data, layer, seq.kind


def features(names: Mapping[int, str]) -> dict[str, list[Any]]:
    """The features table of a Labels layer, which shows each value's name; the background is always in it."""
    names = {0: "background", **names}
    values = sorted(names)
    return {"index": values, "name": [names[v] for v in values]}


def _placed(view: SliceView, space: list[int], steps: list[float], starts: list[float]) -> dict[str, Any]:
    """The layer's transform: the slice view of the spatial axes `space`, after leading axes with `steps` and
    `starts`."""
    n, k = len(steps) + len(space), len(steps)
    rotate, shear = np.eye(n), np.eye(n)
    rotate[k:, k:] = view.rotate[np.ix_(space, space)]
    shear[k:, k:] = view.shear[np.ix_(space, space)]
    return {
        "scale": steps + view.scale[space].tolist(),
        "translate": starts + view.translate[space].tolist(),
        "rotate": rotate,
        "shear": shear,
    }


def turn_view(layer: Layer, along: str) -> None:
    """Place a layer of this package so that it is drawn correctly when the viewer steps through the axis `along` ("z",
    "y" or "x")."""
    facts = layer.metadata[KEY]
    if facts["display"] == "own":  # the same place from every side
        return
    view = _view(facts["affine"], tuple(facts["grid"]), _turn_of(facts), facts["display"], along)
    axes = [a for a in layer.axis_labels if a in SPACE]
    k = layer.ndim - len(axes)
    placed = _placed(view, [SPACE.index(a) for a in axes], layer.scale[:k].tolist(), layer.translate[:k].tolist())
    with catch_warnings():
        simplefilter("ignore")  # nobody should see slices of a half-set transform
        for name, value in placed.items():
            if not np.array_equal(getattr(layer, name), value):
                setattr(layer, name, value)


def _display(seq: ImageSequence, along: str) -> tuple[Reorientation, SliceView]:
    """How the voxels are turned for display, and where they are drawn."""
    turn, how = _turn(seq)
    return turn, _view(seq.affine, seq.grid, turn, how, along)


def _turn(seq: ImageSequence) -> tuple[Reorientation, Literal["house", "own"]]:
    """The turn into house orientation; "own" if there is none, because the orientation is unknown or one slice lies in
    another plane."""
    turn = to_codes(seq.affine)
    if not seq.oriented:
        return Reorientation(), "house" if turn == Reorientation() else "own"
    if "z" not in seq.axes:
        if turn.order[2] != 2:
            return Reorientation(), "own"
        turn = Reorientation(turn.order, (turn.flips[0], turn.flips[1], False))
    return turn, "house"


def _turn_of(facts: Mapping[str, Any]) -> Reorientation:
    return Reorientation(tuple(facts["order"]), tuple(facts["flips"]))


def _view(affine: Affine, grid: tuple[int, int, int], turn: Reorientation, how: str, along: str) -> SliceView:
    if how == "own":
        return _rounded(SliceView(spacing(affine)[::-1], np.eye(3), np.eye(3), np.zeros(3), 0.0))
    size = (grid[turn.order[0]], grid[turn.order[1]], grid[turn.order[2]])
    return _rounded(slice_view(turn.apply_affine(affine, grid), size, along))


def shown_slice_axis(seq: ImageSequence) -> str:
    """The name, in the layer, of the axis along which slices were acquired."""
    return _XYZ[_turn(seq)[0].order.index(_XYZ.index(seq.slice_axis))]


def _rounded(view: SliceView) -> SliceView:
    def cut(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.round(v / _GRAIN) * _GRAIN, dtype=np.float64)

    return SliceView(cut(view.scale), view.rotate, view.shear, cut(view.translate), view.moved_voxels)


def _turned(data: Any, axes: tuple[str, ...], turn: Reorientation) -> Any:
    """`data` with its spatial axes turned: a view of a numpy array, lazily for dask."""
    order = [axes.index(_XYZ[turn.order[_XYZ.index(a)]]) if a in SPACE else i for i, a in enumerate(axes)]
    flip = [a in SPACE and turn.flips[_XYZ.index(a)] for a in axes]
    return data.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flip)]


def _uniform(times: NDArray[np.float64]) -> tuple[float, float]:
    """(step, start) of the time axis: in seconds if frames are even to 1 %, else in frames."""
    if len(times) < 2:
        return 1.0, 0.0
    steps = np.diff(times)
    mean = float(steps.mean())
    if mean <= _GRAIN or np.abs(steps - mean).max() > _JITTER * mean:
        return 1.0, 0.0
    return round(mean / _GRAIN) * _GRAIN, round(float(times[0]) / _GRAIN) * _GRAIN


def _facts(
    seq: ImageSequence, turn: Reorientation, view: SliceView, visit: int | None, facts: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        **(facts or {}),
        "visit": visit,
        "affine": np.array(seq.affine),
        "axes": list(seq.axes),
        "grid": list(seq.grid),
        "order": list(turn.order),
        "flips": list(turn.flips),
        "slice_view": view.is_tilted,
        "display": _turn(seq)[1],
        "shown_slice_axis": shown_slice_axis(seq),
        "times": None if seq.times is None else np.array(seq.times),
        "acquired": None if seq.acquired is None else seq.acquired.isoformat(),
        "slice_axis": seq.slice_axis,
        "oriented": seq.oriented,
        "kind": seq.kind,
        "name": seq.name,
        "dtype": str(seq.data.dtype),
        "modality": seq.modality,
        "label_names": dict(seq.label_names),
        "meta": deepcopy(seq.meta),
        "warnings": list(seq.warnings),
    }


def _look(seq: ImageSequence) -> dict[str, Any]:
    """Colours and contrast limits of an image."""
    if "c" in seq.axes:
        return {"rgb": True}
    limits = seq.meta.get("contrast_limits") or percentile_limits(seq)
    # stated explicitly, because napari takes three or four sagittal slices, which lie along the last axis, for colours
    return {
        "rgb": False,
        "colormap": seq.meta.get("colormap", "gray"),
        "contrast_limits": [float(v) for v in limits],
    }


# -- and back ----------------------------------------------------------------------------------------------------------
def from_layer(layer: Layer) -> ImageSequence:
    """The sequence that an Image or Labels layer shows, with its true affine.

    A layer that `to_layer_data` made gives its sequence back, with whatever was painted since. The position of any
    other layer is taken from its transform, read as LPS millimetres (other lengths are converted).

    Raises
    ------
    MedseqError
        If the layer is neither Image nor Labels.
    """
    layer_type = layer_kind(layer)
    if layer_type.endswith(" axes"):
        raise MedseqError(f"{layer.name} has {layer.ndim} axes; {AT_MOST}. Choose a part of it.")
    if layer_type not in ("image", "labels"):
        raise MedseqError(
            f"{layer.name} is a {layer_type or type(layer).__name__} layer; choose an Image or Labels layer."
        )
    kind: LayerKind = "image" if layer_type == "image" else "labels"
    facts = layer.metadata.get(KEY)
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    if facts is not None:
        if facts["visit"] is not None:
            data = data[0] if data.ndim > len(facts["axes"]) else data
        seq = _restored(layer, data, facts, kind)
        if seq is not None:
            return seq
    return _foreign(layer, kind)


def own_array(layer: Layer, data: Any) -> Any:
    """Turn an array of the shape of a layer of this package back as the sequence holds it, without the axis of
    visits."""
    facts = layer.metadata[KEY]
    axes = tuple(a for a in facts["axes"] if a != "c")
    return _turned(data[0] if data.ndim > len(axes) else data, axes, _turn_of(facts).inverse)


def layer_kind(layer: Layer) -> str:
    """The layer's type: "image", "labels" and so on, also of a proxy that napari handed to a plugin.

    Images and labels with more axes than frames, z, y and x are of a kind of their own, which nothing here works on,
    such as "image with 5 axes".
    """
    layer = real(layer)
    kind = str(getattr(layer, "_type_string", ""))
    if (
        kind in ("image", "labels")
        and layer.ndim > _MOST_AXES
        and not (layer.ndim == _MOST_AXES + 1 and str(layer.axis_labels[0]) == "visit" and layer.data.shape[0] == 1)
    ):
        return f"{kind} with {layer.ndim} axes"
    return kind


def _restored(layer: Layer, data: Any, facts: Mapping[str, Any], kind: LayerKind) -> ImageSequence | None:
    axes = tuple(facts["axes"])
    if kind == "labels":
        axes = tuple(a for a in axes if a != "c")
    if data.ndim != len(axes):
        return None
    data = _turned(data, axes, _turn_of(facts).inverse)
    sizes = dict(zip(axes, data.shape, strict=True))
    if [sizes.get(a, 1) for a in _XYZ] != facts["grid"]:
        return None
    times = facts["times"]
    if "t" in axes and (times is None or len(times) != sizes["t"]):
        return None
    if kind == facts["kind"] and data.dtype != np.dtype(facts["dtype"]) and np.dtype(facts["dtype"]).kind == "b":
        data = data.astype(bool)
    return ImageSequence(
        data,
        axes,
        facts["affine"],
        times=times,
        acquired=None if facts["acquired"] is None else datetime.fromisoformat(facts["acquired"]),
        slice_axis=facts["slice_axis"],
        oriented=facts["oriented"],
        kind=kind,
        label_names=_label_names(layer, facts) if kind == "labels" else {},
        modality=facts["modality"],
        name=facts["name"] if facts["kind"] == kind else layer.name,
        meta=deepcopy(facts["meta"]),
        warnings=tuple(facts["warnings"]),
    )


def _label_names(layer: Layer, facts: Mapping[str, Any] | None) -> dict[int, str]:
    table = layer.features
    if "name" not in table:
        return dict(facts["label_names"]) if facts else {}
    values = table["index"] if "index" in table else range(len(table))
    names = {int(v): str(name) for v, name in zip(values, table["name"], strict=True)}
    if names.get(0) == "background" and not (facts and 0 in facts["label_names"]):
        del names[0]
    return names


def _foreign(layer: Layer, kind: LayerKind) -> ImageSequence:
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    rgb = bool(getattr(layer, "rgb", False))
    labels = [str(a) for a in layer.axis_labels]
    n = layer.ndim
    if labels[:1] == ["visit"] and data.shape[0] == 1:
        data, skip = data[0], 1
    else:
        skip = 0
    space = min(3, n - skip)
    if n - skip == 3 and labels[skip] == "t":
        space = 2
    axes = ("t",) * (n - skip - space) + SPACE[3 - space :] + (("c",) if rgb else ())
    to_mm = _millimetres(layer.units[-1])
    origin = np.array(layer.data_to_world((0.0,) * n))
    matrix = np.eye(4)
    for k in range(3 - space, 3):
        at = np.zeros(n)
        at[n - 3 + k] = 1.0
        matrix[3 - space : 3, k] = (np.array(layer.data_to_world(at)) - origin)[-space:] * (to_mm or 1.0)
    matrix[3 - space : 3, 3] = origin[-space:] * (to_mm or 1.0)
    times = None
    if "t" in axes:
        step = np.zeros(n)
        step[0] = 1.0
        times = np.arange(data.shape[0]) * (np.array(layer.data_to_world(step)) - origin)[0]
    names = _label_names(layer, None) if kind == "labels" else {}
    place = ras_affine(matrix)
    return ImageSequence(
        data, axes, place, times=times, kind=kind, label_names=names, name=layer.name, oriented=to_mm is not None
    )


def _millimetres(unit: Any) -> float | None:
    """Millimetres in one `unit` (a pint unit); None if it is not a length."""
    quantity = 1.0 * unit
    return float(quantity.to("millimeter").magnitude) if quantity.check("[length]") else None


def in_millimetres(layer: Layer) -> bool:
    """Whether a layer is placed in a length, which can be converted to millimetres."""
    return _millimetres(layer.units[-1]) is not None


def layer_axis(layer: Layer, name: str) -> tuple[int | None, bool]:
    """The array axis of a layer on which an axis of its sequence (z, y, x or t) lies, and whether it runs backwards
    there."""
    facts = layer.metadata.get(KEY)
    labels = [str(a) for a in layer.axis_labels]
    flipped = False
    if facts is not None and name in SPACE:
        new = facts["order"].index(_XYZ.index(name))
        name, flipped = _XYZ[new], bool(facts["flips"][new])
    return (labels.index(name) if name in labels else None), flipped


def in_layer(layer: Layer, points: Any) -> NDArray[np.float64]:
    """Positions in a layer's data of points of the sequence that it shows.

    Parameters
    ----------
    layer : Layer
    points : (n, k) array
        Voxels along the sequence's own space axes, in their order.

    Returns
    -------
    (n, layer.ndim) array
        0 along axes before those of space: visit or frame.
    """
    points = np.asarray(points, dtype=np.float64)
    facts = layer.metadata.get(KEY)
    out = np.zeros((len(points), layer.ndim))
    if facts is None:
        out[:, layer.ndim - points.shape[1] :] = points
        return out
    turn = _turn_of(facts)
    own = [a for a in facts["axes"] if a in SPACE]
    for k, axis in enumerate(a for a in facts["axes"] if a in SPACE):
        source = turn.order[_XYZ.index(axis)]
        at = points[:, own.index(_XYZ[source])]
        column = layer.ndim - len(own) + k
        out[:, column] = facts["grid"][source] - 1 - at if turn.flips[_XYZ.index(axis)] else at
    return out


def true_world_matrix(layer: Layer) -> NDArray[np.float64]:
    """The true transform (not the slice view) of a layer of this package: 4×4, index in ``layer.data`` (z, y, x) →
    world (S, P, L) in mm."""
    facts = layer.metadata[KEY]
    gx, gy, gz = facts["grid"]
    return world_matrix(_turn_of(facts).apply_affine(np.asarray(facts["affine"]), (gx, gy, gz)))


def visit_date(facts: Mapping[str, Any]) -> date | None:
    """The date of a visit's layer, from its metadata."""
    return None if facts.get("date") is None else date.fromisoformat(facts["date"])
