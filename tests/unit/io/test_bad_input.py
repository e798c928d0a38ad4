"""Files made badly or not in good faith: a clear error or a warning, never a traceback, a hang or a wrong image in silence."""

from __future__ import annotations

import contextlib
import gzip
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ReadError, ReadWarning
from tests.unit.io import dicoms
from tests.unit.io.dicoms import groups, item

POKES = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=10)
POSITIONS = [(0.0, 0.0, 2.5 * k) for k in range(4)]


def _quietly(path: Path) -> list[ms.ImageSequence]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ms.read(path)


def _poked(data: bytes, pokes: list[tuple[int, int]], cut: int = 0) -> bytes:
    out = bytearray(data)
    for at, byte in pokes:
        out[at % len(out)] = byte
    return bytes(out[: len(out) - cut])


def test_a_localizer_among_the_slices_is_an_image_of_its_own(tmp_path: Path) -> None:
    dicoms.series(tmp_path, POSITIONS)
    scout = dicoms.dataset(
        dicoms.picture((9, 7)), (0, -20, 40), (1, 0, 0, 0, 0, -1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    dicoms.save(scout, tmp_path / "scout")
    found = _quietly(tmp_path)
    assert sorted(s.size("z") * s.size("y") * s.size("x") for s in found) == [63, 4 * 30]
    assert sorted(s.slice_axis for s in found) == ["y", "z"]


@pytest.mark.parametrize(
    "more",
    [
        {"SeriesInstanceUID": "9.9"}, {"FrameOfReferenceUID": "9.9"}, {"PixelSpacing": [1, 1]},
        {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, {"Modality": "MR"},
    ],
)  # fmt: skip
def test_one_slice_from_another_scan_does_not_get_among_the_others(tmp_path: Path, more: dict[str, Any]) -> None:
    pixels = dicoms.series(tmp_path, POSITIONS)
    stray = dicoms.dataset(dicoms.picture(seed=99), (0, 0, 5.0), **more)
    dicoms.save(stray, tmp_path / "stray")
    found = _quietly(tmp_path)
    assert len(found) == 2
    assert any(s.size("z") == 4 and np.array_equal(s.data, np.stack(pixels)) for s in found)


def test_one_larger_slice_is_an_image_of_its_own(tmp_path: Path) -> None:
    dicoms.series(tmp_path, POSITIONS)
    dicoms.save(dicoms.dataset(dicoms.picture((9, 9)), (0, 0, 20.0)), tmp_path / "large")
    assert sorted(s.size("y") for s in _quietly(tmp_path)) == [6, 9]


def test_a_dicomdir_of_files_outside_is_refused(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "secret", POSITIONS)
    ds = dicoms.dataset(dicoms.picture(), SOPClassUID="1.2.840.10008.1.3.10")
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(ds, keyword)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.DirectoryRecordSequence = [
            item(DirectoryRecordType="IMAGE", ReferencedFileID=["..", "secret", p.name])
            for p in (tmp_path / "secret").iterdir()
        ]
        path = dicoms.save(ds, tmp_path / "disc" / "DICOMDIR")
    with pytest.raises(ReadError, match="outside its folder"):
        ms.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.timeout(20)
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    dicoms.series(tmp_path, POSITIONS)
    os.mkfifo(tmp_path / "pipe")
    assert len(_quietly(tmp_path)) == 1
    with pytest.raises(ReadError):
        ms.read(tmp_path / "pipe")


@pytest.mark.timeout(20)
@pytest.mark.filterwarnings("ignore")
def test_links_in_a_circle_end(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "a", POSITIONS)
    try:
        (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert len(ms.read(tmp_path)) == 1


def test_a_gzip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    whole = dicoms.save(dicoms.dataset(dicoms.picture(), Rows=60000, Columns=60000), tmp_path / "a").read_bytes()
    (tmp_path / "a").unlink()
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(whole + b"\0" * (1 << 22)))
    with pytest.raises(ReadError, match="promises"):
        ms.read(tmp_path / "bomb.gz")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("packed", [False, True])
def test_a_promise_of_countless_frames_is_refused(tmp_path: Path, packed: bool) -> None:
    ds = dicoms.dataset(np.zeros((2, 1, 2), np.uint8))
    if packed:
        ds.compress("1.2.840.10008.1.2.5")
    ds.NumberOfFrames = 99_999_999
    with pytest.raises(ReadError, match="promises"):
        ms.read(dicoms.save(ds, tmp_path / "a"))


def test_series_that_fail_are_named_and_the_rest_opens(tmp_path: Path) -> None:
    dicoms.series(tmp_path / "good", POSITIONS, SeriesDescription="good")
    ds = dicoms.dataset(dicoms.picture((32, 32)), SeriesInstanceUID="9.9", SeriesDescription="coded")
    ds.compress("1.2.840.10008.1.2.4.80", generate_instance_uid=False)
    ds.PixelData = ds.PixelData[:30] + b"\xff" * 60
    dicoms.save(ds, tmp_path / "bad")
    with pytest.warns(ReadWarning, match="coded"):
        (seq,) = ms.read(tmp_path)
    assert seq.name == "good"


def _enhanced(path: Path) -> bytes:
    ds = dicoms.dataset(np.stack([dicoms.picture(seed=k) for k in range(3)]), None, None, None)
    ds.SharedFunctionalGroupsSequence = [
        groups(
            PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.75], SliceThickness=2.5),
            PlaneOrientationSequence=item(ImageOrientationPatient=list(dicoms.AXIAL)),
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        groups(PlanePositionSequence=item(ImagePositionPatient=list(p)), FrameContentSequence=item(StackID="1"))
        for p in POSITIONS[:3]
    ]
    return dicoms.save(ds, path).read_bytes()


def _implicit(path: Path) -> bytes:
    ds = dicoms.dataset(dicoms.picture(), WindowCenter=1, WindowWidth=2)
    ds.RadiopharmaceuticalInformationSequence = [item(RadionuclideTotalDose=1)]
    ds["RadiopharmaceuticalInformationSequence"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2")
    dicoms.pydicom.dcmwrite(path, ds, implicit_vr=True, little_endian=True)
    return path.read_bytes()


def _compressed(path: Path) -> bytes:
    ds = dicoms.dataset(np.stack([dicoms.picture((16, 16), seed=k) for k in range(2)]), FrameTime=40)
    ds.compress("1.2.840.10008.1.2.5")
    return dicoms.save(ds, path).read_bytes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    made = {"enhanced": _enhanced, "implicit": _implicit, "compressed": _compressed}
    return {name: make(folder / name) for name, make in made.items()}


@pytest.mark.parametrize("kind", ["enhanced", "implicit", "compressed"])
@settings(max_examples=40, deadline=None)
@given(pokes=POKES, cut=st.integers(0, 400))
def test_mutated_dicom_never_crashes(
    tmp_path_factory: pytest.TempPathFactory,
    originals: dict[str, bytes],
    kind: str,
    pokes: list[tuple[int, int]],
    cut: int,
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a"
    path.write_bytes(_poked(originals[kind], pokes, cut))
    with contextlib.suppress(MedseqError):
        for seq in _quietly(path):
            assert np.isfinite(seq.affine).all()
    with contextlib.suppress(MedseqError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ms.info(path)


@settings(max_examples=40, deadline=None)
@given(
    pokes=st.lists(st.tuples(st.integers(0, 330), st.integers(0, 255)), min_size=1, max_size=8), cut=st.integers(0, 60)
)
def test_mutated_metaimages_never_crash(
    tmp_path_factory: pytest.TempPathFactory, pokes: list[tuple[int, int]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5)), str(path), False)
    path.write_bytes(_poked(path.read_bytes(), pokes, cut))
    with contextlib.suppress(MedseqError):
        for seq in _quietly(path):
            assert np.isfinite(seq.affine).all()


def test_a_codec_that_panics_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs written in Rust panic with what is no `Exception`."""
    from napari_medseq.io.dicom import codecs

    panic = type("PanicException", (BaseException,), {})

    def panics(*_: Any) -> None:
        raise panic("index out of bounds")

    path = tmp_path / "a"
    _compressed(path)
    monkeypatch.setattr(codecs, "decode", lambda *_: None)
    monkeypatch.setattr(codecs, "unpack_rle", lambda *_: False)
    monkeypatch.setattr("pydicom.encaps.encapsulate", panics)
    with pytest.raises(ReadError, match="PanicException"):
        ms.read(path)
