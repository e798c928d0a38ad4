"""Plots of a progression on axes given by the caller, without pyplot or global state, so that viewer and files show
the same.

Each function draws on matplotlib axes and returns the artists of each lesion by identity, so that a viewer can make them
answer to the mouse. Colours come from `lesion_colour`, as those of the label layers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from napari_medseq import files
from napari_medseq.colours import lesion_colour
from napari_medseq.errors import WriteError
from napari_medseq.progression.change import is_whole
from napari_medseq.record import DISCLAIMER
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    import pandas as pd

    from napari_medseq.progression.tracked import Tracked

Artists = dict[int, list[Artist]]

_MARKERS = {"new": "^", "resolved": "x", "merged": "D", "split": "v", "complex": "P", "reappeared": "s"}
#: beyond this many lesions names would only cover each other
_MOST_NAMES = 12
#: beyond this many lesions the swimmer chart leaves out those that are never measured
_MOST_LANES = 25
#: of more lesions than this only the largest are drawn, and the plot says so: noise has thousands
_MOST_DRAWN = 200


def x_positions(progression: Tracked) -> tuple[NDArray[np.generic], bool]:
    """Position of each visit on the x axis, and whether these are real dates (else visit numbers from 1)."""
    days: list[date | None] = progression.dates
    if all(d is not None for d in days):
        return np.array(days, dtype="datetime64[D]"), True
    return np.arange(1, len(days) + 1), False


def by_lesion(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Identity and rows of each lesion, in order of identity."""
    for number, rows in table.groupby("lesion"):
        yield int(str(number)), rows


def _drawn(table: pd.DataFrame, axes: Axes) -> pd.DataFrame:
    """The rows of the lesions that are drawn: of very many the largest, which the axes then say."""
    sizes = table.groupby("lesion")["volume_ml"].max()
    if len(sizes) <= _MOST_DRAWN:
        return table
    text = f"the {_MOST_DRAWN} largest of {len(sizes)} lesions"
    axes.annotate(text, (1, 1), (-4, -4), "axes fraction", textcoords="offset points", ha="right", va="top", fontsize=8)
    return table[table["lesion"].isin(sizes.nlargest(_MOST_DRAWN).index)]


def spaghetti(
    progression: Tracked, axes: Axes, *, relative: bool = False, log: bool = False, column: str = "volume_ml"
) -> Artists:
    """One line per lesion over time; the artists of each lesion by identity.

    Parameters
    ----------
    progression : Tracked
    axes : matplotlib.axes.Axes
    relative : bool
        Percent of the lesion's first value.
    log : bool
        Logarithmic values (zeros are left out).
    column : str
        The measure to draw.
    """
    x, _ = x_positions(progression)
    table = _drawn(progression.lesions, axes)
    artists: Artists = {}
    largest = table.groupby("lesion")["volume_ml"].max().sort_values(ascending=False).index[:_MOST_NAMES]
    for number, rows in by_lesion(table):
        colour = lesion_colour(number)
        values = rows[column].to_numpy(float)
        if relative:
            values = 100 * values / values[0] if values[0] else np.full_like(values, np.nan)
        if log:
            values = np.where(values > 0, values, np.nan)
        at = x[rows["visit"].to_numpy(int)]
        (line,) = axes.plot(
            at, values, "-o", color=colour, markersize=3.5, linewidth=1.4, picker=5, label=f"lesion {number}"
        )
        artists[number] = [line]
        for event, marker in _MARKERS.items():
            chosen = (rows["event"] == event).to_numpy()
            if chosen.any():
                inner = colour if marker == "x" else "none"
                artists[number] += axes.plot(at[chosen], values[chosen], marker, color=colour, markersize=8, mfc=inner)
        seen = np.flatnonzero(np.isfinite(values) & (values > 0))
        if number in largest and len(seen):  # beside the last sighting: those that vanish would all be named at 0
            k = seen[-1]
            artists[number].append(
                axes.annotate(
                    str(number), (at[k], values[k]), (6, 2), textcoords="offset points", color=colour, fontsize=8
                )
            )
    if log:
        axes.set_yscale("log")
        # 20, 50, 100 rather than powers of ten
        axes.yaxis.set_major_formatter(_plain)
        axes.yaxis.set_minor_formatter(lambda v, at: _plain(v, at) if f"{v:.0e}"[0] in "25" else "")
    axes.set_ylabel("% of first visit" if relative else _column_in_words(column))
    _dates_axis(progression, axes)
    return artists


