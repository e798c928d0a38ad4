"""What each means of compression gains on the segmentation model, and what it costs in Dice on patients that it has not seen.

    python benchmarks/compression.py [--runs 3] [--quick] [--onnx] [--sample]

Three patients; for each the network that was trained without that patient (``benchmarks/brain_tumor.py``) is made smaller and judged
on both visits. The pruned networks come from ``benchmarks/pruned.py``; without them their rows are left out. Without the patients, or
with ``--sample``, the shipped model is judged on the synthetic sample. Bytes and multiply-adds are counted. Seconds are those of
``ms.segment`` on one volume, and of whole ``napari-medseq segment`` processes, imports included, which peak memory is of too; the
variants take turns. ``--onnx`` also times the exported network alone in onnxruntime, as it is and with 8-bit integers. Prints a
table and writes ``compression.json``. About four minutes; ``--quick`` one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import brain_tumor
import napari_medseq as ms
import pruned
import rivals
from napari_medseq.inference.resources.tuning import has_bfloat16
from napari_medseq.training.compression import measures

ROOT = Path(__file__).resolve().parents[1]
ALL: dict[str, Any] = {"storage": "shared", "precision": "bfloat16", "mirror": False}
MEANS: dict[str, dict[str, Any]] = {
    "none (float32)": {},
    "stored in half precision": {"storage": "half"},
    "stored as 8-bit integers": {"storage": "int8"},
    "stored as shared weights": {"storage": "shared"},
    "low rank, error 0.05": {"error": 0.05},
    "products in bfloat16": {"precision": "bfloat16"},
    "one pass, not two mirrored": {"mirror": False},
    "shared weights, bfloat16, one pass": ALL,
}
PRUNED = f"pruned to {pruned.KEEP:.0%} of the channels, tuned"
ALL_PRUNED = "the same, shared weights, bfloat16, one pass"


def process(model: str, image: Path) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of one whole process."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-m",
            "napari_medseq",
            "segment",
            str(image),
            "-m",
            model,
            "-o",
            f"{out}/labels.nii.gz",
        ]
        quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        began = time.perf_counter()
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"the command failed with status {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss / 1024


def subjects(sample: bool) -> list[dict[str, Any]]:
    """Who is judged: a name, the model to start from, the pruned one or None, and images with their masks."""
    starts = {p: pruned.fold(p) for p in rivals.HELD_OUT}
    if sample or not brain_tumor.DATA.is_dir() or None in starts.values():
        visits = ms.read_study(ROOT / "sample_data" / "study").visits
        masks = [ms.read(ROOT / "sample_data" / "truth" / f"{v.name}_lesions.nii.gz")[0] for v in visits]
        pairs = [(v.images[0], m) for v, m in zip(visits, masks, strict=True)]
        return [{"name": "sample", "start": "brain-tumor", "pruned": None, "pairs": pairs}]
    seen = rivals.held_out()
    whole = all(pruned.folder(p).is_dir() for p in starts)
    return [
        {
            "name": p,
            "start": str(start),
            "pruned": str(pruned.folder(p)) if whole else None,
            "pairs": [(image, mask) for q, image, mask in seen if q == p],
        }
        for p, start in starts.items()
    ]


def variants(subject: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The subject's model by each means."""
    chosen = {name: (subject["start"], settings) for name, settings in MEANS.items()}
    if subject["pruned"] is not None:
        chosen |= {PRUNED: (subject["pruned"], {}), ALL_PRUNED: (subject["pruned"], ALL)}
    return {
        name: ms.compress(start, {"out": str(folder / f"{subject['name']}-{i}"), "storage": "float32", **settings})
        for i, (name, (start, settings)) in enumerate(chosen.items())
    }


def judged(model: Any, pairs: list[tuple[Any, Any]]) -> float:
    """Mean Dice over a patient's visits."""
    found = [ms.segment(image, model, device="cpu").labels for image, _ in pairs]
    return statistics.mean(rivals.dice(f.data, mask.data) for f, (_, mask) in zip(found, pairs, strict=True))


