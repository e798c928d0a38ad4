"""Numbered pictures of one size in a folder are one sequence, frames or slices: in scripts, in studies and on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_medseq as ms
from napari_medseq.cli import main
from napari_medseq.errors import ReadError, ReadWarning
from napari_medseq.io.numbered_pictures import stack_frames

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
NUMBERS = (1, 3, 4, 10)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four grey frames of 6 × 8 pixels, and a mask for each."""
    for n in NUMBERS:
        for kind, array in (("frames", np.full((6, 8), 10 * n, np.uint8)), ("labels", np.eye(6, 8, n % 3, np.uint8))):
            (tmp_path / "seq" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "seq" / kind / f"{n}.png")
    return tmp_path / "seq"


def test_a_study_of_frames_is_one_visit_with_images_and_labels(video: Path) -> None:
    with pytest.warns(ReadWarning, match="taken for frames of one sequence"):
        study = ms.read_study(video)
    (visit,) = study.visits
    (frames,), (labels,) = visit.images, visit.labels
    assert (study.name, visit.name, visit.date, frames.name, labels.name) == ("seq", "seq", None, "frames", "labels")
    assert (frames.axes, frames.data[:, 0, 0].tolist()) == (("t", "y", "x"), [10 * n for n in NUMBERS])
    assert frames.times is not None
    assert frames.times.tolist() == [0, 2, 3, 9]
    assert [int(np.argmax(mask[0])) for mask in labels.data] == [n % 3 for n in NUMBERS]


def test_scripts_and_the_command_line_see_the_same_sequence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames,) = ms.read(video / "frames")
    assert main(["info", str(video), "--json"]) in (0, None)
    first, second = json.loads(capsys.readouterr().out)["series"]
    assert (first["name"], first["frames"], first["shape"], second["name"]) == ("frames", 4, [8, 6, 1, 4], "labels")
    assert "taken for frames" in first["warnings"][-1]
    assert main(["convert", str(video / "frames"), "-o", str(tmp_path / "frames.nii.gz")]) in (0, None)
    (converted,) = ms.read(tmp_path / "frames.nii.gz", kind="image")
    assert np.array_equal(np.squeeze(converted.data), frames.data)


def test_pictures_of_visits_are_frames_of_each_visit(video: Path, tmp_path: Path) -> None:
    for day in ("2020-01-31", "2020-05-04"):
        shutil.copytree(video / "frames", tmp_path / "patient" / day)
    study = ms.read_study(tmp_path / "patient")
    shapes = [(str(v.date), v.images[0].data.shape) for v in study.visits]
    assert shapes == [("2020-01-31", (4, 6, 8)), ("2020-05-04", (4, 6, 8))]


def test_pictures_of_different_size_are_no_frames(video: Path) -> None:
    one, other = (ms.read(video / "frames" / f"{n}.png")[0] for n in NUMBERS[:2])
    with pytest.raises(ReadError, match="cannot be a frame beside"):
        stack_frames([one, other.replace(data=other.data[:3])], [0, 1], "frames")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Four grey TIFF slices of 6 × 8 pixels of 0.5 mm, as a micro-CT writes them."""
    for n in range(4):
        picture = np.full((6, 8), 10 * n, np.uint16)
        tifffile.imwrite(
            tmp_path / f"rec_{n:04d}.tif", picture, imagej=True, resolution=(2, 2), metadata={"unit": "mm"}
        )
    return tmp_path


def test_numbered_grey_tiffs_are_the_slices_of_a_volume(scan: Path) -> None:
    with pytest.warns(ReadWarning, match="taken for slices of one volume"):
        (volume,) = ms.read(scan)
    assert (volume.name, volume.axes, volume.data[:, 0, 0].tolist()) == (scan.name, ("z", "y", "x"), [0, 10, 20, 30])
    assert np.allclose([volume.spacing[a] for a in "zyx"], 0.5)
    (facts,) = ms.info(scan)["series"]
    assert (facts["shape"], facts["spacing_mm"], facts.get("frames")) == ([8, 6, 4], [0.5, 0.5, 0.5], None)
    (visit,) = ms.read_study(scan).visits
    assert [image.axes for image in visit.images] == [("z", "y", "x")]


def test_where_a_slice_is_missing_or_has_colours_each_picture_is_an_image(scan: Path, tmp_path: Path) -> None:
    (scan / "rec_0002.tif").unlink()
    assert [image.axes for image in ms.read(scan)] == [("y", "x")] * 3
    colours = tmp_path / "colours"
    colours.mkdir()
    for n in range(3):
        tifffile.imwrite(colours / f"{n}.tif", np.full((6, 8, 3), (n, 2, 3), np.uint8), photometric="rgb")
    assert len(ms.read(colours)) == 3
    assert len(ms.info(colours)["series"]) == 3
    for n in range(3):  # the same in grey, which is stored as colours
        tifffile.imwrite(colours / f"{n}.tif", np.full((6, 8, 3), n, np.uint8), photometric="rgb")
    assert [image.axes for image in ms.read(colours)] == [("z", "y", "x")]
    assert [facts["shape"] for facts in ms.info(colours)["series"]] == [[8, 6, 3]]


def test_a_black_frame_of_a_film_in_colour_is_a_frame_of_it(tmp_path: Path) -> None:
    for n in range(5):
        frame = np.full((6, 8, 3), (0, 0, 0) if n in (0, 3) else (200, 20 * n, 10), np.uint8)
        Image.fromarray(frame).save(tmp_path / f"{n}.png")
    (film,) = ms.read(tmp_path)
    assert film.axes == ("t", "y", "x", "c")
    assert film.data[:, 0, 0, 0].tolist() == [0, 200, 200, 0, 200]
    assert [facts["frames"] for facts in ms.info(tmp_path)["series"]] == [5]


@pytest.mark.parametrize(
    ("names", "visits"),
    [
        (("P1_20200131", "P1_20200402", "P1_20200901"), ["ses-20200131", "ses-20200402", "ses-20200901"]),
        (("2020-01-05", "2020-01-12", "2020-01-19"), ["ses-20200105", "ses-20200112", "ses-20200119"]),
        (("P1_month6", "P1_month12", "P1_month18"), ["month6", "month12", "month18"]),
    ],
)
def test_pictures_numbered_by_day_or_visit_are_no_frames(
    tmp_path: Path, names: tuple[str, ...], visits: list[str]
) -> None:
    for name in names:
        Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    assert [v.name for v in ms.read_study(tmp_path).visits] == visits
    assert sorted(s.name for s in ms.read(tmp_path)) == sorted(names)


def test_frames_of_one_day_are_frames(tmp_path: Path) -> None:
    for n in NUMBERS:
        Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(tmp_path / f"P1_20200131_visit2_{n:04d}.png")
    (seq,) = ms.read(tmp_path)
    assert seq.size("t") == len(NUMBERS)
