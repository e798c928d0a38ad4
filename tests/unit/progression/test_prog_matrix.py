"""Lesion × visit: the matrix says what the long form says, and a filter keeps the rows that it names."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.errors import SettingsError
from napari_medseq.progression.matrix import MEASURES, chosen_rows, matrix, visit_columns
from napari_medseq.tables import from_csv_text
from tests.unit.progression.masks import BRIDGE, A, B, C, events, mask

DAYS = ["2020-01-01", "2020-03-01", "2020-04-02"]


@pytest.fixture(scope="module")
def progression() -> ms.Progression:
    return ms.track([mask(A, B, C), mask(A, B, BRIDGE), mask(A, C)], dates=DAYS)


@pytest.mark.parametrize("measure", MEASURES.values())
def test_each_cell_is_the_row_of_the_long_form(progression: ms.Progression, measure: str) -> None:
    wide = progression.matrix(measure)
    assert list(wide.columns[:2]) == ["lesion", "label"]
    assert list(wide.columns[2:]) == [f"visit {k} ({day})" for k, day in enumerate(DAYS, start=1)]
    told = wide.melt(["lesion", "label"], value_name="value")
    told = told[told["value"].map(lambda v: v != "" and v == v)]
    long = progression.lesions
    expected = long[long[measure].notna() & (long[measure] != "")]
    assert sorted(zip(told["lesion"], told["value"].map(str), strict=True)) == sorted(
        zip(
            expected["lesion"],
            expected[measure].map(lambda v: str(v) if measure == "event" else str(float(v))),
            strict=True,
        )
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_matrix_is_what_pandas_makes_of_the_long_form(data: st.DataObject) -> None:
    visits = data.draw(st.integers(1, 5))
    pairs = data.draw(st.sets(st.tuples(st.integers(1, 6), st.integers(0, visits - 1)), min_size=1))
    rows = pd.DataFrame(
        [(v, n, "lesion", data.draw(st.floats(0, 1e4))) for n, v in sorted(pairs)], columns=["visit", "lesion", "label", "volume_ml"]
    )  # fmt: skip
    wide = matrix(rows, [None] * visits)
    cells = pd.crosstab(rows["lesion"], rows["visit"], rows["volume_ml"], aggfunc="sum")
    for n, v in ((n, v) for n in cells.index for v in range(visits)):
        mine = wide.set_index("lesion").loc[n, f"visit {v + 1}"]
        assert mine == cells.loc[n, v] if (n, v) in pairs else np.isnan(mine)


def test_a_visit_without_a_mask_is_blank_and_has_its_column() -> None:
    wide = ms.track([mask(A), None, mask(A)], dates=DAYS).matrix()
    assert wide.shape == (1, 5)
    assert wide.iloc[0].isna().tolist() == [False, False, False, True, False]


def test_an_empty_result_has_columns_and_no_rows() -> None:
    assert ms.track([mask(), mask()]).matrix().columns.tolist() == ["lesion", "label", "visit 1", "visit 2"]


def test_visits_without_a_date_are_named_by_number() -> None:
    assert visit_columns([None, date(2020, 1, 31)]) == ["visit 1", "visit 2 (2020-01-31)"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", "lesion > 0"),
        ("2", "lesion == 2"),
        ("merged", "event == 'merged'"),
        ("MERG visit=2", "event == 'merged' and visit == 1"),
        ("volume>0.25", "volume_ml > 0.25"),
        ("volume_ml <= 0.25 visit>1", "volume_ml <= 0.25 and visit > 0"),
        ("change<-50", "change_percent < -50"),
        ("nothing-like-it", "lesion < 0"),
    ],
)
def test_a_filter_keeps_what_a_query_of_pandas_keeps(progression: ms.Progression, text: str, query: str) -> None:
    table = progression.lesions
    assert chosen_rows(table, text).index.tolist() == table.query(query).index.tolist()


@pytest.mark.parametrize("text", ["size>1", "event>1", "volume>much", "volume>>3", "volume>"])
def test_a_filter_that_cannot_be_understood_says_why(progression: ms.Progression, text: str) -> None:
    with pytest.raises(SettingsError, match="volume"):
        chosen_rows(progression.lesions, text)


def test_an_unknown_measure_is_refused(progression: ms.Progression) -> None:
    with pytest.raises(SettingsError, match="volume_ml"):
        progression.matrix("weight")


def test_the_matrix_is_exported_safe_for_a_spreadsheet(progression: ms.Progression, tmp_path: Path) -> None:
    path = progression.export(tmp_path / "m.csv", table="matrix", measure="event", rows="1")
    read = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert read["lesion"].tolist() == ["1"]
    assert [from_csv_text(v) for v in read.iloc[0, 2:]] == progression.matrix("event").iloc[0, 2:].tolist()


def test_a_speck_that_came_off_is_a_piece_and_has_no_earlier_volume() -> None:
    """It was called shrinking: a speck beside the whole lesion that it came from."""
    whole = (2, 12, 2, 12, 2, 14)
    p = ms.track([mask(whole), mask((2, 12, 2, 12, 2, 11), (6, 7, 6, 7, 13, 14))])
    found = events(p)
    assert found[1, 2] == ("split", "1")
    assert found[1, 1] == ("shrinking", "1")
    table = p.lesions.set_index(["visit", "lesion"])
    assert np.isnan(float(str(table.loc[(1, 2), "change_percent"])))
    assert table.loc[(1, 1), "change_percent"] == pytest.approx(-25)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_whatever_grew_or_shrank_has_an_earlier_volume(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some() -> ms.ImageSequence:
        at = rng.integers(0, 12, (6, 3))
        size = rng.integers(1, 6, (6, 3))
        return mask(
            *((z, z + d, y, y + h, x, x + w) for (z, y, x), (d, h, w) in zip(at, size, strict=True)), shape=(18, 18, 18)
        )

    table = ms.track([some(), some(), some()]).lesions
    changed = table[table["event"].isin(["growing", "shrinking", "stable"])]
    assert changed["change_ml"].notna().all()
    assert (changed["volume_ml"] - changed["change_ml"] > 0).all()
