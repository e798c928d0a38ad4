"""Open every widget of the installed package in a real napari, as the wheel's test does; needs a screen."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QApplication

import napari
import napari_medseq

if "site-packages" not in Path(napari_medseq.__file__).parts:
    sys.exit(f"{napari_medseq.__file__} is not the installed package")
viewer = napari.Viewer(show=False)
viewer.open_sample("napari-medseq", "longitudinal-brain")
names = [
    w.display_name
    for w in __import__("npe2").PluginManager.instance().get_manifest("napari-medseq").contributions.widgets
]
for name in names:
    viewer.window.add_plugin_dock_widget("napari-medseq", name)
    QApplication.processEvents()
end = time.monotonic() + 20  # models are listed in the background
while time.monotonic() < end and not QThreadPool.globalInstance().waitForDone(10):
    QApplication.processEvents()
QApplication.processEvents()
print(f"napari {napari.__version__}: {len(viewer.layers)} layers, widgets {', '.join(names)}")
viewer.close()
