"""A slice before and after: what the whole gives, on as little as the steps need; and the time for the whole."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import ClassVar, Literal

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.errors import SettingsError
from napari_medseq.preprocessing import STEPS, Job, Resample, Step, ZScore, estimate_seconds, preview, settings_of
from napari_medseq.preprocessing.preview import reach_of
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.part import part_of, thinned

SHAPE = (3, 8, 24, 20)


def series() -> ImageSequence:
    data = np.random.default_rng(0).gamma(3, 30, SHAPE).astype(np.float32)
    data[:, :, 6:18, 5:15] += 200
    return ImageSequence(
        data, ("t", "z", "y", "x"), affine_from((1, 1.5, 4), (3, 5, 7)), times=np.array([0.0, 2.0, 5.0]), name="scan"
    )


class Neighbours(Step):
    """The sum of a slice and the slices beside it, and how many voxels were seen."""

    title: ClassVar[str] = "neighbours"
    kind: Literal["neighbours of the preview"] = "neighbours of the preview"
    seen: ClassVar[list[int]] = []

    def reach(self, seq: ImageSequence) -> Mapping[str, float]:
        return {"z": 1 if "z" in seq.axes else 0}

    def apply_transform(self, seq: ImageSequence, job: Job) -> ImageSequence:
        self.seen.append(seq.data.size)
        return job.map(seq, lambda v: ndimage.correlate1d(v, [1, 1, 1], axis=0, mode="constant"))


CHAINS: dict[str, list[str | Step | dict[str, object]]] = {
    "one voxel": [{"kind": "window", "level": 100, "width": 200}],
    "neighbours": [Neighbours(), Neighbours()],
    "statistics": ["percentile", "zscore"],
    "field": ["n4", {"kind": "zscore", "per_frame": True}],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
@pytest.mark.parametrize("axis", ["z", "y"])
def test_it_is_the_slice_of_the_whole(chain: list[str | Step | dict[str, object]], axis: str) -> None:
    whole = ms.preprocess(series(), chain)
    shown = preview(series(), chain, {"t": 1, axis: 3}, axis=axis)
    at = {"t": slice(1, 2), axis: slice(3, 4)}
    expected = part_of(whole, at).frame(0)
    assert shown.exact
    assert not shown.note
    assert np.allclose(shown.after.data, expected.data, rtol=1e-5, atol=1e-5)
    assert np.allclose(shown.after.affine, expected.affine)
    assert np.array_equal(shown.before.data, part_of(series(), at).frame(0).data)
    assert shown.position == {"t": 1, axis: 3}


def test_it_looks_no_further_than_its_steps_reach() -> None:
    Neighbours.seen.clear()
    preview(series(), Neighbours(), {"t": 2, "z": 4})
    assert Neighbours.seen == [3 * SHAPE[2] * SHAPE[3]]
    assert reach_of([Neighbours(), Neighbours()], series()) == {"t": 0, "z": 2, "y": 0, "x": 0}
    assert all(np.isinf(r) for r in reach_of([Neighbours(), ZScore()], series()).values())


def test_frames_of_a_reference_are_those_of_the_image() -> None:
    image = series()
    before = image.replace(data=image.data * np.float32(0.5), name="before")
    step: list[str | Step | dict[str, object]] = [{"kind": "difference", "match": "none"}]
    shown = preview(image, step, {"t": 1, "z": 3}, reference=before)
    whole = ms.preprocess(image, step, reference=before)
    np.testing.assert_array_equal(shown.after.data[0], whole.data[1, 3])


def test_a_large_image_is_thinned_and_that_is_said() -> None:
    shown = preview(series(), ["zscore"], {"z": 5}, most_voxels=3000)
    assert not shown.exact
    assert "a part of the image" in shown.note
    assert shown.after.data.size < shown.before.data.size
    assert np.allclose(shown.after.affine[2, 3], shown.before.affine[2, 3])
    flat = series().frame(0)
    one_slice = flat.like(flat.data[3], axes=("y", "x"))
    assert preview(one_slice, "percentile").after.axes == ("y", "x")


def test_another_grid_and_a_slice_that_is_gone() -> None:
    shown = preview(series(), Resample(spacing=(2, 2, 2)), {"z": 5})
    assert shown.after.spacing == pytest.approx({"z": 2, "y": 2, "x": 2})
    assert abs(shown.after.affine[2, 3] - shown.before.affine[2, 3]) <= 1.01
    assert not shown.note
    dark = series()
    dark.data[:, :4] = 0
    assert "nearest one is shown" in preview(dark, {"kind": "crop", "margin_mm": 0}, {"z": 0}).note


def test_it_warns_of_nothing_and_keeps_the_doubts() -> None:
    constant = series().replace(data=np.full(SHAPE, 7.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = preview(constant, "zscore")
    assert shown.warnings == ("all values are equal, so its z-scores are 0",)


def test_a_lazy_image_is_read_as_far_as_needed() -> None:
    read: list[int] = []

    def noted(block: np.ndarray) -> np.ndarray:
        read.append(block.size)
        return block

    lazy = series().replace(
        data=da.from_array(series().data, chunks=(1, 1, 24, 20)).map_blocks(
            noted, dtype=np.float32, meta=np.empty(0, np.float32)
        )
    )
    preview(lazy, CHAINS["one voxel"], {"t": 1, "z": 3})
    assert sum(read) <= 2 * SHAPE[2] * SHAPE[3]


@pytest.mark.parametrize("bad", [{"z": 8}, {"t": -1}])
def test_a_place_that_is_not_there_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="positions along"):
        preview(series(), "zscore", bad)
    with pytest.raises(SettingsError, match="looked at along"):
        preview(series(), "zscore", axis="t")


def test_the_time_for_the_whole_grows_with_the_whole() -> None:
    small = series()
    large = small.replace(data=da.zeros((30, 100, 1000, 1000), chunks=(1, 1, 1000, 1000)) + 1.0, times=None)
    one, many = estimate_seconds(small, CHAINS["one voxel"]), estimate_seconds(large, CHAINS["one voxel"])
    assert one is not None
    assert many is not None
    assert 0 <= one < many
    assert estimate_seconds(small, []) == 0
    nothing = small.replace(data=np.full(SHAPE, np.nan))
    assert estimate_seconds(nothing, "zscore") is None
    with pytest.raises(SettingsError, match="reference="):
        estimate_seconds(small, "register")


def test_thinning_keeps_places_and_evens_out_voxels() -> None:
    image = series()
    few = thinned(image, 2000, through={"z": 5, "t": 1})
    assert few.data.size < image.data.size / 3
    assert few.spacing["y"] > image.spacing["y"]
    ends = few.affine @ [few.size("x") - 1, few.size("y") - 1, few.size("z") - 1, 1]
    inside = np.linalg.inv(image.affine) @ ends
    x, y, z = (round(float(v)) for v in inside[:3])
    assert few.data[0, -1, -1, -1] == image.data[0, z, y, x]
    with pytest.raises(SettingsError, match="leaves nothing"):
        part_of(image, {"z": slice(9, 12)})


def test_a_form_is_told_units_bounds_and_words() -> None:
    facts = {f.name: f for f in settings_of("resample")}
    assert facts["spacing"].unit == "mm"
    assert facts["spacing"].optional
    assert facts["interpolation"].choices == ("linear", "bspline", "nearest", "label")
    n4 = {f.name: f for f in settings_of("n4")}
    assert (n4["shrink"].minimum, n4["shrink"].maximum) == (1, 16)
    assert n4["convergence"].minimum_excluded
    assert "kind" not in n4


@pytest.mark.parametrize("kind", [k for k, s in STEPS.items() if s.__module__.startswith("napari_medseq.")])
def test_every_setting_of_every_step_is_described(kind: str) -> None:
    assert [f.name for f in settings_of(kind) if not f.description] == []
    assert STEPS[kind].usual(None).kind == kind if kind != "window" else True
