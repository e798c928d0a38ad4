"""What napari and vispy work out again and again in each window, worked out once for all windows of the tests."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.utils.colormaps import DirectLabelColormap
    from npe2.manifest.schema import DiscoverResults
    from vispy.gloo import Program, Texture2D


@functools.cache
def spare_windows() -> None:
    """From now on, in this process, keep what is the same in every window.

    Each welcome screen, there or gone, writes its shortcuts anew for every shortcut of every window. Each window looks through all
    installed packages for plugins; each canvas reads the text of the same few shaders and draws the same letters; each connection of an
    event asks the same few functions for their parameters; each change of lesions' colours looks up 65,536 labels one by one; and a layer
    that goes has all garbage collected, for one driver of Windows.
    """
    from napari._qt.widgets import qt_welcome
    from napari._vispy import canvas
    from napari.utils.colormaps import DirectLabelColormap
    from napari.utils.events.event import EventEmitter
    from npe2 import PluginManifest
    from vispy.gloo import Program, glir
    from vispy.visuals.shaders.function import Function
    from vispy.visuals.text.text import SDFRendererCPU

    qt_welcome.WELCOME_SHORTCUTS = ()
    qt_welcome.NAPARI_TIPS = ("Welcome.",)
    canvas.gc = SimpleNamespace(collect=lambda: None)
    setattr(PluginManifest, "discover", _Discovered(PluginManifest.discover))  # noqa: B010 - in place of a method
    EventEmitter._check_signature = staticmethod(_Signatures(EventEmitter._check_signature))
    DirectLabelColormap._map_precast = _map_at_once
    clean = functools.cache(functools.partial(Function._clean_code, None))
    Function._clean_code = lambda _self, code: clean(code)
    glir._convert_desktop_shader = functools.cache(glir._convert_desktop_shader)
    variables = _Variables(Program._parse_variables_from_code)
    Program._parse_variables_from_code = lambda self, update_variables=True: variables(self, update_variables)
    letters = _Letters(SDFRendererCPU().render_to_texture)
    SDFRendererCPU.render_to_texture = staticmethod(letters)


class _Discovered:
    """The manifests of the installed plugins, looked for once; copies of their own each time."""

    def __init__(self, discover: Callable[[], Iterator[DiscoverResults]]) -> None:
        self._found = functools.cache(lambda: list(discover()))

    def __call__(self, paths: Sequence[str] = ()) -> Iterator[DiscoverResults]:
        assert not paths
        for each in self._found():
            yield each._replace(manifest=copy.deepcopy(each.manifest))


class _Signatures:
    """Whether a function takes an event, asked once for all functions, and all methods, of one code."""

    def __init__(self, check: Callable[[Callable[..., object]], bool]) -> None:
        self._check = check
        self._known: dict[tuple[bool, CodeType], bool] = {}

    def __call__(self, function: Callable[..., object]) -> bool:
        plain = isinstance(function, FunctionType)
        inner = function if plain else getattr(function, "__func__", getattr(type(function), "__call__", None))  # noqa: B004
        if not isinstance(inner, FunctionType) or hasattr(inner, "__wrapped__") or hasattr(function, "__signature__"):
            return self._check(function)
        key = plain, inner.__code__
        if key not in self._known:
            self._known[key] = self._check(function)
        return self._known[key]


def _map_at_once(self: DirectLabelColormap, values: NDArray[np.integer], apply_selection: bool) -> NDArray[np.float32]:
    """What `DirectLabelColormap._map_precast` gives, without asking for each of 65,536 values one by one."""
    colors = self._values_mapping_to_minimum_values_set(apply_selection)[1]
    table: NDArray[np.float32] = np.zeros((int(max(colors)) + 1, 4), np.float32)
    for value, color in colors.items():
        table[value] = color
    mapped: NDArray[np.float32] = table[values]
    return mapped


class _Variables:
    """The variables that the text of a program names, found once for each text."""

    def __init__(self, parse: Callable[[Program, bool], None]) -> None:
        self._parse = parse
        self._known: dict[tuple[str, ...], dict[str, tuple[str, str, str, int]]] = {}

    def __call__(self, program: Program, update: bool) -> None:
        text = tuple(shader.code for shader in program._shaders)
        if text not in self._known:
            self._parse(program, False)
            self._known[text] = program._code_variables
        program._code_variables = dict(self._known[text])
        if update:
            program._process_pending_variables()


class _Letters:
    """The soft outline of each letter, drawn once."""

    def __init__(self, draw: Callable[[NDArray[np.uint8], Texture2D | _Sheet, Place, Place], None]) -> None:
        self._draw = draw
        self._known: dict[tuple[bytes, Place], NDArray[np.uint8]] = {}

    def __call__(self, data: NDArray[np.uint8], texture: Texture2D, offset: Place, size: Place) -> None:
        key = hashlib.sha256(repr(data.shape).encode() + data.tobytes()).digest(), size
        if key not in self._known:
            sheet = _Sheet()
            self._draw(data, sheet, (0, 0), size)
            self._known[key] = sheet.drawn
        (left, top), (width, height) = offset, size
        texture[top : top + height, left : left + width, :] = self._known[key]


class _Sheet:
    """Stands where a texture would; keeps what is drawn on it."""

    drawn: NDArray[np.uint8]

    def __setitem__(self, _where: object, drawn: NDArray[np.uint8]) -> None:
        self.drawn = drawn


Place = tuple[int, int]
