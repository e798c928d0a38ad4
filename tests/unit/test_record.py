"""The record of a run names what it was made with, and digests are those of hashlib."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from napari_medseq import record
from napari_medseq.errors import ReadError


def test_a_run_carries_the_versions_that_decide_it(tmp_path: Path) -> None:
    record.write_run(tmp_path / "run.json", {"settings": {"min_overlap": 0.1}})
    found = record.read_json(tmp_path / "run.json")
    assert found["settings"] == {"min_overlap": 0.1}
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["torch"] == version("torch")


def test_the_digest_of_a_folder_changes_with_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    assert record.sha256(tmp_path / "a" / "x") == hashlib.sha256(b"1").hexdigest() == record.sha256_of([b"1"])
    before = record.sha256(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    renamed = record.sha256(tmp_path / "a")
    (tmp_path / "a" / "y").write_bytes(b"2")
    assert len({before, renamed, record.sha256(tmp_path / "a")}) == 3


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_a_broken_record_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ReadError, match=r"run\.json"):
        record.read_json(tmp_path / "run.json")
