"""`Progression`: tracked lesions that can be corrected, plotted, assessed by response rules, reported, saved and
loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseq import files
from napari_medseq.errors import MedseqError, warn
from napari_medseq.progress import Cancelled, Progress
from napari_medseq.progression import reapply
from napari_medseq.progression.earlier import Earlier
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.reapply import Correction
from napari_medseq.progression.tracked import Tracked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_medseq.io.dicom.sources import Reference
    from napari_medseq.models import ModelLike
    from napari_medseq.progression.repeatability import Repeatability
    from napari_medseq.progression.response import Assessment
    from napari_medseq.sequence import ImageSequence


class Progression(Tracked):
    """Lesions followed over the visits of one patient, and what can be done with them.

    Made by `track`, `run` or `Progression.load`. Corrections change it in place and return None, as the methods of a list do;
    each can be taken back by `undo`, and all are kept by `save` and `load`. See `Tracked` for what it holds.
    """

    # -- corrections --------------------------------------------------------------------------------------------
    def link(self, visit: int, lesion: int, parent: int, *, parent_visit: int | None = None) -> None:
        """Say that a lesion comes from an earlier one; both are named by identity.

        Parameters
        ----------
        visit, lesion : int
            The later lesion: its visit (from 0) and identity there.
        parent : int
            Identity of the earlier one.
        parent_visit : int, optional
            Its visit; by default the latest before `visit`.

        Raises
        ------
        MedseqError
            If there is no such lesion, or the parent is not earlier; nothing is changed then.
        """
        self._correct(*reapply.link(self._graph, visit, lesion, parent, parent_visit))

    def unlink(self, visit: int, lesion: int, parent: int | None = None) -> None:
        """Say that a lesion does not come from `parent` (None: from none of its parents)."""
        self._correct(*reapply.unlink(self._graph, visit, lesion, parent))

    def merge(self, visit: int, lesions: Sequence[int]) -> None:
        """Make several lesions of one visit one; it is the largest one's heir."""
        self._correct(*reapply.merge(self._graph, visit, lesions))

    def split(self, visit: int, lesion: int, parts: int | Iterable[Sequence[float]] | None = None) -> None:
        """Cut a lesion of one visit: into its separate components, `parts` pieces, or one around each (r, a, s) point in mm."""
        groups = parts if parts is None or isinstance(parts, int) else [tuple(p) for p in parts]
        self._correct(*reapply.split(self._graph, visit, lesion, groups))

    def exclude(self, lesion: int, visit: int | None = None) -> None:
        """Take a lesion out, at one visit or (None) at all; the others keep their names.

        At all visits, a lesion that merged with it continues: their common outline is divided by which of the two is nearer at the
        visit before. At one visit, the whole outline is taken out.

        Warns
        -----
        MedseqWarning
            Which outlines were divided, because where two lesions met is not known.
        """
        before = set(self._graph.lesions)
        self._correct(*reapply.exclude(self._graph, lesion, visit, self.settings.min_volume_ml))
        new = [key for key in self._graph.lesions if key not in before and key not in self._graph.excluded]
        if new:
            names = (f"lesion {self._graph.identities[key]} at visit {key[0] + 1}" for key in new)
            text = (
                f"{', '.join(names)} had an outline in common with lesion {lesion}: it was divided by which of them is nearer at the "
                "visit before. Check it."
            )
            warn(text[0].upper() + text[1:])

    def undo(self) -> None:
        """Take back the latest correction.

        Raises
        ------
        MedseqError
            If there is none.
        """
        if not self._history:
            raise MedseqError("There is no correction to undo.")
        self._graph, _ = self._history.pop()
        self._forget()

    @property
    def undoable(self) -> int:
        """How many corrections `undo` can take back; those of a saved result that was loaded are not among them."""
        return len(self._history)

    def reapply_corrections(self, before: Tracked | Earlier, *, exclusions: bool = True) -> list[str]:
        """Make the corrections of an earlier result on this one, such as after its masks were painted and tracked again.

        Lesions are found by their place, since their names may have changed; afterwards they have those of the earlier result
        (`keep_identities`). What holds already stays written in
        `corrections`. What the earlier result was made from (`provenance`) is taken over where this one does not state it.

        Parameters
        ----------
        before : Tracked or Earlier
            The earlier result, of the same visits on the same grids.
        exclusions : bool
            False where the masks were taken from the earlier result: what was excluded is not in them, and what was painted
            there since is meant.

        Returns
        -------
        list of str
            The corrections that could not be made, each with the reason.
        """
        before = before.earlier if isinstance(before, Tracked) else before
        self.provenance = {**before.provenance, **self.provenance}
        if not before.has_visits_of(self._masks):
            return [f"{correction.text}: the visits are others now" for correction in before.made]
        missed = []
        for correction in before.made:
            if correction.verb == "exclude" and not exclusions:
                self._noted.append(correction)
                continue
            try:
                steps = reapply.reapply(self._graph, correction, self.settings.min_volume_ml)
            except MedseqError as error:
                missed.append(f"{correction.text}: {error}")
                continue
            for graph, made in steps:
                self._correct(graph, made)
            if not steps:
                self._noted.append(correction)
        if self._history:  # what was split or unlinked again may have got another number
            self.keep_identities(before)
        return missed

    # -- results ------------------------------------------------------------------------------------------------
    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Per-lesion volumes and total burden over real dates; written to `path` (.png, .svg, .pdf) when given."""
        from napari_medseq.progression.plots import overview, save_figure

        figure = overview(self)
        if path is not None:
            save_figure(figure, files.path_of(path))
        return figure

    def response(self, rule: str, **options: object) -> Assessment:
        """Apply a response rule set, such as ``"recist-1.1"`` or ``"rano-2.0"``; see `progression.response.RULES`.

        Returns
        -------
        Assessment
            ``.table`` has a category and reasons per visit. A research measure, never a clinical verdict.
        """
        from napari_medseq.progression.response import assess

        return assess(self, rule, **options)

    def change_map(self, earlier: int, later: int) -> ImageSequence:
        """Labels, on the later visit's grid and for viewing, of where lesions are new, gone, grown and shrunk between
        two visits.

        See `napari_medseq.progression.changemap.change_map`; no measure is taken from it.
        """
        from napari_medseq.progression.changemap import change_map

        return change_map(self, earlier, later)

    def use_repeatability(self, repeatability: Repeatability | None) -> None:
        """Say beside each volume which change would be real, as `retest` found it; None takes it back. Kept by `save`."""
        self.provenance.pop("repeatability", None)
        if repeatability is not None:
            self.provenance["repeatability"] = repeatability.as_dict()
        self._forget()

    def report(
        self,
        path: str | PathLike[str],
        *,
        rules: Sequence[str] = ("volumetric",),
        name: str = "",
        card: str = "",
        captioner: ModelLike | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Path:
        """Write one self-contained HTML file; its text is made by rules from measured facts.

        Parameters
        ----------
        path : path
        rules : sequence of str
            Response rule sets to apply; see `response`. By default plain volume thresholds, which fit lesions of any kind.
        name : str
            Pseudonym of the patient.
        card : str
            The model's card (markdown, shown as text).
        captioner : Model, name or path, optional
            A captioner, whose sentences are added and marked as written by a model. None ships with the package.
        progress, cancelled : callables, optional
            Looked at per section.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        WriteError
            If it cannot be written.
        ModelError
            If `captioner` is none.
        OperationCancelled
            When `cancelled` says so; no file has changed then.
        """
        from napari_medseq.progression.report import write_report

        return write_report(
            self, files.path_of(path), rules=rules, name=name, card=card, captioner=captioner, progress=progress, cancelled=cancelled,
        )  # fmt: skip

    def save(
        self,
        folder: str | PathLike[str],
        *,
        extra: Mapping[str, object] | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Path:
        """Write labels, tables, plot and ``run.json`` into `folder`, from which `load` reads them back.

        Parameters
        ----------
        folder : path
            Made if missing; an earlier result in it is replaced as a whole.
        extra : dict, optional
            More facts for ``run.json``; they go before those of `provenance`.
        progress, cancelled : callables, optional
            Looked at per file.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        WriteError
            If it cannot be written to, or another process writes to it.
        OperationCancelled
            When `cancelled` says so; what was in the folder is whole then.
        """
        from napari_medseq.progression.store import save

        return save(self, files.path_of(folder), extra or {}, progress=progress, cancelled=cancelled)

    def export(
        self, path: str | PathLike[str], *, table: str = "lesions", measure: str = "volume_ml", rows: str = ""
    ) -> Path:
        """Write one table in tidy form.

        Parameters
        ----------
        path : path
            ``.csv``, or ``.parquet`` (needs pyarrow: ``pip install 'napari-medseq[parquet]'``).
        table : {"lesions", "summary", "growth", "matrix"}
            "matrix": lesion × visit, see `matrix`.
        measure : str
            What stands in the cells of the matrix.
        rows : str
            A filter for the tables "lesions" and "matrix", as ``"volume>0.5 growing"``.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        SettingsError
            If the ending, the table or the measure is unknown, or the filter cannot be understood.
        WriteError
            If it cannot be written, or pyarrow is missing.
        """
        from napari_medseq.progression.store import export

        return export(self, files.path_of(path), table, measure, rows)

    def export_dicom(
        self,
        folder: str | PathLike[str],
        *,
        references: Sequence[Reference | None] | None = None,
        rtstruct: bool = False,
        identifiers: bool = False,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> list[Path]:
        """Write each visit as DICOM: a segmentation, and a structured report (TID 1500) of what was measured in it.

        A lesion has the same tracking UID in the segmentations and reports of all visits; the reports say which visit it is, in
        what order, and how many days after the first.

        Parameters
        ----------
        folder : path
            Gets a folder per visit, named as in a saved result.
        references : sequence of path-like, ImageSequence or None, optional
            The DICOM series of each visit; by default the one that its image was read from.
        rtstruct : bool
            Write an RT structure set per visit, too.
        identifiers : bool
            Keep the patient's name and ID of the reference.
        progress, cancelled : callables, optional

        Returns
        -------
        list of Path
            The files.

        Raises
        ------
        WriteError
            If the series of a visit is not known or does not fit, or the disk refuses.
        """
        from napari_medseq.progression.dicom_export import export_dicom

        return export_dicom(
            self,
            files.path_of(folder),
            references=references,
            rtstruct=rtstruct,
            identifiers=identifiers,
            progress=progress,
            cancelled=cancelled,
        )

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Progression:
        """Read what `save` or `run` wrote.

        Raises
        ------
        ReadError
            If the folder does not hold a progression, or its files do not belong together.
        """
        from napari_medseq.progression.store import load

        stored = load(files.path_of(folder))
        return cls(
            stored.graph,
            stored.masks,
            dates=stored.dates,
            settings=stored.settings,
            warnings=stored.warnings,
            worlds=stored.worlds,
            measures=stored.measures,
            corrections=stored.corrections,
            provenance=stored.provenance,
        )

    # -- inside -------------------------------------------------------------------------------------------------
    def _correct(self, new: Graph, correction: Correction) -> None:
        self._history.append((self._graph, correction))
        self._graph = new
        self._forget()
        self._measure(None)
