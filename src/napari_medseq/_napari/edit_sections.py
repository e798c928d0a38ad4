"""The controls of *Edit*: each section makes tools from its numbers and passes them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_medseq._napari.controls.choosers import LayerBox
from napari_medseq._napari.controls.parts import choice
from napari_medseq._napari.notifications import guarded
from napari_medseq.masks import tools

#: the requirements of a button in addition to a mask with a label
Need = Literal["slices", "image", "visits", "other"]
Run = Callable[[tools.Tool], None]


class ActionButton(QPushButton):  # type: ignore[misc]
    """A button whose tooltip tells what it does, or why it cannot be pressed."""

    def __init__(self, text: str, tip: str, action: Callable[[], object], *needs: Need) -> None:
        super().__init__(text)
        self.tip, self.needs = tip, needs
        self.clicked.connect(lambda: guarded(text, action))

    def allow(self, lacking: Mapping[str, str]) -> None:
        """Enable the button, or disable it with the reason: requirement → why it is not met; "mask" is required by
        all."""
        why = next((lacking[need] for need in ("mask", *self.needs) if lacking.get(need)), "")
        self.setEnabled(not why)
        self.setToolTip(why or self.tip)


class Section(QWidget):  # type: ignore[misc]
    """Rows of controls; `actions` are its buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = QVBoxLayout(self)
        self.rows.setContentsMargins(0, 0, 0, 6)
        self.actions: list[ActionButton] = []

    def row(self, *widgets: QWidget) -> None:
        """Add a row, which its widgets share evenly."""
        row = QHBoxLayout()
        for widget in widgets:
            widget.setMinimumWidth(60)
            row.addWidget(widget, 1)
        self.rows.addLayout(row)

    def button(self, text: str, tip: str, action: Callable[[], object], *needs: Need) -> ActionButton:
        """A button of this section."""
        button = ActionButton(text, tip, action, *needs)
        self.actions.append(button)
        return button


def number(
    value: float, low: float, high: float, unit: str, tip: str, step: float = 0.5, prefix: str = ""
) -> QDoubleSpinBox:
    """Add a number with its unit."""
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setDecimals(1 if unit == "mm" else 2)
    box.setValue(value)
    box.setPrefix(prefix)
    box.setSuffix(f" {unit}" if unit else "")
    box.setToolTip(tip)
    return box


class BetweenSection(Section):
    """Slices between painted ones, and copies to the next slice or visit."""

    def __init__(self, run: Run, copy_slice: Callable[[int], object], copy_visit: Callable[[int], object]) -> None:
        super().__init__()
        self.every = QCheckBox("all labels")
        self.every.setToolTip("Work on every label of the mask, not only on the selected one")
        self.interpolate = self.button(
            "Interpolate",
            "Fill in the slices between painted ones; never over other labels (key I)",
            lambda: run(tools.Interpolate(all_labels=self.every.isChecked())),
            "slices",
        )
        self.row(self.interpolate, self.every)
        self.to_next = self.button(
            "To next slice",
            "Copy the outline to the next slice and go there (key N)",
            lambda: copy_slice(1),
            "slices",
        )
        self.to_previous = self.button(
            "To previous slice",
            "Copy the outline to the previous slice and go there (key Shift+N)",
            lambda: copy_slice(-1),
            "slices",
        )
        self.row(self.to_previous, self.to_next)
        self.next_visit = self.button(
            "To next visit",
            "Copy the label to the next visit's mask, at the same place in the patient's space",
            lambda: copy_visit(1),
            "visits",
        )
        self.previous_visit = self.button(
            "To previous visit", "Copy the label to the previous visit's mask", lambda: copy_visit(-1), "visits"
        )
        self.row(self.previous_visit, self.next_visit)


class IntensitySection(Section):
    """A range of intensities, for the brush and for growing from seeds."""

    limited = Signal()

    def __init__(self, run: Run, take_range: Callable[[], object]) -> None:
        super().__init__()
        self.low = number(0, -1e9, 1e9, "", "Lower end of the range of intensities", 1, "from ")
        self.high = number(0, -1e9, 1e9, "", "Upper end of the range of intensities", 1, "to ")
        self.take = self.button(
            "From label",
            "Set the range to the intensities inside the selected label (2.5th to 97.5th percentile)",
            take_range,
            "image",
        )
        self.row(self.low, self.high, self.take)
        self.limit = QCheckBox("Brush paints only within the range")
        self.limit.setToolTip("Strokes, fills and the eraser leave voxels of other intensities alone")
        for signal in (self.limit.toggled, self.low.valueChanged, self.high.valueChanged):
            signal.connect(lambda _value: self.limited.emit())
        self.row(self.limit)
        self.reach = number(20, 0.5, 500, "mm", "Voxels farther from a seed than this are not added", 5, "reach ")
        self.blur = number(1, 0, 20, "mm", "How far noise is smoothed before edges are sought", prefix="blur ")
        self.within = QCheckBox("within range")
        self.within.setToolTip(
            "Add only voxels within the range above; if there is one label only, nothing else stops it from growing"
        )
        self.surroundings = QSpinBox()
        self.surroundings.setRange(0, 2**31 - 1)
        self.surroundings.setPrefix("surroundings: label ")
        self.surroundings.setSpecialValueText("no label for surroundings")
        self.surroundings.setToolTip(
            "The label that you painted around the object. It stops the growth and is removed afterwards"
        )
        self.grow = self.button(
            "Grow from seeds",
            "All labels of the mask grow from what is painted, up to the image's edges",
            lambda: run(self.growing()),
            "image",
        )
        self.row(self.reach, self.blur)
        self.row(self.surroundings)
        self.row(self.grow, self.within)

    @property
    def range(self) -> tuple[float, float]:
        """Both ends."""
        return self.low.value(), self.high.value()

    def growing(self) -> tools.Grow:
        """The growing tool with these numbers."""
        low, high = self.range if self.within.isChecked() else (None, None)
        return tools.Grow(
            low=low, high=high, reach_mm=self.reach.value(), blur_mm=self.blur.value(),
            surroundings=self.surroundings.value() or None,
        )  # fmt: skip


