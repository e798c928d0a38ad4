"""Training: it learns, repeats bit for bit, resumes where it stopped, and writes a bundle that loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import napari_medseq as ms
from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError
from napari_medseq.models import networks
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.training import teaching
from napari_medseq.training.cases import make_case
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.tasks import TASKS
from napari_medseq.training.trainer import TrainConfig, read_config
from napari_medseq.training.transfer import take_over
from tests.unit.training.small import CLASSIFIER, UNET, blob

LOOP = {"iterations": 6, "batch": 1, "steps": 3, "size": [32, 32], "warm_up": 1, "checkpoint_seconds": 1e-6}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two patients with one visit each; the bright core of each blob is labelled."""
    for k, patient in enumerate(("sub-a", "sub-b")):
        seq = blob(k, (6, 40, 40), name=f"{patient}_T1")
        labels = np.zeros(seq.data.shape, np.uint8)
        labels[2:4, 14:26, 14:26] = 1
        seq = seq.replace(data=seq.data + np.float32(400) * labels)
        folder = tmp_path / "data" / patient / "ses-20200101"
        folder.mkdir(parents=True)
        ms.write(seq, folder / f"{patient}_T1.nii.gz")
        ms.write(
            seq.labels_like(labels, name=f"{patient}_seg", label_names={1: "core"}), folder / f"{patient}_seg.nii.gz"
        )
    return tmp_path / "data"


def config(study: Path, out: Path, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": out.name,
        "data": [str(study)],
        "network": UNET,
        "loop": LOOP,
        "out": str(out),
        "device": "cpu",
    }
    return {**base, **changes}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return ms.load_model(folder).network.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_writes_a_bundle_that_segments(study: Path, tmp_path: Path) -> None:
    result = ms.train(config(study, tmp_path / "m", modality="MR", classes={1: "core"}))
    assert list(result.curve["iteration"]) == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(result.curve["loss"]).all()
    assert result.model.info.classes == {1: "core"}
    assert ms.segment(blob(), result.folder.as_posix()).labels.data.shape == (7, 40, 36)


