"""Make the README's picture of `ms.propagate`: one painted slice of a synthetic head, and what follows from it.

    python docs/make_propagate_picture.py

The head is of a seed from which the network was not trained. Dice over all slices that are not painted is written under the picture.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.synthetic import make_case

SEED, SHAPE, SPACING = 102, (32, 192, 192), (4.5, 1.12, 1.12)
SHOWN = 7
PAINTED, FOLLOWED = "#ff9f1c", "#2ec4b6"


def largest(labels: NDArray[np.generic]) -> NDArray[np.bool_]:
    """The largest lesion, all its parts."""
    lesions, _ = ndimage.label(labels != 0, np.ones((3, 3, 3)))
    mask: NDArray[np.bool_] = lesions == np.bincount(lesions[lesions > 0]).argmax()
    return mask


def main() -> None:
    image, labels = make_case(SEED, shape_zyx=SHAPE, spacing_zyx=SPACING)
    truth = largest(np.asarray(labels.data))
    area = truth.sum((1, 2))
    at, filled = int(area.argmax()), np.flatnonzero(area)
    painted = np.zeros(truth.shape, np.uint8)
    painted[at] = truth[at]
    found = ms.propagate(image, image.labels_like(painted, name="painted", label_names={1: "lesion"}), device="cpu")
    answer = np.asarray(found.labels.data) > 0
    rest = np.arange(len(truth)) != at
    overlap = 2 * (answer & truth)[rest].sum() / (answer[rest].sum() + truth[rest].sum())
    rows, columns = np.flatnonzero(truth.any((0, 2))), np.flatnonzero(truth.any((0, 1)))
    cut = (slice(max(0, rows[0] - 16), rows[-1] + 17), slice(max(0, columns[0] - 16), columns[-1] + 17))
    steps = np.unique([*np.linspace(filled[0] - 1, filled[-1] + 1, SHOWN).round().astype(int), at])
    voxels = np.asarray(image.data, np.float32)
    low, high = np.percentile(voxels[filled[0] : filled[-1] + 1], (1, 99.5))
    figure, axes = plt.subplots(2, len(steps), figsize=(1.35 * len(steps), 3.1), squeeze=False)
    for column, step in enumerate(steps):
        for row, (mask, colour) in enumerate(((painted[step] > 0, PAINTED), (answer[step], FOLLOWED))):
            ax = axes[row][column]
            ax.imshow(voxels[step][cut], cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
            if mask[cut].any():
                ax.contour(mask[cut], [0.5], colors=[PAINTED if step == at else colour], linewidths=1.6)
            ax.set_xticks([])
            ax.set_yticks([])
        axes[0][column].set_title(f"slice {step + 1}", fontsize=8)
    axes[0][0].set_ylabel("you paint", fontsize=9)
    axes[1][0].set_ylabel("ms.propagate", fontsize=9)
    figure.tight_layout(pad=0.3)
    path = Path(__file__).parent / "images" / "propagate.png"
    figure.savefig(path, dpi=90)
    print(
        f"{path}: Dice {overlap:.2f} over {int(rest.sum())} slices that are not painted, {path.stat().st_size // 1024} kB"
    )


if __name__ == "__main__":
    main()
