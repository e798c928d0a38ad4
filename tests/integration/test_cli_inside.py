"""The commands explain and compress give what the API gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from tests.balls import AFFINES


def test_explain_writes_an_image_on_the_same_grid(
    ball_study: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz", tmp_path / "why.nii.gz"
    assert (
        cli.main(["explain", str(image), "-m", str(tiny_bundle), "-o", str(out), "--target", "lesion", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["written"] == str(out)
    written: Any = nib.load(out)
    np.testing.assert_allclose(written.affine, AFFINES[0], atol=1e-4)
    script = ms.explain(ms.read(image)[0], ms.load_model(tiny_bundle), target=1)
    again = ms.read(out)[0]
    np.testing.assert_allclose(np.asarray(again.data), np.asarray(script.data), atol=1e-6)
    assert cli.main(["explain", str(image), "-m", str(tiny_bundle), "-o", "why.png"]) == 1
    assert cli.main(["explain", str(image), "-m", str(tiny_bundle), "-o", str(out), "--target", "no-such"]) == 1


def test_compress_writes_a_smaller_bundle(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compress", str(tiny_bundle), "-o", str(tmp_path / "small"), "--set", "storage=int8", "--json"]
    assert cli.main(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["after"]["bytes"] < facts["before"]["bytes"]
    assert ms.load_model(tmp_path / "small").info.task == "segmentation"
    assert cli.main(["compress", str(tiny_bundle), "-o", str(tmp_path / "x"), "--set", "keep=7"]) == 1
    assert not (tmp_path / "x").exists()


def test_locate_tells_boxes_and_landmarks(
    ball_study: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(ball_study / "ses-20200131" / "sub-x_T1post.nii.gz")
    assert cli.main(["locate", image, "-m", str(tiny_bundle), "--least", "0.2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    script = ms.locate(ms.read(image)[0], ms.load_model(tiny_bundle), min_score=0.2)
    assert [f["score"] for f in facts["found"]] == pytest.approx([f.score for f in script.found])
    assert [f["box"] for f in facts["found"]] == [{a: list(b) for a, b in f.box.items()} for f in script.found]
    assert cli.main(["locate", image, "-m", str(tiny_bundle), "--least", "2"]) == 1


def test_export_says_what_it_cannot_write(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(tiny_bundle), "-o", "model.pickle"]) == 1
    assert "must end in .onnx or .pt2" in capsys.readouterr().err
