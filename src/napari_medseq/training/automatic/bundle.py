"""The bundle, the model card and the record that a training that configured itself leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_medseq import record
from napari_medseq.inference.slabs.windows import SlabSettings
from napari_medseq.models import bundle
from napari_medseq.models.info import ModelInfo
from napari_medseq.models.plain import Definition
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.automatic.plan import Plan
from napari_medseq.training.layouts import Layout
from napari_medseq.training.loops.slabs import Course
from napari_medseq.wording import how_many


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """The facts of the training for the bundle and its model card.

    Attributes
    ----------
    definition : mapping
        Definition of the network.
    course : Course
    plan : Plan
        With what was decided at the end.
    start : ModelInfo or None
        The model whose weights it started from.
    inference : SlabSettings
    channels, classes : sequence of str
        Names; of the classes without background.
    modality : str or None
    scores : mapping of patient to mapping of class to float
        Dice of the patients that judge.
    cases : int
        Number of cases that the network learned from.
    """

    definition: Definition
    course: Course
    plan: Plan
    start: ModelInfo | None
    inference: SlabSettings
    channels: Sequence[str]
    classes: Sequence[str]
    modality: str | None
    scores: Mapping[str, Mapping[str, float]]
    cases: int


def write(c: AutoConfig, learned: Learned) -> None:
    """Write the bundle."""
    out = Path(c.out)
    name = c.name or out.name
    bundle.remove_unfinished(out)
    bundle.write_bundle(
        out,
        facts={
            "name": name, "task": "segmentation", "modality": learned.modality, "name_patterns": [],
            "channels": list(learned.channels), "classes": {str(k): v for k, v in enumerate(learned.classes, 1)},
            "sequence_axis": "t" if learned.inference.working.axis == "t" else "slices",
        },
        network=learned.definition,
        inference=learned.inference.model_dump(mode="json"),
        weights={k: v.detach().cpu() for k, v in learned.course.network.state_dict().items()},
        card=_card(name, c, learned),
        licence_text=c.licence + "\n",
        description=c.description or f"trained on {learned.cases} cases of {Path(c.data).name}",
        licence=c.licence,
        version="0.1.0",
    )  # fmt: skip


def _card(name: str, c: AutoConfig, learned: Learned) -> str:
    course, scores = learned.course, learned.scores
    lines = [
        f"# {name}",
        "",
        c.description,
        "",
        f"{record.DISCLAIMER} Trained on {learned.cases} cases in {course.spent / 60:.1f} minutes;",
    ]
    lines.append(f"{course.seen} windows were seen.")
    if (start := learned.start) is not None:
        lines += [
            "",
            f"It started from the weights of {start.name} {start.version}, whose licence is {start.licence or 'not stated'}.",
        ]
    if scores:
        values = np.array([list(s.values()) for s in scores.values()])
        lines += [
            "",
            f"Mean Dice of {how_many(len(scores), 'patient')} that training did not see: {np.nanmean(values):.3f}.",
        ]
    else:
        lines += ["", "No patient was kept back to judge it: look at its results before trusting them."]
    return "\n".join(lines) + "\n"


def write_record(c: AutoConfig, layout: Layout, learned: Learned, patients: Sequence[str]) -> None:
    """Write how the bundle came about, beside the plan."""
    record.write_run(
        c.run_folder / "run.json",
        {
            "config": c.model_dump(mode="json"),
            "windows_seen": learned.course.seen,
            "seconds": learned.course.spent,
            "waited_for_windows": learned.course.waited,
            "patients": list(patients),
            "scores": learned.scores,
            "doubts": list(layout.doubts),
            "layout": layout.kind,
        },
    )
