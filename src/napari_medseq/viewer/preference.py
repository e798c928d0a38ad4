"""napari's setting of which reader opens what: this package for folders and medical files, so that dropping one asks
no question."""

from __future__ import annotations

import os

NAME = "napari-medseq"
#: patterns that napari compares with the whole path; that of a folder ends with a separator
PATTERNS = (
    f"*{os.sep}", "*.dcm", "*.ima", "*DICOMDIR", "*.nii", "*.nii.gz", "*.nrrd", "*.nhdr", "*.mha", "*.mhd",
)  # fmt: skip


def prefer() -> tuple[list[str], dict[str, str]]:
    """Let napari open folders and medical files with this package without asking, from now on.

    Returns
    -------
    set : list of str
        The patterns that are now assigned to this package.
    kept : dict of str to str
        Patterns for which another reader was chosen before, with that reader; they stay as they are.
    """
    from napari.settings import get_settings

    settings = get_settings()
    before = dict(settings.plugins.extension2reader)
    others = {p: before[p] for p in PATTERNS if before.get(p, NAME) != NAME}
    patterns = [p for p in PATTERNS if p not in others]
    settings.plugins.extension2reader = {**before, **dict.fromkeys(patterns, NAME)}
    settings.save()
    return patterns, others


def is_preferred() -> bool:
    """Whether napari already opens folders with this package, or the user chose another reader for them."""
    from napari.settings import get_settings

    return f"*{os.sep}" in get_settings().plugins.extension2reader
