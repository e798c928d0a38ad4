"""`napari-medseq models add|verify|remove`: one line each, and a refusal is an exit status of 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_medseq import cli


def test_a_model_is_added_verified_and_removed(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path / "mine"))

    def run(*arguments: object) -> tuple[int, Any]:
        capsys.readouterr()
        status = cli.main(["models", *(str(a) for a in arguments)])
        return status, capsys.readouterr()

    status, told = run("add", tiny_bundle, "--json")
    assert (status, json.loads(told.out)["name"]) == (0, "tiny")
    assert (tmp_path / "mine" / "tiny").is_dir()
    status, told = run("verify", "tiny")
    assert (status, "whole, and it loads" in told.out) == (0, True)
    status, told = run("add", tiny_bundle)
    assert status == 1
    assert "already" in told.err
    (tmp_path / "mine" / "tiny" / "LICENSE").write_text("mine now")
    status, told = run("verify", "tiny")
    assert status == 1
    assert "LICENSE" in told.err
    assert run("remove", "tiny")[0] == 0
    assert not (tmp_path / "mine" / "tiny").exists()
    status, told = run("add", "https://127.0.0.1:9/m.zip")
    assert status == 1
    assert "SHA-256" in told.err
    with pytest.raises(SystemExit) as stop:
        run("remove")
    assert stop.value.code == 2
