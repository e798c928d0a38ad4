"""No patient's or institution's identifier leaves the readers or is written, unless asked for: also not where files are damaged."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

import napari_medseq as ms
from napari_medseq.io.dicom.tags import TAGS
from tests.unit.io import dicoms

SECRETS: dict[str, Any] = {
    "PatientName": "Zzyzx^Quirina", "PatientID": "QID90210X", "PatientBirthDate": "19310217", "AccessionNumber": "ACC7Q7Q",
    "InstitutionName": "Sanatorium Quodlibet", "InstitutionAddress": "Wurzelweg 99", "ReferringPhysicianName": "Brunft^Doktor",
    "OperatorsName": "Kurbel^Hans", "PerformingPhysicianName": "Zange^Ida", "OtherPatientIDs": "OPID555Q",
    "PatientAddress": "Quellgasse 77", "PatientTelephoneNumbers": "0815471122", "StationName": "STATQ77", "DeviceSerialNumber": "SNQ1234",
    "StudyID": "STUDQ99", "PatientComments": "knows the Vizegraf", "RequestingPhysician": "Fordern^Otto", "IssuerOfPatientID": "ISSUQ",
}  # fmt: skip
WORDS = sorted({w for said in SECRETS.values() for w in said.replace("^", " ").split() if len(w) > 3 and w != "knows"})


def _leaks(said: str) -> list[str]:
    return [word for word in WORDS if word.lower() in said.lower()]


def _slices(folder: Path, **more: Any) -> None:
    dicoms.series(folder, [(0, 0, 2.5 * k) for k in range(3)], **{**SECRETS, **more})


def _everything(folder: Path, caplog: pytest.LogCaptureFixture | None = None) -> str:
    """All that a user, a log or a script may see of a folder."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for verb in (ms.read, lambda p: ms.read(p, lazy=True), ms.info):
            try:
                found = verb(folder)
                said.append(repr(found))
                if isinstance(found, list):
                    said.extend(repr((s.name, s.meta, s.warnings, s.label_names)) for s in found)
            except ms.MedseqError as error:
                said.append(str(error))
    said.extend(str(w.message) for w in caught)
    if caplog is not None:
        said.append(caplog.text)
    return "\n".join(said)


def test_no_output_names_a_patient_unless_identifiers_are_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _slices(tmp_path)
    (tmp_path / "cut.dcm").write_bytes(sorted(tmp_path.iterdir())[0].read_bytes()[:700])
    assert _leaks(_everything(tmp_path, caplog)) == []
    told = repr(ms.info(tmp_path, identifiers=True))
    assert "QID90210X" in told
    assert "Zzyzx" in told


def test_a_description_that_names_the_patient_loses_the_name(tmp_path: Path) -> None:
    _slices(tmp_path, SeriesDescription="Quirina Zzyzx QID90210X T1 axial")
    (seq,) = ms.read(tmp_path)
    assert seq.name == "T1_axial"
    assert _leaks(_everything(tmp_path)) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".seg.nrrd", ".dcm"])
def test_nothing_is_written(tmp_path: Path, ending: str) -> None:
    import gzip

    _slices(tmp_path / "ct", Laterality=None, PatientSex="F", StudyDescription="head", Manufacturer="Acme", ManufacturerModelName="X",
            SoftwareVersions="1")  # fmt: skip
    (seq,) = ms.read(tmp_path / "ct")
    labels = seq.labels_like(
        np.arange(seq.data.size).reshape(seq.data.shape) % 3, name="lesions", label_names={1: "one", 2: "two"}
    )
    path = ms.write(labels, tmp_path / f"out{ending}", reference=tmp_path / "ct" if ending == ".dcm" else None)
    raw = path.read_bytes()
    for block in (raw, gzip.decompress(raw) if ending == ".nii.gz" else raw):
        assert _leaks(block.decode("latin-1")) == []
    if ending == ".dcm":
        kept = ms.write(labels, tmp_path / "kept.dcm", reference=tmp_path / "ct", identifiers=True)
        assert b"QID90210X" in kept.read_bytes()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(132, 1100), st.integers(0, 255)), min_size=1, max_size=12), st.booleans())
