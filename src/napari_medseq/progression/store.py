"""A progression on disk: labels, tables, plot and ``run.json``, written so that no half of it is ever seen.

The tree is that of DESIGN section 3: ``ses-YYYYMMDD/<image name>_lesions.nii.gz`` per visit (``ses-NN`` when undated), and
``lesions.csv``, ``summary.csv``, ``progression.png``, ``run.json``.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from datetime import date
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, ReadError, SettingsError, WriteError
from napari_medseq.progression import change as _change
from napari_medseq.progression.components import Key, Lesion, groups
from napari_medseq.progression.graph import Graph
from napari_medseq.progression.match import Edge
from napari_medseq.progression.settings import TrackSettings
from napari_medseq.sequence import ImageSequence
from napari_medseq.version import __version__

if TYPE_CHECKING:
    from napari_medseq.progression.progression import Progression

_VERSION = 1
#: columns of lesions.csv that are no measures
_FACTS = {"visit", "date", "lesion", "label", "event", "parents", "certainty", *_change.NUMBERS, *_change.TEXTS}
_TEXT = ("label", "event", "parents", *_change.TEXTS)


def session_names(dates: list[date | None]) -> list[str]:
    """Folder of each visit: ``ses-YYYYMMDD``, a letter after the second of one day, ``ses-NN`` when undated."""
    names: list[str] = []
    for n, day in enumerate(dates, start=1):
        stem = f"ses-{day:%Y%m%d}" if day else f"ses-{n:02d}"
        names.append(
            next(name for name in (stem, *(stem + c for c in "bcdefghij"), f"{stem}v{n}") if name not in names)
        )
    return names


def save(progression: Progression, folder: Path, extra: Mapping[str, Any]) -> Path:
    """Write everything beside `folder` first, then move file by file, ``run.json`` last."""
    from napari_medseq.io import write
    from napari_medseq.progression.plots import save_figure

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".partial-") as name:
            part = Path(name)
            files: list[str] = []
            visits: list[dict[str, Any]] = []
            for labels, session, day in zip(
                progression.labels, session_names(progression.dates), progression.dates, strict=True
            ):
                file = f"{session}/{_file_stem(labels.name)}.nii.gz"
                (part / session).mkdir()
                write(labels, part / file)
                digest = sha256((part / file).read_bytes()).hexdigest()
                visits.append(
                    {
                        "date": day.isoformat() if day else None,
                        "labels": file,
                        "sha256": digest,
                        "to_common": progression.to_common(len(visits)).tolist(),
                    }
                )
                files.append(file)
            progression.lesions.to_csv(part / "lesions.csv", index=False, date_format="%Y-%m-%d")
            progression.summary.to_csv(part / "summary.csv", index=False, date_format="%Y-%m-%d")
            save_figure(progression.plot(), part / "progression.png")
            facts = json.dumps(_facts(progression, visits, extra), indent=2, default=str)
            (part / "run.json").write_text(facts, encoding="utf-8")
            for file in [*files, "lesions.csv", "summary.csv", "progression.png", "run.json"]:
                (folder / file).parent.mkdir(exist_ok=True)
                os.replace(part / file, folder / file)
    except OSError as error:
        raise WriteError(
            f"The progression could not be written to {folder}: {error}. Choose a folder you may write."
        ) from error
    return folder


def export(progression: Progression, path: Path, table: str) -> Path:
    """Write one table as CSV or Parquet, under a temporary name first; see `Progression.export`."""
    if table not in ("lesions", "summary", "growth"):
        raise SettingsError(f"There is no table {table!r}; choose lesions, summary or growth.")
    if path.suffix not in (".csv", ".parquet"):
        raise SettingsError(f"{path.name}: tables are written as .csv or .parquet.")
    frame: pd.DataFrame = getattr(progression, table)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
            part = Path(folder) / path.name
            if path.suffix == ".csv":
                frame.to_csv(part, index=False, date_format="%Y-%m-%d")
            else:
                frame.to_parquet(part, index=False, engine="pyarrow")
            os.replace(part, path)
    except ImportError as error:
        raise WriteError("Parquet needs pyarrow: pip install napari-medseq[parquet]. Or write .csv.") from error
    except OSError as error:
        raise WriteError(f"The table could not be written to {path}: {error}.") from error
    return path


def _file_stem(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "image_lesions"


def _facts(progression: Progression, visits: list[dict[str, Any]], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says; dicts and lists of the same name in `extra` are joined with ours."""
    graph = progression.graph
    ids = graph.identities
    facts: dict[str, Any] = {
        "format": _VERSION,
        "versions": versions(),
        "settings": {"track": progression.settings.model_dump()},
        "visits": visits,
        "warnings": list(progression.warnings),
        "corrections": list(progression.corrections),
        "edges": [
            [e.parent[0], ids[e.parent], e.child[0], ids[e.child], e.certainty, e.how, round(e.share, 6)]
            for edges in graph.live_parents.values()
            for e in edges
        ],
    }
    for key, value in extra.items():
        have = facts.get(key)
        if isinstance(have, dict) and isinstance(value, Mapping):
            facts[key] = {**value, **have}
        elif isinstance(have, list) and isinstance(value, (list, tuple)) and key == "warnings":
            facts[key] = list(dict.fromkeys([*value, *have]))
        elif have is None:
            facts[key] = value
        else:
            facts[f"run_{key}"] = value
    return facts


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"napari-medseq": __version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "torch", "monai", "SimpleITK"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def load(folder: Path) -> Progression:
    """Read back what `save` wrote; excluded lesions and undo are not kept."""
    from napari_medseq.progression.progression import Progression

    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        table = pd.read_csv(folder / "lesions.csv", dtype=dict.fromkeys(_TEXT, str))
        table = table.fillna(dict.fromkeys(_TEXT, ""))
        visits = list(facts["visits"])
        dates = [date.fromisoformat(v["date"]) if v["date"] else None for v in visits]
        settings = TrackSettings(**facts["settings"]["track"])
        masks = [_read_labels(folder, str(v["labels"])) for v in visits]
        lesions: dict[Key, Lesion] = {}
        worlds = [geometry.as_affine(v.get("to_common", np.eye(4))) for v in visits]
        for visit, (mask, world) in enumerate(zip(masks, worlds, strict=True)):
            lesions.update(_lesions(mask, visit, table, world))
        edges = [
            Edge((int(a), int(b)), (int(c), int(d)), float(certainty), str(how), float(share))
            for a, b, c, d, certainty, how, share in facts["edges"]
        ]
        graph = Graph(lesions, reserved={key: key[1] for key in lesions}, visits=len(masks)).with_edges(
            e for e in edges if e.parent in lesions and e.child in lesions
        )
        measures = _measures(table)
        result = Progression(
            graph,
            masks,
            dates=dates,
            settings=settings,
            warnings=tuple(facts.get("warnings", ())),
            worlds=worlds,
            measures=measures,
        )
        result.corrections = [str(c) for c in facts.get("corrections", ())]
    except FileNotFoundError as error:
        raise ReadError(
            f"{folder} is no saved progression: {error.filename} is missing. Choose a folder that run wrote."
        ) from None
    except MedseqError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ReadError(
            f"{folder} holds a broken progression ({type(error).__name__}: {error}). Run it again."
        ) from error
    return result


