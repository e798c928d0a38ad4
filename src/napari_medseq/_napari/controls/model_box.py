"""The box for choosing a model and a device, with the model's card and the reasons why others do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from napari.qt.threading import create_worker
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_medseq._napari.controls.choosers import ShortBox, wrapped
from napari_medseq._napari.controls.model_menu import ModelMenu
from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded, tell
from napari_medseq.sequence import ImageSequence

if TYPE_CHECKING:
    from napari_medseq.models import ModelInfo


#: models, devices, and the functions that tell why a model does not fit an image, and whether images are called like its own
Listed = tuple[
    list["ModelInfo"],
    list[str],
    Callable[["ModelInfo", ImageSequence], str | None],
    Callable[[Sequence[ImageSequence], "ModelInfo"], bool],
]


#: all lists of models that are open
_BOXES: WeakSet[ModelBox] = WeakSet()


def announce_models() -> None:
    """Tell every open list that a model was made, installed or removed."""
    for box in list(_BOXES):
        with suppress(RuntimeError):  # the dock was closed
            box.look_again()


class _Models(ShortBox):
    """A list that signals when it is opened, so that models made meanwhile can be added."""

    opened = Signal()

    def showPopup(self) -> None:
        """Emit the signal, then open the list."""
        self.opened.emit()
        super().showPopup()


class ModelBox(QWidget):  # type: ignore[misc]
    """A model, its card, why others do not fit, and a device; filled in the background, because torch loads slowly."""

    loaded = Signal()
    changed = Signal()

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self._infos: list[ModelInfo] = []
        self._why: Callable[[ModelInfo, ImageSequence], str | None] = lambda _info, _seq: None
        self._meant: Callable[[Sequence[ImageSequence], ModelInfo], bool] = lambda _images, _info: False
        self._images: list[ImageSequence] = []
        self._by_hand = self._fitting = False
        self.work = WorkBar()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._make_models())
        layout.addLayout(self._make_device_and_card())
        layout.addWidget(self.card)
        self._make_misfits()
        layout.addWidget(self.misfits)
        layout.addWidget(self.overrule)
        layout.addWidget(self.work)
        self.box.currentIndexChanged.connect(self._chosen)
        self.box.currentIndexChanged.connect(self._show_card)
        _BOXES.add(self)
        self._listing = True
        self._worker = create_worker(_models_and_devices, _start_thread=False)
        self._worker.returned.connect(self._fill)
        self._worker.start()

    def _make_models(self) -> QHBoxLayout:
        """The list of models, and the menu that gets more."""
        self.box = _Models()
        self.box.setToolTip("The models that come with the plugin, were installed, or were taught here")
        self.box.opened.connect(lambda: guarded("Listing models", self.look_again))
        self.box.addItem("loading models …")
        self.box.setEnabled(False)
        self.folder_button = QToolButton()
        self.folder_button.setText("More ▾")
        self.folder_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")  # it would cover the text
        self.folder_button.setToolTip(
            "Use a model from a folder (MONAI Bundle layout); install, check or remove models"
        )
        self.folder_button.setPopupMode(QToolButton.InstantPopup)
        self.folder_button.setMenu(ModelMenu(self))
        row = QHBoxLayout()
        row.addWidget(self.box, 1)
        row.addWidget(self.folder_button)
        return row

    def _make_device_and_card(self) -> QHBoxLayout:
        """The list of devices, and the button that shows the model's card."""
        self.device = ShortBox()
        self.device.addItem("auto")
        self.device.setToolTip("The device on which the model runs")
        self.card_button = QPushButton("Model card")
        self.card_button.setCheckable(True)
        self.card_button.setToolTip("Show which data the model was trained on, how good it is and where it fails")
        self.card = QTextBrowser()
        self.card.setOpenExternalLinks(True)
        self.card.setMinimumHeight(160)
        self.card.hide()
        self.card_button.toggled.connect(self.card.setVisible)
        row = QHBoxLayout()
        row.addWidget(QLabel("Device"))
        row.addWidget(self.device, 1)
        row.addWidget(self.card_button)
        return row

    def _make_misfits(self) -> None:
        """Why models do not fit these images, and the switch that offers them all the same."""
        self.misfits = wrapped()
        self.misfits.hide()
        self.overrule = QCheckBox("also offer models that do not fit")
        self.overrule.setToolTip(
            "The reasons why they do not fit are given above. Their answers may be wrong, and nobody has measured how wrong"
        )
        self.overrule.toggled.connect(self._update_fit)
        self.overrule.hide()

    @property
    def info(self) -> ModelInfo | None:
        """The `ModelInfo` of the chosen model; None if there is none."""
        info: ModelInfo | None = self.box.currentData()
        return info

    @property
    def why_none(self) -> str:
        """Why no model is chosen, in words; "" if one is."""
        if self.info is not None:
            return ""
        if self._listing:
            return "The models are being listed; a moment"
        if self.box.count():
            return "No model is chosen: choose one above"
        return "No model is installed: More ▾ gets one"

    @property
    def reference(self) -> str:
        """The argument for `ms.load_model`: the name, or the folder of a model that is not installed."""
        info = self.info
        return "" if info is None else str(info.name if info in self._infos else info.folder)

    def _chosen(self, _index: int = 0) -> None:
        """From now on the model is the one that was chosen, unless it does not fit."""
        self._by_hand |= not self._fitting

    def choose(self, name: str) -> None:
        """Choose a model by name, if it is in the list."""
        k = self.box.findText(name)
        if k >= 0:
            self.box.setCurrentIndex(k)

    def fit_to(self, images: Sequence[ImageSequence]) -> None:
        """Disable the models that fit none of these images, and explain why; until the user chooses one, the first one is chosen
        whose own images are called like these."""
        self._images = list(images)
        self._update_fit()

    def _fill(self, listing: Listed | Exception) -> None:
        self._listing = False
        if isinstance(listing, Exception):
            self.box.setItemText(0, "models cannot be listed")
            tell(listing, "Listing models")
            return
        infos, devices, self._why, self._meant = listing
        self._infos = infos
        self.device.clear()
        for name in devices:
            self.device.addItem(name, name.split(" ")[0])
        self.box.blockSignals(True)
        self.box.clear()
        for info in infos:
            if info.task in self.tasks:
                self.box.addItem(info.name, info)
        self.box.blockSignals(False)
        self.box.setEnabled(True)
        if self.box.count() == 0:
            self.box.setPlaceholderText("no model installed: see More ▾")
        self._update_fit()
        self._show_card()
        self.loaded.emit()

    def look_again(self) -> None:
        """List the installed models again; the chosen one stays chosen if it still exists."""
        if not self.box.isEnabled():
            return
        import napari_medseq as ms

        now = ms.list_models()
        removed = {info.folder for info in self._infos} - {info.folder for info in now}
        for k in reversed(range(self.box.count())):
            if self.box.itemData(k).folder in removed:
                self.box.removeItem(k)
        for info in now:
            rows = [k for k in range(self.box.count()) if self.box.itemData(k).folder == info.folder]
            if rows:
                self.box.setItemData(rows[0], info)  # its facts may have changed if it was taught again
            elif info.task in self.tasks:
                self.box.addItem(info.name, info)
        self._infos = now
        self._update_fit()

    @property
    def device_name(self) -> str:
        """The chosen device, in the form that verbs take."""
        return str(self.device.currentData() or "auto")

    @property
    def force(self) -> bool:
        """Whether the user overrules that a model does not fit."""
        return bool(self.overrule.isChecked())

    def _update_fit(self, _changed: object = None) -> None:
        reasons: dict[str, str] = {}
        fitting: list[int] = []
        for k in range(self.box.count()):
            info = self.box.itemData(k)
            if info is None:
                return
            why = [self._why(info, seq) for seq in self._images]
            bad = bool(why) and all(w is not None for w in why)
            self.box.model().item(k).setEnabled(not bad or self.force)
            self.box.setItemData(k, why[0] if bad else info.description, Qt.ToolTipRole)
            if bad:
                reasons[info.name] = str(why[0])
            else:
                fitting.append(k)
        current = self.box.currentData()
        meant = [k for k in fitting if self._images and self._meant(self._images, self.box.itemData(k))]
        self._fitting = True
        if current is not None and fitting and not self.force and current.name in reasons:
            self.box.setCurrentIndex((meant or fitting)[0])
        elif meant and not self._by_hand:
            self.box.setCurrentIndex(meant[0])
        self._fitting = False
        self.misfits.setText(self._in_words(reasons))
        self.misfits.setVisible(bool(reasons))
        self.overrule.setVisible(bool(reasons) or self.force)

    def _in_words(self, reasons: Mapping[str, str]) -> str:
        """Why the chosen model does not fit, or which others are not offered, and why."""
        chosen = "" if self.info is None else self.info.name
        parts = [f"{chosen} does not fit: {reasons[chosen]}."] if chosen in reasons else []
        others = "; ".join(f"{name} ({why})" for name, why in reasons.items() if name != chosen)
        if others:
            parts.append(f"{'Would not fit' if self.force else 'Not offered for these images'}: {others}.")
        return " ".join(parts)

    def _show_card(self, _index: int = 0) -> None:
        info = self.info
        self.card_button.setEnabled(info is not None)
        if info is not None:
            self.card.setMarkdown(info.card or info.description or f"{info.name} has no card.")
        self.changed.emit()

    def announce(self) -> None:
        """Tell every open list which models are installed now."""
        announce_models()

    def add_folder(self, folder: str) -> None:
        """Offer the model in a folder and choose it.

        Raises
        ------
        ModelError
            If the folder does not hold a usable model.
        """
        from napari_medseq.models.library import read_info

        info = read_info(Path(folder))
        self.box.addItem(info.name, info)
        self.box.setCurrentIndex(self.box.count() - 1)
        self._update_fit()


def _models_and_devices() -> Listed | Exception:
    """List models and devices in a thread, because importing torch takes seconds."""
    try:
        return _listed()
    except Exception as error:  # shown in the GUI thread
        return error


def _listed() -> Listed:
    import torch

    import napari_medseq as ms
    from napari_medseq.inference.resources import devices
    from napari_medseq.models import why_unsuitable
    from napari_medseq.models.choosing import looks_meant

    where, why = devices.choose("auto")
    names = [f"auto ({where}: {why})", "cpu (always there)"]
    if torch.cuda.is_available():
        names += [f"cuda:{k} ({torch.cuda.get_device_name(k)})" for k in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps (Apple GPU)")
    return ms.list_models(), names, why_unsuitable, looks_meant
