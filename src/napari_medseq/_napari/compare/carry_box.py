"""The part of *Compare* that carries a mask to another visit, and lists carried masks that nobody has looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QFormLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import LayerBox, wrapped
from napari_medseq._napari.controls.parts import choice, set_enabled
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq._napari.teach.more import has_model
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.viewer.layers.studies import facts_of
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseq.viewer import CarriedMask

_WAYS = {
    "rigid registration": "rigid",
    "affine registration": "affine",
    "deformable registration": "deformable",
    "the result's registration": "registered",
    "as the visits lie": "as it lies",
    "the model propagate": "propagate",
}


class CarryBox(QWidget):  # type: ignore[misc]
    """Carries a mask to the visit that `target` gives."""

    def __init__(self, viewer: ViewerModel, work: WorkBar, target: Callable[[], int | None]) -> None:
        super().__init__()
        self.viewer, self.work, self._target = viewer, work, target
        self.mask = LayerBox(viewer, ["labels"])
        self.way = choice(_WAYS, "How the mask finds its place in the image of the later visit")
        self.into = QCheckBox("into the mask that is there")
        self.into.setToolTip(
            "Fill in the background of the later visit's mask, where nobody painted; otherwise the carried mask is a new layer"
        )
        self.carry_button = QPushButton("Carry to the later visit")
        self.carry_button.clicked.connect(lambda: guarded("Carrying a mask", self.carry))
        self.looked_button = QPushButton("Mark as checked")
        self.looked_button.clicked.connect(lambda: guarded("Marking a mask", self.looked))
        self.note = wrapped()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        form.addRow("Mask", self.mask)
        form.addRow("By", self.way)
        layout.addLayout(form)
        layout.addWidget(self.into)
        row = QHBoxLayout()
        row.addWidget(self.carry_button, 1)
        row.addWidget(self.looked_button, 1)
        layout.addLayout(row)
        layout.addWidget(self.note)
        for changed in (self.mask.currentIndexChanged, self.way.currentIndexChanged):
            changed.connect(lambda _index: self.mark())

    def mark(self) -> None:
        """Enable what can be done now, and explain what cannot."""
        layer, target = self.mask.layer, self._target()
        facts = {} if layer is None else facts_of(layer)
        why = ""
        if layer is None or facts.get("ordinal") is None:
            why = "Choose a mask of one of the visits first"
        elif target is None:
            why = "Choose the later visit first"
        elif facts["ordinal"] == target:
            why = "This mask is of the later visit already: choose one of another visit"
        elif self.work.busy:
            why = "Another job runs"
        elif self.way.currentData() == "propagate" and not has_model(verbs.PROPAGATE):
            why = f"The model {verbs.PROPAGATE!r} is not installed"
        set_enabled(
            self.carry_button, why, "The mask as a proposal at the later visit, to be looked at and corrected there"
        )
        unseen = verbs.carried_unseen(self.viewer)
        active = self.viewer.layers.selection.active
        active_unseen = any(layer == active for layer in unseen)
        set_enabled(
            self.looked_button,
            ""
            if active_unseen
            else "Choose a carried mask in the layer list first"
            if unseen
            else "No carried mask is left to check",
            "Say that this carried mask was looked at, and corrected where needed",
        )
        self.note.setText(f"Carried, not checked yet: {', '.join(layer.name for layer in unseen)}" if unseen else "")

    def carry(self) -> None:
        """Carry the chosen mask."""
        layer, target = self.mask.layer, self._target()
        if layer is None or target is None:
            raise MedseqError("Choose a mask and the later visit first.")
        job = verbs.carrying_job(self.viewer, layer, target, how=self.way.currentData())
        into = self._mask_there(target) if self.into.isChecked() else None

        def work(progress: Progress, cancelled: Cancelled) -> CarriedMask:
            return verbs.carry(job, progress=progress, cancelled=cancelled)

        def done(result: CarriedMask) -> None:
            carried = verbs.show_carried(self.viewer, layer, target, result, into=into)
            self.mark()
            self.note.setText(f"{carried.name}: {result.measure}. Look at every slice, then say that you looked.")

        self.work.start("Carrying a mask", work, done)

    def _mask_there(self, target: int) -> object:
        study = verbs.patient_in_front(self.viewer)
        masks = [
            one
            for one in verbs.label_layers(self.viewer, study)
            if facts_of(one).get("ordinal") == target and "change" not in str(facts_of(one).get("role"))
        ]
        if len(masks) != 1:
            raise MedseqError(f"Visit {target + 1} has {how_many(len(masks), 'mask')}; carry into a new layer.")
        return masks[0]

    def looked(self) -> None:
        """Record that the active carried mask was looked at."""
        active = self.viewer.layers.selection.active
        if active is None:
            raise MedseqError("Choose a carried mask in the layer list first.")
        verbs.looked_at(self.viewer, active)
        self.mark()
