"""`ms.propagate` on drawn abdomens in Hounsfield units: organs that no network of ours has seen, beside interpolated outlines.

    python benchmarks/propagate_organs.py --abdomens 2

Bodies with a wall of muscle, fat, bowel of two densities and air around them, noise of 18 HU; in them a large lobed liver that touches
the wall, a spleen, a kidney with a hollow, both kidneys as one object, an oblique aorta, a muscle beside the spine, and a vertebra.
100 slices of 3 mm, 256 × 256 pixels of 1.6 mm. The liver is carried along the left-right axis as well, a kidney along the front-back axis,
and the spleen with intensities of 10⁻⁵ and 10⁵ times the size. Steps and Dice as in `propagate.py`. "unlimited": the same network with the
image's intensities as they are (`prompts.contrast`).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.evaluation.intervals import paired
from napari_medseq.sequence import affine_from
from propagate import COUNTS, dice, protocols, signed
from propagate_cases import Case
from propagate_rivals import METHODS

Mask = NDArray[np.bool_]
SHAPE, SPACING = (100, 256, 256), (3.0, 1.6, 1.6)
NOISE = 18.0
HU = {"liver": 65.0, "spleen": 60.0, "kidneys": 90.0, "psoas": 50.0, "vertebra": 250.0, "aorta": 120.0}


def smooth(scale: tuple[float, float, float], seed: int) -> NDArray[np.float32]:
    """A random field that is smooth over so many voxels."""
    nodes = [max(3, int(np.ceil(n / s)) + 2) for n, s in zip(SHAPE, scale, strict=True)]
    coarse = np.random.default_rng(seed).normal(size=nodes)
    field = ndimage.zoom(coarse.astype(np.float32), [n / m for n, m in zip(SHAPE, nodes, strict=True)], order=3)
    return np.asarray(field, np.float32)


def abdomen(seed: int) -> tuple[NDArray[np.float32], dict[str, Mask]]:
    """A body and its organs; coordinates run from −1 to 1, bent at random."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE), indexing="ij")
    bent_x, bent_y, bent_z = (a + 0.05 * smooth((25, 40, 40), 10 * seed + k) for k, a in enumerate((x, y, z)))

    def ellipsoid(cx: float, cy: float, cz: float, rx: float, ry: float, rz: float) -> NDArray[np.float32]:
        return np.asarray(((bent_x - cx) / rx) ** 2 + ((bent_y - cy) / ry) ** 2 + ((bent_z - cz) / rz) ** 2, np.float32)

    body, wall, inner = (ellipsoid(0, 0, 0, rx, ry, 9) < 1 for rx, ry in ((0.9, 0.65), (0.84, 0.58), (0.78, 0.52)))
    scan = np.where(body, -100, -1000).astype(np.float32)
    scan[wall] = 55
    bowel = 20 + 30 * (smooth((6, 14, 14), 10 * seed + 4) > 0) - 60 * (smooth((8, 20, 20), 10 * seed + 5) > 0.9)
    scan[inner] = bowel[inner]
    lobes = 0.25 * smooth((20, 30, 30), 10 * seed + 6)
    fissure = ellipsoid(-0.1, 0.1, 0.2, 0.12, 0.15, 0.5) < 1
    discs = (((4 * z) % 1) - 0.5) / 0.42
    spine = (x / 0.12) ** 4 + ((y - 0.38) / 0.1) ** 4 + discs**4 < 1
    left = (ellipsoid(0.33, 0.28, 0.25, 0.14, 0.13, 0.28) < 1) & (ellipsoid(0.27, 0.28, 0.25, 0.08, 0.05, 0.14) > 1)
    right = ellipsoid(-0.33, 0.3, 0.3, 0.13, 0.12, 0.25) < 1
    shapes = {
        "liver": (ellipsoid(-0.38, -0.05, -0.1, 0.36, 0.36, 0.55) + lobes < 1) & ~fissure,
        "spleen": ellipsoid(0.5, 0.1, -0.1, 0.17, 0.25, 0.33) < 1,
        "kidneys": left | right,
        "psoas": (ellipsoid(0.2, 0.4, 0, 0.09, 0.07, 9) < 1) & (bent_z > -0.3),
        "vertebra": spine,
        "aorta": ((bent_x - 0.03 - 0.05 * np.sin(3 * z)) / 0.055) ** 2 + ((bent_y - 0.23) / 0.055) ** 2 < 1,
    }
    owner = np.zeros(SHAPE, np.uint8)
    for k, (name, shape) in enumerate(shapes.items(), 1):
        own = shape & (inner | (name == "vertebra"))
        scan[own], owner[own] = HU[name], k
    organs = {name: owner == k for k, name in enumerate(shapes, 1)}
    organs["vertebra"] &= (z > 0) & (z < 0.25)
    organs["kidney"] = organs["kidneys"] & left
    scan = ndimage.gaussian_filter(scan, (0.4, 0.7, 0.7))
    scan += np.random.default_rng(seed).normal(0, NOISE, SHAPE).astype(np.float32)
    return scan, organs


