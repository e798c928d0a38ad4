"""The main job, in pieces that the viewer, the command and scripts share: choose, segment, align, track, write.

`run` calls the pieces in order; a widget calls the same pieces one by one, so that all give identical labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseq import io, models, record
from napari_medseq.errors import MedseqWarning, ReadError, SettingsError, WriteError
from napari_medseq.models import Model
from napari_medseq.models.choosing import Chosen, Series, choose_images
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence, Study, Visit

if TYPE_CHECKING:
    from napari_medseq.inference import Segmentation
    from napari_medseq.progression import Progression, TrackSettings
    from napari_medseq.registration import VisitAlignment


def run(
    study_or_folder: Study | str | PathLike[str],
    model: Model | str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    series: Series = None,
    order: Sequence[str] | None = None,
    register: str = "auto",
    device: str = "auto",
    settings: TrackSettings | Mapping[str, Any] | None = None,
    force: bool = False,
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
        If `cancelled` returned True; nothing is written then.
    """
    from napari_medseq.progression import track

    settings = track_settings(settings)
    loaded = models.loaded(model)
    with _listening() as told:
        study = _study(study_or_folder, order, stage(progress, 0.0, 0.05), cancelled)
        chosen = choose_images(study, loaded.info, series=series, force=force)
        check(cancelled)
        # a model along visits needs them aligned, so this comes first
        aligned = align_visits(chosen, mode=register, progress=stage(progress, 0.05, 0.15), cancelled=cancelled)
        found = segment_visits(
            chosen,
            loaded,
            device=device,
            force=force,
            aligned=aligned,
            progress=stage(progress, 0.15, 0.85),
            cancelled=cancelled,
        )
        progression = track(
            lesion_masks(chosen, found),
            dates=[c.visit.date for c in chosen],
            images=[c.image for c in chosen],
            settings=settings,
            transforms=[a.to_baseline for a in aligned],
            registration_error_mm=_registration_error(settings, aligned),
            force=force,
            progress=stage(progress, 0.85, 0.97),
            cancelled=cancelled,
        )
    doubts = list(dict.fromkeys([*study.warnings, *told]))
    check(cancelled)
    if out is not None:
        call = {
            "study": str(study_or_folder) if not isinstance(study_or_folder, Study) else study.name,
            "model": loaded.info.name
            if loaded.info.name in {i.name for i in models.list_models() if i.folder == loaded.info.folder}
            else loaded.info.folder,
            "series": series if series is None or isinstance(series, str) else list(series),
            "order": None if order is None else list(order),
            "register": register,
            "device": device,
            "settings": settings.model_dump(mode="json"),
            "force": force,
        }
        write_run(progression, Path(out), chosen, aligned, loaded, call=call, doubts=doubts)
    if progress is not None:
        progress(1000, 1000, "Done")
    return progression


