"""Many patients: the right one for each name, one bad patient alone fails, a second call does what has changed and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.cohort import estimate_cohort
from napari_medseq.cohort.patient import Job, do_patient
from napari_medseq.errors import MedseqWarning, OperationCancelled, ReadError, SettingsError, WriteError
from tests.unit.io import dicoms

HERE: dict[str, Any] = {"workers": 0, "register": "none", "reports": False}


def tree(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_one_bad_patient_fails_alone_and_what_is_done_is_kept(
    patients: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out, told, rows_then = tmp_path / "out", [], []

    def progress(done: int, total: int, text: str) -> None:
        told.append((done, total, text))
        rows_then.append(len(pd.read_csv(out / "cohort.csv")))

    table = ms.run_cohort(patients, tiny_bundle, out, **HERE, progress=progress)
    assert table["study"].tolist() == ["a", "b", "c"]
    assert table["status"].tolist() == ["done", "done", "failed"]
    assert table["visits"].tolist()[:2] == [2, 1]
    assert "no image" in table["error"][2]
    assert rows_then == [1, 2, 3]  # each is in the table as soon as it is finished
    assert [t[:2] for t in told] == [(1, 3), (2, 3), (3, 3)]
    assert "left" in told[0][2]
    assert "report.html" not in (out / "cohort.html").read_text()  # none was asked for, and one that failed has none
    again = ms.run_cohort(patients, tiny_bundle, out, **HERE)
    assert again["status"].tolist() == ["kept", "kept", "failed"]
    same = ["study", "visits", "dropped", "lesions", "first_ml", "last_ml", "days", "response", "warnings", "error"]
    pd.testing.assert_frame_equal(again[same], table[same])


def test_corrections_outlive_a_second_call(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for other in ("b", "c"):
        shutil.rmtree(patients / other)
    out = tmp_path / "out"
    first = ms.run_cohort(patients, tiny_bundle, out, **HERE)
    corrected = ms.Progression.load(out / "a")
    for lesion in corrected.lesions.query("measured")["lesion"].unique():
        corrected.exclude(int(lesion))
    corrected.save(out / "a")
    left = corrected.response("volumetric").verdicts[-1].category
    kept = ms.run_cohort(patients, tiny_bundle, out, **HERE)
    assert kept["status"].tolist() == ["kept"]
    assert kept["last_ml"][0] < first["last_ml"][0]
    assert kept["response"][0] == left != first["response"][0]
    done = ms.run_cohort(patients, tiny_bundle, out, settings={"growth_percent": 30}, **HERE)
    assert done["status"].tolist() == ["done"]
    assert all(text.startswith("exclude") for text in ms.Progression.load(out / "a").corrections)
    assert done["last_ml"].tolist() == kept["last_ml"].tolist()


def test_links_that_lead_to_folders_of_one_name_are_the_patients_they_are_called(
    patients: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.move(patients / name, tmp_path / name / "study")
        (linked / f"patient-{name}").symlink_to(tmp_path / name / "study")
    table = ms.run_cohort(linked, tiny_bundle, tmp_path / "out", **HERE)
    assert table["study"].tolist() == ["patient-a", "patient-b"]
    assert table["visits"].tolist() == [2, 1]
    assert [Path(o).name for o in table["out"]] == ["patient-a", "patient-b"]


def test_a_study_under_two_names_counts_once(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (patients / "z").symlink_to(patients / "b")
    table = ms.run_cohort([patients / "b", patients / "z"], tiny_bundle, tmp_path / "out", **HERE)
    assert table["status"].tolist() == ["done", "failed"]
    assert "same study as b" in table["error"][1]


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


STUDY: dict[str, Callable[[Path], object]] = {
    "a new visit": lambda s: shutil.copytree(s / "ses-20200131", s / "ses-20210131"),
    "a visit less": lambda s: shutil.rmtree(s / "ses-20200504"),
    "a changed image": lambda s: shutil.copy(
        s / "ses-20200131" / "sub-x_T1post.nii.gz", s / "ses-20200504" / "sub-x_T1post.nii.gz"
    ),
    "dates": lambda s: _write(
        s / "sessions.tsv", "session_id\tacq_time\nses-20200131\t2019-12-01\nses-20200504\t2020-05-04\n"
    ),
    "a changed mask": lambda s: (s / "ses-20200504" / "sub-x_tumor.nii.gz").unlink(),
}
RESULT: dict[str, Callable[[Path], object]] = {
    "cut lesions.csv": lambda o: _cut(o / "lesions.csv"),
    "swapped labels": lambda o: shutil.copy(next(o.glob("ses-20200131/*")), next(o.glob("ses-20200504/*"))),
    "no labels": lambda o: next(o.glob("ses-20200504/*")).unlink(),
    "no plot": lambda o: (o / "progression.png").unlink(),
    "broken run.json": lambda o: _cut(o / "run.json"),
    "no run.json": lambda o: (o / "run.json").unlink(),
    "run.json of another kind": lambda o: _write(o / "run.json", json.dumps({"visits": 3, "files": []})),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ball_study: Path, tiny_bundle: Path) -> Path:
    """One patient, done."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copytree(ball_study, root / "patients" / "a")
    ms.run_cohort([root / "patients" / "a"], tiny_bundle, root / "out", **HERE)
    return root


