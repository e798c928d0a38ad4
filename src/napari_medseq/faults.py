"""A log of what failed, for bug reports: which error, where in the code, never a message, a path or anything of a patient."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

#: the log keeps so many failures
_KEPT = 100
#: of a traceback, the last so many places
_PLACES = 8


def log_file() -> Path:
    """The log file, in the platform's folder for logs."""
    import platformdirs

    return Path(platformdirs.user_log_dir("napari-medseq")) / "faults.jsonl"


def note(doing: str, error: BaseException) -> None:
    """Add a failure to the log. Where it cannot be written it is lost: a log must not fail itself.

    Parameters
    ----------
    doing : str
        The command or button, in our own words.
    error : BaseException
        Its kind and those of its causes are kept, and the modules and lines they came through; its message is not.
    """
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "doing": doing, "errors": list(_kinds(error))}
    with suppress(OSError, RuntimeError):
        path = log_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.write_text("\n".join([*lines[1 - _KEPT :], json.dumps(entry)]) + "\n", encoding="utf-8")


def recent(count: int = 10) -> list[dict[str, object]]:
    """The latest failures, oldest first; those that cannot be read are left out."""
    entries: list[dict[str, object]] = []
    with suppress(OSError, RuntimeError, UnicodeDecodeError):
        for line in log_file().read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
    return entries[-count:]


def _kinds(error: BaseException) -> Iterator[dict[str, object]]:
    seen: BaseException | None = error
    while seen is not None:
        frames = traceback.extract_tb(seen.__traceback__)[-_PLACES:]
        places = [f"{_module(Path(frame.filename))}:{frame.lineno}" for frame in frames]
        yield {"kind": f"{type(seen).__module__}.{type(seen).__qualname__}", "through": places}
        seen = seen.__cause__


def _module(path: Path) -> str:
    """A file's place inside its package; a file that lies nowhere in one is the user's own, and stays unnamed."""
    parts = path.parts
    for root in ("site-packages", "src"):
        if root in parts:
            return "/".join(parts[len(parts) - parts[::-1].index(root) :])
    return path.name if "lib" in parts else "(a script)"
