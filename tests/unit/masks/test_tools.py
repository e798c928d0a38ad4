"""Every editing tool, whatever it is given: other labels stay, their voxels and their numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.masks import tools
from napari_medseq.masks.labels import LabelArray, Labelled
from tests.unit.masks.balls import ball, label_arrays, spacings

TOOLS = [
    tools.Interpolate(),
    tools.Interpolate(all_labels=True),
    tools.Grow(reach_mm=3),
    tools.Grow(low=0.2, high=0.8, reach_mm=2, blur_mm=0),
    tools.KeepLargest(),
    tools.RemoveSmall(min_ml=0.004),
    tools.Island(action="keep"),
    tools.Island(action="remove"),
    tools.Split(),
    tools.FillHoles(),
    tools.FillHoles(slice_by_slice=False),
    *(tools.Smooth(mm=1.5, method=m) for m in ("gaussian", "median", "opening", "closing")),
    tools.Margin(mm=2),
    tools.Margin(mm=-1),
    *(tools.Hollow(mm=1, side=s) for s in ("inside", "outside", "both")),
    tools.CopySlice(source=0, target=1),
]


def named(tool: tools.Tool) -> str:
    return f"{type(tool).__name__}({', '.join(str(v) for v in tool.model_dump().values())})"


def applied(tool: tools.Tool, labels: LabelArray, spacing: tuple[float, ...], at: tuple[int, ...]) -> LabelArray | None:
    image = np.random.default_rng(0).random(labels.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return tool.apply(Labelled(labels, 1, spacing, 0, image, at))
        except MedseqError:
            return None


@pytest.mark.parametrize("tool", TOOLS, ids=named)
@settings(max_examples=25, deadline=None)
@given(labels=label_arrays, spacing=spacings, data=st.data())
def test_no_voxel_of_another_label_ever_changes(
    tool: tools.Tool, labels: LabelArray, spacing: tuple[float, ...], data: st.DataObject
) -> None:
    before = labels.copy()
    at = tuple(data.draw(st.integers(0, n - 1)) for n in labels.shape)
    made = applied(tool, labels, spacing, at)
    assert np.array_equal(labels, before)
    if made is None:
        return
    others = labels > 1
    assert np.array_equal(made[others], labels[others])
    new = set(np.unique(made).tolist()) - set(np.unique(labels).tolist()) - {0}
    assert not new or isinstance(tool, tools.Split)


@pytest.mark.parametrize("tool", TOOLS, ids=named)
def test_a_label_that_is_not_there_is_said(tool: tools.Tool) -> None:
    if tool.starts_from_nothing:
        pytest.skip("it starts from seeds of any label")
    with pytest.raises(MedseqError, match="nothing of label 1"):
        tool.apply(Labelled(np.zeros((3, 4, 5), np.uint8), 1, (1, 1, 1)))


def test_shrinking_a_label_to_nothing_is_refused() -> None:
    labels = ball((7, 7, 7), (3, 3, 3), 2).astype(np.uint8)
    with pytest.raises(MedseqError, match="nothing would be left of label 1"):
        tools.Margin(mm=-5).apply(Labelled(labels, 1, (1, 1, 1)))


def test_tools_along_slices_say_so_on_one_slice() -> None:
    labels = np.ones((1, 4, 5), np.uint8)
    with pytest.raises(MedseqError, match="only one"):
        tools.Interpolate().apply(Labelled(labels, 1, (1, 1, 1)))


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="mm"):
        tools.Hollow(mm=-1)
