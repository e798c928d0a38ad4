"""Validating a classifier of whole exams as it is used: the weights as its bundle stores them, `classify`, and the images as they are
read."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from napari_medseq.errors import MedseqError, unheard
from napari_medseq.inference.classification import classify
from napari_medseq.models import Model, load_model
from napari_medseq.progress import Cancelled, check
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.automatic.decoded import Decoded
from napari_medseq.training.cases import Case
from napari_medseq.training.classes import bundle
from napari_medseq.training.classes.exams import in_channels


def as_used(c: AutoConfig, learned: bundle.Learned, modality: str | None) -> Model:
    """A trained network as its bundle gives it back, before the bundle is in its place."""
    with tempfile.TemporaryDirectory() as name:
        bundle.write_model(Path(name) / "model", c, learned, modality)
        return load_model(Path(name) / "model")


def judged(model: Model, decoded: Decoded, cases: Sequence[Case], cancelled: Cancelled | None = None) -> pd.DataFrame:
    """A row for each exam that was not learned from, or for each of its steps whose class is known.

    One that can no longer be read is left out with a warning.

    Raises
    ------
    ModelError
        If the network gives no numbers.
    OperationCancelled
        When `cancelled` says so.
    """
    names = [model.info.classes[k] for k in sorted(model.info.classes)]
    entries = {e.case: e for e in decoded.entries}
    rows: list[dict[str, object]] = []
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
            answer = classify(images, model, device="cpu", force=True, cancelled=cancelled)
        own = {"patient": case.patient, "case": case.name}
        if not entry.steps:
            rows.append(own | _row(entry.answer, answer.probabilities))
        for number, name in entry.steps.items():
            of_step = dict(zip(names, answer.per_step[number].tolist(), strict=True))
            rows.append(own | {entry.numbered: number} | _row(name, of_step))
    numbered = sorted({entries[c.name].numbered for c in cases if entries[c.name].steps})
    columns = ["patient", "case", *numbered, "class", "answer", *(f"probability {n}" for n in names)]
    return pd.DataFrame(rows, columns=columns)


def _row(truth: str, p: Mapping[str, float]) -> dict[str, object]:
    return {"class": truth, "answer": max(p, key=lambda n: p[n]), **{f"probability {n}": v for n, v in p.items()}}
