"""napari's hook to open a file or folder: a quick check of the first bytes, then the package's own readers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import io
from napari_medseq.errors import MedseqError, heard
from napari_medseq.viewer.layers.studies import studies_in
from napari_medseq.viewer.opening import Paths, arrange_when_added, layer_data
from napari_medseq.viewer.results.opening import is_result, open_result
from napari_medseq.viewer.sessions.opening import open_session
from napari_medseq.viewer.sessions.saving import is_session

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseq.viewer.layers.conversion import LayerData

#: number of files of a folder that are checked before it is declined
_LOOK_AT = 200


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData | tuple[None]]] | None:
    """napari's hook: the reader if this package supports the file, or something in the folder, by its first bytes;
    else None."""
    return read if _is_ours(path) else None


def _is_ours(path: Paths) -> bool:
    if not isinstance(path, str | os.PathLike):
        return any(_is_ours(p) for p in path)
    if is_session(path):
        return True
    kind = io.detect(path)
    if kind != "folder":
        return kind not in (None, "tiff")  # napari opens TIFF files itself, as its users expect
    files = list(_first_files(Path(path)))
    # an empty folder gives a clear error instead of no reaction
    return not files or any(io.detect(f) for f in files)


def _first_files(folder: Path) -> Iterator[Path]:
    """Some files below a folder, without searching a whole disk."""
    seen = 0
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.startswith("."):
                continue
            yield Path(root, name)
            seen += 1
            if seen >= _LOOK_AT:
                return


def read(path: Paths) -> list[LayerData | tuple[None]]:
    """napari's reader function: layer data; in the application, problems are shown as one notification."""
    viewer = application_viewer()
    if viewer is None:
        return list(layer_data(path))
    from napari.utils.notifications import show_error, show_warning

    from napari_medseq._napari.notifications import guarded
    from napari_medseq._napari.window.opening import asked_in_the_window
    from napari_medseq._napari.window.services import accompany

    guardian = accompany(viewer)
    if guardian is not None and asked_in_the_window():
        for entry in [path] if isinstance(path, str | os.PathLike) else path:
            guardian.opener.open(entry)
        return [(None,)]
    if isinstance(path, str | os.PathLike) and is_session(path):
        guarded("Opening the session", lambda: open_session(viewer, path))
        return [(None,)]
    if isinstance(path, str | os.PathLike) and is_result(path):
        guarded("Opening the result", lambda: open_result(viewer, path))
        return [(None,)]
    try:
        with heard() as heard_doubts, warnings.catch_warnings(record=True):  # each doubt is shown once, below
            warnings.simplefilter("always")
            data = layer_data(path, taken=studies_in(viewer.layers))
    except MedseqError as error:
        show_error(str(error))
        return [(None,)]
    doubts = dict.fromkeys(heard_doubts)
    doubts |= dict.fromkeys(w for _, kwargs, _ in data for w in kwargs["metadata"]["napari-medseq"]["warnings"])
    if doubts:
        show_warning("\n".join(doubts))
    arrange_when_added(viewer)
    return list(data)


def application_viewer() -> ViewerModel | None:
    """The viewer of the running application; None in a script."""
    import sys

    if "napari" not in sys.modules:
        return None
    import napari

    return napari.current_viewer()
