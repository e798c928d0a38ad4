"""Chains of steps: given by name, as settings or from a file; run in order; recorded in the result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_medseq import files
from napari_medseq.errors import MedseqError, OperationCancelled, SettingsError, warn

# importing each registers its steps in STEPS
from napari_medseq.preprocessing import (  # noqa: F401
    align,
    bias,
    brain,
    crop,
    denoising,
    difference,
    gabor,
    n3,
    nyul,
    region,
    reorient,
    resample,
    slices,
    temporal,
    tissue,
    zscore,
)
from napari_medseq.preprocessing.step import STEPS as STEPS
from napari_medseq.preprocessing.step import Job, Step
from napari_medseq.preprocessing.window import PRESETS, Window
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.sequence import ImageSequence, check_images
from napari_medseq.settings import checked

StepLike = str | Mapping[str, Any] | Step
Steps = StepLike | Iterable[StepLike] | os.PathLike[str]


def preprocess(
    seq: ImageSequence,
    steps: Steps,
    *,
    reference: ImageSequence | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ImageSequence:
    """Run preprocessing steps on a sequence, in order.

    Parameters
    ----------
    seq : ImageSequence
        2D, 3D or with ``t``; never changed itself.
    steps : str, step, mapping, path, or a list of them
        Names, such as ``"n4"`` or ``"window:lung"``, which stand for the usual settings for the image's modality;
        step settings such as ``N4(shrink=2)`` or ``{"kind": "n4", "shrink": 2}``; or the path of a YAML or JSON file with
        such a list. `napari_medseq.preprocessing.STEPS` lists all.
    reference : ImageSequence, optional
        The other image, for steps that need one.

    Returns
    -------
    ImageSequence
        ``meta["steps"]`` lists the settings of all steps applied so far, each as `load` and this function take it.

    Raises
    ------
    SettingsError
        If a step is unknown or its settings cannot be used.
    MedseqError
        If a step cannot work on this image; of several steps, it is named with its number.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> image = ms.ImageSequence(np.arange(60.0).reshape(3, 4, 5), ("z", "y", "x"), np.diag([2.0, 2.0, 5.0, 1.0]), modality="MR")
    >>> made = ms.preprocess(image, ["zscore", {"kind": "resample", "spacing": 4.0}])
    >>> made.spacing["z"], [step["kind"] for step in made.meta["steps"]]
    (4.0, ['zscore', 'resample'])
    """
    check_images(seq=seq, reference=reference)
    doubts: list[str] = []
    result = run_chain(
        seq,
        parse(steps, modality=seq.modality),
        reference=reference,
        progress=progress,
        cancelled=cancelled,
        doubts=doubts,
    )
    for doubt in dict.fromkeys(doubts):
        warn(f"{seq.name}: {doubt}.")
    return result


def run_chain(
    seq: ImageSequence,
    chain: Sequence[Step],
    *,
    reference: ImageSequence | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    doubts: list[str],
) -> ImageSequence:
    """Run checked steps in order, as `preprocess` does, but append doubts to `doubts` instead of warning of them."""
    result = seq
    for number, step in enumerate(chain):
        check(cancelled)
        report = part(progress, number / len(chain), (number + 1) / len(chain), f"{step.kind}: ")
        title = step.title or step.kind
        try:
            result = step.result(result, Job(title, reference, report, cancelled, doubts))
        except OperationCancelled:
            raise
        except MedseqError as error:
            if len(chain) > 1:
                error.args = (f"Step {number + 1}, {title}: {error}",)
            raise
        meta = {
            **result.meta,
            "steps": [*seq.meta.get("steps", []), *(s.model_dump(mode="json") for s in chain[: number + 1])],
        }
        if reference is not None:
            meta["steps_reference"] = reference.name
        result = result.replace(meta=meta)
    check(cancelled)
    if progress is not None and chain:
        progress(1, 1, "Preprocessing")
    return result


def parse(steps: Steps, *, modality: str | None = None) -> list[Step]:
    """Checked step settings from anything that `preprocess` takes.

    Parameters
    ----------
    steps : str, step, mapping, path, or a list of them
    modality : str, optional
        Modality of the image; a step that is given by its name only has the usual settings for it.

    Raises
    ------
    SettingsError
        If a step or setting is unknown; the message names it and what it may be.
    """
    if isinstance(steps, os.PathLike) or (isinstance(steps, str) and steps.endswith((".yaml", ".yml", ".json"))):
        return load(steps, modality=modality)
    if isinstance(steps, str | Mapping | Step):
        steps = [steps]
    return [_step(step, modality) for step in steps]


def _step(step: object, modality: str | None) -> Step:
    if isinstance(step, Step):
        return step
    if isinstance(step, str):
        kind, _, choice = step.partition(":")
        if kind == "window" and (choice or modality not in Window.by_modality):
            if choice not in PRESETS:
                raise SettingsError(f"'window' needs a preset, as in 'window:brain'; there are {', '.join(PRESETS)}.")
            return Window(preset=choice)
        if choice or kind not in STEPS:
            raise SettingsError(f"There is no preprocessing step {step!r}; use one of {', '.join(STEPS)}.")
        return STEPS[kind].usual(modality)
    if not isinstance(step, Mapping):
        raise SettingsError(f"A preprocessing step is a name, settings or a step model, not {type(step).__name__}.")
    named = step.get("kind")
    if not isinstance(named, str) or named not in STEPS:
        raise SettingsError(f"There is no preprocessing step of kind {named!r}; use one of {', '.join(STEPS)}.")
    return checked(STEPS[named], step, where=f"preprocessing step {named!r}")


def save(steps: Steps, path: str | os.PathLike[str]) -> Path:
    """Write a chain as YAML, or JSON if the path ends so, for `load` and for `preprocess`.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    import yaml

    target = files.path_of(path)
    record = {"steps": [step.model_dump(mode="json") for step in parse(steps)]}
    text = json.dumps(record, indent=1) if target.suffix == ".json" else yaml.safe_dump(record, sort_keys=False)
    return files.write_text(target, text)


def load(path: str | os.PathLike[str], *, modality: str | None = None) -> list[Step]:
    """Read a chain from YAML or JSON: a list of steps, or a mapping with ``steps``.

    Parameters
    ----------
    path : path
    modality : str, optional
        As for `parse`; a file that `save` wrote names every setting and does not depend on it.

    Raises
    ------
    SettingsError
        If the file is missing, is not YAML or JSON, or holds something else.
    """
    from napari_medseq.yaml_text import read_values

    source = files.path_of(path)
    record = read_values(source)
    if isinstance(record, Mapping):
        record = record.get("steps")
    if not isinstance(record, list):
        raise SettingsError(f"{source}: a list of steps is expected, such as '- kind: n4'.")
    return [_step(step, modality) for step in record]
