"""Lesions side by side: which are chosen, the slice through each, the same scale at all visits, and what stands above it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

import napari_medseq as ms
from napari_medseq.progression.keyslices import key_slices, lesion_slices
from tests.narrowing import some
from tests.unit.progression.masks import A, B, C, mask

BIG_C = (8, 18, 18, 30, 18, 30)
DAYS = ["2020-01-01", "2020-03-01", "2020-04-02"]


@pytest.fixture(scope="module")
def progression() -> ms.Progression:
    masks = [mask(A, B, C), mask(A, BIG_C), mask(A, B, BIG_C)]
    images = [m.replace(kind="image", data=m.data * 100.0, modality="MR", label_names={}) for m in masks]
    return ms.track(masks, dates=DAYS, images=images)


def _panels(figure: Figure | None) -> np.ndarray:
    assert figure is not None
    return np.array([axes.get_title() for axes in figure.axes]).reshape(-1, len(DAYS))


def test_those_that_changed_most_come_first_and_all_visits_are_beside_each_other(progression: ms.Progression) -> None:
    table = progression.lesions
    change = table.groupby("lesion")["volume_ml"].agg(lambda v: v.max() - v.min()).sort_values(ascending=False)
    titles = _panels(lesion_slices(progression))
    assert [int(row[0].split(",")[0].removeprefix("lesion ")) for row in titles] == change.index.tolist()
    for row in titles:
        assert [f"visit {k} of 3 ({day})" in title for title, k, day in zip(row, (1, 2, 3), DAYS, strict=True)] == [
            True
        ] * 3
    assert len(_panels(lesion_slices(progression, most=1))) == 1


def test_each_panel_says_what_the_table_says(progression: ms.Progression) -> None:
    titles = _panels(lesion_slices(progression))
    for row in progression.lesions.to_dict("records"):
        (panel,) = [r[row["visit"]] for r in titles if r[0].startswith(f"lesion {row['lesion']},")]
        assert row["event"] in panel
        assert row["volume_ml"] == 0 or f"{row['volume_ml']:.3g} mL" in panel


def test_a_row_has_one_scale_and_the_lesion_is_in_the_middle(progression: ms.Progression) -> None:
    figure = lesion_slices(progression)
    assert figure is not None
    for row in np.array(figure.axes).reshape(-1, len(DAYS)):
        widths = {round(abs(np.diff(axes.get_xlim())[0]), 6) for axes in row}
        assert len(widths) == 1
        for axes in row:
            outlined = [c for c in axes.collections if max(c.get_linewidths()) > 1.5]
            if outlined:
                x, y = np.concatenate([p.vertices for p in outlined[0].get_paths()]).mean(axis=0)
                assert np.mean(axes.get_xlim()) == pytest.approx(x, abs=2)
                assert np.mean(axes.get_ylim()) == pytest.approx(y, abs=2)


def test_where_a_lesion_is_absent_its_place_is_shown(progression: ms.Progression) -> None:
    figure = lesion_slices(progression)
    assert figure is not None
    b = next(row for row in np.array(figure.axes).reshape(-1, len(DAYS)) if row[0].get_title().startswith("lesion 2,"))
    assert "resolved" in b[1].get_title()
    here, gone = ([np.mean(axes.get_xlim()), np.mean(axes.get_ylim())] for axes in b[:2])
    np.testing.assert_allclose(here, gone, atol=1.5)


def test_one_visit_or_no_lesion_has_nothing_to_compare() -> None:
    assert lesion_slices(ms.track([mask(A)])) is None
    assert lesion_slices(ms.track([mask(), mask()])) is None


def test_slices_and_visits_are_counted_from_1(progression: ms.Progression) -> None:
    titles = [axes.get_title() for axes in key_slices(progression).axes]
    assert [t.splitlines()[0] for t in titles] == [f"visit {k} of 3 ({day})" for k, day in enumerate(DAYS, start=1)]
    volume = some(progression.labels[0]).data
    assert titles[0].splitlines()[1] == f"slice {(volume > 0).sum(axis=(1, 2)).argmax() + 1} of {len(volume)}"


def test_an_image_that_does_not_reach_everywhere_is_shown_where_it_does() -> None:
    masks = [mask(A), mask(A)]
    images = [m.replace(kind="image", data=np.where(m.data > 0, 50.0, np.nan), label_names={}) for m in masks]
    figure = key_slices(ms.track(masks, dates=DAYS[:2], images=images))
    for axes in figure.axes:
        assert axes.images[0].get_clim() == pytest.approx((50, 50), abs=1e-6)
