"""Synthetic heads: T1-weighted MR after contrast with tumours whose truth is known, over one visit or several.

`make_case` makes single scans to train on, `make_study` a patient with three visits, `make_truth` the true fate of
each lesion, and `sample_study` the same images as files.
"""

from __future__ import annotations

from napari_medseq.synthetic.case import make_case
from napari_medseq.synthetic.files import sample_study, write_dicom, write_truth
from napari_medseq.synthetic.study import Truth, make_study, make_truth

__all__ = ["Truth", "make_case", "make_study", "make_truth", "sample_study", "write_dicom", "write_truth"]
