"""Make the pictures of the documentation: napari with the synthetic sample study, as a new user sees it.

Run it where there is a screen, or under Xvfb::

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

import napari
import napari_medseq as ms
from napari_medseq import viewer as view
from napari_medseq._napari.jobs.pieces import pieces_of

HERE = Path(__file__).parent
STUDY = HERE.parent / "sample_data" / "study" / "sub-sample"
TRUTH = HERE.parent / "sample_data" / "truth" / "ses-20200131_lesions.nii.gz"
SIZE = (1480, 940)


def wait(until: Callable[[], bool], seconds: float = 600) -> None:
    """Let the viewer live until something is true."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("the viewer did not get there")
        QApplication.processEvents()
        time.sleep(0.02)


def rest(seconds: float) -> None:
    """Let the viewer live for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def picture(viewer: Any, name: str) -> None:
    """Save the window as a small PNG, once notifications have gone and all texts are on the canvas."""
    pieces = pieces_of(viewer)
    wait(lambda: pieces is None or pieces.done)
    rest(7)
    path = HERE / "images" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    # not in fewer colours: lesions must keep theirs
    shot = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    shot.save(path, optimize=True)
    print(f"{path} {path.stat().st_size // 1024} kB")


def widget_of(viewer: Any, name: str) -> Any:
    """Open one of our widgets and wait until its models are listed."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-medseq", name)
    if hasattr(getattr(widget, "model", None), "box"):
        wait(widget.model.box.isEnabled)
    return widget


def progression() -> None:
    """The main job: a study is open, Run is pressed, lesions are followed."""
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(STUDY, plugin="napari-medseq")
    widget = widget_of(viewer, "Progression")
    widget.model.choose("brain-tumor")
    picture(viewer, "viewer")
    widget.run_button.click()
    wait(lambda: not widget.work.busy)
    picture(viewer, "progression")
    widget.result.correct.button.setChecked(True)
    widget.result.go_to(1, 1)
    widget.result.plot.view.setCurrentText("What happened (tree)")
    picture(viewer, "progression-tree")
    viewer.close()


def comparison() -> None:
    """Two visits side by side, the lesions in their colours."""
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(STUDY, plugin="napari-medseq")
    widget = widget_of(viewer, "Compare")
    study = str(view.patient_in_front(viewer))
    for visit, path in enumerate(sorted(TRUTH.parent.glob("ses-*_lesions.nii.gz"))):
        view.assign_visit(viewer, view.add_sequence(viewer, ms.read(path)[0]), study, visit)
    followed = view.track_layers(viewer, study=study)
    found = view.result_of(viewer)
    largest = followed.lesions.sort_values("volume_ml").iloc[-1]
    view.go_to(viewer, found.layers, int(largest["visit"]), int(largest["lesion"]))
    widget.side_button.click()
    picture(viewer, "compare")
    viewer.close()


def studying() -> None:
    """What is open of a patient, by visit."""
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(STUDY, plugin="napari-medseq")
    study = str(view.patient_in_front(viewer))
    for visit, path in enumerate(sorted(TRUTH.parent.glob("ses-*_lesions.nii.gz"))):
        view.assign_visit(viewer, view.add_sequence(viewer, ms.read(path)[0]), study, visit)
    widget_of(viewer, "Study")
    picture(viewer, "study")
    viewer.close()


def classification() -> None:
    """Slices are classified; the plot's cursor is the slider's."""
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(STUDY, plugin="napari-medseq")
    widget = widget_of(viewer, "Analyse")
    widget.images.tick([viewer.layers[0]])
    for model in ("brain-tumor", "brain-tumor-slices"):
        widget.model.choose(model)
        widget.run_button.click()
        wait(lambda: not widget.work.busy)
    widget.view.go_to(int(widget.found[0].attention.argmax()))
    picture(viewer, "analyse")
    viewer.close()


def preprocessing() -> None:
    """A recipe, the shown slice before and after, and the layers that it is for."""
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(STUDY, plugin="napari-medseq")
    widget = widget_of(viewer, "Preprocess")
    widget.layer.choose(viewer.layers[0])
    for step in ("n4", {"kind": "percentile", "lower": 2.0, "upper": 99.0}):
        widget.add_step(step)
    widget.also_section.button.setChecked(True)
    widget.also.visits_button.click()
    wait(lambda: "The whole takes" in widget.preview.time.text())
    picture(viewer, "preprocess")
    viewer.close()


