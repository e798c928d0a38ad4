"""The captioner on report sentences of known truth: BLEU, a CIDEr-like score, and how many clinical facts are right.

Seeded pairs of slices (two visits of a head with a lesion that is new, grew, shrank, is stable or gone; left or right, anterior or
posterior, small or large) with the sentence that rules make of the truth, in three wordings. Two thirds are for training. Beside the
network: the sentence that is most frequent in training, and the sentence of the training case whose pixels are nearest.

    python benchmarks/captioner.py [--cases 2400] [--epochs 16] [--seeds 3] [--out captioner.json]

About 3 minutes on one idle core; `--quick` takes under one and shows only that it runs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from napari_medseq.models.captioner import MARK
from napari_medseq.training.captioning import train_captioner
from sentence_scores import bleu, cider, facts_right

SIZE = 40
FACTS = {"side": ["left", "right"], "depth": ["anterior", "posterior"], "size": ["small", "large"]}
WORDING = {
    "new": ("is new.", "has appeared as new.", "is new since the last visit."),
    "grew": ("grew.", "has grown.", "is larger than before."),
    "shrank": ("shrank.", "has shrunk.", "is smaller than before."),
    "stable": ("is stable.", "is unchanged.", "is stable since the last visit."),
    "gone": ("has resolved.", "is gone.", "has resolved since the last visit."),
}


def case(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Two slices (step, 1, y, x) and the sentence."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    event = str(rng.choice(list(WORDING)))
    large, right, front = rng.random(3) < 0.5
    place = np.array([(-1 if front else 1), (-1 if right else 1)]) * rng.uniform(0.25, 0.5, 2)
    radius = rng.uniform(0.2, 0.27) if large else rng.uniform(0.09, 0.13)
    factor = rng.uniform(1.35, 1.6)
    radii = {"new": (0, radius), "grew": (radius / factor, radius), "shrank": (radius * factor, radius)}
    radii |= {"stable": (radius, radius), "gone": (radius, 0)}
    head = (x / 0.8) ** 2 + (y / 0.92) ** 2 < 1
    tissue = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 2.5)
    steps = []
    for r in radii[event]:
        drift = rng.normal(0, 0.015, 2)
        lesion = (x - place[1] - drift[1]) ** 2 + (y - place[0] - drift[0]) ** 2 < r * r
        image = head * (1 + tissue / tissue.std() * 0.25) + 1.2 * lesion + rng.normal(0, 0.1, x.shape)
        steps.append(ndimage.gaussian_filter(image, 0.6) - 0.7)
    where = f"the {'right' if right else 'left'} {'anterior' if front else 'posterior'} part"
    text = f"A {'large' if large else 'small'} lesion in {where} {rng.choice(WORDING[event])}"
    return np.array(steps)[:, None].astype(np.float32), text


def one_run(cases: int, epochs: int, seed: int) -> dict[str, dict[str, float]]:
    """Scores of all writers on the last third."""
    rng = np.random.default_rng(seed)
    images, texts = zip(*(case(rng) for _ in range(cases)), strict=True)
    seen = np.stack(images)
    cut = 2 * cases // 3
    network, vocabulary = train_captioner(
        seen[:cut], texts[:cut], epochs=epochs, batch=32, learning_rate=4e-3, seed=seed, channels=8, hidden=64
    )
    written = [c.text.removeprefix(MARK) for c in network.describe(torch.from_numpy(seen[cut:]), vocabulary)]
    flat = seen.reshape(cases, -1)
    nearest = [texts[int(((flat[:cut] - f) ** 2).sum(1).argmin())] for f in flat[cut:]]
    common = Counter(texts[:cut]).most_common(1)[0][0]
    rows = {}
    for name, found in (("captioner", written), ("nearest case", nearest), ("most frequent", [common] * len(nearest))):
        facts = facts_right(found, texts[cut:], FACTS)
        event = np.mean([_event(f) == _event(t) for f, t in zip(found, texts[cut:], strict=True)])
        rows[name] = {
            "BLEU-4": bleu(found, texts[cut:]),
            "CIDEr-like": cider(found, texts[cut:]),
            "event": float(event),
            **facts,
        }
    return rows


def _event(text: str) -> str:
    """The event a sentence states, whatever its wording."""
    return next((event for event, endings in WORDING.items() if text.lower().endswith(endings)), "none")


def main() -> None:
    """Run all seeds, print side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.cases, args.epochs, args.seeds = 600, 12, 1
    runs = [one_run(args.cases, args.epochs, seed) for seed in range(args.seeds)]
    figures = list(next(iter(runs[0].values())))
    print(f"{args.seeds} seeds, {args.cases - 2 * args.cases // 3} unseen cases each: median (range)")
    print(f"| writer | {' | '.join(figures)} |\n|{' --- |' * (len(figures) + 1)}")
    for writer in runs[0]:
        cells = []
        for figure in figures:
            values = [run[writer][figure] for run in runs]
            cells.append(f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})")
        print(f"| {writer} | {' | '.join(cells)} |")
    if args.out:
        args.out.write_text(json.dumps(runs, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
