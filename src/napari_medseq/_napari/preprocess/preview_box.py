"""The live preview of a recipe: the shown slice before and after, remarks about it, and the estimated time for the
whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_medseq import viewer as verbs
from napari_medseq._napari.controls.choosers import wrapped
from napari_medseq._napari.gone import connect_until_destroyed
from napari_medseq._napari.jobs.latest import Latest
from napari_medseq._napari.preprocess.before_after import BeforeAfter
from napari_medseq._napari.preprocess.preview_picture import Picture, picture_of
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, duration

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseq.preprocessing import Step

_ESTIMATE_AFTER_MS = 700


@dataclass(frozen=True)
class Wanted:
    """The request for a preview: the steps on the first layer; the time is estimated for all layers."""

    layers: Sequence[Layer]
    steps: Sequence[Step]
    reference: Layer | None

    @property
    def key(self) -> str:
        """A key that is equal for requests that take the same time."""
        names = [layer.name for layer in (*self.layers, *([self.reference] if self.reference else []))]
        return "\n".join([*names, *(step.model_dump_json() for step in self.steps)])


class PreviewBox(QWidget):  # type: ignore[misc]
    """A preview that follows the slider and (by `refresh`) the recipe, only while it is visible.

    Parameters
    ----------
    viewer : ViewerModel
    wanted : callable
        Returns the current request; raises `MedseqError` with what is missing.
    """

    def __init__(self, viewer: ViewerModel, wanted: Callable[[], Wanted]) -> None:
        super().__init__()
        self.viewer, self._wanted = viewer, wanted
        self._estimated = ""
        self.live = QCheckBox("Preview of the shown slice")
        self.live.setChecked(True)
        self.live.setToolTip(
            "Run the steps on the slice that the viewer shows, whenever a setting or the slider changes"
        )
        self.view = BeforeAfter()
        self.note, self.time = wrapped(), wrapped()
        self.note.setStyleSheet("font-style: italic;")
        self.time.setToolTip("An estimate for the whole image, measured on a small part of it")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.live, self.view, self.note, self.time):
            column.addWidget(widget)
        self._pictures: Latest[Picture] = Latest(self, self._show, self._failed)
        self._times: Latest[float | None] = Latest(self, self._show_time, self._no_time, _ESTIMATE_AFTER_MS)
        self.live.toggled.connect(self.refresh)
        for event in (viewer.dims.events.current_step, viewer.dims.events.order, viewer.dims.events.ndisplay):
            connect_until_destroyed(event, self.refresh)

    @property
    def busy(self) -> bool:
        """Whether a preview is being computed."""
        return self._pictures.busy

    def refresh(self, _event: object = None) -> None:
        """Compute the preview for the current request."""
        on = self.live.isChecked()
        self.view.setVisible(on)
        if not on:
            self._note("")
            self._say_time("")
        if not on or not self.isVisible():
            self._drop()
            return
        try:
            wanted = self._wanted()
            job = verbs.preview_job(self.viewer, wanted.layers[0], wanted.steps, reference=wanted.reference)
            limits = getattr(wanted.layers[0], "contrast_limits", None)
        except MedseqError as error:
            self._drop()
            self._say(str(error))
            return
        if wanted.key != self._estimated:
            self._times.drop()
            self._estimated = ""
            self._say_time("")
        self.view.set_stale()
        self._pictures.ask(lambda cancelled: picture_of(job(cancelled), limits))

    def _drop(self) -> None:
        self._pictures.drop()
        self._times.drop()

    def _say(self, text: str) -> None:
        self.view.show_message(text)
        self._note("")
        self._say_time("")
        self._estimated = ""

    def _note(self, text: str) -> None:
        self.note.setText(f"{text[:1].upper()}{text[1:]}." if text else "")
        self.note.setVisible(bool(text))

    def _say_time(self, text: str) -> None:
        self.time.setText(text)
        self.time.setVisible(bool(text))

    def _show(self, picture: Picture) -> None:
        self.view.show_picture(picture)
        self._note(picture.note)
        try:
            wanted = self._wanted()
            if wanted.key == self._estimated:
                return
            job = verbs.estimate_job(wanted.layers, wanted.steps, reference=wanted.reference)
        except MedseqError:
            return
        self._estimated = wanted.key
        self._say_time("The time for the whole is being estimated …")

        def estimate(cancelled: Cancelled) -> float | None:
            return job(cancelled)

        self._times.ask(estimate)

    def _failed(self, error: Exception) -> None:
        self._say(str(error) if isinstance(error, MedseqError) else f"{type(error).__name__}: {error}")

    def _show_time(self, seconds: float | None) -> None:
        if seconds is None:
            self._say_time("The time for the whole cannot be estimated from a part of it.")
            return
        how_long = "less than a second" if seconds < 1 else f"about {duration(seconds)}"
        self._say_time(f"The whole takes {how_long} on this machine.")

    def _no_time(self, _error: Exception) -> None:
        self._show_time(None)

    # -- only while it is seen -----------------------------------------------------------------------------------------
    def showEvent(self, event: QShowEvent) -> None:
        """Update the preview when it becomes visible again."""
        super().showEvent(event)
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        """Stop computing while the preview is hidden."""
        super().hideEvent(event)
        self._drop()
