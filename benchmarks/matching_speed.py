"""Time to match and measure two large masks, beside one connected-components pass on each, and its growth with the lesions.

Two masks of 512×512×300 voxels with 200 lesions by default. The pass is cc3d's (connected-components-3d, LGPL, used only here)
where that is installed, and SciPy's and SimpleITK's in any case. Each number is the median of repetitions, with the range.

    python benchmarks/matching_speed.py [--repeat 3] [--counts 25 50 100 200 400] [--json matching_speed.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.progression.shape import diameters
from napari_medseq.sequence import ImageSequence, affine_from

_STEP = 36


def many_balls(shape: tuple[int, int, int], count: int, grow: int) -> ImageSequence:
    """Balls of 4 to 9 voxels on a lattice that keeps them apart; the same places whatever `grow` adds to the radius."""
    rng = np.random.default_rng(0)
    data = np.zeros(shape, np.uint8)
    places = np.stack(np.meshgrid(*[np.arange(18, n - 17, _STEP) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    for place in places[rng.permutation(len(places))[:count]]:
        r = int(rng.integers(4, 10)) + grow
        ball = ((np.indices((2 * r + 1,) * 3) - r) ** 2).sum(axis=0) <= r * r
        z, y, x = place
        data[z - r : z + r + 1, y - r : y + r + 1, x - r : x + r + 1] |= ball.astype(np.uint8)
    return ImageSequence(data, ("z", "y", "x"), affine_from((0.8, 0.8, 1.0)), kind="labels", name="balls")


def passes() -> dict[str, Callable[[np.ndarray], Any]]:
    """One connected-components pass, by whom it is made."""
    import SimpleITK as sitk

    found: dict[str, Callable[[np.ndarray], Any]] = {
        "SciPy": lambda a: ndimage.label(a, np.ones((3, 3, 3))),
        "SimpleITK": lambda a: sitk.ConnectedComponent(sitk.GetImageFromArray(a), True),
    }
    try:
        import cc3d
    except ImportError:
        print("cc3d is not installed: compared with SciPy and SimpleITK only.")
    else:
        found = {"cc3d": lambda a: cc3d.connected_components(a, connectivity=26), **found}
    return found


def timed(work: Callable[[], Any], repeat: int) -> tuple[list[float], Any]:
    """CPU seconds of each repetition, and the last result: what other programs do meanwhile does not count."""
    seconds, result = [], None
    for _ in range(repeat):
        begin = time.process_time()
        result = work()
        seconds.append(round(time.process_time() - begin, 3))
    return seconds, result


def measure(shape: tuple[int, int, int], count: int, repeat: int) -> dict[str, Any]:
    """All times for one number of lesions."""
    masks = [many_balls(shape, count, grow) for grow in (0, 2)]
    row: dict[str, Any] = {"lesions": count}

    def track() -> ms.Progression:
        result = ms.track(masks)
        assert (result.lesions.query("visit == 1")["event"] == "growing").all()
        return result

    row["track_s"], result = timed(track, repeat)
    lesions = result.graph.lesions.values()
    row["diameters_s"], _ = timed(lambda: [diameters(lesion) for lesion in lesions], repeat)
    for name, one in passes().items():
        row[f"{name}_s"], _ = timed(lambda one=one: [one(mask.data) for mask in masks], repeat)
    return row


def shown(seconds: list[float]) -> str:
    """Median and range."""
    return f"{np.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"


def main() -> None:
    """Time all counts and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[25, 50, 100, 200, 400])
    parser.add_argument("--shape", type=int, nargs=3, default=[300, 512, 512], help="z y x")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for count in args.counts:
        row = measure(tuple(args.shape), count, args.repeat)
        rows.append(row)
        base = next(name for name in row if name in ("cc3d_s", "SciPy_s"))
        allowed = 2 * np.median(row[base]) + np.median(row["diameters_s"])
        verdict = "within" if np.median(row["track_s"]) < allowed else "over"
        text = "  ".join(
            f"{name.removesuffix('_s')} {shown(value)} s" for name, value in row.items() if name != "lesions"
        )
        print(
            f"{count:>5} lesions: {text}  | {verdict} 2 × {base.removesuffix('_s')} + diameters = {allowed:.2f} s",
            flush=True,
        )
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        slope = np.polyfit([r["lesions"] for r in rows], [np.median(r["track_s"]) for r in rows], 1)
        print(
            f"track = {slope[1]:.2f} s + {1000 * slope[0]:.2f} ms per lesion ({first['lesions']} to {last['lesions']} lesions)"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
