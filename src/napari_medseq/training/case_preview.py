"""A contact sheet of training windows: what the network will see, as a picture, before an hour is spent on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_medseq import files
from napari_medseq.errors import SettingsError
from napari_medseq.models import networks
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.training.config import TrainConfig, read_config
from napari_medseq.training.dataset import read_cases
from napari_medseq.training.loops.distributed import current_group
from napari_medseq.training.trainer import make_windows
from napari_medseq.training.transfer import definition

_INCHES = 1.3  # side of a tile


def preview(
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    windows: int = 6,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Draw the first training windows of a config as a PNG: a row per window, a column per step.

    Labels are outlined, one colour per class; unlabelled regions are hatched; a denoiser's or autoencoder's target stands in a
    second row. Augmentation is as in training with the same seed.

    Parameters
    ----------
    config : TrainConfig, mapping, or path of a YAML or JSON file
    path : path
        Ends in ``.png``.
    windows : int
    progress, cancelled : callable, optional

    Raises
    ------
    SettingsError
        If the config cannot be used or the path is not a PNG.
    WriteError
        If the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    c, path = read_config(config), Path(path)
    if path.suffix.lower() != ".png" or windows < 1:
        raise SettingsError(f"{path}: the preview is a .png file of at least one window, not {windows}.")
    cases = read_cases(c, cancelled)
    network = networks.build_sequence_network(definition(c))
    run = Path(c.out).with_name(Path(c.out).name + ".run")
    drawn = make_windows(c, network, cases, run, current_group(), progress, cancelled)[0]
    n, colours = drawn.neighbours, matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    rows = windows * (2 if drawn.target == "image" else 1)
    figure = Figure(figsize=(_INCHES * c.loop.steps, _INCHES * rows), dpi=100, layout="tight")
    tiles = figure.subplots(rows, c.loop.steps, squeeze=False)
    for tile in tiles.flat:
        tile.set_axis_off()
    for i in range(windows):
        check(cancelled)
        x, y = (v[0].numpy() for v in drawn.draw(1)[:2])
        if drawn.slices:  # of volumes the middle slice
            x = x[:, :, drawn.slices // 2]
            y = y[..., drawn.slices // 2, :, :] if drawn.target != "exam" else y
        middle = x.shape[1] // (2 * n + 1) * n  # the step itself, between its neighbours
        for k in range(c.loop.steps):
            tile = tiles[i * rows // windows, k]
            tile.imshow(x[k, middle], cmap="gray", vmin=-2.5, vmax=4)
            if drawn.target == "labels":
                for value in sorted({*y[k].ravel().tolist()} - {-1, 0}):
                    tile.contour(y[k] == value, [0.5], colors=[colours[(value - 1) % 10]], linewidths=0.8)
                if (y[k] < 0).any():
                    tile.contourf(y[k] < 0, [0.5, 1.5], colors="none", hatches=["///"])
            elif drawn.target == "image":
                tiles[2 * i + 1, k].imshow(y[k, 0], cmap="gray", vmin=-2.5, vmax=4)
        if progress is not None:
            progress(i + 1, windows, "drawing windows")
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
