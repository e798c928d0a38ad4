"""What a tutorial does in napari, done in a real napari as the page says it: menus, buttons, mouse, in the page's order.

    xvfb-run -a python tools/walk_viewer.py docs/tutorials/first-study.md FOLDER

FOLDER is where the page's commands were run before. Every menu, button and layer that is used is looked for in the page first, so that
a page that says something else is found. `tools/walk_tutorials.py` calls this at the right place of the page. The dialogs of the
operating system (where to save, which program shows a page) are answered, not shown.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backend_bases import MouseButton, MouseEvent
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtGui import QDesktopServices
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QMenu, QPushButton, QToolButton, QWidget

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import stranger  # noqa: E402

import napari  # noqa: E402
import napari_medseq as ms  # noqa: E402
from napari_medseq import viewer as view  # noqa: E402
from tests.napari.person import paint  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from napari.layers import Labels

    from napari_medseq._napari.analyse_widget import AnalyseWidget
    from napari_medseq._napari.progression_widget import ProgressionWidget
    from napari_medseq._napari.teach_widget import TeachWidget


wait = partial(stranger.wait, seconds=900)


def require(true: bool, what: str) -> None:
    """End the walk where the page promises what does not happen."""
    if not true:
        sys.exit(f"not as the page says: {what}")
    print(f"  {what}", flush=True)


class Person:
    """Somebody in front of napari, with the page in their hand."""

    def __init__(self, page: Path, viewer: napari.Viewer) -> None:
        self.text = " ".join(page.read_text(encoding="utf-8").split())
        self.viewer = viewer

    def reads(self, words: str) -> str:
        """These words stand on the page."""
        if words not in self.text:
            sys.exit(f"the page does not say {words!r} (any more): bring tools/walk_viewer.py up to date with it")
        return words

    def opens(self, path: Path) -> None:
        """Drop a file or folder into the window."""
        self.viewer.open(str(path), plugin="napari-medseq")
        QApplication.processEvents()

    def chooses(self, *names: str) -> None:
        """A menu's entry, by the way that the page prints with arrows between."""
        self.reads(" → ".join(names))
        menu = self.viewer.window._qt_window.menuBar()
        for name in names[:-1]:
            if isinstance(menu, QMenu):
                menu.aboutToShow.emit()
            action = next((a for a in menu.actions() if a.text().replace("&", "") == name and a.menu()), None)
            if action is None:
                sys.exit(f"there is no menu {name!r}, only {[a.text() for a in menu.actions()]}")
            menu = action.menu()
        menu.aboutToShow.emit()
        action = next((a for a in menu.actions() if a.text().replace("&", "").startswith(names[-1])), None)
        if action is None:
            sys.exit(f"there is no entry {names[-1]!r}, only {[a.text() for a in menu.actions()]}")
        action.trigger()
        QApplication.processEvents()

    def presses(self, widget: QWidget, text: str) -> None:
        """A button whose text stands on the page."""
        self.reads(text)
        buttons = [*widget.findChildren(QPushButton), *widget.findChildren(QToolButton)]
        found = [b for b in buttons if b.text().replace("&", "").lstrip("▸▾ ").startswith(text) and b.isVisible()]
        if not found:
            sys.exit(f"there is no button {text!r}")
        wait(found[0].isEnabled, f"{text!r} that can be pressed ({found[0].toolTip()})", seconds=120)
        QTest.mouseClick(found[0], Qt.MouseButton.LeftButton)
        QApplication.processEvents()

    def widget(self, name: str) -> QWidget:
        """A widget of the plugin, from its menu."""
        before = set(self.viewer.window._qt_window.findChildren(QWidget))
        self.chooses("Plugins", "napari-medseq", name)
        new = [w for w in self.viewer.window._qt_window.findChildren(QWidget) if w not in before]
        return next(w for w in new if type(w).__name__ == f"{name.replace(' ', '')}Widget")


def mouse(axes: Axes, what: str, x: float, y: float) -> None:
    """Move or press the mouse at a place of the plot, in its own units."""
    canvas = axes.figure.canvas
    right, up = axes.transData.transform((x, y))
    canvas.callbacks.process(what, MouseEvent(what, canvas, right, up, MouseButton.LEFT if "button" in what else None))
    QApplication.processEvents()


