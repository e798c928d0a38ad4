"""How images and masks that are opened together are shown: one image in front, PET over it, one colour per structure.

Otherwise each image would cover those below it, and all masks would have the same red. A hidden layer is shown again
by a click on its eye.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medseq.colours import lesion_colour
from napari_medseq.errors import ReadError
from napari_medseq.geometry import apply_points, corners
from napari_medseq.viewer.layers.conversion import KEY, LayerData

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.utils.colormaps.colormap import LabelColormapBase
    from numpy.typing import NDArray

Colour = tuple[float, ...]

#: functional modalities, which are shown as a glow over an anatomical image
_GLOWS = frozenset({"PT", "NM"})
#: a NIfTI file does not state its modality, but its name may
_GLOW_NAME = re.compile(r"(^|[^a-z])(pet|pt|suv|spect)([^a-z]|$)", re.IGNORECASE)
#: the order of preference among the modalities of a visit
_FIRST = ("CT", "MR")
_GREY = (0.6, 0.6, 0.6, 1.0)
#: the number of values of a mask without names that get different colours
_MOST = 49
#: colours nearer than this (of √3) look alike
_ALIKE = 0.2


def arranged(data: Sequence[LayerData]) -> list[LayerData]:
    """The same layers, ordered and styled so that each visit can be read at once.

    One image of each visit is shown: the first of CT, MR and others that is there, the same series at every visit
    where possible, and preferably one with a mask. PET and SPECT glow over it where they cover the same place. The
    other images are hidden, together with the masks on their grids, or on the grid of several images with those that are called after
    them (``ES_labels`` after ``ES``). Each structure has a colour of its own, the same
    at every visit; it is the file's colour unless another structure uses it.
    """
    visits: dict[tuple[str | None, int | None], list[LayerData]] = {}
    for item in data:
        facts = _facts(item)
        visits.setdefault((facts.get("study"), facts.get("ordinal")), []).append(item)
    common = [_short(item) for item in data]
    out: list[LayerData] = []
    for members in visits.values():
        out += _one_visit(members, common, len(visits) > 1)
    _colour(out)
    return out


def _one_visit(members: Sequence[LayerData], common: Sequence[str], several: bool) -> list[LayerData]:
    images = [m for m in members if m[2] == "image"]
    masks = [m for m in members if m[2] == "labels"]
    if not images:
        return list(masks)

    def rank(item: LayerData) -> tuple[float, ...]:
        modality = _facts(item)["modality"]
        return (
            _glows(item),
            _FIRST.index(modality) if modality in _FIRST else len(_FIRST),
            # frames share the slider of the visits, so that a volume is preferred where there are several visits
            several and "t" in _facts(item)["axes"],
            -common.count(_short(item)),
            not any(_same_grid(item, mask) for mask in masks),
        )

    base, *others = sorted(images, key=rank)
    over = next((k for k, o in enumerate(others) if _glows(o) and not _glows(base) and _overlap(base, o)), len(others))
    glowing, hidden = others[over : over + 1], others[:over] + others[over + 1 :]
    for item in hidden:
        item[1]["visible"] = False
    for item in glowing:
        low, high = item[1]["contrast_limits"]
        item[1].update(
            blending="additive", opacity=0.7, contrast_limits=[max(low, 0.0), high], interpolation2d="linear"
        )
        if item[1]["colormap"] == "gray":
            item[1]["colormap"] = "inferno"
    for mask in masks:
        owners = [o for o in images if _same_grid(o, mask)]
        named = [o for o in owners if _is_called_after(mask, o)] or owners
        mask[1]["visible"] = not named or any(o is base for o in named)
        if glowing:
            mask[1]["opacity"] = 0.4
    # napari makes the last layer the active one, so it must be visible
    return [base, *hidden, *glowing, *sorted(masks, key=lambda mask: mask[1]["visible"])]


def _facts(item: LayerData) -> dict[str, Any]:
    facts: dict[str, Any] = item[1]["metadata"][KEY]
    return facts


def _short(item: LayerData) -> str:
    """The name of a series without that of its patient and visit."""
    facts = _facts(item)
    name = str(facts["name"]).removeprefix(f"{facts.get('study')}_")
    return name.removeprefix(f"{facts.get('visit_name')}_")


def _is_called_after(mask: LayerData, image: LayerData) -> bool:
    """Whether the name of a mask is that of an image with something behind it."""
    name, own = _short(mask).casefold(), _short(image).casefold()
    return bool(own) and name.startswith(own) and not name[len(own) : len(own) + 1].isalnum()


def _glows(item: LayerData) -> bool:
    facts = _facts(item)
    if item[1].get("rgb"):
        return False
    return facts["modality"] in _GLOWS or (facts["modality"] is None and bool(_GLOW_NAME.search(_short(item))))


def _same_grid(one: LayerData, other: LayerData) -> bool:
    a, b = _facts(one), _facts(other)
    return bool(a["grid"] == b["grid"] and np.allclose(a["affine"], b["affine"], atol=1e-3))


def _overlap(one: LayerData, other: LayerData) -> bool:
    """Whether the bounding boxes of two images share at least half of the smaller one."""
    a, b = _facts(one), _facts(other)
    if not (a["oriented"] and b["oriented"]):
        return False
    (low, high), (low2, high2) = _box(a), _box(b)
    shared = np.clip(np.minimum(high, high2) - np.maximum(low, low2), 0, None)
    smaller = min(np.prod(high - low), np.prod(high2 - low2))
    return bool(np.prod(shared) >= 0.5 * smaller)


def _box(facts: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    world = apply_points(facts["affine"], corners(facts["grid"], outer=True))
    return world.min(axis=0), world.max(axis=0)


# -- colours of masks --------------------------------------------------------------------------------------------------
def _colour(data: Iterable[LayerData]) -> None:
    """Give each structure its colour; the same name in the same mask is the same structure at every visit."""
    colours: dict[tuple[object, ...], dict[int, Colour]] = {}
    used_colours: list[Colour] = []
    for item in data:
        if item[2] != "labels" or "colormap" in item[1]:
            continue
        facts = _facts(item)
        names = facts["label_names"]
        structure = (facts.get("study"), _short(item), *names.items())
        if structure not in colours:
            colours[structure] = distinct_colours(names, facts["meta"].get("colors", {}), used_colours)
            used_colours += colours[structure].values()
        item[1]["colormap"] = mask_colormap(colours[structure])


def distinct_colours(
    names: Mapping[int, str], preferred: Mapping[int, Sequence[float]], used_colours: Sequence[Colour]
) -> dict[int, Colour]:
    """A colour for each value of a mask (1 if it has no names) that differs clearly from those already used.

    Parameters
    ----------
    names : mapping of value to name
    preferred : mapping of value to (r, g, b), 0 to 1
        Colours that the file asks for; they are used where no other structure has them.
    used_colours : sequence of colours
    """
    out: dict[int, Colour] = {}
    offers = [lesion_colour(k) for k in range(1, 1 + _MOST)]
    for value in sorted(v for v in names if v != 0) or [1]:
        used = [*used_colours, *out.values()]
        preferences = [(*map(float, list(preferred[value])[:3]), 1.0)] if value in preferred else []
        free = (c for c in (*preferences, *offers) if all(_apart(c, u) > _ALIKE for u in used))
        out[value] = next(free, offers[len(used) % _MOST])
    return out


def mask_colormap(colours: Mapping[int, Colour]) -> LabelColormapBase:
    """A colormap for a Labels layer: the given colours, and others for further values."""
    from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap

    first = min(colours)
    if len(colours) == 1 and first <= _MOST:
        # values without names all get different colours, however many there are
        others = [lesion_colour(k) for k in range(1, 4 * _MOST) if _apart(lesion_colour(k), colours[first]) > 0.05]
        ring: list[Colour] = [*others[: _MOST - 1]]
        ring.insert(first - 1, colours[first])
        return CyclicLabelColormap(colors=np.array([(0.0, 0.0, 0.0, 0.0), *ring]))
    others = [lesion_colour(k) for k in range(1, 1 + _MOST)]
    table: dict[int | None, Colour] = {None: _GREY, 0: (0.0, 0.0, 0.0, 0.0)}
    table.update(enumerate(others, start=1))
    table.update(colours.items())
    return DirectLabelColormap(color_dict=table)


def colour_facts(layer: Labels) -> dict[str, object]:
    """The colours of a Labels layer in a form that `colormap_of_facts` turns back, for a session."""
    from napari.utils.colormaps import DirectLabelColormap

    colormap = layer.colormap
    if isinstance(colormap, DirectLabelColormap):
        table = colormap.color_dict.items()
        return {"table": [(value, [float(c) for c in colour]) for value, colour in table]}
    return {"ring": np.asarray(colormap.colors, np.float64), "seed": float(colormap.seed)}


def colormap_of_facts(facts: Mapping[str, Any]) -> LabelColormapBase:
    """The colormap that `colour_facts` described.

    Raises
    ------
    ReadError
        If it is no such description.
    """
    from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap

    try:
        if "table" in facts:
            table = {None if v is None else int(v): tuple(map(float, colour)) for v, colour in facts["table"]}
            return DirectLabelColormap(color_dict=table)
        return CyclicLabelColormap(colors=np.asarray(facts["ring"], np.float64), seed=float(facts["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError(f"The colours of a mask cannot be read: {error}.") from error


def colours_in_use(layers: Iterable[Layer]) -> list[Colour]:
    """The colours in Labels layers of the values that have a name, or of 1 where none has."""
    out: list[Colour] = []
    for layer in layers:
        facts = layer.metadata.get(KEY) or {}
        values = [v for v in facts.get("label_names", ()) if v != 0] or [1]
        out += [tuple(float(c) for c in colour) for v in values[:_MOST] if (colour := layer.get_color(v)) is not None]
    return out


def _apart(one: Colour, other: Colour) -> float:
    return float(np.linalg.norm(np.subtract(one[:3], other[:3])))
