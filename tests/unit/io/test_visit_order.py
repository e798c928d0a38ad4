"""The order and identity of visits: names, tables, dates that hide, and identifiers that anonymisers gave to several visits."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.errors import ReadError, ReadWarning
from napari_medseq.io.visit_order import merged_order, natural, order_of
from tests.unit.io import dicoms

RIGHT = [
    ["ses-1", "ses-2", "ses-10"],
    ["Baseline", "Month 3", "Month 12"],
    ["pre", "FU1", "FU2", "FU10"],
    ["baseline", "3mo", "6mo", "12mo"],
    ["screening", "2 weeks", "6mo", "1y"],
    ["initial", "first follow-up", "second follow-up", "third follow-up"],
    ["visit I", "visit II", "visit III", "visit IV", "visit IX", "visit X"],
    ["visit one", "visit two", "visit three", "visit four"],
    ["1st visit", "2nd visit", "3rd visit", "10th visit"],
    ["preop", "intraop", "postop", "postop 3mo", "postop 12mo"],
    ["01_zeta", "02_alpha", "10_beta"],
    ["Nov2018", "Mar2019", "Jan2020"],
    ["11-2018", "03-2019", "01-2020"],
    ["BL", "W1D1", "W1D3", "W12D1"],
    ["bl", "m06", "m12", "m24", "m120"],
    ["day 7", "day 30", "month 3", "year 1"],
    ["baseline", "FU2", "FU10", "final"],
    ["24h", "48h", "7d", "1 month"],
    ["v1", "v2", "v10"],
    ["followUp2", "followUp10", "followUp30"],
    ["pre-treatment", "Week 2", "Week 10", "end of treatment"][:3],
    ["ses-M000", "ses-M006", "ses-M012"],
    ["1", "2", "10"],
]


@pytest.mark.parametrize("names", RIGHT, ids=lambda names: names[-1])
@pytest.mark.parametrize("seed", range(3))
def test_names_tell_an_order(names: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(names, len(names))
    assert [shuffled[k] for k in order_of(shuffled)] == names


@settings(deadline=None)
@given(st.lists(st.text("abc-_ 0123456789", max_size=8), unique=True, max_size=6))
def test_any_names_have_some_order(names: list[str]) -> None:
    assert sorted(order_of(names)) == list(range(len(names)))


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=20))
def test_numbers_sort_as_numbers(numbers: list[int]) -> None:
    names = [f"tp{n}" for n in numbers]
    assert sorted(names, key=natural) == [f"tp{n}" for n in sorted(numbers)]


@settings(deadline=None)
@given(st.data())
def test_dated_visits_keep_the_order_of_their_dates(data: st.DataObject) -> None:
    dates = data.draw(st.lists(st.one_of(st.none(), st.dates()), max_size=8))
    ranks = data.draw(st.permutations(range(len(dates))))
    out = [dates[k] for k in merged_order(ranks, dates)]
    known = [d for d in out if d is not None]
    assert known == sorted(known)
    assert len(out) == len(dates)


def _visit(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("T1post", "seg"):
        nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.diag([-1.0, -1, 1, 1])), folder / f"a_{name}.nii.gz")


def _study(root: Path, names: list[str], table: str = "") -> Path:
    for name in names:
        _visit(root / name)
    if table:
        (root / "sessions.tsv").write_text(table)
    return root


@pytest.mark.parametrize("names", [n for n in RIGHT if not any("20" in x for x in n)][:6], ids=lambda names: names[-1])
def test_undated_visits_stand_in_the_order_of_their_names_which_is_said(tmp_path: Path, names: list[str]) -> None:
    with pytest.warns(ReadWarning, match=r"guess from the names: .*--order"):
        study = ms.read_study(_study(tmp_path, names))
    assert [v.name for v in study.visits] == names


def test_a_given_order_wins_over_names(tmp_path: Path) -> None:
    root = _study(tmp_path, ["blue", "red", "green"])
    with pytest.warns(ReadWarning, match="order is the one given"):
        study = ms.read_study(root, order=["red", "green", "blue"])
    assert [v.name for v in study.visits] == ["red", "green", "blue"]
    for wrong in (["red", "green"], ["red", "green", "blue", "blue"], ["red", "green", "yellow"]):
        with pytest.raises(ReadError, match="the visits are"):
            ms.read_study(root, order=wrong)


def test_a_given_order_against_the_dates_is_refused(tmp_path: Path) -> None:
    root = _study(tmp_path, ["2020-01-01", "2021-01-01"])
    with pytest.raises(ReadError, match="dates say the opposite"):
        ms.read_study(root, order=["2021-01-01", "2020-01-01"])


def test_rows_of_the_sessions_table_are_an_order(tmp_path: Path) -> None:
    root = _study(tmp_path / "sub-1", ["ses-b", "ses-a", "ses-c"], "session_id\tage\nses-c\t1\nses-b\t2\nses-a\t3\n")
    with pytest.warns(ReadWarning, match=r"rows of sessions\.tsv"):
        study = ms.read_study(root)
    assert [v.name for v in study.visits] == ["ses-c", "ses-b", "ses-a"]


@pytest.mark.parametrize("unknown", ["n/a", "", "NaN", "2020-13-45"])
def test_one_unknown_date_keeps_the_others(tmp_path: Path, unknown: str) -> None:
    table = f"session_id\tacq_time\nses-1\t2021-05-01\nses-2\t{unknown}\nses-3\t2020-05-01T10:00:00\n"
    with pytest.warns(ReadWarning, match=r"unknown \(ses-2\)"):
        study = ms.read_study(_study(tmp_path / "sub-1", ["ses-1", "ses-2", "ses-3"], table))
    dated = [(v.name, v.date) for v in study.visits if v.date]
    assert dated == [("ses-3", date(2020, 5, 1)), ("ses-1", date(2021, 5, 1))]
    assert len(study.visits) == 3


@pytest.mark.parametrize(("first", "second"), [("1877-06-15", "1878-06-15"), ("2187-03-04", "2188-01-01")])
def test_hidden_dates_keep_their_intervals(tmp_path: Path, first: str, second: str) -> None:
    table = f"session_id\tacq_time\nses-2\t{first}\nses-1\t{second}T00:00:00\n"
    study = ms.read_study(_study(tmp_path / "sub-1", ["ses-1", "ses-2"], table))
    assert study.dates == [date.fromisoformat(first), date.fromisoformat(second)]
    in_names = ms.read_study(_study(tmp_path / "other", [first, second.replace("-", "")]))
    assert in_names.dates == study.dates


def test_scans_tables_date_their_session(tmp_path: Path) -> None:
    root = _study(tmp_path / "sub-1", ["ses-a", "ses-b"])
    for name, day in (("ses-a", "1900-02-01"), ("ses-b", "1900-01-01")):
        rows = f"filename\tacq_time\nanat/x.nii.gz\tn/a\nanat/y.nii.gz\t{day}T08:00:00\n"
        (root / name / f"sub-1_{name}_scans.tsv").write_text(rows)
    assert [v.name for v in ms.read_study(root).visits] == ["ses-b", "ses-a"]


def test_equal_dates_are_said(tmp_path: Path) -> None:
    table = "session_id\tacq_time\nses-10\t1900-01-01\nses-2\t1900-01-01\n"
    (tmp_path / "x").mkdir()
    with pytest.warns(ReadWarning, match=r"same date \(ses-2, ses-10\).*blank"):
        study = ms.read_study(_study(tmp_path / "sub-1", ["ses-10", "ses-2"], table))
    assert len(study.visits) == 2


def test_a_visit_without_a_mask_has_no_labels(tmp_path: Path) -> None:
    root = _study(tmp_path, ["2020-01-01", "2021-01-01"])
    (root / "2021-01-01" / "a_seg.nii.gz").unlink()
    assert [len(v.labels) for v in ms.read_study(root).visits] == [1, 0]


def test_a_visit_of_which_nothing_opens_is_said(tmp_path: Path) -> None:
    root = _study(tmp_path, ["2020-01-01", "2021-01-01"])
    for file in (root / "2021-01-01").iterdir():
        file.write_bytes(b"rubbish")
    with pytest.warns(ReadWarning, match="Visit 2021-01-01: nothing in it could be opened"):
        study = ms.read_study(root)
    assert len(study.visits) == 1
    assert any("2021-01-01" in line for line in study.warnings)


@pytest.mark.parametrize("name", ["ses-3", "visit 3", "2022-01-01"])
def test_an_empty_visit_is_said(tmp_path: Path, name: str) -> None:
    root = _study(tmp_path, ["ses-1", "ses-2"] if name == "ses-3" else ["2020-01-01", "2021-01-01"])
    (root / name).mkdir()
    with pytest.warns(ReadWarning, match=f"Visit {name}: nothing in it could be opened"):
        assert len(ms.read_study(root).visits) == 2


def test_a_damaged_archive_of_a_visit_is_said(tmp_path: Path) -> None:
    root = _study(tmp_path, ["2020-01-01", "2021-01-01"])
    (root / "2022-01-01.zip").write_bytes(b"PK\x03\x04" + bytes(range(1, 200)))
    with pytest.warns(ReadWarning, match="damaged or cut short"):
        assert len(ms.read_study(root).visits) == 2


SAME: dict[str, Any] = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}


def _series(folder: Path, seed: int, start: float = 0.0, **more: Any) -> list[np.ndarray]:
    return dicoms.series(folder, [(0, 0, start + 2.5 * k) for k in range(4)], seed=seed, **{**SAME, **more})


def _images(study: ms.Study) -> list[list[tuple[str, ...]]]:
    return [[i.axes for i in v.images] for v in study.visits]


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
@pytest.mark.parametrize("start", [0.0, 1.25, 100.0])
@pytest.mark.parametrize("names", [("baseline", "followup"), ("A", "B"), ("x/s1", "y/s1")])
@pytest.mark.parametrize("days", [("20200101", "20210101"), (None, None), ("20200101", "20200101"), ("", "")])
def test_visits_with_the_same_uids_stay_apart(
    tmp_path: Path, start: float, names: tuple[str, str], days: tuple[str | None, str | None]
) -> None:
    pixels = [
        _series(tmp_path / name, k, start * k, StudyDate=day)
        for k, (name, day) in enumerate(zip(names, days, strict=True))
    ]
    study = ms.read_study(tmp_path)
    assert _images(study) == [[("z", "y", "x")], [("z", "y", "x")]]
    for visit, want in zip(study.visits, pixels, strict=True):
        assert sorted(np.asarray(visit.images[0].data).sum(axis=(1, 2))) == sorted(int(p.sum()) for p in want)
    assert len({v.name for v in study.visits}) == 2
    assert [i.axes for i in ms.read(tmp_path)] == [("z", "y", "x")] * 2
    assert [s["frames"] for s in ms.info(tmp_path)["series"]] == [1, 1]


def test_one_folder_and_two_dates_are_two_visits(tmp_path: Path) -> None:
    for k, day in enumerate(("20200101", "20210101")):
        _series(tmp_path, k, StudyDate=day)
    with pytest.warns(ReadWarning, match="Files of other days"):
        study = ms.read_study(tmp_path)
    assert study.dates == [date(2020, 1, 1), date(2021, 1, 1)]
    assert _images(study) == [[("z", "y", "x")], [("z", "y", "x")]]


def test_two_patients_under_one_uid_are_never_one_image(tmp_path: Path) -> None:
    for k in range(2):
        _series(tmp_path, k, PatientID=str(k))
    with pytest.warns(ReadWarning, match="other studies or patients"):
        assert [i.axes for i in ms.read(tmp_path)] == [("z", "y", "x")] * 2


def test_a_series_over_several_folders_stays_one(tmp_path: Path) -> None:
    for k in range(4):
        dicoms.save(
            dicoms.dataset(dicoms.picture(seed=k), (0, 0, 2.5 * k), InstanceNumber=k + 1, **SAME),
            tmp_path / f"part{k % 2}" / f"{k}.dcm",
        )
    assert [i.sizes["z"] for i in ms.read(tmp_path)] == [4]


def test_phases_in_folders_of_their_own_stay_frames(tmp_path: Path) -> None:
    for t in range(3):
        _series(
            tmp_path / f"phase{t}",
            t,
            each=lambda k, t=t: {"InstanceNumber": k + 1 + 4 * t, "AcquisitionTime": f"1015{t:02d}"},
        )
    assert [i.sizes["t"] for i in ms.read(tmp_path)] == [3]


def test_copies_in_another_folder_are_left_out(tmp_path: Path) -> None:
    _series(tmp_path / "a", 0)
    for file in (tmp_path / "a").iterdir():
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
    with pytest.warns(ReadWarning, match="copies are left out"):
        assert [i.axes for i in ms.read(tmp_path)] == [("z", "y", "x")]


def test_masks_go_with_the_visit_that_they_were_drawn_on(tmp_path: Path) -> None:
    for k, name in enumerate(("baseline", "followup")):
        _series(tmp_path / name, k, StudyDate=None, SeriesInstanceUID=f"1.2.{k}", StudyInstanceUID="1.9")
        image = ms.read(tmp_path / name)[0]
        labels = image.labels_like(np.ones(image.data.shape, np.uint8), name="lesion", label_names={1: "lesion"})
        ms.write(labels, tmp_path / name / "seg.dcm", reference=tmp_path / name)
    with pytest.warns(ReadWarning):
        study = ms.read_study(tmp_path)
    assert [(v.name, len(v.images), len(v.labels)) for v in study.visits] == [("baseline", 1, 1), ("followup", 1, 1)]