def burden(progression: Tracked, axes: Axes) -> Artists:
    """Total volume over time, with the 95 % noise band; under key 0."""
    x, _ = x_positions(progression)
    summary = progression.summary
    total, sd = summary["volume_ml"].to_numpy(float), summary["volume_sd_ml"].to_numpy(float)
    colour = _ink(axes)
    (line,) = axes.plot(x, total, "-o", color=colour, linewidth=2, markersize=5, picker=5, label="total")
    axes.fill_between(x, total - 1.96 * sd, total + 1.96 * sd, color=colour, alpha=0.2, linewidth=0)
    for at, value, count in zip(x, total, summary["lesions"], strict=True):
        if not np.isfinite(value):  # a visit without a mask
            continue
        text = f"{value:.3g} mL\n{how_many(int(count), 'lesion')}"
        axes.annotate(text, (at, value), (0, 8), textcoords="offset points", ha="center", fontsize=8, color=colour)
    axes.margins(x=0.08)
    # two lines of text stand above the highest point, also where the plot is docked and low
    axes.set_ylim(0, 1.6 * float(np.nanmax(total + 1.96 * sd, initial=0.0)) or 1.0)
    axes.set_ylabel("total volume (mL)")
    _dates_axis(progression, axes)
    return {0: [line]}


def waterfall(progression: Tracked, axes: Axes) -> Artists:
    """Change of each lesion from its first to its last visit in percent, largest growth first.

    One that was seen once, or that is no longer whole (`change.is_whole`), has no change of its own and no bar.
    """
    table = _drawn(progression.lesions, axes)
    bars = []
    for number, rows in by_lesion(table):
        first, last = float(rows["volume_ml"].iloc[0]), float(rows["volume_ml"].iloc[-1])
        if len(rows) > 1 and is_whole(rows["event"].tolist()):
            bars.append((number, 100 * (last - first) / first))
    bars.sort(key=lambda bar: -bar[1])
    artists: Artists = {}
    for at, (lesion, change) in enumerate(bars):
        artists[lesion] = list(axes.bar(at, change, color=lesion_colour(lesion), picker=True))
    axes.axhline(0, color=_ink(axes), linewidth=0.8)
    axes.set_xticks(range(len(bars)), [str(lesion) for lesion, _ in bars])
    axes.set_xlabel("lesion")
    axes.set_ylabel("change of volume (%)")
    return artists


