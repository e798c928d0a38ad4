"""The figure of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_medseq.evaluation.intervals import BlandAltman

_PANELS = (("dice", "Dice"), ("hd95_mm", "HD95 (mm)"), ("lesion_f1", "lesion-wise F1"))


def figure(table: pd.DataFrame, volumes: BlandAltman | None) -> Figure:
    """Box plots with every case as a point, and Bland–Altman plots of the volumes; without pyplot, so that it works in
    any thread.

    Parameters
    ----------
    table : DataFrame
        A table like `Evaluation.table`.
    volumes : BlandAltman or None
        Agreement of the volumes; None if there are too few cases.
    """
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13, 3.8), layout="constrained")
    axes = drawn.subplots(1, len(_PANELS) + 1)
    classes = list(table.groupby("label")["label_name"].first().items())
    jitter = np.random.default_rng(0)
    for ax, (column, title) in zip(axes, _PANELS, strict=False):
        groups = []
        for label, _ in classes:
            values = table.loc[table["label"] == label, column].to_numpy(dtype=float)
            groups.append(values[np.isfinite(values)])
        ax.boxplot(groups, showfliers=False, medianprops={"color": "black"})
        for place, values in enumerate(groups, start=1):
            ax.plot(place + jitter.uniform(-0.12, 0.12, values.size), values, "o", alpha=0.6, markersize=4)
        ax.set_xticks(range(1, len(classes) + 1), [str(name) for _, name in classes])
        ax.set_title(title)
        if column != "hd95_mm":
            ax.set_ylim(-0.03, 1.03)
        missing = int((~np.isfinite(table[column].to_numpy(dtype=float))).sum())
        if missing:
            ax.set_xlabel(f"{missing} not finite, not drawn", color="tab:red")
    _agreement(axes[-1], table, volumes)
    return drawn


def _agreement(ax: Axes, table: pd.DataFrame, agreement: BlandAltman | None) -> None:
    ax.set_title("volumes: prediction − truth")
    ax.set_xlabel("mean of both (mL)")
    ax.set_ylabel("difference (mL)")
    if agreement is None:
        row = table.iloc[0]
        ax.plot((row["volume_ml"] + row["truth_ml"]) / 2, row["volume_difference_ml"], "o")
        return
    ax.plot(agreement.means, agreement.differences, "o", alpha=0.6, markersize=4)
    for level, style in ((agreement.bias, "-"), (agreement.lower, "--"), (agreement.upper, "--")):
        ax.axhline(level, linestyle=style, color="black", linewidth=1)
        ax.annotate(f"{level:.2g}", (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
