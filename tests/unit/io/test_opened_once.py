"""What reading touches: each DICOM file is opened once, lazily only the slice asked for is read, light imports stay light."""

from __future__ import annotations

import contextlib
import json
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import UID

import napari_medseq as ms
from napari_medseq.io import handles
from napari_medseq.io.dicom.headers import parse
from napari_medseq.io.dicom.tags import TAGS
from tests.unit.io import dicoms


def _tree(folder: Path, count: int = 4) -> Path:
    for k in range(count):
        dicoms.series(
            folder / f"s{k}", [(0, 0, 2.5 * z) for z in range(5)], seed=k, SeriesInstanceUID=f"1.9.{k}",
            SeriesDescription=f"series {k}", BitsStored=12, HighBit=11,
        )  # fmt: skip
    return folder


def _in_a_process(code: str, *arguments: object, limit: int | None = None) -> Any:
    lines = ["import json, sys, warnings", "warnings.simplefilter('ignore')"]
    if limit is not None:
        lines.append(f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, code]), *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


PEAK = """
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
import numpy as np, napari_medseq as ms
ms.read
"""
OPEN_NOW = """
import os, napari_medseq as ms
r = ms.read(sys.argv[1])
names = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
print(json.dumps([os.readlink(n) for n in names if os.path.exists(n)]))
"""
EAGER = (
    PEAK
    + """
import napari_medseq.io.dicom.series
before = peak()
r = ms.read(sys.argv[1])[0]
print(json.dumps([r.data.nbytes, peak() - before]))
"""
)
ONE_SLICE = (
    PEAK
    + """
import dask.array
dask.array.zeros(1).compute()  # what dask itself loads for its first answer is not the reader's
before = peak()
d = np.asarray(ms.read(sys.argv[1], lazy=True)[0].data[200])
print(json.dumps([int(d.sum()), peak() - before]))
"""
)
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory cannot be asked for here")

COUNTED = """
opened = {}
def hook(event, details):
    if event == "open" and str(details[0]).startswith(sys.argv[1]):
        opened[str(details[0])] = opened.get(str(details[0]), 0) + 1
sys.addaudithook(hook)
import napari_medseq as ms
"""


@pytest.mark.parametrize("limit", [None, 200])  # 200: no descriptor to spare, so small files are held in memory
@pytest.mark.parametrize("verb", ["ms.read", "ms.read_study", "ms.info"])
def test_each_file_of_a_tree_is_opened_once(tmp_path: Path, verb: str, limit: int | None) -> None:
    _tree(tmp_path)
    counts = _in_a_process(f"{COUNTED}\n{verb}(sys.argv[1])\nprint(json.dumps(opened))", tmp_path, limit=limit)
    assert len(counts) == 20
    assert set(counts.values()) == {1}


@needs_proc
def test_no_file_stays_open(tmp_path: Path) -> None:
    _tree(tmp_path)
    assert not [p for p in _in_a_process(OPEN_NOW, tmp_path) if p.startswith(str(tmp_path))]


def test_a_plain_series_needs_no_heavy_library(tmp_path: Path) -> None:
    _tree(tmp_path)
    code = (
        "import napari_medseq as ms\nms.read(sys.argv[1])\nprint(json.dumps([m for m in sys.modules if '.' not in m]))"
    )
    heavy = {"pydicom", "highdicom", "nibabel", "SimpleITK", "dask", "scipy", "torch", "pandas", "skimage"}
    assert not heavy & set(_in_a_process(code, tmp_path))


