"""A short run of the bounded fuzzing (`python -m tests.fuzz_headers` is the long one), and proof that it finds faults."""

from __future__ import annotations

from pathlib import Path

import pytest

import napari_medseq as ms
from tests import fuzz_headers


def test_damaged_headers_are_answered() -> None:
    counts, complaints = fuzz_headers.run(1.5, seed=1000)
    assert sum(counts.values()) > 0
    assert complaints == []


def test_the_fuzzer_notices_names_and_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(fuzz_headers.corpus(tmp_path / "sound")["a.nii"])
    assert fuzz_headers.complaint(path) == ""
    monkeypatch.setattr(ms, "info", lambda _: fuzz_headers.SECRET)
    assert "name is told" in fuzz_headers.complaint(path)
    monkeypatch.setattr(ms, "info", lambda _: 1 // 0)
    assert "ZeroDivisionError" in fuzz_headers.complaint(path)
