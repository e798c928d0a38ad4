"""Days, moments and times of every type that scripts have, and what they hold when they are none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from napari_medseq.errors import MedseqError
from napari_medseq.moments import as_date, as_moment, as_seconds

DAY, NOON = date(2020, 1, 31), datetime(2020, 1, 31, 12)


@pytest.mark.parametrize(
    "given",
    [
        NOON,
        NOON.replace(tzinfo=UTC),
        "2020-01-31T12:00",
        "2020-01-31T12:00:00Z",
        np.datetime64(NOON),
        pd.Timestamp(NOON),
    ],
)
def test_the_same_moment_and_day(given: object) -> None:
    assert as_moment(given, "x") == NOON
    assert as_date(given, "x") == DAY


@pytest.mark.parametrize("given", [DAY, "2020-01-31", "20200131", np.datetime64("2020-01-31"), pd.Timestamp(DAY)])
def test_days(given: object) -> None:
    assert as_date(given, "x") == DAY
    assert as_moment(given, "x") == datetime(2020, 1, 31)


@pytest.mark.parametrize("given", [None, pd.NaT, np.datetime64("NaT")])
def test_unknown(given: object) -> None:
    assert as_date(given, "x") is None
    assert as_moment(given, "x") is None


@pytest.mark.parametrize("given", ["31.01.2020", "", 20200131, 5.0, [DAY]])
def test_what_is_no_date(given: object) -> None:
    for read in (as_date, as_moment):
        with pytest.raises(MedseqError, match=r"Visit 3: .* is not a date"):
            read(given, "Visit 3")


@pytest.mark.parametrize(
    "given",
    [
        [0, 1.5, 4],
        np.array([0, 1500, 4000], "timedelta64[ms]"),
        [timedelta(0), timedelta(seconds=1.5), timedelta(seconds=4)],
        pd.to_timedelta([0, 1.5, 4], unit="s"),
        [NOON + timedelta(seconds=s) for s in (0, 1.5, 4)],
        pd.Series([NOON + timedelta(seconds=s) for s in (0, 1.5, 4)]),
    ],
)
def test_times_are_seconds(given: object) -> None:
    assert as_seconds(given, "times").tolist() == [0.0, 1.5, 4.0]


@pytest.mark.parametrize(
    "given", [["a", "b"], [0, np.nan], [0, np.inf], [None, 1], np.array(["NaT", 1], "timedelta64[s]")]
)
def test_what_is_no_time(given: object) -> None:
    with pytest.raises(MedseqError, match=r"times .*seconds"):
        as_seconds(given, "times")
