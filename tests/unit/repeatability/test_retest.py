"""Measuring a scan again: it is moved where it should be, the noise is as said, what is put in has its volume, and all of it repeats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq import geometry
from napari_medseq.errors import MedseqError, MedseqWarning, ModelError, OperationCancelled, SettingsError
from napari_medseq.repeatability.growth import Growth, ball_of, with_growth
from napari_medseq.repeatability.implants import Blob, contrast_of, draw_blobs
from napari_medseq.repeatability.rescanning import Rescan, draw_rescan, noise_of, rescan
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.turning import turned
from tests.narrowing import of

STILL = {"repeats": 2, "shift_mm": 0, "turn_degrees": 0, "noise": 0, "growths": (), "own_growths": ()}


def scan(
    noise: float = 2.0,
    shape: tuple[int, int, int] = (26, 48, 52),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.5),
) -> ImageSequence:
    """A body of 100 in air of 0 with two bright balls, on a tilted grid, and Gaussian noise."""
    affine = affine_from(spacing, (-20, -30, 10))
    affine = geometry.as_affine(
        np.vstack(
            [np.c_[Rotation.from_euler("x", 9, degrees=True).as_matrix() @ affine[:3, :3], affine[:3, 3]], [0, 0, 0, 1]]
        )
    )
    data = np.zeros(shape, np.float32)
    data[2:-2, 4:-4, 4:-4] = 100
    for blob in balls(affine):
        data += 80 * blob.share(affine, shape)
    data += np.random.default_rng(5).normal(0, noise, shape)
    return ImageSequence(data.astype(np.float32), ("z", "y", "x"), affine, modality="MR", name="scan")


def balls(affine: np.ndarray) -> list[Blob]:
    at = np.array([[14.0, 14.0, 13.0], [36.0, 34.0, 12.0]])
    return [Blob(c, np.eye(3), v) for c, v in zip(geometry.apply_points(affine, at), (0.6, 1.2), strict=True)]


def bright(images: ImageSequence | Mapping[str, ImageSequence]) -> ImageSequence:
    """What is brighter than half-way between body and lesion, in one image."""
    image = of(ImageSequence, images)
    data = ndimage.binary_opening(ndimage.gaussian_filter(image.volume_zyx().astype(float), 0.6) > 140)
    return image.labels_like(data.astype(np.uint8), name="bright", label_names={1: "lesion"})


pytestmark = pytest.mark.filterwarnings(
    "ignore:There was room:napari_medseq.errors.MedseqWarning",
    "ignore:The scan has no lesion whose:napari_medseq.errors.MedseqWarning",
)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 4), st.integers(0, 1000), st.floats(0.8, 3))
def test_a_blob_measures_what_it_should(volume: float, seed: int, thick: float) -> None:
    rng = np.random.default_rng(seed)
    affine = affine_from((0.9, 0.9, thick))
    shape = (int(40 / thick) + 8, 50, 50)
    middle = geometry.apply_points(affine, (np.array(shape[::-1], float)[None] - 1) / 2 + rng.uniform(-1, 1, 3))[0]
    lengths = np.array([0.85, 1.0, 1 / 0.85])
    axes = Rotation.random(random_state=np.random.RandomState(seed)).as_matrix() / lengths[:, None]
    share = Blob(middle, axes, volume).share(affine, shape)
    assert share.sum() * geometry.voxel_volume_mm3(affine) / 1000 == pytest.approx(volume, rel=0.04)
    centre = geometry.apply_points(affine, np.array(ndimage.center_of_mass(share))[None, ::-1])[0]
    np.testing.assert_allclose(centre, middle, atol=0.25)


def test_the_patient_lies_where_the_motion_puts_him() -> None:
    image = scan(noise=0)
    rng = np.random.default_rng(2)
    centre = geometry.apply_points(image.affine, (np.array(image.grid, float)[None] - 1) / 2)[0]
    how = draw_rescan(rng, centre, ms.RetestSettings(shift_mm=4, turn_degrees=8))
    moved = rescan(image, how, 0.0, ms.RetestSettings())
    for blob in balls(image.affine):
        inside = blob.share(np.linalg.inv(how.motion) @ image.affine, image.data.shape) > 0.9
        assert np.median(moved.data[inside]) == pytest.approx(180, abs=4)
    assert moved.same_grid(image)


def test_whole_voxels_move_exactly_and_nothing_moves_by_nothing() -> None:
    image = scan(spacing=(1.0, 1.0, 1.0)).replace(affine=affine_from((1, 1, 1)))
    motion = np.eye(4)
    motion[:3, 3] = (2, -1, 3)
    moved = rescan(image, Rescan(motion, 0), 0.0, ms.RetestSettings(interpolation="linear"))
    np.testing.assert_allclose(
        moved.data[5:-5, 5:-5, 5:-5], np.roll(image.data, (3, 1, -2), (0, 1, 2))[5:-5, 5:-5, 5:-5], atol=1e-3
    )
    still = rescan(image, Rescan(np.eye(4), 0), 0.0, ms.RetestSettings())
    np.testing.assert_allclose(still.data, image.data, atol=1e-2)


@pytest.mark.parametrize("sd", [1.0, 5.0])
def test_the_noise_is_found_and_added(sd: float) -> None:
    image = scan(noise=sd)
    assert noise_of(image) == pytest.approx(sd, rel=0.1)
    noisy = rescan(image, Rescan(np.eye(4), 7), sd, ms.RetestSettings(noise=2.0, interpolation="linear"))
    assert np.std(noisy.data - image.data) == pytest.approx(2 * sd, rel=0.03)


def test_the_same_scan_measured_the_same_way_has_no_spread() -> None:
    found = ms.retest(scan(), bright, settings=STILL)
    assert [one.lesion for one in found.lesions] == [1, 2]
    assert found.wsd_ml == pytest.approx(0, abs=1e-9)
    assert found.implants == ()


def test_known_growth_is_recovered_and_all_of_it_repeats() -> None:
    chosen = {"repeats": 3, "growths": (0.0, 0.5, 1.0), "implant_ml": 0.5, "noise": 1.0, "own_growths": ()}
    image = scan(shape=(34, 66, 70))
    found = ms.retest(image, bright, settings=chosen)
    assert found.image == "scan"
    assert found.model == "bright"
    assert found.found_share == 1
    assert 0 < found.rc_percent < 25
    assert len(found.implants) == 3
    for one in found.implants:
        assert one.true_before_ml == pytest.approx(0.5, rel=0.05)
        assert one.found_after_ml / one.found_before_ml == pytest.approx(
            one.true_after_ml / one.true_before_ml, rel=0.15
        )
    assert found.recovery["called_real"].tolist() == ["no", "yes", "yes"]
    assert ms.retest(image, bright, settings=chosen) == found
    assert (
        ms.retest(image, bright, settings={**chosen, "repeats": 1, "growths": (), "seed": 1}).lesions != found.lesions
    )


def test_the_order_of_axes_changes_nothing() -> None:
    few = {"repeats": 1, "growths": (0.4,), "own_growths": ()}
    turn = geometry.Reorientation((1, 2, 0), (True, False, True))
    one, other = (ms.retest(seq, bright, settings=few) for seq in (scan(), turned(scan(), turn)))
    assert one.lesions == other.lesions
    assert one.implants == other.implants


def test_an_own_lesion_that_grows_into_another_is_not_taken_for_its_growth() -> None:
    image, calls = scan(), []

    def joined(images: ImageSequence | Mapping[str, ImageSequence]) -> ImageSequence:
        calls.append(1)
        data = np.zeros(image.data.shape, np.uint8)
        data[8:14, 10:20, 10:20] = data[8:14, 10:18, 24:32] = 1
        if len(calls) > 2:  # after the scan and its retest: the bridge between them is labelled too
            data[8:14, 10:18, 20:24] = 1
        return of(ImageSequence, images).labels_like(data, name="joined", label_names={1: "lesion"})

    found = ms.retest(image, joined, settings={**STILL, "repeats": 1, "own_growths": (0.2,)})
    (own,) = found.implants
    assert own.true_after_ml == pytest.approx(1.2 * own.true_before_ml)
    assert not own.found


def test_more_noise_makes_the_smallest_real_change_larger() -> None:
    quiet, loud = (ms.retest(scan(), bright, settings={**STILL, "repeats": 4, "noise": n}) for n in (0.5, 6.0))
    assert loud.smallest_change_ml(1.0) > quiet.smallest_change_ml(1.0) > 0


def test_blobs_lie_apart_in_the_body() -> None:
    image = scan(noise=0, shape=(40, 70, 70))
    body, own = image.data > 50, image.data > 140
    rng = np.random.default_rng(0)
    drawn = draw_blobs(rng, body, own, image.affine, [0.3] * 6, [0.6] * 6)
    shares = [b.share(image.affine, image.data.shape) > 0 for b in drawn]
    assert len(drawn) >= 4
    assert np.sum(shares, axis=0).max() == 1
    assert not (np.any(shares, axis=0) & (own | ~body)).any()
    assert draw_blobs(rng, body, own, image.affine, [500.0], [900.0]) == []


def test_contrast_is_that_of_lesions_over_their_surroundings() -> None:
    image = scan(noise=1)
    assert contrast_of(image, image.data > 140) == pytest.approx(80, abs=6)
    assert contrast_of(image, np.zeros(image.data.shape, bool)) is None


def test_channels_move_together_and_the_model_sees_all() -> None:
    image = scan()
    other = image.replace(name="other", data=image.data * 2)

    def both(images: ImageSequence | Mapping[str, ImageSequence]) -> ImageSequence:
        assert not isinstance(images, ImageSequence)
        assert list(images) == ["T1", "T2"]
        np.testing.assert_array_less(np.abs(images["T2"].data - 2 * images["T1"].data), 60)
        return bright(images["T1"])

    found = ms.retest(
        {"T1": image, "T2": other},
        both,
        settings={"repeats": 2, "growths": (0.5,), "own_growths": (), "implant_ml": 0.4},
    )
    assert len(found.implants) == 1


def test_progress_rises_to_the_end_and_cancelling_stops() -> None:
    said: list[float] = []
    ms.retest(
        scan(),
        bright,
        settings={**STILL, "growths": (0.2,), "own_growths": (0.3,)},
        progress=lambda done, total, _text: said.append(done / total),
    )
    assert said == sorted(said)
    assert said[-1] == 1
    with pytest.raises(OperationCancelled):
        ms.retest(scan(), bright, settings=STILL, cancelled=lambda: len(said) > 0)


def test_what_cannot_be_measured_again_says_why() -> None:
    image = scan()
    with pytest.raises(SettingsError, match="repeats"):
        ms.retest(image, bright, settings={"repeats": 0})
    film = ImageSequence(np.zeros((2, 4, 4, 4), np.float32), ("t", "z", "y", "x"), np.eye(4), times=np.arange(2.0))
    with pytest.raises(MedseqError, match="axes"):
        ms.retest(film, bright)
    with pytest.raises(ModelError):
        ms.retest(image, "no-such-model")
    with pytest.warns(MedseqWarning, match="No lesion was found"):
        found = ms.retest(image.replace(data=image.data * 0 + 100), bright, settings={"repeats": 1})
    assert found.lesions == ()


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 2), st.integers(0, 10**6))
def test_inside_the_volume_grows_by_exactly_that_share_and_far_away_nothing_moves(share: float, seed: int) -> None:
    grown = Growth(np.array([3.0, -4.0, 5.0]), 6.0, share)
    rng = np.random.default_rng(seed)
    way = rng.normal(size=(50, 3))
    way /= np.linalg.norm(way, axis=1)[:, None]
    inside = grown.centre + way * rng.uniform(0, grown.stretch * 6.0, (50, 1))
    tiny = 1e-4 * np.eye(3)
    jacobian = np.stack([(grown.sources(inside + d) - grown.sources(inside - d)) / 2e-4 for d in tiny], axis=-1)
    inner = np.linalg.norm(inside - grown.centre, axis=1) < grown.stretch * 6.0 - 1e-3
    np.testing.assert_allclose(1 / np.linalg.det(jacobian[inner]), 1 + share, rtol=1e-3)
    far = grown.centre + way * rng.uniform(1.001, 3, (50, 1)) * grown.reach_mm
    np.testing.assert_allclose(grown.sources(far), far)
    radii = np.linspace(0, 1.2 * grown.reach_mm, 200)
    before = np.linalg.norm(grown.sources(grown.centre + radii[:, None] * way[:1]) - grown.centre, axis=1)
    assert (np.diff(before) > 0).all()  # nothing folds


def test_the_growth_of_the_patients_own_lesion_is_recovered() -> None:
    chosen = {"repeats": 1, "growths": (), "own_growths": (0.25, 0.5, 1.0), "noise": 0.5}
    found = ms.retest(scan(shape=(34, 56, 60)), bright, settings=chosen)
    assert [one.own for one in found.implants] == [True] * 3
    for one in found.implants:
        assert one.found_after_ml == pytest.approx(one.true_after_ml, rel=0.08)
    assert found.recovery["lesion"].tolist() == ["own"] * 3
    assert "growths of the patient's own lesion 3 were found" in " ".join(found.sentences())


def test_a_labelled_ball_grows_with_its_image() -> None:
    image = scan(noise=0, shape=(34, 56, 60))
    lesion = bright(image).data > 0
    one = ndimage.label(lesion)[0] == 1
    place, radius = ball_of(one, image.affine)
    as_image = image.replace(data=one.astype(np.float32))
    grown = with_growth(as_image, Growth(place, radius, 0.5))
    assert grown.data.sum() == pytest.approx(1.5 * one.sum(), rel=0.03)
