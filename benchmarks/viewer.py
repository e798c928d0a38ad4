"""The window while a study opens, and memory over rounds of opening, following and closing, each beside napari alone.

    python benchmarks/viewer.py [--folder STUDY] [--repeat 3] [--rounds 10] [--out viewer.json]

*Opening*: a folder is dropped on a window with the docks Study and Progression. A timer that should fire every 2 ms tells how long the
GUI thread was held, while the files are read and for each layer that comes. Beside it, in a process of its own, napari alone adds the
very same layers. Limit: no layer holds the window for more than 100 ms longer than napari's own `add_layer` does, and reading for no more
than 100 ms. On a machine that does other work, ``--computing`` counts the GUI thread's processor time instead of the clock.

*Memory*: a window is opened with the study, its lesions are followed and plotted, and it is closed; ten times in one process. Beside it an
empty napari is opened and closed alike. Limit: from the third to the tenth round less than 10 MB more than that. Freed memory is given
back to the system before each look (``malloc_trim``), so that what is counted is held by something.

Needs a display (``xvfb-run``).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_medseq.viewer.layers.conversion import LayerData

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))
STUDY = DATA / "brain-tumor-progression" / "sub-03"
SAMPLE = HERE.parent / "sample_data" / "study"
BEAT_MS = 2
LIMIT_MS, LIMIT_MB = 100.0, 10.0
#: count the GUI thread's processor time instead of the time on the clock
COMPUTING = "--computing" in sys.argv


class Heart:
    """Fires every 2 ms while the event loop lives; `longest` is the longest time in which it did not, since `reset`.

    With ``--computing`` it is the GUI thread's own processor time that counts: what other programs take away does not.
    """

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.clock = time.thread_time if COMPUTING else time.perf_counter
        self.longest = 0.0
        self._last = self.clock()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    def _beat(self) -> None:
        now = self.clock()
        waited = 0.0 if COMPUTING else BEAT_MS
        self.longest, self._last = max(self.longest, 1000 * (now - self._last) - waited), now

    def reset(self) -> float:
        """Begin anew; the longest time until now, in ms."""
        out, self.longest = self.longest, 0.0
        return out


def settle(seconds: float = 1.0) -> None:
    """Let the window draw itself."""
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.DeferredDelete)
        time.sleep(0.001)


def until(true: Callable[[], bool], seconds: float = 600.0) -> None:
    """Turn the event loop until something is true."""
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while not true():
        if time.perf_counter() > end:
            raise SystemExit("The viewer did not come to an end.")
        QApplication.processEvents()
        time.sleep(0.0005)


# -- opening -----------------------------------------------------------------------------------------------------------
def napari_alone(folder: Path) -> dict[str, Any]:
    """ms per layer in which napari's `add_layer` holds the window, one layer in each turn of the event loop."""
    from napari.layers import Layer
    from qtpy.QtCore import QTimer

    import napari
    from napari_medseq.viewer.opening import layer_data

    data = layer_data(folder)
    viewer = napari.Viewer()
    settle()
    heart, held = Heart(), list[float]()
    settle(0.2)
    waiting = list(data)

    def add() -> None:
        if held or len(waiting) < len(data):
            held.append(heart.reset())
        if waiting:
            if len(waiting) == len(data):
                heart.reset()
            viewer.add_layer(Layer.create(*waiting.pop(0)))
            QTimer.singleShot(0, lambda: QTimer.singleShot(3 * BEAT_MS, add))

    QTimer.singleShot(0, add)
    until(lambda: len(held) == len(data))
    names = [item[1]["name"] for item in data]
    viewer.close()
    return {"names": names, "held_ms": held}


def ours(folder: Path) -> dict[str, Any]:
    """ms in which the window is held while a dropped folder is read, and for each of its layers."""
    from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    import napari
    from napari_medseq._napari.window.services import accompany
    from napari_medseq.viewer.preference import PATTERNS

    napari.settings.get_settings().plugins.extension2reader = dict.fromkeys(PATTERNS, "napari-medseq")
    viewer = napari.Viewer()
    for name in ("Study", "Progression"):
        viewer.window.add_plugin_dock_widget("napari-medseq", name)
    settle(8.0)  # the list of models comes from a worker
    opener = accompany(viewer).opener
    heart, held = Heart(), list[float]()
    settle(0.2)
    reading = list[float]()
    steps: Callable[..., None] = opener.work.each

    def each(
        title: str,
        items: Sequence[LayerData],
        action: Callable[[Any], object],
        done: Callable[[bool], object],
        ready: Callable[[], bool],
    ) -> None:
        reading.append(heart.reset())

        def timed(item: LayerData) -> None:
            if len(viewer.layers):
                held.append(heart.reset())
            action(item)

        steps(title, items, timed, done, ready)

    opener.work.each = each
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(folder))])
    heart.reset()
    began = time.perf_counter()
    viewer.window._qt_viewer.dropEvent(QDropEvent(QPointF(60, 60), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier))
    until(lambda: opener.work.busy)
    until(lambda: not opener.work.busy)
    settle(0.1)
    held.append(heart.reset())
    seconds = time.perf_counter() - began - 0.1
    out = {"reading_ms": reading[0], "held_ms": held, "seconds": seconds, "layers": len(viewer.layers)}
    viewer.close()
    return out


