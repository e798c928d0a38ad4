"""Bundles made by others: three of MONAI's networks load and give MONAI's answers; exploits are refused and nothing runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import napari_medseq as ms
from napari_medseq.errors import ModelError, OperationCancelled
from napari_medseq.models import foreign, list_models, load_model
from napari_medseq.sequence import ImageSequence, affine_from
from tests.unit.models.foreign import DEFINITIONS, DYNUNET, SEGRESNET, UNET, change, network, write_foreign


def image(shape: tuple[int, ...] = (8, 12, 16), seed: int = 0) -> ImageSequence:
    data = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return ImageSequence(data, ("z", "y", "x"), affine_from((1.0, 1.1, 2.0)), modality="MR", name=f"scan{seed}")


@pytest.mark.parametrize("name", list(DEFINITIONS))
def test_three_of_monais_own_bundles_load_and_nothing_in_them_runs(tmp_path: Path, name: str) -> None:
    folder = write_foreign(tmp_path / name, DEFINITIONS[name])
    model = load_model(folder)
    expected = network(DEFINITIONS[name])
    assert type(model.network) is type(expected)
    assert all(torch.equal(v, model.network.state_dict()[k]) for k, v in expected.state_dict().items())
    assert not model.network.training
    assert (model.info.name, model.info.version, model.info.modality) == (name, "0.4.2", "MR")
    assert model.info.parameters == sum(p.numel() for p in expected.parameters())
    assert len(model.fingerprint) == 64
    assert not (tmp_path / f"{name}.ran").exists()


def by_nibabel(net: torch.nn.Module, images: list[ImageSequence], slices: bool) -> np.ndarray:
    """MONAI's way, with nibabel's orientations: canonical RAS arrays in, the answer turned back by nibabel."""
    files = [nibabel.Nifti1Image(i.data.transpose(2, 1, 0), i.affine) for i in images]
    ras = [nibabel.as_closest_canonical(f) for f in files]
    x = torch.from_numpy(np.stack([np.asarray(r.dataobj, dtype=np.float32) for r in ras]))[None]
    with torch.no_grad():
        out = torch.stack([net(x[..., k])[0] for k in range(x.shape[-1])], -1) if slices else net(x)[0]
    p = out.softmax(0)[1:].sum(0) if out.shape[0] > 1 else out.sigmoid()[0]
    back = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(ras[0].affine), nibabel.io_orientation(files[0].affine)
    )
    return np.asarray(nibabel.orientations.apply_orientation(p.numpy(), back).transpose(2, 1, 0))


@pytest.mark.parametrize(("definition", "window"), [(UNET, [16, 12, 8]), (SEGRESNET, [16, 12]), (DYNUNET, [16, 12, 8])])
def test_segment_gives_what_monai_gives(tmp_path: Path, definition: dict[str, Any], window: list[int]) -> None:
    model = load_model(write_foreign(tmp_path / "m", definition, window))
    assert model.inference["window"] == window
    images = [image(seed=i) for i in range(definition["in_channels"])]
    asked = dict(zip(model.info.channels, images, strict=True)) if len(images) > 1 else images[0]
    with pytest.warns(ms.MedseqWarning, match="own preprocessing"):
        out = ms.segment(asked, model, outputs=("probability", "uncertainty"), device="cpu")
    assert out.labels.same_grid(images[0])
    expected = by_nibabel(network(definition), images, definition["spatial_dims"] == 2)
    assert out.probability is not None
    assert np.allclose(out.probability.data, expected, atol=1e-4)
    assert out.labels.label_names == ({1: "liver"} if definition is SEGRESNET else {1: "liver", 2: "tumour"})


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_of_a_network_with_an_answer_at_each_depth_the_deepest_counts(tmp_path: Path) -> None:
    definition = {
        "_target_": "BasicUNetPlusPlus", "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "features": [4] * 6,
        "deep_supervision": True,
    }  # fmt: skip
    net = network(definition)
    assert len(net(torch.zeros(1, 1, 32, 32))) == 4

    class Deepest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            deepest: torch.Tensor = net(x)[-1]
            return deepest

    scan = image((2, 32, 32))
    out = ms.segment(scan, load_model(write_foreign(tmp_path / "m", definition, [32, 32])), outputs=("probability",))
    assert out.probability is not None
    assert np.allclose(out.probability.data, by_nibabel(Deepest(), [scan], True), atol=1e-4)


@pytest.mark.filterwarnings("ignore::napari_medseq.errors.MedseqWarning")
def test_a_window_smaller_than_the_image_slides_and_can_be_stopped(tmp_path: Path) -> None:
    model = load_model(write_foreign(tmp_path / "m", UNET, [8, 8, 8]))
    seen: list[int] = []

    def cancelled() -> bool:
        seen.append(1)
        return len(seen) > 4

    with pytest.raises(OperationCancelled):
        ms.segment(image(), model, cancelled=cancelled)
    assert len(seen) == 5
    assert ms.segment(image(), model).labels.data.shape == (8, 12, 16)


def test_other_verbs_say_that_they_cannot(tmp_path: Path) -> None:
    model = load_model(write_foreign(tmp_path / "m", UNET))
    for call in (ms.classify, ms.explain):
        with pytest.raises(ModelError, match="m is"):
            call(image(), model)
    with pytest.raises(ModelError, match="cannot be compressed"):
        ms.compress(model, {"out": str(tmp_path / "s")})
    with pytest.raises(ModelError, match="no dropout"):
        ms.segment(image(), model, outputs=("uncertainty",), samples=3)


def test_user_folder_lists_foreign_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(tmp_path))
    write_foreign(tmp_path / "zoo_unet", UNET)
    assert "zoo_unet" in [i.name for i in list_models()]
    assert load_model("zoo_unet").info.licence == "Apache-2.0"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"network_def": {"_target_": "os.system", "command": "touch PWNED"}}, "'os.system' is not one of"),
        ({"network_def___target_": "monai.networks.nets.os.system"}, "is not one of"),
        ({"network_def___target_": "builtins.eval"}, "is not one of"),
        ({"network_def": "$import os; os.system('touch PWNED')"}, "expression"),
        ({"network_def__channels": "$__import__('os').system('touch PWNED')"}, "expression"),
        ({"facts__outputs": "$__import__('os').system('touch PWNED')"}, "expression"),
        ({"facts__outputs": "@facts::outputs"}, "too deeply"),
        ({"facts__outputs": {"_target_": "os.system", "command": "touch PWNED"}}, "_target_"),
        ({"network_def__norm": {"_target_": "os.system", "command": "touch PWNED"}}, "_target_"),
        ({"network_def___requires_": "$import os"}, "_requires_"),
        ({"network_def__channels": "%elsewhere.json::x"}, "expression"),
        ({"network_def__channels": "@nosuch"}, "not in the file"),
        ({"network_def__channels": [4, 10**9]}, "too large"),
        ({"network_def__channels": [4, 16]}, "another shape"),
        ({"network_def__channels": "abc"}, "cannot be built|another shape"),
        ({"network_def__nosuch": 1}, "cannot be built"),
        ({"network_def": 5}, "must be an object"),
    ],
)
def test_configurations_that_would_execute_or_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: dict[str, Any], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_foreign(tmp_path / "m", UNET)
    change(folder, **entries)
    with pytest.raises(ModelError, match=reason):
        load_model(folder)
    assert sorted(os.listdir(tmp_path)) == ["m"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["relu", "@width", "@sizes::1", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
CONFIG: dict[str, Any] = {"width": 8, "sizes": [3, 5], "bad": ["$import os"]}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, k) for k in keys] + [p for k in keys for p in places(value[k])]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), PLAIN, min_size=1, max_size=3), st.data())
def test_an_expression_anywhere_is_refused_and_plain_values_are_kept(definition: dict[str, Any], data: Any) -> None:
    def resolve(value: Any) -> Any:
        return foreign._Resolver(CONFIG, Path("x")).value(value, "network_def", 0)

    def by_hand(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: by_hand(v) for k, v in value.items()}
        if isinstance(value, list):
            return [by_hand(v) for v in value]
        return {"@width": 8, "@sizes::1": 5}.get(value, value) if isinstance(value, str) else value

    assert resolve(definition) == by_hand(definition)
    container, key = data.draw(st.sampled_from(places(definition)))
    container[key] = data.draw(
        st.sampled_from(["$1+1", "%x", "@bad", "@nosuch", {"_target_": "os.system"}, {"$x": 1}, {"a": ["$import os"]}])
    )
    with pytest.raises(ModelError):
        resolve(definition)


class Exploit:
    """Unpickles into a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch PWNED",)


