"""What two facts of the fingerprint change in a plan, each with and without it, on synthetic patients that training did not see.

    python benchmarks/automatic_plan.py lesions --minutes 3
    python benchmarks/automatic_plan.py sided --minutes 1

lesions: 5 to 30 small lesions in a volume; how fine voxels stay is told by the size of one lesion, or (before) by all of them put together.
sided: two equal organs, of which the left one is labelled; images are mirrored (before), or not, as it always lies on one side.

Both arms see the same patients for the same processor minutes with the same seed.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import paired
from napari_medseq.record import read_json
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.training.automatic.fingerprint import Fingerprint
from napari_medseq.training.automatic.plan import Plan, make_plan

LEARN, JUDGE = 16, 8
HERE = Path(__file__).parent
Volume = NDArray[np.float32]


def field(random: np.random.Generator, shape: tuple[int, int, int], spread: float) -> Volume:
    """Smooth values."""
    coarse = random.normal(0, spread, (4, 4, 4))
    smooth: Volume = ndimage.zoom(coarse, [n / 4 for n in shape], order=1, grid_mode=True, mode="nearest")
    return smooth.astype(np.float32)


def ellipsoid(shape: tuple[int, int, int], middle: NDArray[np.float64], radii: tuple[float, ...]) -> NDArray[np.bool_]:
    z, y, x = (((np.arange(n) - m) / r) ** 2 for n, m, r in zip(shape, middle, radii, strict=True))
    inside: NDArray[np.bool_] = z[:, None, None] + y[:, None] + x < 1
    return inside


def lesions(random: np.random.Generator) -> tuple[Volume, NDArray[np.bool_], tuple[float, float, float]]:
    """A head with lesions of 3 to 7 mm, voxels of 1 mm."""
    shape = (128, 150, 128)
    middle = np.array(shape) / 2
    head, inner = ellipsoid(shape, middle, (58, 68, 58)), ellipsoid(shape, middle, (42, 52, 42))
    image = np.where(inner, 240.0, np.where(head, 300.0, 0.0))
    mask = np.zeros(shape, bool)
    for _ in range(random.integers(5, 31)):
        way = random.normal(0, 1, 3)
        at = middle + way / np.linalg.norm(way) * random.uniform(5, 38)
        mask |= ellipsoid(shape, at, tuple(random.uniform(1.5, 3.5) * random.uniform(0.8, 1.2, 3)))
    image[mask] += 140
    image = ndimage.gaussian_filter(image, 0.7) * np.exp(field(random, shape, 0.1)) + random.normal(0, 22, shape)
    return np.clip(image, 0, None).astype(np.float32), mask, (1.0, 1.0, 1.0)


def sided(random: np.random.Generator) -> tuple[Volume, NDArray[np.bool_], tuple[float, float, float]]:
    """A body with two kidneys and a liver; the left kidney is the mask."""
    shape, middle = (40, 64, 80), np.array((20.0, 32.0, 40.0))
    body = ellipsoid(shape, middle, (400, 28, 36))
    image = np.where(body, 20.0, -1000.0)
    kidneys = [
        ellipsoid(
            shape,
            middle + np.array([random.normal(0, 2), 11 + random.normal(0, 1.5), s * (17 + random.normal(0, 2))]),
            (10, 7, 7),
        )
        for s in (-1, 1)
    ]
    image[ellipsoid(shape, middle + np.array([8, -8, -14]), (12, 15, 16)) & body] = 90
    image[kidneys[0] | kidneys[1]] = 130
    image = ndimage.gaussian_filter(image, 0.6) + random.normal(0, 25, shape)
    return image.astype(np.float32), kidneys[1], (3.5, 3.5, 5.0)


CASES: dict[str, Callable[[np.random.Generator], tuple[Volume, NDArray[np.bool_], tuple[float, float, float]]]] = {
    "lesions": lesions,
    "sided": sided,
}


def as_before(facts: Fingerprint, what: str) -> Fingerprint:
    """The facts as they were told before."""
    if what == "sided":
        return facts.model_copy(update={"one_sided": (False, *facts.one_sided[1:])})
    one = facts.classes[1]
    whole = one.model_copy(update={"across_mm": math.cbrt(6 * one.median_mm3 / math.pi)})
    return facts.model_copy(update={"classes": {1: whole}})


def write(folder: Path, what: str) -> list[tuple[ImageSequence, ImageSequence]]:
    """Patients to learn from as files; those who judge are returned."""
    judges = []
    for k in range(LEARN + JUDGE):
        values, mask, (x, y, z) = CASES[what](np.random.default_rng(k))
        affine = affine_from((x, y, z)) @ np.diag([-1.0, -1.0, 1.0, 1.0])
        image = ImageSequence(values, ("z", "y", "x"), affine, name=f"p{k:02}")
        truth = image.labels_like(mask.astype(np.uint8), name=f"p{k:02}", label_names={1: "one"})
        if k < LEARN:
            ms.write(image, folder / "images" / f"p{k:02}.nii.gz")
            ms.write(truth, folder / "labels" / f"p{k:02}.nii.gz")
        else:
            judges.append((image, truth))
    return judges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(CASES))
    parser.add_argument("--minutes", type=float, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        judges = write(folder / "data", args.what)
        base = {"data": str(folder / "data"), "minutes": args.minutes, "clock": "process", "threads": 1}
        dice: dict[str, list[float]] = {}
        spacing: dict[str, str] = {}
        for arm in ("now", "before"):
            config: dict[str, object] = {**base, "out": str(folder / arm)}
            if arm == "before":
                facts = Fingerprint(**read_json(folder / "now.run" / "fingerprint.json"))
                plan = make_plan(as_before(facts, args.what), seconds=60 * args.minutes)
                config["plan"] = str(plan.save(folder / "before.yaml"))
            result = ms.train(config)
            plan = Plan.read(folder / f"{arm}.run" / "plan.yaml")
            spacing[arm] = "×".join("own" if v is None else f"{v:.3g}" for v in plan.spacing_mm)
            dice[arm] = []
            for image, truth in judges:
                labels = ms.segment(image, result.model).labels
                both, total = (labels.data & truth.data).sum(), labels.data.sum() + truth.data.sum()
                dice[arm].append(2 * float(both) / float(total))
            print(f"{arm}: voxels {spacing[arm]} mm, {result.seen} windows, Dice {np.mean(dice[arm]):.3f}", flush=True)
        now, before = np.array(dice["now"]), np.array(dice["before"])
        print(f"now minus before, {JUDGE} patients: {paired(now, before)}")
    path = HERE.parent / "docs" / "benchmarks" / f"plan-{args.what}.json"
    files.write_json(path, {"minutes": args.minutes, "dice": dice, "spacing_mm": spacing})


if __name__ == "__main__":
    main()
