"""When frames begin: BIDS JSON beside a file, steps that cannot be true, and clocks that pass midnight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import ReadWarning
from tests.narrowing import some
from tests.unit.io import dicoms


def _four(path: Path, step: float | None = None, unit: str | None = None, frames: int = 4, **beside: Any) -> Path:
    image = nib.Nifti1Image(np.arange(24 * frames, dtype=np.int16).reshape(2, 3, 4, frames), np.eye(4))
    if step is not None:
        image.header["pixdim"][4] = step
    if unit is not None:
        image.header.set_xyzt_units("mm", unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    if beside:
        (path.parent / (path.name.split(".")[0] + ".json")).write_text(json.dumps(beside))
    return path


@pytest.mark.parametrize(
    ("beside", "times"),
    [
        ({"FrameTimesStart": [0, 10, 30, 90]}, [0, 10, 30, 90]),
        ({"FrameTimesStart": [5, 15, 35, 95], "FrameDuration": [10, 20, 60, 60]}, [0, 10, 30, 90]),
        ({"FrameDuration": [10, 20, 60, 60]}, [0, 10, 30, 90]),
        ({"VolumeTiming": [0, 1.5, 3.5, 9]}, [0, 1.5, 3.5, 9]),
        ({"RepetitionTime": 2.5}, [0, 2.5, 5, 7.5]),
        ({"RepetitionTime": 0.72, "VolumeTiming": [0, 2, 4, 5]}, [0, 2, 4, 5]),
        ({"FrameTimesStart": [0, 6e5, 12e5, 54e6]}, [0, 600, 1200, 54000]),
    ],
)
@pytest.mark.parametrize("step", [0.0, 1.0])
def test_the_json_beside_a_file_says_when_frames_begin(
    tmp_path: Path, beside: dict[str, Any], times: list[float], step: float
) -> None:
    seq = ms.read(_four(tmp_path / "a.nii.gz", step, **beside))[0]
    np.testing.assert_allclose(some(seq.times), times)


@pytest.mark.parametrize(
    "beside",
    [
        {"FrameTimesStart": [0, 1]},
        {"VolumeTiming": [0, 3, 2, 4]},
        {"FrameDuration": [1, 0, 1, 1]},
        {"FrameTimesStart": "x"},
    ],
)
def test_a_json_that_does_not_fit_is_said(tmp_path: Path, beside: dict[str, Any]) -> None:
    path = _four(tmp_path / "a.nii.gz", 3.0, "sec", **beside)
    with pytest.warns(ReadWarning, match="in the JSON beside the file does not give"):
        np.testing.assert_allclose(some(ms.read(path)[0].times), [0, 3, 6, 9])


def test_a_json_against_the_header_wins_and_is_said(tmp_path: Path) -> None:
    path = _four(tmp_path / "a.nii.gz", 2000.0, "sec", RepetitionTime=2.0)
    with pytest.warns(ReadWarning, match="the JSON is used"):
        np.testing.assert_allclose(some(ms.read(path)[0].times), [0, 2, 4, 6])


def test_the_time_of_an_excitation_is_not_that_of_a_volume(tmp_path: Path) -> None:
    path = _four(tmp_path / "a.nii.gz", 6.5, "sec", RepetitionTime=0.0046)
    np.testing.assert_allclose(some(ms.read(path)[0].times), [0, 6.5, 13, 19.5])


def test_json_is_inherited_from_folders_above(tmp_path: Path) -> None:
    path = _four(tmp_path / "sub-1" / "func" / "sub-1_task-rest_bold.nii.gz", 1.0)
    (tmp_path / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 1.7}))
    (tmp_path / "task-other_bold.json").write_text(json.dumps({"RepetitionTime": 9}))
    np.testing.assert_allclose(some(ms.read(path)[0].times), np.arange(4) * 1.7)


@pytest.mark.parametrize(
    ("step", "unit", "doubted"),
    [
        (2000.0, "sec", True), (2000.0, None, True), (2000.0, "msec", False), (2.0, "sec", False), (2.0, "msec", True),
        (400.0, "sec", True), (60.0, "sec", False), (0.03, "sec", False), (300.0, None, False),
    ],
)  # fmt: skip
def test_steps_that_cannot_be_true_are_doubted(tmp_path: Path, step: float, unit: str | None, doubted: bool) -> None:
    seq = ms.read(_four(tmp_path / "a.nii.gz", step, unit, frames=60 if step in (400.0, 60.0) else 4))[0]
    assert any("The header says that frames are" in w for w in seq.warnings) is doubted
    assert seq.times is not None
    assert seq.times[1] == pytest.approx(step * (1e-3 if unit == "msec" else 1))


CLOCK = ["235958", "235959.5", "000001", "000002.5"]
SECONDS = [0, 1.5, 3, 4.5]


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize(
    "facts",
    [
        {"StudyDate": "20200131"},
        {"StudyDate": None},
        {"StudyDate": "20200131", "AcquisitionDate": "20200131"},
    ],
    ids=["study date", "no date", "one date"],
)
@pytest.mark.parametrize("clock", ["AcquisitionTime", "ContentTime"])
def test_frames_that_pass_midnight_stay_in_order(
    tmp_path: Path, facts: dict[str, Any], clock: str, numbered: bool
) -> None:
    if "AcquisitionDate" in facts and not numbered:
        pytest.skip("a date, and no number to contradict it")
    pixels = []
    for t, at in enumerate(CLOCK):
        more = {clock: at, "InstanceNumber": t + 1 if numbered else None, **facts}
        if clock == "ContentTime" and "AcquisitionDate" in facts:
            more["ContentDate"] = facts["AcquisitionDate"]
        pixels.append(dicoms.series(tmp_path, [(0, 0, 2.5 * k) for k in range(3)], seed=t, **more))
    with pytest.warns(ReadWarning, match="pass midnight"):
        seq = ms.read(tmp_path)[0]
    assert seq.times is not None
    np.testing.assert_allclose(seq.times, SECONDS)
    for t in range(4):
        want = sorted(int(p.sum()) for p in pixels[t])
        assert sorted(np.asarray(seq.frame(t).data, dtype=int).sum(axis=(1, 2))) == want


def test_true_dates_and_long_days_are_left_alone(tmp_path: Path) -> None:
    for t, (day, at) in enumerate((("20200131", "235958"), ("20200201", "000001"))):
        dicoms.series(
            tmp_path / "a", [(0, 0, 2.5 * k) for k in range(3)], seed=t, AcquisitionDate=day, AcquisitionTime=at
        )
    seq = ms.read(tmp_path / "a")[0]
    np.testing.assert_allclose(some(seq.times), [0, 3])
    for t, at in enumerate(("080000", "210000")):
        each = lambda k, t=t: {"InstanceNumber": 3 * t + k + 1}  # noqa: E731
        dicoms.series(tmp_path / "b", [(0, 0, 2.5 * k) for k in range(3)], seed=t, AcquisitionTime=at, each=each)
    np.testing.assert_allclose(some(ms.read(tmp_path / "b")[0].times), [0, 13 * 3600])
