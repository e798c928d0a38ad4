"""Hashes of everything that a patient's result depends on: the study's files with their names, the model, the options,
the versions."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from napari_medseq import record
from napari_medseq.version import __version__


def study_sha256(study: Path) -> str:
    """SHA-256 of the names and contents of all files of a study: images, masks, tables, sidecars, and its part of BIDS
    derivatives.

    Links are followed, except those that lead back. Something other than a file, such as a pipe, counts by its name. A
    file that cannot be read counts by its name and the reason, so that the study counts as changed once it can be
    read.
    """
    digest = hashlib.sha256()
    for name, path in _files(study):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + _content(path).encode() + b"\n")
    return digest.hexdigest()


def segmentation_key(study: str, model: str, options: Mapping[str, object]) -> str:
    """Hash of everything that a segmentation depends on.

    Parameters
    ----------
    study, model : str
        Hashes of the study's files, and of the model's weights and configuration.
    options : mapping
        Options of `pipeline.segment_study`; ``device`` does not count.
    """
    facts = {
        "study": study,
        "model": model,
        "options": {key: value for key, value in options.items() if key != "device"},
        "version": __version__,
    }
    return record.sha256_of([json.dumps(facts, sort_keys=True, default=str).encode()])


def _files(study: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file, in order."""
    if not study.is_dir():
        yield study.name, study
        return
    tops = [study, *sorted(study.parent.glob(f"derivatives/*/{glob.escape(study.name)}"))]
    tops += [p for p in [study.parent / "derivatives" / study.name] if p.is_dir()]
    for number, top in enumerate(tops):
        seen = set()
        for root, folders, names in os.walk(top, followlinks=True):
            place = os.path.realpath(root)
            if place in seen:
                folders.clear()
                continue
            seen.add(place)
            folders.sort()
            for name in sorted(names):
                path = Path(root, name)
                yield f"{number}/{path.relative_to(top).as_posix()}", path


def _content(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "no file"
        return record.sha256(path)
    except OSError as error:
        return f"unreadable: {type(error).__name__}"
