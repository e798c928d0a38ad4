"""Make the README's picture of `ms.propagate`: one slice painted of a lesion in a synthetic head, one corrected, and what follows.

    python docs/make_propagate_picture.py

The head is of a seed from which the network was not trained. The slice that is corrected is the one that the first answer names
(`next_step`), not the one that would help most. Dice of every slice with the lesion's true voxels is drawn under the slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.synthetic import make_case

SEED, SHAPE, SPACING = 102, (32, 192, 192), (4.5, 1.12, 1.12)
SHOWN = 8
PAINTED, FIRST, SECOND, TRUTH = "#ff9f1c", "#3a86ff", "#2ec4b6", "#ffffff"
Mask = NDArray[np.bool_]


def largest(labels: NDArray[np.generic]) -> Mask:
    """The largest lesion, all its parts."""
    lesions, _ = ndimage.label(labels != 0, np.ones((3, 3, 3)))
    mask: Mask = lesions == np.bincount(lesions[lesions > 0]).argmax()
    return mask


def answered(image: ms.ImageSequence, truth: Mask, steps: Sequence[int]) -> tuple[Mask, int | None]:
    """What `ms.propagate` makes of the slices `steps`, painted as they are, and the slice that it names next."""
    painted = np.zeros(truth.shape, np.uint8)
    painted[list(steps)] = truth[list(steps)]
    prompts = image.labels_like(painted, name="painted", label_names={1: "lesion"})
    found = ms.propagate(image, prompts, annotated=steps, device="cpu")
    return np.asarray(found.labels.data) > 0, found.next_step


def overlap(answer: Mask, truth: Mask) -> float:
    """Dice; 1 where both are empty."""
    both = int(answer.sum() + truth.sum())
    return float(2 * (answer & truth).sum() / both) if both else 1.0


def elsewhere(answer: Mask, truth: Mask, steps: Sequence[int]) -> float:
    """Dice over the voxels of all slices that are not painted."""
    rest = np.setdiff1d(np.arange(len(truth)), steps)
    return overlap(answer[rest], truth[rest])


def draw_slice(ax: Axes, plane: NDArray[np.float32], outlines: Sequence[tuple[Mask, str, str]]) -> None:
    """A slice with outlines, each with its colour and style."""
    ax.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    for mask, colour, style in outlines:
        if mask.any():
            ax.contour(mask, [0.5], colors=[colour], linewidths=1.5 if style == "-" else 0.9, linestyles=style)
    ax.set_xticks([])
    ax.set_yticks([])


def draw_curves(ax: Axes, truth: Mask, rows: Sequence[tuple[str, str, Sequence[int], Mask]]) -> None:
    """Dice of each slice on which the lesion is, or is said to be."""
    there = np.flatnonzero(np.logical_or.reduce([truth, *(a for *_, a in rows)]).any((1, 2)))
    for label, colour, steps, answer in rows:
        ax.plot(there + 1, [overlap(answer[s], truth[s]) for s in there], "o-", ms=4, color=colour, label=label)
        ax.plot(np.array(steps) + 1, np.ones(len(steps)), "s", ms=7, color=PAINTED, zorder=3)
    ax.set_xticks(there + 1)
    ax.set_ylim(-0.04, 1.06)
    ax.set_xlabel("slice (orange: painted)", fontsize=8)
    ax.set_ylabel("Dice", fontsize=8)
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "propagate.png")
    a = parser.parse_args()
    image, labels = make_case(a.seed, shape_zyx=SHAPE, spacing_zyx=SPACING)
    truth = largest(np.asarray(labels.data))
    one = [int(truth.sum((1, 2)).argmax())]
    first, named = answered(image, truth, one)
    two = sorted({*one, *([] if named is None else [named])})
    second, _ = answered(image, truth, two)
    filled = np.flatnonzero(truth.any((1, 2)))
    shown = np.unique([*np.linspace(filled[0] - 1, filled[-1] + 1, SHOWN).round().astype(int), *two])
    rows, columns = (np.flatnonzero(truth.any(axis)) for axis in ((0, 2), (0, 1)))
    cut = (slice(max(0, rows[0] - 16), rows[-1] + 17), slice(max(0, columns[0] - 16), columns[-1] + 17))
    voxels = np.asarray(image.data, np.float32)
    low, high = np.percentile(voxels[filled[0] : filled[-1] + 1], (1, 99.5))
    voxels = np.clip((voxels - low) / (high - low), 0, 1)
    figure = plt.figure(figsize=(1.3 * len(shown), 4.6))
    grid = figure.add_gridspec(3, len(shown), height_ratios=(1, 1, 1.05), hspace=0.12, wspace=0.04)
    answers = (("one slice painted", FIRST, one, first), ("one more, the one it named", SECOND, two, second))
    for row, (label, colour, steps, answer) in enumerate(answers):
        for column, step in enumerate(shown.tolist()):
            ax = figure.add_subplot(grid[row, column])
            mine = (answer[step][cut], PAINTED if step in steps else colour, "-")
            draw_slice(ax, voxels[step][cut], [(truth[step][cut], TRUTH, ":"), mine])
            if row == 0:
                ax.set_title(f"slice {step + 1}", fontsize=8)
            if column == 0:
                ax.set_ylabel(label.replace(", ", ",\n"), fontsize=8)
    curves = [
        (f"{label}: Dice {elsewhere(answer, truth, steps):.2f} over all that is not painted", colour, steps, answer)
        for label, colour, steps, answer in answers
    ]
    draw_curves(figure.add_subplot(grid[2, :]), truth, curves)
    handles = [
        Line2D([], [], color=c, ls=s) for c, s in ((PAINTED, "-"), (FIRST, "-"), (SECOND, "-"), ("#888888", ":"))
    ]
    names = ["painted", "ms.propagate after one slice", "after two", "true outline (white)"]
    figure.legend(handles, names, loc="upper center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(a.out, dpi=90, bbox_inches="tight", pad_inches=0.05)
    print(f"{a.out}: {a.out.stat().st_size // 1024} kB; " + "; ".join(c[0] for c in curves))


if __name__ == "__main__":
    main()
