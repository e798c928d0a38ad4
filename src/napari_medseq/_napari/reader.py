"""What napari calls to open a file or folder: a quick look at the first bytes, then the package's own readers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_medseq import io
from napari_medseq._napari.layers import LayerData, to_layer_data
from napari_medseq._napari.looks import arranged
from napari_medseq._napari.studies import by_patient, study_layer_data
from napari_medseq.errors import MedseqError, ReadError

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: how many files of a folder are looked at before it is declined
_LOOK_AT = 200


def get_reader(path: Paths) -> Callable[[Paths], list[Any]] | None:
    """napari's hook: the reader if the file, or something in the folder, is ours by its first bytes; else None."""
    return read if _is_ours(path) else None


def _is_ours(path: Paths) -> bool:
    if not isinstance(path, str | os.PathLike):
        return any(_is_ours(p) for p in path)
    kind = io.detect(path)
    if kind != "folder":
        return kind is not None
    files = list(_first_files(Path(path)))
    # an empty folder is answered with a clear error rather than with silence
    return not files or any(io.detect(f) for f in files)


def _first_files(folder: Path) -> Iterator[Path]:
    """Some files below a folder, without walking a whole disk."""
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


def read(path: Paths) -> list[Any]:
    """napari's reader function: layer data; in the application, what is wrong is shown as one notification."""
    viewer = _application_viewer()
    if viewer is None:
        return list(layer_data(path))
    from napari.utils.notifications import show_error, show_warning

    try:
        data = layer_data(path)
    except MedseqError as error:
        show_error(str(error))
        return [(None,)]
    doubts = dict.fromkeys(w for _, kwargs, _ in data for w in kwargs["metadata"]["napari-medseq"]["warnings"])
    if doubts:
        show_warning("\n".join(doubts))
    arrange_when_added(viewer)
    return list(data)


def _application_viewer() -> Any:
    """The viewer of the running application, or None in a script."""
    import sys

    if "napari" not in sys.modules:
        return None
    import napari

    return napari.current_viewer()


def arrange_when_added(viewer: Any) -> None:
    """When the next layer comes into an empty viewer, show it along its slices, head up."""
    from napari_medseq._napari.placing import keep_views_true, step_through_slices

    keep_views_true(viewer)
    if len(viewer.layers):
        return

    def arrange(event: Any) -> None:
        viewer.layers.events.inserted.disconnect(arrange)
        step_through_slices(viewer, event.value)

    viewer.layers.events.inserted.connect(arrange, position="last")


def layer_data(path: Paths) -> list[LayerData]:
    """Layer data of a file, a list of files or a folder; a folder of several visits is a study on a slider `visit`.

    Of several patients each is a study of its own, and the layers of all but the first are hidden.

    Raises
    ------
    ReadError
        If nothing could be opened.
    """
    if isinstance(path, str | os.PathLike) and os.path.isdir(path):
        first, *others = (study_layer_data(s) for s in by_patient(io.read_study(path, lazy="auto")))
        for _, kwargs, _ in (item for data in others for item in data):
            kwargs["visible"] = False  # one patient at a time
        return [*first, *(item for data in others for item in data)]
    where = path if isinstance(path, str | os.PathLike) else [os.fspath(p) for p in path]
    found = io.read(where, lazy="auto")
    if not found:
        raise ReadError(f"{where} holds no image that can be opened; choose a NIfTI, DICOM, NRRD or MetaImage file.")
    return arranged([to_layer_data(seq) for seq in found])
