"""One heart beat of a segmented cine, whole: volumes over the frames, what each cavity pumps, how the wall thickens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from napari_medseq.dynamics.cine import Ejection, ejection, thickening, volume_time
from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Beat:
    """The measurements of one heart beat.

    Attributes
    ----------
    volumes : pandas.DataFrame
        As a curve of each label: ``lesion`` (its value), ``label``, ``frame``, ``time_s``, ``mean`` (its volume in mL).
    pumped : pandas.DataFrame
        One row per label that is in two frames or more: ``lesion``, ``label`` and the fields of `Ejection`.
    walls : pandas.DataFrame or None
        As `thickening` gives it, where a cavity and its wall are named.
    """

    volumes: pd.DataFrame
    pumped: pd.DataFrame
    walls: pd.DataFrame | None = None


def measure_beat(labels: ImageSequence, cavity: int = 0, wall: int = 0) -> Beat:
    """Measure a segmented cine series.

    Parameters
    ----------
    labels : ImageSequence
        Labels with axis ``t``.
    cavity, wall : int
        Values of a ventricle's cavity and wall; with both, the wall's thickening is measured by segment. 0: it is not.

    Raises
    ------
    MedseqError
        If the labels have no frames, nothing is labelled, or cavity or wall are not there.
    """
    import pandas as pd

    volumes = volume_time(labels).rename(columns={"value": "lesion", "volume_ml": "mean"})
    if volumes.empty:
        raise MedseqError(f"{labels.name} has no label in any frame. Paint or segment it first.")
    rows = [
        {"lesion": value, "label": own["label"].iloc[0], **asdict(ejection(labels, value))}
        for value, own in ((int(str(v)), rows) for v, rows in volumes.groupby("lesion"))
        if (own["mean"] > 0).sum() > 1
    ]
    columns = ["lesion", "label", *(f.name for f in fields(Ejection))]
    walls = thickening(labels, cavity, wall) if cavity and wall else None
    return Beat(volumes, pd.DataFrame(rows, columns=columns), walls)
