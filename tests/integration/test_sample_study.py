"""The committed sample patient: made by its script, the same as NIfTI and DICOM, read by others, and tracked truly."""

from __future__ import annotations

import csv
import runpy
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import napari_medseq as ms
from napari_medseq.errors import WriteError
from napari_medseq.synthetic import make_study, make_truth, sample_study
from napari_medseq.synthetic.files import nifti_bytes
from tests import nifti

SAMPLE = Path(__file__).parents[2] / "sample_data"
SESSIONS = ("ses-20200131", "ses-20200504", "ses-20200921")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    runpy.run_path(str(SAMPLE / "make_sample.py"))["main"](folder)
    return folder


def files(folder: Path) -> list[str]:
    parts = ("study", "truth", "dicom")
    return sorted(p.relative_to(folder).as_posix() for part in parts for p in (folder / part).rglob("*") if p.is_file())


def volume(session: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(SAMPLE / "study" / "sub-sample" / session / "sub-sample_T1post.nii.gz")


def test_the_script_makes_what_is_committed(made: Path) -> None:
    assert files(made) == files(SAMPLE)
    for name in files(made):
        if name.endswith(".nii.gz"):
            new, old = nifti.load(made / name), nifti.load(SAMPLE / name)
            np.testing.assert_array_equal(new.affine, old.affine)
            apart = np.abs(np.asarray(new.dataobj).astype(int) - np.asarray(old.dataobj).astype(int))
            if "lesions" in name:
                assert not apart.any(), name
            else:  # another processor may round a last bit otherwise
                assert apart.max() <= 1, name
                assert (apart > 0).mean() < 1e-4, name
        elif not name.endswith(".dcm"):
            assert (made / name).read_bytes() == (SAMPLE / name).read_bytes(), name


def test_writing_twice_gives_the_same_bytes(made: Path) -> None:
    for visit in make_study(0).visits:
        name = f"study/sub-sample/{visit.name}/sub-sample_T1post.nii.gz"
        assert (made / name).read_bytes() == nifti_bytes(visit.images[0])


def test_the_sample_is_small_and_names_no_patient() -> None:
    assert sum((SAMPLE / f).stat().st_size for f in files(SAMPLE)) < 8e6
    assert not list((SAMPLE / "study").rglob("*tumor*")) + list((SAMPLE / "study").rglob("*lesion*"))
    for path in (SAMPLE / "dicom").rglob("*.dcm"):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert (ds.PatientName, ds.PatientID) == ("Sample^Synthetic", "SAMPLE-0001")
        assert not ds.PatientBirthDate


def test_dicom_is_one_valid_series_per_visit() -> None:
    frames, studies, instances = set(), set(), []
    for session in SESSIONS:
        headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted((SAMPLE / "dicom" / session).glob("*"))]
        assert len(headers) == volume(session).shape[2]
        assert {h.SOPClassUID for h in headers} == {pydicom.uid.MRImageStorage}
        assert {h.StudyDate for h in headers} == {session[4:]}
        assert len({h.SeriesInstanceUID for h in headers}) == len({h.FrameOfReferenceUID for h in headers}) == 1
        frames.add(headers[0].FrameOfReferenceUID)
        studies.add(headers[0].StudyInstanceUID)
        instances += [h.SOPInstanceUID for h in headers]
        assert all(h.SOPInstanceUID == h.file_meta.MediaStorageSOPInstanceUID for h in headers)
        assert all(pydicom.uid.UID(h.SOPInstanceUID).is_valid for h in headers)
    assert len(frames) == len(studies) == 3
    assert len(set(instances)) == len(instances)


@pytest.mark.parametrize("session", SESSIONS)
def test_dicom_equals_nifti_in_the_world_as_itk_sees_it(session: str) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(SAMPLE / "dicom" / session)))
    series, nifti = (
        reader.Execute(),
        sitk.ReadImage(str(SAMPLE / "study" / "sub-sample" / session / "sub-sample_T1post.nii.gz")),
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(series), sitk.GetArrayFromImage(nifti))
    for corner in ((0, 0, 0), tuple(n - 1 for n in nifti.GetSize())):
        np.testing.assert_allclose(
            series.TransformIndexToPhysicalPoint(corner), nifti.TransformIndexToPhysicalPoint(corner), atol=1e-4
        )


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dicom_equals_nifti_as_dcm2niix_sees_it(tmp_path: Path) -> None:
    folder = SAMPLE / "dicom" / SESSIONS[0]
    subprocess.run(["dcm2niix", "-f", "out", "-o", str(tmp_path), str(folder)], check=True, capture_output=True)
    out, ours = nib.as_closest_canonical(nib.load(tmp_path / "out.nii")), nib.as_closest_canonical(volume(SESSIONS[0]))
    np.testing.assert_allclose(out.affine, ours.affine, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(out.dataobj), np.asarray(ours.dataobj))


def test_our_readers_see_the_same_in_both() -> None:
    study = ms.read_study(SAMPLE / "study")
    assert [v.date for v in study.visits] == [v.date for v in make_study(0).visits]
    for session, visit in zip(SESSIONS, study.visits, strict=True):
        (series,) = ms.read(SAMPLE / "dicom" / session)
        (image,) = visit.images
        assert image.kind == "image"
        assert not visit.labels
        assert series.modality == "MR"
        assert series.same_grid(image)
        np.testing.assert_array_equal(series.compute().data, image.compute().data)


def test_the_truth_is_what_tracking_the_true_masks_finds() -> None:
    truth = make_truth(0)
    found = ms.track(truth.masks, transforms=truth.to_first).lesions
    with (SAMPLE / "truth" / "truth.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(r["visit"]), r["date"], int(r["lesion"]), r["event"], r["parents"]) for r in rows] == [
        (r.visit, f"{r.date:%Y-%m-%d}", r.lesion, r.event, r.parents) for r in found.itertuples()
    ]
    np.testing.assert_allclose([float(r["volume_ml"]) for r in rows], found["volume_ml"], atol=1e-3)


def test_truth_labels_lie_on_the_images() -> None:
    for session in SESSIONS:
        labels = nifti.load(SAMPLE / "truth" / f"{session}_lesions.nii.gz")
        np.testing.assert_array_equal(labels.affine, volume(session).affine)
        assert labels.shape == volume(session).shape


def test_a_folder_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WriteError, match="Choose a folder"):
        sample_study(tmp_path / "file")
