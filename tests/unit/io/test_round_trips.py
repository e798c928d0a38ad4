"""What is written opens in other programs at the same place and time, and comes back as it went; packed files open lazily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import napari_medseq as ms
from tests.unit.io import dicoms

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
TIMES = (0.0, 1.5, 4.0)


def _dynamic(folder: Path, orientation: tuple[float, ...] = OBLIQUE) -> ms.ImageSequence:
    """An oblique dynamic series of uneven times, read from DICOM: (t, z, y, x) = (3, 2, 6, 5)."""
    normal = np.cross(orientation[:3], orientation[3:])
    for t, at in enumerate(TIMES):
        for z in range(2):
            ds = dicoms.dataset(
                dicoms.picture(seed=10 * t + z), tuple(5 + 3 * z * normal), orientation, TemporalPositionIdentifier=t + 1,
                TriggerTime=1000 * at, InstanceNumber=1 + t * 2 + z,
            )  # fmt: skip
            dicoms.save(ds, folder / f"{t}{z}")
    (seq,) = ms.read(folder)
    return seq


def _at(seq: ms.ImageSequence, t: int, index: tuple[int, int, int]) -> tuple[np.ndarray, float]:
    """LPS place and value of voxel (x, y, z) at time point t."""
    ras = seq.affine @ [*index, 1]
    return ras[:3] * (-1, -1, 1), float(np.asarray(seq.data)[t, index[2], index[1], index[0]])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".seq.nrrd", ".mha"])
def test_an_oblique_dynamic_series_comes_back_whole(tmp_path: Path, ending: str) -> None:
    seq = _dynamic(tmp_path / "in")
    path = ms.write(seq, tmp_path / f"out{ending}")
    for lazy in (False, True):
        (back,) = ms.read(path, lazy=lazy)
        assert back.is_lazy == lazy
        assert back.axes == seq.axes
        assert back.data.dtype == seq.data.dtype
        assert np.array_equal(np.asarray(back.data), seq.data)
        assert np.abs(back.affine - seq.affine).max() < 1e-4
        assert back.times == pytest.approx(TIMES, abs=1e-6)


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_simpleitk_opens_time_at_the_same_places(tmp_path: Path, ending: str) -> None:
    seq = _dynamic(tmp_path / "in")
    image = sitk.ReadImage(str(ms.write(seq, tmp_path / f"out{ending}")))
    assert image.GetSize() == (5, 6, 2, 3)  # the orientation of the DICOM series again
    for t in range(3):
        frame = image[:, :, :, t]
        for index in ((0, 0, 0), (4, 1, 5), (2, 0, 3)):
            place, value = _at(seq, t, index)
            found = frame.TransformPhysicalPointToIndex([float(v) for v in place])
            assert np.abs(np.array(frame.TransformIndexToPhysicalPoint(found)) - place).max() < 1e-3
            assert frame.GetPixel(found) == value


@pytest.mark.parametrize("ending", [".nrrd", ".seq.nrrd"])
def test_simpleitk_opens_a_sequence_as_a_vector_image(tmp_path: Path, ending: str) -> None:
    """ITK takes NRRD's list axis for the components of a voxel, wherever it stands."""
    seq = _dynamic(tmp_path / "in")
    image = sitk.ReadImage(str(ms.write(seq, tmp_path / f"out{ending}")))
    assert (image.GetSize(), image.GetNumberOfComponentsPerPixel()) == ((5, 6, 2), 3)
    place, _ = _at(seq, 0, (4, 1, 5))
    found = image.TransformPhysicalPointToIndex([float(v) for v in place])
    assert list(image.GetPixel(found)) == [_at(seq, t, (4, 1, 5))[1] for t in range(3)]


def test_nibabel_opens_time_at_the_same_places(tmp_path: Path) -> None:
    seq = _dynamic(tmp_path / "in")
    image: Any = nib.load(ms.write(seq, tmp_path / "out.nii.gz"))
    assert image.shape == (5, 6, 2, 3)
    place, value = _at(seq, 2, (4, 1, 5))
    index = np.linalg.solve(image.affine, [*(place * (-1, -1, 1)), 1])[:3]
    assert np.abs(index - np.rint(index)).max() < 1e-3
    assert np.asarray(image.dataobj)[(*np.rint(index).astype(int), 2)] == value
    assert image.header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize("components", [1, 3])
def test_packed_metaimages_of_simpleitk_open_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, components: int
) -> None:
    voxels = np.random.default_rng(0).integers(0, 200, (3, 4, 5, components)).astype(np.uint8)
    image = sitk.GetImageFromArray(voxels if components > 1 else voxels[..., 0], isVector=components > 1)
    image.SetSpacing((0.5, 0.6, 2.0))
    image.SetDirection((0, 1, 0, 0, 0, 1, 1, 0, 0))
    sitk.WriteImage(image, str(tmp_path / "a.mha"), True)
    sitk.WriteImage(image, str(tmp_path / "b.mha"), False)
    (plain,) = ms.read(tmp_path / "b.mha")
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    for lazy in (False, True):
        (packed,) = ms.read(tmp_path / "a.mha", lazy=lazy)
        assert np.array_equal(np.asarray(packed.data), plain.data)
        assert np.allclose(packed.affine, plain.affine)


