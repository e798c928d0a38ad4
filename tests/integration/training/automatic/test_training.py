"""A folder in, a bundle out, with nothing else said: in the layouts and shapes that people have."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.cli import main
from napari_medseq.errors import MedseqWarning, ModelError, OperationCancelled, SettingsError
from napari_medseq.inference.folders import segment_folder
from napari_medseq.models.slab_unet import SlabUNet
from napari_medseq.sequence import ImageSequence
from napari_medseq.training.automatic import training
from napari_medseq.training.automatic.plan import Plan
from napari_medseq.training.checking import check_data
from napari_medseq.training.layouts import EACH

SHORT = 0.02  # minutes
#: of the processor, so that a busy machine does not cut the reading short
QUICK: dict[str, Any] = {"minutes": SHORT, "clock": "process"}
SMALL = {"widths": [4, 8], "strides": [[1, 2, 2]]}  # a network, where another thing is the matter


def case(
    seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> tuple[ImageSequence, ImageSequence]:
    """A bright ball with a brighter half, in noise."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    middle = (np.array(shape) - 1) / 2 + random.uniform(-1, 1, 3)
    inside = (((grid - middle) * np.array(spacing)[::-1] / (0.35 * shape[2] * spacing[0])) ** 2).sum(-1) < 1
    truth = inside.astype(np.uint8) + (inside & (grid[..., 2] > middle[2]))
    values = (100 * truth + random.normal(0, 10, shape) + 100).astype(np.float32)
    image = ImageSequence(values, ("z", "y", "x"), np.diag([*spacing, 1.0]), name="image")
    return image, image.labels_like(truth, name="labels", label_names={1: "left", 2: "right"})


def decathlon(folder: Path, cases: int = 5, shape: tuple[int, int, int] = (12, 16, 14), channels: int = 1) -> Path:
    for k in range(cases):
        image, labels = case(k, shape)
        for c in range(channels):
            name = f"ball_{k:03}" + (f"_{c:04}" if channels > 1 else "")
            if not (channels > 1 and c == 1 and k == 0):  # the first lacks its second channel
                ms.write(image.replace(data=image.data * (c + 1)), folder / "imagesTr" / f"{name}.nii.gz")
        ms.write(labels, folder / "labelsTr" / f"ball_{k:03}.nii.gz")
    facts = {
        "labels": {"background": 0, "left": 1, "right": 2},
        "channel_names": {str(c): f"c{c}" for c in range(channels)},
    }
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def test_training_starts_from_the_model_that_the_plan_names(tmp_path: Path) -> None:
    data, still = decathlon(tmp_path / "data", cases=2), {**SMALL, "rate": 1e-12}
    first = ms.train(
        {"data": str(data), "out": str(tmp_path / "first"), "settings": {**SMALL, "start_from": None}, **QUICK}
    )
    second = ms.train(
        {
            "data": str(data),
            "out": str(tmp_path / "second"),
            "settings": {**still, "start_from": str(first.folder)},
            **QUICK,
        }
    )
    volume = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    own, other = second.model.network, first.model.network
    assert isinstance(own, SlabUNet)
    assert isinstance(other, SlabUNet)
    with torch.no_grad():
        for a, b in zip(own.features(volume), other.features(volume), strict=True):
            assert torch.allclose(a, b, atol=0.02)  # weights are kept in half precision
    assert "started from the weights of first 0.1.0" in second.model.info.card
    assert "started" not in first.model.info.card
    with pytest.raises(SettingsError, match="is a RecurrentUNet"):
        ms.train(
            {"data": str(data), "out": str(tmp_path / "third"), "settings": {"start_from": "brain-tumor"}, **QUICK}
        )


