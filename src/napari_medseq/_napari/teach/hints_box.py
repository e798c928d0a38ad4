"""The part of *Teach* that makes a first mask from a box, points or scribbles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import wrapped
from napari_medseq._napari.controls.parts import set_enabled
from napari_medseq._napari.notifications import guarded
from napari_medseq.viewer.masks.hint_layers import BOXES, INSIDE, OUTSIDE
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

_HOW = (
    "Draw a box tightly around the object, or set points in it and beside it, on a slice or two; or scribble into it, and beside it with "
    "another label. Outline paints the object there: correct it, then propagate."
)
_TIPS = {
    BOXES: "Draw boxes, each tightly around the object on one slice",
    INSIDE: "Set points in the object",
    OUTSIDE: "Set points beside the object",
}


class HintsBox(QWidget):  # type: ignore[misc]
    """Buttons for hints, and *Outline*; `both` gives the image and the label layer that are chosen."""

    def __init__(self, viewer: ViewerModel, both: Callable[[], tuple[Image, Labels]]) -> None:
        super().__init__()
        self.viewer, self._both = viewer, both
        self.buttons = {kind: QPushButton(kind.capitalize()) for kind in _TIPS}
        row = QHBoxLayout()
        for kind, button in self.buttons.items():
            button.clicked.connect(lambda _checked=False, kind=kind: guarded(kind.capitalize(), lambda: self.new(kind)))
            row.addWidget(button, 1)
        self.background = QSpinBox()
        self.background.setRange(0, 65535)
        self.background.setSpecialValueText("none")
        self.background.setToolTip("The label of your scribbles beside the object; they are removed afterwards")
        self.outline_button = QPushButton("Outline")
        self.outline_button.clicked.connect(lambda: guarded("Outlining", self.outline))
        self.outcome = wrapped()
        form = QFormLayout()
        form.addRow("Label of scribbles beside it", self.background)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(wrapped(_HOW))
        layout.addLayout(row)
        layout.addLayout(form)
        layout.addWidget(self.outline_button)
        layout.addWidget(self.outcome)

    def forget(self) -> None:
        """Clear what was said of other labels."""
        self.outcome.clear()

    def mark(self, why_not: str) -> None:
        """Enable the buttons, or explain why they cannot be pressed."""
        for kind, button in self.buttons.items():
            set_enabled(button, why_not, _TIPS[kind])
        set_enabled(
            self.outline_button,
            why_not,
            "Paint what the hints point at, each with the label that was selected when it was set",
        )

    def new(self, kind: str) -> None:
        """Make the layer for a kind of hints, or go to the existing one."""
        verbs.new_hints(self.viewer, self._both()[1], kind)

    def outline(self) -> None:
        """Paint the hinted object; the hints stay, so that more can be added."""
        self.outcome.clear()
        image, labels = self._both()
        background = self.background.value() or None
        hints = {kind: verbs.hints_of(self.viewer, labels, kind) for kind in _TIPS}
        steps = verbs.outline_hinted(
            self.viewer, labels, inside=hints[INSIDE], outside=hints[OUTSIDE], boxes=hints[BOXES],
            background=background, image=image,
        )  # fmt: skip
        self.viewer.layers.selection.active = labels
        self.outcome.setText(f"Outlined on {how_many(len(steps), 'slice')}. Correct it, then propagate.")
