"""`train`, `teach` and `preview` on studies in files: every task, sparse labels, folds, transfer, and input that is bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

import napari_medseq as ms
from napari_medseq import cli
from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.training import preview, teach
from tests import nifti
from tests.integration.training.folders import config, weights, write
from tests.narrowing import of
from tests.unit.training.small import CLASSIFIER, UNET, blob

DENOISER = {"_target_": "RecurrentDenoiser", "widths": [8, 8], "rnn_levels": [1], "hidden": 4, "ahead": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("study"))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


# -- sparse annotations ------------------------------------------------------------------------------------------------
def test_only_labelled_slices_count(tmp_path: Path) -> None:
    """Whatever stands in the slices that nobody looked at, the weights are the same bit for bit; as background they differ."""

    def trained(name: str, elsewhere: int, **changes: Any) -> dict[str, torch.Tensor]:
        seq = blob(0, (6, 36, 36), name="sub-0_T1")
        labels = np.full(seq.data.shape, elsewhere, np.uint8)
        labels[2] = 0
        labels[2, 12:24, 12:24] = 1
        visit = tmp_path / name / "sub-0" / "ses-20200101"
        visit.mkdir(parents=True)
        ms.write(seq, visit / "sub-0_T1.nii.gz")
        ms.write(seq.labels_like(labels, name="sub-0_seg", label_names={1: "core"}), visit / "sub-0_seg.nii.gz")
        return weights(ms.train(config(tmp_path / name, tmp_path / f"{name}-model", **changes)))

    marked = trained("marked", 255, unlabelled=255)
    assert same(marked, trained("marked-otherwise", 77, unlabelled=77))
    assert same(marked, trained("sparse", 0, sparse=True))
    assert not same(marked, trained("background", 0))


# -- tasks -------------------------------------------------------------------------------------------------------------
def test_a_denoiser_learns_and_is_judged_in_decibels(study: Path, tmp_path: Path) -> None:
    changes = {"task": "denoising", "network": DENOISER, "noise": [0.4, 0.4], "validation": ["sub-1"], "modality": "MR"}
    loop = {"iterations": 40, "rate": 1e-2, "validate_every": 20, "average": 0.5}
    result = ms.train(config(study, tmp_path / "d", loop=loop, **changes))
    assert result.model.info.task == "denoising"
    assert result.model.info.classes == {}
    scores = result.curve["psnr"].dropna()
    assert len(scores) == 2
    from napari_medseq.training.dataset import read_cases
    from napari_medseq.training.tasks import TASKS
    from napari_medseq.training.trainer import read_config

    c = read_config(config(study, tmp_path / "d", loop=loop, **changes))
    case = next(x for x in read_cases(c) if x.patient == "sub-1")
    found = TASKS["denoising"].scores(of(SequenceNetwork, result.model.network), case, c)
    assert found["psnr"] > found["psnr of the input"]


def test_an_autoencoder_needs_no_labels_and_its_encoder_can_be_taken_over(study: Path, tmp_path: Path) -> None:
    network = {**UNET, "rnn": "none"}
    unlabelled = tmp_path / "unlabelled"
    for k in range(2):
        visit = unlabelled / f"sub-{k}" / "ses-20200101"
        visit.mkdir(parents=True)
        ms.write(blob(k, (5, 36, 36), name=f"sub-{k}_T1"), visit / f"sub-{k}_T1.nii.gz")
    auto = ms.train(
        config(unlabelled, tmp_path / "a", task="autoencoder", network={**DENOISER, "widths": [4, 8, 8], "rnn": "none"})
    )
    assert auto.model.info.task == "autoencoder"
    loop = {"encoder_rate": 0.0, "iterations": 2}
    tuned = ms.train(config(study, tmp_path / "t", network=network, start_from=str(tmp_path / "a"), loop=loop))
    before, after = weights(auto), weights(tuned)
    encoder = [k for k in after if k.startswith("encoder.")]
    assert encoder
    # bundles hold half precision, which the frozen encoder keeps exactly
    assert all(torch.equal(before[k], after[k]) for k in encoder)
    assert any(not torch.equal(before[k], after[k]) for k in after if k in before and k not in encoder)


def test_a_classifier_learns_from_answers_per_exam(study: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    table.write_text("patient,class\nsub-0,ill\nsub-1,well\nsub-2,ill\n")
    c = config(
        study,
        tmp_path / "c",
        task="classification",
        network={**CLASSIFIER, "widths": [8, 8]},
        classes={0: "well", 1: "ill"},
        targets=str(table),
        validation=["sub-2"],
        loop={"validate_every": 1},
    )
    result = ms.train(c)
    assert result.curve["log_likelihood"].notna().all()
    assert list(ms.classify(blob(modality=None), result.model).probabilities) == ["well", "ill"]
    table.write_text("patient,class\nsub-0,ill\nsub-1,ill\n")
    with pytest.raises(MedseqError, match="same answer"):
        ms.train({**c, "out": str(tmp_path / "c2"), "validation": []})


def test_several_channels_enter_by_name(study: Path, tmp_path: Path) -> None:
    two = {"T1": "*_T1", "again": "*_T1"}
    result = ms.train(config(study, tmp_path / "m", channels=two))
    assert result.model.info.channels == ("T1", "again")
    assert result.model.network_definition["in_channels"] == 2
    seq = blob(modality=None)
    assert ms.segment({"T1": seq, "again": seq}, result.model).labels.data.shape == seq.data.shape


# -- splits ------------------------------------------------------------------------------------------------------------
def test_folds_give_bundles_and_a_table_and_go_on(study: Path, tmp_path: Path) -> None:
    c = config(study, tmp_path / "cv", folds=3)
    calls: list[int] = []
    with pytest.raises(OperationCancelled):
        ms.train(c, progress=lambda done, *_: calls.append(done), cancelled=lambda: len(calls) >= 4)
    result = ms.train(c, progress=lambda done, *_: calls.append(done))
    assert calls == sorted(calls)
    table = pd.read_csv(tmp_path / "cv" / "folds.csv")
    cases = table.dropna(subset=["fold"])
    assert sorted(cases["patient"]) == ["sub-0", "sub-1", "sub-2"]
    assert cases["dice"].between(0, 1).all()
    assert table["patient"].tolist()[-2:] == ["mean", "std"]
    assert table["dice"].iloc[-2] == pytest.approx(cases["dice"].mean())
    for fold in (1, 2, 3):
        kept = json.loads((tmp_path / "cv" / f"fold-{fold}.run" / "config.json").read_text())
        assert kept["hold_out"] == cases.loc[cases["fold"] == fold, "patient"].tolist()
        assert ms.load_model(tmp_path / "cv" / f"fold-{fold}").info.name == f"m-fold{fold}"
    assert result.table is not None
    assert set(result.curve["fold"]) == {1, 2, 3}
    with pytest.raises(SettingsError, match="an empty fold"):
        ms.train(config(study, tmp_path / "many", folds=4))


def test_validation_patients_are_not_trained_on(study: Path, tmp_path: Path) -> None:
    judged = ms.train(config(study, tmp_path / "a", validation=["sub-2"], loop={"validate_every": 3}))
    left_out = ms.train(config(study, tmp_path / "b", hold_out=["sub-2"]))
    assert same(weights(judged), weights(left_out))
    assert judged.curve["dice"].notna().sum() == 1


# -- transfer ----------------------------------------------------------------------------------------------------------
def test_another_head_on_the_same_body(study: Path, tmp_path: Path) -> None:
    first = ms.train(config(study, tmp_path / "one"))
    two = write(tmp_path / "two", 1, (1, 2))
    c = config(two, tmp_path / "m", start_from=str(first.folder), classes={1: "core", 2: "rim"}, loop={"iterations": 1})
    del c["network"]  # that of the bundle, with as many classes as are asked for
    second = ms.train(c)
    assert second.model.network_definition == {**first.model.network_definition, "classes": 3}
    assert ms.segment(blob(modality=None), second.model).labels.label_names == {1: "core", 2: "rim"}
    with pytest.raises(SettingsError, match="shares no weight"):
        ms.train(
            config(
                study,
                tmp_path / "n",
                network=CLASSIFIER,
                task="classification",
                classes={0: "x"},
                start_from=_other(tmp_path),
            )
        )


def _other(tmp_path: Path) -> str:
    from tests.unit.training.small import model

    return model(tmp_path / "other", {"_target_": "BasicUNet", "features": [4, 4, 4, 4, 4, 4]}).info.folder


# -- bad input ---------------------------------------------------------------------------------------------------------
def as_floats(study: Path, factor: float) -> Path:
    """The first patient's labels stored as floating-point numbers."""
    path = next(study.rglob("*_seg.nii.gz"))
    file = nifti.load(path)
    nib.save(nib.Nifti1Image(np.asarray(file.dataobj, np.float32) * factor, file.affine), path)
    return study


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    study = as_floats(write(tmp_path / "s", 1), 0.4)
    with pytest.raises(MedseqError, match="not whole numbers"), pytest.warns(ms.MedseqWarning, match="not whole"):
        ms.train(config(study, tmp_path / "m"))
    image, painted, _ = lesson()
    with pytest.raises(MedseqError, match=r"label 0\.5.*not a whole number"):
        teach(image, image.replace(data=np.where(painted.data > 0, np.float32(0.5), 0)), {"out": str(tmp_path / "t")})


