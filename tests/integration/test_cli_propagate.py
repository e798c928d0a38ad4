"""`napari-medseq propagate`: files in, the same labels as the verb out, one line when the input is bad."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.sequence import ImageSequence, affine_from
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