def spread(values: list[float], digits: int = 2) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def in_onnxruntime(model: Any, folder: Path, runs: int) -> list[dict[str, Any]]:
    """Seconds of the network alone, for eight steps of 192×160: in torch, in onnxruntime, and there with 8-bit integers."""
    import onnxruntime
    import torch
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    shape = (1, 8, 3, 192, 160)
    whole = ms.export(model, folder / "m.onnx", steps=shape[1], size=shape[3:])
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)

    class Some(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"steps": x}, {"steps": rng.standard_normal(shape, np.float32)}])

        def get_next(self) -> Any:
            return next(self.left, None)

    small = folder / "m8.onnx"
    quantize_static(whole, small, Some(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=["Conv"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    calls: dict[str, Any] = {"torch": lambda: model.network(torch.from_numpy(x)).numpy()}
    for name, path in (("onnxruntime", whole), ("onnxruntime, 8-bit", small)):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        calls[name] = lambda session=session: session.run(None, {"steps": x})[0]
    rows = []
    with torch.inference_mode():
        first = calls["torch"]()
        for name, call in calls.items():
            answer, seconds = call(), []
            for _ in range(runs):
                began = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - began)
            agree = float((answer.argmax(2) == first.argmax(2)).mean())
            rows.append(
                {"runtime": name, "seconds": [min(seconds), statistics.median(seconds), max(seconds)], "agree": agree}
            )
    return rows


def timed(models: dict[str, Any], image: Any, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds per volume, seconds and peak memory of the whole process, of each model in turn."""
    found: dict[str, dict[str, list[float]]] = {n: {"volume": [], "process": [], "peak_mb": []} for n in models}
    with tempfile.TemporaryDirectory() as there:
        path = ms.write(image, Path(there) / "scan_T1post.nii.gz")
        for k in range(rounds + 1):  # the first warms up
            for name, model in models.items():
                began = time.perf_counter()
                ms.segment(image, model, device="cpu")
                if k:
                    found[name]["volume"].append(time.perf_counter() - began)
        for _ in range(rounds):
            for name, model in models.items():
                seconds, peak = process(model.info.folder, path)
                found[name]["process"].append(seconds)
                found[name]["peak_mb"].append(peak)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run, one patient")
    parser.add_argument("--sample", action="store_true", help="the shipped model on the synthetic sample")
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "compression.json")
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    judges = subjects(a.sample)[: 1 if a.quick else None]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [variants(s, folder) for s in judges]
        scores = {m: [judged(models[m], s["pairs"]) for s, models in zip(judges, made, strict=True)] for m in made[0]}
        sizes = {m: measures(model) for m, model in made[0].items()}
        times = timed(made[0], judges[0]["pairs"][0][0], 1 if a.quick else a.runs)
        exported = in_onnxruntime(made[0]["none (float32)"], folder, 1 if a.quick else 5) if a.onnx else []
    first = next(iter(made[0]))
    units = "has" if has_bfloat16() else "has no"
    visits = sum(len(s["pairs"]) for s in judges)
    print(f"{visits} visits of {', '.join(s['name'] for s in judges)}; the processor {units} bf16 units\n")
    print(
        "| means | bytes | smaller | multiply-adds | fewer | s per volume | faster | s, whole process | peak MB | Dice | points |"
    )
    print("|---|---:|---:|---:|---:|---|---:|---|---:|---:|---|")
    rows = []
    for m, size in sizes.items():
        t, points = times[m], [100 * (x - y) for x, y in zip(scores[m], scores[first], strict=True)]
        ratio = [x / y for x, y in zip(times[first]["volume"], t["volume"], strict=True)]
        rows.append({"means": m, **size, **t, "dice": scores[m], "points": points, "faster": ratio})
        print(
            f"| {m} | {size['bytes']:,} | {sizes[first]['bytes'] / size['bytes']:.2f} | {size['multiply_adds']:,} "
            f"| {sizes[first]['multiply_adds'] / size['multiply_adds']:.2f} | {spread(t['volume'])} "
            f"| {statistics.median(ratio):.2f} | {spread(t['process'])} | {statistics.median(t['peak_mb']):.0f} "
            f"| {statistics.mean(scores[m]):.4f} | {statistics.mean(points):+.2f} ({min(points):+.2f} to {max(points):+.2f}) |"
        )
    if exported:
        print("\n| network alone, 8 steps | s | labels that agree |\n|---|---|---:|")
    for e in exported:
        low, middle, high = e["seconds"]
        print(f"| {e['runtime']} | {middle:.3f} ({low:.3f} to {high:.3f}) | {e['agree']:.2%} |")
    a.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"patients": [s["name"] for s in judges], "rows": rows, "exported": exported}
    a.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
