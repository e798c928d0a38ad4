"""A progression on disk: labels, tables, plot and ``run.json``, sealed and changed as one.

The tree is that of DESIGN section 3: ``ses-YYYYMMDD/<image name>_lesions.nii.gz`` per visit (``ses-NN`` when undated), and
``lesions.csv``, ``summary.csv``, ``progression.png``, ``run.json``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_medseq import geometry, record
from napari_medseq.errors import MedseqError, ReadError, SettingsError
from napari_medseq.geometry import Affine
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.progression import change as _change
from napari_medseq.progression.components import Key, Lesion, groups
from napari_medseq.progression.folder import RECORD, ResultFolder, checked_record, claimed
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.match import Edge
from napari_medseq.progression.matrix import chosen_rows
from napari_medseq.progression.reapply import Correction
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.progression.table import TEXTS, Measures
from napari_medseq.progression.tracked import Tracked
from napari_medseq.sequence import ImageSequence
from napari_medseq.tables import from_csv_text, write_csv, write_table

_VERSION = 2
#: columns of lesions.csv that are no measures
_FACTS = {"visit", "date", "lesion", "certainty", "smallest_change_ml", *_change.NUMBERS, *TEXTS}
#: facts of run.json that are this module's, so that they are not kept as provenance
_OURS = ("format", "visits", "corrections", "edges", "files", "versions")


@dataclass(frozen=True)
class Stored:
    """The contents of a result folder, as `Tracked` takes them."""

    graph: Graph
    masks: tuple[ImageSequence | None, ...]
    dates: tuple[date | None, ...]
    settings: TrackSettings
    warnings: tuple[str, ...]
    worlds: tuple[Affine, ...]
    measures: Measures
    corrections: tuple[Correction, ...]
    provenance: Mapping[str, object]


def session_names(dates: Sequence[date | None]) -> list[str]:
    """Folder of each visit: ``ses-YYYYMMDD``, a letter after the second of one day, ``ses-NN`` when undated."""
    names: list[str] = []
    for n, day in enumerate(dates, start=1):
        stem = f"ses-{day:%Y%m%d}" if day else f"ses-{n:02d}"
        names.append(
            next(name for name in (stem, *(stem + c for c in "bcdefghij"), f"{stem}v{n}") if name not in names)
        )
    return names


def save(
    progression: Tracked,
    path: Path,
    extra: Mapping[str, object] | None = None,
    *,
    claim: ResultFolder | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Write everything beside what `path` holds, then put it in its place as a whole.

    Parameters
    ----------
    progression : Tracked
    path : path
    extra : mapping, optional
        More facts for ``run.json``.
    claim : ResultFolder, optional
        The folder, where the caller holds it already.
    progress, cancelled : callables, optional

    Raises
    ------
    WriteError
        If the folder cannot be written to, or another process writes to it.
    OperationCancelled
        When `cancelled` says so; what was in the folder is whole then.
    """
    from napari_medseq.progression.plots import overview, save_figure

    with nullcontext(claim) if claim is not None else claimed(path) as folder, folder.replacing() as part:
        visits: list[dict[str, object]] = []
        names = session_names(progression.dates)
        steps: list[Callable[[], object]] = [
            *(lambda v=v, name=name: visits.append(_save_visit(progression, v, name, part)) for v, name in enumerate(names)),
            lambda: write_csv(progression.lesions, part / "lesions.csv"),
            lambda: write_csv(progression.summary, part / "summary.csv"),
            lambda: save_figure(overview(progression), part / "progression.png"),
            lambda: record.write_run(part / RECORD, _facts(progression, visits, extra or {})),
        ]  # fmt: skip
        for step in with_progress(steps, len(steps), "Saving the result", progress, cancelled):
            step()
    return path


def _save_visit(progression: Tracked, visit: int, session: str, part: Path) -> dict[str, object]:
    """Write the labels of one visit; what run.json says of it."""
    from napari_medseq.io import write

    labels, day = progression.labels[visit], progression.dates[visit]
    facts: dict[str, object] = {
        "date": day.isoformat() if day else None,
        "labels": None,
        "to_common": progression.to_common(visit).tolist(),
    }
    if labels is not None:
        file = f"{session}/{file_stem(labels.name)}.nii.gz"
        (part / session).mkdir()
        write(labels, part / file)
        facts |= {"labels": file, "sha256": record.sha256(part / file)}
    return facts


def export(progression: Tracked, path: Path, table: str, measure: str = "volume_ml", rows: str = "") -> Path:
    """Write one table as CSV or Parquet, under a temporary name first; see `Progression.export`."""
    frames = {
        "lesions": lambda: chosen_rows(progression.lesions, rows),
        "matrix": lambda: progression.matrix(measure, rows=rows),
        "summary": lambda: progression.summary,
        "growth": lambda: progression.growth,
    }
    if table not in frames:
        raise SettingsError(f"There is no table {table!r}; choose {', '.join(frames)}.")
    return write_table(frames[table](), path)


