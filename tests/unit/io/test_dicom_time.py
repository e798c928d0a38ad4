"""DICOM in time: repeated positions become frames, ordered and timed by what the headers say."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import ReadWarning
from tests.unit.io import dicoms
from tests.unit.io.dicoms import groups, item

POSITIONS = [(0.0, 0, 2.5 * z) for z in range(3)]


def _dynamic(folder: Path, each: Any, frames: int = 4) -> np.ndarray:
    """Frames × slices; returns pixels (t, z, y, x)."""
    pixels = []
    for t in range(frames):
        pixels.append(
            dicoms.series(
                folder / str((7 * t) % frames),
                POSITIONS,
                seed=t,
                each=lambda z, t=t: {"InstanceNumber": 9, **each(t, z)},
            )
        )
    return np.array(pixels)


#: what each slice (t, z) says, and the seconds between frames that follow from it
CLOCKS: dict[str, Any] = {
    "temporal position": (
        lambda t, _: {"TemporalPositionIdentifier": t + 1, "AcquisitionTime": f"1000{2 * t:02d}.5"},
        2.0,
    ),
    "trigger time": (lambda t, _: {"TriggerTime": 40.0 * t + 3}, 0.04),
    "acquisition time": (lambda t, z: {"AcquisitionTime": f"1000{3 * t:02d}.{z}00"}, 3.0),
    "acquisition date and time": (lambda t, _: {"AcquisitionDateTime": f"20200131100{t}00"}, 60.0),
    "frame reference time": (lambda t, _: {"FrameReferenceTime": 5000.0 * t}, 5.0),
    "content time": (lambda t, _: {"ContentDate": "20200131", "ContentTime": f"1000{t:02d}"}, 1.0),
    "repetition": (lambda t, z: {"InstanceNumber": 1 + z + 3 * t, "RepetitionTime": 2500.0}, 2.5),
    "nothing": (lambda t, z: {"InstanceNumber": 1 + z + 3 * t}, 1.0),
}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_frames_are_found_and_timed(tmp_path: Path, clock: str) -> None:
    each, step = CLOCKS[clock]
    pixels = _dynamic(tmp_path, each)
    (seq,) = ms.read(tmp_path)
    assert seq.axes == ("t", "z", "y", "x")
    assert np.array_equal(seq.data, pixels)
    assert seq.times == pytest.approx(np.arange(4) * step)
    assert bool(seq.warnings) == (clock in ("repetition", "nothing"))


def test_an_unfinished_last_volume_is_left_out_and_said(tmp_path: Path) -> None:
    pixels = _dynamic(
        tmp_path,
        lambda t, z: {"InstanceNumber": 1 + z + 3 * t, "TemporalPositionIdentifier": t + 1, "TriggerTime": 40.0 * t},
    )
    last = next(
        p
        for p in sorted((tmp_path / str(21 % 4)).iterdir())
        if dicoms.pydicom.dcmread(p).ImagePositionPatient[2] == 5.0
    )
    last.unlink()
    with pytest.warns(ReadWarning, match="complete volumes"):
        (seq,) = ms.read(tmp_path)
    assert np.array_equal(seq.data, pixels[:3])


def test_diffusion_stays_one_sequence_with_its_b_values(tmp_path: Path) -> None:
    _dynamic(tmp_path, lambda t, _: {"DiffusionBValue": 0.0 if t == 0 else 1000.0, "AcquisitionTime": f"1000{t:02d}"})
    (seq,) = ms.read(tmp_path)
    assert seq.meta["b_values"] == [0, 1000, 1000, 1000]


def _cine(path: Path, **more: Any) -> np.ndarray:
    pixels = np.stack([dicoms.picture(seed=k) for k in range(4)])
    dicoms.save(dicoms.dataset(pixels, None, None, None, Modality="US", **more), path)
    return pixels


@pytest.mark.parametrize(
    ("more", "times"),
    [({"FrameTime": 33.0}, [0, 0.033, 0.066, 0.099]), ({"FrameTimeVector": [0, 10, 30, 20]}, [0, 0.01, 0.04, 0.06]),
     ({"CineRate": 25}, [0, 0.04, 0.08, 0.12])],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::napari_medseq.errors.ReadWarning")
def test_a_cine_gets_its_frame_times(tmp_path: Path, more: dict[str, Any], times: list[float]) -> None:
    pixels = _cine(tmp_path / "cine", **more)
    (seq,) = ms.read(tmp_path / "cine")
    assert (seq.axes, seq.oriented) == (("t", "y", "x"), False)
    assert np.array_equal(seq.data, pixels)
    assert seq.times == pytest.approx(times)


def _enhanced(
    path: Path, frames: list[dict[str, Any]], shared: dict[str, Any] | None = None, **more: Any
) -> np.ndarray:
    pixels = np.stack([dicoms.picture(seed=k) for k in range(len(frames))])
    ds = dicoms.dataset(pixels, None, None, None, SliceThickness=None, **more)
    ds.SharedFunctionalGroupsSequence = [
        groups(
            PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.75], SliceThickness=2.5),
            PlaneOrientationSequence=item(ImageOrientationPatient=list(dicoms.AXIAL)),
            **(shared or {}),
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [groups(**f) for f in frames]
    dicoms.save(ds, path)
    return pixels


def _at(z: int, **more: Any) -> dict[str, Any]:
    return {"PlanePositionSequence": item(ImagePositionPatient=list(POSITIONS[z])), **more}


def test_enhanced_frames_are_placed_by_their_groups(tmp_path: Path) -> None:
    order = [2, 0, 1]
    pixels = _enhanced(tmp_path / "e", [_at(z) for z in order])
    (seq,) = ms.read(tmp_path / "e")
    assert np.array_equal(seq.data, pixels[np.argsort(order)])
    assert seq.spacing == {"z": 2.5, "y": 0.5, "x": 0.75}


def test_enhanced_time_and_rescale_per_frame(tmp_path: Path) -> None:
    frames = [
        _at(
            z, FrameContentSequence=item(TemporalPositionIndex=t + 1, FrameAcquisitionDateTime=f"202001311000{5 * t:02d}"),
            PixelValueTransformationSequence=item(RescaleSlope=t + 1.0, RescaleIntercept=0.5, RescaleType="US"),
        )
        for t in (1, 0) for z in range(3)
    ]  # fmt: skip
    pixels = _enhanced(tmp_path / "e", frames).astype(np.float32)
    (seq,) = ms.read(tmp_path / "e")
    assert seq.times == pytest.approx([0, 5])
    assert np.allclose(seq.data[0], pixels[3:] + 0.5)
    assert np.allclose(seq.data[1], pixels[:3] * 2 + 0.5)


def test_moments_are_in_the_local_time_of_the_file(tmp_path: Path) -> None:
    frames = [_at(z, FrameContentSequence=item(FrameAcquisitionDateTime="20200201033000+0000")) for z in range(3)]
    _enhanced(tmp_path / "e", frames, TimezoneOffsetFromUTC="-0500")
    (seq,) = ms.read(tmp_path / "e")
    assert seq.acquired == datetime(2020, 1, 31, 22, 30)  # the day of the visit is the patient's


def test_enhanced_echoes_are_two_images(tmp_path: Path) -> None:
    frames = [_at(z, MREchoSequence=item(EffectiveEchoTime=te)) for te in (2.0, 4.0) for z in range(3)]
    _enhanced(tmp_path / "e", frames)
    assert [s.size("z") for s in ms.read(tmp_path / "e")] == [3, 3]


def test_more_frames_announced_than_described(tmp_path: Path) -> None:
    ds_frames = [_at(z) for z in range(3)]
    _enhanced(tmp_path / "e", ds_frames)
    ds = dicoms.pydicom.dcmread(tmp_path / "e")
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:2]
    dicoms.save(ds, tmp_path / "e")
    with pytest.warns(ReadWarning, match="only 2 are described"):
        (seq,) = ms.read(tmp_path / "e")
    assert seq.size("z") == 2


def test_a_dose_grid_lies_on_its_offsets(tmp_path: Path) -> None:
    pixels = np.stack([dicoms.picture(seed=k) for k in range(3)])
    ds = dicoms.dataset(
        pixels, Modality="RTDOSE", GridFrameOffsetVector=[0, 4, 8], DoseGridScaling=0.25, SliceThickness=None
    )
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "dose"))
    assert seq.spacing["z"] == 4
    assert np.allclose(seq.data, pixels * 0.25)


def test_a_tomogram_lies_on_its_detector(tmp_path: Path) -> None:
    pixels = np.stack([dicoms.picture(seed=k) for k in range(3)])
    ds = dicoms.dataset(
        pixels, None, None, Modality="NM", ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], SpacingBetweenSlices=4.0,
        DetectorInformationSequence=[item(ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=list(dicoms.AXIAL))],
    )  # fmt: skip
    (seq,) = ms.read(dicoms.save(ds, tmp_path / "nm"))
    assert seq.sizes == {"z": 3, "y": 6, "x": 5}
    assert dicoms.value_at(seq, (1, 2, 11)) == pixels[2, 0, 0]
