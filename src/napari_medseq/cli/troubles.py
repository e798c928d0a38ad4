"""Problems of this computer, each with its remedy: folders, names, disk, network, screen; for ``napari-medseq
doctor``."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

#: free space in MB that results and unpacked archives need
_LEAST_FREE_MB = 500


def troubles() -> list[str]:
    """One sentence for each problem, and its remedy; empty if there is none."""
    return [*_folders(), *_names(), *_disk(), *_network(), *_screen()]


def writable(folder: Path) -> bool:
    """Whether a file can be created in a folder, or in the nearest existing one above; this is tried, because
    permissions do not reflect mounts."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        handle, name = tempfile.mkstemp(dir=folder)
    except OSError:
        return False
    os.close(handle)
    with suppress(OSError):
        Path(name).unlink()
    return True


def _folders() -> Iterator[str]:
    from platformdirs import user_cache_dir, user_config_dir, user_data_dir

    from napari_medseq.io.pseudonyms import VARIABLE
    from napari_medseq.models.library import user_folder

    try:
        home: Path | None = Path.home()
    except RuntimeError:
        home = None
    if home is None or not home.is_dir():
        yield (
            "There is no home folder, so settings, added models and the sample study have no place: set HOME to a folder that exists."
        )
        return
    key, state = os.environ.get(VARIABLE), os.environ.get("NAPARI_MEDSEQ_STATE")
    needed = {
        "added and taught models": (user_folder(), "NAPARI_MEDSEQ_MODELS"),
        "work that is not saved yet": (Path(state or user_data_dir("napari-medseq")), "NAPARI_MEDSEQ_STATE"),
        "the sample study": (Path(user_cache_dir("napari-medseq")), "XDG_CACHE_HOME"),
        "napari's settings": (Path(user_config_dir("napari")), "XDG_CONFIG_HOME"),
    }
    for purpose, (folder, variable) in needed.items():
        if not writable(folder):
            yield f"The folder for {purpose} ({folder}) cannot be written to: set {variable} to a folder of yours."
    path = Path(key) if key else Path(user_config_dir("napari-medseq")) / "pseudonyms.key"
    if not path.is_file() and not writable(path.parent):
        yield (
            f"The key of patients' pseudonyms ({path}) cannot be made, so that pseudonyms differ from run to run: "
            f"set {VARIABLE} to a file in a folder of yours."
        )


def _names() -> Iterator[str]:
    encoding = sys.getfilesystemencoding().lower().replace("_", "-")
    if encoding not in ("utf-8", "utf8"):
        yield (
            f"Names of files are read as {encoding}, so names in other alphabets cannot be used: set PYTHONUTF8=1, or LC_ALL to a "
            "UTF-8 locale such as C.UTF-8."
        )


def _network() -> Iterator[str]:
    """Whether a network is available; nothing is sent, because connecting a datagram socket only notes the address."""
    # addresses for documentation, RFC 5737 and RFC 3849
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return
    yield (
        "There is no network. Only adding a model by its address and sending a computation to a server need one: "
        "bring a model as a file, and add it with: napari-medseq models add FILE"
    )


def _disk() -> Iterator[str]:
    folder = Path(tempfile.gettempdir())
    if not writable(folder):
        yield f"The folder for temporary files ({folder}) cannot be written to: set TMPDIR to a folder of yours."
        return
    free = shutil.disk_usage(folder).free // 2**20
    if free < _LEAST_FREE_MB:
        yield f"Only {free} MB are free in {folder}: make room, or set TMPDIR to a folder on another disk."


def _screen() -> Iterator[str]:
    if find_spec("napari") is None:
        yield 'napari is not installed, so only scripts and the command work: pip install "napari-medseq[all]"'
        return
    if not any(find_spec(binding) for binding in ("PySide6", "PyQt6", "PyQt5", "PySide2")):
        yield "napari has no Qt to open a window with: pip install PySide6"
    elif sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield "There is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set): scripts and the command work, napari's window does not."