def first_study(person: Person, folder: Path) -> None:
    """Open the study, find its lesions, look around, correct, paint, report."""
    viewer = person.viewer
    person.opens(folder / person.reads("runs/demo/study"))
    wait(lambda: len(viewer.layers) >= 3, "a layer for each of three visits")
    person.reads("Two sliders appear: `visit`, and the slice.")
    sliders = [viewer.dims.axis_labels[k] for k in viewer.dims.not_displayed if viewer.dims.nsteps[k] > 1]
    require(len(sliders) == 2 and "visit" in sliders, f"two sliders: {', '.join(sliders)}")

    widget: ProgressionWidget = person.widget("Progression")
    wait(widget.model.box.isEnabled, "the list of models")
    require(widget.study.study is not None, f"the study {widget.study.study} is chosen")
    widget.model.choose(person.reads("brain-tumor"))
    person.presses(widget, "Run")
    person.reads("*Cancel* stops within one slice")
    require(widget.work.busy, "a job with a bar runs")
    wait(lambda: not widget.work.busy, "the end of Run")
    result, plot = widget.result, widget.result.plot
    require(len(result.layers) == 3, "a label layer at each of three visits")
    values = [{int(v) for v in np.unique(layer.data)} - {0} for layer in result.layers]
    common = set.intersection(*values)
    colours = {lesion: {tuple(layer.get_color(lesion)) for layer in result.layers} for lesion in common}
    require(bool(common) and all(len(c) == 1 for c in colours.values()), "the same number and colour at each visit")
    require(plot.canvas.isVisible(), "the plot is shown")

    person.reads("Move the `visit` slider: the cursor in the plot follows.")
    seen = []
    for visit in range(3):
        viewer.dims.set_point(0, visit)
        QApplication.processEvents()
        seen.append(plot.shown_step())
    require(seen == [0, 1, 2], "the cursor follows the slider")
    lesion = max(common)
    table = result.progression.lesions
    row = table[(table["lesion"] == lesion) & (table["visit"] == 1)].iloc[0]
    place = float(plot.positions()[1]), float(row["volume_ml"])
    plot.canvas.canvas.draw()
    axes = plot.canvas.figure.axes[0]
    person.reads("Rest the mouse on a line: it says which lesion that is.")
    mouse(axes, "motion_notify_event", *place)
    require(plot.hovered.startswith(f"lesion {lesion},"), f"the plot says: {plot.hovered}")
    person.reads("Click a point: the viewer goes to that visit and lesion.")
    mouse(axes, "button_press_event", *place)
    at = round(viewer.dims.point[0]), int(result.layers[1].selected_label)
    require(at == (1, lesion), f"the viewer is at visit {at[0] + 1}, lesion {at[1]}")
    person.reads("Select another label in the layer: its line stands out.")
    other = min(values[1] - {lesion})
    result.layers[1].selected_label = other
    require(plot.selected == other, f"the line of lesion {other} stands out")

    person.presses(widget, "Correct the selected lesion")
    box = result.corrections
    merged = next(k for k in range(box.other.count()) if box.other.itemData(k) in values[1])
    box.other.setCurrentIndex(merged)
    number = len(result.progression.lesions)
    person.presses(box, "Merge with")
    require(len(result.progression.corrections) == 1, "two lesions are one")
    person.presses(box, "Undo")
    require(len(result.progression.lesions) == number and not result.progression.corrections, "and two again")

    layer: Labels = result.layers[1]
    middle = np.argwhere(layer.data[0] == lesion).mean(axis=0).round().astype(int)
    free = np.argwhere(layer.data[0][middle[0]] == 0)
    spot = free[np.abs(free - middle[1:]).sum(axis=1).argmin()]
    changed = paint(viewer, layer, (int(middle[0]), int(spot[0]), int(spot[1])), label=lesion)
    require(bool(changed.any()), "a stroke lands in the label layer")
    before = float(row["volume_ml"])
    person.presses(widget, "Follow again")
    wait(lambda: not widget.work.busy, "the end of following")
    table = result.progression.lesions
    after = float(table[(table["lesion"] == lesion) & (table["visit"] == 1)]["volume_ml"].iloc[0])
    require(after != before, f"the result follows the brush: {before:.3f} → {after:.3f} mL")

    shown: list[str] = []
    QFileDialog.getSaveFileName = lambda *_a, **_k: (str(folder / "report.html"), "")
    QDesktopServices.openUrl = lambda url: shown.append(url.toLocalFile())
    person.presses(widget, "Report …")
    wait(lambda: bool(shown), "the report", seconds=120)
    require(Path(shown[0]).stat().st_size > 10_000, "a page of the whole is written and opened")


def filled(layer: Labels) -> list[int]:
    """The slices of a mask in which there is something."""
    return np.flatnonzero((np.asarray(layer.data) > 0).any(axis=(-2, -1))).tolist()


