"""What `info` tells a person: patients by pseudonym, studies, series, times, doubts; no pixel is decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseq.cli import main
from napari_medseq.io.dicom import decoding, pixels
from tests.unit.io import dicoms


def test_a_heap_is_listed_by_patient_and_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = [(0, 0, 2.5 * z) for z in (0, 1, 2, 4)]
    dicoms.series(tmp_path / "a", positions)
    for t in range(3):
        dicoms.series(
            tmp_path / f"t{t}", positions[:3], seed=t, SeriesInstanceUID="1.7", SeriesDescription="Dynamic", Modality="MR",
            StudyInstanceUID="1.5", TemporalPositionIdentifier=t + 1, TriggerTime=2000.0 * t,
        )  # fmt: skip
    for module in (decoding, pixels):
        monkeypatch.setattr(module, "decode", lambda *_: pytest.fail("a pixel was decoded"))
    assert main(["info", str(tmp_path)]) in (0, None)
    said = capsys.readouterr().out
    assert "patient-1, study 1.2.3, 2020-01-31" in said
    assert "patient-1, study 1.5" in said
    assert "3 frames, 0 to 4 s" in said
    assert "5×6×3" in said
    assert "! Head_slices1-3: Slices are unevenly spaced" in said
    for secret in ("Doe", "4711", "19500101"):
        assert secret not in said
    main(["info", str(tmp_path), "--identifiers"])
    assert "Doe^Jane" in capsys.readouterr().out


def test_rows_that_are_called_alike_say_where_they_lie_and_studies_come_in_the_order_of_their_dates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, day in enumerate(("20210102", "20191231", "20200504")):
        dicoms.series(
            tmp_path / f"v{number}", [(0, 0, 2.5 * z) for z in range(3)], StudyInstanceUID=f"1.{number}", SeriesInstanceUID=f"1.{number}.7",
            StudyDate=day, SeriesDate=day, AcquisitionDate=day,
        )  # fmt: skip
    assert main(["info", str(tmp_path)]) in (0, None)
    said = capsys.readouterr().out
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("  Head")] == ["v1", "v2", "v0"]
    main(["info", str(tmp_path / "v1")])
    assert "where" not in capsys.readouterr().out  # one series lies where one looked
