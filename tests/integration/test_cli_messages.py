"""What the command says: one line for what goes wrong, exit status, doctor, help, progress bar, JSON and tables."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.cli import common, doctor


# -- what goes wrong -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "{empty}", "-m", "{model}", "-o", "{out}"), "no image"),
        (("run", "/no/such/folder", "-m", "{model}"), "does not exist"),
        (("run", "{study}", "-m", "nope"), "no model 'nope'"),
        (("run", "{study}", "-m", "{model}", "--device", "cuda:77"), "cuda:77"),
        (("run", "{study}", "-m", "{model}", "--set", "min_volume_ml"), "NAME=VALUE"),
        (("run", "{study}", "-m", "{model}", "--set", "min_volume_ml=-3"), "min_volume_ml"),
        (("run", "{study}", "-m", "{model}", "--settings", "{text}"), "names and values"),
        (("run", "{study}", "-m", "{model}", "--settings", "/no/file.yaml"), "is not a file"),
        (("run", "{study}", "-m", "{model}", "--series", "*tumor*"), "are not segmented"),
        (("run", "--again", "{text}"), "run.json"),
        (("info", "{text}"), "not an image"),
        (("convert", "{text}", "-o", "{out}/x.nii.gz"), "not an image"),
        (("convert", "{image}", "-o", "{text}/x.nii.gz"), ""),
        (("segment", "{image}", "-m", "{model}", "-o", "labels.txt"), "must end in"),
        (("segment", "{study}", "-m", "{model}", "-o", "{out}.nii.gz"), "choose one with"),
        (("report", "{empty}"), ""),
    ],
)
def test_bad_input_is_one_line_and_status_1(
    command: Any, ball_study: Path, tiny_bundle: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("just words")
    places = {
        "empty": tmp_path / "empty",
        "out": tmp_path / "out",
        "text": tmp_path / "text.txt",
        "study": ball_study,
        "model": tiny_bundle,
        "image": ball_study / "ses-20200131" / "sub-x_T1post.nii.gz",
    }
    ran = command(*(a.format(**places) for a in arguments))
    assert ran.status == 1
    assert ran.last.startswith("napari-medseq: error: ")
    assert says.lower() in ran.last.lower()
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [(), ("no-such-command",), ("run",), ("segment", "x"), ("run", "x", "--register", "magic")]
)
def test_wrong_usage_is_status_2(command: Any, arguments: tuple[str, ...]) -> None:
    ran = command(*arguments)
    assert ran.status == 2
    assert "usage" in ran.err


def test_a_defect_is_one_line_too_and_a_traceback_on_request(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: Any) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("napari_medseq.models.list_models", broken)
    ran = command("models")
    assert ran.status == 1
    assert "RuntimeError: two lines" in ran.last
    monkeypatch.setenv("NAPARI_MEDSEQ_DEBUG", "1")
    with pytest.raises(RuntimeError):
        command("models")


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (KeyboardInterrupt(), 130, "Interrupted"),
        (MemoryError(), 1, "memory"),
        (OSError(28, "No space left on device"), 1, "No space"),
    ],
)
def test_the_system_gets_in_the_way(
    command: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, says: str
) -> None:
    def broken(*_: object, **__: Any) -> None:
        raise error

    monkeypatch.setattr("napari_medseq.models.list_models", broken)
    ran = command("models")
    assert ran.status == status
    assert says in ran.last


def test_warnings_are_one_line_each_and_only_ours(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def doubtful() -> list[Any]:
        for _ in range(2):
            warnings.warn("a\ndoubt", ms.MedseqWarning, stacklevel=1)
        warnings.warn("not yours to know", FutureWarning, stacklevel=1)
        return []

    monkeypatch.setattr("napari_medseq.models.list_models", doubtful)
    ran = command("models")
    assert ran.status == 0
    assert ran.err.splitlines() == ["napari-medseq: warning: a doubt"]


# -- doctor and help -------------------------------------------------------------------------------------------------
def test_doctor_says_device_and_why(command: Any) -> None:
    facts = command("doctor", "--json").json
    assert facts["device"]
    assert facts["reason"]
    assert facts["packages"]["torch"]
    assert "device:" in command("doctor").out


def test_doctor_names_the_install_command() -> None:
    cpu_build = doctor.advice(["GPU 0: X"], "cpu", None, "linux")
    assert "pip install --force-reinstall torch==" in cpu_build
    assert "NVIDIA driver" in doctor.advice(["GPU 0: X"], "cpu", "13.0", "linux")
    assert doctor.advice([], "cpu", None, "linux") == ""
    assert doctor.advice(["GPU 0: X"], "cuda", "13.0", "linux") == ""
    assert doctor.built_for("12.8", None) == "CUDA 12.8"
    assert doctor.built_for(None, "6") == "ROCm 6"


def test_doctor_asks_the_driver_for_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: Big One (UUID: GPU-123)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert doctor.gpus() == ["GPU 0: Big One"]


def test_help_is_quick_because_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys\nfrom napari_medseq import cli\ncli.parser().format_help()\n"
        "print(sorted(set(sys.modules) & {'numpy','torch','pandas','monai','SimpleITK','napari','matplotlib','pydantic','yaml'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_console_script_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_medseq", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.strip() == f"napari-medseq {ms.__version__}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_a_file_name_cannot_speak_to_the_terminal(command: Any, ball_study: Path, tmp_path: Path) -> None:
    wild = tmp_path / "scan\x1b[2J\u202egpj.nii.gz"
    shutil.copy(ball_study / "ses-20200131" / "sub-x_T1post.nii.gz", wild)
    for ran in (command("info", wild), command("info", tmp_path / "no\x1b[31m\u202esuch"), command("info", wild, "-m")):
        assert not {"\x1b", "\u202e"} & set(ran.out + ran.err)
    assert r"scan\x1b[2J\u202egpj" in command("info", wild).out


# -- what the commands share -----------------------------------------------------------------------------------------
def test_json_has_no_nan_and_no_numpy() -> None:
    from datetime import date

    given = {
        "a": np.float32(1.5),
        "b": float("nan"),
        "c": np.arange(2),
        "d": date(2020, 1, 2),
        "e": (float("inf"), True, None),
        1: "x",
    }
    assert common.plain(given) == {
        "a": 1.5,
        "b": None,
        "c": [0, 1],
        "d": "2020-01-02",
        "e": [None, True, None],
        "1": "x",
    }


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = common.bar()
    bar(1, 2, "half")
    bar(2, 2, "whole")
    assert "100%" in capsys.readouterr().err


def test_a_log_gets_a_line_for_each_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    bar = common.bar()
    for second in range(150):
        seconds[0] = float(second)
        bar(second, 200, f"iteration {second}")
    assert capsys.readouterr().err == " 30%   60 s  iteration 60\n 60%  120 s  iteration 120\n"


def test_tables_line_up() -> None:
    rows: list[dict[str, object]] = [{"a": 1.23456, "b": None}, {"a": "long text", "b": [1, 2.5]}]
    assert common.table(rows).splitlines() == ["a          b", "1.235", "long text  1×2.5"]
    assert common.table([]) == "(nothing)"


# -- options that would be passed over, and files that would be lost ----------------------------------------------------
@pytest.fixture
def here(ball_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image, its mask and a folder of two images; the commands are called in it."""
    visit = ball_study / "ses-20200131"
    (tmp_path / "d").mkdir()
    for source, target in (("T1post", "a"), ("T1post", "d/a"), ("T1post", "d/b"), ("tumor", "m_seg")):
        shutil.copy(visit / f"sub-x_{source}.nii.gz", tmp_path / f"{target}.nii.gz")
    monkeypatch.chdir(tmp_path)
    (mask,) = ms.read("m_seg.nii.gz")
    ms.write(mask.replace(data=mask.data[1:]), "c_seg.nii.gz")  # on another grid
    return tmp_path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("convert d -o out --series *zzz*", "no image is called like *zzz*"),
        ("convert d -o out --format nii.gz", "--format nii.gz is not one of"),
        ("convert a.nii.gz -o x.nii.gz --format .mha", "--format is for a folder"),
        ("convert a.nii.gz -o x.nii.gz --reference d", "--reference is for labels"),
        ("convert a.nii.gz -o a.nii.gz", "a.nii.gz is read here"),
        ("convert d -o d", "is read here"),
        ("propagate a.nii.gz c_seg.nii.gz -o x.nii.gz", "'{kind: resample, interpolation: nearest}' --reference IMAGE"),
        ("preprocess a.nii.gz -s resample -o x.nii.gz", "another image as target (--reference)"),
        ("convert a.nii.gz -o a.png", "a.png: files are written as .nii .nii.gz"),
        ("convert a.nii.gz -o m_seg.nii.gz/x.nii.gz", "m_seg.nii.gz is a file, not a folder"),
        ("segment a.nii.gz -m {model} -o m_seg.nii.gz/x.nii.gz", "m_seg.nii.gz is a file, not a folder"),
        ("segment a.nii.gz -m {model} -o x.dcm", "a is not a DICOM series; use .nii.gz"),
        ("propagate a.nii.gz m_seg.nii.gz -o x.dcm", "a is not a DICOM series; use .nii.gz"),
        ("propagate m_seg.nii.gz a.nii.gz -o x.nii.gz", "it is an image, not labels"),
        ("teach m_seg.nii.gz a.nii.gz -o x", "it is an image, not labels"),
        ("evaluate -p a.nii.gz -t m_seg.nii.gz", "it is an image, not labels"),
        ("teach a.nii.gz m_seg.nii.gz -o d", "d exists and is not a model bundle"),
        ("train d -o d", "d exists and is not a model bundle"),
        ("train d -o a.nii.gz/m", "a.nii.gz is a file, not a folder"),
        ("train nope -o m", "nope is not there; check the path"),
        ("train a.nii.gz -o m", "a.nii.gz is neither a folder of data, nor a CSV file"),
        ("check a.nii.gz", "a.nii.gz is neither a folder nor a CSV file"),
        ("register a.nii.gz d/a.nii.gz --transform t.txt", "t.txt: the transform is written as one of"),
        ("register a.nii.gz d/a.nii.gz -o d/a.nii.gz", "d/a.nii.gz is read here"),
        ("register a.nii.gz d", "name the file or folder of one of them"),
        ("segment a.nii.gz -m {model} -o a.nii.gz", "a.nii.gz is read here"),
        ("segment a.nii.gz -m {model} -o x.nii.gz --probability p.seg.nrrd", "p.seg.nrrd: the file name must end in"),
        ("segment a.nii.gz -m {model} -o x.nii.gz --probability X.nii.gz", "is named for two results"),
        ("segment a.nii.gz -m {model} -o x.nii.gz --again", "--again and --format are for a folder"),
        ("segment a.nii.gz -m {model} -o m_seg.nii.gz --keep m_seg.nii.gz", "m_seg.nii.gz is read here"),
        ("segment d -m {model} -o d --again", "is one of the images"),
        ("preprocess a.nii.gz -s zscore -o a.nii.gz", "a.nii.gz is read here"),
        ("preprocess d -s zscore -o d", "is read here"),
        ("preprocess a.nii.gz -s crop -o x.nii.gz --follow m_seg.nii.gz y.txt", "y.txt: the mask is written as one of"),
        ("preprocess a.nii.gz -s crop -o x.nii.gz --follow m_seg.nii.gz m_seg.nii.gz", "m_seg.nii.gz is read here"),
        ("propagate a.nii.gz m_seg.nii.gz -o x.nii.gz --steps 9-3", "'9-3' is not a list of steps"),
        ("propagate a.nii.gz m_seg.nii.gz -o m_seg.nii.gz", "m_seg.nii.gz is read here"),
        ("classify a.nii.gz -m {model} -o c.xlsx", "c.xlsx: the table is written as .csv"),
        ("evaluate -p m_seg.nii.gz -t m_seg.nii.gz -o t.xlsx", "t.xlsx: the table is written as .csv"),
        ("teach d m_seg.nii.gz -o out", "name the file or folder of one of them"),
        ("track m_seg.nii.gz m_seg.nii.gz --order a b", "--order is for a study folder"),
        ("table d --descending", "--descending is for --sort"),
        ("retest a.nii.gz -m {model} --visit 1", "--visit is for a result"),
        ("models list sarcoma", "`models list` takes no name"),
        ("models verify sarcoma --sha256 00", "--sha256 is for `models add`"),
        ("cohort . -m {model} -o out --time-limit -5", "time_limit_s = -5"),
        ("cohort . -m {model} -o out --memory-limit -1", "memory_limit_gb = -1"),
        ("cohort . -m {model} -o out --retries -1", "retries = -1"),
        ("cohort . -m {model} -o out --dry-run --workers -3", "workers = -3"),
    ],
)
def test_what_would_be_passed_over_or_lost_is_refused(
    command: Any, here: Path, tiny_bundle: Path, line: str, says: str
) -> None:
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    ran = command(*(tiny_bundle if word == "{model}" else word for word in line.split()))
    assert ran.status == 1
    assert says in ran.err
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


