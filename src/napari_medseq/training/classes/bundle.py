"""The bundle, the model card and the record that a training of classes leaves behind, and its scores on the validation patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from torch import Tensor

from napari_medseq import record
from napari_medseq.evaluation import Interval, class_scores
from napari_medseq.models import bundle
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.classes.plan import ClassPlan
from napari_medseq.training.layouts import Layout
from napari_medseq.wording import how_many


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """One trained network.

    Attributes
    ----------
    plan : ClassPlan
    weights : mapping of str to Tensor
    patients : tuple of str
        The patients that it learned from.
    numbered : str
        "slice" or "frame", where the class of each was learned, else "".
    exams : dict of str to int
        Class → exams, or slices or frames, of it that it learned from.
    judged : DataFrame
        A row for each exam that judged it, see `classes.judging`; empty before.
    scores : mapping of str to Interval
        Empty without any.
    """

    plan: ClassPlan
    weights: Mapping[str, Tensor]
    patients: tuple[str, ...]
    exams: Mapping[str, int]
    numbered: str = ""
    judged: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: Mapping[str, Interval] = field(default_factory=dict)


def scores_of(judged: pd.DataFrame, classes: Sequence[str]) -> dict[str, Interval]:
    """`class_scores` of a table of judged exams, or of their steps; empty without any."""
    if judged.empty:
        return {}
    return class_scores(
        judged[[f"probability {name}" for name in classes]].to_numpy(),
        [list(classes).index(name) for name in judged["class"]],
        judged["patient"].tolist(),
        classes,
    )


def write_model(folder: Path, c: AutoConfig, learned: Learned, modality: str | None) -> None:
    """Write the bundle."""
    plan, name = learned.plan, c.name or Path(c.out).name
    bundle.remove_unfinished(folder)
    bundle.write_bundle(
        folder,
        facts={
            "name": name, "task": "classification", "modality": modality, "name_patterns": [], "channels": list(plan.channels),
            "classes": {str(k): v for k, v in enumerate(plan.classes)}, "sequence_axis": plan.along,
        },
        network=plan.definition,
        inference=plan.inference,
        weights=learned.weights,
        card=_card(name, c, learned),
        licence_text=c.licence + "\n",
        description=c.description or f"tells {', '.join(plan.classes)} apart; trained on {Path(c.data).name}",
        licence=c.licence,
        version="0.1.0",
    )  # fmt: skip


def write(c: AutoConfig, layout: Layout, learned: Learned, modality: str | None) -> None:
    """Write the bundle, and beside it the record of how it came about."""
    write_model(Path(c.out), c, learned, modality)
    record.write_run(
        c.run_folder / "run.json",
        {
            "config": c.model_dump(mode="json"),
            "layout": layout.kind,
            "doubts": list(layout.doubts),
            "patients": list(learned.patients),
            "exams": dict(learned.exams),
            "scores": {name: asdict(value) for name, value in learned.scores.items()},
            "judged": learned.judged.to_dict("records"),
        },
    )


def _card(name: str, c: AutoConfig, learned: Learned) -> str:
    what = f"{learned.numbered}s: " if learned.numbered else ""
    counts = what + ", ".join(f"{n} of {k}" for k, n in learned.exams.items())
    lines = [
        f"# {name}",
        "",
        c.description,
        "",
        f"{record.DISCLAIMER} Trained on exams of {how_many(len(learned.patients), 'patient')} ({counts}).",
    ]
    lines += [
        "",
        "Each class was seen as often as the others, so probabilities are those where all classes are equally common.",
    ]
    if learned.numbered:
        lines += [
            "",
            f"It was taught the class of each {learned.numbered} (per_step). Its probabilities of an exam are the shares of its "
            f"{learned.numbered}s that are of each class.",
        ]
    if learned.scores:
        who = learned.judged["patient"].nunique()
        lines += ["", f"Of {who} patients that training did not see:", ""]
        lines += [f"- {measure}: {value}" for measure, value in learned.scores.items()]
    else:
        lines += ["", "No patient was kept back to judge it: look at its answers before trusting them."]
    return "\n".join(lines) + "\n"