def test_same_seed_same_weights_and_another_seed_others(study: Path, tmp_path: Path) -> None:
    a, b, c = (
        weights(ms.train(config(study, tmp_path / name, loop={**LOOP, "seed": seed})).folder)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert same(a, b)
    assert not same(a, c)


def test_an_interrupted_run_goes_on_to_the_same_weights(study: Path, tmp_path: Path) -> None:
    whole = ms.train(config(study, tmp_path / "whole", name="m"))
    done: list[int] = []
    interrupted = config(study, tmp_path / "m")
    with pytest.raises(OperationCancelled):
        ms.train(interrupted, progress=lambda d, *_: done.append(d), cancelled=lambda: len(done) >= 3)
    assert not (tmp_path / "m").exists()
    assert len(pd.read_csv(tmp_path / "m.run" / "curve.csv")) == 3
    # as of a process that was killed while it wrote the model
    (tmp_path / ".m-abcdefgh" / "bundle").mkdir(parents=True)
    resumed = ms.train(interrupted)
    assert not (tmp_path / ".m-abcdefgh").exists()
    assert same(weights(whole.folder), weights(resumed.folder))
    assert np.array_equal(whole.curve["loss"], resumed.curve["loss"])


def test_training_lowers_the_loss(study: Path, tmp_path: Path) -> None:
    loop = {**LOOP, "iterations": 60, "rate": 5e-3, "batch": 2, "checkpoint_seconds": 60}
    curve = ms.train(config(study, tmp_path / "m", loop=loop)).curve["loss"]
    assert curve[-10:].mean() < 0.7 * curve[:10].mean()


def test_validation_scores_the_averaged_weights_without_dropout(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def scores(network: SequenceNetwork, *_: object) -> dict[str, float]:
        assert not network.training
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return {"dice": float(len(seen))}  # the last validation is the best one

    monkeypatch.setitem(TASKS, "segmentation", replace(TASKS["segmentation"], scores=scores))
    loop = {**LOOP, "validate_every": 3, "rate": 0.05}
    ms.train(config(study, tmp_path / "a", loop=loop, validation=["sub-b"]))
    assert len(seen) == 2
    kept = weights(tmp_path / "a")  # in half precision
    assert all(torch.allclose(kept[k], seen[-1][k], rtol=2e-3, atol=1e-5) for k in kept)


def test_held_out_patients_are_not_seen(study: Path, tmp_path: Path) -> None:
    from napari_medseq.training.trainer import read_cases

    c = read_config(config(study, tmp_path / "m", hold_out=["sub-b"]))
    assert [case.patient for case in read_cases(c)] == ["sub-a"]
    one = read_config(config(study / "sub-b", tmp_path / "m"))
    assert [case.patient for case in read_cases(one)] == ["sub-b"]


def test_other_settings_do_not_go_on_from_a_checkpoint(study: Path, tmp_path: Path) -> None:
    ms.train(config(study, tmp_path / "m"))
    with pytest.raises(SettingsError, match="other settings"):
        ms.train(config(study, tmp_path / "m", loop={**LOOP, "seed": 9}))


def test_classifier_trains_and_starts_from_another(study: Path, tmp_path: Path) -> None:
    c = config(study, tmp_path / "c", task="classification", network={**CLASSIFIER, "rnn": "none"}, classes={0: "core"})
    first = ms.train(c)
    second = ms.train(
        config(
            study,
            tmp_path / "d",
            task="classification",
            network=CLASSIFIER,
            classes={0: "core"},
            start_from=str(first.folder),
        )
    )
    out = ms.classify(blob(modality=None), second.model)
    assert out.per_step.shape == (7, 1)


def test_take_over_copies_what_fits() -> None:
    a, b = networks.build({**UNET, "rnn": "none"}), networks.build(UNET)
    assert take_over(b, a) == len(a.state_dict())
    assert all(torch.equal(b.state_dict()[k], v) for k, v in a.state_dict().items())


def test_labels_on_another_grid_are_refused() -> None:
    seq = blob()
    labels = seq.labels_like(np.zeros((3, 40, 36), np.uint8), name="short", label_names={})
    with pytest.raises(MedseqError, match=r"not on the grid|another grid"):
        make_case("p", [seq], labels)


def test_unlabelled_value_and_classes() -> None:
    seq = blob()
    values = np.zeros(seq.data.shape, np.uint8)
    values[1], values[2] = 2, 255
    labels = seq.labels_like(values, name="sparse", label_names={})
    case = make_case("p", [seq], labels, unlabelled=255, merge=False)
    assert set(case.labels[1].unique().tolist()) == {2}
    assert set(case.labels[2].unique().tolist()) == {-1}
    assert set(make_case("p", [seq], labels, merge=True).labels.unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "../evil"}, "name"),
        ({"nosuch": 1}, "nosuch"),
        ({"loop": {"iterations": 0}}, "loop.iterations"),
    ],
)
def test_config_errors_name_the_field(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_config({"name": "m", **change})


def test_config_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: m\nloop:\n  iterations: 7\n")
    assert read_config(tmp_path / "c.yaml") == TrainConfig(name="m", loop={"iterations": 7})
    (tmp_path / "bad.yaml").write_text("name: [")
    with pytest.raises(SettingsError, match=r"bad\.yaml cannot be read"):
        read_config(tmp_path / "bad.yaml")
    with pytest.raises(SettingsError, match="is not a file"):
        read_config(tmp_path / "missing.yaml")


def test_a_folder_without_cases_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedseqError, match="empty"):
        ms.train({"name": "m", "data": [str(tmp_path / "empty")], "network": UNET, "out": str(tmp_path / "m")})
    with pytest.raises(MedseqError, match="no training case"):
        ms.train({"name": "m", "network": UNET, "out": str(tmp_path / "m")})


def test_synthetic_cases_are_made_once_and_train_alone(tmp_path: Path) -> None:
    from napari_medseq.training.trainer import synthetic_cases

    c = read_config(
        {"name": "m", "synthetic": 1, "inference": {"pixel_mm": 2.0}, "network": UNET, "out": str(tmp_path / "m")}
    )
    (first,) = synthetic_cases(c, tmp_path / "m.run")
    assert first.labels.unique().tolist() == [0, 1]
    kept = list(tmp_path.glob("heads-*.pt"))
    assert len(kept) == 1
    (again,) = synthetic_cases(c, tmp_path / "m.run")
    assert torch.equal(first.image, again.image)
    result = ms.train(c.model_copy(update={"loop": LoopSettings(**{**LOOP, "iterations": 1})}))
    assert len(result.curve) == 1
    for made in kept:
        made.unlink()
    synthetic_cases(
        c.model_copy(update={"inference": c.inference.model_copy(update={"along": "z"})}), tmp_path / "m.run"
    )
    assert [p.name for p in tmp_path.glob("heads-*.pt")] != [p.name for p in kept]  # another sequence is another file


@pytest.mark.parametrize("pixel", [1e-4, 0.5])  # of a microscope, in mm, and of a scanner
def test_large_images_are_taught_in_larger_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixel: float
) -> None:
    monkeypatch.setattr(teaching, "train_cases", lambda settings, *_: settings.inference.pixel_mm)
    image = ms.ImageSequence(
        np.eye(512, dtype=np.float32)[np.newaxis], ("z", "y", "x"), np.diag([pixel, pixel, 1.0, 1.0])
    )
    labels = image.labels_like((image.data > 0).astype(np.uint8), name="line", label_names={1: "line"})
    taught_in: Any = ms.teach(image, labels, {"out": str(tmp_path / "m")})
    assert taught_in == pytest.approx(2 * pixel, rel=1e-3)
