"""A session: images by reference, masks, what is painted, results, corrections and the view, in one folder; written whole or not at all.

`save_session` and `open_session` work on any viewer; `napari_medseq.viewer.recovery` uses the same folder to survive a crash.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medseq import __version__, io
from napari_medseq.errors import MedseqError, MedseqWarning, ReadError, WriteError
from napari_medseq.files import write_text
from napari_medseq.registration.byhand import KEY as BY_HAND
from napari_medseq.sequence import ImageSequence, Study
from napari_medseq.viewer import layers as _layers
from napari_medseq.viewer import study as _studies
from napari_medseq.viewer.editing import editing_of
from napari_medseq.viewer.followed import results_of, show_progression
from napari_medseq.viewer.identity import describe
from napari_medseq.viewer.placement import camera_of, follow_order
from napari_medseq.viewer.records import plain, read_labels, restored, write_labels
from napari_medseq.viewer.results import add_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_FORMAT = 1
_FILE = "session.json"
_LOOK = ("name", "visible", "opacity", "blending")
#: how many sessions are remembered as recent
_RECENT = 10


# -- writing -----------------------------------------------------------------------------------------------------------
def save_session(viewer: ViewerModel, folder: str | os.PathLike[str]) -> Path:
    """Save what is open: images by reference, masks with what is painted in them, results with their corrections, and the view.

    Parameters
    ----------
    viewer : ViewerModel
    folder : path
        Of the session; made, or replaced if it is a session already.

    Returns
    -------
    Path
        The folder. It is written beside its place first, and then moved there: an interrupted save leaves the old one.

    Raises
    ------
    WriteError
        If it cannot be written there, or the folder holds something else.
    """
    path = Path(folder)
    write_session(viewer, path, viewer.layers)
    editing_of(viewer).saved()
    _remember(path)
    return path


def write_session(viewer: ViewerModel, path: Path, layers: Iterable[Layer]) -> None:
    """Write a session of some layers, and of all results, whole or not at all."""
    if path.exists() and not is_session(path) and (not path.is_dir() or any(path.iterdir())):
        raise WriteError(f"{path} is there and is no session. Choose a new folder.")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    old = part.with_suffix(".old")
    try:
        part.mkdir(parents=True)
        kept = [_layer(viewer, layer, part, number) for number, layer in enumerate(layers)]
        results = {}
        for number, (name, found) in enumerate(results_of(viewer).items()):
            found.progression.save(part / f"result-{number}")
            results[name] = {"folder": f"result-{number}", "card": found.card}
        facts = {
            "format": _FORMAT, "version": __version__, "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "layers": [k for k in kept if k is not None], "results": results, "view": _view(viewer),
        }  # fmt: skip
        (part / _FILE).write_text(json.dumps(plain(facts), indent=1), encoding="utf-8")
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            if old.exists() and not path.exists():
                os.replace(old, path)
        raise WriteError(
            f"The session could not be written to {path}: {error}. Choose a folder you may write to."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _layer(viewer: ViewerModel, layer: Layer, folder: Path, number: int) -> dict[str, object] | None:
    """What is kept of a layer; None where it is neither image nor labels."""
    kind = _layers.layer_kind(layer)
    if kind not in ("image", "labels"):
        return None
    seq, facts = _layers.from_layer(layer), _studies.facts_of(layer)
    about = {k: facts[k] for k in (*_studies.ABOUT, "role", "along") if k in facts}
    out: dict[str, object] = {
        "kind": kind, "look": {name: getattr(layer, name) for name in _LOOK}, "about": about, "visit": facts.get("visit"),
        "sequence": {
            "axes": seq.axes, "affine": seq.affine, "times": seq.times, "acquired": seq.acquired, "slice_axis": seq.slice_axis,
            "oriented": seq.oriented, "label_names": seq.label_names, "modality": seq.modality, "name": seq.name, "meta": seq.meta,
            "warnings": seq.warnings,
        },
    }  # fmt: skip
    if kind == "labels":
        out["file"] = f"labels-{number}.npz"
        marks = editing_of(viewer).marks(layer)
        flags = _layers.own_array(layer, marks.flags) if facts else marks.flags
        write_labels(folder / f"labels-{number}.npz", np.asarray(seq.data), np.ascontiguousarray(flags))
        return out
    out["contrast_limits"] = list(layer.contrast_limits)
    out["colormap"] = layer.colormap.name
    source = seq.meta.get("source")
    if isinstance(source, str) and Path(source).exists() and "role" not in facts:
        out["source"] = str(Path(source).resolve())
    else:
        out["file"] = f"image-{number}.npy"
        np.save(folder / f"image-{number}.npy", np.asarray(seq.data), allow_pickle=False)
    return out


def _view(viewer: ViewerModel) -> dict[str, object]:
    camera, active = camera_of(viewer), viewer.layers.selection.active
    return {
        "point": list(viewer.dims.point), "order": list(viewer.dims.order), "ndisplay": viewer.dims.ndisplay,
        "center": list(camera.center), "zoom": camera.zoom, "active": None if active is None else active.name,
    }  # fmt: skip


# -- reading -----------------------------------------------------------------------------------------------------------
def is_session(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a session that `save_session` wrote."""
    return (Path(path) / _FILE).is_file()


