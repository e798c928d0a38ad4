"""Registration of a phantom seen through known transforms; what is refused; that results repeat; alignment of visits."""

from __future__ import annotations

import itertools
import warnings
from functools import cache

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning, OperationCancelled, RegistrationError, SettingsError
from napari_medseq.registration import Transform, aligned, frames, register, visits
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground, otsu, region
from tests.narrowing import some
from tests.unit.registration.phantom import SHAPE, halved, motion, phantom, seen_through, target_error

SMALL, LARGE = ((4, -3, 6), (5, 8, -6)), ((-15, 10, 20), (-12, 10, 8))


@cache
def found_of(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> Transform:
    """The phantom, moved so, registered to itself: several tests ask different things of it."""
    return register(seen_through(phantom(), motion(angles, shift)), phantom())


@cache
def found_coarsely() -> Transform:
    """The same with the small motion, in large voxels."""
    fixed = halved(phantom())
    return register(seen_through(fixed, motion(*SMALL)), fixed)


@pytest.fixture(scope="module")
def fine() -> ImageSequence:
    return phantom()


@pytest.fixture(scope="module")
def fixed(fine: ImageSequence) -> ImageSequence:
    """The phantom in voxels of 5 × 5 × 8 mm."""
    return halved(fine)


@pytest.mark.parametrize(
    ("angles", "shift"),
    [SMALL, LARGE],
)
def test_a_known_rigid_motion_is_found_within_a_voxel(
    angles: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    real = motion(angles, shift)
    found = found_of(angles, shift)
    assert found.matrix is not None
    assert target_error(found.matrix, real) < 1.0  # voxels are 2.5 × 2.5 × 4 mm
    q = found.quality
    assert q.trustworthy
    assert q.mi_after > q.mi_before
    assert q.mi_after > q.mi_chance
    assert q.error_mm < 2
    expected = np.degrees(np.arccos((np.trace(real[:3, :3]) - 1) / 2))
    assert q.rotation_deg == pytest.approx(expected, abs=1)
    assert q.scale_max == pytest.approx(1, abs=1e-6)


def test_translation_and_affine(fine: ImageSequence, fixed: ImageSequence) -> None:
    shift = motion((0, 0, 0), (7, -9, 6))
    found = register(seen_through(fixed, shift), fixed, kind="translation")
    assert np.allclose(found.linear[:3, :3], np.eye(3))
    assert target_error(found.linear, shift) < 0.7
    real = motion((5, 5, -5), (4, 4, 4), scale=1.06)
    found = register(seen_through(fine, real), fine, kind="affine")
    assert target_error(found.linear, real) < 1.5
    assert found.quality.scale_max == pytest.approx(1.06, abs=0.02)


def test_inverted_contrast_is_no_obstacle(fine: ImageSequence) -> None:
    real = motion((3, -4, 8), (6, -5, 4))
    moving = seen_through(fine, real)
    other = moving.replace(data=np.where(moving.data > 40, 400 - moving.data, moving.data), modality="PT")
    assert target_error(register(other, fine).linear, real) < 1.2


def test_results_repeat_bit_for_bit(fixed: ImageSequence) -> None:
    one, two = found_coarsely(), register(seen_through(fixed, motion(*SMALL)), fixed)
    assert np.array_equal(one.linear, two.linear)
    assert one.quality.error_mm == two.quality.error_mm


def test_apply_brings_the_moving_image_onto_the_fixed(fine: ImageSequence) -> None:
    moving = seen_through(fine, motion(*LARGE))
    moved = found_of(*LARGE).apply(moving)
    assert moved.same_grid(fine)
    inner = foreground(fine.data)
    alike = np.corrcoef(moved.data[inner], fine.data[inner])[0, 1]
    before = np.corrcoef(moving.data[inner], fine.data[inner])[0, 1]
    assert alike > 0.85
    assert alike > before + 0.2


def test_images_far_apart_in_space_are_brought_together(fixed: ImageSequence) -> None:
    moving = seen_through(fixed, motion((3, 2, 5), (2, 2, 2)))
    far = np.array(moving.affine)
    far[:3, 3] += (700, -500, 900)
    found = register(moving.replace(affine=far), fixed)
    real = motion((3, 2, 5), (2, 2, 2))
    real[:3, 3] += (700, -500, 900)
    assert target_error(found.linear, real) < 1


def test_a_mask_says_where_to_look(fixed: ImageSequence) -> None:
    real = motion((0, 0, 6), (5, 0, 0))
    moving = seen_through(fixed, real)
    half = np.zeros(fixed.data.shape, np.uint8)
    half[:, :, : half.shape[2] // 2] = 1
    mask = fixed.labels_like(half, name="half", label_names={1: "half"})
    assert target_error(register(moving, fixed, mask=mask).linear, real) < 2
    with pytest.raises(RegistrationError, match="fewer than 100"):
        register(moving, fixed, mask=mask.like(np.zeros_like(half)))


def noise_like(image: ImageSequence, seed: int) -> ImageSequence:
    values = np.random.default_rng(seed).normal(100, 20, image.data.shape)
    return image.replace(data=values, name="noise")


def test_noise_is_never_trusted(fixed: ImageSequence) -> None:
    with pytest.raises(RegistrationError, match="mutual information"):
        register(noise_like(fixed, 1), fixed)


def test_a_failure_can_be_a_warning_instead(fixed: ImageSequence) -> None:
    noise = noise_like(fixed, 5)
    with pytest.warns(MedseqWarning, match="could not be aligned"):
        found = register(noise, fixed, on_failure="warn")
    assert not found.quality.trustworthy
    assert found.quality.doubts
    assert "NOT" in repr(found)


def test_an_upside_down_phantom_shows_in_the_error_estimate(fixed: ImageSequence) -> None:
    # its outline fits as well as the right way up; only repetition tells that nothing holds the inside in place
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MedseqWarning)
        turned = register(fixed.replace(data=fixed.data[::-1, ::-1].copy()), fixed, on_failure="warn")
    right = found_coarsely()
    assert turned.quality.error_mm > 4 * right.quality.error_mm


def test_what_cannot_be_compared_is_refused(fixed: ImageSequence) -> None:
    with pytest.raises(RegistrationError, match="same value"):
        register(fixed.replace(data=np.full(fixed.data.shape, 3.0)), fixed)
    with pytest.raises(RegistrationError, match="no finite"):
        register(fixed.replace(data=np.full(fixed.data.shape, np.nan)), fixed)
    with pytest.raises(RegistrationError, match="one slice"):
        register(fixed, fixed.like(fixed.data[5], axes=("y", "x")))
    with pytest.raises(MedseqError, match="Choose a frame"):
        register(ImageSequence(np.ones((2, *fixed.data.shape)), ("t", "z", "y", "x"), fixed.affine), fixed)
    with pytest.raises(SettingsError, match="magic"):
        register(fixed, fixed, kind="magic")
    with pytest.raises(SettingsError, match="on_failure"):
        register(fixed, fixed, on_failure="shrug")


def test_nan_and_outliers_do_not_matter(fixed: ImageSequence) -> None:
    real = motion((2, 3, 7), (5, -4, 3))
    data = seen_through(fixed, real).data.copy()
    data[0] = np.nan
    data[8, 15, 15:17] = 1e7
    found = register(fixed.replace(data=data, name="moving"), fixed)
    assert target_error(found.linear, real) < 1.2


def test_progress_rises_and_cancel_stops_at_once(fixed: ImageSequence) -> None:
    moving = seen_through(fixed, motion((5, 0, 0), (5, 0, 0)))
    seen: list[tuple[int, int]] = []
    register(moving, fixed, progress=lambda done, total, _: seen.append((done, total)))
    assert all(a <= b for (a, _), (b, _) in itertools.pairwise(seen))
    assert seen[-1][0] == seen[-1][1]
    calls: list[int] = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 10

    with pytest.raises(OperationCancelled):
        register(moving, fixed, cancelled=stop)
    assert len(calls) < 16


def test_2d_images_turn_in_their_own_plane() -> None:
    z = SHAPE[0] // 2
    volume = phantom(noise=0)
    flat = volume.like(volume.data[z], axes=("y", "x"), name="slice")
    real = motion((0, 0, 12), (6, -4, 0))
    middle = np.array(flat.affine)
    moved = Transform("rigid", np.linalg.inv(real)).apply(flat, reference=flat)
    found = register(moved, flat)
    points = np.array([[-80.0, -80, 0], [-60, -100, 0], [-100, -60, 0]])
    assert np.abs(found.to_moving(points) - Transform("rigid", real).to_moving(points)).max() < 1
    # the same two images on a tilted plane: the result tilts with them
    tilt = motion((90, 0, 20), (10, 20, 30))
    tilted = register(moved.replace(affine=tilt @ middle), flat.replace(affine=tilt @ middle))
    assert np.allclose(tilted.linear, tilt @ found.linear @ np.linalg.inv(tilt), atol=1e-6)
    assert tilted.apply(moved.replace(affine=tilt @ middle)).axes == ("y", "x")


def test_an_image_registered_to_its_copy_is_not_moved(fixed: ImageSequence) -> None:
    # interpolation would make it worse, and it would be refused
    copied = register(fixed.replace(data=fixed.data * 2 + 1), fixed)
    assert np.allclose(some(copied.matrix), np.eye(4), atol=1e-9)
    assert copied.quality.trustworthy


# -- visits -----------------------------------------------------------------------------------------------------------


def test_aligned_says_yes_in_place_and_no_after_a_move(fixed: ImageSequence) -> None:
    again = seen_through(fixed, np.eye(4), noise=8)
    yes = aligned(fixed, again)
    assert yes
    assert yes.offset_mm < 1.5
    for real in (motion((0, 0, 0), (8, 0, 0)), motion((0, 12, 0), (0, 0, 0))):
        no = aligned(fixed, seen_through(fixed, real))
        assert not no
        assert no.offset_mm > no.tolerance_mm
    assert aligned(fixed, seen_through(fixed, motion((0, 0, 0), (8, 0, 0))), tolerance_mm=20)


def test_aligned_looks_at_the_frame_of_reference_first(fixed: ImageSequence) -> None:
    moved = seen_through(fixed, motion((0, 0, 0), (15, 0, 0)))
    one, two = (s.replace(meta={"frame_of_reference": "1.2.3"}) for s in (fixed, moved))
    assert "same frame of reference" in aligned(one, two).reason
    assert not aligned(one, two.replace(meta={"frame_of_reference": "1.2.4"}))


def test_aligned_says_no_to_noise_and_to_distant_grids(fixed: ImageSequence) -> None:
    noise = noise_like(fixed, 0)
    assert "no better than at wrong positions" in aligned(fixed, noise).reason
    far = np.array(fixed.affine)
    far[:3, 3] += 5000
    found = aligned(fixed, fixed.replace(affine=far))
    assert not found
    assert "do not overlap" in found.reason


def test_visits_leaves_what_lies_right_and_registers_the_rest(fixed: ImageSequence) -> None:
    real = motion((4, -6, 8), (9, -7, 5))
    again, moved = seen_through(fixed, np.eye(4), noise=8), seen_through(fixed, real)
    seen: list[int] = []
    found = visits([fixed, again, moved], progress=lambda d, _t, _m: seen.append(d))
    assert [v.transform is None for v in found] == [True, True, False]
    assert seen == [1, 2, 3]
    assert found[0].error_mm == 0
    assert 0 < found[1].error_mm < 4
    assert 0 < found[2].error_mm < 5
    assert target_error(np.linalg.inv(found[2].to_baseline), real) < 1
    assert np.array_equal(found[1].to_baseline, np.eye(4))
    assert "left as it lies" in found[1].reason


def test_visits_modes(fixed: ImageSequence) -> None:
    moved = seen_through(fixed, motion((0, 0, 0), (9, -7, 5)))
    assert all(v.transform is None for v in visits([fixed, moved], mode="none"))
    chosen = visits([moved, fixed], mode="translation", reference=-1)
    assert chosen[1].transform is None
    assert chosen[0].transform is not None
    assert chosen[0].transform.kind == "translation"
    with pytest.raises(SettingsError, match="unknown"):
        visits([fixed], mode="maybe")
    with pytest.raises(SettingsError, match="reference"):
        visits([fixed], reference=1)
    with pytest.raises(SettingsError, match="reference"):
        visits([])


def test_visits_along_the_chain_and_midway(fixed: ImageSequence) -> None:
    real = motion((4.0, -3.0, 6.0), (5.0, -4.0, 6.0))
    moving = seen_through(fixed, real)
    later = seen_through(fixed, real, noise=5)
    chain = visits([fixed, moving, later], mode="rigid", reference="previous")
    assert target_error(np.linalg.inv(chain[2].to_baseline), real) < 2.5
    assert chain[2].error_mm >= chain[1].error_mm
    first, second = visits([fixed, moving], mode="rigid", reference="midway")
    # both images see one point of the midway space where the true motion puts it
    found = np.linalg.inv(second.to_baseline) @ first.to_baseline
    assert target_error(found, real) < 2.5
    np.testing.assert_allclose(first.to_baseline @ second.to_baseline, np.eye(4), atol=1e-9)
    turns = [np.degrees(np.arccos((np.trace(v.to_baseline[:3, :3]) - 1) / 2)) for v in (first, second)]
    assert turns[0] == pytest.approx(turns[1])
    assert turns[0] == pytest.approx(np.degrees(np.arccos((np.trace(real[:3, :3]) - 1) / 2)) / 2, abs=0.7)
    with pytest.raises(ms.MedseqError, match="between two visits"):
        visits([fixed] * 3, reference="midway")
    with pytest.raises(ms.MedseqError, match="cannot be the reference"):
        visits([fixed] * 3, reference="nowhere")


def test_a_visit_that_cannot_be_aligned_stops_with_its_measure(fixed: ImageSequence) -> None:
    noise = noise_like(fixed, 0).replace(name="second visit")
    with pytest.raises(RegistrationError, match=r"second visit.*mutual information \d"):
        visits([fixed, noise])


def test_frames_are_brought_onto_one() -> None:
    base = halved(phantom(noise=1))
    shifts = [(0, 0, 0), (4, 0, 0), (0, -5, 3)]
    data = np.stack([seen_through(base, motion((0, 0, 0), s), contrast=1).data for s in shifts])
    series = ImageSequence(data, ("t", "z", "y", "x"), base.affine, times=np.array([0.0, 2.0, 7.0]), name="series")
    found = frames(series, reference=0, kind="translation")
    assert found.transforms[0] is None
    for transform, shift in zip(found.transforms[1:], shifts[1:], strict=True):
        assert transform is not None
        assert np.allclose(transform.linear[:3, 3], shift, atol=0.7)
    assert found.corrected.axes == series.axes
    assert np.array_equal(some(found.corrected.times), some(series.times))
    inner = foreground(base.data)
    still, moving = (np.abs(d[1][inner] - d[0][inner]).mean() for d in (found.corrected.data, series.data))
    assert still < 0.7 * moving
    with pytest.raises(SettingsError, match="frame 3"):
        frames(series, reference=3)


# -- foreground -------------------------------------------------------------------------------------------------------


def test_otsu_agrees_with_scikit_image(fine: ImageSequence) -> None:
    from skimage.filters import threshold_otsu

    data = fine.data
    width = float(data.max() - data.min()) / 256
    assert otsu(data) == pytest.approx(float(threshold_otsu(data)), abs=1.5 * width)
    assert otsu(np.full(5, 2.0)) == 2
    assert otsu(np.array([np.nan])) == 0


def test_foreground_is_the_body(fine: ImageSequence) -> None:
    body = foreground(fine.data)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    head = (x / 0.75) ** 2 + (y / 0.85) ** 2 + (z / 0.85) ** 2 < 1
    assert 2 * (body & head).sum() / (body.sum() + head.sum()) > 0.95
    assert not foreground(np.full((3, 4, 5), 7.0)).any()
    assert region(np.zeros((2, 3, 3)), "nonzero").all()  # nothing chosen: all that is finite
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert region(np.array([[[1.0, np.nan, 0.0, 2.0]]]), "nonzero").tolist() == [[[True, False, False, True]]]
