"""`Progression`: what happened to each lesion, as tables, labels, a plot, a report and files, and how to correct it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, check
from napari_medseq.progression import again as _again
from napari_medseq.progression import corrections as _corrections
from napari_medseq.progression import measures as _measures
from napari_medseq.progression import table as _table
from napari_medseq.progression.components import Key, Lesion
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.sequence import ImageSequence

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from napari_medseq.progression.response import Assessment


class Progression:
    """Lesions followed over the visits of one patient. Made by `track`, `run` or `Progression.load`.

    Parameters
    ----------
    graph : Graph
        Lesions and edges.
    masks : sequence of ImageSequence
        The mask of each visit, on its native grid.
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
    cancelled : callable, optional
        Looked at per lesion while measuring.

    Attributes
    ----------
    corrections : list of str
        What people corrected, in order.
    """

    def __init__(
        self,
        graph: Graph,
        masks: Sequence[ImageSequence],
        *,
        dates: Sequence[date | None],
        images: Sequence[ImageSequence | None] | None = None,
        settings: TrackSettings | None = None,
        warnings: tuple[str, ...] = (),
        worlds: Sequence[NDArray[np.float64]] | None = None,
        measures: Mapping[Key, Mapping[str, Any]] | None = None,
        cancelled: Cancelled | None = None,
    ) -> None:
        self._graph = graph
        self._masks = list(masks)
        self.dates = list(dates)
        self.images: list[ImageSequence | None] = [None] * len(self._masks) if images is None else list(images)
        self._worlds = [np.eye(4)] * len(self._masks) if worlds is None else list(worlds)
        self.settings = settings or TrackSettings()
        self.warnings = tuple(warnings)
        self.corrections: list[str] = []
        self._history: list[tuple[Graph, _again.Correction]] = []
        self._noted: list[_again.Correction] = []
        self._measured: dict[Key, Mapping[str, Any]] = dict(measures or {})
        self._tables: tuple[pd.DataFrame, pd.DataFrame] | None = None
        self._labels: list[ImageSequence] | None = None
        self._measure(cancelled)

    def __repr__(self) -> str:
        lesions = len(set(self._graph.identities.values()))
        return f"<Progression {len(self._masks)} visits, {lesions} lesions>"

    # -- what there is ------------------------------------------------------------------------------------------
    @property
    def lesions(self) -> pd.DataFrame:
        """One row per lesion and visit where it is present, and one of volume 0 at the first visit where it is absent.

        Columns as DESIGN names them, then measures with their unit in the name. A copy: change it freely.
        """
        return self._both()[0].copy()

    @property
    def summary(self) -> pd.DataFrame:
        """One row per visit: number of lesions, burden, change, events. A copy."""
        return self._both()[1].copy()

    @property
    def growth(self) -> pd.DataFrame:
        """One row per lesion: sightings, share of intervals that grew, longest run, overall rate and doubling time."""
        return _table.growth(self._both()[0])

    @property
    def labels(self) -> list[ImageSequence]:
        """One label sequence per visit on its native grid; voxel value = lesion identity, excluded lesions are 0."""
        if self._labels is None:
            self._labels = [self._label(visit) for visit in range(len(self._masks))]
        return list(self._labels)

    @property
    def graph(self) -> Graph:
        """The lesions of each visit and the edges between them."""
        return self._graph

    def to_common(self, visit: int) -> NDArray[np.float64]:
        """4×4 from a visit's RAS mm to the common RAS mm in which positions are compared."""
        return self._worlds[visit]

    def in_view(self, lesion: Lesion, visit: int) -> bool:
        """Whether the place of a lesion lies within the field of view of a visit."""
        mask = self._masks[visit]
        to_voxel = np.asarray(np.linalg.inv(self._worlds[visit] @ mask.affine))
        at = geometry.apply_points(to_voxel, lesion.common_centroid[None])[0]
        return bool(((at > -0.5) & (at < np.array(mask.grid) - 0.5)).all())

    # -- corrections --------------------------------------------------------------------------------------------
    def link(self, visit: int, lesion: int, parent: int, *, parent_visit: int | None = None) -> Progression:
        """Say that a lesion comes from an earlier one; both are named by identity.

        Parameters
        ----------
        visit, lesion : int
            The later lesion: its visit (from 0) and identity there.
        parent : int
            Identity of the earlier one.
        parent_visit : int, optional
            Its visit; by default the latest before `visit`.

        Returns
        -------
        Progression
            This one, recomputed.
        """
        text = f"link lesion {lesion} at visit {visit} to lesion {parent}"
        new = _corrections.link(self._graph, visit, lesion, parent, parent_visit)
        child = _corrections.find(self._graph, visit, lesion)
        source = next(e.parent for e in new.parents[child] if e.how == "manual" and new.identities[e.parent] == parent)
        return self._correct(new, _again.remember(self._graph, text, "link", [child, source]))

    def unlink(self, visit: int, lesion: int, parent: int | None = None) -> Progression:
        """Say that a lesion does not come from `parent` (None: from none of its parents)."""
        text = f"unlink lesion {lesion} at visit {visit} from {'all' if parent is None else f'lesion {parent}'}"
        new = _corrections.unlink(self._graph, visit, lesion, parent)
        keys = _again.parents_of(self._graph, visit, lesion, parent)
        return self._correct(new, _again.remember(self._graph, text, "unlink", keys))

    def merge(self, visit: int, lesions: Sequence[int]) -> Progression:
        """Make several lesions of one visit one; it is the largest one's heir."""
        text = f"merge lesions {', '.join(str(n) for n in lesions)} at visit {visit}"
        new = _corrections.merge(self._graph, visit, list(lesions))
        keys = sorted({_corrections.find(self._graph, visit, n) for n in lesions})
        return self._correct(new, _again.remember(self._graph, text, "merge", keys))

    def split(self, visit: int, lesion: int, parts: int | Iterable[Sequence[float]] | None = None) -> Progression:
        """Cut a lesion of one visit: into its separate components, `parts` pieces, or one around each (r, a, s) point in mm."""
        text = f"split lesion {lesion} at visit {visit}"
        parts = parts if parts is None or isinstance(parts, int) else [tuple(p) for p in parts]
        new = _corrections.split(self._graph, visit, lesion, parts)
        keys = [_corrections.find(self._graph, visit, lesion)]
        return self._correct(new, _again.remember(self._graph, text, "split", keys, parts))

    def exclude(self, lesion: int, visit: int | None = None) -> Progression:
        """Take a lesion out, at one visit or (None) at all; the others keep their names."""
        text = f"exclude lesion {lesion}{'' if visit is None else f' at visit {visit}'}"
        new = _corrections.exclude(self._graph, lesion, visit)
        return self._correct(new, _again.remember(self._graph, text, "exclude", new.excluded - self._graph.excluded))

    def undo(self) -> Progression:
        """Take back the latest correction.

        Raises
        ------
        MedseqError
            If there is none.
        """
        if not self._history:
            raise MedseqError("There is no correction to undo.")
        self._graph, _ = self._history.pop()
        self.corrections.pop()
        self._forget()
        return self

    @property
    def undoable(self) -> int:
        """How many corrections `undo` can take back; those of a saved result that was loaded are not among them."""
        return len(self._history)

    def correct_again(self, before: Progression, *, exclusions: bool = True) -> list[str]:
        """Make the corrections of an earlier result on this one, such as after its masks were painted and tracked again.

        Lesions are found by their place, since their names may have changed. What holds already stays written in `corrections`.

        Parameters
        ----------
        before : Progression
            The earlier result, of the same visits on the same grids.
        exclusions : bool
            False where the masks were taken from the earlier result: what was excluded is not in them, and what was painted
            there since is meant.

        Returns
        -------
        list of str
            The corrections that could not be made, each with the reason.
        """
        made = before._made
        same = len(self._masks) == len(before._masks)
        if not (same and all(a.same_grid(b) for a, b in zip(self._masks, before._masks, strict=True))):
            return [f"{correction.text}: the visits are others now" for correction in made]
        return _again.again(self, made, exclusions=exclusions)

    def note(self, correction: _again.Correction) -> None:
        """Write down a correction that holds already."""
        self.corrections.insert(len(self.corrections) - len(self._history), correction.text)
        self._noted.append(correction)

    # -- results ------------------------------------------------------------------------------------------------
    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Per-lesion volumes and total burden over real dates; written to `path` (.png, .svg, .pdf) when given."""
        from napari_medseq.progression.plots import overview, save_figure

        figure = overview(self)
        if path is not None:
            save_figure(figure, Path(path))
        return figure

    def response(self, rule: str, **options: Any) -> Assessment:
        """Apply a response rule set, such as ``"recist-1.1"`` or ``"rano-2.0"``; see `progression.response.RULES`.

        Returns
        -------
        Assessment
            ``.table`` has a category and reasons per visit. A research measure, never a clinical verdict.
        """
        from napari_medseq.progression.response import assess

        return assess(self, rule, **options)

    def report(
        self,
        path: str | PathLike[str],
        *,
        rules: Sequence[str] = ("volumetric",),
        name: str = "",
        card: str = "",
    ) -> Path:
        """Write one self-contained HTML file.

        Parameters
        ----------
        path : path
        rules : sequence of str
            Response rule sets to apply; see `response`. By default plain volume thresholds, which fit lesions of any kind.
        name : str
            Pseudonym of the patient.
        card : str
            The model's card (markdown, shown as text).

        Returns
        -------
        Path
            The file.

        Raises
        ------
        WriteError
            If it cannot be written.
        """
        from napari_medseq.progression.report import write_report

        return write_report(self, Path(path), rules=rules, name=name, card=card)

    def save(self, folder: str | PathLike[str], *, extra: Mapping[str, Any] | None = None) -> Path:
        """Write labels, tables, plot and ``run.json`` into `folder`, from which `load` reads them back.

        Parameters
        ----------
        folder : path
            Made if missing; files of an earlier save are replaced.
        extra : dict, optional
            More facts for ``run.json``, such as the model and versions.

        Returns
        -------
        Path
            The folder.
        """
        from napari_medseq.progression.store import save

        return save(self, Path(folder), extra or {})

    def export(self, path: str | PathLike[str], *, table: str = "lesions") -> Path:
        """Write one table in tidy form.

        Parameters
        ----------
        path : path
            ``.csv``, or ``.parquet`` (needs pyarrow: ``pip install napari-medseq[parquet]``).
        table : {"lesions", "summary", "growth"}

        Returns
        -------
        Path
            The file.

        Raises
        ------
        SettingsError
            If the ending or the table is unknown.
        WriteError
            If it cannot be written, or pyarrow is missing.
        """
        from napari_medseq.progression.store import export

        return export(self, Path(path), table)

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Progression:
        """Read what `save` or `run` wrote.

        Raises
        ------
        ReadError
            If the folder does not hold a progression.
        """
        from napari_medseq.progression.store import load

        return load(Path(folder))

    # -- inside -------------------------------------------------------------------------------------------------
    @property
    def _made(self) -> list[_again.Correction]:
        return [*self._noted, *(correction for _, correction in self._history)]

    def _correct(self, new: Graph, correction: _again.Correction) -> Progression:
        self._history.append((self._graph, correction))
        self._graph = new
        self.corrections.append(correction.text)
        self._forget()
        return self

    def _forget(self) -> None:
        self._tables = self._labels = None
        self._measure(None)

    def _measure(self, cancelled: Cancelled | None) -> None:
        """Measure the lesions that are not measured yet."""
        for key, lesion in self._graph.lesions.items():
            if key not in self._measured:
                check(cancelled)
                self._measured[key] = _measures.of_lesion(lesion, self.images[key[0]], self.settings)

    def _both(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        if self._tables is None:
            lesions = _table.lesion_table(self._graph, self._measured, self.dates, self.settings, self.in_view)
            self._tables = lesions, _table.summary_table(lesions, self.dates)
        return self._tables

    def _label(self, visit: int) -> ImageSequence:
        mask = self._masks[visit]
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