def test_a_folder_and_some_time_make_a_bundle_that_segments(tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data")
    result = ms.train(
        {
            "data": str(data),
            "out": str(tmp_path / "ball"),
            "minutes": 0.1,
            "clock": "process",
            "settings": {"widths": [8, 12, 16], "strides": [[1, 2, 2], [2, 2, 2]], "window": [12, 16, 16]},
        }
    )
    image, truth = case(99, (12, 16, 14))
    found = ms.segment(image, result.model, outputs=("labels", "probability", "uncertainty"))
    assert found.labels.label_names == {1: "left", 2: "right"}
    assert found.labels.same_grid(image)
    for k in (1, 2):
        a, b = found.labels.data == k, truth.data == k
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.7
    assert found.probability is not None
    assert 0 <= found.probability.data.min() <= found.probability.data.max() <= 1
    again = ms.segment(image, [result.folder, result.folder])
    assert np.array_equal(again.labels.data, found.labels.data)
    for wrong, said in (
        ({"views": 1, "outputs": ("uncertainty",)}, "no steps to sample from"),
        ({"outputs": ("mask",)}, "are not known"),
        ({"transforms": [None]}, "along visits"),
    ):
        with pytest.raises(ms.MedseqError, match=said):
            ms.segment(image, result.model, **wrong)
    with pytest.raises(SettingsError, match="teach cannot"):
        ms.teach(image, truth, {"out": str(tmp_path / "taught"), "start_from": str(result.folder)})
    run = tmp_path / "ball.run"
    assert {"plan.yaml", "fingerprint.json", "run.json", "checkpoint.pt"} <= {p.name for p in run.iterdir()}
    assert json.loads((run / "run.json").read_text())["windows_seen"] == result.seen > 0
    assert len(result.patients) == 5
    # an image of another orientation and spacing is labelled at the same place
    turned = image.replace(
        data=image.data[::-1].copy(),
        affine=image.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 11], [0, 0, 0, 1.0]]),
    )
    assert np.array_equal(ms.segment(turned, result.model).labels.data[::-1], found.labels.data)


def test_what_was_stopped_goes_on_with_its_own_plan(tmp_path: Path) -> None:
    config = {
        "data": str(decathlon(tmp_path / "data", 3)),
        "out": str(tmp_path / "m"),
        "minutes": 5.0,
        "settings": SMALL,
    }
    asked = iter([False] * 40)

    def cancelled() -> bool:
        return next(asked, True)

    with pytest.raises(OperationCancelled):
        ms.train(config, cancelled=cancelled)
    run = tmp_path / "m.run"
    before = (run / "plan.yaml").read_text()
    result = ms.train({**config, **QUICK})
    assert (run / "plan.yaml").read_text() == before
    assert result.seen > 0


def test_channels_that_are_missing_are_done_without(tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 3, channels=2)
    result = ms.train({"data": str(data), "out": str(tmp_path / "m"), **QUICK, "settings": SMALL})
    image, _ = case(50, (12, 16, 14))
    assert result.model.info.channels == ("c0", "c1")
    both = ms.segment({"c0": image, "c1": image}, result.model).labels
    one = ms.segment({"c1": image}, result.model).labels
    assert both.data.shape == one.data.shape == image.data.shape
    with pytest.raises(ModelError, match="not \\['c9'\\]"):
        ms.segment({"c9": image}, result.model)


def test_where_reading_takes_all_the_time_a_part_is_learned_from_and_that_is_said(tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 4)
    with pytest.warns(
        ms.MedseqWarning, match=r"2 of 4 cases are left out; at this speed about \d+ minutes suffice for all"
    ):
        result = ms.train({"data": str(data), "out": str(tmp_path / "m"), "minutes": 1e-4, "settings": SMALL})
    assert len(result.patients) == 2


def test_thick_slices_and_single_pictures(tmp_path: Path) -> None:
    for k in range(3):
        image, labels = case(k, (4, 40, 36), (1.0, 1.0, 8.0))
        ms.write(image, tmp_path / "thick" / f"p{k}" / "scan.nii.gz")
        ms.write(labels, tmp_path / "thick" / f"p{k}" / "scan_seg.nii.gz")
    result = ms.train({"data": str(tmp_path / "thick"), "out": str(tmp_path / "m"), **QUICK})
    image, _ = case(7, (5, 44, 30), (1.0, 1.0, 8.0))
    assert ms.segment(image, result.model, steps=[2]).labels.data.shape == image.data.shape


