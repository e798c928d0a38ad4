"""Which patients are meant: folders, BIDS, tables of paths, heaps of DICOM, and names that cannot be."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.cohort import find_patients
from napari_medseq.cohort.patients import Patient, Studies
from napari_medseq.cohort.run import of_others
from napari_medseq.errors import ReadError, SettingsError
from napari_medseq.io.visit_folders import patient_folders


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def names(studies: Studies, *, heap: Path | None = None) -> list[str]:
    return [p.name for p in find_patients(studies, heap=heap)]


def test_a_folder_of_studies(tmp_path: Path) -> None:
    assert names(folders(tmp_path, "b", "a", ".hidden", "derivatives")) == ["a", "b"]


def test_a_bids_tree_holds_its_subjects_alone(tmp_path: Path) -> None:
    assert names(folders(tmp_path, "sub-02", "sub-01", "code", "derivatives/x/sub-01", "notes")) == ["sub-01", "sub-02"]


def test_patients_beside_one_that_is_called_as_in_bids_are_no_less_patients(tmp_path: Path) -> None:
    def seen() -> tuple[list[str], list[str]]:
        return names(tmp_path), [p.name for p in patient_folders(tmp_path)]

    image = ms.ImageSequence(np.zeros((2, 3, 3), np.uint8), ("z", "y", "x"), np.eye(4), modality="MR")
    patients = ["08", "Müller 6", "sub-04"]
    for name in (*patients, "derivatives"):
        for visit in ("Nov 2020", "Feb 2021"):
            ms.write(image, tmp_path / name / visit / "T1.nii.gz")
    ms.write(image, tmp_path / "atlas" / "T1.nii.gz")  # not as deep
    ms.write(image, tmp_path / "results" / "08" / "ses-1" / "T1.nii.gz")
    (tmp_path / "results" / "cohort.csv").write_text("study")
    assert seen() == (patients, patients)
    with pytest.raises(ReadError, match="holds 3 patients"):
        ms.read_study(tmp_path)
    (tmp_path / "dataset_description.json").write_text("{}")
    assert seen() == (["sub-04"], ["sub-04"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("c.csv", "study\nx/a\nb\n"),
        ("c.csv", "\ufeffID;y\n".replace(";", ",") + ""),
        ("c.tsv", "Name\tPath\nfirst\tx/a\n\tb\n"),
    ],
)
def test_a_table_of_paths(tmp_path: Path, file: str, text: str) -> None:
    folders(tmp_path, "x/a", "b")
    (tmp_path / file).write_text(text, encoding="utf-8")
    if "ID" in text:
        with pytest.raises(ReadError, match="no column of paths"):
            find_patients(tmp_path / file)
    else:
        found = find_patients(tmp_path / file)
        assert [p.name for p in found] == (["first", "b"] if "first" in text else ["a", "b"])
        assert [p.study for p in found] == [(tmp_path / "x" / "a").resolve(), (tmp_path / "b").resolve()]


def test_paths_are_called_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, "a", "b")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "a")
    assert names([".", "../link"]) == ["a", "link"]


@pytest.mark.parametrize("twice", [("x/a", "y/a"), ("x/a", "y/A"), ("x/\u00e9", "y/e\u0301")])
def test_two_of_one_name(tmp_path: Path, twice: tuple[str, str]) -> None:
    folders(tmp_path, *twice)
    with pytest.raises(SettingsError, match="Several studies are called"):
        find_patients([tmp_path / one for one in twice])


@pytest.mark.parametrize("name", ["cohort.csv", "Lesions.csv", "previous", ".hidden"])
def test_names_that_the_cohort_needs_itself(tmp_path: Path, name: str) -> None:
    folders(tmp_path, name)
    with pytest.raises(SettingsError):
        find_patients([tmp_path / name])


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", "x\\y"])
def test_a_table_cannot_name_a_folder_outside(tmp_path: Path, name: str) -> None:
    folders(tmp_path, "a")
    (tmp_path / "c.csv").write_text(f"name,study\n{name},a\n")
    with pytest.raises(SettingsError, match="cannot name"):
        find_patients(tmp_path / "c.csv")


@pytest.mark.parametrize("name", ["nul", "CON.1", "patient 1."])
def test_a_patient_is_not_called_what_windows_cannot_hold(tmp_path: Path, name: str) -> None:
    folders(tmp_path, "a")
    (tmp_path / "c.csv").write_text(f"name,study\n{name},a\n")
    with pytest.raises(SettingsError, match="Windows cannot"):
        find_patients(tmp_path / "c.csv")


def test_a_heap_of_dicom_is_sorted_by_patient(tmp_path: Path) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    heap = folders(tmp_path / "heap", "deep")
    for number, patient in enumerate(("P1", "P2", "P1", "P1")):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset = FileDataset(BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.PatientID, dataset.PatientName, dataset.SOPClassUID = patient, f"Name^{patient}", CTImageStorage
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.save_as(heap / ("deep" if number == 3 else "") / f"{number}.dcm")
    with pytest.raises(SettingsError, match="heap of DICOM"):
        find_patients(heap)
    for _ in range(2):
        found = find_patients(heap, heap=tmp_path / "links")
        assert sorted(len([f for f in p.study.rglob("*") if f.is_file()]) for p in found) == [1, 3]
        assert all(p.name.startswith("patient-") and "P1" not in p.name and "P2" not in p.name for p in found)
    (heap / "2.dcm").unlink()
    found = find_patients(heap, heap=tmp_path / "links")
    assert sorted(len(list(p.study.rglob("*.dcm"))) for p in found) == [1, 2]


def test_files_without_a_preamble_are_sorted_by_patient_too(tmp_path: Path) -> None:
    from tests.unit.io import dicoms

    for patient in ("P1", "P2"):
        whole = dicoms.save(dicoms.dataset(dicoms.picture(), PatientID=patient), tmp_path / "heap" / patient)
        whole.write_bytes(whole.read_bytes()[132:])
    assert len(find_patients(tmp_path / "heap", heap=tmp_path / "links")) == 2


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="not a folder"):
        find_patients(tmp_path / "nowhere")
    with pytest.raises(ReadError, match="no study"):
        find_patients(tmp_path)
    with pytest.raises(ReadError, match=r"no study folder .*gone"):
        find_patients([tmp_path / "gone"])


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "~no-such-user-here/a"])
def test_a_path_that_no_system_takes_is_said(tmp_path: Path, path: str) -> None:
    (tmp_path / "patients.csv").write_text(f"study\n{path}\n")
    with pytest.raises((ReadError, SettingsError), match=r"cannot be used|no study folder|cannot name"):
        find_patients(tmp_path / "patients.csv")


def test_results_of_patients_that_are_not_among_the_studies(tmp_path: Path) -> None:
    for name in ("a", "renamed", ".partial-b", "previous"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    assert of_others(tmp_path, [Patient("a", tmp_path), Patient("new", tmp_path)]) == ["renamed"]


def test_the_results_are_no_patient_even_among_the_studies(tmp_path: Path) -> None:
    for name in ("a", "b", "results"):
        (tmp_path / name).mkdir()
    assert [p.name for p in find_patients(tmp_path, apart=(tmp_path / "results").resolve())] == ["a", "b"]


def test_a_row_without_a_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "t.csv").write_text("study,name\na,one\n,two\n")
    with pytest.raises(ReadError, match=r"row 2 \(two\) has no path in the column 'study'"):
        find_patients(tmp_path / "t.csv")