def test_errors_about_damaged_files_name_no_patient(
    tmp_path_factory: pytest.TempPathFactory, pokes: list[tuple[int, int]], implicit: bool
) -> None:
    ds = dicoms.dataset(dicoms.picture(), **SECRETS)
    folder = tmp_path_factory.mktemp("damaged")
    path = dicoms.save(ds, folder / "a.dcm")
    if implicit:
        ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2")
        dicoms.pydicom.dcmwrite(path, ds, implicit_vr=True, little_endian=True)
    raw = bytearray(path.read_bytes())
    for at, byte in pokes:
        raw[at % len(raw)] = byte
    path.write_bytes(raw)
    assert _leaks(_everything(folder)) == []


def test_secrets_are_real_attributes() -> None:
    for keyword in SECRETS:
        assert dicoms.pydicom.datadict.tag_for_keyword(keyword) is not None
    assert "InstitutionName" not in TAGS


def _in_another_process(folder: Path, **environment: Any) -> list[str]:
    code = f"import napari_medseq as ms; print(*[s.meta['patient'] for s in ms.read({str(folder)!r})])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.stdout.split()


def test_pseudonyms_are_the_same_in_every_process_and_need_the_key(tmp_path: Path) -> None:
    _slices(tmp_path / "ct")
    own = [s.meta["patient"] for s in ms.read(tmp_path / "ct")]
    assert own == _in_another_process(tmp_path / "ct")
    key = tmp_path / "project.key"
    others = _in_another_process(tmp_path / "ct", NAPARI_MEDSEQ_PSEUDONYMS=str(key))
    assert others == _in_another_process(tmp_path / "ct", NAPARI_MEDSEQ_PSEUDONYMS=str(key))
    assert others != own
    assert key.stat().st_mode & 0o077 == 0


def test_the_command_takes_a_key_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_medseq.cli import main
    from napari_medseq.io.pseudonyms import VARIABLE, pseudonym

    monkeypatch.setenv(VARIABLE, str(tmp_path / "own.key"))
    _slices(tmp_path / "ct")
    before = pseudonym("x")
    assert main(["info", str(tmp_path / "ct"), "--json", "--pseudonyms", str(tmp_path / "cohort.key")]) == 0
    assert (tmp_path / "cohort.key").is_file()
    assert pseudonym("x") != before
    (tmp_path / "short.key").write_text("abc")
    assert main(["info", str(tmp_path / "ct"), "--pseudonyms", str(tmp_path / "short.key")]) == 1
    assert "16 to" in capsys.readouterr().err


def test_a_lesions_uid_cannot_be_found_by_trying_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uuid

    from napari_medseq.io.pseudonyms import VARIABLE, lesion_uid

    assert lesion_uid("ID-4711", 3) == lesion_uid("ID-4711", 3)
    assert len({lesion_uid(p, v) for p in ("a", "b") for v in (1, 2)}) == 4
    assert lesion_uid("ID-4711", 3) != f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'napari-medseq|ID-4711|3').int}"
    before = lesion_uid("ID-4711", 3)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other.key"))
    assert lesion_uid("ID-4711", 3) != before
    assert all(part == "0" or not part.startswith("0") for part in before.split("."))


TEXTS = (
    "Zzyzx Quirina T1", "QuirinaZzyzx T1", "zzyzx_T1", "ACC7Q7Q T1", "T1 for Dr. Brunft", "T1 17.02.1931", "T1 1931-02-17", "T1 19310217",
    "Kurbel/T1", "T1 Sanatorium Quodlibet", "T1 QID90210X", "T1 STUDQ99", "T1 tel 0815471122", "T1 ADMQ4711", "Zzyzx1 T1",
)  # fmt: skip


@pytest.mark.parametrize("said", TEXTS)
@pytest.mark.parametrize("keyword", ["SeriesDescription", "ContrastBolusAgent", "ProtocolName"])
def test_free_text_loses_what_its_header_names(tmp_path: Path, said: str, keyword: str) -> None:
    _slices(
        tmp_path,
        AdmissionID="ADMQ4711",
        **({keyword: said} if keyword != "ProtocolName" else {keyword: said, "SeriesDescription": ""}),
    )
    told = _everything(tmp_path)
    words = [*WORDS, "17.02.1931", "1931-02-17", "ADMQ4711"]
    assert [w for w in words if w.lower() in told.lower()] == []
    assert "T1" in told


def test_free_text_that_names_nobody_is_kept(tmp_path: Path) -> None:
    _slices(tmp_path, SeriesDescription="3D T1 MPRAGE post Gd 0.8mm b1000 e2", ContrastBolusAgent="Gadobutrol 7.5 mL")
    (seq,) = ms.read(tmp_path)
    assert seq.name == "3D_T1_MPRAGE_post_Gd_0.8mm_b1000_e2"
    assert seq.meta["contrast_agent"] == "Gadobutrol 7.5 mL"


