"""Bundles from trained weights: facts, settings and a model card whose numbers are measured here, on the way that users take.

    python benchmarks/hippocampus.py --only ours
    python benchmarks/shipped_networks.py WEIGHTS # left-ventricle and lung-nodule
    python benchmarks/cardiac.py shipped          # once the left-ventricle is in place; then ship.py again, for its card
    python benchmarks/ship.py WEIGHTS [--only hippocampus …] [--out src/napari_medseq/bundles]
    python benchmarks/doubts.py measure           # then write: from where on an answer is doubted

WEIGHTS holds, for each model, ``<name>-…all.pt`` (trained on all patients: what ships), ``<name>-…fold0.pt`` (trained without the
patients that judge), and the names of these patients, in ``<name>-fold0.json`` or ``b_results.jsonl``. The network that did not see them
segments them by `ms.segment`, on their own grids; the card quotes their Dice with a bootstrap interval by patient. The hippocampus
model is the one that `hippocampus.py` trained: it was better on the same patients than the one from the GPU, and was judged itself.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import hippocampus
import napari_medseq as ms
import nodules
from napari_medseq import files
from napari_medseq.evaluation import intervals
from napari_medseq.models import bundle
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.grid import resample

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDSEQ_DATA", HERE.parents[1] / "shared" / "data"))
Images = ImageSequence | Mapping[str, ImageSequence]


@dataclass(frozen=True)
class Product:
    """A model that ships: what it is, how it is used, and what its card says."""

    classes: dict[int, str]
    channels: tuple[str, ...]
    modality: str | None
    patterns: tuple[str, ...]
    axis: str
    spacing: tuple[float | None, float, float]
    window: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    widths: tuple[int, ...]
    schemes: tuple[dict[str, object], ...]
    description: str
    data: str
    failures: tuple[str, ...]
    licence: str
    licence_url: str
    dropout: float = 0.0
    focus: tuple[int | None, int | None, int | None] = (None, None, None)
    position: tuple[float, float, float] | None = None
    mirrored: tuple[str, ...] = ()
    keep_largest: bool = False
    own_slices: bool = False
    trimmed: bool = True
    # rows and columns about the middle that gave the units in training, where an answer looks at all
    learned: int | None = None


FLAT, CUBE = (1, 2, 2), (2, 2, 2)
ROBUST: dict[str, object] = {"kind": "robust"}
BY = "https://creativecommons.org/licenses/by/3.0/"
PRODUCTS = {
    "hippocampus": Product(
        {1: "anterior", 2: "posterior"}, ("image",), "MR", ("*hippocampus*",), "y", (1.0, 1.0, 1.0), (56, 40, 40), (FLAT, CUBE, CUBE),
        (16, 32, 64, 96), (ROBUST,),
        "Anterior and posterior hippocampus on T1 MR crops around it.",
        "192 crops (about 35×51×35 voxels of 1 mm) of Medical Segmentation Decathlon Task04 (Simpson et al. 2019, arXiv:1902.09063; "
        "Vanderbilt University Medical Center), CC BY-SA 4.0, by way of udacity/nd320-c3-3d-imaging-starter.",
        ("It was trained on crops around one hippocampus, not on whole heads: crop the image first.",
         "The data come from one centre and scanner type, and from adults."),
        "CC-BY-SA-4.0 (weights, as the training data)", "https://creativecommons.org/licenses/by-sa/4.0/",
    ),
    "left-ventricle": Product(
        {1: "left ventricle"}, ("image",), "MR", ("*cine*", "*SAX*", "*short*axis*"), "z", (None, 1.4, 1.4), (10, 160, 160), (FLAT,) * 4,
        (16, 32, 64, 96, 128), (ROBUST,),
        "Cavity of the left ventricle on short-axis cine MR, one phase at a time.",
        "30 patients of the Sunnybrook Cardiac Data (2009 challenge), end-diastole and end-systole, CC0, by way of "
        "mshunshin/SegNetCMR; 8 bit, spacing nominal (1.4×1.4×8 mm).",
        ("It uses only the middle 160×160 pixels of 1.4 mm: a heart near the border of the image is cut off.",
         "Every training slice contains the ventricle: beyond base and apex, the network labels where an observer would not.",
         "It segments the endocardium only, not the myocardium or the right ventricle. Papillary muscles belong to the cavity.",
         "The outlines of Sunnybrook's files lie farther out than those of other observers, and to the patient's left "
         "(`benchmarks/contour_offset.py`). Most of that offset was removed before training, so the network labels a smaller cavity than "
         "these files do.",
         "Only the largest connected component of each patient is kept. A cavity that slices cut in two loses one part."),
        "CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/",
        focus=(None, 160, 160), keep_largest=True, own_slices=True,
    ),
    "lung-nodule": Product(
        {1: "nodule"}, ("image",), "CT", ("*nodule*",), "z", (None, 0.35, 0.35), (8, 144, 144), (FLAT,) * 4, (16, 32, 64, 96, 112),
        ({"kind": "fixed", "centre": 50.0, "scale": 50.0, "low": -1.0, "high": 4.1},),
        "The nodule in the middle of a crop of a chest CT.",
        "140 nodules of 85 patients of LIDC-IDRI (TCIA, doi 10.7937/K9/TCIA.2015.LO9QL9SX), CC BY 3.0, by way of periclesanfe/Pulmoseg; "
        "crops of 128×128 pixels, 8 bit, each slice stretched to 0–255 by itself, spacing nominal (0.7×0.7×2.5 mm). The training target is "
        "the share of the four radiologists who marked a voxel. The network labels what at least two of them would.",
        ("It segments the nodule in the middle of the crop. It finds no other, and does not decide whether there is one.",
         "It uses only the middle 72×72 pixels of 0.7 mm (50 mm): a larger nodule is cut off.",
         "It expects the intensities of the 8 bit crops, not Hounsfield units: rescale a lung window to 0–255 first.",
         "Training was stopped at three quarters of the schedule. The shipped weights are the moving average at that point.",
         "It does not reach the target of 0.85 against the consensus.",
         "Results are worst for nodules that touch the chest wall or vessels, and for those of few voxels. "
         "Radiologists differ most there, too."),
        "CC-BY-3.0 (weights, as the training data)", BY,
        focus=(None, 144, 144), position=(4.0, 72.0, 72.0), mirrored=("row", "column"), trimmed=False,
    ),
    "sarcoma": Product(
        {1: "tumour"}, ("CT", "PET", "MR"), None, (), "z", (3.27, 1.95, 1.95), (32, 80, 80), (FLAT, CUBE, CUBE), (16, 32, 64, 96),
        ({"kind": "fixed", "centre": 40.0, "scale": 80.0}, {"kind": "fixed", "centre": 1.0, "scale": 1.5}, ROBUST),
        "Soft-tissue sarcoma of the limbs on CT, PET (SUV) and T1 MR, or any of them.",
        "10 patients of the IBSI validation set (theibsi/data_sets), from TCIA Soft-tissue-Sarcoma "
        "(doi 10.7937/K9/TCIA.2015.7GO2GSKS), CC BY 3.0, cropped to 5 cm around the tumour.",
        ("It was trained only on crops around a tumour: on a whole body it will label much that is not tumour.",
         "There were ten patients, of whom two were used for evaluation: the interval above is wide.",
         "MR alone gives the worst results; see the table of modalities."),
        "CC-BY-3.0 (weights, as the training data)", BY, 0.1,
    ),
}  # fmt: skip


def case_files(name: str, patient: str) -> list[tuple[str, dict[str, Path], Path]]:
    """Case, its channels' files, and its labels'."""
    if name == "hippocampus":
        root = DATA / "hippocampus"
        return [(patient, {"image": root / "images" / f"{patient}.nii.gz"}, root / "labels" / f"{patient}.nii.gz")]
    if name == "lung-nodule":
        folders = sorted((DATA / "lung-nodules" / patient).glob("nodule-*"))
        return [(f"{patient} {n.name}", {"image": n / "CT.nii.gz"}, n / "CT_mask.nii.gz") for n in folders]
    if name == "left-ventricle":
        root = DATA / "cardiac-sunnybrook" / patient
        return [(f"{patient} {p}", {"image": root / f"{p}.nii.gz"}, root / f"{p}_labels.nii.gz") for p in ("ED", "ES")]
    root = (
        DATA
        / "sarcoma"
        / "nifti"
        / next(p.name for p in (DATA / "sarcoma" / "nifti").iterdir() if p.name.endswith(patient[-3:]))
    )
    images = {c: root / f"{m}_image.nii.gz" for c, m in (("CT", "CT"), ("PET", "PET"), ("MR", "MR_T1"))}
    return [(patient, images, root / "CT_mask.nii.gz")]


def read_case(images: Mapping[str, Path], labels: Path) -> tuple[dict[str, ImageSequence], ImageSequence]:
    return {c: ms.read(p, kind="image")[0] for c, p in images.items()}, ms.read(labels, kind="labels")[0]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint, or of a bundle."""
    if path.is_dir():
        return ms.load_model(path).network.state_dict()
    content: dict[str, dict[str, torch.Tensor]] = torch.load(path, map_location="cpu", weights_only=True)
    return content["weights"]