def swimmer(progression: Tracked, axes: Axes) -> Artists:
    """The life of each lesion as a bar, its events as marks, merges and splits as lines between bars: a tree over time."""
    x, _ = x_positions(progression)
    table = _drawn(progression.lesions, axes)
    numbers = sorted(int(n) for n in table["lesion"].unique())
    if len(numbers) > _MOST_LANES:  # specks would hide what matters
        measured = set(table.loc[table["measured"].astype(bool), "lesion"].tolist())
        numbers = [n for n in numbers if n in measured] or numbers
    lane = {number: k for k, number in enumerate(numbers)}
    artists: Artists = {}
    for number, rows in by_lesion(table[table["lesion"].isin(numbers)]):
        present = rows[rows["volume_ml"] > 0]["visit"].to_numpy(int)
        colour = lesion_colour(number)
        at = lane[number]
        artists[number] = []
        for run in np.split(present, np.flatnonzero(np.diff(present) > 1) + 1):
            artists[number] += axes.plot(
                x[[run[0], run[-1]]],
                [at, at],
                "-o",
                markersize=5,
                color=colour,
                linewidth=6,
                solid_capstyle="round",
                picker=5,
            )
        for event, marker in _MARKERS.items():
            where = rows[(rows["event"] == event)]["visit"].to_numpy(int)
            if len(where):
                width = 2.4 if event == "resolved" else 1.0  # a cross is all edge
                artists[number] += axes.plot(
                    x[where], np.full(len(where), at), marker, color=colour, markersize=9, mec=_ink(axes), mew=width
                )
    for key, edges in progression.graph.live_parents.items():
        child = progression.graph.identities[key]
        for edge in edges:
            parent = progression.graph.identities[edge.parent]
            if parent != child and parent in lane and child in lane:
                ends = [lane[parent], lane[child]]
                axes.plot(x[[edge.parent[0], key[0]]], ends, "-", color=lesion_colour(child), linewidth=1.2, alpha=0.8)
    axes.set_yticks(list(lane.values()), [str(number) for number in lane])
    axes.invert_yaxis()
    axes.set_ylabel("lesion")
    _dates_axis(progression, axes)
    return artists


def _plain(value: float, _at: Any = None) -> str:
    return f"{value:g}"


def _ink(axes: Axes) -> ColorType:
    """The colour of the axes' text, which is visible on their background in any theme."""
    return axes.xaxis.label.get_color()


def overview(progression: Tracked) -> Figure:
    """The plot that `Progression.plot` and `save` make: lesions, total burden and their life."""
    lesions = max(progression.lesions["lesion"].nunique(), 1)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.2, 1))
    draw: list[tuple[SubplotSpec, str, Callable[[Tracked, Axes], Artists]]] = [
        (grid[0, :], "Volume of each lesion", spaghetti),
        (grid[1, 0], "Total burden", burden),
        (grid[1, 1], "What happened to each lesion", swimmer),
    ]
    for place, title, function in draw:
        axes = figure.add_subplot(place)
        function(progression, axes)
        axes.set_title(title, fontsize=11, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        if function is swimmer and lesions > _MOST_LANES:
            axes.tick_params(axis="y", labelsize=6)
    if lesions and not progression.lesions.empty:
        figure.axes[0].legend(
            handles=_legend(progression.lesions), fontsize=8, ncols=2, frameon=False, loc="upper left"
        )
    figure.supxlabel(DISCLAIMER, fontsize=8, color="0.4")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure under a temporary name, then move it into place.

    Raises
    ------
    WriteError
        If the ending is unknown or the folder cannot be written.
    """
    try:
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=120)
    except ValueError as error:
        raise WriteError(f"The plot could not be written to {path}: {error}. Use .png, .svg or .pdf.") from error


def _legend(table: pd.DataFrame) -> list[Artist]:
    from matplotlib.lines import Line2D

    seen = [event for event in _MARKERS if (table["event"] == event).any()]
    return [Line2D([], [], marker=_MARKERS[e], linestyle="", color="0.3", mfc="none", label=e) for e in seen]


def _column_in_words(column: str) -> str:
    stem, _, unit = column.rpartition("_")
    units = {"ml": "mL", "mm2": "mm²", "mm3": "mm³"}
    return f"{stem.replace('_', ' ')} ({units.get(unit, unit)})"


def _dates_axis(progression: Tracked, axes: Axes) -> None:
    """Ticks at the visits: their dates, or their numbers."""
    x, real = x_positions(progression)
    labels = [str(d) for d in x] if real else [f"visit {n}" for n in x]
    axes.set_xticks(x, labels, rotation=20 if len(x) > 3 else 0, fontsize=8)
    if not axes.lines and len(x) > 1:  # nothing is left to draw: the ticks would lie on each other
        axes.set_xlim(x[0], x[-1])
    if not real:
        axes.set_xlabel("dates unknown")
