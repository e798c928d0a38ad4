"""Doubt of a whole answer: how much of it the network itself expects to be wrong, compared with images of the kind that it knows.

Where probabilities are calibrated, thresholding them at one half gets ``min(p, 1 − p)`` of a voxel wrong. The sum of that, as a share of
the labelled voxels, is small on images like those of training, and several times as large on another organ, modality, scale or spacing
(``benchmarks/doubts.py``; the same in the literature: Hendrycks & Gimpel 2017, ICLR, "A baseline for detecting misclassified and
out-of-distribution examples").
"""

from __future__ import annotations

import warnings

from pydantic import Field

from napari_medseq.errors import MedseqWarning
from napari_medseq.sequence import SPACE, ImageSequence
from napari_medseq.settings import Settings


class Doubt(Settings):
    """From where on an answer is doubted.

    Attributes
    ----------
    above : float or None
        Expected wrong voxels, as a share of the labelled ones, that no image of the model's kind reached; None: any.
    field_mm : (float, float) or None
        The shortest and the greatest field of view: the longer side of a slice, without padding; None: any.
    always_there : bool
        What is segmented is in every image of the model's kind: an answer without it is doubted.
    """

    above: float | None = Field(None, gt=0)
    field_mm: tuple[float, float] | None = None
    always_there: bool = False

    def notes(self, wrong: float, labelled: int, seen: ImageSequence, model: str) -> list[str]:
        """The doubts of an answer, each warned of once.

        Parameters
        ----------
        wrong, labelled, model
            As for `of`.
        seen : ImageSequence
            The image without its padding.
        """
        found = [self.of_field(seen, model), self.of(wrong, labelled, seen.name, model)]
        told = [text for text in found if text is not None]
        for text in told:
            warnings.warn(text, MedseqWarning, stacklevel=3)
        return told

    def of_field(self, seen: ImageSequence, model: str) -> str | None:
        """The doubt of an image's field of view, in words; None where there is none, or where nobody knows its spacing."""
        if self.field_mm is None or not seen.oriented:
            return None
        side = max(
            seen.size(a) * seen.spacing[a]
            for a in SPACE
            if a in seen.axes and (a != seen.slice_axis or "z" not in seen.axes)
        )
        low, high = self.field_mm
        if low <= side <= high:
            return None
        return f"{seen.name}: its slices are {side:.0f} mm wide; those that {model} knows are {low:.0f} to {high:.0f} mm wide. {_CHECK}"

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


_CHECK = "Check that modality, body part, field of view, spacing and intensities are those that its card names, and look at the answer."
