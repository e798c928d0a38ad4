"""A stranger's first study with the installed package, in a real napari: open the study, press Run, see the plot; then every widget.

python stranger.py STUDY        (needs a screen; writes the seconds into walked.json in the current folder)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

BEGUN = time.monotonic()

from qtpy.QtCore import Qt, QThreadPool  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

import napari  # noqa: E402
import napari_medseq  # noqa: E402


def wait(until: Callable[[], bool], what: str, seconds: float = 240) -> None:
    """Let the window live until something is true."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            sys.exit(f"after {seconds:.0f} s still not there: {what}")
        QApplication.processEvents()
        time.sleep(0.01)


def main(study: str) -> None:
    """The way of the first tutorial."""
    if "site-packages" not in Path(napari_medseq.__file__).parts:
        sys.exit(f"{napari_medseq.__file__} is not the installed package")
    viewer = napari.Viewer()
    viewer.open(study, plugin="napari-medseq")
    wait(lambda: len(viewer.layers) >= 3, "a layer for each of three visits")
    _, widget = viewer.window.add_plugin_dock_widget("napari-medseq", "Progression")
    wait(widget.model.box.isEnabled, "the list of models")
    widget.model.choose("brain-tumor")
    wait(widget.run_button.isEnabled, "a Run button that can be pressed")
    ready = time.monotonic()
    QTest.mouseClick(widget.run_button, Qt.MouseButton.LeftButton)
    wait(lambda: not widget.work.busy, "the end of Run")
    plot, rows = widget.result.plot, widget.result.table.rowCount()
    wait(plot.canvas.isVisible, "the plot", 10)
    plotted = time.monotonic()
    lines = [line for axes in plot.canvas.figure.axes for line in axes.lines]
    if not lines or not rows:
        sys.exit(f"the plot is empty: {len(lines)} lines, {rows} rows in the table")
    seconds = {"napari to Run": ready - BEGUN, "Run to plot": plotted - ready, "napari to plot": plotted - BEGUN}
    Path("walked.json").write_text(json.dumps({name: round(s, 1) for name, s in seconds.items()}), encoding="utf-8")
    names = _every_widget(viewer)
    print(f"napari {napari.__version__}: {len(viewer.layers)} layers, {rows} rows, widgets {', '.join(names)}")
    viewer.close()


def _every_widget(viewer: napari.Viewer) -> list[str]:
    """Open the widgets that the manifest names."""
    from npe2 import PluginManager

    manifest = PluginManager.instance().get_manifest("napari-medseq")
    names = [widget.display_name for widget in manifest.contributions.widgets]
    for name in names:
        viewer.window.add_plugin_dock_widget("napari-medseq", name)
        QApplication.processEvents()
    # lists of models are read in the background
    wait(lambda: QThreadPool.globalInstance().waitForDone(10), "the end of the background jobs", 60)
    QApplication.processEvents()
    return names


if __name__ == "__main__":
    main(sys.argv[1])
