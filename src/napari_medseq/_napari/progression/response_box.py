"""The response of the result that is shown, by the chosen rule set, with its reasons; updated at each change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_medseq._napari.controls.choosers import ShortBox, wrapped
from napari_medseq.errors import MedseqError
from napari_medseq.progression.response import RULES, assess
from napari_medseq.progression.sentences import verdict_lines

if TYPE_CHECKING:
    from napari_medseq.progression import Progression

_NONE = "none"
#: number of reasons that are shown for a visit; all are in the tooltip and in the report
_MOST_REASONS = 3


class ResponseBox(QWidget):  # type: ignore[misc]
    """A choice of rule sets, with the category of each visit and its reasons below. The report applies the same rule
    set."""

    def __init__(self) -> None:
        super().__init__()
        self._progression: Progression | None = None
        self.rule = ShortBox()
        self.rule.addItems(["volumetric", *(r for r in RULES if r != "volumetric"), _NONE])
        self.rule.setToolTip(
            "Response criteria, shown here and applied in the report: a research measure, never a clinical verdict"
        )
        self.rule.currentTextChanged.connect(lambda _rule: self._update())
        self.text = wrapped()
        row = QHBoxLayout()
        row.addWidget(QLabel("Response"))
        row.addWidget(self.rule, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.text)

    @property
    def rules(self) -> list[str]:
        """The rule sets for the report: the chosen one, or none."""
        return [r for r in (self.rule.currentText(),) if r in RULES]

    def show_progression(self, progression: Progression | None) -> None:
        """Assess a result; None: show nothing."""
        self._progression = progression
        self._update()

    def _update(self) -> None:
        text = whole = ""
        if self._progression is not None and self.rules:
            try:
                assessment = assess(self._progression, self.rules[0])
            except MedseqError as error:
                text = str(error)
            else:
                dates = self._progression.dates
                text = (
                    "\n".join(verdict_lines(assessment, dates, most=_MOST_REASONS))
                    or "Nothing to compare yet: one visit."
                )
                whole = "\n".join([*verdict_lines(assessment, dates), "", f"{assessment.source}. {assessment.note}"])
        self.text.setText(text)
        self.text.setToolTip(whole)
        self.text.setVisible(bool(text))
