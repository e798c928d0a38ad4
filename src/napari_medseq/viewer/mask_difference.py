"""Comparing two label layers: Dice of each label, and a layer that shows where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.metrics import volume_ml
from napari_medseq.masks.overlap import Overlap
from napari_medseq.sequence import ImageSequence, check_same_grid
from napari_medseq.viewer import layers as _layers
from napari_medseq.viewer.marks import Mask
from napari_medseq.viewer.results import show_derived
from napari_medseq.viewer.study import DERIVED, facts_of

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Labels

#: values of the layer of differences
ONLY_FIRST, ONLY_SECOND, OTHER_LABEL = 1, 2, 3


@dataclass(frozen=True, eq=False)
class MaskDifference:
    """The differences between two label layers.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per label, and a last one "any label": ``label``, ``dice``, ``both_ml``, ``only_first_ml``, ``only_second_ml``.
    layer : Labels
        1 where only the first has a label, 2 where only the second has one, 3 where they have different ones.
    """

    table: pd.DataFrame
    layer: Labels

    @property
    def dice(self) -> float:
        """Dice of the row "any label"."""
        return float(self.table["dice"].iloc[-1])


def compare_masks(viewer: ViewerModel, first: Labels, second: Labels) -> MaskDifference:
    """Compare two label layers on one grid, as they are painted now, and show where they differ.

    Parameters
    ----------
    viewer : ViewerModel
    first, second : Labels

    Raises
    ------
    MedseqError
        If both are the same layer, or they do not share a grid.
    """
    import pandas as pd

    if first == second:
        raise MedseqError("Choose two different label layers; both are the same one.")
    one, other = _layers.from_layer(first), _layers.from_layer(second)
    check_same_grid(one, other, where=f"{first.name} and {second.name}", error=MedseqError)
    a, b = np.asarray(one.data), np.asarray(other.data)
    names = {**other.label_names, **one.label_names}
    values = sorted({*np.unique(a).tolist(), *np.unique(b).tolist()} - {0})
    rows = [_row(names.get(v, f"label {v}"), a == v, b == v, one) for v in values]
    rows.append(_row("any label", a > 0, b > 0, one))
    difference = np.zeros(a.shape, np.uint8)
    difference[(a > 0) & (b == 0)] = ONLY_FIRST
    difference[(a == 0) & (b > 0)] = ONLY_SECOND
    difference[(a > 0) & (b > 0) & (a != b)] = OTHER_LABEL
    names_of_values = {
        ONLY_FIRST: f"only in {first.name}",
        ONLY_SECOND: f"only in {second.name}",
        OTHER_LABEL: "different labels",
    }
    seq = one.labels_like(difference, name=f"{one.name}_difference", label_names=names_of_values)
    layer: Labels = show_derived(viewer, first, seq, name=f"{first.name} – {second.name}")
    facts_of(layer)["role"] = DERIVED  # it is not a mask of the study
    return MaskDifference(pd.DataFrame(rows), layer)


def _row(name: str, first: Mask, second: Mask, grid: ImageSequence) -> dict[str, object]:
    overlap = Overlap.of(first, second)
    return {
        "label": name,
        "dice": overlap.dice,
        "both_ml": volume_ml(first & second, grid.affine),
        "only_first_ml": volume_ml(first & ~second, grid.affine),
        "only_second_ml": volume_ml(second & ~first, grid.affine),
    }
