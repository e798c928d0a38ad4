"""Train the network behind `ms.propagate`, or pack weights that were trained elsewhere into a bundle.

    python benchmarks/propagate_train.py --minutes 60 --out runs/propagate/propagate            # goes on where it was stopped
    python benchmarks/propagate_train.py --leave sarcoma lung --out runs/propagate/without-sarcoma-lung
    python benchmarks/propagate_train.py --cell none --out runs/propagate/without-recurrence    # the recurrence cut
    python benchmarks/propagate_train.py --volume --out runs/propagate/volume                   # the 3D U-Net to compare with
    python benchmarks/propagate_train.py --weights ship.safetensors --out runs/propagate/propagate

Learned from: brain-tumor-progression, sarcoma (CT, MR, PET), lung-nodules (CC BY 3.0), cardiac-sunnybrook (CC0), larynx-video
(CC BY 4.0), and synthetic heads. Hippocampus, ACDC and the FLAIR set are never read here: they judge.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

import napari_medseq as ms
from napari_medseq.models import bundle, networks
from napari_medseq.models.prompted_unet import PromptedNetwork
from napari_medseq.progress import Progress
from napari_medseq.synthetic import make_case
from napari_medseq.training.prompted.structures import PromptedCase, prompted_case
from napari_medseq.training.prompted.training import PromptTrainSettings, fit_prompted
from propagate import OUT, tables

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))
CARD = HERE / "cards" / "propagate.md"
LICENCE = HERE / "cards" / "LICENSE-propagate.md"
#: how often each set is drawn from, of their sum
SHARES = {"brain": 1.2, "sarcoma": 1.6, "lung": 0.9, "sunnybrook": 0.9, "larynx": 0.5, "heads": 0.9}
NETWORK: dict[str, Any] = {
    "_target_": "PromptedUNet",
    "widths": [24, 48, 96, 144],
    "hidden": [0, 0, 48, 64],
    "slabs": [0, 1, 2, 3, -1, -2, -3],
}
#: how the network is run; span, horizon, rounds and what is dropped were chosen on a few objects on which nothing is judged, the horizon of
#: frames on the laryngoscopies, by a network that had not seen them
INFERENCE: dict[str, Any] = {
    "precision": "bfloat16",
    "span": [40, 48],
    "contrast": 3,
    "shape_gain": 0.1,
    "horizon": [10, 0.6],
    "horizon_frames": 1,
    "connected": True,
    "even_ends": True,
    "parts": True,
    "rounds": 4,
    "reach": 0.3,
}
CT = (-160.0, 240.0)  # HU that become black and white

Pair = tuple[ms.ImageSequence, ms.ImageSequence, dict[str, Any]]


def brain() -> Iterator[Pair]:
    for path in sorted((DATA / "brain-tumor-progression").glob("*/*/*_T1post.nii.gz")):
        yield one(path), one(path.with_name(path.name.replace("_T1post", "_tumor")), "labels"), {}


def sarcoma() -> Iterator[Pair]:
    for folder in sorted((DATA / "sarcoma" / "nifti").iterdir()):
        for kind in ("CT", "MR_T1", "PET"):
            options = {"window": CT} if kind == "CT" else {}
            yield one(folder / f"{kind}_image.nii.gz"), one(folder / f"{kind}_mask.nii.gz", "labels"), options


def lung() -> Iterator[Pair]:
    for path in sorted((DATA / "lung-nodules").glob("*/*/CT.nii.gz")):
        image = one(path)
        yield (
            image,
            one(path.with_name("CT_mask.nii.gz"), "labels"),
            {"window": (0, 255), "margin": 30 * image.spacing["y"]},
        )


def sunnybrook() -> Iterator[Pair]:
    for folder in sorted((DATA / "cardiac-sunnybrook").iterdir()):
        for phase in ("ED", "ES"):
            image = one(folder / f"{phase}.nii.gz")
            yield image, one(folder / f"{phase}_labels.nii.gz", "labels"), {"margin": 44 * image.spacing["y"]}


def larynx() -> Iterator[Pair]:
    """Frames as luminance at half their size; "other tissue" is not a structure."""
    from skimage.io import imread

    for folder in sorted((DATA / "larynx-video" / "patient1").iterdir()):
        frames = sorted((folder / "frames").glob("*.jpg"))
        grey = np.stack([imread(f).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) for f in frames])
        drawn = np.stack([imread(folder / "labels" / f"{f.stem}.png") for f in frames])
        drawn = drawn[..., 0] if drawn.ndim == 4 else drawn
        grey = grey.reshape(len(frames), grey.shape[1] // 2, 2, grey.shape[2] // 2, 2).mean((2, 4))
        drawn = np.where(drawn == 2, 0, drawn)[:, ::2, ::2].astype(np.uint8)
        image = ms.ImageSequence(grey, ("t", "y", "x"), np.eye(4), oriented=False, name=folder.name)
        yield image, image.labels_like(drawn, name="labels", label_names={}), {"window": (0, 255)}


def heads() -> Iterator[Pair]:
    shapes: list[dict[str, Any]] = [
        {},
        {"shape_zyx": (44, 160, 160), "spacing_zyx": (3.2, 1.35, 1.35)},
        {"shape_zyx": (56, 104, 104), "spacing_zyx": (2.4, 2.1, 2.1)},
    ]
    for seed in range(14):
        image, labels = make_case(seed, **shapes[seed % 3])
        yield image, labels, {}


READERS: dict[str, Callable[[], Iterator[Pair]]] = {
    "brain": brain,
    "sarcoma": sarcoma,
    "lung": lung,
    "sunnybrook": sunnybrook,
    "larynx": larynx,
    "heads": heads,
}


def one(path: Path, kind: str = "image") -> ms.ImageSequence:
    return ms.read(path, kind=kind)[0]  # type: ignore[arg-type]


def read_groups(names: list[str], device: torch.device, most: int) -> dict[str, list[PromptedCase]]:
    """The cases of each set; images on which nothing is labelled are left out."""
    rng = np.random.default_rng(0)
    groups: dict[str, list[PromptedCase]] = {}
    for name in names:
        groups[name] = []
        for image, labels, options in READERS[name]():
            drawn: NDArray[np.generic] = np.asarray(labels.data)
            if drawn.any() and len(groups[name]) < most:
                labels = labels.replace(data=(drawn > 0).astype(np.uint8)) if name in ("sarcoma", "lung") else labels
                groups[name].append(prompted_case(image, labels, rng=rng, device=device, **options))
        structures = sum(len(c.labelled) + len(c.unlabelled) for c in groups[name])
        print(f"{name}: {len(groups[name])} images, {structures} structures", flush=True)
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="bundle to write; the checkpoint lies beside it")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument(
        "--windows", type=int, default=1024, help="64 × 64 windows per iteration; 64 is right for a CPU"
    )
    parser.add_argument("--leave", nargs="*", default=[], choices=list(READERS))
    parser.add_argument("--cell", default="minimal", choices=("minimal", "none"))
    parser.add_argument("--volume", action="store_true", help="the 3D U-Net to compare with")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--most", type=int, default=10_000, help="images of a set, at most (to try it)")
    parser.add_argument("--weights", type=Path, help="pack these (safetensors) instead of training")
    parser.add_argument("--start", type=Path, help="weights (safetensors) to train on from")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak of the learning rate; 2e-3 from given weights")
    parser.add_argument("--set", type=json.loads, default={}, help="inference settings as JSON")
    a = parser.parse_args()
    network = {"_target_": "PromptedVolumeUNet"} if a.volume else {**NETWORK, "cell": a.cell}
    built = networks.build(network)
    assert isinstance(built, PromptedNetwork)
    if given := a.weights or a.start:
        built.load_state_dict(load_file(given))
    if a.weights is not None:
        weights = built.state_dict()
    else:
        device = torch.device(a.device)
        names = [n for n in READERS if n not in a.leave]
        torch.manual_seed(0)
        settings = PromptTrainSettings(minutes=a.minutes, windows=a.windows, rate=a.rate)
        run = a.out.with_name(a.out.name + ".run")
        groups = read_groups(names, device, a.most)
        weights = fit_prompted(built, groups, SHARES, settings, run, device=device, progress=say())
    folder = bundle.write_bundle(
        a.out,
        facts={"name": a.out.name, "task": "propagation", "channels": ["image"], "sequence_axis": "slices"},
        network=network,
        inference={**INFERENCE, **a.set},
        weights=weights,
        card=card(),
        licence_text=LICENCE.read_text(encoding="utf-8"),
        description="Carries any object painted on a few slices, frames or visits to all others.",
        licence="CC-BY-4.0 (weights); see LICENSE",
        version="0.1.0",
    )
    print(folder, (folder / bundle.WEIGHTS).stat().st_size / 1e6, "MB")


def card() -> str:
    """The model card, with the tables of the benchmark that is kept."""
    text = CARD.read_text(encoding="utf-8")
    rows = json.loads(OUT.read_text(encoding="utf-8"))["rows"] if OUT.is_file() else []
    return text.replace("<!-- table -->", tables(rows) if rows else "Not measured yet.")


def say() -> Progress:
    """One line every ten seconds."""
    last = [0.0]

    def told(done: int, total: int, message: str) -> None:
        if time.monotonic() - last[0] > 10 or done == total:
            last[0] = time.monotonic()
            print(f"{done} of {total} s, {message}", flush=True)

    return told


if __name__ == "__main__":
    main()
