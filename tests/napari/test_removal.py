"""A mask with unsaved painting that was removed, as by napari's bin, comes back with undo."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseq import viewer as verbs
from napari_medseq.errors import MedseqError
from tests.napari.helpers import masks

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")


def test_a_painted_mask_comes_back_with_its_painting_and_its_steps(opened: ViewerModel) -> None:
    mask, editing = masks(opened)[0], verbs.editing_of(opened)
    start, order = np.array(mask.data), list(opened.layers)
    editing.paint(mask, np.arange(5), np.full(5, 2), "a stroke")
    painted = np.array(mask.data)
    opened.layers.remove(mask)
    assert "brings it back" in opened.status
    assert mask not in editing.unsaved
    for _ in range(2):
        assert verbs.undo(opened) == f"removing {mask.name}"
        assert list(opened.layers) == order
        assert opened.layers.selection.active is mask
        assert np.array_equal(mask.data, painted)
        assert mask in editing.unsaved
        assert editing.marks(mask).painted.sum() == 5
        verbs.redo(opened)
        assert mask not in opened.layers
    verbs.undo(opened)
    assert verbs.undo(opened) == "a stroke"
    assert np.array_equal(mask.data, start)


def test_what_is_saved_or_closed_with_its_patient_does_not_come_back(opened: ViewerModel) -> None:
    mask, other = masks(opened)
    editing = verbs.editing_of(opened)
    for layer in (mask, other):
        editing.paint(layer, np.arange(5), np.full(5, 2), "a stroke")
    editing.saved([mask])
    opened.layers.remove(mask)
    assert [step.name for step in editing.history.done] == ["a stroke"]
    verbs.close_patient(opened, "sub-x")
    assert not opened.layers
    with pytest.raises(MedseqError, match="nothing to undo"):
        verbs.undo(opened)
