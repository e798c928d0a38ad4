"""`evaluate`: compare predictions with truths, case by case and class by class, as a table, a summary and a figure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypedDict, TypeVar, Unpack, overload, runtime_checkable

import numpy as np

from napari_medseq import files
from napari_medseq.errors import MedseqError, WriteError
from napari_medseq.evaluation.intervals import BlandAltman, Interval, Paired, bland_altman, bootstrap, paired
from napari_medseq.evaluation.locations import Locations, LocationScores, score_locations
from napari_medseq.evaluation.metrics import compare
from napari_medseq.masks.imagelike import refuse_image
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import ImageSequence, check_same_grid
from napari_medseq.volumes.labelled import Box, grown, value_boxes, value_counts
from napari_medseq.wording import how_many, some

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@runtime_checkable
class Segmented(Protocol):
    """An object with labels, such as a `Segmentation`."""

    @property
    def labels(self) -> ImageSequence: ...


Labels = ImageSequence | Segmented
T = TypeVar("T")
Given: TypeAlias = "T | Iterable[T] | Mapping[str, T]"

#: measures in the summary, in this order
MEASURES = (
    "dice",
    "iou",
    "sensitivity",
    "precision",
    "hd95_mm",
    "assd_mm",
    "volume_difference_ml",
    "volume_difference_percent",
    "lesion_sensitivity",
    "lesion_precision",
    "lesion_f1",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of predictions against truths.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per case (and frame) and class: ``case``, ``frame`` (−1 without ``t``), ``label``, ``label_name``, then the
        measures, units in the column names. Dice, IoU and lesion F1 are 1, and distances 0, where prediction and truth are
        both empty; distances are infinite where one alone is; sensitivity is NaN without truth, precision without prediction.
    """

    table: pd.DataFrame

    def summary(self, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """One row per class and measure: mean with its bootstrap interval over cases, median, n, and the number of
        non-finite values."""
        import pandas as pd

        rows = []
        for (label, name), part in self.table.groupby(["label", "label_name"], sort=True):
            # the frames of one case are not independent
            cases = part.groupby("case", sort=False)[list(MEASURES)].mean()
            for measure in MEASURES:
                values = cases[measure].to_numpy(dtype=float)
                usable = values[np.isfinite(values)]
                if not usable.size:
                    mean = Interval(float("nan"), float("nan"), float("nan"), level, 0)
                else:
                    mean = bootstrap(usable, level=level, seed=seed)
                rows.append(
                    {
                        "label": label,
                        "label_name": name,
                        "measure": measure,
                        "mean": mean.value,
                        "low": mean.low,
                        "high": mean.high,
                        "median": float(np.median(values[~np.isnan(values)])) if (~np.isnan(values)).any() else np.nan,
                        "n": mean.n,
                        "not_finite": int((~np.isfinite(values)).sum()),
                    }
                )
        return pd.DataFrame(rows)

    def volumes(self, label: int | None = None) -> BlandAltman:
        """Bland–Altman analysis of predicted against true volumes, mL: one pair per case and class, the mean of its frames, because
        frames of one case are not independent."""
        part = self.table if label is None else self.table[self.table["label"] == label]
        pairs = part.groupby(["case", "label"], sort=False)[["volume_ml", "truth_ml"]].mean()
        return bland_altman(pairs["volume_ml"].to_numpy(), pairs["truth_ml"].to_numpy())

    def against(self, other: Evaluation, measure: str = "dice", *, seed: int = 0) -> Paired:
        """Compare with another method on the same cases and classes, as paired samples.

        A class or frame for which either has no number counts for neither.

        Raises
        ------
        MedseqError
            If the cases differ, or the measure is unknown.
        """
        if measure not in MEASURES:
            raise MedseqError(f"There is no measure {measure!r}; use one of {', '.join(MEASURES)}.")
        keys = ["case", "frame", "label"]
        own, yours = (e.table.set_index(keys)[measure] for e in (self, other))
        if set(own.index) != set(yours.index):
            raise MedseqError("The two evaluations are of different cases or classes; evaluate both on the same.")
        # such as the precision of a method that predicted nothing
        undefined = own.isna() | yours.reindex(own.index).isna()
        own, yours = own.mask(undefined), yours.reindex(own.index).mask(undefined)
        # one score per case, because frames and classes of one patient are not independent
        a, b = (s.groupby(level="case", sort=True).mean() for s in (own, yours))
        return paired(a.to_numpy(dtype=float), b.to_numpy(dtype=float), seed=seed)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw Dice, HD95 and lesion F1 per class with every case as a point, and a Bland–Altman plot of the volumes.

        Parameters
        ----------
        path : optional
            File to which the figure is also written (.png, .svg, .pdf).
        """
        from napari_medseq.evaluation.plot import figure

        try:
            volumes = self.volumes()
        except MedseqError:  # fewer than two cases
            volumes = None
        drawn = figure(self.table, volumes)
        if path is not None:
            target = files.path_of(path)
            with files.replacing(target) as temporary:
                try:
                    drawn.savefig(temporary, dpi=150)
                except ValueError as problem:
                    raise WriteError(f"{target}: the figure could not be written ({problem}).") from problem
        return drawn

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as CSV."""
        target = files.path_of(path)
        with files.replacing(target) as temporary:
            self.table.to_csv(temporary, index=False)
        return target

    def __repr__(self) -> str:
        dice = self.table["dice"].mean() if len(self.table) else float("nan")
        return f"<Evaluation {how_many(self.table['case'].nunique(), 'case')}, {how_many(len(self.table), 'row')}, mean Dice {dice:.3f}>"


class _Options(TypedDict, total=False):
    """The keywords of `evaluate`, once, for its two overloads."""

    labels: Iterable[int] | None
    names: Sequence[str] | None
    min_overlap: float
    min_volume_ml: float
    within_mm: float
    progress: Progress | None
    cancelled: Cancelled | None


@overload
def evaluate(
    predictions: Labels | Iterable[Labels] | Mapping[str, Labels],
    truths: Labels | Iterable[Labels] | Mapping[str, Labels],
    **options: Unpack[_Options],
) -> Evaluation: ...
@overload
def evaluate(
    predictions: Locations | Iterable[Locations] | Mapping[str, Locations],
    truths: Labels | Iterable[Labels] | Mapping[str, Labels],
    **options: Unpack[_Options],
) -> LocationScores: ...
def evaluate(
    predictions: Given[Labels] | Given[Locations],
    truths: Given[Labels],
    *,
    labels: Iterable[int] | None = None,
    names: Sequence[str] | None = None,
    min_overlap: float = 0.1,
    min_volume_ml: float = 0.0,
    within_mm: float = 5.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Evaluation | LocationScores:
    """Compare predicted labels, or located objects, with true labels.

    Parameters
    ----------
    predictions : ImageSequence, Segmentation, Locations, a list of one of these, or a mapping name → one of them
        The predictions, each on the grid of its truth. Mappings are paired by name.
    truths : ImageSequence, Segmentation, a list of them, or a mapping name → one of them
        The true labels.
    labels : iterable of int, optional
        Classes to measure; default all that occur in any truth or prediction, or that a truth names.
    names : sequence of str, optional
        Names of the cases; default the mapping's keys, else the truths' names (numbered if they repeat).
    min_overlap, min_volume_ml : float
        Limits for counting lesions; see `metrics.detect`.
    within_mm : float
        Largest distance at which a landmark still hits a lesion; for locations only.

    Returns
    -------
    Evaluation or LocationScores
        The latter for `Locations`; see `locations.score_locations`.

    Raises
    ------
    GeometryError
        If a prediction and its truth lie on different grids.
    MedseqError
        If they cannot be paired, or are not labels.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> voxels = np.zeros((4, 6, 6), np.uint8)
    >>> voxels[1:3, 2:4, 2:4] = 1
    >>> mask = ms.ImageSequence(voxels, ("z", "y", "x"), np.diag([2.0, 2.0, 5.0, 1.0]), kind="labels")
    >>> shifted = mask.replace(data=np.roll(voxels, 1, axis=2))
    >>> float(ms.evaluate(shifted, mask).table["dice"].iloc[0])
    0.5
    """
    import pandas as pd

    cases, predicted, real = _paired(predictions, truths, names)
    where = [p for p in predicted if isinstance(p, Locations)]
    if where:
        if len(where) < len(predicted):
            raise MedseqError("Some predictions are locations and some are labels; evaluate them apart.")
        lesions = dict(zip(cases, (_labels_of(t) for t in real), strict=True))
        return score_locations(
            dict(zip(cases, where, strict=True)),
            lesions,
            within_mm=within_mm,
            min_volume_ml=min_volume_ml,
            progress=progress,
            cancelled=cancelled,
        )
    pairs = [(case, _labels_of(p), _labels_of(t)) for case, p, t in zip(cases, predicted, real, strict=True)]
    for case, p, t in pairs:
        check_same_grid(t, p, tolerance_mm=1e-2, where=case)
    # one row per case even if all are empty
    values = (_classes(pairs) if labels is None else _asked(labels)) or [1]
    rows: list[dict[str, object]] = []
    for name, p, t in with_progress(pairs, len(pairs), "Evaluating", progress, cancelled):
        frames = range(t.size("t")) if "t" in t.axes else (-1,)
        for frame in frames:
            answer, truth = (s.frame(frame).volume_zyx() if frame >= 0 else s.volume_zyx() for s in (p, t))
            boxes = value_boxes(answer), value_boxes(truth)
            for label in values:
                box = _around(label, boxes, truth.shape)
                measures = compare(
                    answer[box] == label,
                    truth[box] == label,
                    t.affine,
                    min_overlap=min_overlap,
                    min_volume_ml=min_volume_ml,
                )
                called = t.label_names.get(label) or p.label_names.get(label) or str(label)
                rows.append({"case": name, "frame": frame, "label": label, "label_name": called, **measures})
    table = pd.DataFrame(rows)
    # one name per class, even if the files of cases name it differently
    table["label_name"] = table.groupby("label")["label_name"].transform("first")
    return Evaluation(table)


def _paired(
    predictions: Given[Labels] | Given[Locations], truths: Given[Labels], names: Sequence[str] | None
) -> tuple[list[str], list[object], list[object]]:
    """Name, prediction and truth of each case."""
    if isinstance(predictions, Mapping) or isinstance(truths, Mapping):
        if not (isinstance(predictions, Mapping) and isinstance(truths, Mapping)):
            raise MedseqError("Give predictions and truths both as mappings from case name, or neither.")
        if set(predictions) != set(truths):
            odd = sorted(str(k) for k in set(predictions) ^ set(truths))
            raise MedseqError(f"Predictions and truths name different cases; without a partner: {some(odd)}.")
        names = [str(k) for k in truths] if names is None else names
        ps, ts = [predictions[k] for k in truths], list(truths.values())
    else:
        ps, ts = _listed(predictions), _listed(truths)
    if len(ps) != len(ts) or not ts:
        raise MedseqError(
            f"{how_many(len(ps), 'prediction')} for {how_many(len(ts), 'truth')}; give one of each per case, and at least one."
        )
    called = [_labels_of(t).name for t in ts] if names is None else [str(n) for n in names]
    if len(called) != len(ts) or (names is not None and len(set(called)) != len(called)):
        raise MedseqError(
            f"{how_many(len(called), 'name')} for {how_many(len(ts), 'case')}; give one each, all different."
        )
    if len(set(called)) < len(called):
        called = [f"{n} {k + 1}" for k, n in enumerate(called)]
    return called, ps, ts


def _listed(items: object) -> list[object]:
    if isinstance(items, ImageSequence | Segmented | Locations):
        return [items]
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise _no_labels(items)
    return list(items)


def _labels_of(item: object) -> ImageSequence:
    """The labels of an input, in memory."""
    labels = item.labels if isinstance(item, Segmented) else item
    if not isinstance(labels, ImageSequence):
        raise _no_labels(item)
    if labels.kind != "labels":
        raise MedseqError(f"{labels.name} is an image; evaluation needs labels.")
    labels = labels.compute()
    refuse_image(np.asarray(labels.data), labels.name)
    return labels


def _no_labels(item: object) -> MedseqError:
    return MedseqError(f"Evaluation needs label sequences, not {type(item).__name__}; read files with ms.read first.")


def _around(label: int, boxes: Sequence[Mapping[int, Box]], shape: tuple[int, ...]) -> Box:
    """The box that holds a label of both masks, and a margin; of a label that is nowhere a voxel, of the background all."""
    if label == 0:
        return tuple(slice(0, n) for n in shape)
    found = [of[label] for of in boxes if label in of] or [tuple(slice(0, 1) for _ in shape)]
    whole = tuple(slice(min(s.start for s in on), max(s.stop for s in on)) for on in zip(*found, strict=True))
    return grown(whole, shape)


def _classes(pairs: list[tuple[str, ImageSequence, ImageSequence]]) -> list[int]:
    values: set[int] = set()
    for _, p, t in pairs:
        for seq in (p, t):
            values |= set(value_counts(np.asarray(seq.data)))
        values |= {int(k) for k in t.label_names}
    return sorted(v for v in values if v > 0)  # those below zero mean to ignore


def _asked(labels: object) -> list[int]:
    """The label values that are asked for."""
    given = list(labels) if isinstance(labels, Iterable) and not isinstance(labels, str | bytes) else [labels]
    listed = [v for v in given if isinstance(v, int | float | np.number) and float(v).is_integer()]
    if len(listed) < len(given):
        raise MedseqError(f"labels is {labels!r}; give whole numbers, such as labels=[1, 2].")
    return sorted({int(v) for v in listed})