def write(name: str, product: Product, weights: Path, folder: Path, card: str) -> ms.Model:
    """A bundle of some weights."""
    licence = f"The weights in this folder: {product.licence}, {product.licence_url}\n\nThey were trained on: {product.data}\n"
    bundle.write_bundle(
        folder,
        facts={
            "name": name, "task": "segmentation", "modality": product.modality, "name_patterns": list(product.patterns),
            "channels": list(product.channels), "classes": {str(k): v for k, v in product.classes.items()}, "sequence_axis": "slices",
        },
        network={
            "_target_": "SlabUNet", "channels": len(product.channels) + (product.position is not None), "classes": len(product.classes) + 1,
            "widths": list(product.widths), "strides": [list(s) for s in product.strides], "dropout": product.dropout,
        },
        inference={
            "kind": "slab", "window": list(product.window), "precision": "bfloat16", "missing_channels": len(product.channels) > 1,
            "mirrored": list(product.mirrored), "keep_largest": product.keep_largest,
            "working": {
                "axis": product.axis, "spacing_mm": list(product.spacing), "schemes": [dict(s) for s in product.schemes],
                "focus": list(product.focus), "position": list(product.position) if product.position else None,
                "own_slices": product.own_slices, "trimmed": product.trimmed,
            },
        },
        weights={k: v.float() for k, v in tensors(weights).items()},
        card=card, licence_text=licence, description=product.description, licence=product.licence, version="0.1.0",
    )  # fmt: skip
    return ms.load_model(folder)


