"""`napari-medseq doctor`: each trouble is named with its remedy, and a report holds what helps and nothing of a patient."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_medseq import cli, faults
from napari_medseq.cli import troubles
from napari_medseq.models.library import SHIPPED


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder whose name has a space and another alphabet."""
    folder = tmp_path / "Ärztin Лена"
    folder.mkdir()
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "NAPARI_MEDSEQ_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("DISPLAY", ":0")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="HOME is a POSIX variable")
def test_where_all_is_well_nothing_is_named(home: Path) -> None:
    assert home.is_dir()
    assert [said for said in troubles.troubles() if "There is no network" not in said] == []


@pytest.mark.skipif(sys.platform == "win32", reason="HOME is a POSIX variable")
def test_no_home_is_named_with_its_remedy(home: Path) -> None:
    home.rmdir()
    (said,) = [said for said in troubles.troubles() if "home" in said]
    assert "set HOME" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is a folder in which nobody can make a file")
def test_folders_that_cannot_be_written_to_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/1")
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", "/proc/1/models")
    said = "\n".join(troubles.troubles())
    assert home.is_dir()
    assert "set XDG_CACHE_HOME to a folder of yours" in said
    assert "pseudonyms" not in said
    assert "set NAPARI_MEDSEQ_MODELS" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a screen of their own")
def test_no_screen_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert home.is_dir()
    assert any("There is no screen" in said for said in troubles.troubles())


def test_a_failure_is_kept_without_its_message_or_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(faults, "log_file", lambda: tmp_path / "log" / "faults.jsonl")
    assert cli.main(["info", str(tmp_path / "Mueller^Anna" / "scan.nii")]) == 1
    entry: Any
    (entry,) = faults.recent()
    (kind,) = [e["kind"] for e in entry["errors"]]
    assert kind == "napari_medseq.errors.ReadError"
    text = faults.log_file().read_text(encoding="utf-8")
    assert "napari_medseq/io/" in text
    assert "Mueller" not in text
    assert str(tmp_path) not in text


def test_the_log_keeps_the_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faults.jsonl"
    path.write_text("broken line\n" + '{"doing": "old"}\n' * 150, encoding="utf-8")
    monkeypatch.setattr(faults, "log_file", lambda: path)
    faults.note("button", ValueError("secret"))
    assert len(path.read_text(encoding="utf-8").splitlines()) == 100
    assert faults.recent(1)[0]["doing"] == "button"
    path.chmod(0o400)
    monkeypatch.setattr(faults, "log_file", lambda: tmp_path / "faults.jsonl" / "no" / "folder")
    faults.note("button", ValueError("cannot be written, and says nothing"))


@pytest.mark.skipif(sys.platform == "win32", reason="HOME is a POSIX variable")
def test_a_report_is_text_to_paste_and_names_nobody(home: Path) -> None:
    environment = {**os.environ, "HOME": str(home), "NAPARI_MEDSEQ_MODELS": str(home / "models")}
    done = subprocess.run(
        [sys.executable, "-m", "napari_medseq", "doctor", "--report"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("```json\n")
    facts = json.loads(done.stdout.removeprefix("```json").strip().removesuffix("```"))
    assert {"python", "packages", "device", "troubles", "plugins", "variables", "failures"} <= set(facts)
    assert facts["variables"]["NAPARI_MEDSEQ_MODELS"] == "~/models"
    assert facts["shipped_models"] == sorted(p.parent.parent.name for p in SHIPPED.glob("*/configs/metadata.json"))
    assert str(home) not in done.stdout
