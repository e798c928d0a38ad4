"""The editing tools with their settings: the operations of the viewer's buttons, or of a line of a script, on one
label.

A tool is a frozen settings model, and `apply` returns new labels. It changes only the given label (`Split` and `Grow`
also make or grow others) and background.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_medseq.errors import MedseqError
from napari_medseq.masks import growing, islands, labels, shapes
from napari_medseq.masks.labels import Labelled
from napari_medseq.settings import Settings

LabelArray = NDArray[np.integer]
Mask = NDArray[np.bool_]


class Tool(Settings):
    """Base class of the tools."""

    #: title that users read, also in the history of steps
    title: ClassVar[str] = ""
    #: whether it needs several slices
    needs_slices: ClassVar[bool] = False
    #: whether it needs an image
    needs_image: ClassVar[bool] = False
    #: whether it works if the label has no voxel
    starts_from_nothing: ClassVar[bool] = False

    def apply(self, labelled: Labelled) -> LabelArray:
        """Apply the tool to one of the labels.

        Parameters
        ----------
        labelled : Labelled

        Raises
        ------
        MedseqError
            If the tool cannot be applied, or would leave nothing of the label.
        """
        if not self.starts_from_nothing and not labelled.mask.any():
            raise MedseqError(f"There is nothing of label {labelled.value} here. Paint it, or select another label.")
        if self.needs_slices and labelled.labels.shape[labelled.axis] == 1:
            raise MedseqError(f"{self.title} needs several slices, and there is only one.")
        if self.needs_image and labelled.image is None:
            raise MedseqError(f"{self.title} needs intensities: choose an image on the grid of the mask.")
        return self._changed(labelled)

    def _changed(self, labelled: Labelled) -> LabelArray:
        raise NotImplementedError


class _Reshaping(Tool):
    """A tool that computes a new mask from the label's mask."""

    def _changed(self, labelled: Labelled) -> LabelArray:
        changed = labels.put(labelled.labels, labelled.value, self._reshaped(labelled))
        if not (changed == labelled.value).any():
            raise MedseqError(
                f"{self.title}: nothing would be left of label {labelled.value}; nothing was changed. Choose a smaller length."
            )
        return changed

    def _reshaped(self, labelled: Labelled) -> Mask:
        raise NotImplementedError


class Interpolate(Tool):
    """Fill in the slices between painted ones.

    Parameters
    ----------
    all_labels : bool
        Interpolate every label of the mask, not only the selected one.
    """

    title: ClassVar[str] = "Interpolating between slices"
    needs_slices: ClassVar[bool] = True

    all_labels: bool = False

    def _changed(self, labelled: Labelled) -> LabelArray:
        from napari_medseq.masks.interpolation import interpolate_slices  # imported here because it loads torch

        values = np.unique(labelled.labels[labelled.labels > 0]).tolist() if self.all_labels else [labelled.value]
        down, right = (s for k, s in enumerate(labelled.spacing) if k != labelled.axis)
        return interpolate_slices(labelled.labels, values, labelled.axis, (down, right))


class Grow(Tool):
    """Grow all labels from their painted voxels, against one another and up to the image's edges.

    Parameters
    ----------
    low, high : float or None
        Only voxels with intensities from `low` to `high` are added.
    reach_mm : float
        No voxel farther than this from a painted one is added.
    blur_mm : float
        Standard deviation of the smoothing before edges are detected.
    surroundings : int or None
        The label that was painted around the object; it is removed afterwards.
    """

    title: ClassVar[str] = "Growing from seeds"
    needs_image: ClassVar[bool] = True
    starts_from_nothing: ClassVar[bool] = True

    low: float | None = None
    high: float | None = None
    reach_mm: float = Field(20.0, gt=0, le=500)
    blur_mm: float = Field(1.0, ge=0, le=20)
    surroundings: int | None = Field(None, ge=1)

    def _changed(self, labelled: Labelled) -> LabelArray:
        assert labelled.image is not None
        within = None
        if self.low is not None or self.high is not None:
            within = (-np.inf if self.low is None else self.low, np.inf if self.high is None else self.high)
        return growing.grow(
            labelled.image, labelled.labels, labelled.spacing, within=within, reach_mm=self.reach_mm, blur_mm=self.blur_mm,
            surroundings=self.surroundings,
        )  # fmt: skip