def drawn_cases(abdomens: int) -> Iterator[tuple[str, Case]]:
    """What is carried: its name, and a case of one object whose steps run along z."""
    for seed in range(1, abdomens + 1):
        scan, organs = abdomen(seed)
        chosen = [(name, scan, mask, "zyx") for name, mask in organs.items()]
        chosen += [("liver, left to right", scan, organs["liver"], "xzy")]
        chosen += [("kidney, front to back", scan, organs["kidney"], "yzx")]
        chosen += [(f"spleen, units × {s:g}", scan * np.float32(s), organs["spleen"], "zyx") for s in (1e-5, 1e5)]
        for name, values, mask, axes in chosen:
            order = ["zyx".index(a) for a in axes]
            grid = affine_from([SPACING[k] for k in reversed(order)])
            voxels = np.ascontiguousarray(values.transpose(order))
            image = ms.ImageSequence(voxels, ("z", "y", "x"), grid, name=f"abdomen-{seed}")
            yield name, Case(f"abdomen-{seed}", image, mask.transpose(order).astype(np.int64), {1: name})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--abdomens", type=int, default=2)
    a = parser.parse_args()
    shipped = ms.load_model("propagate")
    models = {
        "unlimited": replace(shipped, inference={**shipped.inference, "contrast": None}),
        "network": shipped,
    }
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for name, case in drawn_cases(a.abdomens):
        spacing = case.image.spacing["z"], case.image.spacing["y"], case.image.spacing["x"]
        for _, truth, painted in protocols(case):
            rest = np.setdiff1d(np.arange(len(truth)), painted)
            shown = truth & np.isin(np.arange(len(truth)), painted)[:, None, None]
            image = np.asarray(case.image.data, np.float32)
            row = {"interpolation": dice(METHODS["interpolation"](image, shown, painted, spacing)[rest], truth[rest])}
            drawn = case.image.labels_like(shown.astype(np.uint8), name="painted", label_names={1: name})
            for method, model in models.items():
                answer = ms.propagate(case.image, drawn, model, annotated=painted, axis="z", device="cpu")
                row[method] = dice((np.asarray(answer.labels.data) > 0)[rest], truth[rest])
            found.setdefault((name, len(painted)), []).append(row)
    methods = ("interpolation", *models)
    print(f"| organ | slices | {' | '.join(methods)} |")
    print("|---|---:|" + "---:|" * len(methods))
    for (name, count), rows in found.items():
        print(
            f"| {name} | {count} | " + " | ".join(f"{statistics.mean(r[m] for r in rows):.3f}" for m in methods) + " |"
        )
    print("\n| slices | compared | mean difference of objects (95 % interval) | better / worse |")
    print("|---:|---|---|---:|")
    for count in COUNTS:
        rows = [r for (_, n), several in found.items() if n == count for r in several]
        for other in ("interpolation", "unlimited"):
            p = paired([r["network"] for r in rows], [r[other] for r in rows])
            interval = f"{signed(p.difference)}, n = {p.difference.n}"
            print(f"| {count} | network − {other} | {interval} | {p.better} / {p.worse} |")


if __name__ == "__main__":
    main()
