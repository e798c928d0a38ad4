"""`napari-medseq propagate`: files in, the same labels as the verb out, one line when the input is bad."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.io import dicoms
from tests.unit.models.prompted import prompted_model


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Image, painted labels and model."""
    mask = np.zeros((9, 32, 32), bool)
    mask[1:8, 8:22, 8:20] = True
    noise = np.random.default_rng(0).normal(0, 0.2, mask.shape)
    image = ImageSequence((mask * 3 + noise).astype(np.float32), ("z", "y", "x"), affine_from((1, 1, 2)), name="scan")
    drawn = np.zeros(mask.shape, np.uint8)
    drawn[[2, 6]] = mask[[2, 6]]
    labels = image.labels_like(drawn, name="painted", label_names={1: "object"})
    prompted_model(tmp_path / "model")
    return ms.write(image, tmp_path / "scan.nii.gz"), ms.write(labels, tmp_path / "p_labels.nii.gz"), tmp_path / "model"


def test_it_writes_what_the_verb_gives(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    image, painted, model = files
    out = image.with_name("out_labels.nii.gz")
    options = ["-o", str(out), "-m", str(model), "--annotated", "0,8", "--steps", "2-5", "--json"]
    assert cli.main(["propagate", str(image), str(painted), *options]) == 0
    facts = json.loads(capsys.readouterr().out)
    expected = ms.propagate(ms.read(image)[0], ms.read(painted)[0], model, annotated=[0, 8], steps=range(2, 6))
    assert np.array_equal(ms.read(out)[0].data, expected.labels.data)
    assert (facts["axis"], facts["next_step"]) == ("z", expected.next_step)
    assert facts["volume_ml"] == {"object": pytest.approx(np.count_nonzero(expected.labels.data) * 2 / 1000)}


def test_volumes_of_a_series_are_those_of_a_frame(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image, painted, model = files
    whole = ms.read(image)[0].data > 1.5
    frames = [np.asarray(ms.read(path)[0].data) for path in (image, painted)]
    series = ImageSequence(
        np.stack([frames[0]] * 4), ("t", "z", "y", "x"), affine_from((1, 1, 2)), times=np.arange(4.0), name="cine"
    )
    drawn = series.labels_like(
        np.stack([whole.astype(np.uint8), *[np.zeros_like(frames[1])] * 3]), name="d", label_names={1: "object"}
    )
    paths = [ms.write(series, image.with_name("cine.nii.gz")), ms.write(drawn, image.with_name("d_labels.nii.gz"))]
    out = image.with_name("cine_labels.nii.gz")
    assert cli.main(["propagate", *map(str, paths), "-o", str(out), "-m", str(model), "--axis", "t"]) == 0
    told = capsys.readouterr().out
    ml = np.count_nonzero(ms.read(out)[0].data) * 2 / 1000 / 4
    assert f"object: {ml:.2f} mL (mean of 4 frames)" in told
    (step, shown) = re.findall(r"check frame (\d) along t next, counted from 0 \(napari shows it as (\d)\)", told)[0]
    assert int(shown) == int(step) + 1


@pytest.mark.parametrize("format", ["seg", "rtstruct"])
def test_prompts_may_be_a_segmentation_or_structures_drawn_on_the_series(
    files: tuple[Path, Path, Path], tmp_path: Path, format: Any
) -> None:
    for z in range(9):
        pixels = np.random.default_rng(z).integers(0, 100, (32, 32)).astype(np.uint16)
        dicoms.save(dicoms.dataset(pixels, (0, 0, 2.5 * z), InstanceNumber=z + 1), tmp_path / f"series/{z}.dcm")
    (image,) = ms.read(tmp_path / "series")
    mask = np.zeros(image.data.shape, np.uint8)
    mask[[2, 4, 6], 8:20, 8:22] = 1
    drawn = image.labels_like(mask, name="drawn", label_names={1: "object"})
    painted = ms.write(
        drawn, tmp_path / "structures" / "of" / "drawn.dcm", reference=tmp_path / "series", format=format
    )
    out = tmp_path / "out_labels.nii.gz"
    options = ["-o", str(out), "-m", str(files[2])]
    assert cli.main(["propagate", str(tmp_path / "series"), str(painted), *options]) == 0
    (answer,) = ms.read(out)
    assert answer.same_grid(image)
    assert (np.asarray(answer.data)[4] == mask[4]).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--steps", "3-x"], "not a list of steps"),
        (["--annotated", "77"], "steps 0 to 8"),
        (["-m", "nothing"], "no model"),
    ],
)
def test_bad_input_is_one_line(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    image, painted, model = files
    arguments = ["propagate", str(image), str(painted), "-o", str(image.with_name("o.nii")), "-m", str(model), *options]
    assert cli.main(arguments) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert text in told[0]


def test_a_file_that_cannot_be_written_is_named_first(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["propagate", str(files[0]), str(files[1]), "-o", "out.png"]) == 1
    assert "out.png" in capsys.readouterr().err


def test_labels_of_a_stack_without_millimetres_lie_on_its_image(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import tifffile

    image, painted, model = files
    scan, drawn = (np.asarray(ms.read(path)[0].data) for path in (image, painted))
    stack, masks, out = (image.with_name(name) for name in ("scan.tif", "masks.tif", "out_labels.nii.gz"))
    tifffile.imwrite(
        stack,
        (1000 + 1000 * scan).astype(np.uint16),
        imagej=True,
        resolution=(2, 2),
        metadata={"spacing": 2, "unit": "mm", "axes": "ZYX"},
    )
    tifffile.imwrite(masks, drawn)
    assert cli.main(["propagate", str(stack), str(masks), "-o", str(out), "-m", str(model)]) == 0
    assert tuple(ms.read(out)[0].spacing.values()) == (2, 0.5, 0.5)
    capsys.readouterr()
    assert cli.main(["propagate", str(image), str(masks), "-o", str(out), "-m", str(model)]) == 1
    assert "masks does not say where its voxels lie in space" in capsys.readouterr().err


def test_of_labels_without_frames_the_frame_is_said(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image, painted, model = files
    scan, drawn = ms.read(image)[0], ms.read(painted)[0]
    cine = scan.replace(data=np.stack([scan.data] * 3), axes=("t", *scan.axes), times=np.arange(3.0))
    path, out = ms.write(cine, image.with_name("cine.nii.gz")), image.with_name("out_labels.nii.gz")
    command = ["propagate", str(path), str(painted), "-o", str(out), "-m", str(model)]
    assert cli.main([*command, "--frame", "1"]) == 0
    found = ms.read(out)[0]
    assert np.array_equal(found.frame(1).data[[2, 6]], drawn.data[[2, 6]])
    assert not np.asarray(found.frame(0).data).any()
    capsys.readouterr()
    for options, said in (
        ([], "holds the labels of one frame, and cine has 3 of them; say with --frame on which they were drawn"),
        (["--frame", "3"], "--frame 3 is not there; say on which they were drawn, from 0 to 2"),
    ):
        assert cli.main([*command, *options]) == 1
        assert said in " ".join(capsys.readouterr().err.split())
    assert cli.main(["propagate", str(image), *command[2:], "--frame", "0"]) == 1
    assert "scan has no frames" in capsys.readouterr().err