def test_frames_of_a_video(tmp_path: Path) -> None:
    from PIL import Image

    for seq in ("a", "b"):
        for k in range(4):
            image, labels = case(k, (1, 32, 32))
            for kind, values in (
                ("frames", (image.data[0][..., None] * (1.0, 0.8, 0.5)).clip(0, 255)),
                ("labels", labels.data[0]),
            ):
                path = tmp_path / "video" / seq / kind / f"{k:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values.astype(np.uint8)).save(path)
    result = ms.train(
        {
            "data": str(tmp_path / "video"),
            "out": str(tmp_path / "m"),
            **QUICK,
            "patient": "{name}",
            "settings": SMALL,
        }
    )
    assert result.model.info.channels == ("red", "green", "blue")
    data = case(3, (6, 32, 32))[0].data[..., None] * np.array((1.0, 0.8, 0.5))
    video = ImageSequence(data, ("t", "y", "x", "c"), np.eye(4), times=np.arange(6.0), name="video")
    labels = ms.segment(video, result.model).labels
    assert (labels.axes, labels.data.shape) == (("t", "y", "x"), (6, 32, 32))
    assert ms.segment(video.frame(0), result.model).labels.data.shape == (32, 32)
    (done,) = segment_folder(tmp_path / "video" / "a" / "frames", result.model, tmp_path / "out")
    assert (done.status, ms.read(done.labels)[0].size("t")) == ("done", 4)


def test_of_volumes_over_time_the_labelled_frames_are_learned_and_every_frame_is_labelled(tmp_path: Path) -> None:
    for k in range(2):
        image, labels = case(k, (8, 16, 16))
        frames = np.stack([image.data] * 3)
        truth = np.stack([labels.data, labels.data * 0, labels.data])
        series = image.replace(data=frames, axes=("t", "z", "y", "x"), times=np.arange(3.0))
        ms.write(series, tmp_path / "images" / f"p{k}.nii.gz")
        ms.write(series.labels_like(truth, name="labels", label_names={}), tmp_path / "labels" / f"p{k}.nii.gz")
    assert "volumes over time (p0, p1)" in "".join(check_data(tmp_path).doubts)
    result = ms.train({"data": str(tmp_path), "out": str(tmp_path / "m"), **QUICK, "settings": SMALL})
    assert json.loads((tmp_path / "m.run" / "fingerprint.json").read_text())["measured"] == 4
    whole = ms.segment(series, result.model, outputs=("labels", "probability"))
    assert whole.labels.data.shape == series.data.shape
    assert whole.probability is not None
    one = ms.segment(series.frame(1), result.model).labels
    np.testing.assert_array_equal(whole.labels.frame(1).data, one.data)
    some = ms.segment(series, result.model, region={"t": (1, 2)}, keep=whole.labels).labels
    np.testing.assert_array_equal(some.data, whole.labels.data)
    with pytest.raises(ModelError, match="no frame"):
        ms.segment(series, result.model, region={"t": (7, 9)})
    with pytest.raises(ModelError, match="not on the grid"):
        ms.segment(series, result.model, keep=one)


