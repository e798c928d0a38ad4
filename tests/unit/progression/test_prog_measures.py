"""Volumes, diameters, surfaces, changes and intensities against analytic bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist, pdist
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq.progression import change as _change
from napari_medseq.progression import intensity as _intensity
from napari_medseq.progression import measures as _measures
from napari_medseq.progression import shape as _shape
from napari_medseq.progression.components import Lesion
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.sequence import ImageSequence, affine_from

Spacing: TypeAlias = tuple[float, float, float]
SPACINGS: list[Spacing] = [(1.0, 1.0, 1.0), (0.7, 0.7, 2.0), (1.0, 1.3, 3.0), (0.9, 0.9, 5.0)]


def ellipsoid(
    semi: ArrayLike,
    spacing: Spacing = (1.0, 1.0, 1.0),
    turn: NDArray[np.float64] | None = None,
    centre: ArrayLike = (0.0, 0.0, 0.0),
    tilt: NDArray[np.float64] | None = None,
) -> Lesion:
    """A voxelised ellipsoid of the given semi-axes (mm, in world x, y, z), on a grid with `spacing` turned by `tilt`."""
    turn = np.eye(3) if turn is None else turn
    n = [int(np.ceil(np.max(semi) / s)) + 3 for s in spacing]
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if tilt is None else tilt) @ np.diag(spacing)
    index = np.stack(np.meshgrid(*[np.arange(2 * k + 1) for k in n[::-1]], indexing="ij"), axis=-1).reshape(-1, 3)
    affine[:3, 3] = -affine[:3, :3] @ np.array(n, float)
    world = index[:, ::-1] @ affine[:3, :3].T + affine[:3, 3] - np.asarray(centre)
    inside = (((world @ turn) / np.asarray(semi)) ** 2).sum(axis=1) <= 1
    return Lesion(0, 1, "l", index[inside].astype(np.int32), affine)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("radius", [5.0, 8.0, 12.0])
def test_spheres_within_the_discretisation_bound(spacing: Spacing, radius: float) -> None:
    lesion = ellipsoid((radius,) * 3, spacing, centre=(0.2, -0.3, 0.4))
    true = 4 / 3 * np.pi * radius**3
    surface = _shape.surface_mm2(lesion)
    sd = _shape.volume_sd_mm3(lesion, 0.0, _shape.boundary_voxels(lesion), surface)
    assert abs(lesion.volume_mm3 - true) < 3 * sd
    d = _shape.diameters(lesion)
    slip = np.hypot(spacing[0], spacing[1])
    # the widest slice may lie half a slice off the equator
    assert 2 * np.sqrt(max(radius**2 - (spacing[2] / 2) ** 2, 0)) - slip <= d.longest_mm <= 2 * radius + slip
    assert d.perpendicular_mm == pytest.approx(d.longest_mm, abs=slip + 0.05 * radius)
    assert 2 * radius - np.linalg.norm(spacing) <= d.longest_3d_mm <= 2 * radius + np.linalg.norm(spacing)
    assert surface == pytest.approx(4 * np.pi * radius**2, rel=0.05 if spacing[2] <= 3 else 0.12)
    assert _shape.sphericity(lesion.volume_mm3, surface) > 0.93


@settings(max_examples=25, deadline=None)
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), spacing=st.sampled_from(SPACINGS[:3]))
def test_ellipsoids_at_any_orientation(angles: tuple[float, float, float], spacing: Spacing) -> None:
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    semi = np.array([12.0, 7.0, 5.0])
    lesion = ellipsoid(semi, spacing, turn)
    sd = _shape.volume_sd_mm3(lesion, 0.08, _shape.boundary_voxels(lesion), _shape.surface_mm2(lesion))
    assert abs(lesion.volume_mm3 - 4 / 3 * np.pi * semi.prod()) < 2 * sd
    d = _shape.diameters(lesion)
    assert d.longest_3d_mm == pytest.approx(24, abs=float(np.linalg.norm(spacing)))
    # the ellipse in which the slice through the centre cuts it
    shape = turn @ np.diag(semi**-2.0) @ turn.T
    long, short = 2 / np.sqrt(np.linalg.eigvalsh(shape[:2, :2]))
    assert d.longest_mm == pytest.approx(long, abs=1.5 * np.hypot(*spacing[:2]))
    assert d.perpendicular_mm == pytest.approx(short, abs=1.5 * np.hypot(*spacing[:2]))


@settings(max_examples=15, deadline=None)
@given(angles=st.tuples(*[st.floats(-30, 30)] * 3))
def test_a_turned_grid_measures_the_same(angles: tuple[float, float, float]) -> None:
    tilt = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    d = _shape.diameters(ellipsoid((9.0, 9.0, 9.0), (1.0, 1.0, 2.0), tilt=tilt))
    assert d.longest_mm == pytest.approx(18, abs=1.5)
    assert d.longest_3d_mm == pytest.approx(18, abs=2.5)
    assert np.linalg.norm(d.ends[0] - d.ends[1]) == pytest.approx(d.longest_mm)


def test_measures_agree_with_simpleitk() -> None:
    import SimpleITK as sitk

    turn = Rotation.from_euler("xyz", (20, 35, 50), degrees=True).as_matrix()
    lesion = ellipsoid((11.0, 6.0, 5.0), (0.8, 0.8, 1.5), turn)
    image = sitk.GetImageFromArray(lesion.crop(1).astype(np.uint8))
    image.SetSpacing((0.8, 0.8, 1.5))
    oracle = sitk.LabelShapeStatisticsImageFilter()
    oracle.ComputeFeretDiameterOn()
    oracle.Execute(image)
    surface = _shape.surface_mm2(lesion)
    assert lesion.volume_mm3 == pytest.approx(oracle.GetPhysicalSize(1))
    assert surface == pytest.approx(oracle.GetPerimeter(1), rel=0.03)
    assert _shape.sphericity(lesion.volume_mm3, surface) == pytest.approx(oracle.GetRoundness(1), rel=0.03)
    # Feret's diameter there goes between voxel centres, ours between faces
    assert 0 <= _shape.diameters(lesion).longest_3d_mm - oracle.GetFeretDiameter(1) <= np.linalg.norm((0.8, 0.8, 1.5))


def test_the_longest_diameter_agrees_with_scikit_image() -> None:
    from skimage.measure import regionprops

    lesion = ellipsoid((9.0, 5.0, 4.0), turn=Rotation.from_euler("z", 33, degrees=True).as_matrix())
    plane = lesion.crop(1).any(axis=0).astype(np.uint8)  # its shadow along z is its widest slice
    (region,) = regionprops(plane)
    # there from corner to corner of pixels, here between the middles of their faces
    assert 0 <= region.feret_diameter_max - _shape.diameters(lesion).longest_mm <= 1


def test_of_equally_long_diameters_the_one_with_the_widest_chord_counts() -> None:
    index = np.argwhere(np.ones((1, 10, 10))).astype(np.int32)
    index = index[~((index[:, 1] < 5) & (index[:, 2] >= 5))]  # an L: one diagonal of 10 × 10 is cut off
    turned = index[:, [0, 2, 1]]
    one, other = (_shape.diameters(Lesion(0, 1, "l", i, np.eye(4))) for i in (index, turned))
    assert one.perpendicular_mm == pytest.approx(other.perpendicular_mm)


@pytest.mark.parametrize("degrees", [(20, -31, 12), (1, 0, 0), (0, 0, 45), (-3, 8, 170)])
def test_a_tilted_scan_changes_no_size(degrees: tuple[float, float, float]) -> None:
    """Ends of voxels above one another differ in the last bit there, of which the widest must count."""
    z, y, x = np.indices((9, 21, 24))
    ball = (3 * (z - 4)) ** 2 + (1.2 * (y - 10)) ** 2 + (x - 11) ** 2 <= 8**2
    index = np.argwhere(ball).astype(np.int32)
    straight = affine_from((1.0, 1.2, 3.0))
    tilted = np.eye(4)
    tilted[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    one, other = (_shape.diameters(Lesion(0, 1, "l", index, a)) for a in (straight, tilted @ straight))
    assert (one.longest_mm, one.perpendicular_mm) == pytest.approx((17.0, 15.6))
    assert (other.longest_mm, other.perpendicular_mm) == pytest.approx((17.0, 15.6))


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 4, 7), (3, 1, 5), (2, 6, 1)])
def test_a_box_has_its_own_size(size: tuple[int, int, int]) -> None:
    index = np.argwhere(np.ones(size)).astype(np.int32)
    lesion = Lesion(0, 1, "l", index, affine_from((2.0, 1.5, 3.0)))
    assert lesion.volume_mm3 == pytest.approx(np.prod(size) * 9)
    d = _shape.diameters(lesion)
    extents = sorted([size[1] * 1.5, size[2] * 2.0])
    assert extents[1] <= d.longest_mm <= np.hypot(extents[0], extents[1]) + 1e-9
    assert d.longest_3d_mm >= max(*extents, size[0] * 3.0) - 1e-9


def test_slice_axis_chooses_the_plane() -> None:
    lesion = ellipsoid((4.0, 4.0, 12.0))
    assert _shape.diameters(lesion).longest_mm == pytest.approx(8, abs=1)
    sagittal = Lesion(0, 1, "l", lesion.index, lesion.affine, slice_axis="x")
    assert _shape.diameters(sagittal).longest_mm == pytest.approx(24, abs=1)


def test_volume_sd_covers_the_scatter_of_shifted_spheres() -> None:
    rng = np.random.default_rng(1)
    for spacing in SPACINGS:
        for radius in (4.0, 8.0):
            found = [
                ellipsoid((radius,) * 3, spacing, centre=rng.uniform(-0.5, 0.5, 3) * np.array(spacing))
                for _ in range(25)
            ]
            scatter = np.std([f.volume_mm3 for f in found])
            mean = np.mean([_shape.volume_sd_mm3(f, 0.0, _shape.boundary_voxels(f), 0.0) for f in found])
            assert 0.6 * scatter < mean < 4 * scatter + 1


def interval(change: Mapping[str, float | str]) -> tuple[float, float]:
    """The ends of the doubling time's interval, in days."""
    return float(change["doubling_low_days"]), float(change["doubling_high_days"])


