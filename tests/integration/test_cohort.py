"""Many patients: one table, one bad patient alone fails, a second call does only what is left, a cluster gives the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from napari_medseq import cli, cohort
from napari_medseq.errors import MedseqWarning, OperationCancelled, ReadError, SettingsError
from tests.integration.test_pipeline import bright


@pytest.fixture
def knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `engine.segment` be right."""
    monkeypatch.setattr("napari_medseq.inference.segment", bright)


@pytest.fixture
def patients(ball_study: Path, tmp_path: Path) -> Path:
    """Three patients: two good ones and one without images."""
    root = tmp_path / "patients"
    for name in ("a", "b"):
        shutil.copytree(ball_study, root / name)
    (root / "c").mkdir()
    (root / "c" / "note.txt").write_text("no image here")
    return root


@pytest.mark.usefixtures("knows")
def test_one_bad_patient_fails_alone_and_what_is_done_is_kept(
    patients: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    out = tmp_path / "out"
    table = cohort.run_cohort(patients, tiny_bundle, out, register="none", progress=lambda *a: told.append(a))
    assert table["study"].tolist() == ["a", "b", "c"]
    assert table["status"].tolist() == ["done", "done", "failed"]
    assert "no image" in table["error"][2]
    assert table["lesions"].tolist()[:2] == [3, 3]
    assert table["first_ml"][0] == pytest.approx(table["first_ml"][1])
    assert [t[0] for t in told] == [1, 2, 3]
    assert pd.read_csv(out / "cohort.csv")["status"].tolist() == ["done", "done", "failed"]

    again = cohort.run_cohort(patients, tiny_bundle, out, register="none")
    assert again["status"].tolist() == ["kept", "kept", "failed"]
    assert again["last_ml"].tolist()[:2] == pytest.approx(table["last_ml"].tolist()[:2])
    # another setting is another call
    other = cohort.run_cohort([patients / "a"], tiny_bundle, out, register="none", settings={"min_volume_ml": 0.3})
    assert other["status"].tolist() == ["done"]
    # a changed image is not kept either
    image = patients / "b" / "ses-20200131" / "sub-x_T1post.nii.gz"
    shutil.copy(patients / "b" / "ses-20200504" / "sub-x_T1post.nii.gz", image)
    assert cohort.run_cohort([patients / "b"], tiny_bundle, out, register="none")["status"].tolist() == ["done"]


@pytest.mark.usefixtures("knows")
def test_cancelled_between_patients(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    asked = iter([False, True])
    with pytest.raises(OperationCancelled):
        cohort.run_cohort(patients, tiny_bundle, tmp_path / "out", register="none", cancelled=lambda: next(asked))
    assert (tmp_path / "out" / "a" / "run.json").is_file()  # complete, so it stays
    assert not (tmp_path / "out" / "b").exists()


@pytest.mark.usefixtures("knows")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_cluster_gives_the_same_table(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    here = cohort.run_cohort([patients / "a", patients / "c"], tiny_bundle, tmp_path / "here", register="none")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        distributed.Client(local) as client,
    ):
        there = cohort.run_cohort(
            [patients / "a", patients / "c"], tiny_bundle, tmp_path / "there", register="none", cluster=client
        )
    same = ["study", "status", "visits", "lesions", "first_ml", "last_ml"]
    pd.testing.assert_frame_equal(here[same], there[same])


def test_what_cannot_be_meant_is_said_at_once(tmp_path: Path, patients: Path) -> None:
    with pytest.raises(ReadError, match="no folder"):
        cohort.run_cohort(tmp_path / "nowhere", "m", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="no study folder"):
        cohort.run_cohort(tmp_path / "empty", "m", tmp_path)
    with pytest.raises(SettingsError, match="called a"):
        cohort.study_folders([patients / "a", patients / "b" / ".." / "a"])
    with pytest.raises(SettingsError, match="no options"):
        cohort.run_cohort(patients, "m", tmp_path, colour="red")
    with pytest.raises(SettingsError, match="min_volume_ml"):
        cohort.run_cohort(patients, "m", tmp_path, settings={"min_volume_ml": -1})


def test_a_scheduler_that_is_not_there_is_said(patients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refuses(*_: object, **__: object) -> None:
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuses)
    with pytest.raises(SettingsError, match="no Dask scheduler"):
        cohort.run_cohort(patients, "m", tmp_path / "out", cluster="tcp://127.0.0.1:1")


@pytest.mark.usefixtures("knows")
def test_the_command_says_which_patients_failed(
    patients: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(
        ["cohort", str(patients), "-m", str(tiny_bundle), "-o", str(tmp_path / "o"), "--register", "none", "--json"]
    )
    told = capsys.readouterr()
    rows: list[dict[str, Any]] = json.loads(told.out)
    assert [r["status"] for r in rows] == ["done", "done", "failed"]
    assert status == 1
    assert "1 of 3 patients failed" in told.err


def test_doubts_of_a_patient_are_counted_not_shouted(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", MedseqWarning)
        row = cohort.patient(str(patients / "a"), str(tiny_bundle), str(tmp_path / "o"), {"register": "none"}, False)
    assert row["status"] == "done", row["error"]
    assert row["warnings"] >= 1
