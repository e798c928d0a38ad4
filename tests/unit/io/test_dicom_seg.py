"""DICOM SEG: written labels come back; highdicom, which we did not write, sees the same; kinds built by code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import ReadWarning, WriteError
from tests.unit.io import dicoms
from tests.unit.io.dicoms import groups, item

hd = pytest.importorskip("highdicom")


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    dicoms.series(tmp_path / "ct", [(0, 0, 2.5 * k) for k in range(5)], SeriesInstanceUID="1.2.3.4.5")
    return tmp_path / "ct"


def _labels(image: ms.ImageSequence) -> ms.ImageSequence:
    labels = np.zeros(image.data.shape, np.uint8)
    labels[1:3, 1:4, 1:3], labels[4, 2:, 4] = 3, 9
    return image.labels_like(labels, name="lesions", label_names={3: "left", 9: "right"})


def test_labels_come_back_with_identity(ct: Path, tmp_path: Path) -> None:
    image = ms.read(ct)[0]
    labels = _labels(image)
    path = ms.write(labels, tmp_path / "seg.dcm", reference=ct)
    for given in (path, [path, ct]):
        back = next(s for s in ms.read(given) if s.kind == "labels")
        assert back.label_names == {3: "left", 9: "right"}
        assert {k: v["id"] for k, v in back.meta["tracking"].items()} == {3: "Lesion 3", 9: "Lesion 9"}
        at = np.argwhere(labels.data)[:, ::-1]
        world = at @ labels.affine[:3, :3].T + labels.affine[:3, 3]
        index = np.rint((world - back.affine[:3, 3]) @ np.linalg.inv(back.affine[:3, :3]).T).astype(int)
        assert np.array_equal(back.data[tuple(index.T[::-1])], labels.data[labels.data > 0])
        assert int((back.data > 0).sum()) == int((labels.data > 0).sum())
    assert next(s for s in ms.read([path, ct]) if s.kind == "labels").same_grid(image)


def test_highdicom_reads_what_we_wrote(ct: Path, tmp_path: Path) -> None:
    labels = _labels(ms.read(ct)[0])
    seg = hd.seg.segread(ms.write(labels, tmp_path / "seg.dcm"))
    assert [str(seg.get_segment_description(k).segment_label) for k in (1, 2)] == ["left", "right"]
    assert seg.StudyInstanceUID == "1.2.3"
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4.5"
    volume = seg.get_volume(combine_segments=True)
    assert int((volume.array == 1).sum()) == int((labels.data == 3).sum())
    at = np.argwhere(labels.data == 9)[:, ::-1]
    lps = (at @ labels.affine[:3, :3].T + labels.affine[:3, 3]) * (-1, -1, 1)
    index = np.rint(volume.map_reference_to_indices(lps)).astype(int)
    assert (volume.array[tuple(index.T)] == 2).all()


def test_patient_is_blank_unless_asked(ct: Path, tmp_path: Path) -> None:
    labels = _labels(ms.read(ct)[0])
    blank = ms.write(labels, tmp_path / "a.dcm")
    content = blank.read_bytes()
    for secret in (b"Doe", b"ID-4711", b"19500101"):  # letters: the digits of a UID are random
        assert secret not in content
    kept = dicoms.pydicom.dcmread(ms.write(labels, tmp_path / "b.dcm", identifiers=True))
    assert kept.PatientID == "ID-4711"


def test_tracking_uid_is_the_same_at_every_visit(ct: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    dicoms.series(
        later,
        [(5, 0, 2.5 * k) for k in range(5)],
        seed=1,
        SeriesInstanceUID="1.2.8",
        StudyInstanceUID="1.8",
        StudyDate="20210101",
    )
    uids = []
    for k, folder in enumerate((ct, later)):
        path = ms.write(_labels(ms.read(folder)[0]), tmp_path / f"{k}.dcm")
        uids.append([s.TrackingUID for s in dicoms.pydicom.dcmread(path).SegmentSequence])
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 2


def test_refusals(ct: Path, tmp_path: Path) -> None:
    labels = _labels(ms.read(ct)[0])
    with pytest.raises(WriteError, match="do not lie on the grid"):
        ms.write(labels.replace(affine=labels.affine @ np.diag([2.0, 1, 1, 1])), tmp_path / "a.dcm", reference=ct)
    with pytest.raises(WriteError, match="no label"):
        ms.write(labels.replace(data=labels.data * 0), tmp_path / "a.dcm", reference=ct)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WriteError, match="no DICOM image series"):
        ms.write(labels, tmp_path / "a.dcm", reference=tmp_path / "empty")
    assert not (tmp_path / "a.dcm").exists()


def _seg(path: Path, frames: np.ndarray, where: list[tuple[int, int]], kind: str, **more: Any) -> Path:
    """A SEG by hand: `where` gives (segment, slice) per frame; bits packed when binary."""
    ds = dicoms.dataset(
        frames,
        None,
        None,
        None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
        Modality="SEG",
        SegmentationType=kind,
        **more,
    )
    if kind == "BINARY":
        packed = np.packbits(frames.ravel().astype(bool), bitorder="little").tobytes()
        ds.BitsAllocated = ds.BitsStored = 1
        ds.HighBit, ds.PixelData = 0, packed + b"\0" * (len(packed) % 2)
    ds.SegmentSequence = [item(SegmentNumber=s, SegmentLabel=f"s{s}") for s in sorted({s for s, _ in where})]
    ds.SharedFunctionalGroupsSequence = [
        groups(
            PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.75], SliceThickness=2.5, SpacingBetweenSlices=2.5),
            PlaneOrientationSequence=item(ImageOrientationPatient=list(dicoms.AXIAL)),
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        groups(
            PlanePositionSequence=item(ImagePositionPatient=[0, 0, 2.5 * z]),
            SegmentIdentificationSequence=item(ReferencedSegmentNumber=s),
        )
        for s, z in where
    ]
    return dicoms.save(ds, path)


def test_left_out_frames_are_empty_slices_and_overlaps_are_layers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2, (3, 5, 7)).astype(np.uint8)
    frames[:, 0, 0] = 1
    path = _seg(tmp_path / "s", frames, [(1, 0), (1, 3), (2, 3)], "BINARY")
    first, second = ms.read(path)
    assert first.sizes == {"z": 4, "y": 5, "x": 7}
    assert np.array_equal(first.data[[0, 3]], frames[:2])
    assert not first.data[1:3].any()
    assert np.array_equal(second.data[3], frames[2] * 2)
    assert (first.label_names, second.label_names) == ({1: "s1"}, {2: "s2"})


def test_fractional_is_cut_at_one_half_and_said(tmp_path: Path) -> None:
    frames = np.array([[[0, 127, 128, 255]]], np.uint8)
    path = _seg(
        tmp_path / "s",
        frames,
        [(1, 0)],
        "FRACTIONAL",
        MaximumFractionalValue=255,
        SegmentationFractionalType="PROBABILITY",
    )
    with pytest.warns(ReadWarning, match="one half"):
        (seq,) = ms.read(path)
    assert seq.data.ravel().tolist() == [0, 0, 1, 1]


def test_label_map(tmp_path: Path) -> None:
    frames = np.array([[[0, 1, 2, 7]], [[7, 0, 0, 1]]], np.uint8)
    path = _seg(tmp_path / "s", frames, [(1, 0), (7, 1)], "LABELMAP")
    (seq,) = ms.read(path)
    assert np.array_equal(seq.data, frames)


def test_large_and_sparse_values_are_segments_in_one_array(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import highdicom as hd

    image = ms.read(ct)[0]
    voxels = np.zeros(image.data.shape, np.int32)
    values = [3, 300, 1000, 2035, 70_000]
    for k, value in enumerate(values):
        voxels[1, k + 1, 2:5] = value
    given, real = [], hd.seg.Segmentation

    def noted(*a: Any, **more: Any) -> Any:
        given.append(more["pixel_array"])
        return real(*a, **more)

    monkeypatch.setattr(hd.seg, "Segmentation", noted)
    labels = image.like(voxels, name="aparc", kind="labels", label_names={2035: "ctx-rh-insula"})
    back = ms.read(ms.write(labels, tmp_path / "aparc.dcm", reference=ct))[0]
    assert given[0].ndim == 3  # an array per segment would be a hundred volumes
    assert given[0].dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(back.data)[0], voxels[1])  # what is empty is left out
    assert back.label_names[2035] == "ctx-rh-insula"