def test_doubling_time_and_its_interval() -> None:
    found = _change.of_volumes(1.0, 2.0, 0.05, 0.1, 100.0)
    assert found["doubling_time_days"] == pytest.approx(100)
    assert found["sgr_percent_per_day"] == pytest.approx(100 * np.log(2) / 100)
    low, high = interval(found)
    assert low < 100 < high
    half = _change.of_volumes(2.0, 1.0, 0.1, 0.05, 50.0)
    assert half["doubling"] == "halving"
    assert half["doubling_time_days"] == pytest.approx(-50)
    low, high = interval(half)
    assert low < -50 < high < 0


def test_the_interval_covers_the_truth_in_95_percent() -> None:
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(2000):
        one, other = 1 + 0.05 * rng.normal(), 2 + 0.1 * rng.normal()
        low, high = interval(_change.of_volumes(one, other, 0.05, 0.1, 100.0))
        hits.append(low <= 100 <= high)
    assert 0.93 < np.mean(hits) < 0.97


def test_changes_within_the_noise_are_not_measurable() -> None:
    found = _change.of_volumes(1.0, 1.1, 0.05, 0.05, 30.0)
    assert found["doubling"] == "not measurable"
    assert "doubling_time_days" not in found
    assert "change_ml_per_day" not in _change.of_volumes(1.0, 2.0, 0.1, 0.1, float("nan"))
    assert "change_ml_per_day" not in _change.of_volumes(1.0, 2.0, 0.1, 0.1, 0.0)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ((0, 4, 0), "anterior"),
        ((-3, 4, 0), "anterior-left"),
        ((5, 0, -4), "right-inferior"),
        ((0.1, -0.2, 9), "superior"),
        ((0, 0, 0), ""),
    ],
)
def test_directions_in_words(vector: Spacing, words: str) -> None:
    assert _change.direction_words(vector) == words


