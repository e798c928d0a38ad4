"""No patient's or institution's identifier leaves the readers or is written, unless asked for: also not where files are damaged."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_medseq as ms
from napari_medseq.io.dicom.tags import TAGS
from tests.unit.io import dicoms

SECRETS = {
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


def test_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
def test_damage_tells_nothing(
    tmp_path_factory: pytest.TempPathFactory, pokes: list[tuple[int, int]], implicit: bool
) -> None:
    ds = dicoms.dataset(dicoms.picture(), **SECRETS)
    folder = tmp_path_factory.mktemp("damaged")
    path = dicoms.save(ds, folder / "a.dcm")
    if implicit:
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
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