@needs_proc
def test_peak_memory_is_little_more_than_the_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(80):
        ds = dicoms.dataset(
            rng.integers(0, 4096, (512, 512)).astype(np.uint16), (0, 0, 2.0 * k), InstanceNumber=k,
            BitsStored=12, HighBit=11, RescaleSlope=1, RescaleIntercept=-1024,
        )  # fmt: skip
        dicoms.save(ds, tmp_path / f"{k}.dcm")
    size, more = _in_a_process(EAGER, tmp_path)
    assert size == 80 * 512 * 512 * 2
    assert more <= 1.3 * size


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Pixel reads of DICOM files: (path, bytes)."""
    seen: list[tuple[str, int]] = []
    original = handles.Source.read_into

    def counted(self: handles.Source, at: int, target: memoryview) -> int:
        seen.append((self.path, len(target)))
        return original(self, at, target)

    monkeypatch.setattr(handles.Source, "read_into", counted)
    return seen


def test_a_lazy_series_reads_only_the_slice_looked_at(tmp_path: Path, reads: list[tuple[str, int]]) -> None:
    pixels = dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(6)])
    seq = ms.read(tmp_path, lazy=True)[0]
    assert reads == []
    assert np.array_equal(np.asarray(seq.data[2]), pixels[2])
    assert len({path for path, _ in reads}) == 1


def test_a_lazy_cine_decodes_only_the_frame_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_medseq.io.dicom import pixels as decoding

    frames = np.stack([dicoms.picture((32, 32), seed=k) for k in range(8)])
    ds = dicoms.dataset(frames, None, None, None, Modality="XA", FrameTime=40)
    ds.compress("1.2.840.10008.1.2.5")
    path = dicoms.save(ds, tmp_path / "cine")
    seen: list[int] = []
    original = decoding.FrameArray.fill

    def fill(self: decoding.FrameArray, t: int, z: int, out: np.ndarray) -> None:
        seen.append(t)
        original(self, t, z, out)

    monkeypatch.setattr(decoding.FrameArray, "fill", fill)
    with pytest.warns(ms.MedseqWarning):
        seq = ms.read(path, lazy=True)[0]
    assert np.array_equal(np.asarray(seq.data[5]), frames[5])
    assert seen == [5]


@needs_proc
@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_lazy_uncompressed_volumes_are_mapped_not_loaded(tmp_path: Path, ending: str) -> None:
    array = np.random.default_rng(0).integers(-999, 999, (400, 256, 256)).astype(np.int16)
    path = tmp_path / f"a{ending}"
    if ending == ".nii":
        nib.save(nib.Nifti1Image(array.T, np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path), False)
    total, more = _in_a_process(ONE_SLICE, path)
    expected = ms.read(path)[0]
    assert total == int(expected.data[200].sum())
    assert more < array.nbytes / 2


def test_the_table_of_attributes_is_pydicoms() -> None:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    for keyword, (tag, vr) in TAGS.items():
        assert tag == tag_for_keyword(keyword)
        assert vr == dictionary_VR(tag)


@pytest.mark.parametrize("implicit", [False, True])
def test_quick_headers_equal_pydicoms(tmp_path: Path, implicit: bool) -> None:
    from napari_medseq.io.dicom.elements import Elements
    from napari_medseq.io.dicom.values import value

    ds = dicoms.dataset(
        dicoms.picture(), WindowCenter=[40, 50], WindowWidth=[400, 500], EchoTime="4.25", InstanceNumber=7
    )
    ds.SequenceOfUltrasoundRegions = [dicoms.item(PhysicalDeltaX=0.5, RegionDataType=1)] * 2
    ds["SequenceOfUltrasoundRegions"].value[0].is_undefined_length_sequence_item = True
    ds["SequenceOfUltrasoundRegions"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1")
    dicoms.pydicom.dcmwrite(tmp_path / "a", ds, implicit_vr=implicit, little_endian=True)
    header, plain = parse(tmp_path / "a"), dicoms.pydicom.dcmread(tmp_path / "a")
    assert isinstance(header.ds, Elements)
    assert header.pixel_keyword == "PixelData"
    for keyword in TAGS:
        if keyword in plain and plain[keyword].VR != "SQ" and keyword != "PixelData":
            found, expected = value(header.ds, keyword), plain[keyword].value
            if isinstance(expected, (str, dicoms.pydicom.valuerep.PersonName)):
                assert (found or "") == str(expected), keyword
            elif all(isinstance(v, str) for v in np.atleast_1d(np.array(expected, object))):
                assert list(found) == list(expected), keyword
            else:
                assert np.allclose(np.array(found, float), np.array(expected, float)), keyword
    assert float(value(header.ds, "SequenceOfUltrasoundRegions")[0].PhysicalDeltaX) == 0.5


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha", ".dcm"])
def test_auto_is_lazy_for_what_is_big_and_never_for_labels(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_medseq.io.formats import raw

    frames = np.random.default_rng(0).integers(0, 9, (120, 8, 8)).astype(np.uint16)
    if ending == ".dcm":
        dicoms.save(dicoms.dataset(frames, None, None, None, Modality="XA", FrameTime=40), tmp_path / "a.dcm")
    else:
        image = sitk.GetImageFromArray(frames)
        for name in ("a", "a_seg"):
            sitk.WriteImage(image, str(tmp_path / f"{name}{ending}"), False)
    for big, expected in ((1 << 29, False), (1000, True), (1 << 16, ending == ".dcm")):  # the last: many frames
        monkeypatch.setattr(raw, "_BIG", big)
        with pytest.warns() if ending == ".dcm" else contextlib.nullcontext():
            assert ms.read(tmp_path / f"a{ending}", lazy="auto")[0].is_lazy == expected
        if ending != ".dcm":
            assert not ms.read(tmp_path / f"a_seg{ending}", lazy="auto")[0].is_lazy


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_auto_maps_a_large_plain_image_instead_of_copying_it(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_medseq.io.formats import raw

    monkeypatch.setattr(raw, "_MAPPED", 1 << 10)
    voxels = np.random.default_rng(0).integers(1, 99, (12, 10, 8)).astype(np.int16)
    for name in ("a", "a_seg"):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"{name}{ending}"), False)
    (plain,), (mapped,) = ms.read(tmp_path / f"a{ending}"), ms.read(tmp_path / f"a{ending}", lazy="auto")
    (labels,) = ms.read(tmp_path / f"a_seg{ending}", lazy="auto")
    assert not mapped.is_lazy
    assert [_is_mapped(seq.data) for seq in (plain, mapped, labels)] == [False, True, False]
    np.testing.assert_array_equal(mapped.data, plain.data)
    stored = (tmp_path / f"a{ending}").read_bytes()
    np.asarray(mapped.data)[:] = 0  # what is written into the array does not come into the file
    assert (tmp_path / f"a{ending}").read_bytes() == stored


def _is_mapped(array: Any) -> bool:
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array is not None
