"""Comparing two label layers: Dice of each label, and a layer that shows where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from napari_medseq.errors import MedseqError
from napari_medseq.evaluation.metrics import volume_ml
from napari_medseq.masks.overlap import Overlap
from napari_medseq.sequence import ImageSequence, check_same_grid
from napari_medseq.viewer.editing.marks import Mask
from napari_medseq.viewer.editing.model import editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.layers.studies import DERIVED, facts_of
from napari_medseq.viewer.results.showing import show_derived

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

    The layer replaces an earlier one of the same two. Its name says so when one of them was changed since.

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
    name = f"{first.name} – {second.name}"
    for earlier in [k for k in viewer.layers if (c := _COMPARED.get(k)) is not None and c.are(first, second)]:
        viewer.layers.remove(earlier)
    layer: Labels = show_derived(viewer, first, seq, name=name)
    facts_of(layer)["role"] = DERIVED  # it is not a mask of the study
    _remember(viewer, layer, _Compared(name, ref(real(first)), ref(real(second))))
    return MaskDifference(pd.DataFrame(rows), layer)


@dataclass(eq=False)
class _Compared:
    """The two masks of a layer of differences, and whether one of them was changed since."""

    name: str
    first: ref[Labels]
    second: ref[Labels]
    outdated: bool = False

    def are(self, first: Labels, second: Labels) -> bool:
        return self.first() is real(first) and self.second() is real(second)


_COMPARED: WeakKeyDictionary[Labels, _Compared] = WeakKeyDictionary()
#: what is added to the name of a layer of differences when one of its masks was changed since
_OUTDATED = " (outdated)"


def _remember(viewer: ViewerModel, layer: Labels, compared: _Compared) -> None:
    """Let the name of a layer of differences say when one of its masks has changed."""
    layer, editing = real(layer), editing_of(viewer)
    _COMPARED[layer] = compared
    weak = ref(layer)
    masks = [mask for which in (compared.first, compared.second) if (mask := which()) is not None]
    counts = WeakKeyDictionary({mask: editing.unsaved.changes(mask) for mask in masks})

    def outdate(_event: object = None) -> None:
        shown = weak()
        if shown is None:
            return
        compared.outdated = True
        shown.name = compared.name + _OUTDATED
        editing.events.changed.disconnect(look)
        for mask in counts:
            mask.events.data.disconnect(outdate)

    def look(_event: object = None) -> None:
        if any(editing.unsaved.changes(mask) != count for mask, count in counts.items()):
            outdate()

    if compared.outdated:
        shown_name = compared.name + _OUTDATED
        if layer.name != shown_name:
            layer.name = shown_name
        return
    editing.events.changed.connect(look)
    for mask in masks:
        mask.events.data.connect(outdate)


def difference_facts(layer: Labels) -> dict[str, object] | None:
    """What a session holds of a layer of differences, for `restore_difference`; None for another layer, and if one of
    its masks is gone."""
    known = _COMPARED.get(real(layer))
    first, second = (None, None) if known is None else (known.first(), known.second())
    if known is None or first is None or second is None:
        return None
    return {"name": known.name, "first": first.name, "second": second.name, "outdated": known.outdated}


def restore_difference(
    viewer: ViewerModel, layer: Labels, first: Labels, second: Labels, facts: Mapping[str, Any]
) -> None:
    """Let a layer of a session be the layer of differences of two masks again."""
    name = str(facts["name"])
    _remember(viewer, layer, _Compared(name, ref(real(first)), ref(real(second)), bool(facts.get("outdated"))))


def _row(name: str, first: Mask, second: Mask, grid: ImageSequence) -> dict[str, object]:
    overlap = Overlap.of(first, second)
    return {
        "label": name,
        "dice": overlap.dice,
        "both_ml": volume_ml(first & second, grid.affine),
        "only_first_ml": volume_ml(first & ~second, grid.affine),
        "only_second_ml": volume_ml(second & ~first, grid.affine),
    }
