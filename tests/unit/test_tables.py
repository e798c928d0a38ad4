"""Cells of a CSV: no formula for a spreadsheet, no control character for a terminal, and the text comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.tables import csv_text, from_csv_text, safe_table, write_csv


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\x1b[2J", "＝1", "a\u202eb", "a\nb,c"]
)
def test_a_cell_is_no_formula_and_has_no_control_character(text: str) -> None:
    cell = csv_text(text)
    assert cell.lstrip()[0] not in "=+-@＝＋－＠"
    assert cell.isprintable()


@given(st.text())
def test_any_text_is_one_line_and_safe_and_stays_so(text: str) -> None:
    cell = csv_text(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert len(cell.splitlines()) <= 1
    assert csv_text(cell) == cell
    if text.isprintable():
        assert from_csv_text(cell) == text


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"name": ["=x", None], "change": [-1.5, np.nan], "day": pd.to_datetime(pd.Series(["2020-01-02", None]))}
    )
    path = write_csv(table, tmp_path / "t.csv")
    assert path.read_bytes() == b"name,change,day\n'=x,-1.5,2020-01-02\n,,\n"
    assert table["name"][0] == "=x"
    assert safe_table(table)["change"].tolist()[0] == -1.5


def test_a_class_called_like_a_formula_is_safe_on_disk_and_itself_when_read_back(tmp_path: Path) -> None:
    data = np.zeros((8, 12, 12), np.uint8)
    data[2:6, 2:6, 2:6], data[2:6, 8:11, 8:11] = 1, 2
    names = {1: "=HYPERLINK(1)", 2: "line\u2028break"}
    mask = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels", name="m", label_names=names)
    p = ms.track([mask, mask], dates=["2020-01-01", "2020-02-01"])
    p.save(tmp_path / "out")
    text = (tmp_path / "out" / "lesions.csv").read_text(encoding="utf-8")
    assert "'=HYPERLINK(1)" in text
    assert "\u2028" not in text
    assert ms.Progression.load(tmp_path / "out").lesions["label"].tolist()[0] == "=HYPERLINK(1)"
    assert ",'=HYPERLINK" in p.export(tmp_path / "growth.csv", table="growth").read_text(encoding="utf-8")
