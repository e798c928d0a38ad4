"""Saving a session: images by reference, masks, painting, results, corrections and the view, in one folder, whole or
not at all.

`save_session` copies what is open at one moment and then writes the copy, so that a worker can write while a person
goes on painting. `sessions.opening` opens sessions, and `napari_medseq.viewer.sessions.recovery` uses the same folder to survive
a crash.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from napari_medseq import __version__
from napari_medseq.errors import MedseqError, WriteError, warn
from napari_medseq.files import write_text
from napari_medseq.progress import Cancelled, Progress, check, with_progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.editing.marks import Flags
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.appearance import colour_facts
from napari_medseq.viewer.layers.placement import camera_of
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.masks.difference import difference_facts
from napari_medseq.viewer.results.colouring import colours_chosen
from napari_medseq.viewer.results.followed import Followed, results_of
from napari_medseq.viewer.sessions.records import plain, write_labels
from napari_medseq.viewer.teaching.last_answers import answered
from napari_medseq.viewer.visits.changes import map_facts

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_medseq.progression import Progression

#: format of the description; sessions of format 1 had their files beside it
FORMAT = 2
FILE = "session.json"
#: beginning of the name of the folder, beside the description, with the files that the description refers to
FILES = "files-"
LOOK = {
    "image": ("name", "visible", "opacity", "blending", "gamma", "interpolation2d"),
    "labels": ("name", "visible", "opacity", "blending"),
}
#: number of sessions that are remembered as recent
_RECENT = 10


# -- writing -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class KeptLayer:
    """A layer as it was when a session was taken.

    Attributes
    ----------
    facts : dict
        The facts that the session's JSON holds.
    seq : ImageSequence
        Labels are a copy; an image is what the layer shows.
    flags : ndarray of uint8 or None
        The marks of painting; None for an image, and if nothing is painted.
    copied : bool
        Whether the voxels are written into the session, and not only the path of their file.
    """

    facts: dict[str, object]
    seq: ImageSequence
    flags: Flags | None
    copied: bool


@dataclass(frozen=True, eq=False)
class TakenSession:
    """What is open at one moment, from `take_session`. Later painting is not in it.

    Attributes
    ----------
    layers : tuple of KeptLayer
    results : tuple of (str, Progression, dict)
        Patient, result, and what the session's JSON holds of it: the card of its model, how its visits are arranged, and what
        the colours of its lesions mean.
    answers : tuple of dict
        What answers came from, as `napari_medseq.viewer.teaching.last_answers` knows it; layers by their number in `layers`.
    view : dict
        Sliders, camera and the active layer.
    left_out : tuple of str
        Names of layers that a session cannot keep, which are neither images nor masks.
    changes : mapping of Labels to int
        Number of changes of each unsaved layer at that moment.
    """

    layers: tuple[KeptLayer, ...]
    results: tuple[tuple[str, Progression, dict[str, object]], ...]
    answers: tuple[dict[str, object], ...]
    view: dict[str, object]
    left_out: tuple[str, ...]
    changes: WeakKeyDictionary[Labels, int]


def save_session(
    viewer: ViewerModel,
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Save what is open: images by reference, masks with their painting, results with their corrections, and the view.

    A window does this in three steps, the second of which a worker may run: `take_session`, `write_session`,
    `finish_saving`.

    Parameters
    ----------
    viewer : ViewerModel
    folder : path
        Folder of the session; it is created, or replaced if it is a session already.
    progress, cancelled : callable, optional

    Returns
    -------
    Path
        The folder. It is first written beside its place and then moved there, so that an interrupted save leaves the
        old one.

    Raises
    ------
    WriteError
        If it cannot be written there, or the folder holds something else.
    OperationCancelled
        When `cancelled` says so.

    Warns
    -----
    MedseqWarning
        Which layers are not in it: points, shapes and others that are neither images nor masks.
    """
    snapshot = take_session(viewer)
    path = write_session(snapshot, folder, progress=progress, cancelled=cancelled)
    finish_saving(viewer, snapshot, path)
    if snapshot.left_out:
        warn(not_in_session(snapshot))
    return path


def not_in_session(snapshot: TakenSession) -> str:
    """Which layers a session does not bring back, in a sentence; "" if it brings back all."""
    if not snapshot.left_out:
        return ""
    names = ", ".join(snapshot.left_out)
    return f"Not in the session, because only images and masks are: {names}. Save them by File → Save Selected Layers."


