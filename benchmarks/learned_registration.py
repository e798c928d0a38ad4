"""The recurrent registration network beside the classical deformable default, on known synthetic deformations.

Head-like volumes are bent by smooth random fields (control points every 40 mm, up to `--mm` millimetres) with other brightness and
noise. The network is trained without labels on some of them and asked about others; untrained it takes local Gauss-Newton
steps, so the difference is what it learned. `ms.register(kind="deformable")` needs no training. The error is measured at points all
over the body: the distance between where the found and the true map send them.

    python benchmarks/learned_registration.py [--train 12] [--test 6] [--iterations 400] [--out learned_registration.json]

About 4 minutes on one idle core; `--quick` takes under one and shows only that it runs.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import ndimage

import napari_medseq as ms
from napari_medseq import geometry
from napari_medseq.errors import RegistrationError
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.learned_registration import (
    LearnedRegistrationSettings,
    train_registration,
    write_registration,
)
from napari_medseq.volumes.foreground import foreground

SPACING = np.array([3.0, 3.0, 5.0])
GRID = (64, 64, 32)


def head(seed: int) -> np.ndarray:
    """A head of random tissue, (z, y, x)."""
    rng = np.random.default_rng(seed)
    shape = GRID[::-1]
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = (x / 0.75) ** 2 + (y / 0.85) ** 2 + (z / 0.9) ** 2 < 1
    rim = inside & ((x / 0.68) ** 2 + (y / 0.78) ** 2 + (z / 0.83) ** 2 > 1)
    tissue = ndimage.gaussian_filter(rng.normal(size=shape), (1.5, 2.5, 2.5))
    return np.asarray(inside * (100 + 25 * tissue / tissue.std()) + 80 * rim).clip(0)


def pair(seed: int, millimetres: float) -> tuple[ImageSequence, ImageSequence, np.ndarray]:
    """Fixed, moving, and the true displacement (3, z, y, x) in mm along R, A, S: fixed point → moving point."""
    rng = np.random.default_rng(seed + 10_000)
    fixed, affine = head(seed), affine_from(tuple(SPACING))
    cell = 40 / SPACING[::-1]  # voxels between control points
    coarse = np.ceil(np.array(fixed.shape) / cell).astype(int) + 3
    places = np.meshgrid(*[(np.arange(n) / c) + 1 for n, c in zip(fixed.shape, cell, strict=True)], indexing="ij")
    waves = [ndimage.map_coordinates(rng.normal(size=coarse), places, order=3, mode="nearest") for _ in range(3)]
    voxels = np.stack(waves)
    voxels *= millimetres / np.linalg.norm(voxels * SPACING[:, None, None, None], axis=0).max()  # along voxel x, y, z
    at = np.indices(fixed.shape).astype(float)
    # the moving image shows at x + d(x) what the fixed one shows at x: invert d by iteration
    back = np.zeros_like(voxels)
    for _ in range(30):
        there = [a + b for a, b in zip(at, back[::-1], strict=True)]
        back = -np.stack([ndimage.map_coordinates(v, there, order=1, mode="nearest") for v in voxels])
    data = ndimage.map_coordinates(fixed, [a + b for a, b in zip(at, back[::-1], strict=True)], order=1, mode="nearest")
    images = []
    for name, volume, gain in (("fixed", fixed, 1.0), ("moving", data, 1.3)):
        noisy = np.abs(gain * volume + rng.normal(0, 3, volume.shape)).astype(np.float32)
        images.append(ImageSequence(noisy, ("z", "y", "x"), affine, name=name, modality="MR"))
    world = np.einsum("ij,jzyx->izyx", affine[:3, :3], voxels)
    return images[0], images[1], world


def errors_mm(transform: ms.Transform | None, fixed: ImageSequence, truth: np.ndarray) -> np.ndarray:
    """Distances at points of the body; of doing nothing where there is no transform."""
    index = np.argwhere(foreground(fixed.volume_zyx()))[::701]
    points = geometry.apply_points(fixed.affine, index[:, ::-1])
    real = points + truth[:, index[:, 0], index[:, 1], index[:, 2]].T
    found = points if transform is None else transform.to_moving(points)
    return np.asarray(np.linalg.norm(found - real, axis=1))


def main() -> None:
    """Train, register, print side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=12, help="pairs to learn from")
    parser.add_argument("--test", type=int, default=6, help="pairs to be judged on")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--mm", type=float, default=10.0, help="largest displacement")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.train, args.test, args.iterations = 3, 2, 15
    settings = LearnedRegistrationSettings(grid=GRID, iterations=args.iterations, learning_rate=5e-4)
    pairs = [pair(seed, args.mm)[:2] for seed in range(args.train)]
    begin = time.perf_counter()
    network = train_registration(pairs, settings=settings)
    trained = time.perf_counter() - begin
    scratch = TemporaryDirectory()
    model = write_registration(network, Path(scratch.name) / "trained", settings=settings)
    deform = partial(ms.register, kind="deformable")
    rows: list[dict[str, object]] = []
    for seed in range(1000, 1000 + args.test):
        fixed, moving, truth = pair(seed, args.mm)
        methods = {
            "nothing": lambda: None,
            "classical (affine + B-spline)": partial(deform, moving, fixed),
            "affine + recurrent network, untrained": partial(deform, moving, fixed, backend="learned"),
            "affine + recurrent network": partial(deform, moving, fixed, backend="learned", model=model),
        }
        for name, method in methods.items():
            begin = time.perf_counter()
            try:
                found = method()
                seconds = time.perf_counter() - begin
                error = errors_mm(found, fixed, truth)
            except RegistrationError as problem:
                print(f"pair {seed}: {name} refused: {problem}")
                continue
            folded = found.quality.folded if found is not None else 0.0
            rows.append(
                {
                    "pair": seed,
                    "method": name,
                    "mean_mm": float(error.mean()),
                    "p95_mm": float(np.percentile(error, 95)),
                    "seconds": seconds,
                    "folded": folded,
                }
            )
    print(f"\ntrained on {args.train} pairs in {trained:.0f} s; judged on {args.test} others")
    print(
        "| method | mean error (mm): median, range | 95th percentile (mm) | time (s) | most folding |\n| --- | --- | --- | --- | --- |"
    )
    for name in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == name]
        mean, p95, spent = (np.array([r[k] for r in mine], dtype=float) for k in ("mean_mm", "p95_mm", "seconds"))
        most = max(float(r["folded"] or 0.0) for r in mine)  # type: ignore[arg-type]
        spread = f"{np.median(mean):.2f} ({mean.min():.2f}-{mean.max():.2f})"
        print(f"| {name} | {spread} | {np.median(p95):.2f} | {np.median(spent):.2f} | {most:.1%} |")
    if args.out:
        args.out.write_text(json.dumps({"training_s": trained, "trials": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
