"""A result that is written while it is corrected, and one whose writing is cancelled."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import numpy as np
import pytest

from napari_medseq.errors import OperationCancelled
from napari_medseq.progression import Progression, track
from tests.unit.progression.masks import A, B, C, mask


@pytest.fixture
def followed() -> Progression:
    return track([mask(A, B), mask(A, C)])


def test_a_copy_does_not_hold_what_is_corrected_later(followed: Progression, tmp_path: Path) -> None:
    followed.exclude(1, 0)
    then = copy(followed)
    labels, corrections = then.labels, then.corrections
    followed.exclude(2)
    followed.split(1, 1, 2)
    followed.provenance["patient"] = "another"
    then.save(tmp_path)
    saved = Progression.load(tmp_path)
    assert saved.corrections == then.corrections == corrections
    assert len(followed.corrections) == len(corrections) + 2
    for a, b in zip(saved.labels, labels, strict=True):
        assert a is not None
        assert b is not None
        assert np.array_equal(a.data, b.data)
    assert "patient" not in saved.provenance
    followed.undo()
    followed.undo()
    followed.undo()
    assert then.corrections == corrections


@pytest.mark.parametrize("what", ["save", "report"])
def test_writing_that_is_cancelled_leaves_what_was_there(followed: Progression, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out" if what == "save" else tmp_path / "r.html"
    write = getattr(followed, what)
    write(out)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    followed.exclude(1)
    steps: list[tuple[int, int]] = []
    with pytest.raises(OperationCancelled):
        write(out, progress=lambda done, of, _text: steps.append((done, of)), cancelled=lambda: len(steps) == 2)
    assert [done for done, _ in steps] == [1, 2]
    assert steps[0][1] > 2
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
