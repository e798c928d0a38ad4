"""The command: the same answers as the API, exit status, one clear line for what went wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.cli import images
from tests import nifti
from tests.balls import AFFINES, ball_image
from tests.unit.training.small import CLASSIFIER, model


# -- the main job ----------------------------------------------------------------------------------------------------
def test_run_gives_what_the_script_gives(command: Any, ball_study: Path, bright_bundle: Path, tmp_path: Path) -> None:
    ran = command("run", ball_study, "-m", bright_bundle, "-o", tmp_path / "cli", "--register", "none", "--json")
    assert ran.status == 0, ran.err
    script = ms.run(ball_study, bright_bundle, register="none", out=tmp_path / "script")
    assert [r["volume_ml"] for r in ran.json["lesions"]] == pytest.approx(script.lesions["volume_ml"].tolist())
    assert [r["event"] for r in ran.json["lesions"]] == script.lesions["event"].tolist()
    assert ran.json["lesions"][0]["date"] == "2020-01-31"
    for file in ("ses-20200131", "ses-20200504"):
        one, two = ((tmp_path / x / file / "sub-x_T1post_lesions.nii.gz") for x in ("cli", "script"))
        np.testing.assert_array_equal(nifti.load(one).get_fdata(), nifti.load(two).get_fdata())


def test_command_script_and_pieces_give_identical_labels_with_the_real_engine(
    command: Any, ball_study: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    image = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz"
    ran = command(
        "segment",
        image,
        "-m",
        tiny_bundle,
        "-o",
        tmp_path / "l.nii.gz",
        "--probability",
        tmp_path / "p.nii.gz",
        "--json",
    )
    assert ran.status == 0, ran.err
    script = ms.segment(ms.read(image)[0], ms.load_model(tiny_bundle))
    written = nifti.load(tmp_path / "l.nii.gz")
    np.testing.assert_allclose(written.affine, AFFINES[0], atol=1e-4)
    again = ms.read(tmp_path / "l.nii.gz", kind="labels")[0]
    np.testing.assert_array_equal(np.asarray(again.data), np.asarray(script.labels.data))
    assert (tmp_path / "p.nii.gz").is_file()
    voxels = int((np.asarray(script.labels.data) == 1).sum())
    assert ran.json["volume_ml"]["lesion"] == pytest.approx(voxels * 12 / 1000)


def test_run_again_from_its_own_record(command: Any, ball_study: Path, bright_bundle: Path, tmp_path: Path) -> None:
    first = command(
        "run",
        ball_study,
        "-m",
        bright_bundle,
        "-o",
        tmp_path / "a",
        "--register",
        "none",
        "--set",
        "min_volume_ml=0.5",
        "--json",
    )
    again = command("run", "--again", tmp_path / "a" / "run.json", "-o", tmp_path / "b", "--json")
    assert first.status == again.status == 0, again.err
    assert first.json["lesions"] == again.json["lesions"]
    settings = [json.loads((tmp_path / x / "run.json").read_text())["run"]["settings"] for x in "ab"]
    assert settings[0] == settings[1]
    assert settings[1]["min_volume_ml"] == 0.5


def test_run_again_makes_corrections_again_and_says_what_has_changed(
    command: Any, ball_study: Path, bright_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Path(shutil.copytree(ball_study, tmp_path / "study"))
    monkeypatch.chdir(tmp_path)
    assert command("run", "study", "-m", bright_bundle, "-o", "a", "--register", "none").status == 0
    facts = json.loads((tmp_path / "a" / "run.json").read_text())
    assert all(Path(i["source"]).is_absolute() for visit in facts["inputs"] for i in visit["images"].values())
    corrected = ms.Progression.load("a")
    corrected.exclude(int(corrected.lesions["lesion"].min()))
    corrected.save("a")
    monkeypatch.chdir(study)
    again = command("run", "--again", tmp_path / "a" / "run.json", "-o", tmp_path / "b", "--json")
    assert again.status == 0, again.err
    assert "Changed since" not in again.err
    assert (tmp_path / "b" / "lesions.csv").read_bytes() == (tmp_path / "a" / "lesions.csv").read_bytes()
    assert ms.Progression.load(tmp_path / "b").corrections == corrected.corrections
    image = next(i["source"] for i in facts["inputs"][0]["images"].values())
    seq = ms.read(image)[0]
    ms.write(seq.replace(data=seq.data + 1), image)
    assert "Changed since" in command("run", "--again", tmp_path / "a" / "run.json").err
    facts["run"]["study"] = "a study in memory"
    (tmp_path / "memory.json").write_text(json.dumps(facts | {"corrections": []}))
    assert "name its folder" in command("run", "--again", tmp_path / "memory.json").last


def test_track_follows_the_masks_of_a_study_or_files(command: Any, ball_study: Path, tmp_path: Path) -> None:
    folder = command("track", ball_study, "-o", tmp_path / "t", "--json")
    masks = sorted(ball_study.glob("ses-*/*_tumor.nii.gz"))
    files = command("track", *masks, "--json")
    assert folder.status == files.status == 0, folder.err + files.err
    events = [r["event"] for r in folder.json["lesions"]]
    assert events == ["baseline", "baseline", "growing", "resolved", "new"]
    assert [r["event"] for r in files.json["lesions"]] == events
    assert [r["date"] for r in files.json["lesions"]] == [r["date"] for r in folder.json["lesions"]]
    assert (tmp_path / "t" / "lesions.csv").is_file()
    text = command("track", *masks)
    assert "growing" in text.out


def test_track_says_what_is_missing(command: Any, ball_study: Path) -> None:
    masks = sorted(ball_study.glob("ses-*/*_tumor.nii.gz"))
    assert "give one per mask" in command("track", *masks, "--dates", "2020-01-01").last
    assert "one mask is needed" in command("track", ball_study, "--series", "nothing*").last


# -- images ----------------------------------------------------------------------------------------------------------
def test_info_reads_headers(command: Any, ball_study: Path) -> None:
    ran = command("info", ball_study, "--json")
    assert ran.status == 0
    assert len(ran.json["series"]) == 4
    assert "sub-x_T1post" in command("info", ball_study).out
    visits = command("info", ball_study, "--visits", "--json").json["visits"]
    study = ms.read_study(ball_study)
    assert [(v["date"], v["folder"]) for v in visits] == [(str(v.date), v.name) for v in study.visits]
    assert [v["images"] for v in visits] == [[image.name for image in v.images] for v in study.visits]
    assert visits[1]["date"] in command("info", ball_study, "--visits").out


def test_convert_keeps_voxels_and_places(command: Any, ball_study: Path, tmp_path: Path) -> None:
    source = ball_study / "ses-20200504" / "sub-x_T1post.nii.gz"
    ran = command("convert", source, "-o", tmp_path / "copy.nii.gz", "--json")
    assert ran.status == 0, ran.err
    copy = nifti.load(tmp_path / "copy.nii.gz")
    np.testing.assert_allclose(copy.affine, AFFINES[1], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(copy.dataobj), ball_image(1)[0])
    folder = command("convert", ball_study / "ses-20200131", "-o", tmp_path / "all", "--json")
    assert sorted(Path(p).name for p in folder.json["written"]) == ["sub-x_T1post.nii.gz", "sub-x_tumor.nii.gz"]
    assert "name a folder" in command("convert", ball_study / "ses-20200131", "-o", tmp_path / "one.nii.gz").last


def test_register_finds_a_known_shift(command: Any, ball_study: Path, tmp_path: Path) -> None:
    source = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz"
    image = nifti.load(source)
    affine = image.affine.copy()
    affine[:3, 3] += (4, -3, 0)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), tmp_path / "moved.nii.gz")
    ran = command(
        "register", tmp_path / "moved.nii.gz", source, "--kind", "translation",
        "-o", tmp_path / "back.nii.gz", "--transform", tmp_path / "t.json", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    shift = np.array(ran.json["matrix"])[:3, 3]
    np.testing.assert_allclose(shift, (4, -3, 0), atol=0.5)
    assert (tmp_path / "t.json").is_file()
    back = nifti.load(tmp_path / "back.nii.gz")
    np.testing.assert_allclose(back.affine, AFFINES[0], atol=1e-4)


def test_a_matrix_is_printed_row_by_row() -> None:
    told = images._described({"kind": "rigid", "matrix": [[1.0, 0.0], [-0.25, 12.5]]})
    assert told.splitlines() == ["kind: rigid", "matrix:", "  1      0", "  -0.25  12.5"]


# -- models ----------------------------------------------------------------------------------------------------------
def test_models_are_listed_and_shown(command: Any, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tiny_bundle.parent))
    assert "tiny" in {m["name"] for m in command("models", "--json").json}
    assert "tiny" in command("models").out
    assert "Untrained" in command("models", "show", "tiny").out
    assert command("models", "show", "tiny", "--json").json["task"] == "segmentation"
    assert command("models", "show").status == 2


def test_a_segmentation_model_does_not_classify(command: Any, ball_study: Path, tiny_bundle: Path) -> None:
    ran = command("classify", ball_study / "ses-20200131" / "sub-x_T1post.nii.gz", "-m", tiny_bundle)
    assert ran.status == 1
    assert "classification model" in ran.last


def test_several_models_are_averaged(command: Any, ball_study: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    image, twice = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz", ("-m", tiny_bundle, "-m", tiny_bundle)
    ran = command("segment", image, *twice, "-o", tmp_path / "l.nii.gz", "--json")
    assert ran.json["model"].count("tiny") == 2
    made = [model(tmp_path / name, CLASSIFIER) for name in ("a", "b")]
    ran = command("classify", image, "-m", made[0].info.folder, "-m", made[1].info.folder, "--json")
    assert ran.json["model"] == "a 0 + b 0"
    assert ran.json["probabilities"] == ms.classify(ms.read(image)[0], made).probabilities
    assert command("classify", image, "-m", made[0].info.folder, "-m", tiny_bundle).status == 1


# -- preprocess, train, evaluate -------------------------------------------------------------------------------------
def test_preprocess_chains_steps(command: Any, ball_study: Path, tmp_path: Path) -> None:
    image = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz"
    ran = command("preprocess", image, "-s", "crop", "-s", "zscore", "-o", tmp_path / "z.nii.gz", "--json")
    assert ran.status == 0, ran.err
    assert [s["kind"] for s in ran.json["steps"]] == ["crop", "zscore"]
    written = nifti.load(tmp_path / "z.nii.gz")
    assert abs(float(np.mean(written.get_fdata()[written.get_fdata() > -1]))) < 3
    assert "n4" in command("preprocess", image, "-s", "no-such-step", "-o", tmp_path / "z.nii.gz").last
    assert "written as one of" in command("preprocess", image, "-s", "crop", "-o", "z.png").last


def test_evaluate_agrees_with_the_definition_of_dice(command: Any, ball_study: Path, tmp_path: Path) -> None:
    truth = ball_study / "ses-20200131" / "sub-x_tumor.nii.gz"
    image = nifti.load(truth)
    mask = np.asarray(image.dataobj)
    other = np.roll(mask, 1, axis=0)
    nib.save(nib.Nifti1Image(other, image.affine), tmp_path / "p_seg.nii.gz")
    ran = command("evaluate", "-p", tmp_path / "p_seg.nii.gz", "-t", truth, "-o", tmp_path / "t.csv", "--json")
    assert ran.status == 0, ran.err
    dice = 2 * (mask & other).sum() / (mask.sum() + other.sum())
    assert ran.json[0]["dice"] == pytest.approx(dice)
    assert (tmp_path / "t.csv").read_text().startswith("case,")
    assert command("evaluate", "-p", truth, truth, "-t", truth).status == 1


def test_a_folder_of_images_becomes_a_folder_of_label_files(
    command: Any, ball_study: Path, bright_bundle: Path, tmp_path: Path
) -> None:
    images, out = tmp_path / "imagesTs", tmp_path / "labelsTs"
    images.mkdir()
    (ses, *_) = sorted(ball_study.glob("ses-*"))
    scan = ses / "sub-x_T1post.nii.gz"
    for name in ("a_0000.nii.gz", "b_0000.nii.gz"):
        (images / name).write_bytes(scan.read_bytes())
    (images / "a_mask.nii.gz").write_bytes((ses / "sub-x_tumor.nii.gz").read_bytes())
    (images / "broken.nii.gz").write_bytes(scan.read_bytes()[:2000])
    (images / "deep").mkdir()
    (images / "deep" / "T1post.nii.gz").write_bytes(scan.read_bytes())
    ran = command("segment", images, "-o", out, "-m", bright_bundle, "--json")
    assert ran.status == 1
    assert {d["case"]: d["status"] for d in ran.json} == {"a": "done", "b": "done", "broken": "failed", "deep": "done"}
    alone = command("segment", scan, "-o", tmp_path / "one.nii.gz", "-m", bright_bundle, "--json")
    assert alone.status == 0, alone.err
    one = np.asarray(nifti.load(tmp_path / "one.nii.gz").dataobj)
    for case in ("a", "b", "deep"):
        np.testing.assert_array_equal(np.asarray(nifti.load(out / f"{case}.nii.gz").dataobj), one)
    assert {d["case"]: d["volumes_ml"] for d in ran.json}["b"] == alone.json["volume_ml"]
    (images / "broken.nii.gz").unlink()
    written = (out / "a.nii.gz").stat().st_mtime_ns
    ran = command("segment", images, "-o", out, "-m", bright_bundle, "--json")
    assert (ran.status, {d["status"] for d in ran.json}) == (0, {"kept"})
    assert (out / "a.nii.gz").stat().st_mtime_ns == written
    ran = command("evaluate", "-p", out, "-t", out, "--json")
    assert (ran.status, [r["dice"] for r in ran.json]) == (0, [1.0, 1.0, 1.0])
    assert "no truth is called like a, b, deep" in command("evaluate", "-p", out, "-t", images / "deep").last
    assert "for one image" in command("segment", images, "-o", out, "-m", bright_bundle, "--keep", scan).last
    (tmp_path / "nothing").mkdir()
    assert "holds no image" in command("segment", tmp_path / "nothing", "-o", out, "-m", bright_bundle).last


def test_train_writes_a_bundle_that_runs(command: Any, ball_study: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.json"
    network = {"_target_": "RecurrentUNet", "widths": [4, 6, 8], "rnn_levels": [2], "hidden": 4, "ahead": 1}
    config.write_text(
        json.dumps(
            {
                "name": "balls",
                "data": [str(ball_study)],
                "image": "*T1post*",
                "labels": "*tumor*",
                "network": network,
                "loop": {"iterations": 99, "batch": 1, "steps": 4, "size": [32, 32]},
                "out": str(tmp_path / "balls"),
                "device": "cpu",
            }
        )
    )
    ran = command("train", config, "--set", "loop.iterations=2", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["name"] == "balls"
    image = ball_study / "ses-20200131" / "sub-x_T1post.nii.gz"
    assert command("segment", image, "-m", tmp_path / "balls", "-o", tmp_path / "l.nii.gz").status == 0
    assert "holds no settings" in command("train", config, "--set", "name.x=2").last


# -- the pages that describe it --------------------------------------------------------------------------------------
def test_the_reference_page_is_what_the_command_says() -> None:
    root = Path(__file__).parents[2]
    code = f"import runpy; print(runpy.run_path({str(root / 'tools' / 'cli_reference.py')!r})['text'](), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    page = (root / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    # argparse lays out its help differently from one Python to the next; what matters are the words
    assert page.split() == done.stdout.split() or sys.version_info[:2] != (3, 11)


def test_demo_writes_and_says_where(
    command: Any, ball_study: Path, bright_bundle: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    import shutil

    def sample(folder: Path) -> Path:
        return Path(shutil.copytree(ball_study, folder))

    monkeypatch.setattr("napari_medseq.synthetic.files.sample_study", sample)
    opened: list[Any] = []
    monkeypatch.setattr("napari_medseq.cli.demo.show", lambda *given: opened.append(given))
    ran = command("demo", "-m", bright_bundle, "-o", tmp_path / "demo", "--viewer")
    assert ran.status == 0, ran.err
    for name in ("lesions.csv", "progression.png", "run.json", "sub-x_T1post_lesions.nii.gz"):
        assert name in ran.out
    assert {line[0] for line in ran.out.split("\n\n")[0].splitlines()[1:]} == {
        "1",
        "2",
    }  # visits, counted as `run` does
    assert (tmp_path / "demo" / "result" / "progression.png").is_file()
    assert len(opened) == 1


def test_a_visit_without_a_mask_is_no_visit_without_lesions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in ("2020-01-01", "2020-06-01", "2021-01-01"):
        mask = np.zeros((8, 8, 8), np.uint8)
        mask[2:5, 2:5, 2:5] = 1
        name = "a_T1.nii.gz" if day == "2020-06-01" else "a_seg.nii.gz"
        (tmp_path / day).mkdir()
        nib.save(nib.Nifti1Image(mask, np.diag([-1.0, -1, 1, 1])), tmp_path / day / name)
    assert cli.main(["track", str(tmp_path), "--json"]) == 0
    events = {row["event"] for row in json.loads(capsys.readouterr().out)["lesions"]}
    assert events.isdisjoint({"resolved", "new", "reappeared"})


# -- tables of a result ------------------------------------------------------------------------------------------------
def test_table_prints_and_writes_lesion_by_visit(command: Any, tmp_path: Path) -> None:
    from tests.unit.progression.masks import A, B, mask

    progression = ms.track([mask(A, B), mask(A)], dates=["2020-01-01", "2020-02-01"])
    progression.save(tmp_path / "r")
    ran = command("table", tmp_path / "r", "--matrix", "event", "--json")
    assert [row["visit 2 (2020-02-01)"] for row in ran.json] == ["stable", "resolved"]
    ran = command("table", tmp_path / "r", "--rows", "visit=2", "--sort", "lesion", "--descending")
    assert [line.split()[:3] for line in ran.out.splitlines()[1:]] == [
        ["2", "2020-02-01", "2"],
        ["2", "2020-02-01", "1"],
    ]
    ran = command("table", tmp_path / "r", "--matrix", "volume", "-o", tmp_path / "m.csv", "--json")
    assert ran.json["rows"] == 2
    assert (tmp_path / "m.csv").read_text().startswith("lesion,label,visit 1 (2020-01-01)")
    assert "to sort by" in command("table", tmp_path / "r", "--sort", "weight").last
    assert "is not a column of numbers" in command("table", tmp_path / "r", "--rows", "weight>1").last


def test_retest_of_a_result_is_kept_with_it(
    command: Any, ball_study: Path, bright_bundle: Path, tmp_path: Path
) -> None:
    ran = command("run", ball_study, "-m", bright_bundle, "-o", tmp_path / "r", "--json")
    assert ran.status == 0, ran.err
    ran = command(
        "retest",
        tmp_path / "r",
        "-m",
        bright_bundle,
        "--set",
        "repeats=2",
        "--set",
        "growths=[0.5]",
        "-o",
        tmp_path / "f.json",
        "--json",
    )
    assert ran.status == 0, ran.err
    found = ms.Progression.load(tmp_path / "r").repeatability
    assert found is not None
    assert found.rc_percent == pytest.approx(ran.json["rc_percent"])
    assert json.loads((tmp_path / "f.json").read_text())["settings"]["repeats"] == 2
    assert "real_change" in (tmp_path / "r" / "lesions.csv").read_text()
    assert "no visit 9" in command("retest", tmp_path / "r", "-m", bright_bundle, "--visit", "9").last
    assert command("retest", ball_study).status == 1


def test_a_series_larger_than_the_memory_is_segmented_frame_by_frame(
    command: Any, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.stack([ball_image(visit)[0].T for visit in (0, 1)])
    series = ms.ImageSequence(
        frames, ("t", "z", "y", "x"), AFFINES[0], times=np.arange(2.0), modality="MR", name="T1post"
    )
    scan = ms.write(series, tmp_path / "in" / "T1post.nii")
    whole = ms.segment(ms.read(scan)[0], tiny_bundle)
    monkeypatch.setattr("napari_medseq.io.formats.raw._BIG", 0)
    monkeypatch.setattr("napari_medseq.memory.is_too_much", lambda size: size >= frames.nbytes)
    for where, out in ((scan, tmp_path / "l.nii.gz"), (scan.parent, tmp_path / "out")):
        ran = command("segment", where, "-m", tiny_bundle, "-o", out, "--force")
        assert ran.status == 0, ran.err
    for written in (tmp_path / "l.nii.gz", tmp_path / "out" / "T1post.nii.gz"):
        np.testing.assert_array_equal(ms.read(written, kind="labels")[0].data, whole.labels.data)
    ran = command("segment", scan, "-m", tiny_bundle, "-o", tmp_path / "l.nii.gz", "--force")
    voxels = np.count_nonzero(np.asarray(whole.labels.data))
    assert f"lesion: {voxels * 12 / 1000 / 2:.2f} mL (mean of 2 frames)" in ran.out