# -- memory ------------------------------------------------------------------------------------------------------------
def memory(folder: Path, rounds: int, *, empty: bool) -> list[float]:
    """Resident memory in MB after each round."""
    import napari

    out = []
    for _ in range(rounds):
        viewer = napari.Viewer()
        settle(0.3)
        if not empty:
            follow(viewer, folder)
        viewer.close()
        del viewer
        for _ in range(2):
            settle(0.2)
            gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        out.append(resident_mb())
    return out


def follow(viewer: Any, folder: Path) -> None:
    """Open a study, and follow and plot its masks in the *Progression* widget."""
    viewer.open(str(folder), plugin="napari-medseq")
    _, widget = viewer.window.add_plugin_dock_widget("napari-medseq", "Progression")
    until(widget.model.box.isEnabled)
    masks, visits = [], set()
    for layer in viewer.layers:
        facts = layer.metadata["napari-medseq"]
        if layer._type_string == "labels" and facts["ordinal"] not in visits:
            visits.add(facts["ordinal"])
            masks.append(layer)
    widget.by_labels.setChecked(True)
    widget.labels.tick(masks)
    widget.register.setCurrentText("none")
    widget.run()
    until(lambda: not widget.work.busy)
    if not widget.result.layers:
        raise SystemExit("Nothing was followed.")
    settle(0.3)


def resident_mb() -> float:
    """Of this process, now."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


# -- the table ---------------------------------------------------------------------------------------------------------
def child(what: str, folder: Path, rounds: int) -> Any:
    """One measure in a process of its own."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        __file__,
        *(["--computing"] if COMPUTING else []),
        "--child",
        what,
        "--folder",
        str(folder),
        "--rounds",
        str(rounds),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def opening_table(folder: Path, repeat: int) -> dict[str, Any]:
    """Both in turn, `repeat` times; medians per layer."""
    alone, mine = [], []
    for _ in range(repeat):
        alone.append(child("napari", folder, 1))
        mine.append(child("ours", folder, 1))
    napari_ms = [statistics.median(one["held_ms"][k] for one in alone) for k in range(len(alone[0]["held_ms"]))]
    ours_ms = [statistics.median(one["held_ms"][k] for one in mine) for k in range(len(mine[0]["held_ms"]))]
    beyond = [a - b for a, b in zip(ours_ms, napari_ms, strict=True)]
    reading = [one["reading_ms"] for one in mine]
    print(
        f"Opening {folder.name}: {len(ours_ms)} layers, {repeat} times; ms in which the window {'computes' if COMPUTING else 'is held'}"
    )
    print(f"{'':34}{'median':>9}{'longest':>9}")
    for title, values in (
        ("reading, in a job", reading),
        ("each layer, napari alone", napari_ms),
        ("each layer, with this plugin", ours_ms),
        ("beyond napari, layer by layer", beyond),
    ):
        print(f"{title:34}{statistics.median(values):9.0f}{max(values):9.0f}")
    verdict = "kept" if max(beyond) <= LIMIT_MS and statistics.median(reading) <= LIMIT_MS else "NOT KEPT"
    seconds = statistics.median(one["seconds"] for one in mine)
    print(f"limit of {LIMIT_MS:.0f} ms beyond napari: {verdict}; from the drop to the last layer {seconds:.1f} s")
    return {"napari_ms": napari_ms, "ours_ms": ours_ms, "reading_ms": reading, "kept": verdict == "kept"}


def memory_table(folder: Path, rounds: int) -> dict[str, Any]:
    """Ours and the empty one, a process each."""
    rows = {what: child(what, folder, rounds) for what in ("empty", "follow")}
    print(f"\nMemory in MB after each of {rounds} rounds")
    for title, what in (("empty napari, opened and closed", "empty"), ("open, follow, plot, close", "follow")):
        print(f"{title:34}" + "".join(f"{value:7.0f}" for value in rows[what]))
    grown = {what: values[-1] - values[2] for what, values in rows.items()}
    beyond = grown["follow"] - grown["empty"]
    verdict = "kept" if beyond < LIMIT_MB else "NOT KEPT"
    print(
        f"from the third round to the last: empty {grown['empty']:+.1f}, with the study {grown['follow']:+.1f}, beyond {beyond:+.1f} MB; "
        f"limit of {LIMIT_MB:.0f} MB: {verdict}"
    )
    return {**rows, "beyond_mb": beyond, "kept": verdict == "kept"}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--folder", type=Path)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--only", choices=("opening", "memory"))
    options.add_argument("--computing", action="store_true", help="count processor time, for a machine that is busy")
    options.add_argument("--child", choices=("napari", "ours", "empty", "follow"), help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path)
    args = options.parse_args()
    folder = args.folder or (STUDY if STUDY.is_dir() else SAMPLE)
    os.environ.setdefault("NAPARI_MEDSEQ_STATE", str(Path(os.environ.get("TMPDIR", "/tmp")) / "medseq-benchmark"))
    os.environ.setdefault("NAPARI_CONFIG", "")  # nothing of this person's settings is used, or changed
    if args.child:
        what: dict[str, Callable[[], object]] = {
            "napari": lambda: napari_alone(folder),
            "ours": lambda: ours(folder),
            "empty": lambda: memory(folder, args.rounds, empty=True),
            "follow": lambda: memory(folder, args.rounds, empty=False),
        }
        print(json.dumps(what[args.child]()))
        return
    facts = {}
    if args.only != "memory":
        facts["opening"] = opening_table(folder, args.repeat)
    if args.only != "opening":
        facts["memory"] = memory_table(folder, args.rounds)
    if args.out:
        args.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
