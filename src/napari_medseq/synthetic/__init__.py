"""Synthetic heads: T1-weighted MR after contrast with tumours whose truth is known, over one visit or several."""

from __future__ import annotations

from napari_medseq.synthetic.case import make_case

__all__ = ["make_case"]
