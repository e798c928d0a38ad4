"""Key slices: for each visit the slice with most lesion, with the outlines of the lesions in their colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from napari_medseq.colours import lesion_colour
from napari_medseq.progression.matrix import visit_name
from napari_medseq.record import DISCLAIMER
from napari_medseq.sequence import SPACE

if TYPE_CHECKING:
    from napari_medseq.progression.tracked import Tracked


def key_slices(progression: Tracked) -> Figure:
    """One picture per visit; grey where no image (or one on another grid) is at hand."""
    labels = progression.labels
    figure = Figure(figsize=(3.4 * max(len(labels), 1), 3.9), layout="constrained")
    grid = np.atleast_1d(figure.subplots(1, len(labels)))
    for visit, (axes, mask) in enumerate(zip(grid, labels, strict=True)):
        axes.set_axis_off()
        if mask is None:
            axes.set_title(f"{visit_name(visit, progression.dates)}\nno mask", fontsize=9)
            continue
        volume = mask.volume_zyx()
        along = SPACE.index(mask.slice_axis)
        others = tuple(k for k in range(3) if k != along)
        at = int((volume != 0).sum(axis=others).argmax()) if volume.any() else volume.shape[along] // 2
        plane = np.take(volume, at, axis=along)
        image = progression.images[visit]
        usable = image is not None and not set(image.axes) & {"t", "c"} and image.same_grid(mask)
        shown = (
            np.take(image.volume_zyx(), at, axis=along).astype(float)
            if usable and image is not None
            else np.full(plane.shape, 0.5)
        )
        low, high = np.percentile(shown, (1, 99.5)) if usable else (0.0, 1.0)
        spacing = [mask.spacing[SPACE[k]] for k in others]
        axes.imshow(shown, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), aspect=spacing[0] / spacing[1])
        for value in np.unique(plane[plane > 0]).tolist():
            axes.contour(plane == value, levels=[0.5], colors=[lesion_colour(value)], linewidths=1.2)
            rows, columns = np.nonzero(plane == value)
            where = (columns.max(), rows.min())  # at its upper right corner
            axes.annotate(
                str(value),
                where,
                (2, 1),
                textcoords="offset points",
                color=lesion_colour(value),
                fontsize=9,
                weight="bold",
            )
        axes.set_title(f"{visit_name(visit, progression.dates)}\nslice {at + 1} of {volume.shape[along]}", fontsize=9)
    figure.supxlabel(DISCLAIMER, fontsize=7, color="0.4")
    return figure
