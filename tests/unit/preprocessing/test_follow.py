"""A mask that follows its image: the box of a crop, a new grid, kept registrations, frames."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

import napari_medseq as ms
from napari_medseq.errors import MedseqError
from napari_medseq.preprocessing import follow, transforms_of
from napari_medseq.registration import Transform
from napari_medseq.registration.transform import Spline
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.grid import to_itk


def image_and_mask() -> tuple[ImageSequence, ImageSequence]:
    """A bright box in the dark with a mask of a part of it."""
    data = np.zeros((6, 20, 24), np.float32)
    data[1:5, 5:15, 6:18] = np.random.default_rng(1).uniform(80, 120, (4, 10, 12))
    image = ImageSequence(data, ("z", "y", "x"), affine_from((1.5, 1, 4)), name="scan")
    values = np.zeros(data.shape, np.uint8)
    values[2:4, 7:10, 8:11], values[2, 12, 12] = 3, 7
    return image, image.labels_like(values, name="mask", label_names={3: "lesion"})


def moved_by(seq: ImageSequence, *shifts: tuple[float, float, float]) -> ImageSequence:
    """The sequence with registrations kept that moved it by so many mm."""
    kept = []
    for shift in shifts:
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        kept.append([Transform("translation", matrix, seq.affine, seq.grid).to_record().model_dump(mode="json")])
    return seq.replace(meta={**seq.meta, "transforms": kept})


def test_a_crop_takes_the_same_box_of_the_mask() -> None:
    image, mask = image_and_mask()
    found = follow(mask, ms.preprocess(image, ["zscore", {"kind": "crop", "margin_mm": 0}]))
    np.testing.assert_array_equal(found.data, np.asarray(mask.data)[1:5, 5:15, 6:18])
    assert found.label_names == {3: "lesion"}


def test_on_another_grid_no_value_appears_and_the_volume_stays() -> None:
    image, mask = image_and_mask()
    made = ms.preprocess(image, [{"kind": "resample", "spacing": (4, 0.5, 0.75)}])
    found = follow(mask, made)
    assert found.same_grid(made)
    assert set(np.unique(found.data)) == {0, 3, 7}
    assert np.count_nonzero(found.data) == 4 * np.count_nonzero(mask.data)


def test_registrations_are_followed_one_after_the_other() -> None:
    image, mask = image_and_mask()
    # from the result back to the image: 3 mm right of there by the second, then 2 mm forward by the first
    made = moved_by(image, (0, 2, 0), (3, 0, 0))
    found = np.asarray(follow(mask, made).data)
    along_y, along_x = round(2 / image.affine[1, 1]), round(3 / image.affine[0, 0])
    assert (abs(along_y), abs(along_x)) == (2, 2)
    # nothing leaves the image, so turning it round is moving it
    np.testing.assert_array_equal(found, np.roll(mask.data, (-along_y, -along_x), axis=(1, 2)))


def test_a_mask_that_was_moved_already_is_moved_only_by_the_later_steps() -> None:
    image, mask = image_and_mask()
    once = follow(mask, moved_by(image, (0, 2, 0)))
    twice = follow(once, moved_by(image, (0, 2, 0), (3, 0, 0)))
    np.testing.assert_array_equal(twice.data, follow(mask, moved_by(image, (0, 2, 0), (3, 0, 0))).data)
    with pytest.raises(MedseqError, match="registered differently"):
        follow(once, moved_by(image, (9, 0, 0)))
    with pytest.raises(MedseqError, match="registered differently"):
        follow(once, image)


def test_what_lies_outside_an_earlier_target_is_not_lost_on_the_way() -> None:
    image, mask = image_and_mask()
    still = np.eye(4)
    # registered without resampling to a scan of one corner, then to one of the whole
    rows = [Transform("rigid", still, image.affine, grid) for grid in ((3, 3, 3), image.grid)]
    made = image.replace(meta={"transforms": [[t.to_record().model_dump(mode="json")] for t in rows]})
    np.testing.assert_array_equal(follow(mask, made).data, mask.data)


def test_a_deformable_registration_is_kept_whole() -> None:
    image, mask = image_and_mask()
    grid = sitk.BSplineTransformInitializer(to_itk(np.asarray(image.data), image.affine), [3, 3, 3])
    bends = np.random.default_rng(2).uniform(-3, 3, len(grid.GetParameters()))
    bent = Transform("deformable", np.eye(4), spline=Spline(np.eye(4), grid.GetFixedParameters(), bends))
    made = image.replace(meta={"transforms": [[bent.to_record().model_dump(mode="json")]]})
    ((kept,),) = transforms_of(made)
    assert kept is not None
    points = np.random.default_rng(3).uniform(0, 10, (20, 3))
    np.testing.assert_allclose(kept.to_moving(points), bent.to_moving(points))
    assert np.abs(kept.to_moving(points) - points).max() > 0.3
    np.testing.assert_array_equal(follow(mask, made).data, bent.apply(mask, reference=image).data)


def test_of_several_steps_the_one_that_fails_is_named() -> None:
    image, _ = image_and_mask()
    with pytest.raises(MedseqError, match=r"^Step 2, registration: Registration needs a target image"):
        ms.preprocess(image, ["zscore", "register"])
    with pytest.raises(MedseqError, match=r"^Registration needs a target image"):
        ms.preprocess(image, ["register"])
