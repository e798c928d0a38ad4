"""Visits side by side, three planes of one visit, and the change between two visits as a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Affine
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.alignments import hand_alignment
from napari_medseq.viewer.canvases.pane import PanePlan, anchor_among
from napari_medseq.viewer.canvases.panes import Panes, open_panes
from napari_medseq.viewer.editing.active import visit_of
from napari_medseq.viewer.identity import patient_in_front
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.results.followed import results_of
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: the number of canvases that fit on a screen
MOST_PANES = 6
#: how the visits are placed: by the result's registration, by patient coordinates, or with the centres of the images together
Placing = Literal["auto", "registered", "as they lie", "centres"]


def visits_open(viewer: ViewerModel, study: str | None = None) -> dict[int, str]:
    """Ordinal → title (number and date) of each visit of a study that has layers here; by default of the patient in
    front."""
    name = study or patient_in_front(viewer)
    study_layers = [layer for layer in viewer.layers if name and _studies.facts_of(layer).get("study") == name]
    first = {
        int(f["ordinal"]): f for f in (_studies.facts_of(layer) for layer in reversed(study_layers)) if "ordinal" in f
    }
    return {k: ", ".join(p for p in (f"visit {k + 1}", first[k].get("date") or "no date") if p) for k in sorted(first)}


def exams_open(viewer: ViewerModel) -> list[list[Layer]]:
    """Exams that are open without a study, such as two dynamic series: each image with the masks on its grid."""
    free = [layer for layer in viewer.layers if not _studies.facts_of(layer).get("study")]
    images = [layer for layer in free if _layers.layer_kind(layer) == "image"]
    masks = [layer for layer in free if _layers.layer_kind(layer) == "labels"]
    grids = {id(layer): _layers.from_layer(layer) for layer in (*images, *masks)} if masks else {}
    exams: list[list[Layer]] = [[image] for image in images]
    for mask in masks:  # a mask belongs to the last image on its grid before it, because the two were opened together
        at = list(viewer.layers).index(mask)
        fitting = [
            exam
            for exam in exams
            if grids[id(exam[0])].same_grid(grids[id(mask)]) and list(viewer.layers).index(exam[0]) < at
        ]
        if fitting:
            fitting[-1].append(mask)
    return exams


def side_by_side(
    viewer: ViewerModel,
    visits: Sequence[int] | None = None,
    *,
    study: str | None = None,
    exams: Sequence[Sequence[Layer]] | None = None,
    placing: Placing = "auto",
    windows: Literal["alike", "equal", "free"] = "alike",
) -> Panes:
    """Show visits side by side, linked in slice, frame, zoom, cursor and window, with their masks and tracked lesions.

    The layers of a pane share their voxels with the viewer's layers of that visit: painting in a pane paints in that
    visit's mask, and the viewer's undo takes it back.

    Parameters
    ----------
    viewer : ViewerModel
    visits : sequence of int, optional
        Two to six ordinals, from 0; by default all visits, or the first and the last five if there are more than six.
    study : str, optional
        The patient; by default the one in front.
    exams : sequence of sequence of Layer, optional
        The layers of each exam, instead of visits of a study; for example two dynamic series that were opened by
        themselves.
    placing : {"auto", "registered", "as they lie", "centres"}
        How a place at one visit is found at another: by the registration of the result that is shown; by the patient
        coordinates as they are; with the centres of the images together. "auto" means registered if there is a result,
        else as they lie if the images overlap, else by centres.
    windows : {"alike", "equal", "free"}
        Whether grey levels are linked: "equal" gives all images the same limits; "alike" does so for CT and PET only,
        and changes those of other images by the same share.

    Returns
    -------
    Panes

    Raises
    ------
    MedseqError
        If there are fewer than two or more than six visits, or one has no image or mask.
    """
    if exams is not None:
        plans = _exam_plans(exams, placing)
        return open_panes(viewer, "visits", plans, windows=windows)
    name = study or patient_in_front(viewer)
    titles = visits_open(viewer, name)
    if visits is None:
        every = list(titles)
        visits = every if len(every) <= MOST_PANES else [every[0], *every[-(MOST_PANES - 1) :]]
    _check_number(len(visits))
    unknown = [v + 1 for v in visits if v not in titles]
    if unknown or name is None:
        raise MedseqError(
            f"{name or 'The viewer'} has no open visit{' ' + ', '.join(map(str, unknown)) if unknown else ''}."
        )
    if len(set(visits)) < len(visits):
        raise MedseqError("A visit is named twice. Choose different ones.")
    anchors = [anchor_among(_of_visit(viewer, name, v)) for v in visits]
    missing = [v + 1 for v, anchor in zip(visits, anchors, strict=True) if anchor is None]
    if missing:
        raise MedseqError(f"Visit {missing[0]} has neither image nor mask to show. Choose another one.")
    worlds = _worlds(viewer, name, visits, [a for a in anchors if a is not None], placing)
    plans = [PanePlan(titles[v], _shows(name, v), v, world) for v, world in zip(visits, worlds, strict=True)]
    return open_panes(viewer, "visits", plans, visits=len(titles), windows=windows)


def orthogonal(viewer: ViewerModel) -> Panes:
    """Show the axial, coronal and sagittal planes of the viewer's layers, with lines where they cross.

    A click in one plane moves the others to that place; the sliders of visits and frames move all three.

    Raises
    ------
    MedseqError
        If there is no volume.
    """
    names = [str(a) for a in viewer.dims.axis_labels]
    if not {"z", "y", "x"} <= set(names) or anchor_among(list(viewer.layers)) is None:
        raise MedseqError("Three planes need a volume with axes z, y and x. Open one first.")
    planes = {"z": "axial", "y": "coronal", "x": "sagittal"}
    plans = [PanePlan(title, _is_drawn, along=along) for along, title in planes.items()]
    return open_panes(viewer, "planes", plans)


# -- which layers, and where -------------------------------------------------------------------------------------------
def _check_number(count: int) -> None:
    if not 2 <= count <= MOST_PANES:
        raise MedseqError(f"{how_many(count, 'visit')} cannot be shown side by side; choose two to {MOST_PANES}.")


def _shows(study: str, ordinal: int) -> Callable[[Layer], bool]:
    def shows(layer: Layer) -> bool:
        facts = _studies.facts_of(layer)
        return facts.get("study") == study and facts.get("ordinal") == ordinal

    return shows


def _is_among(layers: Sequence[Layer]) -> Callable[[Layer], bool]:
    members = {id(layer) for layer in layers}
    return lambda layer: id(layer) in members


def _is_drawn(layer: Layer) -> bool:
    return _layers.layer_kind(layer) in ("image", "labels", "points", "shapes")


def _of_visit(viewer: ViewerModel, study: str, ordinal: int) -> list[Layer]:
    shows = _shows(study, ordinal)
    return [layer for layer in viewer.layers if shows(layer)]


def _exam_plans(exams: Sequence[Sequence[Layer]], placing: Placing) -> list[PanePlan]:
    _check_number(len(exams))
    anchors = [anchor_among(list(exam)) for exam in exams]
    if any(anchor is None for anchor in anchors):
        raise MedseqError("Each exam needs an image or a mask. Choose its layers.")
    anchored = [a for a in anchors if a is not None]
    places = _placed(anchored, "centres" if placing == "registered" else placing)
    plans = []
    for exam, anchor, world in zip(exams, anchored, places, strict=True):
        plans.append(PanePlan(anchor.name, _is_among(exam), visit_of(anchor), world))
    return plans


def _worlds(
    viewer: ViewerModel, study: str, visits: Sequence[int], anchors: Sequence[Layer], placing: Placing
) -> list[Affine]:
    """For each visit the matrix from its RAS+ mm to common RAS+ mm."""
    if placing in ("auto", "registered"):
        worlds = worlds_of(viewer, study)
        if all(v in worlds for v in visits):
            return [worlds[v] for v in visits]
    if placing == "registered":
        raise MedseqError(
            f"The visits of {study} are not registered yet. Follow lesions first, or place them as they lie."
        )
    return _placed(anchors, placing)


def worlds_of(viewer: ViewerModel, study: str) -> dict[int, Affine]:
    """For each visit whose position is known the matrix from its RAS+ mm to those of the first visit, by ordinal.

    An alignment made by hand takes precedence over that of the result that is shown; the first visit has the identity.
    """
    followed, worlds = results_of(viewer).get(study), {0: geometry.as_affine(np.eye(4))}
    if followed is not None:
        known = {ordinal: followed.progression.to_common(k) for k, ordinal in enumerate(followed.places)}
        to_first = np.linalg.inv(
            known.get(0, np.eye(4))
        )  # the first visit may be another one than when lesions were followed
        worlds |= {ordinal: geometry.as_affine(to_first @ world) for ordinal, world in known.items()}
    for ordinal in visits_open(viewer, study):
        hand = hand_alignment(viewer, study, ordinal)
        if hand is not None:
            worlds[ordinal] = hand.to_first
    return worlds


def image_of(viewer: ViewerModel, study: str, visit: int, like: ImageSequence | None = None) -> ImageSequence:
    """The image of a visit: the one on a mask's grid, else the first visible one.

    Raises
    ------
    MedseqError
        If no volume or slice of grey levels is open.
    """
    candidates = [
        layer
        for layer in _of_visit(viewer, study, visit)
        if _layers.layer_kind(layer) == "image" and "role" not in _studies.facts_of(layer)
    ]
    candidates.sort(key=lambda layer: not layer.visible)
    images = [_layers.from_layer(layer) for layer in candidates]
    images = [image for image in images if "c" not in image.axes and "t" not in image.axes]
    if not images:
        raise MedseqError(f"Visit {visit + 1} of {study} has no image (a volume) that is open. Open it first.")
    return next((image for image in images if like is not None and image.same_grid(like)), images[0])


def _placed(anchors: Sequence[Layer], placing: Placing) -> list[Affine]:
    boxes = [_box(anchor) for anchor in anchors]
    low, high = boxes[0]
    apart = any((other_low > high).any() or (other_high < low).any() for other_low, other_high in boxes[1:])
    out = []
    for box in boxes:
        world = np.eye(4)
        if placing == "centres" or (placing == "auto" and apart):
            world[:3, 3] = (low + high) / 2 - (box[0] + box[1]) / 2
        out.append(geometry.as_affine(world))
    return out


def _box(layer: Layer) -> tuple[Affine, Affine]:
    """Lowest and highest corner of a layer's image in RAS+ mm."""
    seq = _layers.from_layer(layer)
    corners = geometry.apply_points(seq.affine, geometry.corners(seq.grid, outer=True))
    return corners.min(axis=0), corners.max(axis=0)