def open_session(viewer: ViewerModel, folder: str | os.PathLike[str]) -> list[Layer]:
    """Bring back a session: images from where they lie, masks, what was painted, results, corrections, view.

    Images that are no longer where they were are named in a warning; masks and results come back all the same.

    Raises
    ------
    ReadError
        If the folder is no session, or one of a later version.
    """
    path = Path(folder)
    facts = _read(path)
    describe(viewer)
    added: list[Layer] = []
    missing: list[str] = []
    opened: dict[str, list[ImageSequence]] = {}
    editing = editing_of(viewer)
    for kept in facts["layers"]:
        try:
            seq, flags = _sequence(path, kept, opened)
        except MedseqError as error:
            missing.append(f"{kept['look']['name']}: {error}")
            continue
        extra = dict(kept["look"])
        if seq.kind == "image":
            extra |= {"contrast_limits": kept["contrast_limits"], "colormap": kept["colormap"]}
        data = _layers.to_layer_data(
            seq, visit=kept["visit"], facts=kept["about"], along=kept["about"].get("along", "z"), **extra
        )
        layer = add_layers(viewer, [data])[0]
        _studies.facts_of(layer).update(kept["about"])
        added.append(layer)
        if flags is not None and flags.any():
            shown = _layers.to_layer_data(seq.replace(data=flags), visit=kept["visit"])[0]
            editing.marks(layer).replace(np.asarray(shown))
    for name, result in facts["results"].items():
        _show_result(viewer, path / result["folder"], name, result["card"])
    _look(viewer, facts["view"])
    editing.history.clear()
    editing.saved()
    if missing:
        warnings.warn(
            f"Not everything of {path.name} could be opened: {'; '.join(missing)}", MedseqWarning, stacklevel=2
        )
    _remember(path)
    return added


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = restored(json.loads((path / _FILE).read_text(encoding="utf-8")))
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            raise ReadError(
                f"{path} is a session of another version of napari-medseq. Update the package and open it again."
            )
        _ = [(k["kind"], k["look"]["name"], k["about"], k["visit"], k["sequence"]) for k in facts["layers"]]
        _ = facts["results"], facts["view"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{path} is no session that can be opened: {error}. Choose a folder that Save session wrote."
        ) from error
    return facts


def _sequence(path: Path, kept: Mapping[str, Any], opened: dict[str, list[ImageSequence]]) -> tuple[ImageSequence, Any]:
    """The sequence of a kept layer, and its flags where it is labels."""
    facts, flags = dict(kept["sequence"]), None
    if "source" in kept:
        source = str(kept["source"])
        if source not in opened:
            opened[source] = io.read(source, lazy="auto")
        seq = next((s for s in opened[source] if s.name == facts["name"]), opened[source][0])
        by_hand = {k: v for k, v in facts["meta"].items() if k == BY_HAND}  # what the file does not know
        return seq.replace(meta={**seq.meta, **by_hand}), None
    file = path / Path(str(kept["file"])).name
    if kept["kind"] == "labels":
        data, flags = read_labels(file)
    else:
        try:
            data = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ReadError(f"{file} is damaged: {error}.") from error
    acquired = facts.pop("acquired")
    seq = ImageSequence(
        data, tuple(facts.pop("axes")), facts.pop("affine"), kind=kept["kind"], warnings=tuple(facts.pop("warnings")),
        acquired=None if acquired is None else datetime.fromisoformat(acquired), **facts,
    )  # fmt: skip
    return seq, flags


def _show_result(viewer: ViewerModel, folder: Path, name: str, card: str) -> None:
    from napari_medseq.progression import Progression

    progression = Progression.load(folder)
    try:
        study = _studies.study_from_layers(viewer.layers, name)
    except MedseqError:
        study = Study(name, ())
    if len(study.visits) < len(progression.dates):
        from napari_medseq.viewer.results import study_for

        study = Study(name, study_for(progression).visits)
    images = [next(iter(study.visits[k].images), None) for k in _studies.ordinals(study, progression)]
    if all(image is None for image in progression.images):
        progression.images = images
    show_progression(viewer, progression, study, card=card)


def _look(viewer: ViewerModel, view: Mapping[str, Any]) -> None:
    with suppress(ValueError, IndexError, KeyError):  # the layers may be fewer than there were
        if len(view["order"]) == viewer.dims.ndim:
            viewer.dims.order = tuple(int(a) for a in view["order"])
            follow_order(viewer)
            for axis, where in enumerate(view["point"]):
                viewer.dims.set_point(axis, float(where))
        camera = camera_of(viewer)
        camera.center, camera.zoom = tuple(view["center"]), float(view["zoom"])
        if view["active"] in viewer.layers:
            viewer.layers.selection.active = viewer.layers[view["active"]]


# -- recent ones -------------------------------------------------------------------------------------------------------
def recent_sessions() -> list[Path]:
    """Sessions that were saved or opened last, the latest first; those that are gone are left out."""
    try:
        listed = json.loads(_list().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [Path(str(p)) for p in listed if is_session(str(p))] if isinstance(listed, list) else []


def _remember(path: Path) -> None:
    known = [p for p in recent_sessions() if p != path.resolve()]
    with suppress(MedseqError):  # a list that cannot be kept is no reason to fail
        write_text(_list(), json.dumps([str(p) for p in (path.resolve(), *known)][:_RECENT]))


def _list() -> Path:
    import platformdirs

    folder = os.environ.get("NAPARI_MEDSEQ_STATE") or platformdirs.user_state_dir("napari-medseq")
    return Path(folder) / "recent.json"
