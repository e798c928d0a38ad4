"""Judging a classifier of whole exams as it is used: the weights as its bundle stores them, `classify`, and the images as they are read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from napari_medseq.errors import MedseqError, unheard
from napari_medseq.inference.classification import classify
from napari_medseq.models import Model, load_model
from napari_medseq.progress import Cancelled, check
from napari_medseq.training import class_bundle
from napari_medseq.training.automatic_config import AutoConfig
from napari_medseq.training.cases import Case
from napari_medseq.training.decoded import Decoded
from napari_medseq.training.exams import in_channels


def as_used(c: AutoConfig, learned: class_bundle.Learned, modality: str | None) -> Model:
    """A trained network as its bundle gives it back, before the bundle is in its place."""
    with tempfile.TemporaryDirectory() as name:
        class_bundle.write_model(Path(name) / "model", c, learned, modality)
        return load_model(Path(name) / "model")


def judged(model: Model, decoded: Decoded, cases: Sequence[Case], cancelled: Cancelled | None = None) -> pd.DataFrame:
    """A row for each exam that was not learned from; one that can no longer be read is left out with a warning.

    Raises
    ------
    ModelError
        If the network gives no numbers.
    OperationCancelled
        When `cancelled` says so.
    """
    names = [model.info.classes[k] for k in sorted(model.info.classes)]
    entries = {e.case: e for e in decoded.entries}
    rows = []
    for case in cases:
        check(cancelled)
        entry = entries[case.name]
        try:
            with unheard():
                given = in_channels(decoded.images(entry), model.info.channels)
        except MedseqError as error:
            decoded.leave_out(entry, error)
            continue
        with unheard():
            images = dict(zip(model.info.channels, given, strict=True))
            p = classify(images, model, device="cpu", force=True, cancelled=cancelled).probabilities
        rows.append(
            {
                "patient": case.patient,
                "case": case.name,
                "class": entry.answer,
                "answer": max(names, key=lambda name: p[name]),
                **{f"probability {name}": p[name] for name in names},
            }
        )
    return pd.DataFrame(rows, columns=["patient", "case", "class", "answer", *(f"probability {n}" for n in names)])
