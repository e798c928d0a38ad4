"""Time-intensity curves and cine measures against bodies and curves that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.dynamics import cine
from napari_medseq.dynamics import enhancement as dynamic
from napari_medseq.geometry import Reorientation
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.turning import turned
from tests import nifti
from tests.narrowing import some
from tests.realdata import DATA, needs_real_data

TIMES = np.array([0.0, 10, 20, 40, 80, 160])
CURVE = np.array([100.0, 100, 200, 300, 260, 180])  # wash-out −1 per second


def dynamic_pair() -> tuple[ImageSequence, ImageSequence]:
    mask = np.zeros((4, 10, 10), np.uint8)
    mask[1:3, 2:5, 2:5] = 1
    mask[1:3, 6:9, 6:9] = 4
    frames = np.stack([np.where(mask == 1, v, np.where(mask == 4, 50.0, 0.0)) for v in CURVE])
    image = ImageSequence(frames, ("t", "z", "y", "x"), affine_from((1, 1, 2)), times=TIMES, modality="MR")
    return image, ImageSequence(mask, ("z", "y", "x"), image.affine, kind="labels", label_names={1: "one", 4: "four"})


def test_curves_and_their_measures() -> None:
    image, labels = dynamic_pair()
    curves = dynamic.time_intensity(image, labels)
    assert curves.query("lesion == 1")["mean"].tolist() == CURVE.tolist()
    assert curves.query("lesion == 1")["time_s"].tolist() == TIMES.tolist()
    measures = dynamic.curve_measures(curves, baseline_frames=2).set_index("lesion")
    one = measures.loc[1]
    assert one["baseline"] == 100
    assert one["time_to_peak_s"] == 30
    assert one["wash_in_per_s"] == pytest.approx(200 / 30)
    assert one["wash_out_per_s"] == pytest.approx(-1)
    assert one["enhancement_percent"] == pytest.approx(200)
    assert one["auc_s"] == pytest.approx(500 + 3000 + 7200 + 9600)
    assert measures.loc[4, "auc_s"] == 0
    artists = dynamic.plot_curves(curves, Figure().subplots())
    assert set(artists) == {1, 4}


def test_rows_of_curves_may_be_in_any_order() -> None:
    curves = dynamic.time_intensity(*dynamic_pair())
    mixed = curves.sample(frac=1, random_state=1)
    assert mixed["frame"].tolist() != curves["frame"].tolist()
    pd.testing.assert_frame_equal(dynamic.curve_measures(mixed), dynamic.curve_measures(curves))


@pytest.mark.parametrize("right", [None, 3])
def test_segments_of_a_wall_do_not_depend_on_the_order_of_axes(right: int | None) -> None:
    y, x = np.mgrid[:30, :28]
    apart, angle = np.hypot(y - 14, x - 13), np.arctan2(y - 14, x - 13)
    plane = np.where(apart < 6, 1, np.where(apart < 9 + 1.5 * np.cos(angle) + np.sin(angle), 2, 0))
    plane[np.hypot(y - 12, x - 25) < 2] = 3
    frame = ImageSequence(
        np.stack([plane, plane]).astype(np.uint8), ("z", "y", "x"), affine_from((1.2, 1.2, 8)), kind="labels"
    )
    expected = cine.wall_thickness(frame, 1, 2, right=right)
    for turn in (Reorientation((0, 1, 2), (True, False, False)), Reorientation((1, 2, 0), (True, False, True))):
        assert cine.wall_thickness(turned(frame, turn), 1, 2, right=right) == pytest.approx(expected)


def test_voxels_that_are_no_numbers_do_not_spoil_a_curve() -> None:
    image, labels = dynamic_pair()
    data = np.array(image.data, np.float64)
    at = tuple(np.argwhere(np.asarray(labels.data) == 1)[0])
    data[(slice(None), *at)] = np.nan  # one voxel of the lesion in all frames
    plain, gaps = dynamic.time_intensity(image, labels), dynamic.time_intensity(image.replace(data=data), labels)
    assert np.allclose(gaps["mean"], plain["mean"])
    assert gaps["voxels"].tolist() == plain["voxels"].tolist()
    data[1] = np.nan  # a frame that was not acquired: as if it were not there
    found = dynamic.curve_measures(dynamic.time_intensity(image.replace(data=data), labels))
    expected = dynamic.curve_measures(plain[plain["frame"] != 1])
    assert np.allclose(
        found.drop(columns="label").astype(float), expected.drop(columns="label").astype(float), equal_nan=True
    )
    nothing = dynamic.curve_measures(dynamic.time_intensity(image.replace(data=np.full_like(data, np.nan)), labels))
    assert nothing.drop(columns=["lesion", "label"]).isna().all(axis=None)


def test_one_mask_per_frame() -> None:
    image, labels = dynamic_pair()
    moving = ImageSequence(np.stack([labels.data] * 6), image.axes, image.affine, times=TIMES, kind="labels")
    moving.data[2:] = 0
    assert dynamic.time_intensity(image, moving)["frame"].max() == 1


def test_a_lesion_that_is_brightest_before_contrast_peaks_no_earlier_than_it_arrives() -> None:
    rows = [("a", frame, 10.0 * frame, mean) for frame, mean in enumerate([120.0, 100.0, 110.0, 90.0])]
    table = pd.DataFrame([{"lesion": 1, "label": n, "frame": f, "time_s": t, "mean": m} for n, f, t, m in rows])
    one = dynamic.curve_measures(table, baseline_frames=2).iloc[0]
    assert one["time_to_peak_s"] == 10
    assert one["peak"] == one["baseline"] == 110


def test_frames_that_do_not_show_a_lesion_are_not_its_baseline() -> None:
    image, labels = dynamic_pair()
    moving = ImageSequence(np.stack([labels.data] * 6), image.axes, image.affine, times=TIMES, kind="labels")
    moving.data[:2][moving.data[:2] == 1] = 0  # outlined from the first bright frame on
    measures = dynamic.curve_measures(dynamic.time_intensity(image, moving), baseline_frames=2).set_index("lesion")
    assert np.isnan(measures.loc[1, ["baseline", "enhancement_percent", "time_to_peak_s", "auc_s"]].astype(float)).all()
    assert measures.loc[1, "peak"] == 300
    assert measures.loc[4, "baseline"] == 50


def test_a_share_of_a_negative_baseline_is_not_told() -> None:
    rows = [
        {"lesion": 1, "label": "fat", "frame": f, "time_s": 10.0 * f, "mean": m}
        for f, m in enumerate([-80.0, -40.0, -60.0])
    ]
    one = dynamic.curve_measures(pd.DataFrame(rows)).iloc[0]
    assert one["peak"] == -40
    assert np.isnan(one["enhancement_percent"])


def test_what_does_not_fit_is_a_clear_error() -> None:
    image, labels = dynamic_pair()
    with pytest.raises(ms.MedseqError, match="'t' axis"):
        dynamic.time_intensity(labels, labels)
    with pytest.raises(ms.MedseqError, match="grid"):
        dynamic.time_intensity(image, labels.replace(affine=affine_from((2, 1, 1))))
    short = ImageSequence(np.stack([labels.data] * 2), image.axes, image.affine, kind="labels")
    with pytest.raises(ms.MedseqError, match="2 frames"):
        dynamic.time_intensity(image, short)
    with pytest.raises(ms.MedseqError, match="baseline"):
        dynamic.curve_measures(dynamic.time_intensity(image, labels), baseline_frames=0)


def heart(inner: float, outer: float) -> NDArray[np.uint8]:
    """Short-axis rings: 3 the cavity, 2 its wall, 1 a block to the right."""
    y, x = np.indices((80, 100)) - 40
    r = np.hypot(y, x)
    plane = np.where(r <= inner, 3, np.where(r <= outer, 2, 0)).astype(np.uint8)
    plane[30:50, 85:95] = 1
    return np.stack([plane] * 5)


def test_ejection_and_thickening_of_rings() -> None:
    frames = np.stack([heart(24, 30), heart(20, 29), heart(12, 26), heart(20, 29)])
    labels = ImageSequence(
        frames, ("t", "z", "y", "x"), affine_from((1, 1, 8)), times=np.array([0, 0.2, 0.4, 0.6]), kind="labels"
    )
    beat = cine.ejection(labels, cavity=3)
    assert (beat.end_diastole, beat.end_systole) == (0, 2)
    assert beat.end_diastolic_ml == pytest.approx(np.pi * 24**2 * 40 / 1000, rel=0.01)
    assert beat.ejection_fraction_percent == pytest.approx(75, abs=0.7)
    assert beat.stroke_ml == pytest.approx(beat.end_diastolic_ml - beat.end_systolic_ml)
    table = cine.thickening(labels, cavity=3, wall=2, right=1)
    assert table["end_diastolic_mm"].tolist() == pytest.approx([6] * 6, abs=0.4)
    assert table["end_systolic_mm"].tolist() == pytest.approx([14] * 6, abs=0.4)
    assert table["thickening_percent"].mean() == pytest.approx(100 * 8 / 6, abs=6)
    curve = cine.volume_time(labels).query("value == 3")
    assert curve["time_s"].tolist() == [0, 0.2, 0.4, 0.6]


def test_a_thin_segment_is_found_where_it_is() -> None:
    plane = heart(20, 30)
    thin = (np.indices((80, 100))[1] - 40 < 0) & (plane[0] == 2)
    for k in range(5):
        plane[k][thin & (np.hypot(*(np.indices((80, 100)) - 40)) > 24)] = 0
    frame = ImageSequence(plane, ("z", "y", "x"), affine_from((1, 1, 8)), kind="labels")
    found = cine.wall_thickness(frame, 3, 2, right=1, segments=2)
    # seen from the cavity, the block lies along +x: segments split the ring into its halves of y
    assert found == pytest.approx([found.mean()] * 2, abs=0.3)
    quarters = cine.wall_thickness(frame, 3, 2, right=1, segments=4)
    assert quarters[0] == pytest.approx(4, abs=0.5)
    assert quarters[1] == pytest.approx(10, abs=0.5)


def test_cine_without_frames_or_cavity() -> None:
    frame = ImageSequence(heart(10, 20), ("z", "y", "x"), affine_from((1, 1, 8)), kind="labels")
    with pytest.raises(ms.MedseqError, match="volume-time"):
        cine.volume_time(frame)
    with pytest.raises(ms.MedseqError, match="no frame"):
        cine.volume_time([])
    with pytest.raises(ms.MedseqError, match="Label 7"):
        cine.ejection([frame, frame], 7)
    assert np.isnan(cine.wall_thickness(frame, 7, 2)).all()


@needs_real_data
@pytest.mark.real
def test_real_hearts_dilated_ones_pump_less() -> None:
    """ACDC: dilated cardiomyopathy is diagnosed by an ejection fraction under 40 %, normal hearts lie above 50 %."""
    folder = some(DATA) / "cardiac-acdc"
    fractions: dict[str, list[float]] = {}
    for line in (folder / "diagnosis.csv").read_text().splitlines()[1:]:
        patient, group = line.split(",")[:2]
        if group.strip() in ("DCM", "NOR") and len(fractions.get(group.strip(), [])) < 4:
            files = [sorted((folder / patient).rglob(f"*{phase}*label*.nii*")) for phase in ("ED", "ES")]
            if not all(files):
                continue
            frames = [
                ImageSequence(
                    np.asarray(nifti.load(f[0]).dataobj).astype(np.uint8).T,
                    ("z", "y", "x"),
                    affine_from((1.5, 1.5, 8)),
                    kind="labels",
                )
                for f in files
            ]
            fractions.setdefault(group.strip(), []).append(cine.ejection(frames, 3).ejection_fraction_percent)
    assert len(fractions["DCM"]) == len(fractions["NOR"]) == 4
    assert max(fractions["DCM"]) < 40 < 50 < min(fractions["NOR"])


def test_colours_are_measured_as_luminance() -> None:
    grey, labels = dynamic_pair()
    colours = np.stack([np.asarray(grey.data), np.zeros(grey.data.shape), np.full(grey.data.shape, 10.0)], -1)
    image = grey.replace(data=colours, axes=("t", "z", "y", "x", "c"))
    curves = dynamic.time_intensity(image, labels)
    assert curves.query("lesion == 1")["mean"].to_numpy() == pytest.approx(0.299 * CURVE + 1.14)
    flat = image.replace(data=colours[:, 1], axes=("t", "y", "x", "c"))
    flat_labels = labels.replace(data=np.asarray(labels.data)[1], axes=("y", "x"))
    again = dynamic.time_intensity(flat, flat_labels)
    assert again.query("lesion == 1")["mean"].to_numpy() == pytest.approx(0.299 * CURVE + 1.14)


@settings(max_examples=25)
@given(
    hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 3)).filter(np.any),
    hnp.arrays(np.float32, (2, 3, 4, 5), elements=st.floats(-1000, 1000, width=32)),
)
def test_curves_are_the_means_that_scipy_takes(labels: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
    image = ImageSequence(values, ("t", "z", "y", "x"), affine_from((1, 2, 3)), times=np.array([0.0, 3.0]))
    mask = ImageSequence(labels, ("z", "y", "x"), image.affine, kind="labels")
    table = dynamic.time_intensity(image, mask)
    index = np.unique(labels[labels > 0])
    for frame, volume in enumerate(values.astype(np.float64)):
        own = table[table["frame"] == frame]
        assert own["lesion"].tolist() == index.tolist()
        with np.errstate(invalid="ignore"):  # scipy divides by the number of voxels outside, too
            mean, sd = (f(volume, labels, index) for f in (ndimage.mean, ndimage.standard_deviation))
        np.testing.assert_allclose(own["mean"], mean, atol=1e-9)
        np.testing.assert_allclose(own["sd"], sd, atol=1e-5)
