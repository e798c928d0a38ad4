"""The plots of a progression look as they did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import napari_medseq as ms
from napari_medseq.dynamics.enhancement import plot_curves
from napari_medseq.progression import plots
from napari_medseq.progression.keyslices import key_slices
from tests.pictures import TOLERANCE, difference
from tests.unit.progression.masks import BRIDGE, A, B, C, mask

GROWN, LESS = (10, 18, 20, 28, 20, 29), (10, 18, 20, 28, 20, 28)
LONGER, SHORTER = (2, 8, 2, 9, 2, 10), (2, 8, 2, 8, 2, 9)


def followed(*third: tuple[int, int, int, int, int, int]) -> ms.Progression:
    """Three visits: two that merge and part again, and one that grows."""
    masks = [mask(A, B, C), mask(A, B, BRIDGE, GROWN), mask(*(third or (A, B, GROWN)))]
    ramp = np.linspace(0, 100, masks[0].data.size).reshape(masks[0].data.shape)
    images = [m.replace(kind="image", data=ramp + 80.0 * (m.data > 0), name="T1", modality="MR") for m in masks]
    return ms.track(masks, dates=["2020-01-01", "2020-03-01", "2020-06-01"], images=images)


@pytest.fixture(scope="module")
def progression() -> ms.Progression:
    return followed()


def drawn(draw: Callable[..., object], *given: object, **options: Any) -> Figure:
    figure = Figure(figsize=(6, 4))
    draw(*given, figure.subplots(), **options)
    return figure


PLOTS: dict[str, Callable[[ms.Progression], Figure]] = {
    "volumes": lambda p: drawn(plots.spaghetti, p),
    "relative-volumes": lambda p: drawn(plots.spaghetti, p, relative=True, log=True),
    "burden": lambda p: drawn(plots.burden, p),
    "changes": lambda p: drawn(plots.waterfall, p),
    "lives": lambda p: drawn(plots.swimmer, p),
    "key-slices": key_slices,
}


@pytest.mark.parametrize("name", PLOTS)
def test_the_plot_looks_as_it_did(progression: ms.Progression, name: str, tmp_path: Path) -> None:
    assert difference(PLOTS[name](progression), name, tmp_path) < TOLERANCE


def test_curves_over_time_look_as_they_did(tmp_path: Path) -> None:
    time = np.array([0.0, 5, 9, 20, 40])
    curves = pd.DataFrame(
        {
            "lesion": np.repeat([1, 2], 5),
            "time_s": np.tile(time, 2),
            "mean": np.r_[100 + 50 * np.exp(-(((time - 12) / 9) ** 2)), 100 + time],
        }
    )

    def draw(axes: Axes) -> None:
        plot_curves(curves, axes)

    assert difference(drawn(draw), "curves", tmp_path) < TOLERANCE


SMALL_CHANGES = {
    "volumes": (A, B, LESS),
    "changes": (SHORTER, B, GROWN),
    "lives": (A, B),
    "key-slices": (LONGER, B, GROWN),
}


@pytest.mark.parametrize("name", SMALL_CHANGES)
def test_small_changes_are_seen(name: str, tmp_path: Path) -> None:
    """A lesion of a tenth less, one that is gone, an outline that is one voxel longer: another picture."""
    assert difference(PLOTS[name](followed(*SMALL_CHANGES[name])), name, tmp_path) > TOLERANCE
