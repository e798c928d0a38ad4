"""When the models that ship doubt their own answers: on images of their kind, and on others.

    python benchmarks/doubts.py measure [--only hippocampus …]   # what is missing; about three processor minutes
    python benchmarks/doubts.py write                            # the thresholds into the bundles
    python benchmarks/doubts.py table                            # with the thresholds that are there

A model's threshold is `MARGIN` times the largest share of expected wrong voxels (`inference/doubts.py`) of all images that it is set on,
its field of view and distance of slices go `WIDER` times beyond theirs, and its values a `PART` of their spread. The others of its kind are
for judging. Hearts whose Dice lies under `GOOD` (``cardiac.py shipped``) do not set it: to doubt these is right. What is measured is kept
in ``docs/benchmarks/doubts.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import hippocampus
import left_ventricle_paired
import napari_medseq as ms
import shifts
from napari_medseq import files
from napari_medseq.inference.doubts import Doubt, ends
from napari_medseq.volumes.trimming import trimmed

OUT = shifts.OUT.with_name("doubts.json")
BUNDLES = shifts.HERE.parent / "src" / "napari_medseq" / "bundles"
MARGIN, WIDER, PART = 1.25, 1.3, 0.3
GOOD = 0.8  # Dice
OTHERS = 4  # images of each other kind
PATTERNS = {
    "hippocampus": "hippocampus/images/*.nii.gz",
    "cine of ACDC": "cardiac-acdc/patient*/E[DS].nii.gz",
    "cine of Sunnybrook": "cardiac-sunnybrook/SC-*/E[DS].nii.gz",
    "T1 of a head": "brain-tumor-progression/sub-*/*/*_T1post.nii.gz",
    "FLAIR of a head": "glioma-flair/TCGA_*/FLAIR.nii.gz",
    "CT of a nodule": "lung-nodules/LIDC-*/nodule-*/CT.nii.gz",
    "CT of a limb": "sarcoma/nifti/STS_*/CT_image.nii.gz",
    "T1 of a limb": "sarcoma/nifti/STS_*/MR_T1_image.nii.gz",
}
#: the same nodules as other software would give them: HU by the usual lung window, or shares of it
SCALED = {"CT of a nodule in HU": (1400 / 255, -1000.0), "CT of a nodule, 0 to 1": (1 / 255, 0.0)}


@dataclass(frozen=True)
class Watched:
    """A model whose answers are doubted, and what of.

    Attributes
    ----------
    kinds : tuple of str
        Of `PATTERNS`, those that are its own.
    share, field, always_there, values, step : bool
        What is looked at: the share of expected wrong voxels, the field of view, whether it finds anything, the range of values, the
        distance of slices.
    slow : tuple of str
        Kinds of which one image suffices, because each takes long.
    """

    kinds: tuple[str, ...]
    share: bool
    field: bool
    always_there: bool
    values: bool = False
    step: bool = False
    slow: tuple[str, ...] = ()


WATCHED = {
    "hippocampus": Watched(
        ("hippocampus",),
        True,
        True,
        True,
        slow=("T1 of a head", "FLAIR of a head", "cine of ACDC", "cine of Sunnybrook"),
    ),
    "left-ventricle": Watched(("cine of ACDC", "cine of Sunnybrook"), True, False, True),
    "brain-tumor": Watched(("T1 of a head",), False, True, False, step=True),
    "lung-nodule": Watched(
        ("CT of a nodule",), False, False, False, values=True, slow=("T1 of a head", "FLAIR of a head")
    ),
}


def paths(kind: str) -> list[Path]:
    return sorted(shifts.DATA.glob(PATTERNS[kind.split(" in ")[0].split(",")[0]]))


def judges(model: str) -> set[str]:
    """Patients that no threshold is set on."""
    if model == "hippocampus":
        return set(hippocampus.patients()[1])
    return {p.name for p in left_ventricle_paired.judges()} if model == "left-ventricle" else set()


def patient(path: Path, kind: str) -> str:
    return path.name.removesuffix(".nii.gz") if kind == "hippocampus" else path.relative_to(shifts.DATA).parts[1]


def poor() -> set[str]:
    """The hearts of ACDC on which the answer is poor."""
    found = json.loads(OUT.with_name("cardiac-shipped.json").read_text())["found"]
    return {
        f"cardiac-acdc/{p}/{phase}.nii.gz"
        for p, of in found.items()
        for phase, row in of.items()
        if row["left ventricle"][0] < GOOD
    }


def read(path: Path, kind: str) -> ms.ImageSequence:
    image = ms.read(path, kind="image")[0]
    scale, shift = SCALED.get(kind, (1.0, 0.0))
    return image if kind not in SCALED else image.replace(data=image.volume_zyx().astype(np.float32) * scale + shift)


def measured(path: Path, kind: str, model: ms.Model) -> dict[str, float]:
    """Expected wrong voxels, labelled voxels, field of view and range of values of one image."""
    image = read(path, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = ms.segment(image, model, outputs=("labels", "probability"), device="cpu", force=True)
    assert answer.probability is not None
    p = answer.probability.volume_zyx()
    seen = trimmed(image)
    sides = [seen.size(a) * seen.spacing[a] for a in "zyx" if a != seen.slice_axis]
    labelled = int(np.count_nonzero(answer.labels.volume_zyx()))
    low, high = ends(seen) or (0.0, 0.0)
    return {
        "wrong": float(np.minimum(p, 1 - p).sum()),
        "labelled": labelled,
        "field_mm": max(sides),
        "low": low,
        "high": high,
    }


def spread(found: list[Path], most: int) -> list[Path]:
    return [found[int(k)] for k in np.linspace(0, len(found) - 1, min(most, len(found)))]


def measure(names: Iterable[str], found: dict[str, dict[str, dict[str, dict[str, float]]]]) -> None:
    for name in names:
        watched, model = WATCHED[name], ms.load_model(name)
        for kind in (*PATTERNS, *(SCALED if watched.values else ())):
            most = len(paths(kind)) if kind in watched.kinds else 1 if kind in watched.slow else OTHERS
            of_kind = found.setdefault(name, {}).setdefault(kind, {})
            for path in spread(paths(kind), most):
                key = path.relative_to(shifts.DATA).as_posix()
                if key not in of_kind:
                    of_kind[key] = measured(path, kind, model)
            files.write_json(OUT, found)
            print(f"  {name}: {kind}", file=sys.stderr, flush=True)


def thresholds(name: str, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Doubt:
    """Set on the images of its kind that are not for judging."""
    watched, left_out, without = WATCHED[name], judges(name), poor()
    own = [
        row
        for kind in watched.kinds
        for key, row in found[kind].items()
        if patient(shifts.DATA / key, kind) not in left_out and key not in without
    ]
    shares = [r["wrong"] / r["labelled"] for r in own if r["labelled"]]
    fields = [r["field_mm"] for r in own]
    return Doubt(
        above=float(np.ceil(100 * MARGIN * max(shares)) / 100) if watched.share else None,
        field_mm=(float(np.floor(min(fields) / WIDER)), float(np.ceil(max(fields) * WIDER))) if watched.field else None,
        step_mm=_steps(watched.kinds) if watched.step else None,
        low=_wider([r["low"] for r in own]) if watched.values else None,
        high=_wider([r["high"] for r in own]) if watched.values else None,
        always_there=watched.always_there,
    )


def _steps(kinds: Iterable[str]) -> tuple[float, float]:
    images = [ms.read(p, kind="image", lazy=True)[0] for kind in kinds for p in paths(kind)]
    steps = [i.spacing[i.slice_axis] for i in images]
    return round(min(steps) / WIDER, 1), round(max(steps) * WIDER, 1)


def _wider(values: list[float]) -> tuple[float, float]:
    more = PART * (max(values) - min(values))
    return float(np.floor(min(values) - more)), float(np.ceil(max(values) + more))


def doubted(name: str, key: str, kind: str, row: Mapping[str, float], doubt: Doubt) -> bool:
    """Whether the model would doubt this answer."""
    image = trimmed(read(shifts.DATA / key, kind))
    return bool(
        doubt.of_field(image, name)
        or doubt.of_values(image, name)
        or doubt.of(row["wrong"], int(row["labelled"]), key, name)
    )


def table(found: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> str:
    lines = [
        "| model | images | n | expected wrong, as a share of the labelled voxels | doubted |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    without = poor()
    for name, kinds in found.items():
        doubt = Doubt.model_validate(ms.load_model(name).inference["doubt"])
        left_out = judges(name)
        for kind, rows in sorted(kinds.items(), key=lambda item: item[0] not in WATCHED[name].kinds):
            own = kind in WATCHED[name].kinds
            parts = {"": rows}
            if own and left_out:
                of_judges = {k: r for k, r in rows.items() if patient(shifts.DATA / k, kind) in left_out}
                parts = {
                    ", the threshold set on them": {k: r for k, r in rows.items() if k not in of_judges},
                    ", judges": of_judges,
                }
            if own and any(k in without for k in rows):
                parts = {
                    f"{word}, Dice {sign} {GOOD}": {k: r for k, r in part.items() if (k in without) == is_poor}
                    for word, part in parts.items()
                    for is_poor, sign in ((False, "≥"), (True, "<"))
                }
            for word, part in parts.items():
                if not part:
                    continue
                shares = [r["wrong"] / r["labelled"] if r["labelled"] else np.inf for r in part.values()]
                told = sum(doubted(name, k, kind, r, doubt) for k, r in part.items())
                span = " to ".join("nothing found" if np.isinf(v) else f"{v:.2f}" for v in (min(shares), max(shares)))
                lines.append(
                    f"| {name} | {'**its own**: ' if own else ''}{kind}{word} | {len(part)} | {span} | {told} |"
                )
    return "\n".join(lines)


def write(found: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> None:
    for name, kinds in found.items():
        path = BUNDLES / name / "configs" / "inference.json"
        config = json.loads(path.read_text())
        doubt = thresholds(name, kinds)
        config["inference"]["doubt"] = json.loads(doubt.model_dump_json())
        path.write_text(json.dumps(config, indent=2) + "\n")
        print(name, doubt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("measure", "write", "table"))
    parser.add_argument("--only", nargs="*", choices=WATCHED, default=list(WATCHED))
    args = parser.parse_args()
    if not shifts.DATA.is_dir():
        raise SystemExit(f"{shifts.DATA} is not there; set MEDSEQ_DATA.")
    torch.set_num_threads(1)
    found = json.loads(OUT.read_text()) if OUT.exists() else {}
    if args.part == "measure":
        measure(args.only, found)
    elif args.part == "write":
        write(found)
    else:
        print(table({n: found[n] for n in args.only if n in found}))


if __name__ == "__main__":
    main()