def dice(
    found: np.ndarray[tuple[int, ...], np.dtype[np.integer]],
    truth: np.ndarray[tuple[int, ...], np.dtype[np.integer]],
    k: int,
) -> float:
    total = float((found == k).sum() + (truth == k).sum())
    return 2 * float(((found == k) & (truth == k)).sum()) / total if total else float("nan")


def judged(
    name: str, product: Product, model: ms.Model, patients: list[str], only: tuple[str, ...] | None = None
) -> dict[str, list[float]]:
    """Patient to Dice of each class, over that patient's cases, by `ms.segment`."""
    scores: dict[str, list[float]] = {}
    for patient in patients:
        rows = []
        for _, images, labels in case_files(name, patient):
            channels, truth = read_case(images, labels)
            used: Images = (
                {c: channels[c] for c in (only or product.channels)} if len(channels) > 1 else channels["image"]
            )
            found = ms.segment(used, model, force=True).labels
            if not found.same_grid(truth, 0.1):  # another modality's grid: brought to that of the truth
                found = resample(found, truth.affine, truth.grid, interpolation="nearest")
            rows.append(
                [
                    dice(
                        found.volume_zyx(),
                        truth.volume_zyx() > 0 if len(product.classes) == 1 else truth.volume_zyx(),
                        k,
                    )
                    for k in product.classes
                ]
            )
        scores[patient] = np.nanmean(np.array(rows), axis=0).tolist()
    return scores


def row(scores: Mapping[str, list[float]]) -> str:
    values = np.array(list(scores.values()))
    each = " | ".join(f"{v:.3f}" for v in values.mean(0))
    return f"{each} | {intervals.bootstrap(values.mean(1))} | {values.mean(1).min():.3f}"


