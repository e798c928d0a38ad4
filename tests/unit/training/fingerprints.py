"""Fingerprints of data that there are not, for plans."""

from __future__ import annotations

from napari_medseq.training.fingerprint import ChannelFacts, ClassFacts, Fingerprint


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
) -> Fingerprint:
    channel = ChannelFacts(name="image", modality=modality, missing=0, low=-100, high=200, mean=50, std=40)
    return Fingerprint(
        cases=cases, patients=cases, frames=frames, spacing_mm=spacing, shape=shape, largest=shape, spacings_differ=False,
        channels=(channel,) * channels, classes={1: ClassFacts(name="one", cases=cases, median_mm3=size)},
        one_sided=(sided, True, True), reach_mm=reach, off_middle_mm=off,
    )  # fmt: skip
