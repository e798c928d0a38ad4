"""Doubt of a whole answer: how much of it the network itself expects to be wrong, compared with images of the kind that it knows.

Where probabilities are calibrated, thresholding them at one half gets ``min(p, 1 − p)`` of a voxel wrong. The sum of that, as a share of
the labelled voxels, is small on images like those of training, and several times as large on another organ, modality, scale or spacing
(``benchmarks/doubts.py``; the same in the literature: Hendrycks & Gimpel 2017, ICLR, "A baseline for detecting misclassified and
out-of-distribution examples").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from napari_medseq.errors import warn
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.settings import Settings
from napari_medseq.volumes.sampling import spread


class Doubt(Settings):
    """The limits beyond which an answer is doubted.

    Attributes
    ----------
    above : float or None
        Expected wrong voxels, as a share of the labelled ones, that no image of the model's kind reached; None: any.
    field_mm : (float, float) or None
        The shortest and the greatest field of view: the longer side of a slice, without padding; None: any.
    step_mm : (float, float) or None
        The least and the greatest distance of slices; None: any.
    low, high : (float, float) or None
        The range in which the 1st and the 99th percentile of the values lie, for models whose values have units or a fixed scale; None:
        any.
    always_there : bool
        Whether every image of the model's kind shows what is segmented, so that an answer without it is doubted.
    """

    above: float | None = Field(None, gt=0)
    field_mm: tuple[float, float] | None = None
    step_mm: tuple[float, float] | None = None
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    always_there: bool = False

    def notes(
        self, wrong: float, labelled: int, seen: ImageSequence, model: str, *, averaged: bool = False
    ) -> list[str]:
        """The doubts of an answer, each warned of once.

        Parameters
        ----------
        wrong, labelled, model
            As for `of`.
        seen, averaged
            As for `of_image`.
        """
        of_answer = self.of(wrong, labelled, seen.name, model)
        return _told([*self._of_kind(seen, model, averaged=averaged), of_answer])

    def of_image(self, seen: ImageSequence, model: str, *, averaged: bool = False) -> list[str]:
        """The doubts of an image, whatever is answered about it, each warned of once.

        Parameters
        ----------
        seen : ImageSequence
            The image without its padding.
        model : str
        averaged : bool
            Whether the model saw averages of its slices.
        """
        return _told(self._of_kind(seen, model, averaged=averaged))

    def _of_kind(self, seen: ImageSequence, model: str, *, averaged: bool) -> list[str | None]:
        return [
            self.of_field(seen, model),
            self.of_step(seen, model, averaged=averaged),
            self.of_values(seen, model),
        ]

    def of_field(self, seen: ImageSequence, model: str) -> str | None:
        """The doubt of an image's field of view, in words; None where there is none, or where the spacing is unknown."""
        side = field_of(seen)
        if self.field_mm is None or side is None:
            return None
        low, high = self.field_mm
        if low <= side <= high:
            return None
        return f"{seen.name}: its slices are {side:.0f} mm wide; those that {model} knows are {low:.0f} to {high:.0f} mm wide. {_CHECK}"

    def of_step(self, seen: ImageSequence, model: str, *, averaged: bool = False) -> str | None:
        """The doubt of the distance of an image's slices, in words; None where there is none, or where the distance is unknown."""
        step = step_of(seen)
        if self.step_mm is None or step is None:
            return None
        low, high = self.step_mm
        if low <= step <= high:
            return None
        how = " It saw averages of them, which costs accuracy." if averaged else ""
        return f"{seen.name}: its slices lie {step:.2g} mm apart; those that {model} knows {low:.2g} to {high:.2g} mm.{how} {_CHECK}"

    def of_values(self, seen: ImageSequence, model: str) -> str | None:
        """The doubt of an image's values, in words; None where there is none."""
        if self.low is None or self.high is None:
            return None
        found = ends(seen)
        if found is None or all(a <= v <= b for v, (a, b) in zip(found, (self.low, self.high), strict=True)):
            return None
        return (
            f"{seen.name}: its values go from {found[0]:.4g} to {found[1]:.4g} (1st to 99th percentile); those that {model} knows begin "
            f"between {self.low[0]:.4g} and {self.low[1]:.4g} and end between {self.high[0]:.4g} and {self.high[1]:.4g}. {_CHECK}"
        )

    def of(self, wrong: float, labelled: int, image: str, model: str) -> str | None:
        """The doubt of an answer, in words; None where there is none.

        Parameters
        ----------
        wrong : float
            Sum of ``min(p, 1 − p)`` over all voxels, in voxels of the size of the labelled ones.
        labelled : int
            Voxels of all classes together.
        image, model : str
            Their names.
        """
        if not labelled:
            if not self.always_there:
                return None
            return f"{image}: {model} found nothing, although every image of the kind that it knows shows it. {_CHECK}"
        share = wrong / labelled
        if self.above is None or share <= self.above:
            return None
        return (
            f"{image}: {model} is much less sure than on images of the kind that it knows: it expects {share:.0%} as many wrong voxels as "
            f"it labels, there at most {self.above:.0%}. {_CHECK}"
        )


def _told(notes: Sequence[str | None]) -> list[str]:
    """What there is to say, each warned of once."""
    told = [text for text in notes if text is not None]
    for text in told:
        warn(text)
    return told


def field_of(seen: ImageSequence) -> float | None:
    """The longer side of an image's slices in mm; None where nobody knows its spacing."""
    if not seen.oriented:
        return None
    return max(
        seen.size(a) * seen.spacing[a]
        for a in SPACE
        if a in seen.axes and (a != seen.slice_axis or "z" not in seen.axes)
    )


def step_of(seen: ImageSequence) -> float | None:
    """The distance of an image's slices in mm; None where nobody knows it, or of one slice alone."""
    if not seen.oriented or seen.slice_axis not in seen.axes or seen.size(seen.slice_axis) < 2:
        return None
    return seen.spacing[seen.slice_axis]


def ends(image: ImageSequence) -> tuple[float, float] | None:
    """The 1st and the 99th percentile of an image's finite values, from a million of them; None where none is finite."""
    values = np.asarray(image.data).ravel()
    values = values[spread(values.size, _ENOUGH)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = np.percentile(values, (1, 99))
    return float(low), float(high)


_ENOUGH = 1_000_000
_CHECK = "Check that modality, body part, field of view, spacing and intensities are those that its card names, and look at the answer."