def test_whole_numbers_in_a_float_file_are_labels(tmp_path: Path) -> None:
    result = ms.train(config(as_floats(write(tmp_path / "s", 1), 1.0), tmp_path / "m"))
    assert np.isfinite(result.curve["loss"]).all()


def test_a_class_that_is_nowhere_and_one_that_is_unknown(study: Path, tmp_path: Path) -> None:
    with pytest.raises(MedseqError, match=r"holds the class 2 \(rim\)"):
        ms.train(config(study, tmp_path / "m", classes={1: "core", 2: "rim"}))
    with pytest.raises(MedseqError, match=r"hold \[2\]"):
        ms.train(config(write(tmp_path / "s", 1, (1, 2)), tmp_path / "n", classes={1: "core", 3: "rim"}))
    with pytest.raises(SettingsError, match=r"network\.classes is 2, but the config needs 3"):
        ms.train(config(study, tmp_path / "o", network={**UNET, "classes": 2}, classes={1: "a", 2: "b"}))


def test_voxels_that_are_no_numbers_train_and_images_of_them_are_refused(tmp_path: Path) -> None:
    study = write(tmp_path / "s", 1)
    path = next(study.rglob("*_T1.nii.gz"))
    (seq,) = ms.read(path)
    data = np.array(seq.data, np.float32)
    data[:, :, :3], data[1, 5, 5], data[2, 20, 20] = np.nan, np.inf, -np.inf
    ms.write(seq.replace(data=data), path)
    assert np.isfinite(ms.train(config(study, tmp_path / "m")).curve["loss"]).all()
    ms.write(seq.replace(data=np.full_like(data, np.nan)), path)
    with pytest.raises(MedseqError, match="no finite voxel"):
        ms.train(config(study, tmp_path / "n"))