def test_pickled_exploits_are_refused_and_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_foreign(tmp_path / "m", UNET)
    weights = folder / "models" / "model.pt"
    whole = torch.load(weights, weights_only=True)
    for write in (
        lambda: torch.save({**whole, "x": Exploit()}, weights),
        lambda: weights.write_bytes(pickle.dumps(Exploit())),
        lambda: torch.save(Exploit(), weights),
        lambda: torch.save(network(UNET), weights),
        lambda: torch.jit.script(torch.nn.ReLU()).save(weights),
    ):
        write()
        with pytest.raises(ModelError, match="broken or holds more than tensors"):
            load_model(folder)
    assert sorted(os.listdir(tmp_path)) == ["m"]
    # the exploit is a real one: the plain unpickler runs it
    pickle.loads(pickle.dumps(Exploit()))
    assert (tmp_path / "PWNED").exists()


def test_broken_and_unfitting_weights_are_refused(tmp_path: Path) -> None:
    folder = write_foreign(tmp_path / "m", UNET)
    weights = folder / "models" / "model.pt"
    whole, state = weights.read_bytes(), torch.load(weights, weights_only=True)
    for content in (whole[: len(whole) // 2], b"", b"nonsense"):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match="broken"):
            load_model(folder)
    torch.save(dict(list(state.items())[1:]), weights)
    with pytest.raises(ModelError, match="1 tensor missing"):
        load_model(folder)
    torch.save({**state, "epoch": 5}, weights)
    with pytest.raises(ModelError, match="more than tensors"):
        load_model(folder)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 5}, weights)
    assert load_model(folder).info.name == "m"
    save_file(state, folder / "models" / "model.safetensors")
    weights.write_bytes(b"")  # safetensors come first; the pickle is not even looked at
    assert load_model(folder).info.name == "m"
    (folder / "models" / "model.safetensors").unlink()
    weights.unlink()
    (folder / "models" / "model.ts").write_bytes(whole)
    with pytest.raises(ModelError, match="TorchScript, which executes code"):
        load_model(folder)


def test_yaml_is_read_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_foreign(tmp_path / "m", UNET)
    path = folder / "configs" / "inference.json"
    text = path.read_text()
    path.unlink()
    (folder / "configs" / "inference.yaml").write_text(text)
    assert load_model(folder).info.name == "m"
    for bad, reason in (
        ("network_def: !!python/object/apply:os.system ['touch PWNED']\n", "cannot be read as YAML"),
        ("a: &a [1, 2]\nnetwork_def: [*a, *a]\n", "aliases"),
        ("network_def: [", "cannot be read as YAML"),
        ("- 1\n", "mapping"),
    ):
        (folder / "configs" / "inference.yaml").write_text(bad)
        with pytest.raises(ModelError, match=reason):
            load_model(folder)
    (folder / "configs" / "inference.yaml").unlink()
    with pytest.raises(ModelError, match="no 'network_def'"):
        load_model(folder)
    assert sorted(os.listdir(tmp_path)) == ["m"]
