"""Bundles: written and read back; whatever could execute or does not fit is refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_medseq.errors import MedseqWarning, ModelError
from napari_medseq.models import bundle, list_models, load_model, networks, why_unsuitable
from napari_medseq.models.choosing import choose_image, known_channels
from napari_medseq.models.info import ModelInfo
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.models.bundles import NETWORK, edit, write


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = networks.build(NETWORK).state_dict()
    model = load_model(write(tmp_path / "tiny", weights=weights))
    assert (model.info.name, model.info.version, model.info.task, model.info.card) == (
        "tiny",
        "1.2",
        "segmentation",
        "# tiny\n",
    )
    assert model.info.classes == {1: "lesion"}
    assert model.info.parameters == sum(v.numel() for v in weights.values())
    assert all(torch.equal(v, weights[k].half().float()) for k, v in model.network.state_dict().items())
    assert not model.network.training
    assert len(model.fingerprint) == 64
    modes = {p.stat().st_mode for p in (tmp_path / "tiny").rglob("*") if p.is_file()}
    assert len(modes) == 1  # whoever may read the card may read the weights


def test_what_a_killed_process_left_is_removed_and_a_bundle_that_was_moved_aside_comes_back(tmp_path: Path) -> None:
    write(tmp_path / ".m-abcd_123" / "old")
    (tmp_path / ".m-abcd_123" / "bundle" / "configs").mkdir(parents=True)
    other = write(tmp_path / ".m-2-abcdefgh" / "bundle")  # what is written for a bundle called m-2
    bundle.remove_unfinished(tmp_path / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m-2-abcdefgh", "m"]
    assert load_model(tmp_path / "m").info.card == load_model(other).info.card
    (tmp_path / ".m-abcdefgh").mkdir()
    bundle.remove_unfinished(tmp_path / "m")
    assert not (tmp_path / ".m-abcdefgh").exists()


def test_user_folder_is_listed_and_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path))
    write(tmp_path / "tiny")
    (tmp_path / "broken" / "configs").mkdir(parents=True)
    assert "tiny" in [i.name for i in list_models()]
    assert load_model("tiny").info.folder == str(tmp_path / "tiny")


def test_unknown_name_lists_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path))
    write(tmp_path / "tiny")
    with pytest.raises(ModelError, match=r"no model 'nosuch'.*tiny"):
        load_model("nosuch")


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        (bundle.INFERENCE, {"network_def._target_": "os.system"}, "os.system"),
        (bundle.INFERENCE, {"network_def._target_": "$import os"}, "expression"),
        (bundle.INFERENCE, {"network_def.hidden": "$__import__('os').system('true')"}, "expression"),
        (bundle.INFERENCE, {"network_def.widths": [4, "@widths"]}, "expression"),
        (bundle.INFERENCE, {"imports": ["$import os"]}, "expression"),
        (bundle.INFERENCE, {"network_def._requires_": "x"}, "_requires_"),
        (bundle.INFERENCE, {"inference": {"$x": 1}}, "executed"),
        (bundle.METADATA, {"description": "%nothing"}, "expression"),
        (bundle.METADATA, {"extra": {"_target_": "RecurrentUNet"}}, "_target_"),
        (bundle.METADATA, {"napari_medseq.task": "conquest"}, "task"),
        (bundle.INFERENCE, {"network_def.hidden": -3}, "cannot be built"),
        (bundle.INFERENCE, {"network_def.nosuch": 1}, "cannot be built"),
        (bundle.INFERENCE, {"network_def.hidden": 6}, "another shape"),
        (bundle.INFERENCE, {"network_def": []}, "network_def"),
    ],
)
def test_what_could_execute_or_does_not_fit_is_refused(
    tmp_path: Path, part: Path, change: dict[str, Any], reason: str
) -> None:
    folder = write(tmp_path / "tiny")
    edit(folder, part, change)
    with pytest.raises(ModelError, match=reason):
        load_model(folder)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny")
    path = folder / bundle.WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(folder)
    edit(folder, bundle.METADATA, {"weights_sha256": None})
    with pytest.raises(ModelError, match="broken"):
        load_model(folder)
    save_file({"unknown": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match=r"missing or of another shape .*1 unknown tensor \(unknown\)"):
        load_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match="missing"):
        load_model(folder)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny")
    (folder / bundle.WEIGHTS).unlink()
    torch.save({"x": torch.zeros(1)}, folder / "models" / "model.pt")
    with pytest.raises(ModelError, match="safetensors only"):
        load_model(folder)


def test_nothing_but_a_bundle_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="nothing was overwritten"):
        write(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "tiny").mkdir()  # an empty folder loses nothing
    write(tmp_path / "tiny")
    write(tmp_path / "tiny", version="2")
    assert bundle.read_info(tmp_path / "tiny").version == "2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "tiny"]


def test_huge_or_deep_configuration_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny")
    (folder / bundle.INFERENCE).write_text(" " * (1 << 21) + "{}")
    with pytest.raises(ModelError, match="larger than 1 MiB"):
        load_model(folder)
    (folder / bundle.INFERENCE).write_text("[" * 100_000)
    with pytest.raises(ModelError, match="not readable JSON"):
        load_model(folder)


def image(**changes: Any) -> ImageSequence:
    axes = changes.pop("axes", ("z", "y", "x"))
    shape = tuple({"t": 2, "z": 3, "y": 4, "x": 5, "c": 3}[a] for a in axes)
    return ImageSequence(np.zeros(shape, np.uint8), axes, affine_from((1, 1, 1)), **changes)


@pytest.mark.parametrize(
    ("seq", "reason"),
    [
        (image(), None),
        (image(modality="MR"), None),
        (image(modality="CT"), "CT"),
        (image(kind="labels"), "label image"),
        (image(axes=("t", "z", "y", "x")), None),
        (image(axes=("t", "y", "x")), "time axis"),
        (image(axes=("y", "x", "c")), "colour"),
    ],
)
def test_misfit_says_why(seq: ImageSequence, reason: str | None) -> None:
    info = ModelInfo(name="m", version="1", task="segmentation", modality="MR")
    assert (why_unsuitable(info, seq) is None) if reason is None else (reason in str(why_unsuitable(info, seq)))


def test_images_of_one_name_are_each_asked_whether_they_fit() -> None:
    info = ModelInfo(name="m", version="1", task="segmentation", modality="MR")
    mr, ct = image(name="series", modality="MR"), image(name="series", modality="CT")
    assert choose_image([mr, ct], info) is mr
    assert choose_image([ct, mr], info) is mr


def test_a_channel_is_not_the_image_of_another_whose_name_holds_its_own() -> None:
    info = ModelInfo(name="m", version="1", task="segmentation", channels=("T1", "T1ce"))
    plain, contrast = image(name="sub-01_t1"), image(name="sub-01_t1ce")
    assert choose_image([contrast, plain], info) == {"T1": plain, "T1ce": contrast}


def test_a_model_that_may_lack_channels_takes_those_that_are_there() -> None:
    info = ModelInfo(name="m", version="1", task="segmentation", channels=("CT", "PET", "MR"), missing_channels=True)
    ct, pet = image(name="p_CT_image"), image(name="p_PET_image")
    with pytest.warns(MedseqWarning, match=r"no image is called like \*?MR"):
        assert choose_image([pet, ct], info) == {"CT": ct, "PET": pet}
    with pytest.warns(MedseqWarning, match="goes on without"):
        assert choose_image([ct], info) == {"CT": ct}
    with pytest.raises(ModelError, match="no image is called like"):
        choose_image([pet, ct], info.model_copy(update={"missing_channels": False}))
    with pytest.raises(ModelError, match="no image is called like"):
        choose_image([image(name="scan")], info)
    assert load_model("sarcoma").info.missing_channels
    assert not load_model("brain-tumor").info.missing_channels


def test_channels_are_known_by_name_and_else_by_modality() -> None:
    info = ModelInfo(name="m", version="1", task="segmentation", channels=("CT", "PET", "MR"))
    ct, pet, mr = image(name="p_CT_image"), image(name="AC WB", modality="PT"), image(name="T1", modality="MR")
    assert known_channels([mr, pet, ct], info) == {"CT": ct, "PET": pet, "MR": mr}
    assert known_channels([mr, image(name="T2", modality="MR")], info) == {}


def test_a_folder_of_results_that_is_called_like_a_model_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "brain-tumor").mkdir()
    assert load_model("brain-tumor").info.name == "brain-tumor"
    with pytest.raises(ModelError, match=r"metadata\.json is missing"):
        load_model(tmp_path / "brain-tumor")


def test_a_bundle_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "tiny")
    move, calls = os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:  # the old one has been put aside
            raise OSError("no space")
        move(source, target)

    monkeypatch.setattr("napari_medseq.models.bundle.os.replace", failing)
    with pytest.raises(OSError, match="no space"):
        write(folder)
    assert load_model(folder).info.name == "tiny"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_likes_is_case_insensitive() -> None:
    info = ModelInfo(name="m", version="1", task="segmentation", name_patterns=("*t1post*",))
    assert info.matches_name("sub-03_T1post")
    assert not info.matches_name("sub-03_FLAIR")
