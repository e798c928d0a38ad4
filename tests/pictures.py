"""Figures compared as pictures with those that lie beside the tests, by matplotlib's own comparison.

Text and ticks are taken away first, since fonts are drawn differently by each version of FreeType; what is left are lines, areas and
marks. `TOLERANCE` is the root mean square over all pixels and channels, of 255, up to which two pictures count as one: antialiasing
of another matplotlib or libpng stays well below it, and a lesion of a tenth less, one that is gone or an outline that is one voxel
longer is above it (`tests/unit/progression/test_pictures.py` holds that). Where a plot is meant to change, write its picture anew and
look at it:

    MEDSEQ_WRITE_PICTURES=1 python -m pytest tests/unit/progression/test_pictures.py
"""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.testing.decorators import remove_ticks_and_titles

HERE = Path(__file__).parent / "expected_pictures"
TOLERANCE = 3.0


def difference(figure: Figure, name: str, folder: Path) -> float:
    """How far a figure is from the picture called `name`, as a root mean square of 255; 0 where they are the same.

    Parameters
    ----------
    figure : Figure
        Its text and ticks are taken away.
    name : str
        Of the PNG file, without ending.
    folder : Path
        Where the figure is drawn to.
    """
    remove_ticks_and_titles(figure)
    for axes in figure.axes:
        axes.set_xlabel("")
        axes.set_ylabel("")
        if (legend := axes.get_legend()) is not None:
            legend.remove()
        for text in list(axes.texts):
            text.remove()
    for text in figure.texts:
        # not removed: matplotlib 3.9.0 lays out a removed title all the same
        text.set_visible(False)
        text.set_in_layout(False)
    # 509.9999 pixels are 509 in matplotlib 3.9.0 and 510 in later ones
    sides = [float(side) for side in figure.get_size_inches()]
    width, height = (side + 1e-6 if int(50 * side) < round(50 * side) else side for side in sides)
    figure.set_size_inches(width, height)
    drawn, expected = folder / f"{name}.png", HERE / f"{name}.png"
    figure.savefig(drawn, dpi=50, metadata={"Software": None})
    if os.environ.get("MEDSEQ_WRITE_PICTURES"):
        HERE.mkdir(exist_ok=True)
        expected.write_bytes(drawn.read_bytes())
    kept = folder / f"{name}-expected.png"  # the comparison writes beside it
    kept.write_bytes(expected.read_bytes())
    found = compare_images(str(kept), str(drawn), tol=0, in_decorator=True)
    return float(found["rms"]) if found is not None else 0.0