def curves() -> None:
    """A dynamic series, made of the first visit: its lesions take up contrast, each in its own way."""
    image, mask = ms.read(next(STUDY.glob("ses-20200131/*T1post*")))[0], ms.read(TRUTH)[0]
    times = np.array([0.0, 6, 12, 20, 30, 45, 60, 90, 120])
    uptake = np.ones((len(times), *image.data.shape), np.float32)
    lesions = np.unique(mask.data)[1:].tolist()
    for lesion in lesions:
        late = 12 * (1 + lesion % 4)
        rise = (1 - np.exp(-times / late)) * np.exp(-times / (40 * late))
        uptake[:, np.asarray(mask.data) == lesion] += rise[:, None].astype(np.float32)
    frames = (uptake * (np.asarray(image.data) * np.where(mask.data, 0.6, 1.0))).astype(np.float32)
    series = image.replace(data=frames, axes=("t", "z", "y", "x"), times=times, name="dynamic series")
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    shown = view.add_sequence(viewer, series)
    view.add_sequence(viewer, mask.replace(name="lesions"), opacity=0.5)
    widget = widget_of(viewer, "Time curves")
    widget.image.choose(shown)
    widget.run_button.click()
    wait(lambda: not widget.work.busy)
    widget.plot.go(3, lesions[0])
    picture(viewer, "time-curves")
    viewer.close()


def teaching() -> None:
    """Three slices are painted, a model is made of them, and its answer stands beside them."""
    image, truth = ms.read(next(STUDY.glob("ses-20200131/*T1post*")))[0], ms.read(TRUTH)[0]
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    shown = view.add_sequence(viewer, image)
    painted = view.new_labels(viewer, shown)
    voxels = np.asarray(painted.data).copy()
    slices = (9, 13, 17)
    flat = voxels.reshape(-1, *voxels.shape[-3:])
    for z in slices:
        flat[0, z] = np.asarray(truth.volume_zyx())[z] > 0
    painted.data = voxels
    widget = widget_of(viewer, "Teach")
    widget.image.choose(shown)
    widget.labels.choose(painted)
    viewer.dims.set_current_step(0, slices[1])
    picture(viewer, "teach")
    viewer.close()


def editing() -> None:
    """A lesion painted on every other slice, interpolated and given a margin."""
    image, truth = ms.read(next(STUDY.glob("ses-20200131/*T1post*")))[0], ms.read(TRUTH)[0]
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    shown = view.add_sequence(viewer, image)
    painted = view.new_labels(viewer, shown)
    voxels = np.asarray(painted.data).copy()
    flat = voxels.reshape(-1, *voxels.shape[-3:])
    flat[0, ::2] = np.asarray(truth.volume_zyx())[::2]
    view.editing_of(viewer).write(painted, voxels)
    areas = (flat[0] > 0).sum(axis=(1, 2))
    painted.selected_label = int(np.bincount(flat[0][flat[0] > 0]).argmax())
    widget = widget_of(viewer, "Edit")
    widget.between.every.setChecked(True)
    widget.between.interpolate.click()
    wait(lambda: not widget.work.busy)
    widget.shape.expand.click()
    view.go_to_slice(viewer, painted, int(areas.argmax()))
    picture(viewer, "edit")
    viewer.close()


def display() -> None:
    """Followed lesions with their diameters and numbers, coloured by what became of them."""
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.open(STUDY, plugin="napari-medseq")
    truths = [view.add_sequence(viewer, ms.read(path)[0]) for path in sorted(TRUTH.parent.glob("*_lesions.nii.gz"))]
    progression = ms.track([view.to_sequence(layer) for layer in truths])
    for layer in truths:
        viewer.layers.remove(layer)
    layers = view.show_progression(viewer, progression, view.study_of(viewer))
    widget = widget_of(viewer, "Display")
    widget.numbers.setChecked(True)
    widget.diameters.setChecked(True)
    widget.meaning.setCurrentText("what became of it")
    widget.meaning.activated.emit(widget.meaning.currentIndex())
    here = progression.lesions.query("visit == 1").sort_values("volume_ml")
    view.go_to(viewer, layers, 1, int(here["lesion"].iloc[-1]))
    viewer.cursor.position = tuple(viewer.dims.point)
    picture(viewer, "display")
    viewer.close()


PICTURES: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        progression, comparison, studying, classification, preprocessing, curves, teaching, editing, display,
    )
}  # fmt: skip


def main() -> None:
    """Make the pictures that are named, or all; each in a process of its own, as a new window is."""
    if sys.argv[1:2] == ["--one"]:
        PICTURES[sys.argv[2]]()
        return
    for name in sys.argv[1:] or PICTURES:
        if subprocess.run([sys.executable, __file__, "--one", name], check=False).returncode:
            raise SystemExit(f"The picture of {name} was not made; the others before it were.")


if __name__ == "__main__":
    main()
