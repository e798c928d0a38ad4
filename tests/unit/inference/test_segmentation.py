"""Streaming inference: the same answer whatever the chunk, on the image's own grid, cancelled within a step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

import napari_medseq as ms
from napari_medseq.errors import DeviceError, MedseqError, ModelError, OperationCancelled
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.inference.outputs.prediction import remove_small_objects
from napari_medseq.inference.streaming import neighbourhoods, stream
from napari_medseq.models.recurrent_unet import RecurrentUNet, with_neighbours
from napari_medseq.sequence import ImageSequence, Visit, affine_from
from tests.narrowing import of, some
from tests.unit.training.small import CLASSIFIER, UNET, blob, model


@pytest.mark.parametrize(
    ("rnn", "ahead", "neighbours"), [("gru", 2, 1), ("gru", 0, 0), ("gru", 9, 2), ("lstm", 2, 1), ("none", 2, 1)]
)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_stream_equals_the_whole_sequence(
    rnn: Literal["gru", "lstm", "none"], ahead: int, neighbours: int, steps: int
) -> None:
    torch.manual_seed(0)
    network = RecurrentUNet(widths=(4, 8, 8), rnn=rnn, rnn_levels=(1, 2), hidden=4, ahead=ahead, neighbours=neighbours)
    network = network.double().eval()
    for mixer in network.mixers.values():
        torch.nn.init.normal_(of(Tensor, of(nn.Module, mixer.out).weight))
    x = torch.randn(steps, 1, 16, 12, dtype=torch.float64)
    whole = network(with_neighbours(x, neighbours)[None])[0]
    streamed = torch.stack(list(stream(network, iter(x))))
    assert torch.allclose(streamed, whole, atol=1e-10)


def test_neighbourhoods_equal_the_stacked_form() -> None:
    x = torch.randn(5, 2, 3, 3)
    for n in (0, 1, 2, 6):
        assert torch.equal(torch.stack(list(neighbourhoods(iter(x), n))), with_neighbours(x, n))
    assert list(neighbourhoods(iter([]), 1)) == []


def test_memory_is_bounded_by_the_look_ahead() -> None:
    from napari_medseq.inference.streaming import SegmentationStream

    network = RecurrentUNet(widths=(4, 8), rnn_levels=(1,), hidden=4, ahead=2, neighbours=0).eval()
    s = SegmentationStream(network)
    held, out = [], 0
    for x in torch.randn(12, 1, 8, 8):
        out += len(list(s.push([x[None]])))
        held.append(len(s.waiting))
    assert max(held) == 2
    assert out == 10
    assert len(list(s.flush())) == 2


def test_resetting_the_state_changes_the_answer() -> None:
    torch.manual_seed(0)
    network = RecurrentUNet(widths=(4, 8), rnn_levels=(1,), hidden=4, ahead=2, neighbours=0).eval()
    torch.nn.init.normal_(of(Tensor, of(nn.Module, network.mixers["1"].out).weight))
    x = torch.randn(5, 1, 8, 8)
    reset = torch.stack(list(stream(network, iter(x), reset=True)))
    alone = torch.cat([network(step[None, None])[0] for step in x])
    assert torch.allclose(reset, alone, atol=1e-5)
    assert not torch.allclose(reset, torch.stack(list(stream(network, iter(x)))), atol=1e-3)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_chunk_size_does_not_matter(tmp_path: Path, chunk: int) -> None:
    m, seq = model(tmp_path / "m", threshold=0.45), blob()
    a = ms.segment(seq, m, outputs=("labels", "probability"), chunk=chunk)
    b = ms.segment(seq, m, outputs=("labels", "probability"))
    assert np.array_equal(a.labels.data, b.labels.data)
    assert a.probability is not None
    assert b.probability is not None
    assert np.array_equal(a.probability.data, b.probability.data)
    assert 0 < a.labels.data.mean() < 1


def test_cpu_equals_a_float64_reference(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m"), blob()
    got = ms.segment(seq, m, outputs=("probability",)).probability
    f = frame([seq], along="slices", pixel_mm=None, stride=4)
    x = torch.stack([f.read([seq], i) for i in range(f.steps)]).double()
    p = m.network.double()(with_neighbours(x, 1)[None])[0].softmax(1)[:, 1].detach()
    expected = np.stack([f.uncrop(step, labels=False) for step in p])
    assert got is not None
    assert np.abs(got.data - expected).max() < 1e-4


def test_result_lies_on_the_inputs_grid_with_names(tmp_path: Path) -> None:
    m, seq = (
        model(tmp_path / "m", pixel_mm=1.5),
        blob(meta={"stored": {"order": [0, 1, 2], "flips": [True, False, False]}}),
    )
    out = ms.segment(seq, m)
    assert out.labels.same_grid(seq)
    assert out.labels.axes == seq.axes
    assert out.labels.kind == "labels"
    assert out.labels.label_names == {1: "lesion"}
    assert out.labels.meta["stored"] == seq.meta["stored"]
    assert out.probability is None
    assert out.uncertainty is None


def test_slices_along_x_and_2d(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m"), blob()
    turned = ImageSequence(
        seq.data.transpose(1, 2, 0), ("z", "y", "x"), affine_from((5, 0.9, 0.9)), slice_axis="x", modality="MR"
    )
    a, b = ms.segment(seq, m).labels, ms.segment(turned, m).labels
    assert np.array_equal(a.data.transpose(1, 2, 0), b.data)
    flat = ImageSequence(seq.data[3], ("y", "x"), seq.affine, modality="MR")
    assert ms.segment(flat, m).labels.data.shape == seq.data[3].shape


def test_uncertainty_is_an_entropy(tmp_path: Path) -> None:
    out = ms.segment(blob(), model(tmp_path / "m"), outputs=("probability", "uncertainty"))
    assert out.probability is not None
    assert out.uncertainty is not None
    p = out.probability.data[3, 18:22, 16:20].astype(np.float64)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)) / np.log(2)
    assert np.allclose(out.uncertainty.data[3, 18:22, 16:20], expected, atol=1e-4)


def test_mirror_makes_the_answer_symmetric(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m", mirror=True), blob(shape=(5, 40, 40))
    flipped = seq.replace(data=seq.data[..., ::-1].copy())
    a, b = (ms.segment(s, m, outputs=("probability",)).probability for s in (seq, flipped))
    assert a is not None
    assert b is not None
    assert np.allclose(a.data, b.data[..., ::-1], atol=1e-5)


def test_steps_and_keep(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m", threshold=0.4), blob()
    whole = ms.segment(seq, m).labels.data
    some = ms.segment(seq, m, steps=[2, 4]).labels.data
    assert np.array_equal(some[[2, 4]], whole[[2, 4]])
    assert not some[[0, 1, 3, 5, 6]].any()
    mine = np.zeros(seq.data.shape, np.uint16)
    mine[1, 5:9, 5:9] = 300
    kept = ms.segment(seq, m, keep=seq.labels_like(mine, name="mine", label_names={})).labels.data
    assert (kept[1, 5:9, 5:9] == 300).all()
    assert np.array_equal(kept[mine == 0], whole[mine == 0])
    with pytest.raises(MedseqError, match="another grid"):
        ms.segment(seq, m, keep=seq.labels_like(mine[:3], name="short", label_names={}))
    with pytest.raises(MedseqError, match=r"steps 0 to 6, not \[9\]"):
        ms.segment(seq, m, steps=[9])


def test_visits_give_one_result_each_and_the_same_as_alone(tmp_path: Path) -> None:
    m, images = model(tmp_path / "m"), [blob(0), blob(1)]
    together = ms.segment([Visit(None, (i,), name=f"v{k}") for k, i in enumerate(images)], m)
    for seq, out in zip(images, together, strict=True):
        assert np.array_equal(out.labels.data, ms.segment(seq, m).labels.data)


def test_a_visit_with_a_choice_is_a_question(tmp_path: Path) -> None:
    m = model(tmp_path / "m")
    with pytest.raises(ModelError, match=r"2 images could be meant.*blob0_T1, blob1_T1.*series="):
        ms.segment([Visit(None, (blob(0), blob(1)), name="day 1")], m)
    one = ms.segment([Visit(None, (blob(0), blob(1, name="FLAIR")), name="day 1")], m)
    assert one[0].labels.name.startswith("blob0_T1")


def test_progress_counts_steps_and_cancel_stops_within_one(tmp_path: Path) -> None:
    m, seq = model(tmp_path / "m"), blob()
    seen: list[tuple[int, int]] = []
    ms.segment(seq, m, progress=lambda d, t, _: seen.append((d, t)))
    assert seen == [(i + 1, 7) for i in range(7)]
    seen.clear()
    with pytest.raises(OperationCancelled):
        ms.segment(seq, m, progress=lambda d, t, _: seen.append((d, t)), cancelled=lambda: len(seen) >= 3)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (blob(modality="CT"), "CT.*trained on MR.*force=True"),
        (blob(axes=("t", "y", "x")), "time axis"),
        ("nonsense", "str"),
        ({"FLAIR": blob()}, "needs 1 more channel"),
    ],
)
def test_images_that_do_not_fit_get_one_reason(tmp_path: Path, image: Any, reason: str) -> None:
    with pytest.raises(MedseqError, match=reason):
        ms.segment(image, model(tmp_path / "m"))


def test_volumes_over_time_are_segmented_frame_by_frame(tmp_path: Path) -> None:
    m = model(tmp_path / "m")
    frames = [blob(seed=1), blob(seed=2)]
    series = frames[0].replace(
        data=np.stack([f.data for f in frames]), axes=("t", "z", "y", "x"), times=np.array([0.0, 0.5])
    )
    answer = ms.segment(series, m, outputs=("probability",), region={"t": (1, 2)})
    alone = ms.segment(frames[1], m, outputs=("probability",))
    assert not answer.labels.data[0].any()
    assert np.array_equal(answer.labels.data[1], alone.labels.data)
    assert np.array_equal(some(answer.probability).data[1], some(alone.probability).data)
    assert answer.labels.times is not None
    with pytest.raises(ModelError, match="leaves no frame"):
        ms.segment(series, m, region={"t": (5, 6)})
    with pytest.raises(ModelError, match="time axis"):
        ms.segment([ms.Visit(None, (series,), (), "1")], m)


def test_force_overrides_a_known_mismatch_and_unknown_modality_warns(tmp_path: Path) -> None:
    m = model(tmp_path / "m")
    assert ms.segment(blob(modality="CT"), m, force=True).labels.data.shape == (7, 40, 36)
    with pytest.warns(ms.MedseqWarning, match="does not say its modality"):
        ms.segment(blob(modality=None), m)


def test_devices_that_are_not_there_are_said(tmp_path: Path) -> None:
    m = model(tmp_path / "m")
    with pytest.raises(DeviceError, match="no device 'cuda:7'"):
        ms.segment(blob(), m, device="cuda:7")
    with pytest.raises(DeviceError, match="is not a device"):
        ms.segment(blob(), m, device="abacus")


def test_the_wrong_kind_of_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="needs a segmentation model"):
        ms.segment(blob(), model(tmp_path / "c", CLASSIFIER))
    with pytest.raises(ModelError, match="needs a classification model"):
        ms.classify(blob(), model(tmp_path / "m", UNET))


def test_specks_go_by_volume() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((6, 20, 20)) > 0.9).astype(np.uint8)
    labels[2:5, 4:9, 4:9] = 2
    out = remove_small_objects(labels, 30)
    parts, n = ndimage.label(out > 0, np.ones((3, 3, 3)))
    assert n >= 1
    assert (np.bincount(parts.ravel())[1:] >= 30).all()
    assert np.array_equal(out[out > 0], labels[out > 0])


def test_components_the_network_is_not_sure_of_go() -> None:
    rng = np.random.default_rng(1)
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1:4, 2:6, 2:6], labels[1:4, 10:16, 10:16] = 1, 2
    noise = rng.uniform(-0.02, 0.02, labels.shape)
    probability = (np.where(labels == 1, 0.7, 0.96) + noise).astype(np.float32)
    assert np.array_equal(remove_small_objects(labels, 0, probability, 0.9), np.where(labels == 2, 2, 0))
    assert np.array_equal(remove_small_objects(labels, 0, probability, 0.6), labels)


def test_a_bundle_says_how_sure_its_components_must_be(tmp_path: Path) -> None:
    image, plain = blob(), model(tmp_path / "m", UNET)
    kept = ms.segment(image, plain, outputs=("labels", "probability"))
    assert kept.probability is not None
    parts, n = ndimage.label(kept.labels.volume_zyx().astype(bool), np.ones((3, 3, 3)))
    means = ndimage.mean(kept.probability.volume_zyx(), parts, range(1, n + 1))
    limit = float(np.sort(means)[n // 2])
    strict = dataclasses.replace(plain, inference={**plain.inference, "min_mean_probability": limit})
    out = ms.segment(image, strict).labels.volume_zyx()
    sure = np.flatnonzero(means > limit + 1e-3) + 1
    unsure = np.flatnonzero(means < limit - 1e-3) + 1
    assert n >= 3
    assert len(unsure)
    assert out[np.isin(parts, sure)].all()
    assert not out[np.isin(parts, unsure)].any()
