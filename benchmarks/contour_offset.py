"""How far the outlines of a data set lie from the border that the image shows, in its own pixels.

    python benchmarks/contour_offset.py      # what is done is kept in benchmarks/runs/contour-offset

Outlines are moved, all of a patient alike, and drawn in, until the image rises most steeply across them, from the wall to the blood;
the middle half of the slices is looked at. Papillary muscles, which observers leave in the cavity, draw the result inwards, so a set
whose outlines are right does not come out as 0 either: what counts is that one set differs from another. The networks that ship
learn from outlines that are moved by what is found here (`shipped_networks.py`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

import cardiac
import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import intervals

Plane = NDArray[np.floating]
INWARDS = np.arange(-1, 4.1, 0.5)  # pixels
MOVES = np.arange(-3, 3.1, 0.5)
LEAST = 200  # pixels of a cavity that is looked at
NAMES = ("inwards", "to the left", "to the back")  # of (y, x) arrays in (superior, posterior, left) order: x, then y


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pixels from the border, positive within."""
    inner, outer = distance_transform_edt(mask), distance_transform_edt(~mask)
    found: NDArray[np.float64] = np.where(mask, np.asarray(inner) - 0.5, 0.5 - np.asarray(outer))
    return found


def rises(image: Plane, mask: NDArray[np.bool_]) -> Iterator[tuple[tuple[float, float, float], float]]:
    """How steeply a slice rises across its outline, drawn in and moved (left, back)."""
    distance = gaussian_filter(signed_distance(mask), 1.0)
    inner = float(np.median(image[distance > 3]))
    dy, dx = np.gradient(np.clip(gaussian_filter(image, 0.7) / max(inner, 1e-6), 0, 1.1))
    ny, nx = np.gradient(distance)
    for inwards in INWARDS:
        at = np.argwhere(np.abs(distance - inwards) < 0.5)
        if len(at) < 20:
            continue
        normal = np.stack([ny[tuple(at.T)], nx[tuple(at.T)]])
        normal = normal / (np.linalg.norm(normal, axis=0) + 1e-6)
        for left, back in itertools.product(MOVES, MOVES):
            place = (at + np.array([back, left])).T
            across = map_coordinates(dy, place, order=1) * normal[0] + map_coordinates(dx, place, order=1) * normal[1]
            yield (float(inwards), float(left), float(back)), float(across.mean())


def offset(folder: Path, phase: str, value: int) -> tuple[float, float, float] | None:
    """Of one patient: how far to draw the outlines in and to move them."""
    image = ms.read(folder / f"{phase}.nii.gz", kind="image")[0].volume_zyx().astype(np.float64)
    cavity = ms.read(folder / f"{phase}_labels.nii.gz", kind="labels")[0].volume_zyx() == value
    there = np.flatnonzero(cavity.any((1, 2)))
    skipped = len(there) // 4
    found: dict[tuple[float, float, float], list[float]] = {}
    for step in there[skipped : len(there) - skipped]:
        if cavity[step].sum() >= LEAST:
            for key, rise in rises(image[step], cavity[step]):
                found.setdefault(key, []).append(rise)
    return max(found, key=lambda k: float(np.mean(found[k]))) if found else None


def main() -> None:
    if not cardiac.DATA.is_dir():
        raise SystemExit(f"{cardiac.DATA} is not there; set MEDSEQ_DATA.")
    lines = ["| outlines of | phase | patients | " + " | ".join(NAMES) + " |", "| --- " * 6 + "|"]
    kept: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name, phase in itertools.product(cardiac.SETS, cardiac.PHASES):
        path = Path(__file__).parent / "runs" / "contour-offset" / f"{name}-{phase}.json"
        if not path.exists():
            files.write_json(path, {p.name: offset(p, phase, cardiac.CAVITY[name]) for p in cardiac.patients(name)})
        values = {k: v for k, v in json.loads(path.read_text()).items() if v is not None}
        kept[f"{name} {phase}"] = values
        means = [intervals.bootstrap(np.array([v[k] for v in values.values()])) for k in range(3)]
        lines.append(
            f"| {name} | {phase} | {len(values)} | " + " | ".join(f"{m.value:+.2f} ({m.low:+.2f} to {m.high:+.2f})" for m in means) + " |"
        )  # fmt: skip
    print("Pixels, mean (95 % by patient)\n")
    print("\n".join(lines))
    files.write_json(Path(__file__).parents[1] / "docs" / "benchmarks" / "contour_offset.json", {"offset": kept})


if __name__ == "__main__":
    main()
