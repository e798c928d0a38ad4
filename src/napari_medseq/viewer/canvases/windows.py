"""Linked grey-level windows: when the window of one visit changes, those of the others change with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq.viewer.canvases.twins import Connections
from napari_medseq.viewer.layers.conversion import layer_kind
from napari_medseq.viewer.layers.studies import facts_of, series_name

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.utils.events import Event

#: modalities with absolute values (HU, SUV), for which one window means the same at every visit
ABSOLUTE = frozenset({"CT", "PT"})


def link_windows(groups: Sequence[Sequence[Layer]], *, equal: bool, links: Connections) -> None:
    """Link the windows of the same series of several visits.

    Parameters
    ----------
    groups : sequence of sequence of Layer
        The layers of each visit.
    equal : bool
        All images get the limits of the first one. Otherwise only those with absolute values (CT, PET) do; MR images,
        whose scale differs between visits, keep their own windows, which change by the same share.
    links : Connections
        The object that keeps the connections.
    """
    by_series: dict[tuple[str, str | None], list[Image]] = {}
    for group in groups:
        for layer in group:
            if layer_kind(layer) == "image" and not getattr(layer, "rgb", False):
                facts = facts_of(layer)
                alone = len({id(one) for one in group if layer_kind(one) == "image"}) == 1
                key = ("only", None) if alone else (series_name(facts) if facts else layer.name, facts.get("modality"))
                by_series.setdefault(key, []).append(layer)
    for images in by_series.values():
        if len(images) > 1:
            absolute = equal or all(facts_of(image).get("modality") in ABSOLUTE for image in images)
            _Windows(images, absolute, links)


class _Windows:
    """The windows of some images, each of which began with limits of its own."""

    def __init__(self, images: Sequence[Image], equal: bool, links: Connections) -> None:
        self._images = list(images)
        self._busy = False
        if equal:
            for image in self._images[1:]:
                image.contrast_limits = list(self._images[0].contrast_limits)
        self._first = [np.array(image.contrast_limits, dtype=float) for image in self._images]
        for image in self._images:
            links.connect(image.events.contrast_limits, self._changed)

    def _changed(self, event: Event) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            at = next(k for k, image in enumerate(self._images) if image is event.source)
            low, high = self._first[at]
            shares = (np.array(self._images[at].contrast_limits, dtype=float) - low) / (high - low)
            for image, (start, stop) in zip(self._images, self._first, strict=True):
                if image is not event.source:
                    image.contrast_limits = [float(v) for v in start + shares * (stop - start)]
        finally:
            self._busy = False