ITSELF = """The shipped network was trained on {learned} patients for 18.5 processor minutes on one thread, with the default settings of
`napari-medseq train`. It was evaluated on the patients below, which it never saw."""
ALIKE = """A network trained on four fifths of the patients was evaluated on the others. The shipped network was trained in the same
way on all of them, so none are left to evaluate it on. Both had {seconds:.0f} s of an H100 shared with nine other trainings."""
SMALLER = """A network trained on four fifths of the patients was evaluated on the others: {judged}. The shipped network was trained on all
patients, so none are left to evaluate it on: {shipped}. The figures are therefore those of a network with less training."""
FOLDS = """On {folds} of five fifths of the patients, a network trained on the other patients was evaluated. Each was trained like the
shipped one: {judged}. The shipped network was trained on all patients ({shipped}), so none are left to evaluate it on."""
ABROAD = """The shipped network was evaluated on another dataset, ACDC 2017 (another hospital, other scanners, not used for training;
`benchmarks/cardiac.py shipped`)."""


def told_of(path: Path) -> str:
    """How long a network of a checkpoint learned, and from how much."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    parts = [*content.get("before", []), content]
    where = {"cuda": "of a GPU", "cpu": "of one processor core"}
    return ", then ".join(f"{c['seen']:,} windows in {c['seconds']:.0f} s {where[c['device']]}" for c in parts)


def judges_of(path: Path) -> list[str]:
    """The patients that a network of a fold did not see."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if "judges" in content:
        return sorted(content["judges"])
    return sorted(json.loads(path.with_suffix(".json").read_text())["rows"]["plain@0.5"])


@dataclass(frozen=True)
class Table:
    """What a card says of the split, and its lines."""

    split: str
    lines: list[str]
    patients: list[str]
    found: dict[str, dict[str, list[float]]]


def head_of(product: Product, first: str = "images") -> list[str]:
    titles = " | ".join(["patients", *product.classes.values(), "mean (95 %, by patient)", "worst patient"])
    return [f"| {first} | {titles} |", "|" + " --- |" * (len(product.classes) + 4)]


def of_ventricle(weights: Path, product: Product) -> Table:
    """Of a fifth of the patients where that network is there, and of another data set."""
    split, lines = "", head_of(product, "patients of")
    judges: list[str] = []
    found: dict[str, dict[str, list[float]]] = {}
    part = weights / "left-ventricle-fold0.pt"
    if part.exists():
        judges = judges_of(part)
        with tempfile.TemporaryDirectory() as temporary:
            model = write("left-ventricle", product, part, Path(temporary) / "left-ventricle", "")
            found["Sunnybrook, unseen"] = judged("left-ventricle", product, model, judges)
        split = SMALLER.format(judged=told_of(part), shipped=told_of(weights / "left-ventricle-all.pt")) + "\n"
    else:
        split = "There is no figure for unseen patients of its own dataset, because the weights of the fold for evaluation were lost.\n"
    path = HERE.parent / "docs" / "benchmarks" / "cardiac-shipped.json"
    if path.exists():
        abroad = json.loads(path.read_text())["found"]
        found["ACDC"] = {p: [float(np.mean([v["left ventricle"][0] for v in of.values()]))] for p, of in abroad.items()}
        split += ABROAD
    lines += [f"| {name} | {len(scores)} | {row(scores)} |" for name, scores in found.items()]
    return Table(split, lines, judges, found)


def of_nodule(weights: Path, product: Product) -> Table:
    """Of the networks of folds, each on its own fifth of the patients, with how well the raters themselves agree."""
    scores: dict[str, list[float]] = {}
    parts = sorted(weights.glob("lung-nodule-fold*.pt"))
    judges = sorted(patient for part in parts for patient in judges_of(part))
    with tempfile.TemporaryDirectory() as temporary:
        for part in parts:
            own = judges_of(part)
            model = write("lung-nodule", product, part, Path(temporary) / part.stem, "")
            scores |= nodules.judge(model, [n for n in nodules.nodules() if n.parent.name in own])
    by_patient = {p: np.mean([v for k, v in scores.items() if k.split()[0] == p], axis=0).tolist() for p in judges}
    names = (
        "network and consensus",
        "a radiologist and the consensus",
        "network and a radiologist",
        "two radiologists",
    )
    found = {name: {p: [float(v[k])] for p, v in by_patient.items()} for k, name in enumerate(names)}
    lines = [
        *head_of(product, "agreement of"),
        *(f"| {name} | {len(judges)} | {row(of)} |" for name, of in found.items()),
    ]
    split = FOLDS.format(
        folds=len(parts),
        judged="; ".join(told_of(part) for part in parts),
        shipped=told_of(weights / "lung-nodule-all.pt"),
    )
    return Table(split, lines, judges, found)


