"""The pruned and fine-tuned networks of ``benchmarks/compression.py``: one for each held-out patient, made once and kept.

    python benchmarks/pruned.py [PATIENT ...] [--minutes 11]      # makes what is not there yet; five minutes each on a free core

Each starts from the network that was trained without that patient, keeps three quarters of the channels, and is trained again on the
other patients and on synthetic heads, half by the labels and half by what the unpruned network says.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

import brain_tumor
import rivals

FOLDS = Path("runs/brain-tumor/segmentation")
RUNS = Path("runs/compression")
KEEP = 0.75


def fold(patient: str) -> Path | None:
    """The network trained without a patient: of the last stage that has ended."""
    stages = (FOLDS / f"{patient}-gru{stage}" for stage in ("-middle", "-early"))
    return next((f for f in stages if f.is_dir()), None)


def folder(patient: str) -> Path:
    return RUNS / patient / "pruned"


def settings(patient: str, minutes: float) -> dict[str, Any]:
    """Of ``ms.compress``."""
    config = brain_tumor.config("segmentation", "lastfold", "gru", patient, FOLDS.parent)
    loop = config.loop.model_copy(update={"iterations": 400, "minutes": minutes, "batch": 1, "rate": 8e-4})
    config = config.model_copy(update={"name": "pruned", "start_from": None, "loop": loop})
    return {"out": str(folder(patient)), "name": "pruned", "keep": KEEP, "fine_tune": config, "storage": "float32"}


def make(patient: str, minutes: float) -> None:
    """Prune and tune one network; an interrupted training goes on."""
    import napari_medseq as ms

    start = fold(patient)
    if start is None:
        raise SystemExit(f"There is no network trained without {patient}: run benchmarks/brain_tumor.py all first.")
    folder(patient).parent.mkdir(parents=True, exist_ok=True)
    for heads in FOLDS.glob("heads-*.pt"):  # made once for all
        if not (folder(patient).parent / heads.name).exists():
            os.link(heads, folder(patient).parent / heads.name)
    began = time.monotonic()

    def say(done: int, total: int, message: str) -> None:
        if done % 20 == 0:
            print(f"{patient} {done}/{total} {message} {time.monotonic() - began:.0f} s", flush=True)

    ms.compress(str(start), settings(patient, minutes), progress=say)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patients", nargs="*", metavar="PATIENT", help="some of the three only")
    parser.add_argument("--minutes", type=float, default=11.0, help="most for each patient")
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    for patient in a.patients or rivals.HELD_OUT:
        if not folder(patient).is_dir():
            make(patient, a.minutes)


if __name__ == "__main__":
    main()
