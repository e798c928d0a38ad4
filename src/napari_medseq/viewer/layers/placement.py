"""Where layers are drawn: the axis that the viewer steps through, the slice view for it, and the true place for three
dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import SPACE
from napari_medseq.viewer.layers.conversion import true_world_matrix, turn_view
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import facts_of

if TYPE_CHECKING:
    from napari.components import Camera, ViewerModel
    from napari.layers import Layer
    from napari.utils.events import EmitterGroup


def use_world_placement(what: ViewerModel | Layer | Iterable[Layer], on: bool = True) -> list[Layer]:
    """Draw layers at their true place, as three-dimensional display needs, or (``on=False``) in the slice view again.

    Two-dimensional display of a tilted volume is not reliable while this is on.

    Parameters
    ----------
    what : ViewerModel, Layer or iterable of Layer
    on : bool

    Returns
    -------
    list of Layer
        The layers that were placed, which are those that this package made.
    """
    placed = []
    for layer in _layers_of(what):
        facts = facts_of(layer)
        if not facts or facts["display"] == "own":
            continue
        along = facts.get("along", "z")
        if on:
            true, n = np.eye(layer.ndim + 1), layer.ndim
            space = [SPACE.index(a) for a in layer.axis_labels if a in SPACE]
            world = true_world_matrix(layer)
            k = n - len(space)
            true[k:n, k:n] = world[np.ix_(space, space)]
            true[k:n, n] = world[space, 3]
            now = np.eye(n + 1)
            now[:n, :n] = layer.rotate @ _matrix(layer.shear, n) @ np.diag(layer.scale)
            now[:n, n] = layer.translate
            true[:k, :k], true[:k, n] = now[:k, :k], now[:k, n]
            layer.affine = true @ np.linalg.inv(now)
        else:
            layer.affine = np.eye(layer.ndim + 1)
            turn_view(layer, along)
        placed.append(layer)
    return placed


def step_through(viewer: ViewerModel, along: str) -> None:
    """Show slices along the axis "z", "y" or "x": sets the order of axes and the slice view of our layers, head up."""
    names = list(viewer.dims.axis_labels)
    if along not in names:
        raise MedseqError(f"The viewer has axes {', '.join(names)}, not {along!r}; open an image first.")
    s = names.index(along)
    lead = [i for i, n in enumerate(names) if n not in SPACE]
    others = [i for i, n in enumerate(names) if n in SPACE and i != s]
    order = (*lead, s, *others)
    if tuple(viewer.dims.order) != order:
        _turn_all(viewer, along)
        viewer.dims.order = order
    follow_order(viewer)


#: event emitters of the viewers whose slice views are kept in step already
_KEPT: WeakSet[EmitterGroup] = WeakSet()


def sync_slice_views(viewer: ViewerModel) -> None:
    """Place the layers of this package for the axis that is stepped through whenever the order of axes changes, from
    now on."""
    viewer = real(viewer)
    events = viewer.dims.events
    if events in _KEPT:
        return
    _KEPT.add(events)
    weak = ref(viewer)

    def changed(_event: object = None) -> None:
        alive = weak()
        if alive is not None:
            follow_order(alive)

    # napari's own callbacks always come first, so that for a rotated volume it warns once before this corrects it
    events.order.connect(changed)
    events.ndisplay.connect(changed)


def follow_order(viewer: ViewerModel) -> None:
    """Place the layers of this package for the axis that is stepped through now, and keep superior up."""
    dims = viewer.dims
    hidden = [dims.axis_labels[i] for i in dims.not_displayed if dims.axis_labels[i] in SPACE]
    if dims.ndisplay != 2 or len(hidden) != 1:
        return
    _turn_all(viewer, str(hidden[0]))
    # to keep superior up, y runs down on an axial slice and z runs up on the others
    vertical = dims.axis_labels[dims.displayed[0]]
    camera_of(viewer).orientation2d = ("up" if vertical == "z" else "down", "right")


def _turn_all(viewer: ViewerModel, along: str) -> None:
    for layer in viewer.layers:
        facts = facts_of(layer)
        if facts and facts.get("along", "z") != along:
            facts["along"] = along
            turn_view(layer, along)


def _matrix(shear: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    if shear.ndim == 2:
        return shear
    matrix = np.eye(n)
    matrix[np.triu_indices(n, 1)] = shear
    return matrix


def _layers_of(what: ViewerModel | Layer | Iterable[Layer]) -> list[Layer]:
    if hasattr(what, "layers"):
        return list(what.layers)
    return list(what) if isinstance(what, Iterable) else [what]


def step_through_slices(viewer: ViewerModel, layer: Layer) -> None:
    """Show a layer along the axis on which its slices were acquired, at its middle slice and first visit or frame."""
    along = facts_of(layer).get("shown_slice_axis", "z")
    names = list(viewer.dims.axis_labels)
    if along in names:
        step_through(viewer, along)
        step = list(viewer.dims.current_step)
        step[names.index(along)] = (viewer.dims.nsteps[names.index(along)] - 1) // 2
        viewer.dims.current_step = tuple(0 if n not in SPACE else s for n, s in zip(names, step, strict=True))
    viewer.reset_view()


def along_of(viewer: ViewerModel) -> str:
    """The spatial axis that the viewer steps through now; "z" in three dimensions."""
    dims = viewer.dims
    hidden = [dims.axis_labels[i] for i in dims.not_displayed if dims.axis_labels[i] in SPACE]
    return hidden[0] if dims.ndisplay == 2 and len(hidden) == 1 else "z"


def camera_of(viewer: ViewerModel) -> Camera:
    """The camera, which is part of the viewer's scene since napari 0.9."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