def test_a_segmentation_keeps_nothing_of_admission_or_request(tmp_path: Path) -> None:
    more = {
        "AdmissionID": "ADMQ4711", "RequestedProcedureDescription": "for Brunft", "PerformedProcedureStepDescription": "Zzyzx check",
        "StudyDescription": "head of Zzyzx", "AdmittingDiagnosesDescription": "Quirina fell", "PatientSex": "F",
    }  # fmt: skip
    _slices(
        tmp_path / "ct", Laterality=None, Manufacturer="Acme", ManufacturerModelName="X", SoftwareVersions="1", **more
    )
    (seq,) = ms.read(tmp_path / "ct")
    labels = seq.labels_like(np.ones(seq.data.shape, np.uint8), name="lesions", label_names={1: "one"})
    raw = ms.write(labels, tmp_path / "out.dcm").read_bytes().decode("latin-1")
    assert [w for w in [*WORDS, "ADMQ4711"] if w in raw] == []


def test_labels_of_others_lose_names(tmp_path: Path) -> None:
    """Names typed into structures and segments."""
    _slices(
        tmp_path / "ct",
        Laterality=None,
        PatientSex="F",
        Manufacturer="Acme",
        ManufacturerModelName="X",
        SoftwareVersions="1",
    )
    (seq,) = ms.read(tmp_path / "ct")
    labels = seq.labels_like(np.ones(seq.data.shape, np.uint8), name="lesions", label_names={1: "GTV Zzyzx"})
    path = ms.write(labels, tmp_path / "ct" / "seg.dcm", reference=tmp_path / "ct", identifiers=True)
    ds = dicoms.pydicom.dcmread(path)
    ds.ManufacturerModelName = "another"
    ds.save_as(path)
    (found,) = [s for s in ms.read(tmp_path / "ct") if s.kind == "labels"]
    assert found.label_names == {1: "GTV"}
    assert _leaks(_everything(tmp_path / "ct")) == []


def test_dates_go_back_by_days_of_the_patient_and_intervals_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_medseq.io.pseudonyms import VARIABLE

    for patient in ("Ada", "Bob"):
        for day in ("20200131", "20200504"):
            dicoms.series(
                tmp_path / patient / f"ses-{day}", [(0, 0, 2.5 * k) for k in range(3)], PatientID=patient, StudyDate=day,
                AcquisitionDate=day, SeriesDate=day, ContentDate=day, SeriesDescription=f"T1 of {day}", SeriesInstanceUID=f"1.{day}",
            )  # fmt: skip
    for name in ("one", "other"):  # not drawn at random: a small shift would leave the true year in place
        (tmp_path / f"{name}.key").write_bytes(name.encode() * 16)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "one.key"))
    true, ada, bob = (
        ms.read_study(tmp_path / name, shift_dates=shift)
        for name, shift in (("Ada", False), ("Ada", True), ("Bob", True))
    )
    back = [(t - d).days for t, d in zip(true.dates, ada.dates, strict=True) if t and d]
    assert back[0] == back[1]
    assert 1 <= back[0] <= 3650
    assert ada.dates != bob.dates
    assert ms.read_study(tmp_path / "Ada", shift_dates=True).dates == ada.dates, (
        "the same in every process with one key"
    )
    said = repr([(v.name, v.date, i.name, i.acquired, {k: x for k, x in i.meta.items() if k != "source" and not k.endswith("uid")})
                 for v in ada.visits for i in v.images])  # fmt: skip
    for day in ("20200131", "2020-01-31", "20200504", "2020-05-04", "(2020, 1, 31", "(2020, 5, 4"):
        assert day not in said
    assert [v.name for v in ada.visits] == [f"ses-{d:%Y%m%d}" for d in ada.dates if d]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other.key"))
    assert ms.read_study(tmp_path / "Ada", shift_dates=True).dates != ada.dates


def test_dates_in_texts_are_written_as_they_were() -> None:
    from datetime import date, timedelta

    from napari_medseq.io.naming import with_dates

    text = "ses-20200302 of 2020_03_02, 02Mar2020, 2020.03.02; 1234567890 and 2021-02-30 are none"
    expected = "ses-20200229 of 2020_02_29, 29Feb2020, 2020.02.29; 1234567890 and 2021-02-30 are none"
    assert with_dates(text, lambda day: day - timedelta(days=2)) == expected
    assert with_dates("nothing", lambda _: date.min) == "nothing"
