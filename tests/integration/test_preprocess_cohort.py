"""A recipe on a folder of patients, from a script and from the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import napari_medseq as ms
from napari_medseq.cli import main
from napari_medseq.cohort import preprocess_cohort
from napari_medseq.errors import SettingsError
from napari_medseq.preprocessing import save
from napari_medseq.preprocessing.pipeline import StepLike

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


@pytest.fixture
def patients(ball_study: Path, tmp_path: Path) -> Path:
    """Two patients, and a folder that holds nothing."""
    for name in ("sub-a", "sub-b"):
        shutil.copytree(ball_study, tmp_path / "studies" / name)
    (tmp_path / "studies" / "sub-c").mkdir()
    return tmp_path / "studies"


def test_every_image_is_as_a_script_makes_it_and_masks_follow(patients: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps: list[StepLike] = ["percentile", {"kind": "crop", "margin_mm": 2}]
    table = preprocess_cohort(patients, steps, out)
    assert table["status"].tolist() == ["done"] * 8 + ["failed"]
    assert table["patient"].tolist()[-1] == "sub-c"
    assert table["error"].tolist()[-1]
    pd.testing.assert_frame_equal(pd.read_csv(out / "preprocessed.csv", keep_default_na=False), table)
    for row in table[table["status"] == "done"].itertuples():
        (written,) = ms.read(str(row.file))
        (source,) = ms.read(patients / str(row.patient) / str(row.visit) / f"{row.image}.nii.gz")
        assert written.kind == source.kind == row.kind
        if row.kind == "image":
            wanted = ms.preprocess(source, steps)
            assert written.same_grid(wanted)
            np.testing.assert_allclose(written.data, wanted.data, atol=1e-6)
            image = written
        else:
            assert written.same_grid(image)
            assert np.count_nonzero(written.data) == np.count_nonzero(source.data)
    # the record runs again
    recipe = json.loads((out / "run.json").read_text())["steps"]
    assert [step["kind"] for step in recipe] == ["percentile", "crop"]


def test_visits_are_brought_onto_the_first_one(patients: Path, tmp_path: Path) -> None:
    table = preprocess_cohort(patients / "sub-a" / "..", ["resample"], tmp_path / "out", series="*T1post")
    first, second = (ms.read(file)[0] for file in table["file"][table["image"].str.contains("T1post")][:2])
    assert second.same_grid(first)
    (original,) = ms.read(patients / "sub-a" / table["visit"][0] / f"{table['image'][0]}.nii.gz")
    np.testing.assert_array_equal(first.data, original.data)


def test_the_command_does_the_same_and_says_what_failed(
    patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(["percentile"], tmp_path / "recipe.yaml")
    out = tmp_path / "out"
    code = main(
        ["preprocess", str(patients), "--patients", "-s", str(tmp_path / "recipe.yaml"), "-o", str(out), "--json"]
    )
    said = capsys.readouterr()
    assert code == 1
    assert "1 of 9 images failed" in said.err
    assert len(json.loads(said.out)) == 9


def test_results_do_not_go_among_the_studies(patients: Path) -> None:
    for out in (patients, patients / "sub-a" / "out"):
        with pytest.raises(SettingsError, match="among the studies"):
            preprocess_cohort(patients, ["percentile"], out)


def test_what_is_not_done_has_a_row(patients: Path, tmp_path: Path) -> None:
    shutil.rmtree(patients / "sub-c")
    first, *_ = sorted((patients / "sub-a").glob("ses-*"))
    for file in first.glob("*.nii.gz"):
        file.write_bytes(b"")
    for file in (patients / "sub-b").rglob("*T1post*"):
        file.unlink()
    table = preprocess_cohort(patients, ["percentile"], tmp_path / "out", series="*T1post*")
    failed = table[table["status"] == "failed"].set_index("patient")["error"]
    assert first.name in failed["sub-a"]
    assert "none of its images is called like *T1post*" in failed["sub-b"]


def test_a_mask_whose_own_image_failed_does_not_follow_another(tmp_path: Path) -> None:
    visit, affine = tmp_path / "studies" / "p" / "2020-01-31", np.diag([-1.0, -1, 1, 1])
    still = ms.ImageSequence(np.ones((4, 6, 7)), ("z", "y", "x"), affine)
    moving = ms.ImageSequence(np.ones((3, 2, 6, 7)), ("t", "z", "y", "x"), affine, times=np.arange(3.0))
    mask = still.labels_like(np.ones((4, 6, 7), np.uint8), name="m", label_names={1: "all"})
    for name, seq in (("still", still), ("moving", moving), ("still_mask", mask)):
        ms.write(seq, visit / f"{name}.nii.gz")
    table = preprocess_cohort(tmp_path / "studies", ["temporal"], tmp_path / "out").set_index("image")  # of series only
    assert table["status"].to_dict() == {"moving": "done", "still": "failed", "still_mask": "failed"}
    assert table.loc["still_mask", "error"] == "the image that it belongs to failed"
