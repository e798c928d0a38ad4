"""One patient over three visits: the story, and that it is told truly."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_medseq import geometry
from napari_medseq.errors import SettingsError
from napari_medseq.sequence import Study
from napari_medseq.synthetic import Truth, make_study, make_truth
from napari_medseq.synthetic.study import COLUMNS, DATES
from tests.narrowing import of


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(0)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return make_truth(0)


def rows(truth: Truth, **wanted: Any) -> list[dict[str, Any]]:
    return [r for r in truth.rows if all(r[k] == v for k, v in wanted.items())]


def test_three_dated_visits_each_on_its_own_grid(study: Study) -> None:
    assert study.dates == list(DATES)
    assert [v.images[0].size("z") for v in study.visits] == [24, 22, 24]
    frames = {v.images[0].meta["frame_of_reference"] for v in study.visits}
    assert len(frames) == 3
    for visit in study.visits:
        assert visit.labels[0].same_grid(visit.images[0])
        assert visit.images[0].acquired is not None
        assert visit.images[0].acquired.date() == visit.date


def test_every_event_happens(truth: Truth) -> None:
    events = {r["event"] for r in truth.rows}
    assert events >= {"baseline", "new", "growing", "stable", "shrinking", "merged", "split", "resolved"}


def test_rows_are_as_the_design_says(truth: Truth) -> None:
    assert all(tuple(r) == COLUMNS for r in truth.rows)
    assert len({(r["visit"], r["lesion"]) for r in truth.rows}) == len(truth.rows)
    for r in truth.rows:
        gone = r["volume_ml"] == 0
        assert gone == (r["event"] == "resolved" or (r["event"] == "merged" and r["parents"] == ""))
        if gone:
            assert rows(truth, visit=of(int, r["visit"]) - 1, lesion=r["lesion"])[0]["volume_ml"] > 0
            assert not [q for q in rows(truth, lesion=r["lesion"]) if q["visit"] > r["visit"]]
        elif r["parents"]:
            earlier = {q["lesion"] for q in rows(truth, visit=of(int, r["visit"]) - 1) if q["volume_ml"] > 0}
            assert {int(p) for p in str(r["parents"]).split(";")} <= earlier


def test_volumes_change_as_the_events_say(truth: Truth) -> None:
    for r in truth.rows:
        if r["event"] in ("growing", "shrinking", "stable"):
            before = rows(truth, visit=of(int, r["visit"]) - 1, lesion=r["lesion"])[0]["volume_ml"]
            change = r["volume_ml"] / before - 1
            low, high = {"growing": (0.4, 5), "shrinking": (-1, -0.4), "stable": (-0.1, 0.1)}[str(r["event"])]
            assert low < change < high, r


def test_a_merge_keeps_the_largest_contributor_and_a_split_the_largest_child(truth: Truth) -> None:
    merged = next(r for r in truth.rows if r["event"] == "merged" and r["volume_ml"])
    parents = [
        rows(truth, visit=of(int, merged["visit"]) - 1, lesion=int(p))[0] for p in str(merged["parents"]).split(";")
    ]
    assert max(parents, key=lambda r: r["volume_ml"])["lesion"] == merged["lesion"]
    children = rows(truth, event="split")
    assert len(children) == 2
    assert max(children, key=lambda r: r["volume_ml"])["lesion"] == int(str(children[0]["parents"]))


def test_identities_follow_size_at_the_first_visit(truth: Truth) -> None:
    volumes = [r["volume_ml"] for r in rows(truth, visit=0)]
    assert volumes == sorted(volumes, reverse=True)


def test_labels_hold_the_volumes_of_the_rows(truth: Truth) -> None:
    for visit, (label, mask) in enumerate(zip(truth.labels, truth.masks, strict=True)):
        np.testing.assert_array_equal(label.data > 0, mask.data == 1)
        voxel = geometry.voxel_volume_mm3(label.affine) / 1000
        present = [r for r in rows(truth, visit=visit) if r["volume_ml"]]
        assert {r["lesion"] for r in present} == set(np.unique(label.data)) - {0} == set(label.label_names)
        for r in present:
            assert r["volume_ml"] == pytest.approx((label.data == r["lesion"]).sum() * voxel, abs=1e-3)
            assert 0.7 < r["volume_ml"] < 9


def test_each_lesion_is_one_piece_and_well_apart_from_the_others(truth: Truth) -> None:
    for label in truth.labels:
        _, count = ndimage.label(label.data > 0, np.ones((3, 3, 3)))
        assert count == len(label.label_names)
        spacing = [label.spacing[a] for a in ("z", "y", "x")]
        for i in label.label_names:
            gap = ndimage.distance_transform_edt(label.data != i, sampling=spacing)
            others = gap[(label.data > 0) & (label.data != i)]
            assert others.min() > (5.0 if i in (4, 6) else 9.0)


def test_the_head_moves_a_little_and_the_true_registration_undoes_it(truth: Truth) -> None:
    np.testing.assert_allclose(truth.to_first[0], np.eye(4), atol=1e-9)
    for matrix in truth.to_first[1:]:
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
        angle = np.rad2deg(np.arccos((np.trace(matrix[:3, :3]) - 1) / 2))
        assert 0.3 < angle < 3.5
        assert 0.3 < np.linalg.norm(matrix[:3, 3]) < 5

    def centre(visit: int, lesion: int) -> np.ndarray:
        label = truth.labels[visit]
        where = np.argwhere(label.data == lesion)[:, ::-1]
        return np.asarray(geometry.apply_points(truth.to_first[visit] @ label.affine, where).mean(0))

    for visit in (1, 2):  # lesion 3 is the stable one
        assert np.linalg.norm(centre(visit, 3) - centre(0, 3)) < 1.5


def test_the_true_registration_brings_the_images_together(study: Study, truth: Truth) -> None:
    """The head's outline of the other visits overlaps the first visit's better after the true registration than before."""
    first = np.asarray(study.visits[0].images[0].data, np.float32)
    for visit in (1, 2):
        image = study.visits[visit].images[0]
        other = np.asarray(image.data, np.float32)
        scores = []
        for matrix in (truth.to_first[visit], np.eye(4)):
            voxels = np.linalg.inv(image.affine) @ np.linalg.inv(matrix) @ study.visits[0].images[0].affine
            z, y, x = np.meshgrid(*[np.arange(n) for n in first.shape], indexing="ij")
            points = geometry.apply_points(voxels, np.stack([x, y, z], -1).reshape(-1, 3))[:, ::-1].T
            moved = ndimage.map_coordinates(other, points, order=1).reshape(first.shape)
            inner = (slice(4, 18), slice(10, -10), slice(10, -10))
            scores.append(np.corrcoef(first[inner].ravel(), moved[inner].ravel())[0, 1])
        assert scores[0] > scores[1] + 0.005


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def test_no_threshold_finds_the_tumours(study: Study, truth: Truth) -> None:
    """The best threshold on visit 1, plain or inside an eroded head, scores a Dice under 0.5 on visits 2 and 3."""
    images = [np.asarray(v.images[0].data, float) for v in study.visits]
    masks = [np.asarray(m.data) > 0 for m in truth.masks]

    def inner(data: np.ndarray) -> np.ndarray:
        filled = [
            ndimage.binary_fill_holes(ndimage.binary_closing(s, iterations=2))
            for s in data > 0.15 * np.percentile(data, 99)
        ]
        return np.array([ndimage.binary_erosion(s, iterations=15) for s in filled])

    def standard(data: np.ndarray) -> np.ndarray:
        head = data > 0.15 * np.percentile(data, 99)
        return np.asarray((data - data[head].mean()) / data[head].std())

    everywhere = [np.ones(i.shape, bool) for i in images]
    brains = [inner(i) for i in images]
    for values in (images, [standard(i) for i in images]):
        for region in (everywhere, brains):
            tries = np.linspace(np.percentile(values[0], 30), values[0].max(), 80)
            best = max(tries, key=lambda t: dice((values[0] > t) & region[0], masks[0]))
            assert max(dice((v > best) & r, m) for v, r, m in zip(values[1:], region[1:], masks[1:], strict=True)) < 0.5


def test_another_seed_tells_the_same_story_of_another_head(truth: Truth) -> None:
    other = make_truth(1, shape_zyx=(24, 96, 88), spacing_zyx=(6.5, 2.2, 2.0))
    assert [(r["lesion"], r["event"], r["parents"]) for r in other.rows] == [
        (r["lesion"], r["event"], r["parents"]) for r in truth.rows
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"dates": DATES[:2]},
        {"dates": (date(2020, 1, 1),) * 3},
        {"shape_zyx": (4, 192, 160)},
        {"shape_zyx": (24, 32, 32)},
    ],
    ids=["two dates", "same dates", "flat", "narrow"],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        make_study(0, **wrong)


def test_the_table_is_a_data_frame(truth: Truth) -> None:
    assert list(truth.table.columns) == list(COLUMNS)
    assert len(truth.table) == len(truth.rows)


def test_what_a_caller_does_with_a_study_does_not_change_the_next_one() -> None:
    image, truth = make_study().visits[0].images[0], make_truth()
    before = np.array(image.data), np.array(truth.labels[0].data)
    image.data[:] = 0
    image.meta["frame_of_reference"] = "another"
    truth.labels[0].data[:] = 0
    truth.rows[0]["volume_ml"] = -1.0
    again, other = make_study().visits[0].images[0], make_truth()
    assert np.array_equal(again.data, before[0])
    assert again.meta["frame_of_reference"] != "another"
    assert np.array_equal(other.labels[0].data, before[1])
    assert other.rows[0]["volume_ml"] != -1.0
