"""`Tracked`: the lesions of one patient over the visits as data: graph, masks, dates, tables and labels.

What people do with it (correct, plot, judge, save) is in `progression`; plots, reports, response rules and files stand between the
two and take what is here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Self

import numpy as np

from napari_medseq import geometry
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, check
from napari_medseq.progression import identity
from napari_medseq.progression import matrix as _matrix
from napari_medseq.progression import measures as _measures
from napari_medseq.progression import table as _table
from napari_medseq.progression.components import Key, Lesion
from napari_medseq.progression.earlier import Earlier
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.reapply import Correction
from napari_medseq.progression.repeatability import Repeatability
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.sequence import ImageSequence
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    import pandas as pd


class Tracked:
    """Lesions followed over the visits of one patient.

    Parameters
    ----------
    graph : Graph
        Lesions and edges.
    masks : sequence of ImageSequence or None
        The mask of each visit, on its native grid; None where a visit has none.
    dates : sequence of date or None
        One per visit.
    images : sequence of ImageSequence or None, optional
        One per visit, for intensity measures and key slices.
    settings : TrackSettings, optional
    warnings : tuple of str
        What was doubtful.
    worlds : sequence of (4, 4) ndarray, optional
        Each visit's RAS mm → common RAS mm.
    measures : dict, optional
        What is already measured.
    corrections : sequence of Correction
        What people corrected in an earlier result and holds in this graph already.
    provenance : mapping, optional
        What the result was made from and with (inputs, model, call), as ``run.json`` says it; kept when it is saved.
    cancelled : callable, optional
        Looked at per lesion while measuring.
    """

    def __init__(
        self,
        graph: Graph,
        masks: Sequence[ImageSequence | None],
        *,
        dates: Sequence[date | None],
        images: Sequence[ImageSequence | None] | None = None,
        settings: TrackSettings | None = None,
        warnings: tuple[str, ...] = (),
        worlds: Sequence[Affine] | None = None,
        measures: _table.Measures | None = None,
        corrections: Sequence[Correction] = (),
        provenance: Mapping[str, object] | None = None,
        cancelled: Cancelled | None = None,
    ) -> None:
        self._graph = graph
        self._masks = list(masks)
        self.dates = list(dates)
        self.images: list[ImageSequence | None] = [None] * len(self._masks) if images is None else list(images)
        self._worlds = [np.eye(4)] * len(self._masks) if worlds is None else list(worlds)
        self.settings = settings or TrackSettings()
        self.warnings = tuple(warnings)
        self.provenance: dict[str, object] = dict(provenance or {})
        self._history: list[tuple[Graph, Correction]] = []
        self._noted: list[Correction] = list(corrections)
        self._measured: dict[Key, Mapping[str, float]] = dict(measures or {})
        self._tables: tuple[pd.DataFrame, pd.DataFrame] | None = None
        self._labels: list[ImageSequence | None] | None = None
        self._measure(cancelled)

    def __copy__(self) -> Self:
        """The same as it is now: what is corrected, measured or noted afterwards in one is not in the other. Voxels are shared."""
        twin = object.__new__(type(self))
        twin.__dict__.update({name: copy(v) if isinstance(v, list | dict) else v for name, v in vars(self).items()})
        return twin

    def __repr__(self) -> str:
        lesions = len(set(self._graph.identities.values()))
        return f"<{type(self).__name__} {how_many(len(self._masks), 'visit')}, {how_many(lesions, 'lesion')}>"

    @property
    def lesions(self) -> pd.DataFrame:
        """One row per lesion and visit where it is present, and one of volume 0 at the first visit where it is absent.

        Columns as DESIGN names them, then measures with their unit in the name. A copy: change it freely.
        """
        return self._both()[0].copy()

    @property
    def summary(self) -> pd.DataFrame:
        """One row per visit: number of lesions, burden, change, events. A copy; blank where a visit has no mask."""
        return self._both()[1].copy()

    @property
    def growth(self) -> pd.DataFrame:
        """One row per lesion: sightings, share of intervals that grew, longest run, overall rate and doubling time."""
        return _table.growth(self._both()[0])

    def matrix(self, measure: str = "volume_ml", *, rows: str = "") -> pd.DataFrame:
        """The table of lesions as a matrix: one row per lesion, one column per visit, one measure in the cells.

        Parameters
        ----------
        measure : str
            A column of `lesions`, such as ``"volume_ml"``, ``"longest_mm"``, ``"change_percent"`` or ``"event"``.
        rows : str
            A filter, as ``"volume>0.5 growing"``; see `progression.matrix.chosen_rows`.

        Raises
        ------
        SettingsError
            If there is no such measure, or the filter cannot be understood.
        """
        return _matrix.matrix(_matrix.chosen_rows(self._both()[0], rows), self.dates, measure)

    @property
    def labels(self) -> list[ImageSequence | None]:
        """One label sequence per visit on its native grid; voxel value = lesion identity, excluded lesions are 0.

        None at a visit without a mask.
        """
        if self._labels is None:
            self._labels = [self._label(visit) for visit in range(len(self._masks))]
        return list(self._labels)

    @property
    def graph(self) -> Graph:
        """The lesions of each visit and the edges between them."""
        return self._graph

    @property
    def corrections(self) -> list[str]:
        """The corrections that people made, in words and in order."""
        return [correction.text for correction in self.made]

    @property
    def made(self) -> list[Correction]:
        """The corrections that people made, in a form that can be applied again."""
        return [*self._noted, *(correction for _, correction in self._history)]

    @property
    def repeatability(self) -> Repeatability | None:
        """The result of `retest` for this patient's scan, if it was run; saved with the result."""
        facts = self.provenance.get("repeatability")
        return Repeatability.from_dict(facts) if isinstance(facts, Mapping) else None

    def to_common(self, visit: int) -> Affine:
        """4×4 from a visit's RAS mm to the common RAS mm in which positions are compared."""
        return self._worlds[visit]

    def in_view(self, lesion: Lesion, visit: int) -> bool:
        """Whether the place of a lesion lies within the field of view of a visit; never where the visit has no mask."""
        mask = self._masks[visit]
        if mask is None:
            return False
        to_voxel = np.asarray(np.linalg.inv(self._worlds[visit] @ mask.affine))
        at = geometry.apply_points(to_voxel, lesion.common_centroid[None])[0]
        return bool(((at > -0.5) & (at < np.array(mask.grid) - 0.5)).all())

    def mask_at(self, visit: int) -> ImageSequence | None:
        """The mask of a visit as it was tracked; None where it has none."""
        return self._masks[visit]

    @property
    def earlier(self) -> Earlier:
        """What a new result of the same visits takes over from this one."""
        numbers = frozenset(self._graph.identities.values())
        return Earlier(list(self._masks), self.labels, numbers, self.made, self.provenance)

    def keep_identities(self, before: Tracked | Earlier, painted: Sequence[ImageSequence | None] = ()) -> None:
        """Give each lesion the number that most of its voxels have in an earlier result of the same visits, over all visits.

        Where several lesions have most voxels of one number, the one with more of them keeps it. Others keep the value that they were
        painted with if the earlier result does not know it, else they get numbers that it does not know either.

        Parameters
        ----------
        before : Tracked or Earlier
            The earlier result, on the same grids.
        painted : sequence of ImageSequence or None
            The masks, whose values are lesions.
        """
        before = before.earlier if isinstance(before, Tracked) else before
        if not before.has_visits_of(self._masks):
            return
        known = before.numbers
        earlier = identity.votes(self._graph, before.labels)
        numbers = identity.assigned(earlier, taken=set())
        if painted:
            new = {
                i: {v: n for v, n in votes.items() if v not in known}
                for i, votes in identity.votes(self._graph, painted).items()
            }
            rest = {i: votes for i, votes in new.items() if i not in numbers}
            numbers |= identity.assigned(rest, taken=set(numbers.values()))
        self._graph = identity.renumbered(self._graph, numbers, above=max(known, default=0))
        self._forget()

    # -- views --------------------------------------------------------------------------------------------------
    def without(self, lesions: Collection[int]) -> Tracked:
        """The same without some lesions, by identity; identities do not change."""
        removed = frozenset(key for key, identity in self._graph.identities.items() if identity in lesions)
        return self._view(replace(self._graph, excluded=self._graph.excluded | removed), range(len(self._masks)))

    def at_visits(self, visits: Sequence[int]) -> Tracked:
        """The same at some of the visits alone, which are numbered from 0 again; all lesions must be at these."""
        return self._view(self._graph.at_visits(visits), visits)

    def _view(self, graph: Graph, visits: Sequence[int]) -> Tracked:
        number = {old: new for new, old in enumerate(visits)}
        return Tracked(
            graph,
            [self._masks[v] for v in visits],
            dates=[self.dates[v] for v in visits],
            images=[self.images[v] for v in visits],
            settings=self.settings,
            worlds=[self._worlds[v] for v in visits],
            measures={(number[visit], n): m for (visit, n), m in self._measured.items() if visit in number},
        )

    @property
    def seen(self) -> list[int]:
        """The visits that have a mask."""
        return [visit for visit, mask in enumerate(self._masks) if mask is not None]

    # -- inside -------------------------------------------------------------------------------------------------
    def _forget(self) -> None:
        """Drop what was computed from the graph before."""
        self._tables = self._labels = None

    def _measure(self, cancelled: Cancelled | None) -> None:
        """Measure the lesions that are not measured yet."""
        for key, lesion in self._graph.lesions.items():
            if key not in self._measured:
                check(cancelled)
                self._measured[key] = _measures.of_lesion(lesion, self.images[key[0]], self.settings)

    def _both(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        if self._tables is None:
            lesions = _table.lesion_table(self._graph, self._measured, self.dates, self.settings, self.in_view)
            repeatability = self.repeatability
            if repeatability is not None:
                lesions = repeatability.beside(lesions)
            seen = [mask is not None for mask in self._masks]
            self._tables = lesions, _table.summary_table(lesions, self.dates, seen)
        return self._tables

    def _label(self, visit: int) -> ImageSequence | None:
        mask = self._masks[visit]
        if mask is None:
            return None
        identities = self._graph.identities
        most = max(identities.values(), default=0)
        data = np.zeros(mask.data.shape, np.uint16 if most < 2**16 else np.uint32)
        volume = data if "z" in mask.axes else data[np.newaxis]
        names = {}
        for lesion in self._graph.at(visit):
            if lesion.key not in self._graph.excluded:
                volume[tuple(lesion.index.T)] = identities[lesion.key]
                names[identities[lesion.key]] = f"{lesion.label} {identities[lesion.key]}"
        image = self.images[visit]
        name = image.name if image is not None else mask.name
        name = name if name.endswith("_lesions") else f"{name}_lesions"
        labels = mask.labels_like(data, name=name, label_names=names)
        return labels.replace(meta={**mask.meta, "lesion_identities": True, "dtype": str(data.dtype)})
