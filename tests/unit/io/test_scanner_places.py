"""Series that lack or disguise an attribute: places, directions, spacing and private blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from tests.unit.io import dicoms
from tests.unit.io.dicoms import item

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")


def test_slices_without_a_place_lie_by_their_location(tmp_path: Path) -> None:
    pixels = {}
    for k, z in enumerate((3, 0, 2, 1)):
        pixels[z] = dicoms.picture(seed=k)
        dicoms.save(dicoms.dataset(pixels[z], None, None, SliceLocation=-4.0 * z, InstanceNumber=k), tmp_path / str(k))
    with pytest.warns(ms.errors.ReadWarning, match="SliceLocation"):
        (seq,) = ms.read(tmp_path)
    assert not seq.oriented
    assert seq.spacing["z"] == 4.0
    assert np.array_equal(seq.data, [pixels[z] for z in (3, 2, 1, 0)])


def test_slices_without_directions_lie_by_their_positions(tmp_path: Path) -> None:
    pixels = {}
    for k, z in enumerate((3, 0, 2, 1)):
        pixels[z] = dicoms.picture(seed=k)
        dicoms.save(dicoms.dataset(pixels[z], (0, 3.0 * z, 4.0 * z), None, InstanceNumber=k), tmp_path / str(k))
    with pytest.warns(ms.errors.ReadWarning, match="by the positions"):
        (seq,) = ms.read(tmp_path)
    assert not seq.oriented
    assert seq.spacing["z"] == 5.0
    assert np.array_equal(seq.data, [pixels[z] for z in range(4)])


def test_an_ultrasound_volume_lies_in_the_world_of_the_probe(tmp_path: Path) -> None:
    pixels = np.stack([dicoms.picture(seed=k) for k in range(6)])
    ds = dicoms.dataset(pixels, None, None, None, Modality="US")
    ds.SharedFunctionalGroupsSequence = [dicoms.groups(
        PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.75], SliceThickness=1.0),
        PlaneOrientationVolumeSequence=item(ImageOrientationVolume=[1.0, 0, 0, 0, 1, 0]),
    )]  # fmt: skip
    ds.PerFrameFunctionalGroupsSequence = [
        dicoms.groups(
            PlanePositionVolumeSequence=item(ImagePositionVolume=[0.0, 0, 1.5 * (k % 3)]),
            TemporalPositionSequence=item(TemporalPositionTimeOffset=0.2 * (k // 3)),
        )
        for k in range(6)
    ]
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "us"))
    assert not seq.oriented
    assert seq.spacing == {"z": 1.5, "y": 0.5, "x": 0.75}
    assert np.array_equal(seq.data, pixels.reshape(2, 3, 6, 5))
    assert seq.times == pytest.approx([0, 0.2])


def test_an_enhanced_x_ray_run_is_time(tmp_path: Path) -> None:
    pixels = np.stack([dicoms.picture(seed=k) for k in range(3)])
    ds = dicoms.dataset(pixels, None, None, None, Modality="XA")
    ds.SharedFunctionalGroupsSequence = [dicoms.groups()]
    ds.PerFrameFunctionalGroupsSequence = [
        dicoms.groups(FrameContentSequence=item(FrameAcquisitionDateTime=f"20200131101500.{k}00000")) for k in range(3)
    ]
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "xa"))
    assert seq.axes == ("t", "y", "x")
    assert seq.times == pytest.approx([0, 0.1, 0.2])


def test_tiles_of_a_slide_are_refused(tmp_path: Path) -> None:
    pixels = np.stack([dicoms.picture(seed=k) for k in range(4)])
    ds = dicoms.dataset(pixels, None, None, None, Modality="SM", TotalPixelMatrixColumns=10, TotalPixelMatrixRows=12)
    with pytest.raises(ms.MedseqError, match="whole-slide"):
        ms.read(dicoms.save(ds, tmp_path / "slide"))


@pytest.mark.parametrize("vr", ["UT", "LT", "ST", "LO", "UN", "OB"])
@pytest.mark.parametrize("fast", [True, False])
def test_spacing_written_as_another_representation(tmp_path: Path, vr: str, fast: bool) -> None:
    """A 7T scanner writes PixelSpacing as unlimited text."""
    for k in range(3):
        ds = dicoms.dataset(dicoms.picture(seed=k), (0, 0, 2.5 * k), spacing=None)
        text = "0.5\\0.75"
        ds.add_new(0x00280030, vr, text.encode() + b" " * (len(text) % 2) if vr in ("UN", "OB") else text)
        if not fast:  # a preamble that is not there sends the file to pydicom
            ds.preamble = None
        path = tmp_path / f"{k}.dcm"
        dicoms.save(ds, path) if fast else ds.save_as(path)
    (seq,) = ms.read(tmp_path)
    assert seq.spacing == pytest.approx({"z": 2.5, "y": 0.5, "x": 0.75})


@pytest.mark.parametrize("block", [0x10, 0x11, 0x1F])
@pytest.mark.parametrize("vr", ["SS", "US", "IS", "UN"])
def test_complex_parts_are_told_apart_in_any_private_block(tmp_path: Path, block: int, vr: str) -> None:
    """GE: two kinds of parts under one series; the block is the one that its creator names."""
    for kind in (2, 3):
        for t in range(2):
            for z in range(3):
                ds = dicoms.dataset(
                    dicoms.picture(seed=100 * kind + 10 * t + z), (0, 0, 3.0 * z), Modality="MR", Manufacturer="GE MEDICAL SYSTEMS",
                    InstanceNumber=12 * kind + 3 * t + z, TemporalPositionIdentifier=t + 1,
                )  # fmt: skip
                ds.add_new(0x00430000 | block, "LO", "GEMS_PARM_01")
                value = kind.to_bytes(2, "little") if vr == "UN" else kind
                ds.add_new(0x00430000 | block << 8 | 0x2F, vr, value)
                dicoms.save(ds, tmp_path / f"{kind}{t}{z}.dcm")
    found = ms.read(tmp_path)
    assert sorted(s.name for s in found) == ["Head_imaginary", "Head_real"]
    assert [s.sizes["t"] for s in found] == [2, 2]