def file_stem(name: str) -> str:
    """A name of an image as the start of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "image_lesions"


def _facts(
    progression: Tracked, visits: Sequence[Mapping[str, object]], extra: Mapping[str, object]
) -> dict[str, object]:
    """The contents of ``run.json``: the origin of the result, then its own facts."""
    ids = progression.graph.identities
    provenance = {**progression.provenance, **extra}
    settings, warned = provenance.pop("settings", None), provenance.pop("warnings", None)
    return {
        **{key: value for key, value in provenance.items() if key not in _OURS},
        "format": _VERSION,
        "settings": {**(settings if isinstance(settings, Mapping) else {}), "track": progression.settings.model_dump()},
        "visits": list(visits),
        "warnings": list(dict.fromkeys([*(warned if isinstance(warned, list | tuple) else ()), *progression.warnings])),
        "corrections": [correction.as_dict() for correction in progression.made],
        "edges": [
            [e.parent[0], ids[e.parent], e.child[0], ids[e.child], e.certainty, e.how, round(e.share, 6)]
            for edges in progression.graph.live_parents.values()
            for e in edges
        ],
    }


def load(folder: Path) -> Stored:
    """Read back what `save` wrote; excluded lesions and undo are not kept.

    Raises
    ------
    ReadError
        If the folder holds no progression, or its files do not belong together.
    """
    facts = checked_record(folder)
    try:
        return _stored(folder, facts)
    except MedseqError:
        raise
    except FileNotFoundError as error:
        raise ReadError(f"{folder} is not a whole result: {error.filename} is missing. Run it again.") from None
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ReadError(
            f"{folder} holds a broken progression ({type(error).__name__}: {error}). Run it again."
        ) from error


def _stored(folder: Path, facts: Mapping[str, Any]) -> Stored:
    visits = list(facts["visits"])
    table = read_lesions(folder / "lesions.csv")
    masks = tuple(_read_labels(folder, str(v["labels"])) if v["labels"] else None for v in visits)
    worlds = tuple(geometry.as_affine(v.get("to_common", np.eye(4))) for v in visits)
    lesions: dict[Key, Lesion] = {}
    for visit, (mask, world) in enumerate(zip(masks, worlds, strict=True)):
        if mask is not None:
            lesions.update(_lesions(mask, visit, table, world))
    edges = [
        Edge((int(a), int(b)), (int(c), int(d)), float(certainty), str(how), float(share))
        for a, b, c, d, certainty, how, share in facts["edges"]
    ]
    graph = Graph(
        lesions,
        reserved={key: key[1] for key in lesions},
        visits=len(masks),
        unseen=frozenset(k for k, mask in enumerate(masks) if mask is None),
    )
    settings = facts["settings"]
    return Stored(
        graph.with_edges(e for e in edges if e.parent in lesions and e.child in lesions),
        masks,
        tuple(date.fromisoformat(v["date"]) if v["date"] else None for v in visits),
        TrackSettings(**settings["track"]),
        tuple(str(w) for w in facts.get("warnings", ())),
        worlds,
        _measures(table),
        tuple(Correction.from_dict(c) for c in facts.get("corrections", ())),
        {key: value for key, value in facts.items() if key not in (*_OURS, "warnings")},
    )


def read_lesions(path: Path) -> pd.DataFrame:
    """The table ``lesions.csv`` of a result, text as it was before it was made safe for spreadsheets."""
    table = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str))
    table = table.fillna(dict.fromkeys(TEXTS, ""))
    table["label"] = table["label"].map(from_csv_text)
    if "cut_off" not in table:  # written by version 1
        table["cut_off"] = False
    return table


def _read_labels(folder: Path, name: str) -> ImageSequence:
    from napari_medseq.io import read

    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ReadError(f"run.json in {folder} names {name!r}, which lies outside the folder. Do not trust it.")
    mask: ImageSequence = read(path, kind="labels")[0].compute()
    return mask.replace(meta={**mask.meta, "lesion_identities": True})


def _lesions(mask: ImageSequence, visit: int, table: pd.DataFrame, world: Affine) -> dict[Key, Lesion]:
    """The lesions of one saved label volume; numbers are identities."""
    volume = mask.volume_zyx()
    index = np.argwhere(volume).astype(np.int32)
    if not len(index):
        return {}
    values, member = np.unique(volume[tuple(index.T)], return_inverse=True)
    at_visit = table[table["visit"] == visit].drop_duplicates("lesion").set_index("lesion")
    lesions = {}
    for value, part in zip(values.tolist(), groups(index, member, len(values)), strict=True):
        label = str(at_visit["label"].get(value, "lesion"))
        lesions[visit, value] = Lesion(
            visit,
            value,
            label,
            part,
            mask.affine,
            to_common=world,
            slice_axis=mask.slice_axis,
            grid_zyx=volume.shape,
        )
    return lesions


def _measures(table: pd.DataFrame) -> Measures:
    """The measures by (visit, identity), so that saving changes nothing."""
    columns = [c for c in table.columns if c not in _FACTS]
    present = table[table["volume_ml"] > 0]
    keys = zip(present["visit"].astype(int), present["lesion"].astype(int), strict=True)
    values = present[columns].to_dict(orient="records")
    return {key: {str(name): value for name, value in row.items()} for key, row in zip(keys, values, strict=True)}
