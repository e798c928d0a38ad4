"""Alignment by hand: landmarks against SciPy and SimpleITK, and that a search does not overrule a person."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_medseq import geometry
from napari_medseq.errors import RegistrationError
from napari_medseq.registration import visits
from napari_medseq.registration.byhand import KEY, AlignmentMeter, HandAlignment, fit_landmarks, rigid_about
from napari_medseq.sequence import ImageSequence

RNG = np.random.default_rng(5)


@given(st.integers(0, 2**31), st.integers(3, 8), st.floats(0, 3))
def test_landmarks_as_scipy_and_simpleitk_fit_them(seed: int, count: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    fixed = rng.uniform(-80, 80, (count, 3))
    true = rigid_about(rng.uniform(-20, 20, 3), rng.uniform(-30, 30, 3), rng.uniform(-40, 40, 3))
    moving = geometry.apply_points(true, fixed) + rng.normal(0, noise, fixed.shape)
    found, error = fit_landmarks(fixed, moving)
    turn, left = Rotation.align_vectors(moving - moving.mean(0), fixed - fixed.mean(0))
    assert np.allclose(found[:3, :3], turn.as_matrix(), atol=1e-6)
    assert error == pytest.approx(left / np.sqrt(count), abs=1e-4)  # SciPy loses digits near 0
    itk = sitk.LandmarkBasedTransformInitializer(
        sitk.VersorRigid3DTransform(), fixed.ravel().tolist(), moving.ravel().tolist()
    )
    assert np.allclose([itk.TransformPoint(p) for p in fixed.tolist()], geometry.apply_points(found, fixed), atol=1e-4)


def test_one_pair_is_a_shift_and_a_line_turns_no_more_than_it_must() -> None:
    shift, error = fit_landmarks([(1, 2, 3)], [(4, 0, 3)])
    assert error == 0
    assert np.allclose(shift, geometry.as_affine([[1, 0, 0, 3], [0, 1, 0, -2], [0, 0, 1, 0], [0, 0, 0, 1]]))
    line = np.array([(0.0, 0, 0), (10, 0, 0), (20, 0, 0), (5, 0, 0)])
    quarter = rigid_about((0, 0, 0), (1, 1, 1), (0, 0, 90))
    for points in (line[:2], line):
        found, error = fit_landmarks(points, geometry.apply_points(quarter, points))
        assert np.allclose(found, quarter)
        assert error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("fixed", "moving"), [([], []), ([(0, 0, 0)], [(0, 0, 0), (1, 1, 1)])])
def test_landmarks_that_are_no_pairs_are_refused(fixed: Any, moving: Any) -> None:
    with pytest.raises(RegistrationError, match="come in pairs"):
        fit_landmarks(fixed, moving)


def test_a_turn_keeps_its_centre_and_the_shift_comes_after() -> None:
    moved = rigid_about((10, 20, 30), (1, 2, 3), (0, 0, 90))
    assert np.allclose(geometry.apply_points(moved, [(10, 20, 30)]), [(11, 22, 33)])
    assert np.allclose(geometry.apply_points(moved, [(11, 20, 30)]), [(11, 23, 33)])


def test_landmarks_that_face_the_other_way_are_turned_by_half() -> None:
    found, error = fit_landmarks([(0, 0, 0), (10, 0, 0)], [(3, 0, 0), (-7, 0, 0)])
    assert error == pytest.approx(0, abs=1e-9)
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1)


@given(st.integers(0, 10_000), st.integers(3, 8))
def test_landmarks_on_a_line_are_fitted_all_together(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    fixed = np.outer(np.sort(rng.uniform(-40, 40, count)), rng.normal(size=3)) + rng.normal(0, 20, 3)
    moving = geometry.apply_points(rigid_about((1, 2, 3), rng.normal(0, 9, 3), rng.uniform(-90, 90, 3)), fixed)
    moving += rng.normal(0, 2, moving.shape)
    found, error = fit_landmarks(fixed, moving)
    for _ in range(10):  # no rotation nearby fits better
        turn = rigid_about(moving.mean(0), (0, 0, 0), rng.normal(0, 3, 3)) @ found
        apart = geometry.apply_points(turn, fixed) - moving
        assert np.sqrt((apart**2).sum(axis=1).mean()) >= error - 1e-9


def head(shift: tuple[float, float, float] = (0, 0, 0), **meta: Any) -> ImageSequence:
    """A grey ellipsoid with blobs, as the scanner sees it where the patient lies `shift` mm off."""
    z, y, x = np.meshgrid(*(np.arange(n) * 3.0 - 45 for n in (31, 31, 31)), indexing="ij")
    z, y, x = z - shift[2], y - shift[1], x - shift[0]
    data = np.where((x / 30) ** 2 + (y / 38) ** 2 + (z / 28) ** 2 < 1, 100.0, 0.0)
    rng = np.random.default_rng(1)
    for _ in range(12):
        c, w = rng.uniform(-20, 20, 3), rng.uniform(4, 9)
        data += rng.uniform(-60, 60) * np.exp(-((x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2) / (2 * w**2))
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = -45
    return ImageSequence(data.astype(np.float32), ("z", "y", "x"), affine, name="head", modality="MR", meta=meta)


def test_the_measure_is_best_where_the_images_lie_on_each_other() -> None:
    meter = AlignmentMeter(head((9, 0, 0)), head())
    right = rigid_about((0, 0, 0), (9, 0, 0), (0, 0, 0))
    wrong = [rigid_about((0, 0, 0), (9 + d, 0, 0), (0, 0, 0)) for d in (-9, -3, 3)]
    assert all(meter.at(right).mi > meter.at(w).mi for w in wrong)
    assert meter.at(right).correlation > 0.95
    assert np.allclose(meter.centre, 0, atol=4)


@pytest.mark.parametrize("mode", ["auto", "none", "rigid"])
def test_a_search_does_not_overrule_a_person(mode: Any) -> None:
    said = rigid_about((0, 0, 0), (-2, 1, 0), (0, 0, 3))
    hand = HandAlignment(said, "3 landmarks", 1.75)
    found = visits([head(), head((9, 0, 0), **{KEY: hand.as_dict()})], mode=mode)
    assert np.allclose(found[1].to_baseline, said)
    assert found[1].error_mm == 1.75
    assert found[1].reason == "aligned by hand: 3 landmarks"


def test_what_is_no_alignment_is_passed_over() -> None:
    assert HandAlignment.of(None) is None
    for kept in ({}, {"to_first": "x"}, {"to_first": [[1, 2], [3, 4]]}, "by hand"):
        assert HandAlignment.of(head().replace(meta={KEY: kept})) is None
    back = HandAlignment.from_dict(HandAlignment(np.eye(4), "by eye").as_dict())
    assert back is not None
    assert (back.how, back.error_mm) == ("by eye", None)
