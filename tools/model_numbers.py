"""Quote the models' main numbers in the README from docs/benchmarks: ``python tools/model_numbers.py`` rewrites those lines.

Each number is the mean over patients of the mean over a patient's structures, in brackets how many patients; those of `propagate` are
means over objects.
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


def carried(group: str) -> str:
    """Mean Dice of the objects of a set after one, three and five painted slices."""
    rows = [r for r in _read("propagate")["rows"] if r.get("set") == group and r["method"] == "network"]
    return " / ".join(f"{mean(r['dice'] for r in rows if r['count'] == count):.2f}" for count in (1, 3, 5))


def next_visit(method: str) -> tuple[float, int]:
    """Mean Dice at the second visit, from the mask of the first, and how many patients."""
    found = [r["dice"] for r in _read("propagate")["rows"] if r["part"] == "visits" and r["method"] == method]
    return mean(found), len(found)


def lines() -> list[str]:
    """The lines of the README."""
    hippocampus, many = dice("hippocampus", "all")
    heart, hearts = dice("left-ventricle", "ACDC")
    nodule, nodules = dice("lung-nodule", "network and consensus")
    raters, _ = dice("lung-nodule", "two radiologists")
    sarcoma, sarcomas = dice("sarcoma", "all")
    recurrent, plain, tumours = brain_tumour()
    visits, patients = next_visit("network")
    unchanged, _ = next_visit("earlier mask")
    return [
        f"- `propagate` after 1 / 3 / 5 painted slices, all other slices judged: hippocampus {carried('hippocampus')}, hearts "
        f"{carried('acdc')}, gliomas {carried('flair')}",
        f"- `propagate` from the mask of an earlier visit alone: {visits:.2f} ({patients} patients with glioblastoma; that mask unchanged "
        f"{unchanged:.2f})",
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