def test_shift_and_spread_are_gated_by_the_registration_error() -> None:
    def sequence(x0: int, x1: int) -> ImageSequence:
        data = np.zeros((20, 40, 40), np.uint8)
        data[6:14, 14:24, x0:x1] = 1
        return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels")

    pair = [sequence(10, 20), sequence(10, 28)]  # array x runs to the patient's left
    row = ms.track(pair).lesions.query("visit == 1").iloc[0]
    assert row["shift_mm"] == pytest.approx(4.0)
    assert row["shift_direction"] == "left"
    assert row["spread_direction"] == "left"
    assert row["new_volume_ml"] == pytest.approx(0.64)
    blurred = ms.track(pair, registration_error_mm=6.0).lesions.query("visit == 1").iloc[0]
    assert blurred["shift_direction"] == "within registration error"
    assert blurred["event"] == "growing"


def test_growth_over_visits() -> None:
    boxes = [10, 12, 15, 15, 20]
    series = []
    for n in boxes:
        data = np.zeros((20, 40, 40), np.uint8)
        data[4:14, 4:20, 4 : 4 + n] = 1
        series.append(ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels"))
    p = ms.track(series, dates=[f"2020-0{k + 1}-01" for k in range(5)])
    (row,) = p.growth.to_dict(orient="records")
    assert row["growing_share"] == pytest.approx(3 / 4)
    assert row["longest_growing_run"] == 2
    assert row["doubling_time_days"] == pytest.approx(121)
    assert p.lesions["change_percent"].round(6).tolist()[1:] == pytest.approx([20, 25, 0, 100 / 3])


def test_a_merge_is_no_growth() -> None:
    def visit(*spans: tuple[int, int]) -> ImageSequence:
        data = np.zeros((20, 40, 40), np.uint8)
        for start, stop in spans:
            data[4:14, 4:14, start:stop] = 1
        return ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels")

    apart, together = visit((2, 14), (15, 25)), visit((2, 14), (14, 15), (15, 25))
    p = ms.track([apart, apart, together], dates=["2020-01-01", "2020-02-01", "2020-03-01"])
    assert p.lesions.query("visit == 2 and lesion == 1")["event"].item() == "merged"
    union, other = p.growth.to_dict(orient="records")
    assert union["growing_share"] == 0  # its volume nearly doubled, but that of both together stayed
    assert np.isnan(union["doubling_time_days"])
    assert other["nadir_ml"] == pytest.approx(1.0)  # it did not vanish, it merged


def test_ten_voxels_of_a_millimetre_are_ten_millimetres_on_any_grid() -> None:
    for angle in range(0, 90, 7):
        turn = Rotation.from_euler("xyz", (angle, 2 * angle, 31), degrees=True).as_matrix()
        affine = np.eye(4)
        affine[:3, :3] = turn
        row = ms.track([ImageSequence(bar(), ("z", "y", "x"), affine, kind="labels")]).lesions.iloc[0]
        assert row["longest_mm"] == 10.0
        assert row["measured"]


def bar() -> NDArray[np.uint8]:
    """A line of ten voxels, and a thinner one beside it, so that it is large enough to be measured."""
    data = np.zeros((5, 16, 16), np.uint8)
    data[2, 7, 3:13] = 1
    data[2, 8, 6:10] = 1
    return data


def test_the_outer_half_of_a_voxel_at_the_image_edge_has_its_value() -> None:
    data = np.zeros((8, 8, 8), np.uint8)
    data[:4, 2:6, 2:6] = 1
    fine = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), kind="labels")
    image = ImageSequence(
        np.full((4, 4, 4), 7.0), ("z", "y", "x"), affine_from((2, 2, 2), (-0.5, -0.5, 0.5)), modality="MR"
    )
    lesion = Lesion(0, 1, "lesion", np.argwhere(data).astype(np.int32), fine.affine)
    assert (_intensity.values_in(lesion, image) == 7).all()
    beyond = Lesion(0, 1, "lesion", np.array([[0, 0, -1]], np.int32), fine.affine)
    assert np.isnan(_intensity.values_in(beyond, image)).all()


