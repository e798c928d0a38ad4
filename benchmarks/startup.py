"""What starting costs: ``import napari_medseq`` over a bare interpreter, ``napari-medseq --help``, the file type of a file.

    python benchmarks/startup.py [--repeat 15] [--out startup.json]

Each figure is the median of whole processes, the bare interpreter and ours taken in turn, so that a busy machine slows both. Limits:
the import adds under 50 ms; a file's type is told in under 5 ms.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


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


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeat", type=int, default=15)
    options.add_argument("--out", type=Path)
    args = options.parse_args()
    cases = {
        "bare interpreter": ("-c", "pass"),
        "import napari_medseq": ("-c", "import napari_medseq"),
        "napari-medseq --help": ("-m", "napari_medseq", "--help"),
        "import numpy (to compare)": ("-c", "import numpy"),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(args.repeat):
        for name, arguments in cases.items():
            times[name].append(seconds(*arguments))
    bare = statistics.median(times["bare interpreter"])
    rows = {
        name: {
            "median_ms": 1000 * statistics.median(t),
            "added_ms": 1000 * (statistics.median(t) - bare),
            "added_fastest_ms": 1000 * (min(t) - min(times["bare interpreter"])),
        }
        for name, t in times.items()
    }
    print(f"{'process':28} {'median ms':>10} {'added ms':>9} {'added, fastest':>15}")
    for name, row in rows.items():
        print(f"{name:28} {row['median_ms']:10.1f} {row['added_ms']:9.1f} {row['added_fastest_ms']:15.1f}")
    kinds = detect_ms(args.repeat)
    for name, value in kinds.items():
        print(f"type of a file: {name:20} {value:8.3f} ms")
    if args.out:
        facts = {
            "python": platform.python_version(),
            "machine": platform.platform(),
            "processes": rows,
            "detect_ms": kinds,
        }
        args.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
