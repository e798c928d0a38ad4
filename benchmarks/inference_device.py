"""Segmentation on an accelerator beside the CPU of the same machine; what ``benchmarks/inference.py --device cuda`` runs.

The sample patient's visits and phantoms of 512×512 slices, from the image in memory to labels on its grid, with the model that
ships: seconds for one to sixteen steps at once, the highest memory of the device, how many voxels differ from the CPU's labels and by
how much the probabilities do; in float32 and, for comparison, in the lower precision that a bundle may allow. The rivals are our
network without recurrence, and an untrained MONAI `BasicUNet` in 3D with our widths through `SlidingWindowInferer`, left out where
MONAI is not installed. Rounds take turns; each figure is median (min to max). Writes ``inference-DEVICE.json``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import napari_medseq as ms
from napari_medseq.inference.resources import devices, tuning
from napari_medseq.models import networks
from napari_medseq.sequence import affine_from

CHUNKS = (1, 2, 4, 8, 16)
PHANTOMS = ((512, 60), (512, 240))  # side and slices


def compare(model_name: str, images: dict[str, Any], device: str, rounds: int, out: Path) -> None:
    """Print the tables and write the JSON.

    Parameters
    ----------
    model_name : str
    images : dict of str to ImageSequence
    device : str
    rounds : int
    out : Path
        Folder.
    """
    where, _ = devices.choose(device)
    kind = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
    print(f"{kind}, torch {torch.__version__}; CPU: {torch.get_num_threads()} threads; {rounds} rounds\n")
    images = images | {f"phantom of {n} slices of {s}×{s}": phantom(s, n) for s, n in PHANTOMS}
    model = ms.load_model(model_name)
    bare = networks.build({**model.network_definition, "rnn": "none"}).eval()
    bare.load_state_dict({k: v for k, v in model.network.state_dict().items() if k in bare.state_dict()})
    low = replace(ms.load_model(model_name), inference={**model.inference, "precision": "bfloat16"})
    plain = replace(model, network=bare)
    rows = []
    for name, image in images.items():
        calls: dict[str, Callable[[], Any]] = {
            f"{c} step(s) at once": _segment(image, model, device, c) for c in CHUNKS
        } | {
            "lower precision allowed": _segment(image, low, device, None),
            "without recurrence": _segment(image, plain, device, None),
        }
        if find_spec("monai"):
            calls["3D U-Net, overlap 0.25, untrained"] = _sliding(image, model, where)
        slices = image.size("z")
        cpu: dict[str, Any] = {}
        if slices <= 100:
            began = time.perf_counter()
            cpu["result"] = ms.segment(
                image, ms.load_model(model_name), device="cpu", outputs=("labels", "probability")
            )
            cpu["seconds"] = time.perf_counter() - began
        seconds: dict[str, list[float]] = {c: [] for c in calls}
        peaks: dict[str, float] = {}
        answers: dict[str, Any] = {}
        for n in range(rounds + 1):  # the first warms up
            for c, call in calls.items():
                _forget(where)
                began = time.perf_counter()
                answers[c] = call()
                _wait(where)
                if n:
                    seconds[c].append(time.perf_counter() - began)
                peaks[c] = _peak_mb(where)
        print(f"**{name}** ({slices} slices" + (f"; CPU {cpu['seconds']:.2f} s" if cpu else "") + ")\n")
        print(
            "| how | s: median (min to max) | slices a second | peak MB of the device | voxels that differ | largest difference |"
        )
        print("|---|---|---:|---:|---:|---:|")
        for c in calls:
            middle = statistics.median(seconds[c])
            row: dict[str, Any] = {"image": name, "how": c, "seconds": seconds[c], "peak_mb": peaks[c]}
            if cpu and isinstance(answers[c], ms.Segmentation) and c != "without recurrence":
                row |= _difference(answers[c], cpu["result"]) | {"cpu_seconds": cpu["seconds"]}
            rows.append(row)
            differ = f"{row['voxels']} | {row['largest']:.1e}" if "voxels" in row else " | "
            print(
                f"| {c} | {middle:.3f} ({min(seconds[c]):.3f} to {max(seconds[c]):.3f}) | {slices / middle:.0f} "
                f"| {peaks[c]:.0f} | {differ} |"
            )
        print()
    plans = {str(p): s for p, s in tuning.measure(model.network, where).items()}
    print("Seconds of the encoder for eight 128×128 steps:", ", ".join(f"{p}: {s:.4f}" for p, s in plans.items()))
    facts = {"device": kind, "torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": rounds}
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "rows": rows, "plans": plans}, indent=2) + "\n"
    (out / f"inference-{where.type}.json").write_text(text, encoding="utf-8")


def phantom(side: int, slices: int) -> Any:
    """A textured cylinder in noise."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = x**2 + y**2 < 0.8
    texture = np.random.default_rng(0).standard_normal((slices, side, side), np.float32)
    data = np.where(inside, 500 + 100 * texture, 10 * np.abs(texture)).astype(np.float32)
    return ms.ImageSequence(data, ("z", "y", "x"), affine_from((0.86, 0.86, 3)), name="phantom", modality="MR")


def _segment(image: Any, model: Any, device: str, chunk: int | None) -> Callable[[], Any]:
    return lambda: ms.segment(image, model, device=device, chunk=chunk, outputs=("labels", "probability"))


def _sliding(image: Any, model: Any, where: torch.device) -> Callable[[], Any]:
    """The same steps as one volume through a 3D U-Net by sliding windows."""
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import BasicUNet

    from napari_medseq.inference.inputs.frame import frame

    widths = (*model.network_definition["widths"], model.network_definition["widths"][0])
    network = BasicUNet(3, 1, 2, features=widths).eval().to(where)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        framing = frame([image], along="slices", pixel_mm=model.inference["pixel_mm"], stride=16)
        volume = torch.stack([framing.read([image], i) for i in range(framing.steps)], 1)[None].to(where)
        window = (min(32, -(-volume.shape[2] // 16) * 16), *(min(96, n) for n in volume.shape[3:]))
        return (
            SlidingWindowInferer(window, sw_batch_size=4, overlap=0.25, mode="gaussian")(volume, network)[0]
            .argmax(0)
            .cpu()
        )

    return run


def _difference(a: Any, b: Any) -> dict[str, float]:
    voxels = int((np.asarray(a.labels.data) != np.asarray(b.labels.data)).sum())
    return {"voxels": voxels, "largest": float(np.abs(a.probability.data - b.probability.data).max())}


def _forget(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def _peak_mb(where: torch.device) -> float:
    return torch.cuda.max_memory_allocated(where) / 2**20 if where.type == "cuda" else float("nan")
