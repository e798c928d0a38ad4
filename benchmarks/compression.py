"""What each means of compression gains on a shipped model, and what it costs in Dice.

    python benchmarks/compression.py [--model brain-tumor] [--runs 3] [--quick] [--keep 0.6 --tune tune.yaml] [--onnx]

Size and multiply-adds are counted. Seconds and peak memory are those of whole ``napari-medseq segment`` processes on the first
visit, imports included; the variants take turns. Dice is that with the known masks of all visits of ``--study`` (the synthetic
sample by default: give held-out patients for a number to quote) and with the original model's labels. Pruning is no model before it
is trained again: ``--keep`` needs ``--tune``, a training configuration. ``--onnx`` also times the exported network alone in onnxruntime,
as it is and with 8-bit integers. Prints a table and writes ``compression.json``. About three minutes; ``--quick`` one.
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

import napari_medseq as ms
from napari_medseq.engine.compression import measures

ROOT = Path(__file__).resolve().parents[1]
MEANS: dict[str, dict[str, Any]] = {
    "half precision": {"storage": "half"},
    "8-bit integers": {"storage": "int8"},
    "low rank, error 0.01": {"error": 0.01},
    "low rank, error 0.05": {"error": 0.05},
    "low rank 0.05 and 8-bit": {"error": 0.05, "storage": "int8"},
}


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


def dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def segmented(model: Any, images: list[Any]) -> list[Any]:
    return [np.asarray(ms.segment(i, model, device="cpu").labels.data) > 0 for i in images]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="brain-tumor")
    parser.add_argument("--study", type=Path, default=ROOT / "sample_data" / "study")
    parser.add_argument("--truth", type=Path, default=ROOT / "sample_data" / "truth")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run, one visit, two of the means")
    parser.add_argument("--keep", type=float, default=1.0)
    parser.add_argument("--tune", type=Path, help="YAML or JSON of the training after pruning")
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "compression.json")
    a = parser.parse_args()
    if (a.keep < 1) != (a.tune is not None):
        parser.error("--keep below 1 and --tune go together")
    warnings.simplefilter("ignore")
    visits = ms.read_study(a.study).visits[: 1 if a.quick else None]
    images = [v.images[0] for v in visits]
    truths = [np.asarray(ms.read(a.truth / f"{v.name}_lesions.nii.gz")[0].data) > 0 for v in visits]
    means = {k: MEANS[k] for k in list(MEANS)[1 : 3 if a.quick else None]} if a.quick else dict(MEANS)
    if a.tune is not None:
        import yaml

        tuned = {"keep": a.keep, "fine_tune": yaml.safe_load(a.tune.read_text())}
        means[f"{a.keep:.0%} of the channels, tuned"] = tuned
        means["... and low rank 0.05 and 8-bit"] = {"again": True, "error": 0.05, "storage": "int8"}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        models = {"none (float32)": ms.compress(a.model, {"out": f"{folder}/whole", "storage": "float32"})}
        for i, (name, settings) in enumerate(means.items()):
            chosen = dict(settings)
            start = list(models.values())[-1 if chosen.pop("again", False) else 0]
            models[name] = ms.compress(start, {"out": f"{folder}/{i}", **chosen})
        original: list[Any] = []
        for name, model in models.items():
            found = segmented(model, images)
            original = original or found
            rows.append(
                {
                    "means": name,
                    **measures(model),
                    "dice": statistics.mean(dice(f, t) for f, t in zip(found, truths, strict=True)),
                    "dice_with_original": statistics.mean(dice(f, t) for f, t in zip(found, original, strict=True)),
                    "seconds": [],
                    "peak_mb": [],
                }
            )
        with tempfile.TemporaryDirectory() as there:
            image = ms.write(images[0], Path(there) / f"{images[0].name}.nii.gz")
            for _ in range(1 if a.quick else a.runs):
                for row, model in zip(rows, models.values(), strict=True):
                    seconds, peak = process(model.info.folder, image)
                    row["seconds"].append(seconds)
                    row["peak_mb"].append(peak)
        exported = in_onnxruntime(models["none (float32)"], Path(folder), 1 if a.quick else 5) if a.onnx else []
    first = rows[0]
    print("| means | bytes | ratio | multiply-adds | ratio | Dice | Dice with original | s, whole process | peak MB |")
    print("|---|---:|---:|---:|---:|---:|---:|---|---:|")
    for r in rows:
        s = r["seconds"]
        print(
            f"| {r['means']} | {r['bytes']:,} | {first['bytes'] / r['bytes']:.2f} | {r['multiply_adds']:,} "
            f"| {first['multiply_adds'] / r['multiply_adds']:.2f} | {r['dice']:.4f} | {r['dice_with_original']:.4f} "
            f"| {statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f}) | {statistics.median(r['peak_mb']):.0f} |"
        )
    if exported:
        print("\n| network alone, 8 steps | s | labels that agree |\n|---|---|---:|")
    for e in exported:
        low, middle, high = e["seconds"]
        print(f"| {e['runtime']} | {middle:.3f} ({low:.3f} to {high:.3f}) | {e['agree']:.2%} |")
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(
        json.dumps({"model": a.model, "rows": rows, "exported": exported}, indent=2) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
