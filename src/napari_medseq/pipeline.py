"""The main job, in pieces that the viewer, the command and scripts share: choose, segment, align, track, write.

`run` calls the pieces in order; a widget calls the same pieces one by one, so that all give identical labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from napari_medseq import files, io, models, record
from napari_medseq.errors import MedseqWarning, ReadError, SettingsError, heard, warn
from napari_medseq.models import Model
from napari_medseq.models.choosing import Chosen, Series, choose_images
from napari_medseq.peak import warn_of_peak
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.progression.folder import result_folder
from napari_medseq.sequence import ImageSequence, Study, Visit, kind_of
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari_medseq.inference import Segmentation
    from napari_medseq.progression import Progression, TrackSettings
    from napari_medseq.registration import VisitAlignment


#: changes the mask of a visit before lesions are followed
Revise = Callable[[Visit, ImageSequence], ImageSequence]


def run(
    study_or_folder: Study | str | PathLike[str],
    model: Model | str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    series: Series = None,
    order: Sequence[str] | None = None,
    register: str = "auto",
    device: str = "auto",
    settings: TrackSettings | Mapping[str, object] | None = None,
    force: bool = False,
    shift_dates: bool = False,
    revise: Revise | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Do the main job in one call: read a patient's visits, segment each, follow every lesion, write the results.

    Parameters
    ----------
    study_or_folder : Study or path
        A `Study`, or a study folder (BIDS, a folder per visit, or a heap of DICOM).
    model : Model, name or bundle folder
        A segmentation model.
    out : path, optional
        Folder for the results; nothing is written without it.
    series : str or sequence of str, optional
        Patterns (`fnmatch`, any case) that name the image of each visit; by default the model's card decides.
    order : sequence of str, optional
        The names of all visits, the first one first, where dates do not give their order.
    register : {"auto", "none", "translation", "rigid", "affine", "deformable"}
        "auto" leaves visits that are aligned already, and registers the others to the first.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    settings : TrackSettings or mapping, optional
        How lesions are told apart and followed.
    force : bool
        Go on where a model's modality does not match the image's, or visits seem to be of different patients.
    shift_dates : bool
        Move all dates of the patient back by days that only the key of pseudonyms tells; intervals stay. The record
        then names the study, but none of its files.
    revise : callable, optional
        ``revise(visit, mask) -> mask``: changes the mask of each visit before lesions are followed, such as to keep what people
        painted in it.
    progress, cancelled : callables, optional

    Returns
    -------
    Progression

    Raises
    ------
    ReadError
        If there is no visit with an image.
    ModelError
        If the model is not for segmentation, or no image, or more than one, fits it in some visit.
    RegistrationError
        If a visit has to be registered and the result cannot be trusted.
    OperationCancelled
        If `cancelled` returned True; nothing is changed then.
    WriteError
        If `out` cannot be written to, or another process writes to it.

    Notes
    -----
    An earlier result in `out` waits in ``out/previous`` while this one is made. It is replaced by it, comes back when the run is
    cancelled, and stays there when the run fails (``out/failed.json`` says why), so that it is never taken for the new one.
    """
    from napari_medseq.progression.store import save

    settings = track_settings(settings)
    with result_folder(out) as folder:
        loaded = models.loaded(model)
        segmented = segment_study(
            study_or_folder,
            loaded,
            series=series,
            order=order,
            register=register,
            device=device,
            force=force,
            shift_dates=shift_dates,
            progress=part(progress, 0.0, 0.85),
            cancelled=cancelled,
        )
        if revise is not None:
            masks = [revise(c.visit, mask) for c, mask in zip(segmented.chosen, segmented.masks, strict=True)]
            segmented = replace(segmented, masks=tuple(masks))
        progression = follow(segmented, settings, force=force, progress=part(progress, 0.85, 0.97), cancelled=cancelled)
        call = {
            "study": study_or_folder.name
            if isinstance(study_or_folder, Study)
            else str(files.path_of(study_or_folder).absolute()),
            "model": name_of(loaded),
            "series": series if series is None or isinstance(series, str) else list(series),
            "order": None if order is None else list(order),
            "register": register,
            "device": device,
            "settings": settings.model_dump(mode="json"),
            "force": force,
            "shift_dates": shift_dates,
        }
        progression.provenance = provenance(segmented, loaded, call)
        check(cancelled)
        if folder is not None:
            save(progression, folder.path, claim=folder)
    if progress is not None:
        progress(1000, 1000, "Done")
    return progression


# -- the pieces ------------------------------------------------------------------------------------------------------
def track_settings(settings: TrackSettings | Mapping[str, object] | None) -> TrackSettings:
    """Settings as the model class, from itself, a mapping or None (defaults).

    Raises
    ------
    SettingsError
        If a name or a value is not usable.
    """
    from napari_medseq.progression import TrackSettings

    return TrackSettings.of(settings)