def test_the_peak_passes_over_voxels_that_are_not_known() -> None:
    data = np.zeros((16, 16, 16), np.uint8)
    data[6:10, 6:10, 6:10] = 1
    uptake = np.full((16, 16, 16), 3.0)
    uptake[8, 8, 8] = np.nan
    pet = ImageSequence(uptake, ("z", "y", "x"), affine_from((2, 2, 2)), modality="PT")
    lesion = Lesion(0, 1, "lesion", np.argwhere(data).astype(np.int32), pet.affine)
    assert _intensity.peak(lesion, pet) == pytest.approx(3.0)


def test_the_rank_of_a_brightness_is_that_in_the_whole_image() -> None:
    # of 500 × 40 × 40 voxels every 40th lies in the first column, which is dark
    data = np.broadcast_to(np.arange(40, dtype=np.uint8), (500, 40, 40))
    image = ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), modality="MR")
    lesion = Lesion(0, 1, "lesion", np.array([[9, 9, 20]], np.int32), image.affine)
    assert _intensity.Appearance([image])(lesion) == pytest.approx(0.5, abs=0.02)


def test_intensities_by_modality_and_on_another_grid() -> None:
    data = np.zeros((12, 12, 12), np.uint8)
    data[4:8, 4:8, 4:8] = 1
    mask = ImageSequence(data, ("z", "y", "x"), affine_from((2, 2, 2)), kind="labels")
    ramp = np.broadcast_to(np.arange(12.0), (12, 12, 12)).copy()
    ct = ImageSequence(ramp, ("z", "y", "x"), mask.affine, modality="CT")
    row = ms.track([mask], images=[ct]).lesions.iloc[0]
    assert row["hu_mean"] == pytest.approx(5.5)
    assert row["hu_sd"] == pytest.approx(np.std([4, 5, 6, 7]))
    # the same ramp twice as fine: voxel 2i + 0.5 lies at the coarse voxel i
    fine = np.broadcast_to((np.arange(24.0) - 0.5) / 2, (24, 24, 24)).copy()
    other = ImageSequence(fine, ("z", "y", "x"), affine_from((1, 1, 1), (0.5, 0.5, -0.5)), modality="MR")
    assert ms.track([mask], images=[other]).lesions.iloc[0]["intensity_mean"] == pytest.approx(5.5)


