"""The kind of images that a network learned from, as ranges of measurements, and the limits that `Doubt` derives from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_medseq.inference.doubts import Doubt, ends, field_of, step_of
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import Settings

Range = tuple[float, float]

ENOUGH = 10  # patients from which on their range represents others
JUDGES = 5  # validation patients from which on the certainty of their answers represents others
MARGIN = 1.25  # factor on the largest share of expected wrong voxels of the validation patients
WIDER = 1.3  # factor by which the ranges of fields of view and of slice distances are widened
PART = 0.3  # share of its width by which the range of values is widened on each side
_OF_IMAGE = 0.1  # and at least by this share of the range of one image's values
GOOD = 0.5  # Dice; a poorer answer does not show which certainty is enough


class Kind(Settings):
    """Ranges over the images, measured without their padding; None where unknown.

    Attributes
    ----------
    patients : int
        How many patients the images are of.
    field_mm, step_mm : (float, float) or None
        The least and the greatest field of view and distance of slices.
    low, high : (float, float) or None
        The range of the 1st and of the 99th percentile of the values of the first channel.
    """

    patients: int = 0
    field_mm: Range | None = None
    step_mm: Range | None = None
    low: Range | None = None
    high: Range | None = None

    def doubt(self, *, values: bool, always_there: bool) -> Doubt | None:
        """The limits beyond which another image is doubted; None where the patients are too few, or nothing is known.

        Parameters
        ----------
        values : bool
            Whether values have units, or a scale that is the same in all images.
        always_there : bool
            Whether every image shows what is segmented.
        """
        if self.patients < ENOUGH:
            return None
        low, high = (self.low, self.high) if values else (None, None)
        inner = 0.0 if low is None or high is None else (sum(high) - sum(low)) / 2
        doubt = Doubt(
            field_mm=_times_wider(self.field_mm),
            step_mm=_times_wider(self.step_mm),
            low=_wider(low, inner),
            high=_wider(high, inner),
            always_there=always_there,
        )
        return None if doubt == Doubt() else doubt

    def why(self, doubt: Doubt | None) -> str:
        """The reason for a doubt, or for none."""
        if doubt is None and self.patients < ENOUGH:
            return f"too few patients to represent others: {self.patients}"
        if doubt is None:
            return "the size of a pixel is unknown"
        known = {"fields of view": doubt.field_mm, "distances of slices": doubt.step_mm, "values": doubt.low}
        named = [name for name, of in known.items() if of is not None]
        told = [f"{', '.join(named)} beyond those of {self.patients} patients"] if named else []
        return " and ".join([*told, *(["an answer without what each of them has"] if doubt.always_there else [])])


class KindMeasuring:
    """Measures images one by one."""

    def __init__(self) -> None:
        self._patients = set[str]()
        self._fields, self._steps, self._ends = list[float](), list[float](), list[Range]()

    def add(self, patient: str, seen: ImageSequence) -> None:
        """Add an image, given without its padding."""
        self._patients.add(patient)
        field, step, values = field_of(seen), step_of(seen), ends(seen)
        self._fields += [] if field is None else [field]
        self._steps += [] if step is None else [step]
        self._ends += [] if values is None else [values]

    @property
    def result(self) -> Kind:
        """The ranges of all images that were added."""
        return Kind(
            patients=len(self._patients),
            field_mm=_range(self._fields),
            step_mm=_range(self._steps),
            low=_range([low for low, _ in self._ends]),
            high=_range([high for _, high in self._ends]),
        )


def _range(values: Sequence[float]) -> Range | None:
    return (min(values), max(values)) if values else None


def _times_wider(span: Range | None) -> Range | None:
    return None if span is None else (four_digits(span[0] / WIDER), four_digits(span[1] * WIDER))


def _wider(span: Range | None, of_image: float) -> Range | None:
    if span is None:
        return None
    more = max(PART * (span[1] - span[0]), _OF_IMAGE * of_image)
    return four_digits(span[0] - more), four_digits(span[1] + more)


def four_digits(value: float) -> float:
    """To four digits, for people."""
    return float(f"{value:.4g}")


def sure_enough(answers: dict[str, list[tuple[float, float]]]) -> float | None:
    """The limit `Doubt.above` from the answers on validation patients; None where these are too few.

    Parameters
    ----------
    answers : dict of str to list of (float, float)
        Patient → for each case the share of expected wrong voxels (NaN where nothing is labelled) and the mean Dice.
    """
    good = {p: [share for share, dice in own if dice >= GOOD and math.isfinite(share)] for p, own in answers.items()}
    largest = [max(shares) for shares in good.values() if shares]
    return math.ceil(100 * MARGIN * max(largest)) / 100 if len(largest) >= JUDGES else None