def take_session(viewer: ViewerModel, layers: Iterable[Layer] | None = None) -> TakenSession:
    """Copy what is open now, or of that only the given layers and all results, for `write_session` to write while work
    continues."""
    chosen = list(viewer.layers if layers is None else layers)
    kept_layers = [_kept(viewer, layer) for layer in chosen]
    drawn = (_studies.DIAMETERS, _studies.NUMBERS)  # a tick in Display draws them again
    left_out = tuple(
        layer.name
        for layer, kept in zip(chosen, kept_layers, strict=True)
        if kept is None and _studies.facts_of(layer).get("role") not in drawn
    )
    # a correction makes a new graph; the one held here stays as it is
    results = tuple(
        (name, copy(followed.progression), _result_facts(viewer, followed))
        for name, followed in results_of(viewer).items()
    )
    answers = _answers([layer for layer, kept in zip(chosen, kept_layers, strict=True) if kept is not None])
    changes = editing_of(viewer).unsaved.as_they_are()
    return TakenSession(
        tuple(k for k in kept_layers if k is not None), results, answers, _view(viewer), left_out, changes
    )


def finish_saving(viewer: ViewerModel, snapshot: TakenSession, path: Path) -> None:
    """After writing, mark as saved what has not changed since it was copied, and remember the session among the recent
    ones."""
    editing_of(viewer).written(snapshot.changes)
    remember(path)


