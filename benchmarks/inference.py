"""Whole-volume segmentation, side by side: our recurrent 2.5D network, a 2D U-Net slice by slice, a 3D U-Net in sliding windows.

    python benchmarks/inference.py [--quick] [--study FOLDER --truth FOLDER] [--rounds 4] [--threads 2] [--out FOLDER]

The same patients, framed alike, from the image in memory to labels on its grid. The rivals are MONAI's
`BasicUNet` in 2D and 3D with the channel widths of our network, the latter through MONAI's `SlidingWindowInferer` (Gaussian weights).
They are untrained in the first table, so they have a time but no Dice; ours is the model that ships. Methods take turns within each
round, so that a busy moment of the machine hits all alike; ratios are taken round by round. Peak memory is what a process of its own
needs more during the call. A second table has Dice, time and memory of networks that ``benchmarks/rivals.py`` trained alike, on patients
that none of them has seen, all through ``ms.segment``; it is left out where that was not run.
The share of the machine's rate is floating-point operations (torch's own counter) per second of the network alone, relative to a plain
convolution of 64 to 64 channels. Growth is measured on phantoms of 50 to 1000 slices that exist one slice at a time. Prints tables, writes
``inference.json`` and draws ``inference.png``. About six minutes on two cores; ``--quick`` one. ``--device cuda`` compares that
device with the CPU instead; see ``inference_device.py``.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import rivals

ROOT = Path(__file__).resolve().parents[1]
AIMS = {"faster than 3D": 3.0, "time of 2D": 1.3, "share of the rate": 0.6}
OURS, SHIPPED, PLAIN, FLAT = (
    "recurrent 2.5D",
    "recurrent 2.5D, mirrored (as shipped)",
    "2.5D without recurrence",
    "2D U-Net",
)
DEEP = {f"3D U-Net, overlap {o:g}": o for o in (0.25, 0.5)}
METHODS = (OURS, SHIPPED, PLAIN, FLAT, *DEEP)
#: trained alike: name → network of `rivals`, and the overlap of its windows
ALIKE = {
    "trained alike: recurrent 2.5D": ("recurrent 2.5D", 0.0),
    "trained alike: 2D U-Net": ("2D U-Net", 0.0),
    "trained alike: 3D U-Net, overlap 0.25": ("3D U-Net", 0.25),
    "trained alike: 3D U-Net, overlap 0.5": ("3D U-Net", 0.5),
}


def network_of(method: str, model: Any) -> Any:
    """The network behind a method."""
    import torch
    from monai.networks.nets import BasicUNet

    from napari_medseq.models import networks

    torch.manual_seed(0)
    definition = model.network_definition
    if method in (OURS, SHIPPED):
        return model.network
    if method == PLAIN:
        return networks.build({**definition, "rnn": "none"}).eval()
    widths = (*definition["widths"], definition["widths"][0])
    return BasicUNet(2 if method == FLAT else 3, 1, 2, features=widths).eval()


def runner(method: str, model: Any) -> Callable[[Any], Any]:
    """Image in, label array on its grid out."""
    import numpy as np
    import torch
    from monai.inferers import SlidingWindowInferer

    import napari_medseq as ms
    from napari_medseq.inference.inputs.frame import frame
    from napari_medseq.inference.inputs.images import to_image_axes

    if method in ALIKE:
        name, overlap = ALIKE[method]
        alike = ms.load_model(rivals.folder(name))
        if overlap:
            alike.network.overlap = overlap  # type: ignore[assignment]
        return lambda image: ms.segment(image, alike, device="cpu").labels.data

    network, inference = network_of(method, model), {**model.inference, "mirror": method == SHIPPED}
    if method in (OURS, SHIPPED, PLAIN):
        chosen = replace(model, network=network, inference=inference)
        return lambda image: ms.segment(image, chosen, device="cpu").labels.data

    @torch.inference_mode()
    def run(image: Any) -> Any:
        framing = frame([image], along="slices", pixel_mm=inference["pixel_mm"], stride=16)
        steps = (framing.read([image], i) for i in range(framing.steps))
        if method == FLAT:
            layout = torch.channels_last
            logits = (network(x[None].contiguous(memory_format=layout))[0] for x in steps)
        else:
            volume = torch.stack(list(steps), 1)[None]  # (1, channel, z, y, x)
            window = (min(32, -(-volume.shape[2] // 16) * 16), *(min(96, n) for n in volume.shape[3:]))
            infer = SlidingWindowInferer(window, sw_batch_size=1, overlap=DEEP[method], mode="gaussian")
            logits = iter(infer(volume, network)[0].unbind(1))
        out = [framing.uncrop(p.argmax(0).to(torch.uint8), labels=True) for p in logits]
        return to_image_axes(np.stack(out), framing.axes, image)

    return run


def phantom(slices: int, side: int = 128) -> Any:
    """A head-like ellipsoid with texture whose slices are made when they are read."""
    import dask.array as da
    import numpy as np

    import napari_medseq as ms
    from napari_medseq.sequence import affine_from

    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = x**2 + y**2 < 0.8

    def made(block_info: Any = None) -> Any:
        index = block_info[None]["chunk-location"][0]
        texture = np.random.default_rng(index).standard_normal((side, side))
        return np.where(inside, 500 + 100 * texture, 10.0).astype(np.float32)[None]

    data = da.map_blocks(
        made, chunks=((1,) * slices, (side,), (side,)), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    return ms.ImageSequence(data, ("z", "y", "x"), affine_from((0.86, 0.86, 3)), name="phantom", modality="MR")


def status_mb(field: str) -> float:
    """Resident size of this process now (VmRSS) or at its highest (VmHWM); Linux only."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1024