@pytest.fixture
def again(finished: Path, tmp_path: Path, tiny_bundle: Path) -> Callable[..., dict[str, Any]]:
    """A copy of it, whose study or result can be changed, and done again."""
    shutil.copytree(finished / "out", tmp_path / "out")
    saved = tmp_path / "saved"
    shutil.copytree(finished / "patients" / "a", saved)

    def call(**options: Any) -> dict[str, Any]:
        table = ms.run_cohort([finished / "patients" / "a"], tiny_bundle, tmp_path / "out", **{**HERE, **options})
        return {str(k): v for k, v in table.to_dict("records")[0].items()}

    return call


@pytest.mark.parametrize("change", sorted(STUDY))
def test_a_study_that_has_changed_is_done_again(
    change: str, finished: Path, tmp_path: Path, again: Callable[..., dict[str, Any]]
) -> None:
    study = finished / "patients" / "a"
    STUDY[change](study)
    try:
        assert again()["status"] == "done"
        assert again()["status"] == "kept"
    finally:
        shutil.rmtree(study)
        shutil.copytree(tmp_path / "saved", study)


@pytest.mark.parametrize("damage", sorted(RESULT))
def test_a_result_that_is_not_whole_is_done_again(
    damage: str, finished: Path, tmp_path: Path, again: Callable[..., dict[str, Any]]
) -> None:
    RESULT[damage](tmp_path / "out" / "a")
    assert again()["status"] == "done"
    assert tree(tmp_path / "out" / "a") == tree(finished / "out" / "a")


def test_other_settings_of_tracking_follow_again_and_do_not_segment_again(
    tmp_path: Path, again: Callable[..., dict[str, Any]], finished: Path, tiny_bundle: Path
) -> None:
    kept = tmp_path / "out" / "a" / ".segmented" / "masks.npz"
    os.utime(kept, (1, 1))  # its number on the disk could come back with a new file
    assert again(settings={"min_volume_ml": 0.3})["status"] == "done"
    assert kept.stat().st_mtime == 1
    fresh = tmp_path / "fresh"
    ms.run_cohort([finished / "patients" / "a"], tiny_bundle, fresh, **HERE, settings={"min_volume_ml": 0.3})
    assert tree(tmp_path / "out" / "a") == tree(fresh / "a")
    assert again(settings={"min_volume_ml": 0.3}, series="*T1post")["status"] == "done"  # of the segmentation
    assert kept.stat().st_mtime != 1
    assert again(settings={"min_volume_ml": 0.3}, series="*T1post", device="cpu")["status"] == "kept"


def test_the_same_as_run_one_by_one(tmp_path: Path, finished: Path, tiny_bundle: Path) -> None:
    with pytest.warns(MedseqWarning):
        ms.run(finished / "patients" / "a", tiny_bundle, out=tmp_path / "one", register="none")
    one, many = tree(tmp_path / "one"), tree(finished / "out" / "a")
    assert {k: v for k, v in many.items() if k != "run.json" and not k.startswith(".")} == {
        k: v for k, v in one.items() if k != "run.json"
    }
    records = [json.loads(t["run.json"]) for t in (one, many)]
    for key in ("inputs", "visits", "warnings", "edges", "files"):
        assert records[0][key] == records[1][key], key
    assert records[0]["run"]["model"] == records[1]["run"]["model"] == str(tiny_bundle)  # `run --again` finds it


