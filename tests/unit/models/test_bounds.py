"""What a bundle may cost: its network is refused before memory is touched, its weights are those that were written, and finite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from napari_medseq.errors import ModelError
from napari_medseq.models import bundle, load_model, networks
from napari_medseq.models.bounds import bounded
from tests.unit.models.bundles import NETWORK, edit, write

HUGE: dict[str, dict[str, Any]] = {
    "widths": {"_target_": "RecurrentUNet", "widths": [9000] * 5},
    "neighbours": {"_target_": "RecurrentUNet", "widths": [16, 32], "rnn_levels": [1], "neighbours": 10**8},
    "levels": {"_target_": "RecurrentUNet", "widths": [2] * 60, "rnn_levels": [1]},
    "layers": {"_target_": "SegResNet", "blocks_down": [10**7], "blocks_up": []},
    "inner": {"_target_": "SequenceClassifier", "encoder": {"_target_": "RecurrentUNet", "widths": [9000] * 5}},
    "number": {"_target_": "RecurrentUNet", "hidden": 10**400},
}


LOAD_EACH = """
import json, resource, sys
from napari_medseq.models import load_model
from napari_medseq.errors import ModelError
from napari_medseq.models import foreign, networks  # with what they load
answers = {}
for folder in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_model(folder)
    except ModelError as error:
        answers[folder] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def grown_kb(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """By how many kB a process grew at most while it refused each huge network; one that was not refused is missing."""
    root = tmp_path_factory.mktemp("huge")
    for name, network in HUGE.items():
        edit(write(root / name), bundle.INFERENCE, {"network_def": network})
    folders = [str(root / name) for name in HUGE]
    command = [sys.executable, "-c", LOAD_EACH, *folders]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280).stdout
    return {Path(folder).name: int(kb) for folder, kb in json.loads(out).items()}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_network_is_refused_before_it_takes_memory(grown_kb: dict[str, int], name: str) -> None:
    assert grown_kb[name] < 300_000  # monai alone is 100 MB


def test_only_the_thread_that_builds_is_bounded() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with bounded(10), ThreadPoolExecutor(1) as pool:
        assert pool.submit(nn.Linear, 10, 10).result().weight.numel() == 100
        with pytest.raises(ModelError, match="more than 10 weights"):
            nn.Linear(10, 10)
    with bounded(10), pytest.raises(ModelError, match="more than 10 weights"):
        nn.Module().register_buffer("table", torch.zeros(11))
    assert nn.Linear(10, 10).weight.numel() == 100


def test_a_network_within_its_bound_is_the_same_as_without() -> None:
    torch.manual_seed(0)
    a = networks.build(NETWORK, stored=1).state_dict()
    torch.manual_seed(0)
    b = networks.NETWORKS["RecurrentUNet"](**{k: v for k, v in NETWORK.items() if k != "_target_"}).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in b)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    weights = networks.build(NETWORK).state_dict()
    name = next(iter(weights))
    weights[name].view(-1)[3] = value
    with pytest.raises(ModelError, match="not finite"):
        write(tmp_path / "bad", weights=weights)
    assert not (tmp_path / "bad").exists()
    folder = write(tmp_path / "good")
    stored = load_file(folder / bundle.WEIGHTS)
    stored[name].view(-1)[3] = value
    save_file(stored, folder / bundle.WEIGHTS)
    edit(folder, bundle.METADATA, {"weights_sha256": None})
    with pytest.raises(ModelError, match=r"not finite, in 1 tensor.*" + name):
        load_model(folder)


def test_a_weight_too_large_for_half_precision_is_kept_whole(tmp_path: Path) -> None:
    weights = networks.build(NETWORK).state_dict()
    name, first = next(iter(weights.items()))
    first.view(-1)[0] = 1e5
    read = load_model(write(tmp_path / "half", weights=weights)).network.state_dict()
    assert torch.equal(read[name], first)


def test_one_changed_bit_is_noticed(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny")
    path = folder / bundle.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(folder)


def test_a_bundle_from_before_the_sum_was_noted_still_loads(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny")
    metadata = json.loads((folder / bundle.METADATA).read_text())
    assert len(metadata.pop("weights_sha256")) == 64
    (folder / bundle.METADATA).write_text(json.dumps(metadata))
    assert load_model(folder).info.name == "tiny"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        "network_def: " + "[" * 30_000,
        "network_def: [" + "1, " * 300_000 + "1]",
        "a:\n  " + "- " * 20_000 + "x",
        "\n".join(" " * i + "k:" for i in range(300)),
        "network_def: " + "{a: " * 8_000 + "1" + "}" * 8_000,
    ],
)
def test_nested_or_long_yaml_is_refused_soon(tmp_path: Path, text: str) -> None:
    from tests.unit.models.foreign import UNET, write_foreign

    folder = write_foreign(tmp_path / "m", UNET)
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(text)
    with pytest.raises(ModelError, match=r"cannot be read as YAML|larger than 64 KiB|network_def"):
        load_model(folder)


def test_text_of_a_bundle_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    nasty = "red \x1b[31mtext\x1b]0;title\x07 \u202e gnp\r\nline"
    folder = write(tmp_path / "tiny", card=nasty, description=nasty, licence=nasty)
    info = bundle.read_info(folder)
    for text in (info.card, info.description, info.licence):
        assert not set(text) & set("\x1b\x07\u202e\r")
        assert "line" in text
        assert "\n" in text
    edit(folder, bundle.METADATA, {"napari_medseq.classes": {"1": "les\x1bion"}, "napari_medseq.name": "na\x9bme"})
    assert bundle.read_info(folder).classes == {1: "les ion"}
    assert bundle.read_info(folder).name == "na me"
