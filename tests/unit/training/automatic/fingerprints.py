"""Fingerprints of data that there are not, for plans."""

from __future__ import annotations

import math

from napari_medseq.training.automatic.fingerprint import ChannelFacts, ClassFacts, Fingerprint


def facts(
    shape: tuple[int, int, int] = (35, 50, 35),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    modality: str | None = "MR",
    cases: int = 20,
    frames: bool = False,
    sided: bool = False,
    channels: int = 1,
    size: float = 1500.0,
    reach: tuple[float, float, float] | None = None,
    off: tuple[float, float, float] | None = None,
    measured: int | None = None,
    names: tuple[str, ...] = (),
) -> Fingerprint:
    one = ChannelFacts(name="image", modality=modality, missing=0, low=-100, high=200, mean=50, std=40)
    several = tuple(one.model_copy(update={"name": n}) for n in names or [f"c{k}" for k in range(channels)])
    return Fingerprint(
        cases=cases, patients=cases, measured=cases if measured is None else measured,
        frames=frames, spacing_mm=spacing, shape=shape, largest=shape, spacings_differ=False,
        channels=several,
        classes={1: ClassFacts(name="one", cases=cases, median_mm3=size, across_mm=math.cbrt(6 * size / math.pi))},
        one_sided=(sided, True, True), reach_mm=reach, off_middle_mm=off,
    )  # fmt: skip