@dataclass(frozen=True)
class Segmented:
    """The result of the slow half of the main job, from which lesions are followed.

    Attributes
    ----------
    chosen : tuple of Chosen
        The image of each visit.
    aligned : tuple of VisitAlignment
        What brings each visit to the first.
    masks : tuple of ImageSequence
        The labels of each visit, called ``<image name>_lesions``.
    registration_error_mm : float or None
        The largest misalignment that registration left; None where every visit was left as it lies.
    dropped : tuple of str
        Visits of the study that are not among these, since they could not be read or have no image: name and reason.
    doubts : tuple of str
        What was doubtful so far.
    """

    chosen: tuple[Chosen, ...]
    aligned: tuple[VisitAlignment, ...]
    masks: tuple[ImageSequence, ...]
    registration_error_mm: float | None = None
    dropped: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def segment_study(
    study_or_folder: Study | str | PathLike[str],
    model: Model,
    *,
    series: Series = None,
    order: Sequence[str] | None = None,
    register: str = "auto",
    device: str = "auto",
    force: bool = False,
    shift_dates: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Segmented:
    """Read a patient's visits, choose the image of each, align and segment them; see `run` for the parameters."""
    with _listening() as doubts:
        study = read_visits(
            study_or_folder,
            order=order,
            shift_dates=shift_dates,
            progress=part(progress, 0.0, 0.06),
            cancelled=cancelled,
        )
        chosen = choose_images(study, model.info, series=series, force=force)
        dropped = dropped_visits(study)
        warn_of_peak(study, chosen, model, register=register, device=device)
        check(cancelled)
        # a model along visits needs them aligned, so this comes first
        aligned = align_visits(chosen, mode=register, progress=part(progress, 0.06, 0.18), cancelled=cancelled)
        answers = segment_visits(
            chosen,
            model,
            device=device,
            force=force,
            aligned=aligned,
            progress=part(progress, 0.18, 1.0),
            cancelled=cancelled,
        )
    registered = [a.error_mm for a in aligned if a.transform is not None]
    return Segmented(
        tuple(chosen),
        tuple(aligned),
        tuple(lesion_masks(chosen, answers)),
        max(a.error_mm for a in aligned) if registered else None,
        dropped,
        tuple(dict.fromkeys([*study.warnings, *doubts])),
    )


def dropped_visits(study: Study) -> tuple[str, ...]:
    """Visits of a study that could not be read, or have no image, each with the reason; a warning names them."""
    dropped = [*study.dropped, *(f"{v.name}: no image of it could be read" for v in study.visits if not v.images)]
    if dropped:
        warn(f"{study.name}: {how_many(len(dropped), 'visit')} left out: {'; '.join(dropped)}.")
    return tuple(dropped)


def follow(
    segmented: Segmented,
    settings: TrackSettings | Mapping[str, object] | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Progression:
    """Follow the lesions of what was segmented; doubts of both halves stand in the result's ``warnings``."""
    from napari_medseq.progression import track

    settings = track_settings(settings)
    error_mm = segmented.registration_error_mm if settings.registration_error_mm is None else None
    with _listening() as doubts:
        progression = track(
            segmented.masks,
            dates=[c.visit.date for c in segmented.chosen],
            images=[c.image for c in segmented.chosen],
            settings=settings,
            transforms=[a.to_baseline for a in segmented.aligned],
            registration_error_mm=error_mm,
            force=force,
            progress=progress,
            cancelled=cancelled,
        )
    progression.warnings = tuple(dict.fromkeys([*segmented.doubts, *progression.warnings, *doubts]))
    return progression


def read_visits(
    source: Study | str | PathLike[str],
    *,
    order: Sequence[str] | None = None,
    shift_dates: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Study:
    """The visits of a study folder, or of a study that was read already.

    Raises
    ------
    ReadError
        If there is no such folder.
    SettingsError
        If `order` or `shift_dates` is given for a study that was read already.
    """
    if isinstance(source, Study):
        if order is not None:
            raise SettingsError("order= is for a study that is read from a folder; the visits of a Study are in order.")
        if shift_dates:
            raise SettingsError(
                "shift_dates= is for a study that is read from a folder: ms.read_study(folder, shift_dates=True)."
            )
        return source
    if not isinstance(source, (str, PathLike)):
        raise ReadError(
            f"{kind_of(source)} is neither a Study nor a folder; make one: Study(name, [Visit(date, images), ...])."
        )
    folder = files.path_of(source)
    if not folder.exists():
        raise ReadError(f"{folder} does not exist; name a study folder with one folder of images per visit.")
    study: Study = io.read_study(folder, order=order, shift_dates=shift_dates, progress=progress, cancelled=cancelled)
    return study


def segment_visits(
    chosen: Sequence[Chosen],
    model: Model,
    *,
    device: str = "auto",
    force: bool = False,
    aligned: Sequence[VisitAlignment] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    **settings: Any,
) -> list[Segmentation]:
    """Segment the chosen image of each visit, each on its own grid; further settings go to `inference.segment`.

    A model along visits gets them together, aligned as `aligned` says, or else as it finds out by itself.

    Returns
    -------
    list of Segmentation
        One per visit.
    """
    from napari_medseq.inference import segment

    if force:
        settings["force"] = True
    if model.info.sequence_axis == "visit":
        visits = [Visit(c.visit.date, tuple(c.channels.values()), (), c.visit.name) for c in chosen]
        if aligned is not None:
            settings["transforms"] = [a.to_baseline for a in aligned]
        together = segment(visits, model, device=device, progress=progress, cancelled=cancelled, **settings)
        return list(together)
    segmentations = []
    for number, choice in enumerate(chosen):
        share = part(
            progress, number / len(chosen), (number + 1) / len(chosen), f"visit {number + 1} of {len(chosen)}: "
        )
        segmentations.append(
            segment(choice.images, model, device=device, progress=share, cancelled=cancelled, **settings)
        )
    return segmentations


def lesion_masks(chosen: Sequence[Chosen], segmentations: Sequence[Segmentation]) -> list[ImageSequence]:
    """The labels of each visit, called ``<image name>_lesions``, as `track` takes them and files are named."""
    return [f.labels.replace(name=f"{c.image.name}_lesions") for c, f in zip(chosen, segmentations, strict=True)]


def align_visits(
    chosen: Sequence[Chosen],
    *,
    mode: str = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[VisitAlignment]:
    """The transforms from each visit to the first one, in patient millimetres; see `registration.visits`."""
    from napari_medseq.registration import visits

    images = [c.image for c in chosen]
    return list(visits(images, mode=mode, progress=progress, cancelled=cancelled))  # type: ignore[arg-type]


def provenance(segmented: Segmented, model: Model, call: Mapping[str, object]) -> dict[str, object]:
    """The images and the model of a result, as ``run.json`` names them, so that it can be made again.

    Parameters
    ----------
    segmented : Segmented
    model : Model
    call : mapping
        The arguments of `run`.
    """
    nameless = bool(call.get("shift_dates"))  # paths of files hold dates, too
    visits = [
        {
            "name": choice.visit.name,
            "date": choice.visit.date and choice.visit.date.isoformat(),
            "images": {
                c: {
                    "name": i.name,
                    "source": None if nameless else record.source_of(i),
                    "sha256": record.sha256_of_image(i),
                }
                for c, i in choice.channels.items()
            },
            "to_first_visit": alignment.to_baseline.tolist(),
            "alignment": alignment.reason,
            "alignment_error_mm": alignment.error_mm,
        }
        for choice, alignment in zip(segmented.chosen, segmented.aligned, strict=True)
    ]
    return {
        "run": dict(call),
        "inputs": visits,
        "dropped": list(segmented.dropped),
        "model": {"name": model.info.name, "version": model.info.version, "sha256": model.fingerprint},
    }


def correct_again(progression: Progression, before: Progression) -> None:
    """Make the corrections of an earlier result on the new one; those that cannot be made become warnings of the result."""
    made_from = progression.provenance
    missed = progression.reapply_corrections(before)
    progression.provenance = made_from  # the model and the files of this run, not of the earlier one
    progression.warnings += tuple(f"A correction could not be made again: {text}." for text in missed)


def name_of(model: Model) -> str:
    """The name by which `load_model` knows a model, else its folder."""
    info = model.info
    return info.name if (info.name, info.folder) in {(i.name, i.folder) for i in models.list_models()} else info.folder


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect the texts of our own warnings, each once; all warnings are passed on at the end."""
    caught: list[warnings.WarningMessage] = []
    passed_on: set[str] = set()
    try:
        with heard() as doubts, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield doubts
    finally:
        for w in caught:
            text = str(w.message)
            if issubclass(w.category, MedseqWarning):
                if text in passed_on:
                    continue
                passed_on.add(text)
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)


__all__ = [
    "Chosen",
    "Segmented",
    "Series",
    "align_visits",
    "choose_images",
    "correct_again",
    "dropped_visits",
    "follow",
    "lesion_masks",
    "name_of",
    "provenance",
    "read_visits",
    "run",
    "segment_study",
    "segment_visits",
    "track_settings",
]
