"""The same voxels at the same places in the patient give the same answer, in whichever of the 48 orders they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.geometry import Reorientation
from napari_medseq.inference.options import Output
from napari_medseq.inference.upright import Upright
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.volumes.turning import turned
from tests.narrowing import of, some
from tests.unit.training.small import CLASSIFIER, blob, model

#: the order of axes counts three times as much as the direction, so each test takes all orders and some mirrorings
ORDERS = [Reorientation(o, f) for o, f in product(permutations(range(3)), product((False, True), repeat=3))]  # type: ignore[arg-type]
SOME = [ORDERS[k] for k in (5, 14, 19, 28, 33, 47)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def small() -> ImageSequence:
    return blob(shape=(4, 16, 12))


def kinds(seq: ImageSequence, orders: list[Reorientation]) -> Iterator[tuple[Reorientation, ImageSequence]]:
    for turn in orders:
        yield turn, turned(seq, turn)


def test_there_are_48() -> None:
    assert len(set(ORDERS)) == 48


def test_a_turn_and_its_inverse_leave_everything_where_it_was() -> None:
    seq = small()
    for turn, stored in kinds(seq, ORDERS):
        back = turned(stored, turn.inverse)
        assert np.array_equal(back.data, seq.data)
        assert np.allclose(back.affine, seq.affine)
        assert (back.slice_axis, turn.inverse.inverse) == (seq.slice_axis, turn)


def test_segment(folder: Path) -> None:
    net, seq = model(folder / "segment", threshold=0.45), small()
    region, keep = (
        {"z": (1, 4), "y": (2, 15), "x": (0, 9)},
        seq.labels_like(np.zeros(seq.data.shape, np.uint8), name="k", label_names={}),
    )
    keep.data[2, 3, 4] = 7
    outputs: tuple[Output, ...] = ("labels", "probability", "uncertainty")
    expected = ms.segment(seq, net, outputs=outputs, region=region, keep=keep, steps=[1, 2], device="cpu")
    assert 0 < (np.asarray(expected.labels.data) > 0).mean() < 1
    for turn, stored in kinds(seq, ORDERS):
        there = Upright(seq, turn, {a: (0, turned(seq, turn).size(a)) for a in SPACE})
        found = ms.segment(
            stored, net, outputs=outputs, region=there.region(region), keep=turned(keep, turn),
            steps=there.steps([1, 2], there.axis("z")), device="cpu",
        )  # fmt: skip
        for name in outputs:
            one, two = some(getattr(found, name)), some(getattr(expected, name))
            assert one.same_grid(stored)
            assert np.array_equal(turned(one, turn.inverse).data, two.data), (turn, name)


def test_visits(folder: Path) -> None:
    later = small().replace(data=np.roll(small().data, 2, 2), name="later_T1")
    seqs = [small(), later]

    def patient(images: list[ImageSequence]) -> list[ms.Visit]:
        return [ms.Visit(date(2020, k + 1, 1), (image,)) for k, image in enumerate(images)]

    net = model(folder / "visits", along="visit", threshold=0.45)
    judge = model(folder / "judge", {**CLASSIFIER, "dimensions": 3}, along="visit")
    prompts = seqs[0].labels_like((np.asarray(seqs[0].data) > 400).astype(np.uint8), name="p", label_names={1: "a"})
    still = [None, None]
    segmented = ms.segment(patient(seqs), net, transforms=still, device="cpu")
    judged = of(ms.Classification, ms.classify(patient(seqs), judge, transforms=still, device="cpu"))
    carried = ms.propagate(patient(seqs), [prompts, None], transforms=still, device="cpu")
    assert 0 < (np.asarray(segmented[1].labels.data) > 0).mean() < 1
    for turn in SOME[:3]:
        stored = [seqs[0], turned(later, turn)]
        other = [turned(seqs[0], turn), later]
        for images, k in ((stored, 1), (other, 0)):
            found = ms.segment(patient(images), net, transforms=still, device="cpu")
            assert found[k].labels.same_grid(images[k])
            assert np.array_equal(turned(found[k].labels, turn.inverse).data, segmented[k].labels.data)
            assert np.array_equal(found[1 - k].labels.data, segmented[1 - k].labels.data)
            again = of(ms.Classification, ms.classify(patient(images), judge, transforms=still, device="cpu"))
            assert np.array_equal(again.per_step, judged.per_step)
        there = ms.propagate(patient(stored), [prompts, None], transforms=still, device="cpu")
        assert there[1].labels.same_grid(stored[1])
        assert np.array_equal(turned(there[1].labels, turn.inverse).data, carried[1].labels.data)


def test_a_colour_axis_stays_last() -> None:
    seq = small()
    colour = seq.replace(data=np.stack([np.asarray(seq.data)] * 3, -1), axes=("z", "y", "x", "c"))
    for turn, stored in kinds(colour, SOME):
        assert stored.axes == colour.axes
        assert np.array_equal(np.asarray(stored.data)[..., 0], turned(seq, turn).data)


def test_classify(folder: Path) -> None:
    net, seq = model(folder / "classify", CLASSIFIER), small()
    expected = ms.classify(seq, net, device="cpu")
    for turn, stored in kinds(seq, ORDERS):
        found = ms.classify(stored, net, device="cpu")
        assert found.probabilities == expected.probabilities
        assert found.step_axis == stored.slice_axis
        order = slice(None, None, -1 if turn.inverse.flips[2] else 1)
        assert np.array_equal(found.per_step[order], expected.per_step)
        assert np.array_equal(found.attention[order], expected.attention)


def test_explain_and_locate(folder: Path) -> None:
    net, seq = model(folder / "explain", CLASSIFIER), small()
    expected, places = ms.explain(seq, net), ms.locate(seq, net, min_score=0.05, device="cpu")
    assert len(places)
    for turn, stored in kinds(seq, SOME):
        found = ms.explain(stored, net)
        assert found.same_grid(stored)
        assert np.array_equal(turned(found, turn.inverse).data, expected.data)
        assert found.meta["explanation"] == expected.meta["explanation"]
        near = ms.locate(stored, net, min_score=0.05, device="cpu")
        for one, two in zip(near.found, places.found, strict=True):
            assert one.score == two.score
            assert np.allclose(one.centre_mm, two.centre_mm)
            box = np.zeros(stored.data.shape, bool)
            box[tuple(slice(*one.box[a]) for a in stored.axes)] = True
            inside = np.zeros(seq.data.shape, bool)
            inside[tuple(slice(*two.box[a]) for a in seq.axes)] = True
            assert np.array_equal(turned(stored.replace(data=box), turn.inverse).data, inside)


def test_propagate() -> None:
    seq = small()
    drawn = np.zeros(seq.data.shape, np.uint8)
    drawn[1, 5:11, 4:9] = 1
    labels = seq.labels_like(drawn, name="drawn", label_names={1: "thing"})
    expected = ms.propagate(seq, labels, annotated=[3], device="cpu")
    for turn, stored in kinds(seq, SOME):
        there = Upright(seq, turn, {a: (0, turned(seq, turn).size(a)) for a in SPACE})
        annotated = there.steps([3], there.axis("z"))
        found = ms.propagate(stored, turned(labels, turn), annotated=annotated, axis=stored.slice_axis, device="cpu")
        assert found.axis == stored.slice_axis
        assert np.array_equal(turned(found.labels, turn.inverse).data, expected.labels.data)
        assert np.array_equal(found.doubt[:: -1 if turn.inverse.flips[2] else 1], expected.doubt)
        assert np.allclose(found.labels.affine, stored.affine)


def test_a_picture_and_an_image_of_unknown_orientation_stay_as_they_are() -> None:
    unknown = small().replace(oriented=False, affine=np.eye(4))
    picture = small().replace(data=np.zeros((4, 4)), axes=("y", "x"), affine=np.eye(4))
    assert Upright.of(unknown).is_plain
    assert Upright.of(picture).is_plain
    assert Upright.of(unknown).there(unknown) is unknown


def padded(seq: ImageSequence, value: float, pads: tuple[tuple[int, int], ...]) -> ImageSequence:
    affine = seq.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [pads[2][0], pads[1][0], pads[0][0]]
    return seq.replace(data=np.pad(np.asarray(seq.data), pads, constant_values=value), affine=affine)


def test_padding_changes_nothing_where_a_model_leaves_it_out(folder: Path) -> None:
    net, classifier = (
        model(folder / "trim", threshold=0.45, trimmed=True),
        model(folder / "trimc", CLASSIFIER, trimmed=True),
    )
    seq, pads = small(), ((1, 2), (5, 0), (3, 9))
    inner = tuple(slice(a, a + n) for (a, _), n in zip(pads, seq.data.shape, strict=True))
    outputs: tuple[Output, ...] = ("labels", "probability")
    expected, answer = ms.segment(seq, net, outputs=outputs, device="cpu"), ms.classify(seq, classifier, device="cpu")
    turn = ORDERS[29]
    for value in (0.0, -1024.0, np.nan):
        for stored in (padded(seq, value, pads), turned(padded(seq, value, pads), turn)):
            back = turn.inverse if stored.data.shape != padded(seq, value, pads).data.shape else Reorientation()
            found = ms.segment(stored, net, outputs=outputs, device="cpu")
            for name in outputs:
                whole = np.asarray(turned(some(getattr(found, name)), back).data)
                assert np.array_equal(whole[inner], some(getattr(expected, name)).data)
                assert whole.sum(dtype=float) == pytest.approx(whole[inner].sum(dtype=float))
            said = ms.classify(stored, classifier, device="cpu")
            assert said.probabilities == answer.probabilities
            assert sorted(said.per_step[:, 0])[3:] == sorted(answer.per_step[:, 0])
            assert len(said.per_step) == len(said.attention) == 7
    keep = padded(seq, 0, pads).labels_like(np.zeros((7, 21, 24), np.uint8), name="keep", label_names={})
    keep.data[0, 0, 0] = 3
    found = ms.segment(padded(seq, 0, pads), net, keep=keep, steps=[0, 1], device="cpu")
    assert found.labels.data[0, 0, 0] == 3
    assert not found.labels.data[2:].any()
    assert np.array_equal(found.labels.data[1][inner[1:]], expected.labels.data[0])
