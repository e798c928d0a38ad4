"""Registration on real patients: known motions, the two visits of a patient, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq import geometry
from napari_medseq.errors import RegistrationError
from napari_medseq.registration import Transform, aligned, register, visits
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from tests.realdata import DATA, needs_real_data

pytestmark = [needs_real_data, pytest.mark.real]


def post_contrast(patient: str) -> list[ImageSequence]:
    assert DATA is not None
    files = sorted((DATA / "brain-tumor-progression" / patient).glob("*/*_T1post.nii.gz"))
    return [ms.read(f)[0].compute() for f in files]


def body_points(image: ImageSequence) -> np.ndarray:
    return geometry.apply_points(image.affine, np.argwhere(foreground(image.volume_zyx()))[::997, ::-1])


def test_a_known_motion_of_a_real_head_is_found_within_half_a_millimetre() -> None:
    fixed = post_contrast("sub-08")[0]
    real = np.eye(4)
    real[:3, :3] = Rotation.from_euler("xyz", (10, -8, 14), degrees=True).as_matrix()
    centre = body_points(fixed).mean(axis=0)
    real[:3, 3] = centre - real[:3, :3] @ centre + (12, -9, 7)
    seen = Transform("rigid", np.asarray(np.linalg.inv(real), np.float64), fixed.affine, fixed.grid).apply(fixed)
    noise = np.random.default_rng(0).normal(0, 10, seen.data.shape)
    found = register(seen.replace(data=(seen.data * 1.3 + noise).astype(np.float32)), fixed)
    points = body_points(fixed)
    apart = geometry.apply_points(found.linear, points) - geometry.apply_points(real, points)
    assert np.linalg.norm(apart, axis=1).mean() < 0.5  # voxels are 0.86 × 0.86 × 6.5 mm


def test_two_visits_are_brought_together_and_then_left_alone() -> None:
    first, second = post_contrast("sub-10")
    before = aligned(first, second)
    assert not before  # these two heads lie about 9 mm and 8° apart
    found = visits([first, second])[1]
    assert found.transform is not None
    assert found.transform.quality.mi_after > 1.5 * found.transform.quality.mi_before
    assert found.error_mm < 2
    moved = found.transform.apply(second)
    assert aligned(first, moved)
    assert visits([first, moved])[1].transform is None
    inner = foreground(first.volume_zyx())
    after, raw = (
        np.corrcoef(np.asarray(s.volume_zyx()[inner], float), np.asarray(first.volume_zyx()[inner], float))[0, 1]
        for s in (moved, second)
    )
    assert after > raw + 0.1


def test_a_stack_turned_upside_down_is_refused() -> None:
    first, second = post_contrast("sub-03")
    turned = second.replace(data=np.ascontiguousarray(second.data[::-1, ::-1]))
    with pytest.raises(RegistrationError, match="trusted"):
        register(turned, first)


@pytest.mark.parametrize("other", ["PET_image", "MR_T1_image"])
def test_modalities_of_one_patient_in_one_frame_are_left_alone(other: str) -> None:
    assert DATA is not None
    folder = DATA / "sarcoma" / "nifti" / "STS_002"
    ct, second = (ms.read(folder / f"{name}.nii.gz", kind="image")[0].compute() for name in ("CT_image", other))
    assert visits([ct, second])[1].transform is None