# -- the pieces ------------------------------------------------------------------------------------------------------
def track_settings(settings: TrackSettings | Mapping[str, Any] | None) -> TrackSettings:
    """Settings as the model class, from itself, a mapping or None (defaults).

    Raises
    ------
    SettingsError
        If a name or a value is not usable.
    """
    from napari_medseq.progression import TrackSettings

    if isinstance(settings, TrackSettings):
        return settings
    if settings is not None and not isinstance(settings, Mapping):
        raise SettingsError(f"Settings of tracking are TrackSettings or a mapping, not {type(settings).__name__}.")
    return TrackSettings(**(settings or {}))


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
    """Segment the chosen image of each visit, each on its own grid; further settings go to `engine.segment`.

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
    found = []
    for number, choice in enumerate(chosen):
        part = stage(
            progress, number / len(chosen), (number + 1) / len(chosen), f"visit {number + 1} of {len(chosen)}: "
        )
        found.append(segment(choice.images, model, device=device, progress=part, cancelled=cancelled, **settings))
    return found


def lesion_masks(chosen: Sequence[Chosen], found: Sequence[Segmentation]) -> list[ImageSequence]:
    """The labels of each visit, called ``<image name>_lesions``, as `track` takes them and files are named."""
    return [f.labels.replace(name=f"{c.image.name}_lesions") for c, f in zip(chosen, found, strict=True)]


def align_visits(
    chosen: Sequence[Chosen],
    *,
    mode: str = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[VisitAlignment]:
    """What brings each visit to the first one, in patient millimetres; see `register.visits`."""
    from napari_medseq.registration import visits

    images = [c.image for c in chosen]
    return list(visits(images, mode=mode, progress=progress, cancelled=cancelled))  # type: ignore[arg-type]


def write_run(
    progression: Progression,
    out: Path,
    chosen: Sequence[Chosen],
    aligned: Sequence[VisitAlignment],
    model: Model,
    *,
    call: Mapping[str, Any],
    doubts: Sequence[str] = (),
) -> Path:
    """Write the result and, in ``run.json``, what it was made from and with, so that it can be made again.

    Raises
    ------
    WriteError
        If `out` cannot be written to.
    """
    visits = [
        {
            "name": choice.visit.name,
            "date": choice.visit.date and choice.visit.date.isoformat(),
            "images": {
                c: {"name": i.name, "source": i.meta.get("source"), "sha256": _hash(i)}
                for c, i in choice.channels.items()
            },
            "to_first_visit": alignment.to_baseline.tolist(),
            "alignment": alignment.reason,
            "alignment_error_mm": alignment.error_mm,
        }
        for choice, alignment in zip(chosen, aligned, strict=True)
    ]
    extra = {
        "run": dict(call),
        "inputs": visits,
        "model": {"name": model.info.name, "version": model.info.version, "sha256": model.fingerprint},
        "versions": record.versions(),
        "warnings": list(doubts),
    }
    try:
        return progression.save(out, extra=extra)
    except OSError as error:
        raise WriteError(
            f"{out} could not be written: {error.strerror or error}. Choose a folder you may write to."
        ) from None


def stage(progress: Progress | None, start: float, stop: float, prefix: str = "") -> Progress | None:
    """A progress callback for one stage of a longer job: its own 0 to 100 % becomes `start` to `stop` of the whole."""
    if progress is None:
        return None

    def report(done: int, total: int, message: str) -> None:
        share = start + (stop - start) * min(done / max(total, 1), 1.0)
        progress(round(1000 * share), 1000, prefix + message)

    return report


# -- what stays private ----------------------------------------------------------------------------------------------
def _study(
    source: Study | str | PathLike[str],
    order: Sequence[str] | None,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Study:
    if isinstance(source, Study):
        if order is not None:
            raise SettingsError("order= is for a study that is read from a folder; the visits of a Study are in order.")
        return source
    folder = Path(source)
    if not folder.exists():
        raise ReadError(f"{folder} does not exist; name a study folder with one folder of images per visit.")
    study: Study = io.read_study(folder, order=order, progress=progress, cancelled=cancelled)
    return study


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect the texts of our own warnings, each once; all warnings are passed on at the end."""
    told: list[str] = []
    heard: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield told
    finally:
        for w in heard:
            ours, text = issubclass(w.category, MedseqWarning), str(w.message)
            if ours and text in told:
                continue
            if ours:
                told.append(text)
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)


def _hash(image: ImageSequence) -> str:
    """SHA-256 of the file or folder an image came from, else of its voxels."""
    source = image.meta.get("source")
    if isinstance(source, str) and Path(source).exists():
        return record.sha256(source)
    return record.sha256_of([image.compute().data.tobytes()])


def _registration_error(settings: TrackSettings, aligned: Sequence[VisitAlignment]) -> float | None:
    """The largest remaining misalignment, unless the settings give one; None where every visit was left as it lies."""
    if settings.registration_error_mm is not None or all(a.transform is None for a in aligned):
        return None
    return max(a.error_mm for a in aligned)


__all__ = [
    "Chosen",
    "Series",
    "align_visits",
    "choose_images",
    "lesion_masks",
    "run",
    "segment_visits",
    "stage",
    "track_settings",
    "write_run",
]
