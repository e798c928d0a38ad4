"""A progression as DICOM: highdicom reads the reports, pydicom the rest; a lesion is the same one in all files of all visits."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.errors import SettingsError, WriteError
from napari_medseq.io.dicom.sr_write import SCHEME
from tests.narrowing import some
from tests.unit.io import dicoms

sr = pytest.importorskip("highdicom.sr")
SHAPE = (24, 26)
EVENT = sr.CodedConcept("event", SCHEME, "Event since the visit before")
DAYS = (date(2020, 1, 31), date(2020, 5, 4), date(2020, 6, 4))


def _visit(folder: Path, day: date, boxes: list[tuple[int, int, int, int, int, int]]) -> tuple[Any, Any]:
    more: dict[str, Any] = {
        "StudyDate": f"{day:%Y%m%d}",
        "StudyInstanceUID": f"1.2.{day:%Y%m%d}",
        "SeriesInstanceUID": f"1.3.{day:%Y%m%d}",
    }
    for k in range(12):
        ds = dicoms.dataset(dicoms.picture(SHAPE, seed=k), (0, 0, 2.5 * k), InstanceNumber=k + 1, **more)
        dicoms.save(ds, folder / f"{k:02d}.dcm")
    (image,) = ms.read(folder)
    data = np.zeros(image.data.shape, np.uint8)
    for z0, z1, y0, y1, x0, x1 in boxes:
        data[z0:z1, y0:y1, x0:x1] = 1
    return image, image.labels_like(data, name="tumour", label_names={1: "tumour"})


A, BIG_A, B = (2, 6, 2, 12, 2, 12), (2, 8, 2, 14, 2, 14), (3, 7, 15, 22, 15, 22)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ms.Progression]:
    folder = tmp_path_factory.mktemp("patient")
    pairs = [
        _visit(folder / f"{day:%Y%m%d}", day, boxes) for day, boxes in zip(DAYS, ([A, B], [BIG_A], []), strict=True)
    ]
    images, masks = [i for i, _ in pairs], [m for _, m in pairs]
    return folder, ms.track(masks, images=images, dates=list(DAYS))


@pytest.fixture(scope="module")
def written(patient: tuple[Path, ms.Progression]) -> list[Path]:
    folder, progression = patient
    return progression.export_dicom(folder / "out", rtstruct=True)


def _reports(written: list[Path]) -> list[Any]:
    return [sr.srread(p) for p in written if p.name.endswith("_sr.dcm")]


def test_each_visit_has_its_files(written: list[Path]) -> None:
    assert [f"{p.parent.name}/{p.name.rsplit('_', 1)[1]}" for p in written] == [
        "ses-20200131/seg.dcm", "ses-20200131/rtstruct.dcm", "ses-20200131/sr.dcm",
        "ses-20200504/seg.dcm", "ses-20200504/rtstruct.dcm", "ses-20200504/sr.dcm", "ses-20200604/sr.dcm",
    ]  # fmt: skip
    assert all(p.is_file() for p in written)


def test_the_reports_hold_the_numbers_of_the_table(written: list[Path], patient: tuple[Path, ms.Progression]) -> None:
    table = patient[1].lesions
    for visit, report in enumerate(_reports(written)):
        groups = report.content.get_volumetric_roi_measurement_groups()
        rows = table[(table["visit"] == visit) & (table["volume_ml"] > 0)]
        assert [g.tracking_identifier for g in groups] == [f"Lesion {n}" for n in rows["lesion"]]
        for group, (_, row) in zip(groups, rows.iterrows(), strict=True):
            for code, column, unit in (
                (codes.SCT.Volume, "volume_ml", "mL"),
                (codes.SCT.LongAxis, "longest_mm", "mm"),
                (codes.SCT.PerpendicularAxis, "perpendicular_mm", "mm"),
            ):
                (found,) = group.get_measurements(name=code)
                assert found.value == pytest.approx(row[column], rel=1e-6)
                assert found.unit.value == unit
            assert group.finding_type == codes.SCT.Lesion
            (said,) = group.get_qualitative_evaluations(name=EVENT)
            assert said.value.meaning == row["event"]


def test_a_lesion_that_is_gone_is_in_the_report_without_a_segment(written: list[Path]) -> None:
    last = _reports(written)[2].content
    assert last.get_volumetric_roi_measurement_groups() == []
    (group,) = last.get_image_measurement_groups()
    assert group.tracking_identifier == "Lesion 1"
    assert [q.value.meaning for q in group.get_qualitative_evaluations(name=EVENT)] == ["resolved"]
    assert [m.value for m in group.get_measurements(name=codes.SCT.Volume)] == [0.0]


def test_a_lesion_has_one_tracking_uid_in_all_files(written: list[Path]) -> None:
    segs = [pydicom.dcmread(p) for p in written if p.name.endswith("_seg.dcm")]
    uids = [{s.TrackingID: s.TrackingUID for s in seg.SegmentSequence} for seg in segs]
    assert uids[0]["Lesion 1"] == uids[1]["Lesion 1"] != uids[0]["Lesion 2"]
    for seg, report in zip(segs, _reports(written), strict=False):
        for group in report.content.get_volumetric_roi_measurement_groups():
            segment = group.referenced_segment
            assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
            (number,) = np.atleast_1d(segment.referenced_segment_numbers)
            item = next(s for s in seg.SegmentSequence if s.SegmentNumber == number)
            assert (item.TrackingID, item.TrackingUID) == (group.tracking_identifier, group.tracking_uid)
    gone = _reports(written)[2].content.get_image_measurement_groups()[0]
    assert gone.tracking_uid == uids[0]["Lesion 1"]


def test_the_time_point_is_in_each_group(written: list[Path]) -> None:
    def texts(report: Any, keyword: str) -> set[str]:
        found: set[str] = set()
        stack = list(report.content)
        while stack:
            item = stack.pop()
            if item.ConceptNameCodeSequence and item.ConceptNameCodeSequence[0].CodeMeaning == keyword:
                found.add(str(item.get("TextValue") or item.MeasuredValueSequence[0].NumericValue))
            stack += list(item.get("ContentSequence", []))
        return found

    reports = _reports(written)
    assert [texts(r, "Time Point") for r in reports] == [{d.isoformat()} for d in DAYS]
    assert [texts(r, "Time Point Order") for r in reports] == [{"1.0"}, {"2.0"}, {"3.0"}]
    offsets = [{float(v) for v in texts(r, "Longitudinal Temporal Offset from Event")} for r in reports]
    assert offsets == [{0.0}, {94.0}, {125.0}]


def test_nothing_of_the_patient_is_in_the_reports(written: list[Path]) -> None:
    texts = ("LO", "SH", "PN", "DA", "LT", "ST", "UT", "CS", "AE", "UC")  # digits of a UID or a coordinate say nothing
    for path in written:
        text = " ".join(str(e.value) for e in pydicom.dcmread(path).iterall() if e.VR in texts)
        assert len(text) > 100
        assert not [word for word in ("Doe", "Jane", "ID-4711", "19500101") if word in text]


def test_the_segments_and_structures_are_the_labels(written: list[Path], patient: tuple[Path, ms.Progression]) -> None:
    folder, progression = patient
    for visit, day in enumerate(DAYS[:2]):
        for ending in ("seg", "rtstruct"):
            file = next(p for p in written if f"{day:%Y%m%d}" in str(p.parent) and p.name.endswith(f"_{ending}.dcm"))
            found = [s for s in ms.read([file, *(folder / f"{day:%Y%m%d}").iterdir()]) if s.kind == "labels"]
            np.testing.assert_array_equal(found[0].data, some(progression.labels[visit]).data)


def test_the_command_finds_the_series_of_a_saved_result(
    patient: tuple[Path, ms.Progression], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, progression = patient
    series = [str(folder / f"{day:%Y%m%d}") for day in DAYS]
    inputs = [
        {"images": {"CT": {"name": some(i).name, "source": s}}} for i, s in zip(progression.images, series, strict=True)
    ]
    progression.save(tmp_path / "r", extra={"inputs": inputs})
    assert cli.main(["dicom", str(tmp_path / "r"), "-o", str(tmp_path / "d")]) == 0
    assert len(list((tmp_path / "d").rglob("*.dcm"))) == 5
    assert cli.main(["dicom", str(tmp_path / "r"), "-o", str(tmp_path / "e"), "--reference", *series]) == 0
    progression.save(tmp_path / "n", extra={"inputs": []})
    assert cli.main(["dicom", str(tmp_path / "n"), "-o", str(tmp_path / "f")]) == 1
    assert "Visit 1 of 3" in capsys.readouterr().err


def test_what_is_missing_is_said_before_anything_is_written(
    patient: tuple[Path, ms.Progression], tmp_path: Path
) -> None:
    _, progression = patient
    with pytest.raises(SettingsError, match="2 references for 3 visits"):
        progression.export_dicom(tmp_path, references=[None, None])
    alone = ms.track([m for m in progression.labels if m is not None])
    with pytest.raises(WriteError, match="is not known"):
        alone.export_dicom(tmp_path / "x")
    assert not (tmp_path / "x").exists()
