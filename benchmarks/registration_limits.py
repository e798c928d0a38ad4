"""What separates registrations that are right from those that are wrong: each measure of both kinds, beside its limit.

Heads of synthetic patients are moved by known rigid motions, some further than any search can follow, some cut down to a part of the
head; and images that have nothing to do with one another (noise, another part of the body's grid turned upside down) are registered too. A
result is called right if points of the body end within `--right-mm` of where they belong, wrong beyond `--wrong-mm`; between, it is
left out. The table gives, for each limit of `registration.TrustLimits`, the worst value among the right, the best among the wrong,
and how many of each the limit alone refuses; the last rows count what all limits together do.

    python benchmarks/registration_limits.py [--patients 4] [--trials 3] [--out registration_limits.json]
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import napari_medseq as ms
from napari_medseq.errors import MedseqError, MedseqWarning
from napari_medseq.registration import Quality, TrustLimits
from napari_medseq.sequence import ImageSequence
from napari_medseq.synthetic import make_study
from registration import error_mm, moved, true_motion

#: name → (largest rotation about each axis in degrees, largest shift along each axis in mm); the last two are out of reach
MOTIONS = {"medium": (15.0, 15.0), "large": (30.0, 30.0), "too far": (90.0, 60.0), "upside down": (180.0, 10.0)}
LIMITS = TrustLimits()
#: limit → (measure of a quality, whether the limit is the least that it may be)
MEASURES: dict[str, tuple[Callable[[Quality], float], bool]] = {
    "min_covered": (lambda q: q.covered, True),
    "min_mi": (lambda q: q.mi_after, True),
    "min_mi_over_chance": (lambda q: q.mi_after / max(q.mi_chance, 1e-6), True),
    "max_rotation_deg": (lambda q: q.rotation_deg, False),
    "max_stretch": (lambda q: q.scale_max, False),
    "min_stretch": (lambda q: q.scale_min, True),
    "min_dice": (lambda q: q.dice, True),
}


def head(seed: int) -> ImageSequence:
    """A synthetic patient's first image."""
    study = make_study(seed=seed)
    study = getattr(study, "study", study)
    return study.visits[0].images[0].compute()


def part_of(image: ImageSequence, share: float) -> ImageSequence:
    """The image with all but `share` of its columns, from one side, cut away."""
    keep = max(8, round(share * image.size("x")))
    return image.replace(data=image.data[..., :keep])


def pairs(patients: int, trials: int) -> Iterator[tuple[str, ImageSequence, ImageSequence, np.ndarray | None]]:
    """Kind, moving, fixed, and the true fixed → moving where there is one."""
    for seed in range(patients):
        fixed = head(seed)
        for trial in range(trials):
            rng = np.random.default_rng([seed, trial])
            for kind, (degrees, shift) in MOTIONS.items():
                real = true_motion(fixed, rng, degrees, shift)
                yield kind, moved(fixed, real, rng), fixed, real
            real = true_motion(fixed, rng, 10.0, 10.0)
            for share in (0.6, 0.3):
                yield f"{share:.0%} of the head", part_of(moved(fixed, real, rng), share), fixed, real
            noise = rng.normal(100, 30, fixed.data.shape).astype(np.float32)
            yield "noise", fixed.replace(data=noise, name="noise"), fixed, None


def main() -> None:
    """Register all, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--right-mm", type=float, default=2.0)
    parser.add_argument("--wrong-mm", type=float, default=5.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    found: dict[bool, list[Quality]] = {True: [], False: []}
    between = impossible = 0
    for kind, moving, fixed, real in pairs(args.patients, args.trials):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedseqWarning)
            try:
                transform = ms.register(moving, fixed, on_failure="warn")
            except MedseqError:  # nothing in common at any start: refused before there is anything to measure
                impossible += 1
                continue
        error = float("inf") if real is None else error_mm(transform.linear, real, fixed)
        rows.append({"kind": kind, "error_mm": error, **transform.quality.model_dump(mode="json")})
        if args.right_mm < error <= args.wrong_mm:
            between += 1
            continue
        found[error <= args.right_mm].append(transform.quality)
    right, wrong = found[True], found[False]
    print(f"{len(right)} right, {len(wrong)} wrong, {between} between, {impossible} refused without a measure\n")
    print("| limit | value | right: worst | wrong: best | right refused by it alone | wrong refused by it alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (measure, least) in MEASURES.items():
        limit = float(getattr(LIMITS, name))
        a, b = (np.array([measure(q) for q in group]) for group in (right, wrong))
        worst, best = (a.min(), b.max()) if least else (a.max(), b.min())
        refused = [int((v < limit).sum() if least else (v > limit).sum()) for v in (a, b)]
        print(f"| `{name}` | {limit:g} | {worst:.3g} | {best:.3g} | {refused[0]} | {refused[1]} |")
    trusted = [sum(q.trustworthy for q in group) for group in (right, wrong)]
    print(f"\nall limits together refuse {len(right) - trusted[0]} of {len(right)} right results and let")
    print(f"{trusted[1]} of {len(wrong)} wrong ones pass")
    errors = {group: [q.error_mm for q in found[group]] for group in (True, False)}
    print(
        f"repetitions end {np.median(errors[True]):.2f} mm (right) and {np.median(errors[False]):.2f} mm (wrong) away"
    )
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