def test_suv_measures() -> None:
    data = np.zeros((16, 16, 16), np.uint8)
    data[4:12, 4:12, 4:12] = 1
    mask = ImageSequence(data, ("z", "y", "x"), affine_from((2, 2, 2)), kind="labels")
    uptake = np.full((16, 16, 16), 2.0)
    uptake[8, 8, 8] = 50.0
    pet = ImageSequence(uptake, ("z", "y", "x"), mask.affine, modality="PT", meta={"units": "SUV"})
    row = ms.track([mask], images=[pet]).lesions.iloc[0]
    sphere = sum(
        (2 * a) ** 2 + (2 * b) ** 2 + (2 * c) ** 2 <= _intensity.PEAK_RADIUS_MM**2
        for a in range(-4, 5) for b in range(-4, 5) for c in range(-4, 5)
    )  # fmt: skip
    assert row["suv_max"] == 50
    assert row["suv_peak"] == pytest.approx(2 + 48 / sphere)
    assert row["tlg_ml"] == pytest.approx(row["suv_mean"] * row["volume_ml"])


def test_activity_becomes_suv_by_the_series_own_factor() -> None:
    data = np.zeros((8, 8, 8), np.uint8)
    data[2:6, 2:6, 2:6] = 1
    mask = ImageSequence(data, ("z", "y", "x"), affine_from((4, 4, 4)), kind="labels")
    becquerels = np.random.default_rng(0).uniform(4e3, 2e4, data.shape)
    pet = ImageSequence(becquerels, ("z", "y", "x"), mask.affine, modality="PT", meta={"units": "BQML", "suv_bw": 2e-4})
    row = ms.track([mask], images=[pet]).lesions.iloc[0]
    assert row["suv_mean"] == pytest.approx(2e-4 * becquerels[data > 0].mean())
    assert row["suv_max"] == pytest.approx(2e-4 * becquerels[data > 0].max())
    assert row["suv_p95"] == pytest.approx(2e-4 * np.percentile(becquerels[data > 0], 95))
    assert row["suv_mean"] < row["suv_peak"] <= row["suv_max"]
    bare = ImageSequence(becquerels, ("z", "y", "x"), mask.affine, modality="PT", meta={"units": "BQML"})
    assert "uptake_mean" in ms.track([mask], images=[bare]).lesions


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 0.9, 3.0), (1.0, 1.0, 5.0)])
@pytest.mark.parametrize("radius", [2.0, 3.0, 5.0])
def test_the_noise_bound_holds_in_95_percent_and_is_not_wasted(radius: float, spacing: Spacing) -> None:
    rng = np.random.default_rng(3)
    usual = TrackSettings()

    def sizes(r: float, n: int = 40) -> list[dict[str, float]]:
        bodies = [ellipsoid((r,) * 3, spacing, centre=rng.uniform(-0.5, 0.5, 3) * np.array(spacing)) for _ in range(n)]
        return [_measures.size(b, usual) for b in bodies if b.voxels]

    def word(one: dict[str, float], other: dict[str, float]) -> str:
        before, after = one["volume_ml"], other["volume_ml"]
        noise = _change.noise_bound(before, after, one["volume_sd_ml"], other["volume_sd_ml"])
        return _measures.change_word(before, after, noise, usual)

    same, doubled = sizes(radius), sizes(1.26 * radius)
    stable = np.mean([word(a, b) == "stable" for a, b in zip(same[::2], same[1::2], strict=False)])
    assert stable >= (0.9 if radius > 0.6 * spacing[2] else 0.7)
    if radius > 0.8 * spacing[2]:
        assert np.mean([word(a, b) == "growing" for a, b in zip(same, doubled, strict=False)]) > 0.9


