"""The chain: steps by name, as settings or from a file; run in order; recorded in the result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.preprocessing.align import MotionCorrection, Register
from napari_medseq.preprocessing.bias import N4
from napari_medseq.preprocessing.crop import Crop
from napari_medseq.preprocessing.resample import Resample
from napari_medseq.preprocessing.step import StepBase
from napari_medseq.preprocessing.window import PRESETS, Percentile, Window
from napari_medseq.preprocessing.zscore import ZScore
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence

Step = Annotated[
    N4 | ZScore | Window | Percentile | Resample | Register | MotionCorrection | Crop, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Step)
#: name → what the name alone stands for
STEPS: dict[str, type[StepBase]] = {
    "n4": N4,
    "zscore": ZScore,
    "window": Window,
    "percentile": Percentile,
    "resample": Resample,
    "register": Register,
    "motion": MotionCorrection,
    "crop": Crop,
}
StepLike = str | Mapping[str, Any] | StepBase
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
        ``"n4"``, ``"zscore"``, ``"percentile"``, ``"crop"``, ``"register"``, ``"resample"``, ``"motion"``, ``"window:lung"``;
        step settings such as ``N4(shrink=2)`` or ``{"kind": "n4", "shrink": 2}``; or the path of a YAML or JSON file with
        such a list.
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
        If a step cannot work on this image.
    """
    chain = parse(steps)
    result = seq
    for number, step in enumerate(chain):
        check(cancelled)
        result = step.apply(
            result,
            reference=reference,
            progress=_part(progress, number, len(chain), step.kind),  # type: ignore[attr-defined]
            cancelled=cancelled,
        )
        meta = {
            **result.meta,
            "steps": [*seq.meta.get("steps", []), *(s.model_dump(mode="json") for s in chain[: number + 1])],
        }
        if reference is not None:
            meta["steps_reference"] = reference.name
        result = result.replace(meta=meta)
    check(cancelled)
    if progress is not None and chain:
        progress(100 * len(chain), 100 * len(chain), "Preprocessing")
    return result


def _part(progress: Progress | None, number: int, count: int, kind: str) -> Progress | None:
    """One step's share of the whole chain's progress, in hundredths."""
    if progress is None:
        return None
    outer = progress

    def inner(done: int, total: int, message: str) -> None:
        outer(100 * number + round(100 * done / max(1, total)), 100 * count, f"{kind}: {message}")

    return inner


def parse(steps: Steps) -> list[StepBase]:
    """Checked step settings from anything that `preprocess` takes.

    Raises
    ------
    SettingsError
        Naming the step, the setting and what it may be.
    """
    if isinstance(steps, os.PathLike) or (isinstance(steps, str) and steps.endswith((".yaml", ".yml", ".json"))):
        return load(steps)
    if isinstance(steps, str | Mapping | StepBase):
        steps = [steps]
    return [_step(step) for step in steps]


def _step(step: object) -> StepBase:
    if isinstance(step, StepBase):
        return step
    if isinstance(step, str):
        kind, _, choice = step.partition(":")
        if kind == "window":
            if choice not in PRESETS:
                raise SettingsError(f"'window' needs a preset, as in 'window:brain'; there are {', '.join(PRESETS)}.")
            return Window(preset=choice)
        if choice or kind not in STEPS:
            raise SettingsError(f"There is no preprocessing step {step!r}; use one of {', '.join(STEPS)}.")
        step = {"kind": kind}
    if not isinstance(step, Mapping):
        raise SettingsError(f"A preprocessing step is a name, settings or a step model, not {type(step).__name__}.")
    try:
        checked: StepBase = _ADAPTER.validate_python(dict(step))
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise SettingsError(
            f"Preprocessing step {step.get('kind', '?')!r}, {where}: {first['msg']} (steps: {', '.join(STEPS)})."
        ) from problem
    return checked


def save(steps: Steps, path: str | os.PathLike[str]) -> Path:
    """Write a chain as YAML, or JSON if the path ends so, for `load` and for `preprocess`.

    Raises
    ------
    MedseqError
        If the file cannot be written.
    """
    import yaml

    target = Path(path)
    record = {"steps": [step.model_dump(mode="json") for step in parse(steps)]}
    text = json.dumps(record, indent=1) if target.suffix == ".json" else yaml.safe_dump(record, sort_keys=False)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
    except OSError as problem:
        raise MedseqError(f"{target}: the steps could not be written ({problem.strerror}).") from problem
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return target


def load(path: str | os.PathLike[str]) -> list[StepBase]:
    """Read a chain from YAML or JSON: a list of steps, or a mapping with ``steps``.

    Raises
    ------
    SettingsError
        If the file is missing, no YAML or JSON, or holds something else.
    """
    import yaml

    source = Path(path)
    if not source.is_file():
        raise SettingsError(f"{source}: there is no such pipeline file.")
    try:
        text = source.read_text(encoding="utf-8")
        record = json.loads(text) if source.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as problem:
        raise SettingsError(
            f"{source}: this is no YAML or JSON of steps ({str(problem).splitlines()[0]})."
        ) from problem
    if isinstance(record, Mapping):
        record = record.get("steps")
    if not isinstance(record, list):
        raise SettingsError(f"{source}: a list of steps is expected, such as '- kind: n4'.")
    return [_step(step) for step in record]
