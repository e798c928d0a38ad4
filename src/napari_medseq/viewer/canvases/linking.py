"""Linked canvases that show the same place: when one is moved, zoomed or pointed at, the others follow, each on its
own grid.

Canvases share a place in the patient (in the common millimetres of the visits), not a slice number, so that visits
with other slices, other spacings and a registration between them stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.geometry import Affine
from napari_medseq.sequence import SPACE
from napari_medseq.viewer.canvases.twins import Connections
from napari_medseq.viewer.layers.placement import camera_of
from napari_medseq.viewer.layers.positions import Place, frame_at, frame_share, moved, place_of, shown_at

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


@dataclass(frozen=True, eq=False)
class View:
    """One of the linked canvases.

    Attributes
    ----------
    viewer : ViewerModel
    anchor : callable
        Gives the layer through whose voxels places are found; None while there is none.
    to_common : callable
        Gives the 4×4 matrix from RAS+ mm of what is shown to common RAS+ mm.
    """

    viewer: ViewerModel
    anchor: Callable[[], Layer | None]
    to_common: Callable[[], Affine]


@dataclass(frozen=True, eq=False)
class Shown:
    """What a canvas shows: the place, the position within the frames, and the zoom."""

    place: Place
    frame: float | None
    zoom: float


class Linked:
    """Links canvases; the first of `views` is the one whose sliders the user sees.

    Parameters
    ----------
    views : sequence of View
    by_centre : bool
        Share the centre of the canvas, for canvases that show one plane; otherwise share the point of the sliders,
        where three planes cross.

    Attributes
    ----------
    pointed : list of callable
        Called with the view under the mouse and the place it points at, in common mm.
    """

    def __init__(self, views: Sequence[View], *, by_centre: bool) -> None:
        self.views, self.by_centre = list(views), by_centre
        self.pointed: list[Callable[[View, Place], None]] = []
        self._quiet = False
        self._links = Connections()
        for view in self.views:
            self._watch(view)

    def _watch(self, view: View) -> None:
        dims, camera = view.viewer.dims, camera_of(view.viewer)
        self._links.connect(dims.events.point, lambda _event: self.follow(view))
        self._links.connect(camera.events.zoom, lambda _event: self.follow(view))
        if self.by_centre:
            self._links.connect(camera.events.center, lambda _event: self.follow(view))
        self._links.connect(view.viewer.cursor.events.position, lambda _event: self._points(view))

    def close(self) -> None:
        """Unlink the canvases."""
        self._links.close()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Suspend the links within this context."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def shown(self, view: View) -> Shown | None:
        """What a canvas shows now; None if it has no layer whose position is known."""
        anchor = view.anchor()
        if anchor is None:
            return None
        dims, camera = view.viewer.dims, camera_of(view.viewer)
        point = [float(v) for v in dims.point]
        if self.by_centre and dims.ndisplay == 2:
            for axis, value in zip(dims.displayed, camera.center[-2:], strict=True):
                point[axis] = float(value)
        place = moved(view.to_common(), place_of(anchor, point))
        return Shown(place, frame_share(anchor, point), float(camera.zoom))

    def follow(self, source: View) -> None:
        """Let all other canvases show what `source` shows."""
        if self._quiet:
            return
        shown = self.shown(source)
        if shown is None:
            return
        with self.quiet():
            for view in self.views:
                if view is not source:
                    self.show(view, shown, source)

    def show(self, view: View, shown: Shown, source: View | None = None) -> None:
        """Let one canvas show a place."""
        anchor = view.anchor()
        if anchor is None:
            return
        dims, camera = view.viewer.dims, camera_of(view.viewer)
        own = moved(view.to_common(), shown.place, back=True)
        at = shown_at(anchor, own)
        names = [str(a) for a in dims.axis_labels]
        if shown.frame is not None and "t" in names:
            frame = frame_at(anchor, shown.frame)
            at |= {} if frame is None else {"t": frame}
        if (
            source is not None and not self.by_centre
        ):  # these canvases show the same layers in other planes, so the slider of visits is shared too
            source_axes = [str(a) for a in source.viewer.dims.axis_labels]
            at |= {n: float(source.viewer.dims.point[k]) for k, n in enumerate(source_axes) if n not in (*SPACE, "t")}
        axes = [k for k, name in enumerate(names) if name in at]
        point = np.array(dims.point)
        point[axes] = [at[names[k]] for k in axes]
        if not np.allclose(point, dims.point, atol=1e-9):
            dims.point = tuple(point)
        if self.by_centre and dims.ndisplay == 2:
            middle = [at.get(names[k], c) for k, c in zip(dims.displayed, camera.center[-2:], strict=True)]
            centre = (*camera.center[:-2], *middle)
            if not np.allclose(centre, camera.center, atol=1e-9):
                camera.center = centre
        if camera.zoom != shown.zoom:
            camera.zoom = shown.zoom

    def _points(self, view: View) -> None:
        anchor = view.anchor()
        if anchor is None or self._quiet or not view.viewer.mouse_over_canvas:
            return
        position = view.viewer.cursor.position
        if len(position) != view.viewer.dims.ndim:
            return
        place = moved(view.to_common(), place_of(anchor, position))
        for callback in self.pointed:
            callback(view, place)
