"""The table and the response of the *Progression* widget: forms, filter, sorting, export, verdicts that follow corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from qtpy.QtCore import Qt

import napari_medseq as ms
from napari_medseq._napari.progression.lesion_table import LesionTable
from napari_medseq._napari.progression.response_box import ResponseBox
from napari_medseq.progression.matrix import MEASURES
from tests.napari.helpers import Wait, click, docked
from tests.unit.progression.masks import BRIDGE, A, B, C, mask

pytestmark = pytest.mark.viewer
DAYS = ["2020-01-01", "2020-03-01", "2020-04-02"]


@pytest.fixture
def progression() -> ms.Progression:
    return ms.track([mask(A, B, C), mask(A, B, BRIDGE), mask(A, C)], dates=DAYS)


@pytest.fixture
def table(qtbot: Any, progression: ms.Progression) -> LesionTable:
    widget = LesionTable()
    qtbot.addWidget(widget)
    widget.show_progression(progression)
    return widget


def _texts(widget: LesionTable, column: int) -> list[str]:
    return [widget.table.item(r, column).text() for r in range(widget.table.rowCount())]


def test_a_filter_leaves_rows_out_and_a_wrong_one_says_so(table: LesionTable, progression: ms.Progression) -> None:
    table.filter.setText("merged")
    assert set(_texts(table, 2)) == {"merged"}
    table.filter.setText("size>3")
    assert "not a column of numbers" in table.problem.text()
    assert table.table.rowCount() == len(progression.lesions)
    table.filter.clear()
    assert not table.problem.isVisibleTo(table)


def test_sorting_compares_numbers_and_the_chosen_row_is_still_the_right_one(table: LesionTable, qtbot: Any) -> None:
    table.table.sortItems(3, Qt.DescendingOrder)
    shown = [float(v) for v in _texts(table, 3)]
    assert shown == sorted(shown, reverse=True)
    with qtbot.waitSignal(table.chosen) as told:
        table.table.cellClicked.emit(0, 2)
    assert told.args == [int(_texts(table, 1)[0].split(":")[0]) - 1, int(_texts(table, 0)[0])]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_matrix_has_a_column_per_visit_and_a_click_goes_to_it(table: LesionTable, qtbot: Any, measure: str) -> None:
    table.form.setCurrentText(measure)
    assert table.table.columnCount() == 4
    assert table.table.horizontalHeaderItem(3).text() == "visit 3\n2020-04-02"
    assert (
        table.table.text().splitlines()[0].split("\t")[3] == "visit 3 2020-04-02"
    )  # one line, as a spreadsheet takes it
    with qtbot.waitSignal(table.chosen) as told:
        table.table.cellClicked.emit(1, 3)
    assert told.args == [2, int(_texts(table, 0)[1])]


def test_what_is_exported_is_what_is_shown(table: LesionTable, progression: ms.Progression, tmp_path: Path) -> None:
    table.filter.setText("visit=1")
    table.table.sortItems(0, Qt.DescendingOrder)
    read = pd.read_csv(table.export(tmp_path / "t.csv"))
    assert read["lesion"].tolist() == [int(v) for v in _texts(table, 0)]
    assert list(read.columns) == list(progression.lesions.columns)
    table.filter.clear()
    table.form.setCurrentText("volume (mL)")
    pd.testing.assert_frame_equal(
        pd.read_csv(table.export(tmp_path / "m.csv")), progression.matrix(), check_dtype=False, check_exact=False
    )


def test_the_response_follows_rule_and_correction(qtbot: Any, progression: ms.Progression) -> None:
    box = ResponseBox()
    qtbot.addWidget(box)
    box.show_progression(progression)
    for rule in ("volumetric", "recist-1.1"):
        box.rule.setCurrentText(rule)
        for verdict in progression.response(rule).verdicts:
            assert verdict.category in box.text.text()
            assert all(reason in box.text.toolTip() for reason in verdict.reasons)
    before = box.text.text()
    with pytest.warns(ms.MedseqWarning, match="had an outline in common"):
        progression.exclude(1)
    box.show_progression(progression)
    assert box.text.text() != before
    box.rule.setCurrentText("none")
    assert box.rules == []
    assert not box.text.isVisibleTo(box)


@pytest.mark.usefixtures("knows")
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_in_the_window_the_response_is_shown_with_its_visit(viewer: Any, qtbot: Any, wait: Wait) -> None:
    from napari_medseq._napari.progression_widget import ProgressionWidget

    widget = docked(viewer, ProgressionWidget, wait)
    click(qtbot, widget.run_button)
    wait(lambda: not widget.work.busy)
    result = widget.result
    assert "Visit 2 of 2 (2020-05-04)" in result.response.text.text()
    result.lesion_table.form.setCurrentText("volume (mL)")
    viewer.dims.set_point(0, 1)
    item = result.table.visualItemRect(result.table.item(0, 1))
    qtbot.mouseClick(result.table.viewport(), Qt.LeftButton, pos=item.center())
    assert viewer.dims.point[0] == 0


def test_after_a_retest_the_smallest_real_change_stands_beside_each_volume(
    table: LesionTable, progression: ms.Progression
) -> None:
    from napari_medseq.progression.repeatability import Repeatability, Retested

    assert table.table.columnCount() == 6
    progression.use_repeatability(Repeatability((Retested(1, (0.29, 0.3, 0.28)),)))
    table.show_progression(progression)
    assert _texts(table, 6) == [f"{v:.3g}" for v in progression.lesions["smallest_change_ml"]]
    assert _texts(table, 7) == progression.lesions["real_change"].tolist()