def _read_labels(folder: Path, name: str) -> ImageSequence:
    from napari_medseq.io import read

    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ReadError(f"run.json in {folder} names {name!r}, which lies outside the folder. Do not trust it.")
    mask: ImageSequence = read(path, kind="labels")[0].compute()
    return mask.replace(meta={**mask.meta, "lesion_identities": True})


def _lesions(mask: ImageSequence, visit: int, table: pd.DataFrame, world: NDArray[np.float64]) -> dict[Key, Lesion]:
    """The lesions of one saved label volume; numbers are identities."""
    volume = mask.volume_zyx()
    index = np.argwhere(volume).astype(np.int32)
    if not len(index):
        return {}
    values, member = np.unique(volume[tuple(index.T)], return_inverse=True)
    here = table[table["visit"] == visit].drop_duplicates("lesion").set_index("lesion")
    found = {}
    for value, part in zip(values.tolist(), groups(index, member, len(values)), strict=True):
        label = str(here["label"].get(value, "lesion"))
        found[visit, value] = Lesion(visit, value, label, part, mask.affine, world, mask.slice_axis)
    return found


def _measures(table: pd.DataFrame) -> dict[Key, dict[str, Any]]:
    """What was measured, by (visit, identity), so that nothing changes by saving."""
    columns = [c for c in table.columns if c not in _FACTS]
    present = table[table["volume_ml"] > 0]
    return {
        (int(row["visit"]), int(row["lesion"])): {c: row[c] for c in columns}
        for row in present.to_dict(orient="records")
    }