def test_a_folder_may_have_a_point_in_its_name(command: Any, here: Path) -> None:
    assert command("preprocess", "d", "-s", "zscore", "-o", "out_1.5mm").status == 0
    assert sorted(p.name for p in (here / "out_1.5mm").iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_folders_are_evaluated_by_name_and_what_is_missing_is_said(command: Any, here: Path) -> None:
    for name in ("p/a", "t/a", "t/b"):
        (here / name).parent.mkdir(exist_ok=True)
        shutil.copy("m_seg.nii.gz", f"{name}.nii.gz")
    (here / "p" / "notes.txt").write_text("no image")
    ran = command("evaluate", "-p", "p", "-t", "t", "--json")
    assert (ran.status, len(ran.json)) == (0, 1)
    assert "p holds no prediction of 1 of 2 truths (b)" in ran.err
    command("convert", "m_seg.nii.gz", "-o", "p/a.nrrd")
    assert "have the same name" in command("evaluate", "-p", "p", "-t", "t").last


def test_tables_of_the_command_hold_no_formulas(command: Any, here: Path) -> None:
    (here / "=1+1").mkdir()
    shutil.copy("m_seg.nii.gz", "=1+1/m_seg.nii.gz")
    assert command("evaluate", "-p", "m_seg.nii.gz", "-t", "=1+1/m_seg.nii.gz", "-o", "t.csv").status == 0
    assert (here / "t.csv").read_text().splitlines()[1].startswith("'=1+1/m_seg.nii.gz,")


def test_run_again_finds_the_study_from_another_folder(
    command: Any, ball_study: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ball_study.parent)
    assert command("run", ball_study.name, "-m", tiny_bundle, "-o", tmp_path / "r").status == 0
    monkeypatch.chdir(tmp_path)
    ran = command("run", "--again", tmp_path / "r" / "run.json", "--json")
    assert ran.status == 0, ran.err


def test_one_image_that_cannot_be_converted_does_not_stop_the_others(command: Any, here: Path) -> None:
    sheared = np.diag([-1.0, -1, 1, 1])
    sheared[0, 2] = 0.5
    ms.write(ms.ImageSequence(np.zeros((3, 4, 5), np.int16), ("z", "y", "x"), sheared), "d/0.nii.gz")
    ran = command("convert", "d", "-o", "out", "--format", ".mha", "--json")
    assert (ran.status, [f["image"] for f in ran.json["failed"]]) == (1, ["0"])
    assert sorted(p.name for p in (here / "out").iterdir()) == ["a.mha", "b.mha"]
    assert "sheared" in ran.err


@pytest.mark.usefixtures("here")
def test_messages_name_options_where_the_api_has_keywords(command: Any, tiny_bundle: Path) -> None:
    ran = command("segment", "d", "-m", tiny_bundle, "-o", "x.nii.gz")
    assert ran.last.endswith("Choose one with --series.")