def test_whatever_goes_wrong_with_a_patient_is_its_row(ball_study: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    sha = ms.load_model(tiny_bundle).fingerprint

    def row(**changes: Any) -> dict[str, Any]:
        facts = {
            "name": "a", "study": str(ball_study), "out": str(tmp_path / "o"), "model": str(tiny_bundle),
            "model_name": "tiny", "model_sha256": sha, "options": {"register": "none"}, "report": False,
        }  # fmt: skip
        return dict(do_patient(Job(**{**facts, **changes})))

    (tmp_path / "file").write_text("")
    assert "it is a file" in row(out=str(tmp_path / "file"))["error"]
    assert "another model" in row(model_sha256="0" * 64)["error"]
    assert row(options={"series": [5]})["error"].startswith("TypeError")  # no error of ours
    assert "not a setting" in row(settings={"colour": 1})["error"]
    assert [p.name for p in (tmp_path / "o").iterdir()] == [".segmented"]  # what it came to is not lost
    good = row()
    assert (good["status"], good["error"]) == ("done", None)
    assert good["warnings"] >= 1
    assert "not a setting" in row(settings={"colour": 1})["error"]
    assert "not a setting" in json.loads((tmp_path / "o" / "failed.json").read_text())["error"]
    assert (tmp_path / "o" / "previous" / "run.json").is_file()
    assert row()["status"] == "done"
    assert sorted(p.name for p in (tmp_path / "o").iterdir() if p.name in ("failed.json", "previous")) == []


@pytest.mark.parametrize(
    "allocate", [lambda _: np.empty(1 << 50), lambda _: torch.empty(1 << 50)], ids=["numpy", "torch"]
)
def test_want_of_memory_is_called_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allocate: Any) -> None:
    monkeypatch.setattr("napari_medseq.cohort.patient._done", allocate)
    row = do_patient(Job("a", str(tmp_path), str(tmp_path / "o"), "tiny", "tiny", "0" * 64, {}))
    assert (row["status"], str(row["error"])[:14]) == ("failed", "out of memory:")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.timeout(120)