def annotate(person: Person, folder: Path) -> None:
    """Paint, propagate, correct the slice in doubt, propagate again, save, teach."""
    viewer = person.viewer
    person.opens(folder / person.reads("scan.nii.gz"))
    person.chooses("File", "New Layer", "New labels on this image's grid")
    mine: Labels = viewer.layers[-1]
    require(mine.data.shape == viewer.layers[0].data.shape and not mine.data.any(), "an empty mask on the image's grid")
    middle = tuple(int(n) // 2 for n in mine.data.shape[-3:])
    require(bool(paint(viewer, mine, middle, label=1).any()), "the brush paints in it")
    viewer.layers.remove(mine)
    person.opens(folder / person.reads("painted.nii.gz"))
    painted: Labels = viewer.layers[-1]

    widget: TeachWidget = person.widget("Teach")
    widget.image.choose(viewer.layers[0])
    widget.labels.choose(painted)
    mine_slices = set(filled(painted))
    person.presses(widget, "Propagate")
    wait(lambda: not widget.work.busy and widget.answer is not None, "the end of propagating")
    person.reads("a new layer holds the answer for every slice")
    answer = widget.answer
    many = set(filled(answer))
    require(many > mine_slices, f"the answer has something in {len(many)} slices; {len(mine_slices)} were painted")
    person.reads("Press **Look at** slice … **next**")
    person.presses(widget, "Look at")
    worst = round(float(answer.world_to_data(viewer.dims.point)[-3]))
    require(worst not in mine_slices, f"slice {worst + 1} is shown, which was not painted")
    person.reads("Correct it there with brush and eraser")
    middle = np.argwhere(np.asarray(answer.data)[worst] > 0)
    row, column = (int(v) for v in (middle[0] if len(middle) else np.array(answer.data.shape[1:]) // 2))
    corrected = paint(viewer, answer, (worst, row, column), label=1, size=7)
    require(bool(corrected.any()), "the brush corrects the answer there")
    now = np.array(answer.data)[worst]
    person.presses(widget, "Propagate")
    wait(lambda: not widget.work.busy, "the end of propagating again")
    person.reads("Slices that you painted or corrected stay as they are.")
    require(np.array_equal(np.asarray(widget.answer.data)[worst], now), "the corrected slice stays as it is")

    QFileDialog.getSaveFileName = lambda *_a, **_k: (str(folder / "answer.nii.gz"), "")
    person.reads("Press **Save this mask …**")
    person.presses(widget, "Save this mask")
    wait(lambda: not widget.work.busy, "the end of saving")
    (scan,), (saved,) = ms.read(folder / "scan.nii.gz"), ms.read(folder / "answer.nii.gz", kind="labels")
    require(saved.same_grid(scan), "what is saved has the scan's own geometry")

    person.reads("give it a name and press **Teach**")
    widget.lesson.name.setText("walked")
    person.reads("*Minutes* of the form (2)")
    require(widget.lesson.minutes.value() == 2, "two minutes are allowed")
    person.presses(widget, "Teach")
    wait(lambda: not widget.work.busy and widget.lesson.model is not None, "the end of teaching")
    require(any(m.name == "walked" for m in ms.list_models()), "the model is found under its name")
    require(bool(filled(widget.answer)), "the answer layer holds what the new model finds")
    person.reads("Ctrl+Z brings that back")
    view.undo(viewer)
    require(np.array_equal(widget.answer.data, saved.data), "one undo brings back what was propagated")


def train_from_a_folder(person: Person, folder: Path) -> None:
    """Segment the scan that was kept elsewhere with the model that was trained."""
    viewer = person.viewer
    person.opens(folder / person.reads("new/T1post.nii.gz"))
    wait(lambda: len(viewer.layers) == 1, "the scan")
    widget: AnalyseWidget = person.widget("Analyse")
    wait(widget.model.box.isEnabled, "the list of models")
    widget.model.choose(person.reads("my-model"))
    person.presses(widget, "Run")
    wait(lambda: not widget.work.busy and bool(widget.found), "the end of Run")
    person.reads("A label layer appears on the scan's own grid.")
    require(len(viewer.layers) == 2, "a label layer appears")
    require(viewer.layers[1].data.shape == viewer.layers[0].data.shape, "it is on the scan's own grid")


def hundred_patients(person: Person, folder: Path) -> None:
    """Look at the result of the patient that was tried."""
    viewer = person.viewer
    person.opens(folder / person.reads("trial/"))
    wait(lambda: len(viewer.layers) >= 6, "the images and lesions of three visits")
    person.reads("the images and the lesions of each visit come back")
    kinds = [layer._type_string for layer in viewer.layers]
    require(kinds.count("image") == kinds.count("labels") == 3, "three images, three masks")
    widget: ProgressionWidget = person.widget("Progression")
    person.reads("has their table and, by **Show plot**, the plot")
    require(widget.result.table.rowCount() > 3, "the table has a row per lesion and visit")
    person.presses(widget, "Show plot")
    wait(widget.result.plot.canvas.isVisible, "the plot", seconds=60)


WALKS = {
    "first-study": first_study,
    "annotate": annotate,
    "train-from-a-folder": train_from_a_folder,
    "hundred-patients": hundred_patients,
}


def main(page: Path, folder: Path) -> None:
    """Walk the part of a page that is done in napari."""
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1300, 900)
    try:
        WALKS[page.stem](Person(page, viewer), folder)
    finally:
        wait(lambda: QThreadPool.globalInstance().waitForDone(10), "the end of the background jobs", seconds=60)
        QApplication.processEvents()
    # napari asks whether to save what is not saved; nobody is there to answer
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
