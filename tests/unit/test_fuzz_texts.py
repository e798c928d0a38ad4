"""A short run of the fuzzing of texts (`python -m tests.fuzz_texts` is the long one), and proof that it finds faults."""

from __future__ import annotations

from pathlib import Path

import napari_medseq as ms
from tests import fuzz_texts


def test_damaged_texts_are_answered() -> None:
    counts, complaints = fuzz_texts.run(1.5, seed=1000)
    assert sum(counts.values()) > 0
    assert complaints == []


def test_sound_parts_are_read_and_faults_are_found(tmp_path: Path) -> None:
    parts = fuzz_texts.corpus(tmp_path)
    assert fuzz_texts.unreadable(parts, tmp_path) == []

    def refuse(path: Path) -> None:
        raise ms.MedseqError(str(path))

    assert fuzz_texts.complaint(refuse, tmp_path) == ""
    assert "ZeroDivisionError" in fuzz_texts.complaint(lambda _: 1 // 0, tmp_path)