class KeepLargest(_Reshaping):
    """Keep the largest islands.

    Parameters
    ----------
    count : int
        Number of islands."""

    title: ClassVar[str] = "Keeping the largest islands"

    count: int = Field(1, ge=1)

    def _reshaped(self, labelled: Labelled) -> Mask:
        return islands.keep_largest(labelled.mask, self.count)


class RemoveSmall(_Reshaping):
    """Remove islands that are smaller than a volume.

    Parameters
    ----------
    min_ml : float
        Least volume in millilitres."""

    title: ClassVar[str] = "Removing small islands"

    min_ml: float = Field(0.1, gt=0)

    def _reshaped(self, labelled: Labelled) -> Mask:
        return islands.remove_small(labelled.mask, labelled.spacing, self.min_ml)


class Island(_Reshaping):
    """Keep or remove the island that is pointed at.

    Parameters
    ----------
    action : {"keep", "remove"}
        "keep" removes all others.
    """

    title: ClassVar[str] = "One island"

    action: Literal["keep", "remove"] = "remove"

    def _changed(self, labelled: Labelled) -> LabelArray:
        return labels.put(labelled.labels, labelled.value, self._reshaped(labelled))  # the last island may be removed

    def _reshaped(self, labelled: Labelled) -> Mask:
        if labelled.at is None:
            raise MedseqError("No island is pointed at.")
        return islands.keep_at(labelled.mask, labelled.at, keep=self.action == "keep")


class Split(Tool):
    """Make every island a label of its own; the largest keeps the number.

    Parameters
    ----------
    used : tuple of int
        Numbers that are in use elsewhere, such as at other visits.
    """

    title: ClassVar[str] = "Splitting islands"

    used: tuple[int, ...] = ()

    def _changed(self, labelled: Labelled) -> LabelArray:
        changed, numbers = islands.split(labelled.labels, labelled.value, self.used)
        if len(numbers) < 2:
            raise MedseqError(f"Label {labelled.value} is one island; there is nothing to split.")
        return changed


class FillHoles(_Reshaping):
    """Fill what the label encloses.

    Parameters
    ----------
    slice_by_slice : bool
        Fill what is enclosed within each slice; otherwise only what is enclosed on all sides.
    """

    title: ClassVar[str] = "Filling holes"

    slice_by_slice: bool = True

    def _reshaped(self, labelled: Labelled) -> Mask:
        return shapes.fill_holes(labelled.mask, labelled.axis if self.slice_by_slice else None)


class Smooth(_Reshaping):
    """Make the outline smoother.

    Parameters
    ----------
    mm : float
        Standard deviation of the Gaussian, or radius of the ball.
    method : {"gaussian", "median", "opening", "closing"}
        Opening removes parts that are thinner than the ball, closing fills gaps that are narrower.
    """

    title: ClassVar[str] = "Smoothing"

    mm: float = Field(1.0, gt=0, le=50)
    method: shapes.Smoothing = "gaussian"

    def _reshaped(self, labelled: Labelled) -> Mask:
        return shapes.smooth(labelled.mask, labelled.spacing, self.mm, self.method)


class Margin(_Reshaping):
    """Grow or shrink on all sides.

    Parameters
    ----------
    mm : float
        Margin in mm; a negative one shrinks the label.
    """

    title: ClassVar[str] = "Changing the margin"

    mm: float = Field(2.0, ge=-100, le=100)

    def _reshaped(self, labelled: Labelled) -> Mask:
        return shapes.margin(labelled.mask, labelled.spacing, self.mm)


class Hollow(_Reshaping):
    """Leave a wall.

    Parameters
    ----------
    mm : float
        Thickness of the wall in mm.
    side : {"inside", "outside", "both"}
        Side of the outline on which the wall lies."""

    title: ClassVar[str] = "Hollowing"

    mm: float = Field(2.0, gt=0, le=100)
    side: shapes.Side = "inside"

    def _reshaped(self, labelled: Labelled) -> Mask:
        return shapes.hollow(labelled.mask, labelled.spacing, self.mm, self.side)


class CopySlice(Tool):
    """Copy the outline of one slice to another.

    Parameters
    ----------
    source, target : int
        Slices, from 0, along the axis of slices.
    """

    title: ClassVar[str] = "Copying to another slice"
    needs_slices: ClassVar[bool] = True

    source: int = Field(ge=0)
    target: int

    def _changed(self, labelled: Labelled) -> LabelArray:
        return labels.copy_slice(labelled.labels, labelled.value, labelled.axis, self.source, self.target)
