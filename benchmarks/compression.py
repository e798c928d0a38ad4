"""What each means of compression gains on a shipped model, and what it costs in agreement with the original.

    python benchmarks/compression.py [--model brain-tumor] [--image FILE] [--timed]

Size and multiplications are counted. With ``--image`` the labels of each compressed model are compared with the original's
(Dice of model against model, not against an expert: for that run `napari-medseq evaluate`); with ``--timed`` whole calls are
timed too, which only means something on an idle machine. Pruning without fine-tuning is left out, since it is no model yet.
Prints a table and writes ``docs/benchmarks/compression.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
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
    "low rank, error 0.10": {"error": 0.1},
    "low rank 0.05 and 8-bit": {"error": 0.05, "storage": "int8"},
}


def look(model: Any, image: Any, timed: bool) -> tuple[Any, float | None]:
    """Labels of an image, and the seconds of the better of two calls."""
    if image is None:
        return None, None
    seconds, labels = [], None
    for _ in range(2 if timed else 1):
        began = time.perf_counter()
        labels = np.asarray(ms.segment(image, model, device="cpu").labels.data)
        seconds.append(time.perf_counter() - began)
    return labels, min(seconds) if timed else None


def row(name: str, model: Any, image: Any, truth: Any, timed: bool) -> tuple[dict[str, Any], Any]:
    """One line of the table."""
    labels, seconds = look(model, image, timed)
    dice = None
    if labels is not None and truth is not None:
        both = int(((labels > 0) & (truth > 0)).sum())
        dice = 2 * both / max(1, int((labels > 0).sum()) + int((truth > 0).sum()))
    return {"means": name, **measures(model), "dice_with_original": dice, "seconds": seconds}, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="brain-tumor")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--timed", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "compression.json")
    a = parser.parse_args()
    image = ms.read(a.image)[0] if a.image else None
    with tempfile.TemporaryDirectory() as folder:
        original = ms.compress(a.model, {"out": f"{folder}/whole", "storage": "float32"})
        first, truth = row("none (float32)", original, image, None, a.timed)
        rows = [first]
        for i, (name, settings) in enumerate(MEANS.items()):
            small = ms.compress(original, {"out": f"{folder}/{i}", **settings})
            rows.append(row(name, small, image, truth, a.timed)[0])
    print(
        "| means | bytes | ratio | multiply-adds | ratio | Dice with original | s |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for r in rows:
        dice, seconds = (f"{v:.4f}" if v is not None else "" for v in (r["dice_with_original"], r["seconds"]))
        print(
            f"| {r['means']} | {r['bytes']:,} | {first['bytes'] / r['bytes']:.2f} | {r['multiply_adds']:,} "
            f"| {first['multiply_adds'] / r['multiply_adds']:.2f} | {dice} | {seconds} |"
        )
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps({"model": a.model, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
