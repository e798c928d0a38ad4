"""Ready-made chains of preprocessing steps, as the *Preprocess* and *Analyse* widgets offer them."""

from __future__ import annotations

from collections.abc import Sequence
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
