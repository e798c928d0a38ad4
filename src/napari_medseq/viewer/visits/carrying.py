"""Carrying a mask of one visit to another: by the registration of the two images, or by a model.

A carried mask is a proposal: an editable mask of its visit that is marked as carried until a person has looked at it.
Lesions are never measured in it silently: following them names the masks that nobody has looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.sequence import ImageSequence, Visit
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.showing import add_layers
from napari_medseq.viewer.visits.comparing import image_of, worlds_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

#: the ways to carry a mask: the kinds of `ms.register`, without a new registration, or by a model
How = Literal["rigid", "affine", "deformable", "registered", "as it lies", "propagate"]

_WAYS = {
    "rigid": "rigid registration",
    "affine": "affine registration",
    "deformable": "deformable registration",
    "registered": "the registration that is known",
    "as it lies": "patient coordinates as they are",
    "propagate": "the model propagate",
}


@dataclass(frozen=True, eq=False)
class CarryJob:
    """What is needed to carry a mask, copied from the layers in the GUI thread.

    Attributes
    ----------
    mask : ImageSequence
    moving, fixed : ImageSequence
        The image of the mask's visit, and that of the visit that it is carried to.
    how : str
    onto : ndarray, shape (4, 4), or None
        RAS+ mm of the fixed image → RAS+ mm of the moving one, if that is known.
    origin : str
        The visit that the mask comes from, in words.
    """

    mask: ImageSequence
    moving: ImageSequence
    fixed: ImageSequence
    how: How
    onto: Affine | None
    origin: str


@dataclass(frozen=True, eq=False)
class CarriedMask:
    """A mask on another visit's grid, and in words how reliable its position is."""

    mask: ImageSequence
    measure: str


