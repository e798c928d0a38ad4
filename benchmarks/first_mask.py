"""How good a first mask is that `napari_medseq.masks.outline` makes from a box or points, and what `ms.propagate` makes of it.

    python benchmarks/first_mask.py --cases 4     # four images of each set

Hippocampus, ACDC and FLAIR: the slice on which the object is largest, by patients on which nothing was chosen (`propagate_cases`). Boxes
are those of the expert's outline, each side moved at random by a normal error of 3 % of the object's extent. The first point lies
deepest in the object; each further one in the middle of the largest region that is wrong, inside or outside. Beside them: the
ellipse that touches the box, and a random walker (scikit-image) from the box's surroundings and that ellipse at half its size.
"carried": Dice of all other slices after `ms.propagate` from that one slice, and from the expert's.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.masks import Hints, outline
from propagate import dice, protocol
from propagate_cases import Case, cases

Mask = NDArray[np.bool_]
Box = tuple[tuple[float, float], tuple[float, float]]
METHODS = ("box", "one point", "five points", "ellipse", "random walker")


def box_of(truth: Mask, rng: np.random.Generator) -> Box:
    """The box of a mask, its sides moved."""
    at = np.argwhere(truth)
    low, high = at.min(0), at.max(0)
    moved = rng.normal(0, 0.03, (2, 2)) * (high - low + 1)
    first, last = np.maximum(low + moved[0], 0), np.minimum(high + moved[1], np.array(truth.shape) - 1)
    return (float(first[0]), float(first[1])), (float(last[0]), float(last[1]))


def ellipse(shape: tuple[int, ...], box: Box, share: float = 1.0) -> Mask:
    y, x = np.indices(shape)
    (top, left), (bottom, right) = box
    high, wide = (bottom - top + 1) * share, (right - left + 1) * share
    return np.asarray(((y - (top + bottom) / 2) / high) ** 2 + ((x - (left + right) / 2) / wide) ** 2 <= 0.25)


def walked(plane: NDArray[np.float64], box: Box) -> Mask:
    """Random walker (Grady 2006) in the box and 30 % of its sides around it."""
    from skimage.segmentation import random_walker

    (top, left), (bottom, right) = box
    view = tuple(
        slice(max(0, int(a - 0.3 * (b - a)) - 4), int(b + 0.3 * (b - a)) + 5) for a, b in ((top, bottom), (left, right))
    )
    y, x = np.indices(plane.shape)
    beyond = (y < top - 0.5) | (y > bottom + 0.5) | (x < left - 0.5) | (x > right + 0.5)
    seeds = np.where(ellipse(plane.shape, box, 0.5), 1, np.where(beyond, 2, 0)).astype(np.int8)
    out = np.zeros(plane.shape, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out[view] = random_walker(plane[view], seeds[view], beta=130, mode="cg_j") == 1
    return out


def clicked(plane: NDArray[np.float64], truth: Mask, spacing: Sequence[float], most: int) -> list[Mask]:
    """The outlines after one, two … points."""
    inside, outside, found = [], [], [np.zeros(truth.shape, bool)]
    for _ in range(most):
        wrong = found[-1] ^ truth
        depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
        at = np.unravel_index(int(depth.argmax()), depth.shape)
        if not wrong[at]:
            break
        (inside if truth[at] else outside).append(at)
        found.append(outline(plane, Hints(inside, outside), spacing))
    return found[1:]


def masks_of(case: Case, truth: Mask, step: int, rng: np.random.Generator) -> dict[str, Mask]:
    plane = np.asarray(case.image.data, np.float64)[step]
    spacing = case.image.spacing["y"], case.image.spacing["x"]
    box = box_of(truth[step], rng)
    points = clicked(plane, truth[step], spacing, 5)
    try:
        boxed = outline(plane, Hints(box=box), spacing)
    except MedseqError as error:  # counts as nothing found
        print(case.name, error)
        boxed = np.zeros(truth[step].shape, bool)
    found = (boxed, points[0], points[-1], ellipse(plane.shape, box), walked(plane, box))
    return dict(zip(METHODS, found, strict=True))


def carried(case: Case, drawn: Mask, step: int, model: ms.Model) -> Mask:
    painted = np.zeros(case.truth.shape, np.uint8)
    painted[step] = drawn
    labels = case.image.labels_like(painted, name="painted", label_names={1: "object"})
    return np.asarray(ms.propagate(case.image, labels, model, axis="z", device="cpu").labels.data) > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=["hippocampus", "acdc", "flair"])
    parser.add_argument("--cases", type=int, default=4, help="images per set, at most")
    a = parser.parse_args()
    rng, model = np.random.default_rng(0), ms.load_model("propagate")
    print(
        "| set | objects | Dice of the slice: " + " | ".join(METHODS) + " | carried from the box | from the expert's |"
    )
    print("|---|---:|" + "---:|" * (len(METHODS) + 2))
    for name in a.sets:
        rows: dict[str, list[float]] = {}
        for case in islice(cases(name), a.cases):
            for value in case.objects:
                truth = case.truth == value
                if np.count_nonzero(truth.any((1, 2))) < 2:
                    continue
                step = protocol(truth, 1)[0]
                found = masks_of(case, truth, step, rng)
                for method, mask in found.items():
                    rows.setdefault(method, []).append(dice(mask, truth[step]))
                rest = np.arange(len(truth)) != step
                for method, mask in (("from box", found["box"]), ("from expert", truth[step])):
                    there = carried(case, mask, step, model)[rest] if mask.any() else np.zeros_like(truth[rest])
                    rows.setdefault(method, []).append(dice(there, truth[rest]))
        print(
            f"| {name} | {len(rows['box'])} | " + " | ".join(f"{statistics.mean(v):.3f}" for v in rows.values()) + " |"
        )


if __name__ == "__main__":
    main()
