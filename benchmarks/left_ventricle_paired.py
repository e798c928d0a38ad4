"""The `left-ventricle` that ships against the bundle that shipped before, on the patients of ACDC that were drawn to judge it.

    python benchmarks/left_ventricle_paired.py OLD_BUNDLE

Of the 70 patients a generator with a fixed seed drew 24 before anything was looked at; errors were studied on the other 46 alone.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch

import cardiac
import napari_medseq as ms
from napari_medseq import files
from napari_medseq.evaluation import paired

SEED, JUDGES = 12, 24


def judges() -> list[Path]:
    """Folders of the patients that judge."""
    folders = {p.name: p for p in cardiac.patients("acdc")}
    order = np.random.default_rng(SEED).permutation(sorted(folders))
    return [folders[str(name)] for name in sorted(order[:JUDGES])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    args = parser.parse_args()
    if not cardiac.DATA.is_dir():
        raise SystemExit(f"{cardiac.DATA} is not there; set MEDSEQ_DATA.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ms.MedseqWarning)
    classes = {"left ventricle": (1, cardiac.CAVITY["acdc"])}
    old, new = (cardiac.judge(ms.load_model(m), judges(), classes) for m in (args.old, "left-ventricle"))
    print(
        f"{len(new)} patients of ACDC\n\n| phase | before | now | now minus before, paired by patient |\n| --- | --- | --- | --- |"
    )
    for phases in (("ED",), ("ES",), cardiac.PHASES):
        a, b = (
            np.array([np.mean([found[p][q]["left ventricle"][0] for q in phases]) for p in new]) for found in (old, new)
        )
        print(f"| {' and '.join(phases)} | {a.mean():.3f} | {b.mean():.3f} | {paired(b, a)} |")
    files.write_json(
        cardiac.HERE.parent / "docs" / "benchmarks" / "left_ventricle_paired.json", {"before": old, "now": new}
    )


if __name__ == "__main__":
    main()
