"""Sequences of visits and of frames through `segment`: the same labels as the network says, on each image's own grid."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning, ModelError
from napari_medseq.inference.inputs import visits
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.streaming import stream, stream_side_by_side
from napari_medseq.models import Model
from napari_medseq.models.recurrent_unet import RecurrentUNet, with_neighbours
from napari_medseq.sequence import ImageSequence, Visit, affine_from
from tests.narrowing import some
from tests.unit.inference.cines import cine
from tests.unit.training.small import CLASSIFIER, UNET, blob, model

FLAT = {**UNET, "neighbours": 0, "gap_unit": 90.0}
DEEP = {**FLAT, "widths": [4, 8], "rnn_levels": [1], "dimensions": 3, "ahead": 1}
STILL = [np.eye(4)] * 9


def network(**given: Any) -> RecurrentUNet:
    torch.manual_seed(0)
    net = RecurrentUNet(widths=(4, 8), rnn_levels=(0, 1), hidden=3, **given).double().eval()
    for name, value in net.named_parameters():
        if name.endswith(("out.weight", "_gap.weight")):
            torch.nn.init.normal_(value)
    return net


@settings(max_examples=12, deadline=None)
@given(
    rnn=st.sampled_from(["gru", "lstm"]),
    ahead=st.integers(0, 3),
    neighbours=st.integers(0, 1),
    dimensions=st.sampled_from([2, 3]),
    gaps=st.lists(st.floats(0, 2000), min_size=0, max_size=5),
)
def test_a_stream_with_times_is_the_whole_network_and_n_patients_are_each_alone(
    rnn: Any, ahead: int, neighbours: int, dimensions: Any, gaps: list[float]
) -> None:
    net = network(rnn=rnn, ahead=ahead, neighbours=neighbours, dimensions=dimensions, gap_unit=90.0)
    times = np.cumsum([0.0, *gaps])
    x = torch.randn(2, len(times), 1, *[4] * dimensions, dtype=torch.float64)
    got = torch.stack(list(stream_side_by_side(net, iter(x.unbind(1)), times=times.tolist())), 1)
    for one, out in zip(x, got, strict=True):
        whole = net(with_neighbours(one, neighbours)[None], times=torch.tensor(times)[None])[0].detach()
        alone = torch.stack(list(stream(net, iter(one), times=times.tolist())))
        assert torch.allclose(out, whole, atol=1e-9)
        assert torch.allclose(out, alone, atol=1e-12)


def test_times_that_descend_or_are_unknown_to_the_network_are_refused() -> None:
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    with pytest.raises(ModelError, match="ascend"):
        list(stream(network(gap_unit=1.0), iter(x), times=[1.0, 0.0]))
    with pytest.raises(ModelError, match="gap_unit"):
        list(stream(network(), iter(x), times=[0.0, 1.0]))


# -- visits ----------------------------------------------------------------------------------------------------------
def patient(
    days: tuple[int | None, ...] = (0, 30, 400), shape: tuple[int, int, int] = (3, 20, 18), **changes: Any
) -> list[Visit]:
    start = date(2020, 1, 1)
    return [
        Visit(None if d is None else start + timedelta(d), (blob(k, shape, **changes),), (), f"v{k}")
        for k, d in enumerate(days)
    ]


def probability(found: Any) -> np.ndarray:
    return np.stack([f.probability.data for f in found])


def said(m: Model, seen: list[Visit], days: list[float], planes: slice = slice(None)) -> np.ndarray:
    """Foreground probabilities (visit, z, y, x) by the whole network, without streaming; visits share a grid."""
    net: Any = m.network
    group = visits.stack_visits([[v.images[0]] for v in seen], [int(d) for d in days], STILL[: len(seen)])[0]
    f = group.framing(pixel_mm=None, stride=net.stride)
    times = torch.tensor([days])
    out = np.zeros((len(seen), *seen[0].images[0].data.shape), np.float32)
    with torch.inference_mode():
        if net.volumes:
            x = torch.stack([f.read_volume(group.channels, i) for i in range(f.steps)])
            p = 1 - net(x[None], times=times)[0].softmax(1)[:, 0]
            for i, k in np.ndindex(len(seen), f.thick):
                out[i, k] = f.uncrop(p[i, k], labels=False)
        else:
            for k in f.positions:
                x = torch.stack([f.read(group.channels, i, k) for i in range(f.steps)])
                p = 1 - net(x[None], times=times)[0].softmax(1)[:, 0]
                for i in range(len(seen)):
                    out[i, k] = f.uncrop(p[i], labels=False)
    return out[:, planes]


@pytest.mark.parametrize("net", [FLAT, DEEP], ids=["slices", "volumes"])
def test_visits_get_what_the_whole_network_says_whatever_the_chunk_and_order(tmp_path: Path, net: Any) -> None:
    m, seen = model(tmp_path / "m", net, along="visit", threshold=0.45), patient()
    want = said(m, seen, [0.0, 30.0, 400.0])
    found = ms.segment(seen, m, outputs=("probability",), transforms=STILL[:3])
    assert np.allclose(probability(found), want, atol=1e-5)
    for chunk in (1, 2, 7):
        again = ms.segment(seen, m, outputs=("probability",), transforms=STILL[:3], chunk=chunk)
        assert np.array_equal(probability(again), probability(found))
    mixed = ms.segment([seen[2], seen[0], seen[1]], m, outputs=("probability",), transforms=STILL[:3])
    assert np.array_equal(probability([mixed[1], mixed[2], mixed[0]]), probability(found))
    for visit, one in zip(seen, found, strict=True):
        assert one.labels.same_grid(visit.images[0])
        assert np.array_equal(one.labels.data, (some(one.probability).data > 0.45).astype(np.uint8))


@pytest.mark.parametrize("net", [FLAT, DEEP], ids=["slices", "volumes"])
def test_the_days_between_and_the_order_of_visits_matter(tmp_path: Path, net: Any) -> None:
    m = model(tmp_path / "m", net, along="visit")
    near, far = (
        probability(ms.segment(patient(days), m, outputs=("probability",), transforms=STILL[:3]))
        for days in ((0, 30, 400), (0, 300, 400))
    )
    assert np.abs(near - far).max() > 1e-3
    seen = patient()
    swapped = [Visit(a.date, b.images) for a, b in zip(seen, seen[::-1], strict=True)]
    back = probability(ms.segment(swapped, m, outputs=("probability",), transforms=STILL[:3]))[::-1]
    assert np.abs(near - back).max() > 1e-3


def test_one_visit_and_one_image_are_a_sequence_of_one(tmp_path: Path) -> None:
    m, (seen,) = model(tmp_path / "m", FLAT, along="visit"), patient((0,))
    (a,) = ms.segment([seen], m, outputs=("probability",))
    b = ms.segment(seen.images[0], m, outputs=("probability",))
    assert np.array_equal(probability([a]), probability([b]))
    assert np.allclose(probability([a]), said(m, [seen], [0.0]), atol=1e-5)


def test_a_missing_visit_leaves_a_longer_gap(tmp_path: Path) -> None:
    m, seen = model(tmp_path / "m", FLAT, along="visit"), patient()
    without = ms.segment([seen[0], seen[2]], m, outputs=("probability",), transforms=STILL[:2])
    empty = Visit(seen[1].date, (), (), "v1")
    with pytest.warns(MedseqWarning, match=r"Visit 2 \(v1\) is left out"):
        found = ms.segment([seen[0], empty, seen[2]], m, outputs=("probability",), transforms=STILL[:3])
    assert np.array_equal(probability(found), probability(without))
    with pytest.warns(MedseqWarning, match="left out"):
        last = ms.segment([seen[0], empty, seen[2]], m, transforms=STILL[:3], steps=[2])
    assert not last[0].labels.data.any()
    assert np.array_equal(last[1].labels.data, found[1].labels.data)
    assert np.allclose(probability(found), said(m, [seen[0], seen[2]], [0.0, 400.0]), atol=1e-5)
    with pytest.raises(ModelError, match="No visit has an image"):
        ms.segment([empty], m)


def test_without_dates_the_order_given_counts_and_there_are_no_gaps(tmp_path: Path) -> None:
    m, seen = model(tmp_path / "m", FLAT, along="visit"), patient((0, None, 400))
    with pytest.warns(MedseqWarning, match="has a date"):
        found = ms.segment(seen, m, outputs=("probability",), transforms=STILL[:3])
    assert np.allclose(probability(found), said(m, seen, [0.0, 0.0, 0.0]), atol=1e-5)


def test_visits_of_several_grids_are_labelled_on_their_own(tmp_path: Path) -> None:
    """A visit that lies elsewhere, cut otherwise: with the transform that brings it back its labels are the same voxels."""
    m, seen = model(tmp_path / "m", FLAT, along="visit"), patient((0, 30))
    want = ms.segment(seen, m, outputs=("probability",), transforms=STILL[:2])
    image = seen[1].images[0]
    shift = np.eye(4)
    shift[:3, 3] = (40.0, -7.5, 12.0)
    moved = Visit(seen[1].date, (image.replace(affine=shift @ image.affine),))
    found = ms.segment([seen[0], moved], m, outputs=("probability",), transforms=[None, np.linalg.inv(shift)])
    assert np.allclose(probability(found), probability(want), atol=1e-5)
    assert found[1].labels.same_grid(moved.images[0])
    # twice as many pixels along x at the same place: each visit keeps its own grid, and sees the other
    fine = image.affine @ np.diag([0.5, 1, 1, 1.0])
    thin = image.replace(data=np.repeat(image.data, 2, 2), affine=fine)
    found = ms.segment([seen[0], Visit(seen[1].date, (thin,))], m, outputs=("probability",), transforms=STILL[:2])
    assert [f.labels.data.shape for f in found] == [(3, 20, 18), (3, 20, 36)]
    alone = ms.segment([seen[0]], m, outputs=("probability",))
    assert np.abs(probability(found[:1]) - probability(alone)).max() > 1e-4
    assert np.abs(probability(found[:1]) - probability(want[:1])).mean() < 0.01


def test_visits_are_aligned_without_being_asked(tmp_path: Path) -> None:
    """Those of one frame of reference are left as they lie; one that lies elsewhere is registered to the first."""
    m, seen = model(tmp_path / "m", FLAT, along="visit"), patient((0, 30), meta={"frame_of_reference": "1.2"})
    want = ms.segment(seen, m, outputs=("probability",), transforms=STILL[:2])
    assert np.array_equal(probability(ms.segment(seen, m, outputs=("probability",))), probability(want))
    rng = np.random.default_rng(0)
    head = ndimage.gaussian_filter(rng.standard_normal((16, 40, 36)), 2) * 900 + 400
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in head.shape], indexing="ij"))
    first = blob().replace(
        data=np.where((at**2).sum(0) < 0.7, head, 0).astype(np.float32), affine=affine_from((2, 2, 3))
    )
    shift = np.eye(4)
    shift[:3, 3] = (20.0, -15.0, 6.0)
    second = first.replace(affine=shift @ first.affine)
    seen = [Visit(date(2020, 1, 1), (first,)), Visit(date(2020, 3, 1), (second,))]
    want = ms.segment(seen, m, outputs=("probability",), transforms=[None, np.linalg.inv(shift)])
    found = ms.segment(seen, m, outputs=("probability",))
    left = ms.segment(seen, m, outputs=("probability",), transforms=STILL[:2])
    apart, unregistered = (np.abs(probability(f) - probability(want)).mean() for f in (found, left))
    assert apart < 0.2 * unregistered


def test_what_visits_cannot_be_is_said(tmp_path: Path) -> None:
    m, seen = model(tmp_path / "m", FLAT, along="visit"), patient((0, 30))
    with pytest.raises(MedseqError, match="1 transform for 2 visits"):
        ms.segment(seen, m, transforms=STILL[:1])
    with pytest.raises(MedseqError, match=r"are \[0, 1\], not \[2\]"):
        ms.segment(seen, m, transforms=STILL[:2], steps=[2])
    with pytest.raises(ModelError, match="t or visit"):
        ms.segment(blob(), model(tmp_path / "deep", DEEP))
    with pytest.raises(MedseqError, match="along visits"):
        ms.segment(seen, model(tmp_path / "z"), transforms=STILL[:2])
    first = ms.segment(seen, m, transforms=STILL[:2], steps=[0])
    both = ms.segment(seen, m, transforms=STILL[:2])
    assert np.array_equal(first[0].labels.data, both[0].labels.data)
    assert not first[1].labels.data.any()


def test_progress_counts_the_steps_and_a_cancel_stops_within_one(tmp_path: Path) -> None:
    m, seen, told = model(tmp_path / "m", FLAT, along="visit"), patient(), []
    ms.segment(seen, m, transforms=STILL[:3], progress=lambda done, total, _: told.append((done, total)))
    assert told == [(k + 1, 9) for k in range(9)]
    with pytest.raises(ms.errors.OperationCancelled):
        ms.segment(seen, m, transforms=STILL[:3], cancelled=lambda: len(told) > 0)


def said_of_frames(m: Model, seq: ImageSequence) -> np.ndarray:
    net: Any = m.network
    f = frame([seq], along="t", pixel_mm=None, stride=net.stride)
    times = torch.tensor([f.times])
    out = np.zeros((f.steps, f.thick, *f.size), np.float32)
    with torch.inference_mode():
        for k in [None] if net.volumes else f.positions:
            x = [f.read_volume([seq], i) if k is None else f.read([seq], i, k) for i in range(f.steps)]
            p = 1 - net(torch.stack(x)[None], times=times)[0].softmax(1)[:, 0]
            for i, j in np.ndindex(f.steps, f.thick if k is None else 1):
                out[i, j if k is None else k] = f.uncrop(p[i, j] if k is None else p[i], labels=False)
    return out if "z" in seq.axes else out[:, 0]


@pytest.mark.parametrize("net", [FLAT, DEEP], ids=["slices", "volumes"])
@pytest.mark.parametrize("z", [None, 3])
@pytest.mark.parametrize("lazy", [False, True])
def test_frames_get_what_the_whole_network_says(tmp_path: Path, net: Any, z: int | None, lazy: bool) -> None:
    import dask.array as da

    m, seq = model(tmp_path / "m", {**net, "gap_unit": 1.0}, along="t"), cine(z=z)
    given = seq.replace(data=da.from_array(seq.data, chunks=(1, *seq.data.shape[1:]))) if lazy else seq
    found = ms.segment(given, m, outputs=("labels", "probability", "uncertainty"), views=1)
    assert found.probability is not None
    assert np.allclose(found.probability.data, said_of_frames(m, seq), atol=1e-5)
    assert found.labels.axes == seq.axes
    assert np.array_equal(some(found.labels.times), some(seq.times))
    even = ms.segment(cine((0, 1, 2, 3), z=z), m, outputs=("probability",))
    assert np.abs(some(even.probability).data - found.probability.data).max() > 1e-4


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=st.integers(1, 9), frames=st.integers(1, 5), z=st.sampled_from([None, 1, 2]))
def test_any_chunk_of_frames_gives_the_same_labels(tmp_path: Path, chunk: int, frames: int, z: int | None) -> None:
    m = model(tmp_path / "m", FLAT, along="t", threshold=0.45)
    seq = cine(tuple(float(k) for k in range(frames)), z=z)
    a, b = (ms.segment(seq, m, outputs=("probability",), chunk=c) for c in (chunk, None))
    assert np.array_equal(a.labels.data, b.labels.data)
    assert np.array_equal(some(a.probability).data, some(b.probability).data)


def test_a_region_and_chosen_frames_of_volumes(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m", FLAT, along="t", threshold=1e-6), cine()
    part = ms.segment(seq, m, region={"t": (1, 4), "z": (0, 2), "y": (4, 12)}, steps=[1, 2]).labels.data.any((2, 3))
    assert np.array_equal(np.argwhere(part), [(1, 0), (1, 1), (2, 0), (2, 1)])


def test_specks_are_looked_for_in_each_frame(tmp_path: Path) -> None:
    """A voxel that stays through the frames is small all the same: frames are not depth."""
    from napari_medseq.inference.outputs.prediction import remove_small_objects

    m, seq = model(tmp_path / "m", FLAT, along="t", threshold=0.45), cine()
    plain = ms.segment(seq, m).labels.data
    clean = ms.segment(seq, model(tmp_path / "c", FLAT, along="t", threshold=0.45, min_volume_mm3=100.0))
    assert np.array_equal(clean.labels.data, np.stack([remove_small_objects(v, 20.0) for v in plain]))


def test_an_explanation_of_frames_lies_on_their_grid(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m", FLAT, along="t"), cine()
    shown = ms.explain(seq, m)
    assert shown.axes == seq.axes
    assert shown.data.shape == seq.data.shape
    assert float(shown.data.max()) == 1.0
    assert all(shown.data[:, k].any() for k in range(3))
    with pytest.raises(MedseqError, match="one visit"):
        ms.explain(seq.frame(0), model(tmp_path / "v", FLAT, along="visit"))
    with pytest.raises(ModelError, match="volumes as its steps"):
        ms.explain(seq, model(tmp_path / "d", DEEP, along="t"))


def test_a_classifier_of_frames_takes_one_slice_or_the_whole_volume(tmp_path: Path) -> None:
    flat = {**CLASSIFIER, "gap_unit": 1.0}
    m = model(tmp_path / "m", flat, along="t")
    answers = [ms.classify(cine(times, z=1), m) for times in ((0, 1, 2, 7), (0, 1, 2, 30))]
    assert answers[0].step_axis == "t"
    assert answers[0].per_step.shape == (4, 1)
    assert not np.allclose(answers[0].per_step, answers[1].per_step)
    with pytest.raises(ModelError, match="has 3"):
        ms.classify(cine(), m)
    deep = ms.classify(cine(), model(tmp_path / "d", {**flat, "dimensions": 3}, along="t"))
    assert deep.attention.shape == (4,)
