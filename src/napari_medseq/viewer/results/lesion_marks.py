"""Marks beside tracked lesions: their two diameters on the slice where they were measured, and their numbers on every
slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.geometry import apply_points
from napari_medseq.progression.components import Lesion
from napari_medseq.progression.shape import diameters
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.viewer.layers.conversion import KEY, in_layer
from napari_medseq.viewer.layers.studies import DIAMETERS, NUMBERS, facts_of
from napari_medseq.viewer.results.followed import Followed, result_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

#: readable over any image and mask, and in both themes
_INK = (1.0, 0.8, 0.0, 1.0)
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def show_diameters(viewer: ViewerModel, study: str | None = None) -> list[Layer]:
    """Draw the longest diameter of each lesion, and the longest one perpendicular to it, on the slice where they were
    measured.

    They are the diameters in the table of the result that is shown; layers that were drawn before are replaced.

    Parameters
    ----------
    viewer : ViewerModel
    study : str, optional
        The study whose lesions are meant, if there are results of several patients.

    Returns
    -------
    list of Layer
        A Shapes layer per visit that has lesions.

    Raises
    ------
    MedseqError
        If no lesions are followed.
    """
    followed = result_of(viewer, study)
    hide_marks(viewer, DIAMETERS, followed.source.name)
    added = []
    for layer, seq, lesions in _by_visit(followed):
        lines: list[NDArray[np.float64]] = []
        features: dict[str, list[object]] = {"lesion": [], "mm": [], "text": []}
        for identity, lesion in lesions:
            measured = diameters(lesion)
            pair = ((measured.longest_mm, measured.ends), (measured.perpendicular_mm, measured.perpendicular_ends))
            for k, (mm, ends) in enumerate(pair):
                lines.append(in_layer(layer, _voxels(seq, ends)))
                text = f"{measured.longest_mm:.1f} × {measured.perpendicular_mm:.1f} mm" if k == 0 else ""
                for name, value in (("lesion", identity), ("mm", mm), ("text", text)):
                    features[name].append(value)
        look = {
            "shape_type": "line", "edge_color": [_INK], "edge_width": 0.8, "features": features,
            "text": {"string": "{text}", "color": _INK, "anchor": "upper_left", "size": 10},
        }  # fmt: skip
        added.append(_add(viewer, layer, lines, look, "shapes", DIAMETERS))
    return added


def show_numbers(viewer: ViewerModel, study: str | None = None) -> list[Layer]:
    """Write the number of each lesion into every slice that it reaches; see `show_diameters`.

    Returns
    -------
    list of Layer
        A Points layer per visit that has lesions.

    Raises
    ------
    MedseqError
        If no lesions are followed.
    """
    followed = result_of(viewer, study)
    hide_marks(viewer, NUMBERS, followed.source.name)
    added = []
    for layer, _seq, lesions in _by_visit(followed):
        places = [_in_each_slice(lesion) for _, lesion in lesions]
        numbers = [identity for (identity, _), at in zip(lesions, places, strict=True) for _ in at]
        look = {
            "size": 1, "face_color": "transparent", "border_color": "transparent", "features": {"lesion": numbers},
            "text": {"string": "{lesion}", "color": _INK, "size": 12},
        }  # fmt: skip
        added.append(_add(viewer, layer, in_layer(layer, np.concatenate(places)), look, "points", NUMBERS))
    return added


def hide_marks(viewer: ViewerModel, role: str | None = None, study: str | None = None) -> None:
    """Remove drawn diameters and numbers; `role` and `study` restrict which."""
    roles = (DIAMETERS, NUMBERS) if role is None else (role,)
    for layer in list(viewer.layers):
        facts = facts_of(layer)
        if facts.get("role") in roles and study in (None, facts.get("study")):
            viewer.layers.remove(layer)


def shows_marks(viewer: ViewerModel, role: str, study: str | None) -> bool:
    """Whether diameters or numbers (`role`) of a study's lesions are drawn."""
    facts = [facts_of(layer) for layer in viewer.layers]
    return any(f.get("role") == role and f.get("study") == study for f in facts)


def _by_visit(followed: Followed) -> list[tuple[Labels, ImageSequence, list[tuple[int, Lesion]]]]:
    """Each layer of a result that has lesions, with its labels and its lesions by identity."""
    graph = followed.progression.graph
    out = []
    for visit, (layer, seq) in zip(followed.visits, followed.shown, strict=True):
        lesions_here = [
            (i, graph.lesions[k]) for k, i in graph.identities.items() if k[0] == visit and k not in graph.excluded
        ]
        if lesions_here:
            out.append((layer, seq, sorted(lesions_here, key=lambda item: item[0])))
    return out


def _voxels(seq: ImageSequence, ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points in the visit's RAS mm as voxels along the sequence's own spatial axes, in their order."""
    xyz = apply_points(np.asarray(np.linalg.inv(seq.affine), np.float64), ends)
    return np.stack([xyz[:, "xyz".index(axis)] for axis in seq.axes if axis in SPACE], axis=1)


def _in_each_slice(lesion: Lesion) -> NDArray[np.float64]:
    """For each slice of a lesion the voxel (z, y, x) that is nearest to its centre there."""
    axis = SPACE.index(lesion.slice_axis)
    places = []
    for number in np.unique(lesion.index[:, axis]):
        inside = lesion.index[lesion.index[:, axis] == number].astype(np.float64)
        places.append(inside[((inside - inside.mean(axis=0)) ** 2).sum(axis=1).argmin()])
    return np.array(places)


def _add(viewer: ViewerModel, beside: Labels, data: object, look: dict[str, object], kind: str, role: str) -> Layer:
    """Add a layer at the place of a mask; the mask stays the active layer."""
    from napari.layers import Layer

    active = viewer.layers.selection.active
    place = {name: getattr(beside, name) for name in _PLACE}
    facts = {**facts_of(beside), "role": role}
    name = f"{beside.name.removesuffix(' lesions')} {role}"
    layer = viewer.add_layer(
        Layer.create(data, {**look, **place, "opacity": 1.0, "name": name, "metadata": {KEY: facts}}, kind)
    )
    viewer.layers.selection.active = active
    return layer
