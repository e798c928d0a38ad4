"""Choices of the matcher one at a time: common shift, earlier visits before nearness, brightness, specks in splits."""

from __future__ import annotations

import numpy as np

import napari_medseq as ms
from napari_medseq.progression.components import Lesion
from napari_medseq.progression.match import Edge
from napari_medseq.progression.tracking import common_shift
from napari_medseq.sequence import ImageSequence
from tests.narrowing import some
from tests.unit.progression.masks import Box, events, mask


def cube(z: int, y: int, x: int, n: int = 3) -> Box:
    return (z, z + n, y, y + n, x, x + n)


def test_what_all_lesions_moved_together_is_taken_back() -> None:
    places = [(4, y, x) for y in (4, 16, 28) for x in (4, 13, 22)]
    shift = 5  # more than half the way to the next lesion, which a nearest neighbour would take
    # a few large ones tell the shift, as they still overlap
    big = [(12, 18, y, y + 8, 5 + d, 17 + d) for d in (0, shift) for y in (2, 12, 22, 32)]
    more = [(1, 3, y, y + 6, 20 + d, 32 + d) for d in (0, shift) for y in (6, 20, 33)]
    pair = [
        mask(
            *(cube(z + 2, y, x + d) for z, y, x in places),
            *big[4 * k : 4 * k + 4],
            *more[3 * k : 3 * k + 3],
            shape=(20, 44, 44),
        )
        for k, d in enumerate((0, shift))
    ]
    table = ms.track(pair).lesions
    for _, rows in table.groupby("lesion"):
        assert len(rows) == 2
        np.testing.assert_allclose(rows["centroid_r_mm"].diff().iloc[1], -shift)  # array x runs to the left
        assert rows["event"].iloc[1] == "stable"


def lesion(visit: int, number: int, z: int, y: int, x: int) -> Lesion:
    index = np.argwhere(np.ones((3, 3, 3))).astype(np.int32) + np.array([z, y, x], np.int32)
    return Lesion(visit, number, "l", index, np.diag([-1.0, -1, 1, 1]))


def test_a_shift_is_told_only_where_enough_lesions_agree() -> None:
    rng = np.random.default_rng(0)
    places = rng.integers(5, 60, (8, 3))
    before = [lesion(0, n, *p) for n, p in enumerate(places)]
    edges = [Edge((0, n), (1, n), 1.0) for n in range(8)]
    moved = [lesion(1, n, *(p + np.array([0, 2, 0]))) for n, p in enumerate(places)]
    np.testing.assert_allclose(some(common_shift(before, moved, edges)), (0, -2, 0))
    assert common_shift(before, moved, edges[:4]) is None
    apart = [lesion(1, n, *(p + rng.integers(-3, 4, 3))) for n, p in enumerate(places)]
    assert common_shift(before, apart, edges) is None
    assert common_shift(before, [lesion(1, n, *p) for n, p in enumerate(places)], edges) is None


def test_an_overlap_with_an_earlier_visit_goes_before_nearness() -> None:
    lost, near = cube(5, 10, 10, 4), cube(5, 10, 17, 3)
    p = ms.track([mask(lost), mask(near), mask(lost)])
    found = events(p)
    assert found[1, 2] == ("new", "")
    assert found[2, 1] == ("reappeared", "1")
    assert found[2, 2] == ("resolved", "")


def test_brightness_decides_between_equally_near() -> None:
    here = cube(5, 10, 14)
    pair = [mask(here), mask(cube(5, 10, 19), cube(5, 10, 9))]
    images = []
    for m, values in zip(pair, ((900,), (100, 900)), strict=True):
        data = np.random.default_rng(0).uniform(300, 700, m.data.shape)
        for box, value in zip((here,) if len(values) == 1 else (cube(5, 10, 19), cube(5, 10, 9)), values, strict=True):
            data[box[0] : box[1], box[2] : box[3], box[4] : box[5]] = value
        images.append(ImageSequence(data, ("z", "y", "x"), m.affine, modality="MR"))
    table = ms.track(pair, images=images).lesions.query("visit == 1 and lesion == 1")
    assert table["intensity_mean"].tolist() == [900]


def test_a_lesion_that_falls_into_two_specks_is_split_but_a_shed_speck_is_none() -> None:
    large = (2, 18, 4, 24, 4, 34)
    specks = mask(large), mask(cube(6, 8, 8, 2), cube(6, 8, 28, 2))
    assert {e for (v, _), (e, _) in events(ms.track(specks)).items() if v} == {"split"}
    shed = mask(large), mask((2, 18, 4, 24, 4, 30), cube(6, 8, 32, 2))
    assert "split" not in {e for (v, n), (e, _) in events(ms.track(shed)).items() if v and n == 1}


def test_a_piece_beside_its_parent_belongs_to_it_only_if_volume_is_missing() -> None:
    parent, beside = (5, 11, 10, 16, 10, 20), (6, 10, 11, 14, 20, 22)  # two voxels off, it overlaps no more
    cut = events(ms.track([mask(parent), mask(cube(6, 11, 10), beside)]))
    assert cut[1, 1] == ("split", "1")
    assert cut[1, 2] == ("split", "1")
    whole = events(ms.track([mask(parent), mask((5, 11, 10, 16, 10, 19), beside)]))
    assert whole[1, 1][0] != "split"
    assert whole[1, 2] == ("new", "")
