"""Repeatability in numbers: the analysis of variance of scipy, the limits of numpy, and what is kept with a result."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import napari_medseq as ms
from napari_medseq.cohort.tables import write_long
from napari_medseq.errors import ReadError
from napari_medseq.progression.repeatability import Implant, Repeatability, Retested, agreement
from tests.unit.progression.masks import A, B, mask

VOLUMES = st.lists(st.lists(st.floats(0.05, 50), min_size=3, max_size=3), min_size=2, max_size=6)


def of(groups: list[list[float]]) -> Repeatability:
    return Repeatability(tuple(Retested(k + 1, tuple(g)) for k, g in enumerate(groups)))


@settings(max_examples=60, deadline=None)
@given(VOLUMES)
def test_the_within_lesion_sd_is_that_of_scipys_analysis_of_variance(groups: list[list[float]]) -> None:
    array = np.array(groups)
    within = np.sqrt(array.var(axis=1, ddof=1).mean())
    found = of(groups)
    assert found.wsd_ml == pytest.approx(within)
    between = array.shape[1] * array.mean(axis=1).var(ddof=1)
    if within > 1e-6 and between > 1e-6:
        assert between / found.wsd_ml**2 == pytest.approx(stats.f_oneway(*groups).statistic, rel=1e-6)
    assert found.rc_ml == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(2) * within, rel=1e-5)
    assert found.degrees_of_freedom == 2 * len(groups)


@settings(max_examples=40, deadline=None)
@given(VOLUMES, st.floats(0.1, 10))
def test_in_other_units_the_share_stays_and_the_rest_scales(groups: list[list[float]], scale: float) -> None:
    one, other = of(groups), of([[scale * v for v in g] for g in groups])
    assert other.wcv_percent == pytest.approx(one.wcv_percent, abs=1e-9)
    assert other.wsd_ml == pytest.approx(scale * one.wsd_ml, abs=1e-9)
    assert other.smallest_change_ml(scale * 2.0) == pytest.approx(scale * one.smallest_change_ml(2.0), abs=1e-9)


def test_two_measurements_of_an_unchanged_lesion_differ_by_less_in_95_percent() -> None:
    rng = np.random.default_rng(3)
    truth, sd = rng.uniform(1, 4, 400), 0.1
    found = of((truth[:, None] + rng.normal(0, sd, (400, 3))).tolist())
    again = truth + rng.normal(0, sd, (2, 400))
    assert np.mean(np.abs(again[1] - again[0]) < found.rc_ml) == pytest.approx(0.95, abs=0.03)


def test_the_interval_covers_the_true_coefficient_in_95_percent() -> None:
    rng = np.random.default_rng(0)
    true = 100 * stats.norm.ppf(0.975) * math.sqrt(2) * 0.05
    inside = []
    for _ in range(300):
        low, high = of((2 * (1 + 0.05 * rng.normal(size=(4, 4)))).tolist()).rc_percent_interval
        inside.append(low < true < high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)


def test_limits_of_agreement_are_mean_and_spread_of_the_differences() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 30))
    found = agreement(first, second)
    d = second - first
    assert (found.bias, found.pairs) == pytest.approx((d.mean(), 30))
    assert found.upper - found.lower == pytest.approx(2 * stats.norm.ppf(0.975) * d.std(ddof=1), rel=1e-5)
    assert math.isnan(agreement([1], [2]).bias)


def test_what_was_not_found_again_is_left_out_and_counted() -> None:
    found = of([[1.0, 1.1, 0.0], [2.0, 0.0, 0.0]])
    assert found.degrees_of_freedom == 1
    assert found.found_share == pytest.approx(1 / 4)
    assert found.table["found"].tolist() == ["1 of 2", "0 of 2"]
    limits = of([[1.0, 1.1, 0.0], [2.0, 1.8, 0.0]]).limits  # +10 % and -10 %; what was lost is no measurement
    assert (limits.bias, limits.pairs) == pytest.approx((0, 2), abs=1e-9)
    empty = of([])
    assert math.isnan(empty.smallest_change_ml(1.0))
    assert empty.is_real(1.0, 9.0) is None
    assert "nothing is known" in empty.sentences()[0]


def test_recovery_says_what_was_found_of_each_lesion_that_was_put_in() -> None:
    grown = (Implant(1, 2, 0.9, 1.9), Implant(1, 1, 1, 1.01), Implant(1, 1.4, 0, 1.4))
    found = Repeatability((Retested(1, (1.0, 1.02, 0.98, 1.01)),), grown)
    assert found.recovery["called_real"].tolist() == ["no", "not found", "yes"]
    assert "2 were found; 101 % of the growth" in " ".join(found.sentences())


@settings(max_examples=25, deadline=None)
@given(VOLUMES)
def test_it_is_the_same_after_json(groups: list[list[float]]) -> None:
    found = Repeatability(
        of(groups).lesions, (Implant(1, 2, 0, 0),), "scan", "model", {"seed": 3, "growths": [0.1]}, ("a",)
    )
    assert Repeatability.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_something_else_is_refused() -> None:
    with pytest.raises(ReadError, match="Run retest again"):
        Repeatability.from_dict({"lesions": [{"lesion": "x"}]})


def test_the_table_says_beside_each_volume_which_change_is_real(tmp_path: Path) -> None:
    p = ms.track([mask(A, B), mask((2, 8, 2, 8, 2, 11), (2, 8, 2, 8, 14, 21))], dates=["2020-01-01", "2020-02-01"])
    assert "real_change" not in p.lesions
    p.use_repeatability(of([[0.288, 0.30, 0.28], [0.2, 0.21, 0.2]]))
    table = p.lesions
    found = p.repeatability
    assert found is not None
    np.testing.assert_allclose(table["smallest_change_ml"], [found.smallest_change_ml(v) for v in table["volume_ml"]])
    later = table[table["visit"] == 1]
    mean = later["volume_ml"] - later["change_ml"] / 2
    real = later["change_ml"].abs() > [found.smallest_change_ml(v) for v in mean]
    assert (later["real_change"] == real.map({True: "yes", False: "no"})).all()
    assert (table.loc[table["visit"] == 0, "real_change"] == "").all()
    assert p.matrix("smallest_change_ml").shape == (2, 4)
    p.save(tmp_path)
    again = ms.Progression.load(tmp_path)
    assert again.repeatability == found
    assert again.lesions["real_change"].tolist() == table["real_change"].tolist()
    text = p.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Is a change real?" in text
    assert "what measuring the scan again gives" in text
    p.use_repeatability(None)
    assert "real_change" not in p.lesions


def test_a_cohorts_tables_hold_what_retest_found(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    p = ms.track([mask(A, B), mask(A)], dates=["2020-01-01", "2020-03-01"])
    p.use_repeatability(of([[1.0, 1.1, 0.9]]))
    p.save(tmp_path / "a")
    write_long([tmp_path / "a" / "lesions.csv"], ["a"], tmp_path / "lesions")
    table = pd.read_parquet(tmp_path / "lesions.parquet")
    assert set(table["real_change"].dropna()) <= {"yes", "no"}
    assert table["real_change"].notna().any()
