"""Ready-made chains of preprocessing steps, as the *Preprocess* and *Analyse* widgets offer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from napari_medseq.preprocessing import PRESETS

if TYPE_CHECKING:
    from napari_medseq.preprocessing.pipeline import StepLike

#: title → steps as `ms.preprocess` takes them
CHAINS: dict[str, Sequence[StepLike]] = {
    "MR: even out the coil, then z-score": ("n4", "zscore"),
    "MR: clip to percentiles": ("percentile",),
    **{f"CT: {name} window": (f"window:{name}",) for name in PRESETS},
    "1 mm cubes": ({"kind": "resample", "spacing": (1.0, 1.0, 1.0)},),
    "Frames: motion correction": ("motion",),
}


#: modalities with which titles begin
_NAMED = ("MR", "CT")


def chains_for(modality: str | None) -> Mapping[str, Sequence[StepLike]]:
    """The chains that suit a modality; those for another one are left out if it is known."""
    others = [f"{name}:" for name in _NAMED if modality in _NAMED and name != modality]
    return {title: steps for title, steps in CHAINS.items() if not title.startswith(tuple(others))}