def test_an_output_that_cannot_be_written_is_said_before_training(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MedseqError, match="could not be written"):
        ms.train(config(study, tmp_path / "file" / "m"))


# -- teach and preview -------------------------------------------------------------------------------------------------
def lesson() -> tuple[ms.ImageSequence, ms.ImageSequence, np.ndarray]:
    """An image with a bright core in steps 2 to 5, of which step 3 is painted."""
    seq = blob(0, (8, 40, 40), name="x_T1")
    truth = np.zeros(seq.data.shape, np.uint8)
    truth[2:6, 14:26, 16:28] = 7
    painted = np.where(np.arange(8)[:, None, None] == 3, truth, 0).astype(np.uint8)
    image = seq.replace(data=seq.data + np.float32(900) * (truth > 0))
    return image, image.labels_like(painted, name="painted", label_names={7: "core"}), truth


def test_two_slices_teach_the_others(tmp_path: Path) -> None:
    image, painted, truth = lesson()
    # one slice with something to find, and one that was looked at and holds nothing
    settings: dict[str, Any] = {"out": str(tmp_path / "taught"), "steps": (0, 3), "minutes": None}
    result = teach(image, painted, {**settings, "iterations": 60, "rate": 0.01})
    assert result.model.info.classes == {7: "core"}
    assert not (tmp_path / "taught.run").exists()
    found = np.asarray(ms.segment(image, result.model).labels.data)
    assert set(np.unique(found)) == {0, 7}
    rest = ~np.isin(np.arange(8), (0, 3))
    a, b = found[rest] == 7, truth[rest] == 7
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.6
    # on from where the first lesson ended, in the same folder
    again = teach(image, painted, {**settings, "start_from": str(tmp_path / "taught"), "steps": None, "iterations": 1})
    assert again.model.info.description.startswith("Taught from labels in 1 of 8 steps")
    assert again.model.network_definition == result.model.network_definition