def card(name: str, product: Product, lines: list[str], split: str) -> str:
    failures = "\n".join(f"- {f}" for f in product.failures)
    middle = f" The network uses the middle {product.focus[1]}×{product.focus[2]} pixels." if product.focus[1] else ""
    along = "its own slices, in whichever direction they lie" if product.own_slices else product.axis
    padding = " Borders of one value are left out." if product.trimmed else ""
    spacing = " × ".join("own" if s is None else f"{s:g}" for s in product.spacing)
    return f"""# {name}

**Research software, not a medical device. Not for diagnosis or treatment decisions.**

{product.description} The network is a `SlabUNet`: 3D convolutions over slabs of neighbouring slices, with
instance norm and deep supervision. It has no recurrence: a gated recurrence along the slices, tried at the two coarsest levels and at all
levels of the hippocampus network, did not help.

## Use
- Input: {", ".join(product.channels)}, resampled to {spacing} mm (step, row, column) along {along}.{middle}{padding}
- Output: {", ".join(f"{k} = {v}" for k, v in product.classes.items())}, on the grid of the first image given.
- docs/benchmarks.md shows how layout, spacing, field of view, contrast and noise change the answer, and when it is doubted.

## Data
{product.data}

## Split and numbers
{split} Dice on the images' own grids, by `ms.segment`:

{chr(10).join(lines)}

## Known failures
{failures}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--only", nargs="*", default=list(PRODUCTS))
    parser.add_argument("--out", type=Path, default=HERE.parent / "src" / "napari_medseq" / "bundles")
    args = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there; set MEDSEQ_DATA.")
    warnings.simplefilter("ignore", ms.MedseqWarning)
    for name in args.only:
        product = PRODUCTS[name]
        ship_weights = args.weights / f"{name}-all.pt"
        if name == "left-ventricle":
            table = of_ventricle(args.weights, product)
        elif name == "lung-nodule":
            table = of_nodule(args.weights, product)
        else:
            table, ship_weights = of_first_run(name, product, args.weights)
        print("\n".join([name, *table.lines]), flush=True)
        write(name, product, ship_weights, args.out / name, card(name, product, table.lines, table.split))
        files.write_json(
            HERE.parent / "docs" / "benchmarks" / f"shipped-{name}.json",
            {"patients": table.patients, "dice": table.found, "classes": product.classes},
        )


def of_first_run(name: str, product: Product, weights: Path) -> tuple[Table, Path]:
    """Of the networks of the first run on a GPU, and of the hippocampus of `hippocampus.py`; and what ships."""
    if name == "hippocampus":
        learn, patients = hippocampus.patients()
        judge_weights = ship_weights = HERE / "runs" / "hippocampus" / "bundle"
        split = ITSELF.format(learned=len(learn))
    else:
        told = [json.loads(line) for line in (weights / "b_results.jsonl").read_text().splitlines()]
        said = next(t for t in told if t["name"].startswith(f"{name}/") and t["name"].endswith("fold0"))
        stem = said["name"].rsplit("/", 1)[0].replace("/", "-")
        patients = sorted(said["by_patient"])
        judge_weights, ship_weights = (weights / f"{stem}-{k}.pt" for k in ("fold0", "all"))
        split = ALIKE.format(seconds=said["seconds"])
    with tempfile.TemporaryDirectory() as temporary:
        unseen = write(name, product, judge_weights, Path(temporary) / name, "")
        lines = head_of(product)
        found: dict[str, dict[str, list[float]]] = {"all": judged(name, product, unseen, patients)}
        lines.append(f"| {', '.join(product.channels)} | {len(patients)} | {row(found['all'])} |")
        if len(product.channels) > 1:
            for only in (("CT",), ("PET",), ("MR",), ("CT", "PET"), ("CT", "MR"), ("PET", "MR")):
                found[" and ".join(only)] = judged(name, product, unseen, patients, only)
                lines.append(f"| {' and '.join(only)} | {len(patients)} | {row(found[' and '.join(only)])} |")
    return Table(split, lines, patients, found), ship_weights


if __name__ == "__main__":
    main()