class ShapeSection(Section):
    """Holes, margins, walls, smoothing."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.each = QCheckBox("slice by slice")
        self.each.setChecked(True)
        self.each.setToolTip(
            "Fill holes that are enclosed within a slice; otherwise only those that are enclosed on all sides"
        )
        self.fill = self.button(
            "Fill holes",
            "Fill what the label encloses (key H)",
            lambda: run(tools.FillHoles(slice_by_slice=self.each.isChecked())),
        )
        self.row(self.fill, self.each)
        self.margin = number(2, 0.1, 100, "mm", "How far")
        self.expand = self.button(
            "Grow",
            "Grow the label on all sides by this many millimetres",
            lambda: run(tools.Margin(mm=self.margin.value())),
        )
        self.shrink = self.button(
            "Shrink",
            "Shrink the label on all sides by this many millimetres",
            lambda: run(tools.Margin(mm=-self.margin.value())),
        )
        self.row(self.margin, self.expand, self.shrink)
        self.radius = number(1, 0.1, 50, "mm", "Standard deviation of the Gaussian, or radius of the ball")
        self.method = choice(
            {"Gaussian": "gaussian", "Median": "median", "Opening": "opening", "Closing": "closing"},
            "Opening takes away what is thinner than the ball, closing fills what is narrower",
        )
        self.smooth = self.button(
            "Smooth",
            "Make the outline smoother",
            lambda: run(tools.Smooth(mm=self.radius.value(), method=self.method.currentData())),
        )
        self.row(self.radius, self.method, self.smooth)
        self.wall = number(2, 0.1, 100, "mm", "Thickness of the wall")
        self.side = choice(
            {"Inside": "inside", "Outside": "outside", "Both sides": "both"}, "Side of the outline on which it lies"
        )
        self.hollow = self.button(
            "Hollow",
            "Keep only a wall along the outline",
            lambda: run(tools.Hollow(mm=self.wall.value(), side=self.side.currentData())),
        )
        self.row(self.wall, self.side, self.hollow)


class IslandSection(Section):
    """Separate components: kept, removed, split; the buttons that stay down act on the island that is clicked."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.count = QSpinBox()
        self.count.setRange(1, 99)
        self.count.setSuffix(" largest")
        self.count.setToolTip("How many islands are kept")
        self.keep = self.button(
            "Keep only these",
            "Keep the largest islands and remove the others",
            lambda: run(tools.KeepLargest(count=self.count.value())),
        )
        self.row(self.count, self.keep)
        self.least = number(0.1, 0.001, 1000, "mL", "Islands below this volume are removed", 0.1)
        self.least.setDecimals(3)
        self.remove = self.button(
            "Remove smaller",
            "Remove islands below this volume",
            lambda: run(tools.RemoveSmall(min_ml=self.least.value())),
        )
        self.row(self.least, self.remove)
        self.split = self.button("Split", "Make each island a label of its own", lambda: run(tools.Split()))
        self.row(self.split)
        self.pick_remove = self.button(
            "Click to remove", "Remove the island that you click (key Shift+D)", lambda: None
        )
        self.pick_keep = self.button("Click to keep", "Remove all but the island that you click", lambda: None)
        for button, other in ((self.pick_remove, self.pick_keep), (self.pick_keep, self.pick_remove)):
            button.setCheckable(True)
            button.toggled.connect(lambda on, other=other: other.setChecked(False) if on else None)
        self.row(self.pick_remove, self.pick_keep)

    @property
    def picking(self) -> Literal["keep", "remove"] | None:
        """The action on an island that is clicked; None: clicks have no effect."""
        return "remove" if self.pick_remove.isChecked() else "keep" if self.pick_keep.isChecked() else None


class CombineSection(Section):
    """Combining the label with that of another mask."""

    def __init__(self, other: LayerBox, combine: Callable[[], object]) -> None:
        super().__init__()
        self.other = other
        self.other.setToolTip(
            "The other mask, on the same grid; or this one, to merge another label into the selected one"
        )
        self.label = QSpinBox()
        self.label.setRange(0, 2**31 - 1)
        self.label.setSpecialValueText("any label")
        self.label.setToolTip("The label in that mask")
        self.operation = choice(
            {"Add": "add", "Subtract": "subtract", "Intersect": "intersect", "Either, not both": "exclusive or", "Replace by": "replace"},
            "What is done to the selected label",
        )  # fmt: skip
        self.combine = self.button("Combine", "Combine the two labels in this way", combine, "other")
        self.row(self.operation, self.combine)
        self.row(self.other, self.label)