def test_where_slices_fall_matters_as_for_the_exact_sphere() -> None:
    offsets = (np.arange(400) + 0.5) / 400
    for radius in (0.55, 0.7, 1.0, 1.5, 3.0, 6.0):  # in slices
        height = offsets[:, None] + np.arange(-8, 9)
        volumes = np.clip(radius**2 - height**2, 0, None).sum(axis=1)
        volumes = volumes[volumes > 0]
        assert 0.5 < _shape.slice_sd(radius) / (volumes.std() / volumes.mean()) < 2.5
    at = [_shape.slice_sd(r) for r in (3.99, 4.0, 4.01)]
    assert at[0] == pytest.approx(at[2], rel=0.2)


def test_noise_bound_of_equal_precision_is_that_of_the_difference() -> None:
    assert _change.noise_bound(1.0, 1.0, 0.1, 0.1) == pytest.approx(1.96 * np.sqrt(2) * 0.1, rel=1e-3)
    assert _change.noise_bound(0.0, 1.0, 0.0, 0.1) == pytest.approx(0.196, rel=1e-3)
    # the visit that saw little of it is not taken for precise
    assert _change.noise_bound(14.0, 5.0, 1.7, 2.2) > 1.2 * 1.96 * np.hypot(1.7, 2.2)


def _faces(index: NDArray[np.int32], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Middles of all faces of voxels, in mm."""
    steps = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    voxels = (index[:, None, ::-1] + steps).reshape(-1, 3)
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])


@settings(max_examples=30)
@given(
    mask=hnp.arrays(bool, (3, 5, 6)).filter(np.any),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.sampled_from(SPACINGS),
    axis=st.sampled_from([("z", 0), ("y", 1), ("x", 2)]),
)
def test_no_two_faces_of_a_lesion_are_farther_apart_than_its_diameters(
    mask: NDArray[np.bool_], angles: tuple[float, float, float], spacing: Spacing, axis: tuple[str, int]
) -> None:
    affine = np.array(affine_from(spacing))
    affine[:3, :3] = Rotation.from_euler("zyx", angles, degrees=True).as_matrix() @ affine[:3, :3]
    lesion = Lesion(0, 1, "l", np.argwhere(mask).astype(np.int32), affine, slice_axis=axis[0])
    found = _shape.diameters(lesion)
    longest = 0.0
    for n in np.unique(lesion.index[:, axis[1]]):
        inside = lesion.index[lesion.index[:, axis[1]] == n]
        faces = _faces(inside, affine)
        across = np.abs(np.linalg.solve(affine[:3, :3], (faces - affine[:3, 3]).T).T[:, 2 - axis[1]] - n) < 0.25
        longest = max(longest, pdist(faces[across]).max())
    assert found.longest_mm == pytest.approx(longest)
    assert np.linalg.norm(found.ends[1] - found.ends[0]) == pytest.approx(longest)
    assert np.linalg.norm(found.perpendicular_ends[1] - found.perpendicular_ends[0]) == pytest.approx(
        found.perpendicular_mm
    )
    assert (found.ends[1] - found.ends[0]) @ (
        found.perpendicular_ends[1] - found.perpendicular_ends[0]
    ) == pytest.approx(0, abs=1e-6)
    assert found.longest_3d_mm == pytest.approx(pdist(_faces(lesion.index, affine)).max())


@settings(max_examples=25)
@given(angles=st.tuples(*[st.floats(-20, 20)] * 3), spacing=st.sampled_from(SPACINGS))
def test_values_on_an_oblique_grid_are_those_of_simpleitk(angles: tuple[float, float, float], spacing: Spacing) -> None:
    import SimpleITK as sitk

    affine = np.array(affine_from(spacing, (3.0, -2.0, 1.0)))
    affine[:3, :3] = Rotation.from_euler("zyx", angles, degrees=True).as_matrix() @ affine[:3, :3]
    values = np.random.default_rng(0).normal(size=(6, 7, 8))
    image = ImageSequence(values, ("z", "y", "x"), affine, modality="MR")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    itk = sitk.GetImageFromArray(values)
    itk.SetSpacing(spacing)
    itk.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    itk.SetOrigin(lps[:3, 3].tolist())
    mask = affine_from((1.5, 1.5, 1.5), (4.0, -1.0, 2.0))
    lesion = Lesion(0, 1, "l", np.argwhere(np.ones((3, 3, 3))).astype(np.int32), mask)
    found = _intensity.values_in(lesion, image)
    for voxel, value in zip(lesion.index, found, strict=True):
        point = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ mask @ [*voxel[::-1], 1.0])[:3].tolist()
        inside = itk.TransformPhysicalPointToContinuousIndex(point)
        if all(0 <= c <= n - 1 for c, n in zip(inside, itk.GetSize(), strict=True)):
            assert value == pytest.approx(itk.EvaluateAtPhysicalPoint(point, sitk.sitkLinear))


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 4.0, 3.0), (1.5, 2.5, 6.0)])
def test_the_peak_is_the_highest_mean_of_a_ball_of_a_millilitre(spacing: Spacing) -> None:
    uptake = np.random.default_rng(1).gamma(2.0, size=(9, 12, 14))
    pet = ImageSequence(uptake, ("z", "y", "x"), affine_from(spacing), modality="PT")
    lesion = Lesion(0, 1, "l", np.argwhere(uptake > 5).astype(np.int32), pet.affine)
    centres = np.argwhere(np.ones(uptake.shape)) * spacing[::-1]
    near = cdist(lesion.index * np.array(spacing[::-1]), centres) <= _intensity.PEAK_RADIUS_MM
    assert _intensity.peak(lesion, pet) == pytest.approx(max(uptake.ravel()[ball].mean() for ball in near))
