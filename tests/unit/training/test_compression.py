"""`compress`: smaller by what its card says, still segments, and never over the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseq as ms
from napari_medseq.errors import MedseqError, OperationCancelled
from napari_medseq.inference.resources import tuning
from napari_medseq.models import Model, networks
from napari_medseq.training.compression import measures
from tests.narrowing import some
from tests.unit.training.small import CLASSIFIER, UNET, blob, model, written

WIDE = {**UNET, "widths": [16, 32, 32], "hidden": 8}


def test_int8_and_half_are_smaller_and_answer_almost_the_same(tmp_path: Path) -> None:
    m = model(tmp_path / "m", WIDE, pixel_mm=0.9)
    before = ms.segment(blob(), m, outputs=("probability",)).probability
    sizes = [measures(m)["bytes"]]
    for storage, tolerance in (("half", 0.01), ("int8", 0.1), ("shared", 0.1)):
        small = ms.compress(m, {"out": str(tmp_path / storage), "storage": storage})
        sizes.append(measures(small)["bytes"])
        after = ms.segment(blob(), small, outputs=("probability",)).probability
        assert before is not None
        assert after is not None
        assert np.abs(after.data - before.data).max() < tolerance
        assert (small.info.name, small.info.parameters) == ("m-small", m.info.parameters)
        assert small.inference == m.inference
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]


def test_factorising_saves_multiplications_and_loads_by_folder(tmp_path: Path) -> None:
    m = model(tmp_path / "m", WIDE)
    small = ms.compress(m, {"out": str(tmp_path / "s"), "error": 0.2, "name": "thin", "storage": "float32"})
    assert measures(small)["multiply_adds"] < 0.9 * measures(m)["multiply_adds"]
    assert "convolutions factorised" in small.info.card
    assert f"{measures(small)['multiply_adds']:,}" in small.info.card
    again = ms.load_model(tmp_path / "s")
    assert np.array_equal(ms.segment(blob(), again).labels.data, ms.segment(blob(), small).labels.data)
    with pytest.raises(MedseqError, match="compress the original"):
        ms.compress(small, {"out": str(tmp_path / "t"), "error": 0.2})


def test_pruning_gives_a_plain_smaller_network_that_can_be_tuned(tmp_path: Path) -> None:
    m = model(tmp_path / "m", WIDE)
    loop = {"iterations": 2, "batch": 1, "steps": 2, "size": [16, 16], "warm_up": 1}
    tune = {"name": "x", "synthetic": 0, "data": [str(study(tmp_path))], "loop": loop, "device": "cpu"}
    small = ms.compress(m, {"out": str(tmp_path / "s"), "keep": 0.5, "fine_tune": tune})
    assert small.network_definition == {**WIDE, "widths": [8, 16, 16], "hidden": 4}
    assert measures(small)["multiply_adds"] < 0.8 * measures(m)["multiply_adds"]
    assert "fine-tuned for 2 iterations, taught by the original" in small.info.card
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "m", "s"]
    assert ms.segment(blob(), small).labels.data.shape == (7, 40, 36)


def study(folder: Path) -> Path:
    day = folder / "data" / "sub-a" / "ses-20200101"
    day.mkdir(parents=True)
    seq = blob(0, (4, 24, 24), name="a_T1")
    ms.write(seq, day / "a_T1.nii.gz")
    labels = (seq.data > 400).astype(np.uint8)
    ms.write(seq.labels_like(labels, name="a_seg", label_names={1: "x"}), day / "a_seg.nii.gz")
    return folder / "data"


def test_a_classifier_can_be_stored_small(tmp_path: Path) -> None:
    m = model(tmp_path / "c", CLASSIFIER)
    small = ms.compress(m, {"out": str(tmp_path / "s"), "storage": "int8", "error": 0.05})
    a, b = (ms.classify(blob(), x).probabilities["lesion"] for x in (m, small))
    assert abs(a - b) < 0.1
    assert small.info.task == "classification"


def test_a_classifier_knows_its_table_and_its_modalities_after_it(tmp_path: Path) -> None:
    network = {**CLASSIFIER, "tabular": 1, "in_channels": 2, "modalities": 2, "fusion": "attention"}
    facts = {"name": "c", "task": "classification", "channels": ["T1", "T2"], "classes": {"0": "x"}, "table": ["age"]}
    m = written(tmp_path / "c", facts, network, {}, networks.build(network))
    small = ms.compress(m, {"out": str(tmp_path / "s")})
    assert small.info.table == ("age",)
    images = {"T1": blob(0), "T2": blob(1)}
    old, young = (ms.classify(images, small, table={"age": age}).probabilities["x"] for age in (80.0, 20.0))
    assert 0 < old < 1
    assert 0 < young < 1


def test_a_network_of_volumes_can_be_stored_small(tmp_path: Path) -> None:
    m = model(tmp_path / "m", {**UNET, "dimensions": 3, "neighbours": 0, "ahead": 0}, along="t")
    small = ms.compress(m, {"out": str(tmp_path / "s"), "storage": "int8"})
    assert measures(small)["multiply_adds"] == measures(m)["multiply_adds"] > 0
    assert measures(small)["bytes"] < measures(m)["bytes"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "out is missing"),
        ({"out": "s", "storage": "int1"}, "storage"),
        ({"out": "s", "keep": 0}, "keep"),
        ({"out": "m"}, "folder of m itself"),
        ({"out": "thesis"}, "nothing was overwritten"),
    ],
)
def test_settings_that_cannot_be_used_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").touch()
    with pytest.raises(MedseqError, match=reason):
        ms.compress(model(tmp_path / "m"), settings)


@pytest.mark.parametrize("units", [True, False])
def test_bfloat16_and_one_pass_answer_almost_the_same_and_only_where_they_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: bool
) -> None:
    monkeypatch.setattr(tuning, "has_bfloat16", lambda: units)
    m = model(tmp_path / "m", WIDE, mirror=True)
    fast = ms.compress(m, {"out": str(tmp_path / "b"), "precision": "bfloat16", "storage": "float32"})
    once = ms.compress(m, {"out": str(tmp_path / "o"), "mirror": False, "storage": "float32"})
    assert (fast.inference["precision"], fast.inference["mirror"]) == ("bfloat16", True)
    assert once.inference["mirror"] is False
    assert "one pass" in once.info.card
    before, after, single = (
        np.asarray(some(ms.segment(blob(), x, outputs=("probability",), device="cpu").probability).data)
        for x in (m, fast, once)
    )
    moved = np.abs(after - before).max()
    assert 1e-5 < moved < 0.1 if units else moved == 0
    plain = Model(m.info, m.network, {**m.inference, "mirror": False}, m.network_definition)
    expected = ms.segment(blob(), plain, outputs=("probability",), device="cpu").probability
    assert expected is not None
    assert np.array_equal(single, expected.data)


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_bfloat16_does_not_depend_on_the_chunk_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(tuning, "has_bfloat16", lambda: True)
    m = model(tmp_path / "m", WIDE, precision="bfloat16")
    found = ms.segment(blob(), m, chunk=chunk, device="cpu").labels.data
    assert np.array_equal(found, ms.segment(blob(), m, device="cpu").labels.data)


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"mirror": False}])
def test_a_classifier_has_no_other_precision_or_pass(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(MedseqError, match="leave precision and mirror"):
        ms.compress(model(tmp_path / "c", CLASSIFIER), {"out": str(tmp_path / "s"), **settings})


def test_only_what_can_be_pruned_is(tmp_path: Path) -> None:
    with pytest.raises(MedseqError, match="Only a RecurrentUNet"):
        ms.compress(model(tmp_path / "c", CLASSIFIER), {"out": str(tmp_path / "s"), "keep": 0.5})


def test_cancel_writes_nothing(tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(OperationCancelled):
        ms.compress(
            model(tmp_path / "m"),
            {"out": str(tmp_path / "s"), "error": 0.1},
            progress=lambda d, *_: seen.append(d),
            cancelled=lambda: len(seen) >= 2,
        )
    assert seen == [1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]