def child(method: str, a: argparse.Namespace) -> None:
    """One method in a process of its own: peak memory beyond what stood before, and seconds, for one image."""
    import torch

    import napari_medseq as ms

    torch.set_num_threads(a.threads)
    model = ms.load_model(a.model)
    run = runner(method, model)
    run(phantom(2, 64))  # libraries are loaded and their threads started
    image = phantom(a.slices) if a.slices else rivals.held_out()[0][1] if method in ALIKE else patients(a)[0][0]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before, began = status_mb("VmRSS"), time.perf_counter()
    labels = run(image)
    seconds = time.perf_counter() - began
    print(json.dumps({"peak_mb": status_mb("VmHWM") - before, "result_mb": labels.nbytes / 2**20, "seconds": seconds}))


def spawned(method: str, a: argparse.Namespace, slices: int) -> dict[str, float]:
    """What `child` finds."""
    command = [sys.executable, __file__, "--child", method, "--slices", str(slices), "--threads", str(a.threads)]
    command += ["--study", str(a.study), "--truth", str(a.truth), "--model", a.model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def patients(a: argparse.Namespace) -> list[tuple[Any, Any]]:
    """Each visit's image, and its expert or known mask where there is one."""
    import napari_medseq as ms

    truths = {p.name.partition("_lesions")[0]: p for p in Path(a.truth).glob("*_lesions.nii.gz")}
    pairs = []
    for visit in ms.read_study(a.study).visits:
        image = visit.images[0]
        pairs.append((image, ms.read(truths[visit.name])[0] if visit.name in truths else None))
    return pairs


def best(call: Callable[[], Any], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def rates(model: Any, image: Any, times: int) -> dict[str, float]:
    """GFLOP/s of a plain convolution and of each network alone, the best of some runs: what each can reach."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from napari_medseq.inference.inputs.frame import frame
    from napari_medseq.inference.streaming import stream, stream_side_by_side

    layout = torch.channels_last
    plain = torch.nn.Conv2d(64, 64, 3, padding=1).eval().to(memory_format=layout)
    large = torch.randn(1, 64, 256, 256).contiguous(memory_format=layout)
    framing = frame([image], along="slices", pixel_mm=model.inference["pixel_mm"], stride=16)
    steps = [framing.read([image], i) for i in range(framing.steps)]
    both = [torch.stack([x, x.flip(-1)]) for x in steps]
    flat, bare = network_of(FLAT, model), network_of(PLAIN, model)
    calls: dict[str, Callable[[], Any]] = {
        "plain convolution": lambda: plain(large),
        OURS: lambda: list(stream(model.network, steps)),
        SHIPPED: lambda: list(stream_side_by_side(model.network, both)),
        PLAIN: lambda: list(stream(bare, steps)),
        FLAT: lambda: [flat(x[None].contiguous(memory_format=layout)) for x in steps],
    }
    found = {}
    with torch.inference_mode():
        for name, call in calls.items():
            with FlopCounterMode(display=False) as counter:
                call()
            found[name] = counter.get_total_flops() / best(call, times) / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="brain-tumor")
    parser.add_argument("--study", type=Path, default=ROOT / "sample_data" / "study")
    parser.add_argument("--truth", type=Path, default=ROOT / "sample_data" / "truth")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cuda or mps: that device beside the CPU, instead of the rest")
    parser.add_argument("--quick", action="store_true", help="one patient, two rounds, at most 200 slices")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument(
        "--limits", action="store_true", help="memory of 20 classes on 512×512×600 voxels, and nothing else"
    )
    parser.add_argument("--child", choices=[*METHODS, *ALIKE], help=argparse.SUPPRESS)
    parser.add_argument("--slices", type=int, default=0, help=argparse.SUPPRESS)
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    if a.child:
        return child(a.child, a)

    import torch

    import napari_medseq as ms

    torch.set_num_threads(a.threads)
    if a.limits:
        return limits(a.threads)
    if a.device != "cpu":
        from inference_device import compare

        images = {f"visit {k}": image for k, (image, _) in enumerate(patients(a), 1)}
        images = dict(list(images.items())[: 1 if a.quick else None])
        return compare(a.model, images, a.device, 2 if a.quick else a.rounds, a.out)
    model = ms.load_model(a.model)
    pairs = patients(a)[: 1 if a.quick else None]
    rounds = 2 if a.quick else a.rounds
    runs = {m: runner(m, model) for m in METHODS}
    seconds: dict[str, list[float]] = {m: [] for m in METHODS}
    scores: dict[str, list[float]] = {OURS: [], SHIPPED: []}
    for n in range(rounds + 1):  # the first warms up
        for method, run in runs.items():
            total = 0.0
            for image, truth in pairs:
                began = time.perf_counter()
                labels = run(image)
                total += time.perf_counter() - began
                if n == 0 and truth is not None and method in scores:
                    scores[method].append(rivals.dice(labels, truth.data))
            if n:
                seconds[method].append(total / len(pairs))
    memory = {m: spawned(m, a, 0) for m in METHODS}
    reached = rates(model, pairs[0][0], 3 if a.quick else 7)
    sizes = (50, 100, 200) if a.quick else (50, 100, 200, 500, 1000)
    growth = {OURS: {n: spawned(OURS, a, n) for n in sizes}}
    growth |= {m: {n: spawned(m, a, n) for n in sizes[: 2 if a.quick else 3]} for m in list(DEEP)[:1]}

    rows = []
    for m in METHODS:
        ratio = [s / o for s, o in zip(seconds[m], seconds[OURS], strict=True)]
        rows.append(
            {
                "method": m,
                "seconds": [min(seconds[m]), statistics.median(seconds[m]), max(seconds[m])],
                "times_ours": [min(ratio), statistics.median(ratio), max(ratio)],
                "peak_mb": memory[m]["peak_mb"],
                "dice": statistics.mean(scores[m]) if scores.get(m) else None,
                "gflops": reached.get(m),
                "share": reached[m] / reached["plain convolution"] if m in reached else None,
            }
        )
    table(rows, len(pairs), rounds, a.threads, reached["plain convolution"])
    print("\n| slices | " + " | ".join(f"{m}: s | MB beyond the labels" for m in growth) + " |")
    print("|---:|" + "---:|---:|" * len(growth))
    for n in sizes:
        cells = [
            f"{g[n]['seconds']:.2f} | {g[n]['peak_mb'] - g[n]['result_mb']:.0f}" if n in g else " | "
            for g in growth.values()
        ]
        print(f"| {n} | " + " | ".join(cells) + " |")
    small = small_volume(model, 5 if a.quick else 15)
    print(f"\n35×51×35 voxels of 1 mm: {small[0]:.2f} s (best {small[1]:.2f} s), {small[2]:.2f} s of the processor")
    alike = trained_alike(a, min(rounds, 2))
    a.out.mkdir(parents=True, exist_ok=True)
    facts = {
        "threads": a.threads,
        "rounds": rounds,
        "patients": len(pairs),
        "rows": rows,
        "rates": reached,
        "growth": growth,
        "small": small,
        "alike": alike,
    }
    (a.out / "inference.json").write_text(json.dumps({**facts, "aims": AIMS}, indent=2) + "\n", encoding="utf-8")
    draw(growth, a.out / "inference.png")


def limits(threads: int) -> None:
    """Peak memory beyond the image of an untrained network of 20 classes on a lazy volume of 600 slices of 512×512, and the estimate."""
    import numpy as np
    import torch

    import napari_medseq as ms
    from napari_medseq.inference.inputs.frame import frame
    from napari_medseq.inference.resources import memory
    from napari_medseq.inference.resources.tuning import Plan
    from napari_medseq.inference.settings import InferenceSettings
    from napari_medseq.models import Model, ModelInfo
    from napari_medseq.models.recurrent_unet import RecurrentUNet

    torch.set_num_threads(threads)
    network = RecurrentUNet(widths=(8, 16, 32), rnn_levels=(2,), hidden=16, ahead=2, classes=20, neighbours=0).eval()
    info = ModelInfo(name="many", version="0", task="segmentation", classes={k: f"organ {k}" for k in range(1, 20)})
    model = Model(info, network, {"along": "slices"}, {})
    ms.segment(phantom(2, 64), model, device="cpu")
    image = phantom(600, 512)
    framing = frame([image], along="slices", pixel_mm=None, stride=network.stride)
    needed = memory.segmentation_bytes(framing, network, InferenceSettings(), Plan(), ("labels",))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, began = status_mb("VmRSS"), time.perf_counter()
    labels = ms.segment(image, model, device="cpu").labels.data
    print(
        f"20 classes, {'×'.join(map(str, np.asarray(labels).shape))}: {time.perf_counter() - began:.0f} s, peak "
        f"{status_mb('VmHWM') - before:.0f} MB beyond {before:.0f} MB at the start (estimated {needed / 2**20:.0f} MB; a stack of "
        f"probabilities would be {20 * labels.size * 4 / 2**20:.0f} MB)"
    )


def small_volume(model: Any, times: int) -> tuple[float, float, float]:
    """Median and best seconds, and median processor seconds, of a volume as small as a hippocampus, as shipped."""
    import numpy as np

    import napari_medseq as ms
    from napari_medseq.sequence import affine_from

    data = np.random.default_rng(0).normal(100, 30, (35, 51, 35)).astype(np.float32)
    data[5:30, 8:40, 6:30] += 200
    image = ms.ImageSequence(data, ("z", "y", "x"), affine_from((1, 1, 1)), name="small", modality="MR")
    seconds, processor = [], []
    for _ in range(times + 1):
        began, busy = time.perf_counter(), time.process_time()
        ms.segment(image, model, device="cpu")
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - busy)
    return statistics.median(seconds[1:]), min(seconds[1:]), statistics.median(processor[1:])


def trained_alike(a: argparse.Namespace, rounds: int) -> list[dict[str, Any]]:
    """Dice, time and memory of the networks that were trained alike, on patients held out of all; prints its table."""
    names = [m for m, (name, _) in ALIKE.items() if name in rivals.there()] if rivals.DATA.is_dir() else []
    if len(names) < len(ALIKE):
        return []
    pairs = rivals.held_out()
    runs = {m: runner(m, None) for m in names}
    seconds: dict[str, list[float]] = {m: [] for m in names}
    scores: dict[str, dict[str, list[float]]] = {m: {} for m in names}
    for n in range(rounds):
        for m, run in runs.items():
            total = 0.0
            for patient, image, truth in pairs:
                began = time.perf_counter()
                labels = run(image)
                total += time.perf_counter() - began
                if n == 0:
                    scores[m].setdefault(patient, []).append(rivals.dice(labels, truth.data))
            seconds[m].append(total / len(pairs))
    rows = []
    print(f"\n{len(pairs)} volumes of {', '.join(rivals.HELD_OUT)}, which none of these networks has seen")
    print(
        "| trained alike | minutes (of the processor) | iterations | Dice: mean (patients) | s per volume | times ours | peak MB |"
    )
    print("|---|---|---:|---|---|---|---:|")
    for m in names:
        each = [statistics.mean(v) for v in scores[m].values()]
        ratio = [s / o for s, o in zip(seconds[m], seconds[names[0]], strict=True)]
        peak = spawned(m, a, 0)["peak_mb"]
        facts = rivals.facts(ALIKE[m][0])
        rows.append({"method": m, **facts, "dice": each, "seconds": seconds[m], "times_ours": ratio, "peak_mb": peak})
        print(
            f"| {m.removeprefix('trained alike: ')} | {facts['minutes']:g} ({facts['processor_minutes']:.1f}) "
            f"| {facts['iterations']} | {statistics.mean(each):.3f} ({min(each):.3f} to {max(each):.3f}) "
            f"| {statistics.median(seconds[m]):.2f} ({min(seconds[m]):.2f} to {max(seconds[m]):.2f}) "
            f"| {statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f}) | {peak:.0f} |"
        )
    return rows


def table(rows: list[dict[str, Any]], patients: int, rounds: int, threads: int, rate: float) -> None:
    """What was found, as Markdown."""
    print(f"{patients} volume(s), {rounds} rounds, {threads} threads; a plain convolution reaches {rate:.0f} GFLOP/s")
    print(
        "| method | s per volume: median (min to max) | times ours | peak MB | Dice | share of the rate |\n|---|---|---|---:|---:|---:|"
    )
    for r in rows:
        low, middle, high = r["seconds"]
        less, times, more = r["times_ours"]
        score = "untrained" if r["dice"] is None else f"{r['dice']:.3f}"
        share = "" if r["share"] is None else f"{r['share']:.0%}"
        print(
            f"| {r['method']} | {middle:.2f} ({low:.2f} to {high:.2f}) | {times:.2f} ({less:.2f} to {more:.2f}) "
            f"| {r['peak_mb']:.0f} | {score} | {share} |"
        )


def draw(growth: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """Time and memory over the number of slices."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for method, found in growth.items():
        sizes = list(found)
        left.plot(sizes, [f["seconds"] for f in found.values()], "o-", label=method)
        right.plot(sizes, [f["peak_mb"] - f["result_mb"] for f in found.values()], "o-", label=method)
    left.set(xlabel="slices", ylabel="seconds", xlim=(0, None), ylim=(0, None))
    right.set(xlabel="slices", ylabel="MB beyond the labels", xlim=(0, None), ylim=(0, None))
    left.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
