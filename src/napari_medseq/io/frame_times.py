"""The start times of a file's frames: from the BIDS JSON beside it, else from the header's time step if that is
plausible.

Sources: the BIDS specification 1.10 (RepetitionTime, VolumeTiming for MR; FrameTimesStart, FrameDuration for PET; all in seconds;
the inheritance principle), the NIfTI-1 standard (``pixdim[4]`` and its unit).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseq.io import naming

#: One frame a step of more seconds than this, or all frames more, are most likely milliseconds that are called seconds; late
#: PET frames last 5 to 10 minutes, a long dynamic scan 2 hours.
LONGEST_STEP, LONGEST_SCAN = 600.0, 6 * 3600.0
#: A step below this is not a cine of a heart (20 ms) but seconds that are called milliseconds.
SHORTEST_STEP = 0.005
#: A repetition time below this is that of one excitation, not of a volume.
_SHORTEST_VOLUME = 0.1
_DAY = 86400.0
_MOST_JSON = 1 << 20
_LEVELS = 4


def sidecar(path: Path, *, inherited: bool = False) -> dict[str, object]:
    """The BIDS JSON of an image; with `inherited`, also what JSON files of the same suffix in the folders above say.

    Parameters
    ----------
    path : Path
        The image.
    inherited : bool
    """
    stem = naming.stem(path)
    files = [path.with_name(stem + ".json")]
    parts = stem.split("_")
    if inherited and len(parts) > 1 and all("-" in p for p in parts[:-1]):
        for folder in list(path.resolve().parents)[:_LEVELS]:
            for other in sorted(folder.glob(f"*{parts[-1]}.json")):
                words = other.stem.split("_")
                if words[-1] == parts[-1] and set(words[:-1]) <= set(parts[:-1]):
                    files.append(other)
    out: dict[str, object] = {}
    for file in reversed(files):
        out.update(_small_json(file))
    return out


def _small_json(file: Path) -> dict[str, object]:
    try:
        if not file.is_file() or file.stat().st_size > _MOST_JSON:
            return {}
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def from_sidecar(
    facts: Mapping[str, object], count: int, step: float | None, notes: list[str]
) -> NDArray[np.float64] | None:
    """Seconds of `count` frames from the first, as a BIDS JSON says; None where it says nothing usable.

    Parameters
    ----------
    facts : mapping
    count : int
    step : float or None
        What the image's own header says, in seconds.
    notes : list of str
        Takes a line for each doubt.
    """
    for key in ("FrameTimesStart", "VolumeTiming"):
        if key in facts:
            times = _numbers(facts[key], count)
            if times is not None and (np.diff(times) > 0).all():
                return _in_seconds(np.asarray(times - times[0], dtype=np.float64), key, notes)
            notes.append(f"{key} in the JSON beside the file does not give {count} rising times; it is not used.")
    if "FrameDuration" in facts:
        durations = _numbers(facts["FrameDuration"], count)
        if durations is not None and (durations > 0).all():
            starts = np.asarray(np.cumsum(durations) - durations, dtype=np.float64)
            return _in_seconds(starts, "FrameDuration", notes)
        notes.append(f"FrameDuration in the JSON beside the file does not give {count} durations; it is not used.")
    repetition = facts.get("RepetitionTime")
    if isinstance(repetition, (int, float)) and not isinstance(repetition, bool) and np.isfinite(repetition):
        usable = repetition >= _SHORTEST_VOLUME or (step is None and repetition > 0)
        if usable and (step is None or abs(repetition - step) > 0.01 * step):
            if step not in (None, 1.0):
                notes.append(
                    f"The JSON beside the file gives {repetition:g} s between frames, its header {step:g} s; the JSON is used."
                )
            return _in_seconds(np.arange(count, dtype=np.float64) * float(repetition), "RepetitionTime", notes)
    return None


def _numbers(content: object, count: int) -> NDArray[np.float64] | None:
    try:
        values = np.array(content, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def _in_seconds(times: NDArray[np.float64], key: str, notes: list[str]) -> NDArray[np.float64]:
    """Times as they are; milliseconds, which the specification does not allow, are recognised by days of scanning."""
    longest = _DAY if key in ("FrameTimesStart", "VolumeTiming", "FrameDuration") else LONGEST_STEP
    measured = times[-1] if longest == _DAY else (times[1] if len(times) > 1 else 0.0)
    if measured > longest:
        notes.append(f"{key} in the JSON beside the file is in milliseconds, it seems (in seconds it cannot be true).")
        return times / 1000.0
    return times


def doubt_step(step: float, count: int) -> str | None:
    """The reason why a time step of so many seconds between `count` frames is implausible; None if it is plausible."""
    if step > LONGEST_STEP or step * (count - 1) > LONGEST_SCAN:
        return (
            f"The header says that frames are {step:g} s apart, {step * (count - 1) / 3600:.3g} hours in all; "
            "most likely that is milliseconds. The value is kept."
        )
    if step < SHORTEST_STEP:
        return f"The header says that frames are {step:g} s apart, which is too short; its unit may be wrong. The value is kept."
    return None