def test_a_pipe_among_the_files_holds_nobody_up(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(patients / "b" / "sessions.tsv")
    os.mkfifo(patients / "b" / "ses-20200131" / "x_T1post.nii.gz")
    table = ms.run_cohort([patients / "b"], tiny_bundle, tmp_path / "out", **HERE)
    assert table["status"].tolist() == ["done"]


def test_a_visit_that_is_lost_is_said_in_table_report_and_exit_status(
    patients: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _cut(patients / "a" / "ses-20200504" / "sub-x_T1post.nii.gz")
    out = tmp_path / "out"
    call = [
        "cohort",
        str(patients / "a"),
        str(patients / "b"),
        "-m",
        str(tiny_bundle),
        "-o",
        str(out),
        "--workers",
        "0",
    ]
    for status in ("done", "kept"):
        assert cli.main([*call, "--register", "none", "--json"]) == 1
        said = capsys.readouterr()
        rows = json.loads(said.out)
        assert [(r["status"], r["dropped"], r["visits"]) for r in rows] == [(status, 1, 1), (status, 0, 1)]
        assert "ses-20200504" in rows[0]["error"]
        assert "1 of 2 patients lack visits" in said.err
    assert "ses-20200504" in (out / "cohort.html").read_text()


def test_the_tables_are_tidy_and_the_same_in_both_forms(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ms.run_cohort(patients, tiny_bundle, out, **HERE)
    pytest.importorskip("pyarrow")
    for name, key in (("lesions", ["study", "visit", "lesion"]), ("visits", ["study", "visit"])):
        table, parquet = pd.read_csv(out / f"{name}.csv"), pd.read_parquet(out / f"{name}.parquet")
        assert table["study"].unique().tolist() == ["a", "b"]
        assert not table.duplicated(key).any()
        own = pd.read_csv(out / "a" / ("lesions.csv" if name == "lesions" else "summary.csv"))
        np.testing.assert_allclose(table.loc[table["study"] == "a", "volume_ml"], own["volume_ml"])
        assert list(parquet.columns) == list(table.columns)
        np.testing.assert_allclose(parquet["volume_ml"].astype(float), table["volume_ml"])
        assert str(parquet["date"][0]) == table["date"][0]
    facts = json.loads((out / "dataset_description.json").read_text())
    assert facts["DatasetType"] == "derivative"
    assert facts["GeneratedBy"][0]["Version"] == ms.__version__


def test_names_that_are_formulas_or_code_are_only_text(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    name = "=cmd()<script>\x1b[2J&"
    shutil.move(patients / "b", patients / name)
    out = tmp_path / "out"
    ms.run_cohort([patients / name, patients / "c"], tiny_bundle, out, **{**HERE, "reports": True})
    for table in ("cohort.csv", "lesions.csv", "visits.csv"):
        text = (out / table).read_text()
        assert "'=cmd()<script> [2J&," in text
        assert "\x1b" not in text
    page = (out / "cohort.html").read_text()
    assert "<script>" not in page
    assert "\x1b" not in page
    assert (out / name / "report.html").is_file()
    assert 'href="%3Dcmd%28%29%3Cscript%3E%1B%5B2J%26/report.html"' in page


def test_two_cohorts_into_one_folder(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    from napari_medseq.progression.folder import claimed

    with claimed(tmp_path / "out"), pytest.raises(WriteError, match=f"process {os.getpid()} on"):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", **HERE)


def test_a_table_that_a_killed_cohort_was_writing_is_removed(
    three_patients: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / ".writing-0123456789abcdef.csv").write_text("stu")
    table = ms.run_cohort([three_patients / "c"], tiny_bundle, tmp_path, **HERE)
    assert table["status"].tolist() == ["failed"]
    assert list(tmp_path.glob(".writing-*")) == []


def test_cancelled_between_patients(patients: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    asked = iter([False, True])
    with pytest.raises(OperationCancelled):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", **HERE, cancelled=lambda: next(asked))
    assert (tmp_path / "out" / "a" / "run.json").is_file()  # complete, so it stays
    assert not (tmp_path / "out" / "b").exists()
    assert pd.read_csv(tmp_path / "out" / "cohort.csv")["study"].tolist() == ["a"]


def test_wrong_arguments_are_refused_before_any_patient(tmp_path: Path, patients: Path, tiny_bundle: Path) -> None:
    with pytest.raises(ReadError, match="not a folder"):
        ms.run_cohort(tmp_path / "nowhere", tiny_bundle, tmp_path / "out", **HERE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="no study"):
        ms.run_cohort(tmp_path / "empty", tiny_bundle, tmp_path / "out", **HERE)
    with pytest.raises(SettingsError, match="min_volume_ml"):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", settings={"min_volume_ml": -1})
    with pytest.raises(SettingsError, match="workers"):
        ms.run_cohort(patients, tiny_bundle, tmp_path / "out", workers=-1)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(
    finished: Path, patients: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["cohort", str(patients), "-m", str(tiny_bundle), "--dry-run", "--json", "-o"]
    assert cli.main([*call, str(tmp_path / "out")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["patients"], said["with_result"], said["seconds"]) == (3, 0, None)
    assert said["largest_voxels"] == 48 * 48 * 16
    assert not (tmp_path / "out").exists()
    shutil.copytree(finished / "out", tmp_path / "out")
    before = tree(tmp_path / "out")
    assert cli.main([*call, str(tmp_path / "out")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["with_result"] == 1
    assert said["seconds"] > 0
    assert tree(tmp_path / "out") == before


def test_a_dry_run_looks_at_pictures_series_and_heaps(tiny_bundle: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "studies" / "pictures").mkdir(parents=True)
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "studies" / "pictures" / "a.png")
    series = ms.ImageSequence(np.zeros((5, 4, 6, 7), np.int16), ("t", "z", "y", "x"), np.diag([-1.0, -1, 1, 1]))
    ms.write(series, tmp_path / "studies" / "series" / "a.nii.gz")
    estimate = estimate_cohort(tmp_path / "studies", tiny_bundle, tmp_path / "out")
    assert (estimate.patients, estimate.largest_voxels) == (2, 5 * 4 * 6 * 7)
    for k in range(2):
        ds = dicoms.dataset(dicoms.picture(), PatientID=f"p{k}", SeriesInstanceUID=f"1.{k}")
        dicoms.save(ds, tmp_path / "heap" / f"{k}.dcm")
    assert estimate_cohort(tmp_path / "heap", tiny_bundle, tmp_path / "out").patients == 2
    assert not (tmp_path / "out").exists()