def test_teaching_needs_a_label_and_its_grid(tmp_path: Path) -> None:
    image, painted, _ = lesson()
    out = {"out": str(tmp_path / "m")}
    with pytest.raises(MedseqError, match="has no label yet"):
        teach(image, painted.replace(data=np.zeros_like(painted.data)), out)
    with pytest.raises(MedseqError, match=r"not on the grid|another grid"):
        teach(image, painted.replace(data=painted.data[:4]), out)
    with pytest.raises(MedseqError, match=r"steps 0 to 7, not \[9\]"):
        teach(image, painted, {**out, "steps": [9]})
    with pytest.raises(SettingsError, match="iterations"):
        teach(image, painted, {**out, "iterations": 0})
    with pytest.raises(OperationCancelled):
        teach(image, painted, out, cancelled=lambda: True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "rows"),
    [({"sparse": True}, 2), ({"task": "denoising", "network": DENOISER}, 4)],
    ids=["labels", "images"],
)
def test_a_preview_is_a_sheet_of_windows(study: Path, tmp_path: Path, changes: dict[str, Any], rows: int) -> None:
    from matplotlib import image

    c = config(study, tmp_path / "m", loop={"steps": 3}, **changes)
    path = preview(c, tmp_path / "p.png", windows=2)
    sheet = image.imread(path)
    assert sheet.shape[:2] == (rows * 130, 3 * 130)
    assert sheet[..., :3].std() > 0.1
    assert preview(c, tmp_path / "again.png", windows=2).read_bytes() == path.read_bytes()
    with pytest.raises(SettingsError, match="png"):
        preview(c, tmp_path / "p.jpg")


def test_the_command_previews_trains_folds_and_teaches(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(config(study, tmp_path / "m")))

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        status = cli.main([*arguments, "--json"])
        told = capsys.readouterr()
        assert status == 0, told.err
        return json.loads(told.out)

    assert Path(run("train", str(path), "--preview", str(tmp_path / "p.png"))["preview"]).is_file()
    assert not (tmp_path / "m").exists()
    folds = run("train", str(path), "--set", "folds=2", "--set", "loop.iterations=1")["folds"]
    assert [r["fold"] for r in folds[:3]] == [1, 1, 2] or [r["fold"] for r in folds[:3]] == [1, 2, 2]
    visit = study / "sub-0" / "ses-20200101"
    taught = run(
        "teach",
        str(visit / "sub-0_T1.nii.gz"),
        str(visit / "sub-0_seg.nii.gz"),
        "-o",
        str(tmp_path / "t"),
        "--set",
        "iterations=1",
    )
    assert taught["name"] == "t"
    assert ms.load_model(tmp_path / "t").info.classes