@pytest.mark.parametrize(
    ("unit", "seconds"), [("ms", [0, 1.749, 8.694]), ("s", [0, 1749, 8694]), ("", [0, 1749, 8694])]
)
def test_the_frames_of_slicers_multivolumes_are_in_their_own_unit(
    tmp_path: Path, unit: str, seconds: list[float]
) -> None:
    """As MultiVolumeImporter writes them; the trigger and acquisition times of DICOM are in milliseconds."""
    path = tmp_path / "dce.nrrd"
    path.write_bytes(
        "NRRD0005\ntype: uint8\ndimension: 4\nspace: left-posterior-superior\nsizes: 3 2 2 2\n"
        "space directions: none (1,0,0) (0,1,0) (0,0,3)\nkinds: list domain domain domain\nencoding: raw\n"
        "space origin: (0,0,0)\nMultiVolume.FrameIdentifyingDICOMTagName:=AcquisitionTime\n"
        f"MultiVolume.FrameIdentifyingDICOMTagUnits:={unit}\nMultiVolume.FrameLabels:=0,1749,8694\n\n".encode()
        + bytes(24)
    )
    (seq,) = ms.read(path)
    assert seq.times == pytest.approx(seconds)


@pytest.mark.parametrize("encoding", ["gzip", "bzip2", "ascii"])
def test_packed_nrrds_are_unpacked_at_the_first_look(
    tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bz2
    import gzip

    from napari_medseq.io.formats import raw

    voxels = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    said = {"gzip": gzip.compress(voxels.tobytes()), "bzip2": bz2.compress(voxels.tobytes()),
            "ascii": " ".join(str(v) for v in voxels.ravel()).encode()}[encoding]  # fmt: skip
    header = (
        f"NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 4 3\nendian: big\nencoding: {encoding}\n"
        "space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + said)
    looks: list[int] = []
    original = raw.OnDemand.__getitem__

    def looked(self: raw.OnDemand, index: Any) -> np.ndarray:
        looks.append(1)
        return original(self, index)

    monkeypatch.setattr(raw.OnDemand, "__getitem__", looked)
    (seq,) = ms.read(tmp_path / "a.nrrd", lazy=True)
    assert seq.is_lazy
    assert looks == []
    assert np.array_equal(np.asarray(seq.data[1]), voxels[1])
    assert looks == [1]


def test_a_lesions_tracking_uid_is_the_same_at_every_visit(tmp_path: Path) -> None:
    uids = []
    for visit in range(2):
        folder = tmp_path / f"visit{visit}"
        dicoms.series(folder, [(0, 0, 2.5 * k) for k in range(3)], seed=visit, StudyInstanceUID=f"1.2.{visit}", Laterality=None,
                      SeriesInstanceUID=f"1.2.{visit}.1", StudyDate=f"202{visit}0101", PatientSex="", Manufacturer="Acme")  # fmt: skip
        (seq,) = ms.read(folder)
        lesions = np.zeros(seq.data.shape, np.uint16)
        lesions[1, 2:4, 1:3] = 7
        if visit:
            lesions[0, 0, 0] = 3
        labels = seq.labels_like(lesions, name="lesions", label_names={7: "seven", 3: "three"})
        path = ms.write(labels, tmp_path / f"{visit}.dcm", reference=folder)
        segments = dicoms.pydicom.dcmread(path).SegmentSequence
        uids.append({str(s.SegmentLabel): str(s.TrackingUID) for s in segments})
        (back,) = (s for s in ms.read([path, folder]) if s.kind == "labels")
        assert np.array_equal(np.asarray(back.data) > 0, lesions > 0)
        assert np.allclose(back.affine, seq.affine, atol=1e-4)
    assert uids[0]["seven"] == uids[1]["seven"] != uids[1]["three"]


@pytest.mark.parametrize(
    "lines",
    [
        'space: left-posterior-superior\nspace directions: (500,0,0) (0,500,0) (0,0,1000)\nspace units: "um" "um" "um"',
        'spacings: 0.05 0.05 0.1\nunits: "cm" "cm" "cm"',
        'spacings: 0.5 0.5 1\nunits: "mm" "mm" "mm"',
        "spacings: 0.5 0.5 1",
    ],
)
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_nrrd_in_other_units_is_in_millimetres(tmp_path: Path, lines: str) -> None:
    header = f"NRRD0005\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n{lines}\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(8))
    assert ms.read(tmp_path / "a.nrrd")[0].spacing == pytest.approx({"x": 0.5, "y": 0.5, "z": 1.0})
