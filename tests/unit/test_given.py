"""What people hand over instead of an image: each verb says what it is, and how to make an image of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import napari_medseq as ms
from napari_medseq.errors import DeviceError, MedseqError
from napari_medseq.inference.resources import devices

ARRAY = np.zeros((3, 4, 5), np.float32)
IMAGE = ms.ImageSequence(ARRAY, ("z", "y", "x"), np.eye(4))
VISIT = ms.Visit(None, (IMAGE,))

VERBS: dict[str, Callable[[Any], object]] = {
    "write": lambda x: ms.write(x, "never.nii.gz"),
    "preprocess": lambda x: ms.preprocess(x, "zscore"),
    "preprocess by": lambda x: ms.preprocess(IMAGE, {"kind": "resample"}, reference=x),
    "register": lambda x: ms.register(x, IMAGE),
    "register to": lambda x: ms.register(IMAGE, x),
    "teach": lambda x: ms.teach(x, IMAGE, {"out": "never"}),
    "teach by": lambda x: ms.teach(IMAGE, x, {"out": "never"}),
    "retest": lambda x: ms.retest(x, "brain-tumor"),
    "segment": lambda x: ms.segment(x, "brain-tumor"),
    "classify": lambda x: ms.classify(x, "brain-tumor-slices"),
    "propagate": lambda x: ms.propagate(x, IMAGE),
}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (ARRAY, r"is ndarray; .*: ms\.ImageSequence\(array, axes, affine\)"),
        (nib.Nifti1Image(ARRAY, np.eye(4)), r"is Nifti1Image; .*: ms\.read\(path\)\[0\] of its file"),
        (sitk.GetImageFromArray(ARRAY), r"is Image; .*: ms\.read\(path\)\[0\] of its file"),
        ("scan.nii.gz", r"is str; .*: ms\.read\(path\)\[0\]"),
        ([Path("scan.nii.gz")], r"is list of PosixPath; .*: ms\.read\(path\)\[0\]|is list of WindowsPath"),
        ([IMAGE], "is list of ImageSequence; .*, not several"),
        (VISIT, r"is Visit; .*: visit\.images\[0\]"),
        (ms.Study("x", (VISIT,)), r"is Study; .*study\.visits\[0\]\.images\[0\]"),
        (3, "is int; give an ImageSequence"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_image_is_named_with_the_way_out(
    verb: str, given: object, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MedseqError, match=says):
        VERBS[verb](given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [ms.read, ms.info, ms.read_study, lambda x: ms.run(x, "brain-tumor")])
@pytest.mark.parametrize("given", [None, 3, [3], [IMAGE]])
def test_what_is_no_path_is_named(verb: Callable[[Any], object], given: object) -> None:
    with pytest.raises(
        MedseqError, match=r"(NoneType|int|ImageSequence).* is (not a path|neither a Study nor a folder)"
    ):
        verb(given)


def test_voxels_of_a_tensor_become_an_array() -> None:
    torch = pytest.importorskip("torch")
    image = ms.ImageSequence(torch.ones((3, 4, 5), dtype=torch.int16), ("z", "y", "x"), np.eye(4))
    assert isinstance(image.data, np.ndarray)
    assert image.data.dtype == np.int16


def test_a_device_may_be_torchs_own_or_none() -> None:
    torch = pytest.importorskip("torch")
    assert devices.choose(torch.device("cpu"))[0] == torch.device("cpu")
    assert devices.choose(None) == devices.choose("auto")
    assert not devices.is_remote(torch.device("cpu"))
    with pytest.raises(DeviceError, match="is not a device"):
        devices.choose(2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mgz"])
def test_an_image_that_is_not_read_yet_can_be_sent_to_another_process(ending: str, tmp_path: Path) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = tmp_path / f"scan{ending}"
    if ending == ".mgz":
        nib.save(nib.MGHImage(voxels.astype(np.int32), np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), ending != ".nii")
    (image,) = ms.read(path, lazy=True)
    sent = pickle.dumps(image)
    assert image.is_lazy
    again = pickle.loads(sent)
    np.testing.assert_array_equal(np.asarray(again.data), np.asarray(image.data))
    assert np.asarray(again.data).sum() == voxels.sum()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.npy", "ms.ImageSequence"),
        ("a.PAR", "dcm2niix"),
        ("a.vtk", "convert it to one of them"),
        ("a.nii.gz", "again"),
    ],
)
def test_a_file_that_is_not_read_is_refused_with_the_way_out(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"# nothing that is known")
    with pytest.raises(MedseqError, match=says):
        ms.read(tmp_path / name)