def test_labels_that_number_objects_are_doubted_and_can_be_one_class(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for k, count in enumerate((9, 11)):
        image, _ = case(k, (1, 40, 40))
        truth = np.zeros((1, 40, 40), np.uint16)
        for n in range(count):
            truth[0, 9 * (n // 4) + 1 : 9 * (n // 4) + 6, 9 * (n % 4) + 1 : 9 * (n % 4) + 6] = n + 1
        ms.write(image, data / "images" / f"p{k}.nii.gz")
        ms.write(image.labels_like(truth, name="l", label_names={}), data / "labels" / f"p{k}.nii.gz")
    assert "numbers of objects" in "".join(check_data(data).doubts)
    base = {"data": str(data), **QUICK, "settings": SMALL}
    with pytest.warns(ms.MedseqWarning, match="merge=true"):
        ms.train({**base, "out": str(tmp_path / "a")})
    merged = ms.train({**base, "out": str(tmp_path / "b"), "merge": True})
    assert merged.model.info.classes == {1: "foreground"}


def test_a_plan_of_other_channels_is_refused(tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 2)
    ms.train({"data": str(data), "out": str(tmp_path / "m"), **QUICK, "settings": SMALL})
    two = decathlon(tmp_path / "two", 2, channels=2)
    with pytest.raises(SettingsError, match=r"1 scheme.*2 channels"):
        ms.train({"data": str(two), "out": str(tmp_path / "n"), "plan": str(tmp_path / "m.run" / "plan.yaml")})


def test_explicit_settings_win_and_wrong_ones_are_named(tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 3)
    base = {"data": str(data), "out": str(tmp_path / "m"), **QUICK}
    result = ms.train({**base, "settings": {**SMALL, "batch": 1}})
    text = (tmp_path / "m.run" / "plan.yaml").read_text()
    assert "batch: 1" in text
    assert "batch: as the settings say" in text
    shutil.rmtree(tmp_path / "m.run")
    shutil.copy(tmp_path / "m" / "configs" / "metadata.json", tmp_path / "kept.json")
    (tmp_path / "mine.yaml").write_text(text.replace("batch: 1", "batch: 3"))
    again = ms.train({**base, "plan": str(tmp_path / "mine.yaml")})
    assert again.seen % 3 == 0
    assert result.model.info.name == again.model.info.name == "m"
    for wrong, said in (
        ({"settings": {"bach": 1}}, "bach"),
        ({"minuts": 1}, "minuts"),
        ({"validation": 3}, "some must be left"),
    ):
        with pytest.raises(SettingsError, match=said):
            ms.train({**base, **wrong, "out": str(tmp_path / "other")})


def test_folds_judge_every_patient_once_and_their_networks_are_averaged(tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 5)
    small = {**SMALL, "window": [12, 16, 16]}
    config = {
        "data": str(data),
        "out": str(tmp_path / "ball"),
        "minutes": 2 * SHORT,
        "folds": 2,
        "settings": small,
        "clock": "process",
    }
    result = ms.train(config)
    assert result.folder == tmp_path / "ball"
    assert result.table is not None
    judged = result.table[result.table["fold"].notna()]
    assert sorted(judged["patient"]) == sorted(result.patients)
    assert len(judged) == 5
    assert list(result.table["patient"][-2:]) == ["mean", "std"]
    assert (tmp_path / "ball" / "folds.csv").read_text().startswith("fold,patient,left,right")
    bundles = [tmp_path / "ball" / f"fold-{k}" for k in (1, 2)]
    runs = [json.loads((b.with_name(b.name + ".run") / "run.json").read_text()) for b in bundles]
    assert not set(runs[0]["scores"]) & set(runs[0]["patients"])
    assert set(runs[0]["scores"]) == set(runs[1]["patients"])
    image, _ = case(99, (12, 16, 14))
    assert ms.segment(image, bundles).labels.same_grid(image)
    with pytest.raises(SettingsError, match="folds"):
        ms.train({**config, "folds": 1})


def test_check_lists_what_is_used_and_every_doubt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = decathlon(tmp_path / "data", 3)
    image, labels = case(0, (12, 16, 14))
    ms.write(image, data / "imagesTr" / "twin.nii.gz")
    ms.write(labels.replace(data=np.zeros_like(labels.data)), data / "labelsTr" / "twin.nii.gz")
    other, truth = case(5, (6, 6, 6))
    ms.write(other, data / "imagesTr" / "apart.nii.gz")
    ms.write(case(5, (7, 6, 6))[1], data / "labelsTr" / "apart.nii.gz")
    ms.write(other.replace(data=other.data * 0), data / "imagesTr" / "flat.nii.gz")
    ms.write(truth.replace(data=truth.data * 3), data / "labelsTr" / "flat.nii.gz")
    doubts = "\n".join(check_data(data).doubts)
    for said in (
        "1 of 5 masks are empty: twin",
        "apart: the labels do not lie on the grid",
        "hold the same voxels",
        "flat: holds the labels",
        "one value",
    ):
        assert said in doubts
    assert main(["check", str(data), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cases"]) == 5


def test_check_is_told_how_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, labels = case(0, (6, 8, 8))
    for patient in ("a", "b"):
        ms.write(image, tmp_path / patient / "CT.nii.gz")
        ms.write(image, tmp_path / patient / "raters.nii.gz")
        ms.write(labels, tmp_path / patient / "CT_mask.nii.gz")
    told = ["--channels", "CT=CT", "--labels", "*_mask"]
    assert main(["check", str(tmp_path), *told, "--json"]) == 0
    assert [c["channels"] for c in json.loads(capsys.readouterr().out)["cases"]] == ["CT", "CT"]
    assert main(["check", str(tmp_path), "--channels", "CT"]) == 1
    assert "NAME=PATTERN" in capsys.readouterr().err


def test_train_on_a_folder_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = decathlon(tmp_path / "data", 3)
    assert main(["train", str(data), "-o", str(tmp_path / "m"), "--minutes", str(SHORT), "--set", "clock=process"]) == 0
    said = capsys.readouterr().out
    assert "axis: y  # voxels are about as long as wide" in said
    assert "patients learned from: 3; windows seen: " in said
    assert "no patient was kept back" in said
    assert main(["train", str(data)]) == 1
    assert "-o FOLDER" in capsys.readouterr().err


def test_a_new_training_is_protected_against_padding_and_doubts_images_of_another_kind(tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", cases=12)
    said = {"data": str(data), "out": str(tmp_path / "m"), "validation": 2, "patient": EACH, "settings": SMALL}
    result = ms.train({**said, **QUICK})
    assert isinstance(result.plan, Plan)
    doubt = result.plan.doubt
    assert doubt is not None
    assert Plan.read(tmp_path / "m.run" / "plan.yaml") == result.plan
    assert doubt.always_there
    assert doubt.field_mm == pytest.approx((16 / 1.3, 16 * 1.3), rel=0.01)
    assert "too few patients judged" in result.plan.reasons["doubt"]

    image, _ = case(99, (12, 16, 14))
    with warnings.catch_warnings():
        warnings.simplefilter("error", MedseqWarning)
        seen = ms.explain(image, result.model)
    found = ms.segment(image, result.model)
    around, inside = [(2, 3), (5, 9), (0, 7)], (slice(2, 14), slice(5, 21), slice(0, 14))
    wide = image.replace(data=np.pad(image.data, around, constant_values=-50))
    assert np.array_equal(ms.segment(wide, result.model).labels.data[inside], found.labels.data)
    assert np.allclose(ms.explain(wide, result.model).data[inside], seen.data)
    larger = image.replace(affine=np.diag([3.0, 3.0, 3.0, 1.0]))
    with pytest.warns(MedseqWarning, match="48 mm wide"):
        answers = ms.segment(larger, result.model).labels, ms.explain(larger, result.model)
    assert all(any("48 mm wide" in text for text in answer.warnings) for answer in answers)


def test_the_plan_is_printed_before_the_training_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(*_: object) -> None:
        raise OperationCancelled("the training begins")

    monkeypatch.setattr(training, "_learn", begins)
    assert main(["train", str(decathlon(tmp_path / "data", 2)), "-o", str(tmp_path / "m"), "--minutes", "1"]) == 130
    told = capsys.readouterr()
    assert "the training begins" in told.err
    assert "axis: y  # voxels are about as long as wide" in told.out
    assert f"plan: {tmp_path / 'm.run' / 'plan.yaml'}" in told.out


def test_only_the_plan_is_made_and_followed_after_it_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, run = decathlon(tmp_path / "data", 3), tmp_path / "m", tmp_path / "m.run"
    told = ["train", str(data), "-o", str(out), "--minutes", str(SHORT), "--set", "clock=process"]
    small = [f"--set=settings.{k}={json.dumps(v)}" for k, v in SMALL.items()]
    assert main([*told, *small, "--plan-only"]) == 0
    assert "widths: [4, 8]  # as the settings say" in capsys.readouterr().out
    assert not out.exists()
    assert [p.name for p in run.iterdir()] == ["plan.yaml"]
    plan = Plan.read(run / "plan.yaml")
    plan.model_copy(update={"batch": 3}).save(run / "plan.yaml")
    assert main(told) == 0
    assert "batch: 3" in capsys.readouterr().out
    assert Plan.read(run / "plan.yaml").batch == 3
    assert main([*told, *small, "--plan-only", "--set", "folds=3", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert Path(made["written"]) == out / "fold-1.run" / "plan.yaml"
    assert made["plan"]["widths"] == [4, 8]
    (tmp_path / "c.yaml").write_text(f"data: {data}\nout: {tmp_path / 'n'}\nminutes: {SHORT}\nclock: process\n")
    assert main(["train", str(tmp_path / "c.yaml"), "--plan-only"]) == 0
    assert f"plan: {tmp_path / 'n.run' / 'plan.yaml'}" in capsys.readouterr().out
    assert main(["train", str(tmp_path / "c.yaml"), "--preview", str(tmp_path / "p.png")]) == 1
    assert "where training configures itself" in capsys.readouterr().err
    assert main([*told, "--plan", str(tmp_path / "c.yaml")]) == 1
    assert "c.yaml is not the plan of such a training: it has no axis, window" in capsys.readouterr().err
    (tmp_path / "own.yaml").write_text(f"data: [{data}]\nname: m\nnetwork: {{}}\n")
    assert main(["train", str(tmp_path / "own.yaml"), "--plan-only"]) == 1
    assert "--plan-only is for a folder of data" in capsys.readouterr().err
