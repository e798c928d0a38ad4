"""The inputs of an overlay of two visits: the images, their alignment, and how their grey levels match; no layer is
touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.registration import Transform
from napari_medseq.registration.byhand import AlignmentMeter
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.alignments import hand_alignment
from napari_medseq.viewer.canvases.windows import ABSOLUTE
from napari_medseq.viewer.identity import patient_in_front
from napari_medseq.viewer.visits.comparing import image_of, worlds_of
from napari_medseq.volumes.blending import match_intensities
from napari_medseq.volumes.foreground import foreground

if TYPE_CHECKING:
    from napari.components import ViewerModel


@dataclass(frozen=True, eq=False)
class OverlayJob:
    """The inputs of an overlay, copied from the layers in the GUI thread.

    Attributes
    ----------
    study : str
    earlier, later : int
        Ordinals of the visits, from 0.
    moving, fixed : ImageSequence
        The earlier image, and the later one onto whose grid it is resampled.
    onto : ndarray, shape (4, 4), or None
        RAS+ mm of the later visit → RAS+ mm of the earlier one; None: it has to be found by registration.
    reason : str
        Where `onto` comes from, in words.
    """

    study: str
    earlier: int
    later: int
    moving: ImageSequence
    fixed: ImageSequence
    onto: Affine | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Overlaid:
    """An overlay that is ready to be shown.

    Attributes
    ----------
    job : OverlayJob
    onto : ndarray, shape (4, 4)
        RAS+ mm of the later visit → RAS+ mm of the earlier one.
    reason : str
        Origin of the alignment, in words.
    meter : AlignmentMeter
        Measures any alignment of the two.
    bodies : tuple or None
        The body in the later image (z, y, x) and that in the earlier one (labels), by which grey levels are matched;
        None if they are absolute (CT, PET).
    """

    job: OverlayJob
    onto: Affine
    reason: str
    meter: AlignmentMeter
    bodies: tuple[NDArray[np.bool_], ImageSequence] | None


def overlay_job(viewer: ViewerModel, earlier: int, later: int, *, study: str | None = None) -> OverlayJob:
    """Copy from the layers what `prepare_overlay` needs; see `overlay`."""
    name = study or patient_in_front(viewer)
    if name is None:
        raise MedseqError("No study is open. Open one with several visits first.")
    if earlier == later:
        raise MedseqError("Choose two different visits.")
    moving, fixed = (image_of(viewer, name, visit) for visit in (earlier, later))
    worlds = worlds_of(viewer, name)
    onto = None
    if {earlier, later} <= set(worlds):
        onto = geometry.as_affine(np.linalg.inv(worlds[earlier]) @ worlds[later])
    by_hand = any(hand_alignment(viewer, name, visit) is not None for visit in (earlier, later))
    reason = "aligned by hand" if by_hand else "as the result was followed"
    return OverlayJob(name, earlier, later, moving.compute(), fixed.compute(), onto, reason)


def prepare_overlay(
    job: OverlayJob, *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> Overlaid:
    """Align the two images if that is not known, and match their grey levels; touches no layer.

    Raises
    ------
    RegistrationError
        If they cannot be aligned.
    """
    from napari_medseq.registration import visits

    onto, reason = job.onto, job.reason
    if onto is None:
        alignment = visits([job.moving, job.fixed], progress=progress, cancelled=cancelled)[1]
        onto, reason = alignment.to_baseline, alignment.reason
    check(cancelled)
    bodies = None
    if not {job.moving.modality, job.fixed.modality} <= ABSOLUTE:
        body = foreground(job.moving.volume_zyx(), job.moving.affine).astype(np.uint8).reshape(job.moving.data.shape)
        bodies = (
            foreground(job.fixed.volume_zyx(), job.fixed.affine),
            job.moving.labels_like(body, name="body", label_names={1: "body"}),
        )
    return Overlaid(job, onto, reason, AlignmentMeter(job.moving, job.fixed), bodies)


def brought(overlaid: Overlaid, onto: Affine) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The earlier image on the later grid under an alignment, with matched grey levels, and the mask of where it
    reaches."""
    job = overlaid.job
    transform = Transform("affine", onto, job.fixed.affine, job.fixed.grid)
    moved = np.asarray(transform.apply(job.moving, interpolation="linear", fill=np.nan).data, np.float32)
    seen = np.isfinite(moved)
    moved = np.nan_to_num(moved, nan=0.0)
    if overlaid.bodies is not None:
        fixed, body = overlaid.bodies
        first, second = np.asarray(transform.apply(body).data) > 0, fixed.reshape(seen.shape)
        tissue, air = seen & first & second, seen & ~first & ~second
        scale, offset = match_intensities(moved, np.asarray(job.fixed.data, np.float32), tissue, air)
        moved = np.asarray(scale * moved + offset, np.float32)
    return moved, seen