def carry_mask(
    viewer: ViewerModel,
    layer: Labels,
    visit: int,
    *,
    how: How = "rigid",
    into: Labels | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Labels:
    """Carry a mask to another visit of its study, where it can be edited.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Labels
        A mask of one visit.
    visit : int
        Ordinal, from 0, of the visit that the mask is carried to.
    how : {"rigid", "affine", "deformable", "registered", "as it lies", "propagate"}
        By a registration of the two images of that kind; by the registration of the result that is shown; by patient
        coordinates as they are; or by `ms.propagate` along the visits.
    into : Labels, optional
        A mask of that visit that receives it; only voxels that are background there and that nobody painted are
        changed. By default the carried mask becomes a layer of its own.

    Returns
    -------
    Labels
        The layer at that visit, which is active and marked as carried until `looked_at` is called.

    Raises
    ------
    MedseqError
        If the layer belongs to no visit, that visit has no image, or the registration cannot be trusted; nothing
        changes then.
    """
    job = carrying_job(viewer, layer, visit, how=how)
    return show_carried(viewer, layer, visit, carry(job, progress=progress, cancelled=cancelled), into=into)


def carrying_job(viewer: ViewerModel, layer: Labels, visit: int, *, how: How = "rigid") -> CarryJob:
    """Copy from the layers what `carry` needs; see `carry_mask`."""
    if how not in get_args(How):
        raise SettingsError(f"A mask cannot be carried by {how!r}; choose one of {', '.join(get_args(How))}.")
    layer = real(layer)
    facts = _studies.facts_of(layer)
    study, own = facts.get("study"), facts.get("ordinal")
    if _layers.layer_kind(layer) != "labels" or study is None or own is None:
        raise MedseqError(
            f"{layer.name} is not a mask of a patient's visit. Choose one, or assign it to a visit (Study)."
        )
    if own == visit:
        raise MedseqError(f"{layer.name} is of visit {visit + 1} already. Choose another visit.")
    mask = _layers.from_layer(layer)
    if not np.asarray(mask.data).any():
        raise MedseqError(f"{layer.name} is empty: there is nothing to carry.")
    if "t" in mask.axes:
        raise MedseqError(
            f"{layer.name} has frames; a mask of one volume can be carried. Choose one frame of it first."
        )
    moving, fixed = image_of(viewer, study, own, mask), image_of(viewer, study, visit)
    onto = None
    if how == "registered":
        worlds = worlds_of(viewer, study)
        if not {own, visit} <= set(worlds):
            raise MedseqError(
                f"The visits of {study} are not registered yet. Follow lesions first, or choose another way."
            )
        onto = geometry.as_affine(np.linalg.inv(worlds[own]) @ worlds[visit])
    elif how == "as it lies":
        onto = geometry.as_affine(np.eye(4))
    mask = mask.replace(data=np.array(mask.data))  # painting may go on meanwhile
    day = facts.get("date")
    origin = f"visit {own + 1}" + (f" ({day})" if day else "")
    return CarryJob(mask, moving, fixed, how, onto, origin)


def carry(job: CarryJob, *, progress: Progress | None = None, cancelled: Cancelled | None = None) -> CarriedMask:
    """Carry a mask to another visit; touches no layer.

    Raises
    ------
    RegistrationError
        If the images cannot be aligned well enough to be trusted; the message holds the measures.
    """
    from napari_medseq.inference import propagate
    from napari_medseq.registration import Transform, register

    if job.how == "propagate":
        pair = [Visit(None, (image,), (), name) for image, name in ((job.moving, "from"), (job.fixed, "to"))]
        mask = propagate(pair, [job.mask, None], progress=progress, cancelled=cancelled)[1].labels
        return CarriedMask(_marked(job, mask, "found by a model"), "found by a model")
    if job.onto is not None:
        transform = Transform("rigid", job.onto)
        measure = "not measured again"
    else:
        if job.how == "registered" or job.how == "as it lies":
            raise MedseqError("The registration of this job is missing.")
        transform = register(job.moving, job.fixed, kind=job.how, progress=progress, cancelled=cancelled)
        quality = transform.quality
        measure = (
            f"error about {quality.error_mm:.1f} mm, moved by {quality.shift_mm:.1f} mm and {quality.rotation_deg:.1f}°"
        )
    moved = transform.apply(
        job.mask, reference=job.fixed, interpolation="label", progress=progress, cancelled=cancelled
    )
    return CarriedMask(_marked(job, moved, measure), measure)


def _marked(job: CarryJob, mask: ImageSequence, measure: str) -> ImageSequence:
    note = {"from": job.origin, "by": _WAYS[job.how], "measure": measure, "looked_at": False}
    return mask.replace(
        name=job.mask.name,
        label_names=job.mask.label_names,
        meta={**mask.meta, "carried": note},
        data=np.asarray(mask.data).astype(job.mask.data.dtype, copy=False),
    )


def show_carried(
    viewer: ViewerModel, layer: Labels, visit: int, result: CarriedMask, *, into: Labels | None = None
) -> Labels:
    """Show a carried mask at its visit; see `carry_mask`.

    Raises
    ------
    MedseqError
        If nothing of it lies within that visit's image, or `into` belongs to another visit or grid.
    """
    if not np.asarray(result.mask.data).any():
        raise MedseqError(
            f"Nothing of {layer.name} lies within the image of visit {visit + 1}. Look at the alignment of the two visits."
        )
    study = str(_studies.facts_of(layer)["study"])
    names = [str(a) for a in viewer.dims.axis_labels]
    if into is not None:
        target = real(into)
        _fill(viewer, target, visit, study, result.mask)
    else:
        pattern = next((one for one in viewer.layers if _is_of(one, study, visit)), None)
        if pattern is None:
            raise MedseqError(f"Visit {visit + 1} of {study} was closed meanwhile. Open it, and carry the mask again.")
        facts = {k: v for k, v in _studies.facts_of(pattern).items() if k in _studies.ABOUT}
        placed = _studies.facts_of(pattern).get("visit")
        series = _studies.series_name({**_studies.facts_of(layer), "name": result.mask.name})
        name = f"{_studies.patient_and_visit(str(study), str(facts['visit_name']))} {series}"
        look = {"colormap": layer.colormap, "opacity": layer.opacity}
        data = _layers.to_layer_data(result.mask, visit=placed, facts=facts, name=f"{name} {MARK}", **look)
        target = add_layers(viewer, [data])[0]
    editing_of(viewer).unsaved.add(target)
    if "visit" in names and _studies.facts_of(target).get("visit") is not None:
        viewer.dims.set_point(names.index("visit"), float(visit))
    viewer.layers.selection.active = target
    return target


#: the end of the name of a layer that was carried and that nobody has looked at
MARK = "(carried: check)"


def _fill(viewer: ViewerModel, target: Labels, visit: int, study: str, mask: ImageSequence) -> None:
    facts = _studies.facts_of(target)
    if not _is_of(target, study, visit):
        raise MedseqError(f"{target.name} is not a mask of visit {visit + 1} of {study}. Choose one of that visit.")
    if not _layers.from_layer(target).same_grid(mask):
        raise MedseqError(
            f"{target.name} lies on another grid than the image of visit {visit + 1}. Carry into a new layer."
        )
    new = np.asarray(_layers.to_layer_data(mask, visit=facts.get("visit"))[0])
    old = np.asarray(target.data)
    editing_of(viewer).fill(target, np.where(old == 0, new, old), name=f"carrying a mask into {target.name}")
    facts["meta"]["carried"] = mask.meta["carried"]
    if not target.name.endswith(MARK):
        target.name = f"{target.name} {MARK}"


def carried_unseen(viewer: ViewerModel) -> list[Labels]:
    """The label layers that were carried from another visit and that nobody has looked at."""
    return [layer for layer in viewer.layers if _note(layer) is not None]


def looked_at(viewer: ViewerModel, layer: Labels) -> None:
    """Record that a person has looked at a carried mask and corrected it where needed; it then counts as any other
    mask.

    Raises
    ------
    MedseqError
        If it was not carried, or was looked at already.
    """
    layer = real(layer)
    note = _note(layer)
    if note is None:
        raise MedseqError(f"{layer.name} was not carried from another visit, or was looked at already.")
    facts, origin = _studies.facts_of(layer), note["from"]
    for other in carried_unseen(viewer):  # a result that was followed through it refers to the same mask
        other_note = _note(other)
        if other_note is not None and other_note["from"] == origin and _is_of(other, facts["study"], facts["ordinal"]):
            other_note["looked_at"] = True
            other.name = other.name.removesuffix(MARK).rstrip()
            editing_of(viewer).unsaved.add(other)
    editing_of(viewer).events.changed()


def _note(layer: Layer) -> dict[str, object] | None:
    meta = _studies.facts_of(layer).get("meta", {})
    note: dict[str, object] | None = meta.get("carried")
    return note if note is not None and not note.get("looked_at") else None


def _is_of(layer: Layer, study: str, visit: int) -> bool:
    facts = _studies.facts_of(layer)
    return facts.get("study") == study and facts.get("ordinal") == visit