def write_session(
    snapshot: TakenSession,
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Write a session that was copied, whole or not at all; touches no viewer, so that a worker may do it.

    Raises
    ------
    WriteError
        If it cannot be written there, or the folder holds something else.
    OperationCancelled
        When `cancelled` says so; what was there stays.
    """
    path = Path(folder)
    if path.exists() and not is_session(path) and not _is_free(path):
        raise WriteError(f"{path} exists and is not a session. Choose a new folder.")
    files = f"{FILES}{secrets.token_hex(4)}"
    made, saved = path.exists(), False
    try:
        (path / files).mkdir(parents=True)
        facts = _write_parts(snapshot, path, files, progress, cancelled)
        check(cancelled)
        write_text(path / FILE, json.dumps(plain(facts), indent=1))  # from now on, and not before, it is the session
        saved = True
    except OSError as error:
        raise WriteError(
            f"The session could not be written to {path}: {error}. Choose a folder you may write to."
        ) from error
    finally:
        if saved:
            _discard_files(path, but=files)
        else:
            shutil.rmtree(path / files if made else path, ignore_errors=True)
    return path


def _is_free(path: Path) -> bool:
    """Whether a folder is empty, or holds only what a save left that was killed before it was complete."""
    return path.is_dir() and all(inside.name.startswith(FILES) for inside in path.iterdir())


def _discard_files(path: Path, *, but: str) -> None:
    """Delete the files of earlier saves, also of one that was killed; what else lies in the folder stays."""
    for old in path.glob(f"{FILES}*"):
        if old.name != but:
            shutil.rmtree(old, ignore_errors=True)


def _write_parts(
    snapshot: TakenSession, path: Path, files: str, progress: Progress | None, cancelled: Cancelled | None
) -> dict[str, object]:
    """Write layers and results into the folder `files` of a session, and return their description."""
    layers, results, folder = [], {}, path / files
    whole = len(snapshot.layers) + len(snapshot.results)
    for number, layer in enumerate(with_progress(snapshot.layers, whole, "Saving layers", progress, cancelled)):
        layers.append(_write_layer(layer, path, folder, number))
    for number, (name, progression, about) in enumerate(snapshot.results):
        check(cancelled)
        progression.save(folder / f"result-{number}")
        results[name] = {"folder": f"result-{number}", **about}
        if progress is not None:
            progress(len(snapshot.layers) + number + 1, whole, f"Saving the result of {name}")
    saved = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "format": FORMAT, "version": __version__, "saved": saved, "files": files, "layers": layers, "results": results,
        "answers": list(snapshot.answers), "view": snapshot.view,
    }  # fmt: skip


def _write_layer(layer: KeptLayer, path: Path, folder: Path, number: int) -> dict[str, object]:
    if not layer.copied:
        with suppress(ValueError):  # on another drive of Windows
            return {**layer.facts, "beside": os.path.relpath(str(layer.facts["source"]), path)}
        return layer.facts
    data = np.asarray(layer.seq.data)
    if layer.seq.kind == "labels":
        name = f"labels-{number}.npz"
        flags = np.zeros(data.shape, np.uint8) if layer.flags is None else layer.flags
        write_labels(folder / name, data, np.ascontiguousarray(flags))
    else:
        name = f"image-{number}.npy"
        np.save(folder / name, data, allow_pickle=False)
    return {**layer.facts, "file": name}


def _kept(viewer: ViewerModel, layer: Layer) -> KeptLayer | None:
    """What the session stores of a layer; None if it is neither image nor labels."""
    kind = _layers.layer_kind(layer)
    if kind not in ("image", "labels"):
        return None
    seq, facts = _layers.from_layer(layer), _studies.facts_of(layer)
    about = {k: facts[k] for k in (*_studies.ABOUT, "role", "along") if k in facts}
    out: dict[str, object] = {
        "kind": kind, "look": {name: getattr(layer, name) for name in LOOK[kind]}, "about": about, "visit": facts.get("visit"),
        "sequence": {
            "axes": seq.axes, "affine": seq.affine, "times": seq.times, "acquired": seq.acquired, "slice_axis": seq.slice_axis,
            "oriented": seq.oriented, "label_names": seq.label_names, "modality": seq.modality, "name": seq.name, "meta": seq.meta,
            "warnings": seq.warnings,
        },
    }  # fmt: skip
    if kind == "labels":
        out |= {"colours": colour_facts(layer), "contour": int(layer.contour)}
        out |= {"change": map_facts(viewer, real(layer)), "difference": difference_facts(real(layer))}
        if isinstance(seq.data, np.ndarray):  # painting goes on while it is written
            seq = seq.replace(data=np.array(seq.data))
        marks = editing_of(viewer).marks(layer)
        flags = np.array(_layers.own_array(layer, marks.flags) if facts else marks.flags) if marks.any else None
        return KeptLayer(out, seq, flags, copied=True)
    out["contrast_limits"] = list(layer.contrast_limits)
    out["colormap"] = layer.colormap.name
    source = seq.meta.get("source")
    if isinstance(source, str) and Path(source).exists() and "role" not in facts:
        return KeptLayer({**out, "source": str(Path(source).resolve())}, seq, None, copied=False)
    return KeptLayer(out, seq, None, copied=True)


def _result_facts(viewer: ViewerModel, followed: Followed) -> dict[str, object]:
    """What a session's JSON holds of a result, beside its folder."""
    meaning, rule = colours_chosen(viewer, followed.source.name)
    return {
        "card": followed.card, "places": list(followed.places), "days": list(followed.days),
        "regrouped": followed.regrouped, "colours": meaning, "rule": rule,
    }  # fmt: skip


def _answers(layers: Sequence[Layer]) -> tuple[dict[str, object], ...]:
    """What is known of each answer among these layers, if what it came from is among them too."""
    numbers = {id(real(layer)): number for number, layer in enumerate(layers)}
    answers = list[dict[str, object]]()
    for number, layer in enumerate(layers):
        known = answered(layer)
        image, labels = (None, None) if known is None else (known.image(), known.labels())
        if known is not None and id(image) in numbers and id(labels) in numbers:
            answers.append({
                "answer": number, "image": numbers[id(image)], "labels": numbers[id(labels)],
                "doubt": known.doubt, "finished": sorted(known.finished), "axis": known.axis,
            })  # fmt: skip
    return tuple(answers)


def _view(viewer: ViewerModel) -> dict[str, object]:
    camera, active = camera_of(viewer), viewer.layers.selection.active
    return {
        "point": list(viewer.dims.point), "order": list(viewer.dims.order), "ndisplay": viewer.dims.ndisplay,
        "center": list(camera.center), "zoom": camera.zoom, "active": None if active is None else active.name,
    }  # fmt: skip


def is_session(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a session that `save_session` wrote."""
    return (Path(path) / FILE).is_file()


# -- recent ones -------------------------------------------------------------------------------------------------------
def recent_sessions() -> list[Path]:
    """Sessions that were saved or opened last, the latest first; those that no longer exist are left out."""
    try:
        listed = json.loads(_list().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [Path(str(p)) for p in listed if is_session(str(p))] if isinstance(listed, list) else []


def remember(path: Path) -> None:
    """Put a session first among the recent ones."""
    paths = [p for p in recent_sessions() if p != path.resolve()]
    with suppress(MedseqError):  # a list that cannot be written is no reason to fail
        write_text(_list(), json.dumps([str(p) for p in (path.resolve(), *paths)][:_RECENT]))


def _list() -> Path:
    import platformdirs

    folder = os.environ.get("NAPARI_MEDSEQ_STATE") or platformdirs.user_state_dir("napari-medseq")
    return Path(folder) / "recent.json"
