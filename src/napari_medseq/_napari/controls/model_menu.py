"""The menu beside a list of models: use one from a folder, install one from a file or the internet, check it, remove
it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari.utils.notifications import show_info
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QFileDialog, QInputDialog, QLineEdit, QMenu, QMessageBox, QWidget

from napari_medseq._napari.jobs.work import WorkBar
from napari_medseq._napari.notifications import guarded
from napari_medseq.models import install
from napari_medseq.models.library import user_folder
from napari_medseq.progress import Cancelled, Progress

if TYPE_CHECKING:
    from napari_medseq.models import ModelInfo


class ListOfModels(Protocol):
    """The part of a list of models that its menu uses."""

    work: WorkBar

    @property
    def info(self) -> ModelInfo | None:
        """The chosen model."""

    def add_folder(self, folder: str) -> None:
        """Offer the model in a folder."""

    def announce(self) -> None:
        """Tell every list which models are installed now."""


class ModelMenu(QMenu):  # type: ignore[misc]
    """Actions on models other than choosing one."""

    def __init__(self, models: ListOfModels) -> None:
        super().__init__(models if isinstance(models, QWidget) else None)
        self.models = models
        self.setToolTipsVisible(True)
        for text, tip, action in (
            ("Use one from a folder …", "It stays where it is and is not installed", self._ask_folder),
            ("Install from a file …", "A zip file that holds a bundle", self._ask_file),
            ("Install from the internet …", "By its address; the SHA-256 of the file is asked for", self._ask_address),
        ):
            self._entry(text, tip, action)
        self.addSeparator()
        self.verify_action = self._entry(
            "Check the chosen model", "No file has changed since it was installed", self.verify
        )
        self.remove_action = self._entry(
            "Remove the chosen model …", "Only models that were installed or taught", self._ask_remove
        )
        self.aboutToShow.connect(self._enable)

    def _entry(self, text: str, tip: str, action: Callable[[], object]) -> QAction:
        entry = self.addAction(text)
        entry.setToolTip(tip)
        entry.triggered.connect(lambda: guarded(text.removesuffix(" …"), action))
        return entry

    def _enable(self) -> None:
        info = self.models.info
        none = "" if info is not None else "No model is chosen"
        own = info is not None and Path(info.folder).resolve().parent == user_folder().resolve()
        for entry, why, tip in (
            (self.verify_action, none, "No file has changed since it was installed"),
            (self.remove_action, none or ("" if info is None or own else f"{info.name} ships with the package, or lies elsewhere"),
             "Only models that were installed or taught"),
        ):  # fmt: skip
            entry.setEnabled(not why)
            entry.setToolTip(why or tip)

    # -- adding --------------------------------------------------------------------------------------------------------
    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Model folder (MONAI Bundle layout)")
        if folder:
            self.models.add_folder(folder)

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Model as a zip file", "", "Models (*.zip)")
        if path:
            self.install(path)

    def _ask_address(self) -> None:
        address, confirmed = QInputDialog.getText(
            self, "Install a model", "Address (https://… or hf:owner/repository/file.zip)"
        )
        if not confirmed or not address.strip():
            return
        title = "SHA-256 of the file, as its publisher states it"
        checksum, confirmed = QInputDialog.getText(self, "Install a model", title, QLineEdit.Normal, "")
        if confirmed:
            self.install(address.strip(), checksum.strip())

    def install(self, source: str, sha256: str | None = None) -> None:
        """Install a model in the background, then offer it in all lists."""

        def job(progress: Progress, cancelled: Cancelled) -> ModelInfo:
            return install.add(source, sha256=sha256, progress=progress, cancelled=cancelled)

        def done(info: ModelInfo) -> None:
            self.models.announce()
            show_info(f"The model {info.name} is installed.")

        self.models.work.start("Installing a model", job, done, writes=True)

    # -- what is there -------------------------------------------------------------------------------------------------
    def verify(self) -> None:
        """Check the chosen model in the background, and report that it is intact."""
        info = self.models.info
        if info is None:
            return
        folder = info.folder

        def job(_progress: Progress, _cancelled: Cancelled) -> ModelInfo:
            return install.verify(folder)

        self.models.work.start(
            "Checking the model",
            job,
            lambda found: show_info(f"{found.name} is whole: it loads, and no file has changed."),
        )

    def _ask_remove(self) -> None:
        info = self.models.info
        if info is None:
            return
        text = f"Remove the model {info.name} from this computer? {info.folder} is deleted."
        if QMessageBox.question(self, "Remove a model", text) == QMessageBox.Yes:
            self.remove()

    def remove(self) -> None:
        """Remove the chosen model."""
        info = self.models.info
        if info is None:
            return
        install.remove(info.name)
        self.models.announce()
        show_info(f"The model {info.name} is removed.")
