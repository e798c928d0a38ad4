"""Text on a viewer's canvas that is readable over any image and in both themes; no Qt.

Making a text is far more expensive than changing it, because napari creates a drawing for each and the graphics card a
program. A window may therefore have its texts made one at a time (`pace`), so that the first image does not wait for
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal
from weakref import WeakKeyDictionary, WeakMethod, ref

from napari_medseq.viewer.layers.proxies import real

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.utils.events import EmitterGroup

#: position of a text, in napari's words
Place = Literal["top_left", "bottom_left", "top_center", "bottom_center", "middle_left", "middle_right"]
#: calls a function soon, after those that it was given before
Later = Callable[[Callable[[], None]], None]

#: dark enough to be read over the white canvas of the light theme, too
_INK, _PAPER = (1.0, 0.9, 0.5, 1.0), (0.0, 0.0, 0.0, 0.75)
_SIZE = 10


def write_text(viewer: ViewerModel, key: str, text: str, place: Place) -> None:
    """Show a text on the canvas, or change the one that is there; an empty one is hidden.

    Parameters
    ----------
    viewer : ViewerModel
    key : str
        Key of the text among napari's overlays.
    text : str
    place : str
        Position on the canvas. napari before 0.9 has a single text for the whole canvas: the one at ``top_left``.
    """
    _Texts.of(viewer).write(key, text, place)


def pace(viewer: ViewerModel, later: Later) -> None:
    """Hand the making of each text to `later` from now on, which lets a window make them one at a time.

    Parameters
    ----------
    viewer : ViewerModel
    later : bound method
        Held weakly; texts are made at once again when its window is gone.
    """
    _Texts.of(viewer).later = WeakMethod(later)


def _take_box_from_brush(viewer: ViewerModel) -> None:
    """Remove the box behind the brush's text, which would stay on the image as a square where the brush was last."""
    canvas = getattr(viewer, "canvas", None)
    brush = None if canvas is None else canvas.overlays.get("_brush_circle")
    if brush is not None:
        brush.box = False


class _Texts:
    """The texts of one viewer; `later`, if there is one, makes each of them soon."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self._wanted: dict[str, tuple[str, Place]] = {}
        self.later: WeakMethod[Later] | None = None

    #: by the events of their viewers, because viewers themselves cannot be hashed
    _all: ClassVar[WeakKeyDictionary[EmitterGroup, _Texts]] = WeakKeyDictionary()

    @classmethod
    def of(cls, viewer: ViewerModel) -> _Texts:
        """The texts of a viewer."""
        viewer = real(viewer)
        texts = cls._all.get(viewer.dims.events)
        if texts is None:
            texts = cls._all[viewer.dims.events] = cls(viewer)
            _take_box_from_brush(viewer)
        return texts

    def write(self, key: str, text: str, place: Place) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        canvas = getattr(viewer, "canvas", None)
        if canvas is None:
            if place == "top_left":
                overlay = viewer.text_overlay
                overlay.text, overlay.visible, overlay.position = text, bool(text), place
            return
        overlay = canvas.overlays.get(key)
        if overlay is not None:
            if overlay.text != text:
                overlay.text = text
            if overlay.visible != bool(text):
                overlay.visible = bool(text)
            return
        waits = bool(self._wanted.get(key, ("",))[0])
        self._wanted[key] = text, place
        later = None if self.later is None else self.later()
        if later is None:
            self._make(key)
        elif text and not waits:
            later(lambda: self._make(key))

    def _make(self, key: str) -> None:
        """Make the text as it is needed at this moment."""
        viewer = self._viewer()
        text, place = self._wanted.pop(key, ("", "top_left"))
        if viewer is None or not text:
            return
        from napari.components.overlays import TextOverlay

        overlay = viewer.canvas.overlays[key] = TextOverlay(text=text, position=place, font_size=_SIZE)
        # napari draws only a colour that is set after the canvas knows the text
        overlay.color, overlay.box_color, overlay.visible = _INK, _PAPER, True
