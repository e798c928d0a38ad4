"""Two visits of real patients: what our model's masks say changed, beside what the experts' masks say.

For each patient with two visits and expert masks: total volumes, whether the direction of change agrees where the experts' change
exceeds 25 %, Bland-Altman of volumes, and whether events agree for lesions of 0.5 mL and more. Lesions of both are told
apart and followed by the same `ms.track`; two lesions are the same where they share voxels.

    python benchmarks/real_progression.py STUDIES [--bundles runs/brain-tumor/segmentation] [--quick] [--out real_progression.json]

STUDIES is a folder of patients (sub-*/ses-*/). Where the folder of bundles holds ``<patient>-gru``, a model that never saw the
patient, that is used: the honest figure. Else `--model` (the shipped one, which was trained on these patients) is, and the
table says so. About 20 s per patient on two idle cores; `--quick` takes three patients.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import napari_medseq as ms
from napari_medseq.progression.change import Z95
from napari_medseq.sequence import ImageSequence, Study

SMALLEST_ML, CLEAR_PERCENT = 0.5, 25.0
#: events of one visit to the next that mean the same direction
_GROUP = {"new": "more", "growing": "more", "resolved": "less", "shrinking": "less", "stable": "same"}


def masks_of(study: Study, model: ms.Model) -> tuple[list[ImageSequence], list[ImageSequence]]:
    """The experts' masks and the model's, one per visit."""
    images = [visit.images[0] for visit in study.visits]
    return [visit.labels[0].compute() for visit in study.visits], [ms.segment(i, model).labels for i in images]


def changed(before: float, after: float) -> float:
    """Percent; from nothing, infinite."""
    if before == 0:
        return 0.0 if after == 0 else float("inf")
    return 100 * (after - before) / before


def followed(masks: list[ImageSequence], study: Study) -> ms.Progression:
    """Tracked by the public verb, with the real dates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ms.MedseqWarning)
        return ms.track(masks, dates=[visit.date for visit in study.visits])


def events(expert: ms.Progression, ours: ms.Progression) -> list[dict[str, Any]]:
    """What each says of every expert lesion of `SMALLEST_ML` or more at either visit.

    Our answer for a lesion is that of the lesion of ours that shares most voxels with it, at the later visit or, where it is gone,
    at the earlier one; "missed" where none does.
    """
    rows = []
    for lesion, sightings in expert.lesions.groupby("lesion"):
        if sightings["volume_ml"].max() < SMALLEST_ML or sightings["visit"].max() == 0:
            continue
        last = sightings[sightings["visit"] == 1].iloc[0]
        visit = 1 if last["volume_ml"] > 0 else 0
        inside = np.asarray(ours.labels[visit].data)[np.asarray(expert.labels[visit].data) == lesion]
        inside = inside[inside > 0]
        answer = "missed"
        if inside.size:
            twin = int(np.bincount(inside).argmax())
            found = ours.lesions.query(f"lesion == {twin} and visit == 1")
            answer = str(found["event"].iloc[0]) if len(found) else "missed"
        rows.append(
            {
                "lesion": int(lesion),
                "volume_ml": float(sightings["volume_ml"].max()),
                "expert": last["event"],
                "ours": answer,
            }
        )
    return rows


def of_patient(folder: Path, model: ms.Model, source: str) -> dict[str, Any]:
    """All figures of one patient."""
    study = ms.read_study(folder)
    expert, ours = (followed(masks, study) for masks in masks_of(study, model))
    truth, found = (p.summary["volume_ml"].tolist() for p in (expert, ours))
    return {
        "patient": folder.name,
        "model": source,
        "expert_ml": truth,
        "ours_ml": found,
        "expert_percent": changed(*truth[:2]),
        "ours_percent": changed(*found[:2]),
        "events": events(expert, ours),
    }


def bland_altman(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Mean difference (ours minus expert) and 95 % limits, in mL and in percent of the mean of both."""
    truth, found = np.array(pairs).T
    figures: dict[str, Any] = {"n": len(pairs)}
    mean = (truth + found) / 2
    for unit, d in (("ml", found - truth), ("percent", 100 * (found - truth) / np.where(mean > 0, mean, 1))):
        bias, sd = float(d.mean()), float(d.std(ddof=1))
        figures[unit] = {"bias": bias, "low": bias - Z95 * sd, "high": bias + Z95 * sd}
    return figures


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Print the tables; return their figures."""
    print("\n| patient | model | expert (mL) | ours (mL) | expert change | our change | direction |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    clear = []
    for row in rows:
        truth, found = row["expert_percent"], row["ours_percent"]
        asked = abs(truth) > CLEAR_PERCENT
        agrees = bool(np.sign(truth) == np.sign(found))
        clear += [agrees] if asked else []
        word = "-" if not asked else "agrees" if agrees else "DISAGREES"
        volumes = [" → ".join(f"{v:.2f}" for v in row[k]) for k in ("expert_ml", "ours_ml")]
        print(
            f"| {row['patient']} | {row['model']} | {volumes[0]} | {volumes[1]} | {truth:+.0f} % | {found:+.0f} % | {word} |"
        )
    pairs = [(a, b) for row in rows for a, b in zip(row["expert_ml"], row["ours_ml"], strict=True)]
    agreement = bland_altman(pairs)
    every = [e for row in rows for e in row["events"]]
    same = sum(e["expert"] == e["ours"] for e in every)
    kind = sum(_GROUP.get(e["expert"], e["expert"]) == _GROUP.get(e["ours"], e["ours"]) for e in every)
    print(
        f"\nDirection of change agrees in {sum(clear)} of {len(clear)} patients whose expert change exceeds {CLEAR_PERCENT:g} %."
    )
    for unit, sign in (("ml", "mL"), ("percent", "%")):
        b = agreement[unit]
        print(
            f"Bland-Altman, {agreement['n']} volumes: bias {b['bias']:+.2f} {sign}, 95 % limits {b['low']:+.2f} to {b['high']:+.2f} {sign}."
        )
    print(
        f"Events of lesions of {SMALLEST_ML} mL and more: {same} of {len(every)} named the same, {kind} of the same direction "
        f"({sum(e['ours'] == 'missed' for e in every)} missed)."
    )
    return {
        "direction": [sum(clear), len(clear)],
        "bland_altman": agreement,
        "events_same": [same, len(every)],
        "events_direction": [kind, len(every)],
    }


def main() -> None:
    """Run over the patients, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path)
    parser.add_argument("--bundles", type=Path, default=Path("runs/brain-tumor/segmentation"))
    parser.add_argument("--model", default="brain-tumor")
    parser.add_argument("--shipped", action="store_true", help="use --model for all, held-out bundles or not")
    parser.add_argument("--quick", action="store_true", help="three patients")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folders = sorted(p for p in args.studies.iterdir() if p.is_dir() and list(p.glob("ses-*")))
    rows = []
    for folder in folders[: 3 if args.quick else None]:
        held_out = args.bundles / f"{folder.name}-gru"
        use = held_out.is_dir() and not args.shipped
        model = ms.load_model(held_out if use else args.model)
        row = of_patient(folder, model, "held-out" if use else f"{args.model} (saw this patient)")
        rows.append(row)
        print(
            f"{folder.name}: {row['model']}: {row['expert_percent']:+.0f} % by the experts, {row['ours_percent']:+.0f} % by ours",
            flush=True,
        )
    figures = report(rows)
    if args.out:
        args.out.write_text(json.dumps({"patients": rows, "figures": figures}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
