"""A session: images by reference, masks, what is painted, results, corrections and the view, in one folder; written whole or not at all.

`save_session` works on any viewer, as `open_session` does (`session_opening`); `napari_medseq.viewer.recovery` uses the same folder to
survive a crash.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq import __version__
from napari_medseq.errors import MedseqError, WriteError
from napari_medseq.files import write_text
from napari_medseq.viewer import layers as _layers
from napari_medseq.viewer import study as _studies
from napari_medseq.viewer.editing import editing_of
from napari_medseq.viewer.followed import results_of
from napari_medseq.viewer.placement import camera_of
from napari_medseq.viewer.records import plain, write_labels

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

FORMAT = 1
FILE = "session.json"
LOOK = ("name", "visible", "opacity", "blending")
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
    remember(path)
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
            "format": FORMAT, "version": __version__, "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "layers": [k for k in kept if k is not None], "results": results, "view": _view(viewer),
        }  # fmt: skip
        (part / FILE).write_text(json.dumps(plain(facts), indent=1), encoding="utf-8")
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
        "kind": kind, "look": {name: getattr(layer, name) for name in LOOK}, "about": about, "visit": facts.get("visit"),
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


def is_session(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a session that `save_session` wrote."""
    return (Path(path) / FILE).is_file()


# -- recent ones -------------------------------------------------------------------------------------------------------
def recent_sessions() -> list[Path]:
    """Sessions that were saved or opened last, the latest first; those that are gone are left out."""
    try:
        listed = json.loads(_list().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [Path(str(p)) for p in listed if is_session(str(p))] if isinstance(listed, list) else []


def remember(path: Path) -> None:
    """Put a session first among the recent ones."""
    known = [p for p in recent_sessions() if p != path.resolve()]
    with suppress(MedseqError):  # a list that cannot be kept is no reason to fail
        write_text(_list(), json.dumps([str(p) for p in (path.resolve(), *known)][:_RECENT]))


def _list() -> Path:
    import platformdirs

    folder = os.environ.get("NAPARI_MEDSEQ_STATE") or platformdirs.user_state_dir("napari-medseq")
    return Path(folder) / "recent.json"
