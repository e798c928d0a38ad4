"""Quote the models' main numbers in the README from docs/benchmarks: ``python tools/model_numbers.py`` rewrites those lines.

Each number is the mean over patients of the mean over a patient's structures; in brackets how many patients.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START, STOP = "<!-- numbers made by tools/model_numbers.py -->", "<!-- end of numbers -->"


def _read(name: str) -> Any:
    return json.loads((ROOT / "docs" / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def dice(name: str, group: str) -> tuple[float, int]:
    """Mean Dice of a shipped model over the patients of a group, and their number."""
    patients = _read(f"shipped-{name}")["dice"][group]
    return mean(mean(v for v in values if v is not None) for values in patients.values()), len(patients)


def brain_tumour() -> tuple[float, float, int]:
    """Mean Dice with recurrence and without, over patients that were left out, and their number."""
    rows = defaultdict(list)
    for row in _read("brain_tumor")["segmentation"]:
        rows[row["patient"]].append((row["recurrent"], row["plain CNN"]))
    means = [tuple(map(mean, zip(*visits, strict=True))) for visits in rows.values()]
    recurrent, plain = map(mean, zip(*means, strict=True))
    return recurrent, plain, len(means)


def lines() -> list[str]:
    """The lines of the README."""
    hippocampus, many = dice("hippocampus", "all")
    heart, hearts = dice("left-ventricle", "ACDC")
    nodule, nodules = dice("lung-nodule", "network and consensus")
    raters, _ = dice("lung-nodule", "two radiologists")
    sarcoma, sarcomas = dice("sarcoma", "all")
    recurrent, plain, tumours = brain_tumour()
    return [
        f"- `hippocampus` Dice {hippocampus:.3f} ({many} patients); `left-ventricle` {heart:.3f} ({hearts}, another hospital and scanners)",
        f"- `lung-nodule` {nodule:.2f} with the consensus of radiologists ({nodules}; two of them agree at {raters:.2f}); "
        f"`sarcoma` {sarcoma:.2f} (only {sarcomas})",
        f"- `brain-tumor` {recurrent:.2f} ({tumours} patients with glioma, each left out in turn; "
        f"the same network without recurrence {plain:.2f})",
    ]


def text() -> str:
    """The README with the numbers of today."""
    before, _, rest = README.read_text(encoding="utf-8").partition(START)
    after = rest.partition(STOP)[2]
    return "\n".join([before + START, *lines(), STOP]) + after


if __name__ == "__main__":
    README.write_text(text(), encoding="utf-8")
    print("\n".join(lines()))
