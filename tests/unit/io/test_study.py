"""Study folders: three layouts, dates from four places, labels beside images; and what is not a study."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

import napari_medseq as ms
from napari_medseq.errors import ReadError, ReadWarning
from napari_medseq.io.visit_folders import patient_folders
from tests.unit.io import dicoms


def _nifti(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), value, np.int16), np.diag([-1.0, -1, 1, 1])), path)
    return path


def _visit(folder: Path, name: str = "sub-1", value: int = 1) -> None:
    _nifti(folder / f"{name}_T1post.nii.gz", value)
    _nifti(folder / f"{name}_tumor.nii.gz", value)


def _summary(study: ms.Study) -> list[tuple[date | None, list[str], list[str]]]:
    return [(v.date, [s.name for s in v.images], [s.name for s in v.labels]) for v in study.visits]


IMAGES, LABELS = ["sub-1_T1post"], ["sub-1_tumor"]


def test_bids_sessions_named_by_date(tmp_path: Path) -> None:
    _visit(tmp_path / "sub-1" / "ses-20210102")
    _visit(tmp_path / "sub-1" / "ses-20200101" / "anat")
    expected = [(date(2020, 1, 1), IMAGES, LABELS), (date(2021, 1, 2), IMAGES, LABELS)]
    for folder in (tmp_path, tmp_path / "sub-1"):
        study = ms.read_study(folder)
        assert study.name == "sub-1"
        assert _summary(study) == expected
    single = ms.read_study(tmp_path / "sub-1" / "ses-20210102")
    assert (single.name, _summary(single)) == ("sub-1", expected[1:])


@pytest.mark.parametrize("table", ["sessions.tsv", "sub-1_sessions.tsv"])
def test_dates_from_the_sessions_table_win(tmp_path: Path, table: str) -> None:
    for name in ("ses-b", "ses-a", "ses-20300101"):
        _visit(tmp_path / "sub-1" / name)
    rows = "session_id\tacq_time\nses-a\t2020-05-01\nses-b\t2020-02-01T10:00:00\nses-20300101\t2021-01-01\n"
    (tmp_path / "sub-1" / table).write_text(rows)
    study = ms.read_study(tmp_path / "sub-1")
    assert [(v.name, v.date) for v in study.visits] == [
        ("ses-b", date(2020, 2, 1)),
        ("ses-a", date(2020, 5, 1)),
        ("ses-20300101", date(2021, 1, 1)),
    ]
    assert ms.read_study(tmp_path / "sub-1" / "ses-a").dates == [date(2020, 5, 1)]


def test_derivatives_of_the_same_session_are_labels(tmp_path: Path) -> None:
    for day in ("20200101", "20210101"):
        _nifti(tmp_path / "sub-1" / f"ses-{day}" / "anat" / "sub-1_T1w.nii.gz")
        _nifti(tmp_path / "derivatives" / "seg" / "sub-1" / f"ses-{day}" / "sub-1_dseg.nii.gz")
    study = ms.read_study(tmp_path)
    assert [[s.name for s in v.labels] for v in study.visits] == [["sub-1_dseg"], ["sub-1_dseg"]]


def test_a_folder_per_visit_with_a_date_in_its_name(tmp_path: Path) -> None:
    _visit(tmp_path / "2021-03-04 follow-up")
    _visit(tmp_path / "2020.01.02_baseline")
    assert ms.read_study(tmp_path).dates == [date(2020, 1, 2), date(2021, 3, 4)]


def test_undated_visits_keep_their_order_and_say_so(tmp_path: Path) -> None:
    for name in ("visit1", "visit2", "visit10"):
        _visit(tmp_path / name)
    with pytest.warns(ReadWarning, match="date of a visit is unknown"):
        study = ms.read_study(tmp_path)
    assert study.dates == [None] * 3
    assert len(study.warnings) == 1


def test_one_visit_in_folders_by_kind(tmp_path: Path) -> None:
    _nifti(tmp_path / "images" / "a.nii.gz")
    _nifti(tmp_path / "labels" / "a_gt.nii.gz")
    study = ms.read_study(tmp_path)
    assert _summary(study) == [(None, ["a"], ["a_gt"])]


def test_sessions_in_file_names(tmp_path: Path) -> None:
    for day in ("20210101", "20200101"):
        _nifti(tmp_path / f"sub-1_ses-{day}_T1post.nii.gz")
        _nifti(tmp_path / f"sub-1_ses-{day}_mask.nii.gz")
    assert [(v.name, len(v.images), len(v.labels)) for v in ms.read_study(tmp_path).visits] == [
        ("ses-20200101", 1, 1),
        ("ses-20210101", 1, 1),
    ]


def test_a_heap_of_dicom_by_study_and_date(tmp_path: Path) -> None:
    positions = [(0, 0, 2.5 * k) for k in range(3)]
    for k, day in enumerate(("20210101", "20200101")):
        for number in (1, 2):
            dicoms.series(
                tmp_path / "heap", positions, seed=10 * k + number, StudyInstanceUID=f"1.{k}", SeriesInstanceUID=f"1.{k}.{number}",
                StudyDate=day, SeriesDescription=f"T{number}",
            )  # fmt: skip
    study = ms.read_study(tmp_path / "heap")
    assert _summary(study) == [(date(2020, 1, 1), ["T1", "T2"], []), (date(2021, 1, 1), ["T1", "T2"], [])]
    assert [v.name for v in study.visits] == ["ses-20200101", "ses-20210101"]


def test_dicom_folders_per_series_are_sorted_by_study_not_folder(tmp_path: Path) -> None:
    positions = [(0, 0, 2.5 * k) for k in range(3)]
    for k, (folder, day) in enumerate((("series1", "20200101"), ("series2", "20200101"), ("series3", "20210101"))):
        dicoms.series(
            tmp_path / folder,
            positions,
            seed=k,
            StudyInstanceUID=f"1.{day}",
            SeriesInstanceUID=f"2.{k}",
            StudyDate=day,
            SeriesDescription=folder,
        )
    assert [len(v.images) for v in ms.read_study(tmp_path).visits] == [2, 1]


def test_dicom_dates_serve_sessions_without_one(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "sub-1" / "ses-a", [(0, 0, 2.5 * k) for k in range(3)])
    assert ms.read_study(tmp_path / "sub-1").dates == [date(2020, 1, 31)]


def test_several_patients_are_told_apart(tmp_path: Path) -> None:
    positions = [(0, 0, 2.5 * k) for k in range(3)]
    for k in range(2):
        dicoms.series(tmp_path, positions, seed=k, PatientID=str(k), SeriesInstanceUID=f"1.{k}")
    with pytest.warns(ReadWarning, match="2 different patients"):
        ms.read_study(tmp_path)


def test_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no such folder"):
        ms.read_study(tmp_path / "nowhere")
    with pytest.raises(ReadError, match="no image file"):
        ms.read_study(tmp_path)
    for name in ("sub-1", "sub-2"):
        _visit(tmp_path / name / "ses-1")
    with pytest.raises(ReadError, match="2 patients"):
        ms.read_study(tmp_path)


def test_folders_that_hold_visits_are_patients(tmp_path: Path) -> None:
    for visit in ("20200101", "20200701"):
        _visit(tmp_path / "Smith" / visit)
        _visit(tmp_path / "Jones" / visit)
    with pytest.raises(ReadError, match=r"2 patients \(Jones, Smith\); choose one of them, or do all with cohort"):
        ms.read_study(tmp_path)
    assert len(ms.read_study(tmp_path / "Jones").visits) == 2


def test_files_of_one_folder_may_be_called_like_visits(tmp_path: Path) -> None:
    for name in ("P1_baseline", "P1_month_6", "P1_month_12"):
        _visit(tmp_path / "x", name=name)
    with pytest.warns(ReadWarning, match="guess from the names: baseline, month_6, month_12"):
        study = ms.read_study(tmp_path / "x")
    assert [v.name for v in study.visits] == ["baseline", "month_6", "month_12"]
    for name in ("P1_pre", "P1_post"):  # before and after contrast: one visit
        _visit(tmp_path / "y", name=name)
    assert len(ms.read_study(tmp_path / "y").visits) == 1


def test_one_bad_file_does_not_lose_the_visit(tmp_path: Path) -> None:
    _visit(tmp_path / "sub-1" / "ses-20200101")
    (tmp_path / "sub-1" / "ses-20200101" / "bad.nii.gz").write_bytes(b"\x1f\x8b junk")
    with pytest.warns(ReadWarning, match=r"bad\.nii\.gz"):
        study = ms.read_study(tmp_path / "sub-1")
    assert len(study.visits[0].images) == 1


def test_lazy_studies(tmp_path: Path) -> None:
    _visit(tmp_path / "sub-1" / "ses-20200101")
    assert ms.read_study(tmp_path, lazy=True).visits[0].images[0].is_lazy


def test_what_lies_beside_the_visits_is_named(tmp_path: Path) -> None:
    for session in ("ses-20200101", "ses-20210101"):
        _visit(tmp_path / "bids" / "sub-1" / session)
        _visit(tmp_path / "dated" / session.removeprefix("ses-"))
        _nifti(tmp_path / "flat" / f"P1_{session.removeprefix('ses-')}_T1.nii.gz")
    _nifti(tmp_path / "bids" / "sub-1" / "anat" / "T2.nii.gz")
    _nifti(tmp_path / "bids" / "sub-1" / "other.nii.gz")
    _nifti(tmp_path / "dated" / "labels" / "20200101.nii.gz")
    _nifti(tmp_path / "flat" / "atlas.nii.gz")
    (tmp_path / "flat" / "notes.txt").write_text("no image")
    for folder, names in (("bids", "anat, other.nii.gz"), ("dated", "labels"), ("flat", "atlas.nii.gz")):
        with pytest.warns(ReadWarning, match=rf"left out.*: {names}\."):
            study = ms.read_study(tmp_path / folder)
        assert study.dates == [date(2020, 1, 1), date(2021, 1, 1)]


def test_labels_in_a_folder_of_their_own_belong_to_the_day_in_their_name(tmp_path: Path) -> None:
    for day in ("2020-01-31", "2020-05-04"):
        _nifti(tmp_path / "mixed" / f"P1_{day}_T1.nii.gz")
        _nifti(tmp_path / "mixed" / "labels" / f"P1_{day}_T1_seg.nii.gz")
        _nifti(tmp_path / "sorted" / "images" / f"P1_{day}_T1.nii.gz")
        _nifti(tmp_path / "sorted" / "labels" / f"P1_{day}_T1_seg.nii.gz")
    for folder in ("mixed", "sorted"):
        study = ms.read_study(tmp_path / folder)
        expected = [(date.fromisoformat(d), [f"P1_{d}_T1"], [f"P1_{d}_T1_seg"]) for d in ("2020-01-31", "2020-05-04")]
        assert _summary(study) == expected


def test_a_visit_of_one_broken_file_is_said_to_be_missing(tmp_path: Path) -> None:
    for day in ("2020-01-31", "2020-05-04", "2020-07-01"):
        _nifti(tmp_path / f"P1_{day}_T1.nii.gz")
    (tmp_path / "P1_2020-07-01_T1.nii.gz").write_bytes(b"")
    with pytest.warns(ReadWarning, match="ses-20200701: nothing in it could be opened"):
        study = ms.read_study(tmp_path)
    assert study.dates == [date(2020, 1, 31), date(2020, 5, 4)]
    (dropped,) = study.dropped
    assert "zero bytes" in dropped


def test_visits_of_dicom_and_other_files_together(tmp_path: Path) -> None:
    _nifti(tmp_path / "P1_2020-01-31.nii.gz")
    dicoms.save(dicoms.dataset(dicoms.picture(), StudyDate="20200504"), tmp_path / "P1_2020-05-04.dcm")
    assert ms.read_study(tmp_path).dates == [date(2020, 1, 31), date(2020, 5, 4)]


def test_a_mask_without_a_day_beside_two_studies_is_doubtful(tmp_path: Path) -> None:
    for k, day in enumerate(("20200101", "20210101")):
        ds = dicoms.dataset(
            dicoms.picture(), StudyDate=day, StudyInstanceUID=f"1.2.{k}", SeriesInstanceUID=f"1.2.{k}.1"
        )
        dicoms.save(ds, tmp_path / f"{k}.dcm")
    _nifti(tmp_path / "drawn_mask.nii.gz")
    with pytest.warns(ReadWarning, match="it is put with the first one"):
        assert ms.read_study(tmp_path).dates == [date(2020, 1, 1), date(2021, 1, 1)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_sessions_table_from_a_spreadsheet(tmp_path: Path, encoding: str) -> None:
    for name in ("ses-1", "ses-2"):
        _visit(tmp_path / "sub-1" / name)
    rows = "sep=;\nSession_ID;Acq_time\nses-1;2020-05-01\nses-2;2020-01-01\nses-1;2022-01-01\n"
    (tmp_path / "sub-1" / "sessions.tsv").write_text(rows, encoding=encoding)
    with pytest.warns(ReadWarning, match="ses-1 is there twice, with different days"):
        study = ms.read_study(tmp_path / "sub-1")
    assert [(v.name, v.date) for v in study.visits] == [("ses-2", date(2020, 1, 1)), ("ses-1", date(2020, 5, 1))]


def test_names_that_differ_in_case_are_numbered(tmp_path: Path) -> None:
    for name in ("a/T1.nii.gz", "b/t1.nii.gz"):
        _nifti(tmp_path / name)
    assert [s.name for s in ms.read(tmp_path)] == ["T1", "t1_2"]


def test_a_video_or_tiff_beside_scans_is_named(tmp_path: Path) -> None:
    _nifti(tmp_path / "t1.nii.gz")
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((4, 5), np.uint8))
    with pytest.warns(ReadWarning, match=r"1 TIFF or video file.*photo\.tif"):
        assert [s.name for s in ms.read(tmp_path)] == ["t1"]


def test_results_in_the_folder_of_a_study_are_no_visit(tmp_path: Path) -> None:
    for day in ("2020-01-31", "2020-05-04"):
        _visit(tmp_path / day)
        _nifti(tmp_path / "result" / f"ses-{day.replace('-', '')}" / "sub-1_T1post_lesions.nii.gz")
    (tmp_path / "result" / "run.json").write_text("{}")
    expected = [(date(2020, 1, 31), IMAGES, LABELS), (date(2020, 5, 4), IMAGES, LABELS)]
    assert _summary(ms.read_study(tmp_path)) == expected
    _visit(tmp_path / "all" / "sub-2" / "ses-20200131")
    _visit(tmp_path / "all" / "sub-3" / "ses-20200131")
    (tmp_path / "all" / "sub-2" / "run.json").write_text("{}")  # a patient whose result lies in the same folder
    assert [p.name for p in patient_folders(tmp_path / "all")] == ["sub-2", "sub-3"]
