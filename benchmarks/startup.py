"""What starting costs: ``import napari_medseq`` over a bare interpreter, ``napari-medseq --help``, the file type of a file, and the
first widget of a window.

    python benchmarks/startup.py [--repeat 15] [--out startup.json]
    python benchmarks/startup.py --widgets 3 [--than SRC] [--out widgets.json]

Each figure is the median of whole processes, the bare interpreter and ours taken in turn, so that a busy machine slows both. Limits:
the import adds under 50 ms; a file's type is told in under 5 ms. ``--widgets N`` needs a screen (or Xvfb): in N windows of napari for each
widget, that widget is the first of ours that is opened; what is counted is the processor's time until it is drawn, which other
programs disturb less than the clock's. ``--than SRC`` takes the ``src`` of another version in turn with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml


def seconds(*arguments: str) -> float:
    """Wall time of a whole Python process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def detect_ms(repeat: int) -> dict[str, float]:
    """Milliseconds to tell a file's type, by kind of file."""
    from napari_medseq.io import detect

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "DICOM": b"\0" * 128 + b"DICM" + b"\0" * 4096,
            "NRRD": b"NRRD0004\n" + b"\0" * 4096,
            "text, not ours": b"hello " * 4096,
            "zeros, not ours": b"\0" * (1 << 22),
        }
        out = {}
        for kind, content in files.items():
            path = folder / f"{kind[:4]}_file"
            path.write_bytes(content)
            times = []
            for _ in range(repeat):
                began = time.perf_counter()
                detect(path)
                times.append(1000 * (time.perf_counter() - began))
            out[kind] = statistics.median(times)
    return out


FIRST = """
import sys, time
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
QApplication.processEvents()
began = time.process_time()
viewer.window.add_plugin_dock_widget("napari-medseq", sys.argv[1])
QApplication.processEvents()
print(time.process_time() - began, flush=True)
import os
os._exit(0)
"""


def first_widget(title: str, source: Path) -> float:
    """Processor seconds until a widget is drawn that is the first in a window."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, "-W", "ignore", "-c", FIRST, title]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def widgets(repeat: int, other: Path | None) -> dict[str, dict[str, float]]:
    """Seconds by widget: ours, and those of another version, taken in turn."""
    ours = Path(__file__).parents[1] / "src"
    manifest = yaml.safe_load((ours / "napari_medseq" / "napari.yaml").read_text(encoding="utf-8"))
    rows = {}
    for title in (widget["display_name"] for widget in manifest["contributions"]["widgets"]):
        times: dict[str, list[float]] = {"seconds": [], "than": []}
        for _ in range(repeat):
            times["seconds"].append(first_widget(title, ours))
            if other is not None:
                times["than"].append(first_widget(title, other))
        rows[title] = {name: statistics.median(t) for name, t in times.items() if t}
    return rows


def processes(repeat: int) -> dict[str, dict[str, float]]:
    """Milliseconds of whole processes."""
    cases = {
        "bare interpreter": ("-c", "pass"),
        "import napari_medseq": ("-c", "import napari_medseq"),
        "napari-medseq --help": ("-m", "napari_medseq", "--help"),
        "import numpy (to compare)": ("-c", "import numpy"),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeat):
        for name, arguments in cases.items():
            times[name].append(seconds(*arguments))
    bare = statistics.median(times["bare interpreter"])
    return {
        name: {
            "median_ms": 1000 * statistics.median(t),
            "added_ms": 1000 * (statistics.median(t) - bare),
            "added_fastest_ms": 1000 * (min(t) - min(times["bare interpreter"])),
        }
        for name, t in times.items()
    }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeat", type=int, default=15)
    options.add_argument("--widgets", type=int, default=0)
    options.add_argument("--than", type=Path)
    options.add_argument("--out", type=Path)
    args = options.parse_args()
    facts: dict[str, object] = {"python": platform.python_version(), "machine": platform.platform()}
    if args.widgets:
        opened = facts["first_widget"] = widgets(args.widgets, args.than)
        print("| widget opened first | processor s |" + (" of the version before |" if args.than else ""))
        print("|---|---:|" + ("---:|" if args.than else ""))
        for title, row in opened.items():
            print(f"| {title} | {row['seconds']:.2f} |" + (f" {row['than']:.2f} |" if args.than else ""))
    else:
        rows, kinds = processes(args.repeat), detect_ms(args.repeat)
        facts |= {"processes": rows, "detect_ms": kinds}
        print(f"{'process':28} {'median ms':>10} {'added ms':>9} {'added, fastest':>15}")
        for name, row in rows.items():
            print(f"{name:28} {row['median_ms']:10.1f} {row['added_ms']:9.1f} {row['added_fastest_ms']:15.1f}")
        for name, value in kinds.items():
            print(f"type of a file: {name:20} {value:8.3f} ms")
    if args.out:
        args.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
