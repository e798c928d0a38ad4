"""The common part of the commands: options with the same meaning everywhere, the progress bar, answers for people and
machines."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.progress import Progress

if TYPE_CHECKING:
    from pandas import DataFrame

    from napari_medseq.sequence import ImageSequence, Kind

#: the parser to which a command is added
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


#: columns of the lesion table that are shown on a terminal
SHORT = ("visit", "date", "lesion", "volume_ml", "longest_mm", "event", "parents", "certainty")

#: least seconds between two pictures of a progress bar, and between two lines of it in a log
_REDRAW_S, _LOG_S = 0.1, 60.0


# -- commands and options ---------------------------------------------------------------------------------------------------------
def add_command(commands: Commands, name: str, purpose: str) -> argparse.ArgumentParser:
    """Add a command; its `purpose` stands in the list of commands and, as a sentence, in its own help."""
    return commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")


def add_json(command: argparse.ArgumentParser) -> None:
    """Add ``--json``: print the answer as JSON."""
    command.add_argument("--json", action="store_true", help="print the answer as JSON")


def add_model(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add ``--model``, ``--device``, ``--series`` and ``--force``, for commands that run a model, or the mean of `several`."""
    repeated = "; the option may be repeated, and the answers are averaged" if several else ""
    command.add_argument(
        "-m",
        "--model",
        required=True,
        action="append" if several else "store",
        help=f"the name of a model (`napari-medseq models` lists them), or the folder of its bundle{repeated}",
    )
    command.add_argument(
        "--device",
        default="auto",
        help="where the model runs: auto (the default), cpu, cuda, cuda:N, mps or dask://host:port",
    )
    add_series(command)
    command.add_argument(
        "--force",
        action="store_true",
        help="run the model even if the image has another modality than the model was trained on",
    )


def add_series(command: argparse.ArgumentParser) -> None:
    """Add ``--series``: the image to use if there are several."""
    command.add_argument(
        "--series",
        action="append",
        metavar="PATTERN",
        help="use the series whose name matches, such as '*T1post*'; the option may be repeated",
    )


def add_shift_dates(command: argparse.ArgumentParser) -> None:
    """Add ``--shift-dates``: shift a patient's dates, for results that leave the institution."""
    command.add_argument(
        "--shift-dates",
        action="store_true",
        help="move all dates of a patient back by a number of days that follows from the key of pseudonyms; the intervals stay the same",
    )


def add_settings(command: argparse.ArgumentParser, example: str = "min_volume_ml=0.5") -> None:
    """Add ``--settings`` and ``--set``: the settings of a step, as a file or one by one, such as `example`."""
    command.add_argument("--settings", metavar="FILE", help="a YAML or JSON file with settings")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a single setting, such as {example}; the option may be repeated",
    )


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the options that `add_settings` added; those given one by one take precedence.

    Raises
    ------
    SettingsError
        If the file cannot be read, or an item is not NAME=VALUE.
    """
    from napari_medseq.yaml_text import read_settings

    values = read_settings(Path(args.settings)) if args.settings else {}
    return {**values, **pairs(args.set)}


def pairs(items: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE items as a mapping, with values parsed as YAML.

    Raises
    ------
    SettingsError
        If one has no name or no ``=``.
    """
    from napari_medseq.yaml_text import parse_values

    values: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"--set {item!r} is not NAME=VALUE, such as min_volume_ml=0.5.")
        try:
            values[name.strip()] = parse_values(text, where=item)
        except SettingsError:
            values[name.strip()] = text
    return values


# -- images ----------------------------------------------------------------------------------------------------------
def one_image(
    path: str, series: Sequence[str] | None = None, kind: Kind | None = None, *, by_series: bool = True
) -> ImageSequence:
    """The only image of a path, or the one that `series` names among several.

    Parameters
    ----------
    path : str
    series : sequence of str, optional
    kind : {"image", "labels"}, optional
    by_series : bool
        Whether ``--series`` chooses among the images of this path, for the message.

    Raises
    ------
    MedseqError
        Listing the choices if there are several.
    """
    from fnmatch import fnmatchcase

    import napari_medseq as ms

    sequences = ms.read(path, kind=kind)
    if series:
        matching = [s for s in sequences if any(fnmatchcase(s.name.lower(), p.lower()) for p in series)]
    else:
        matching = [s for s in sequences if kind is None or s.kind == kind] or list(sequences)
    if len(matching) != 1:
        names = ", ".join(s.name for s in sequences)
        how = "none of them is called so" if not matching else "more than one could be meant"
        way_out = "choose one with --series NAME" if by_series else "name the file or folder of one of them"
        raise MedseqError(f"{path} holds {len(sequences)} images ({names}) and {how}; {way_out}.")
    chosen: ImageSequence = matching[0]
    return chosen


def labels_on(path: str, image: ImageSequence) -> ImageSequence:
    """The labels of a file on the grid of an image; those of DICOM (SEG, RTSTRUCT) take it from the series, which is read with them, and
    those of a picture or stack from an image that says no more of its place in space.

    Raises
    ------
    MedseqError
        Listing the choices if there are several.
    """
    import napari_medseq as ms
    from napari_medseq.io.detection import detect
    from napari_medseq.sequence import placed_like

    series, file = image.meta.get("source"), Path(path)
    if not (image.meta.get("series_uid") and isinstance(series, str) and file.is_file() and detect(file) == "dicom"):
        return placed_like(one_image(path, kind="labels", by_series=False), image)
    own = [s for s in ms.read([path, series], lazy="auto") if s.kind == "labels" and s.meta.get("source") == str(file)]
    if len(own) != 1:
        names = ", ".join(s.name for s in own) or "no labels"
        raise MedseqError(f"{path} holds {names} on the series {series}; name a file with one image of labels.")
    return own[0].compute()


def add_frame(command: argparse.ArgumentParser) -> None:
    """Add ``--frame``: where in time labels of a single frame belong."""
    command.add_argument(
        "--frame",
        type=int,
        metavar="N",
        help="the frame of an image over time on which the labels were drawn, counted from 0, if they have no frames themselves",
    )


def in_frame(labels: ImageSequence, image: ImageSequence, frame: int | None) -> ImageSequence:
    """Labels of one frame as labels of an image over time, whose other frames hold none; other labels as they are.

    Raises
    ------
    SettingsError
        If the frame is not said, not there, or said of labels that need none.
    GeometryError
        If the labels do not lie on the grid of the frame.
    """
    import numpy as np

    from napari_medseq.sequence import check_same_grid

    if not image.is_dynamic or labels.is_dynamic:
        if frame is not None:
            of = labels.name if image.is_dynamic else image.name
            has = f"has {labels.size('t')} frames of its own" if image.is_dynamic else "has no frames"
            raise SettingsError(f"--frame is for labels of one frame of an image over time; {of} {has}.")
        return labels
    frames = image.size("t")
    check_same_grid(image, labels, frames=False)
    if frame is None or not 0 <= frame < frames:
        said = "say with --frame" if frame is None else f"--frame {frame} is not there; say"
        raise SettingsError(
            f"{labels.name} holds the labels of one frame, and {image.name} has {frames} of them; {said} on which they were drawn, from 0 "
            f"to {frames - 1}."
        )
    axes = [a for a in image.axes if a != "c"]
    data = np.zeros([image.size(a) for a in axes], labels.data.dtype)
    part = np.moveaxis(data, axes.index("t"), 0)[frame]
    part[...] = np.asarray(labels.data).reshape(part.shape)
    return image.labels_like(data, name=labels.name, label_names=labels.label_names, meta=dict(labels.meta))


def spare_inputs(out: str | Path, *read: str | Path | ImageSequence | None) -> None:
    """Refuse to write over a file that is read in the same call.

    Parameters
    ----------
    out : path
        The file to write.
    *read : paths or images
        What is read; of an image the file that it came from counts.

    Raises
    ------
    SettingsError
        If they are one file.
    """
    target = Path(out)
    for one in read:
        source = one if isinstance(one, (str, Path)) or one is None else one.meta.get("source")
        if isinstance(source, (str, Path)) and Path(source).is_file() and target.exists() and target.samefile(source):
            raise SettingsError(f"{out} is read here, and what it holds would be lost; write to another file.")


def distinct(outs: Sequence[str | None]) -> None:
    """Refuse two results in one file.

    Raises
    ------
    SettingsError
        If two results would be written to one file; the message names it.
    """
    named = [str(Path(out).absolute()).casefold() for out in outs if out]
    twice = next((out for out in outs if out and named.count(str(Path(out).absolute()).casefold()) > 1), None)
    if twice is not None:
        raise SettingsError(
            f"{twice} is named for two results, of which the first would be lost; name a file for each."
        )


def check_dicom(out: str | Path, image: ImageSequence) -> None:
    """Refuse to write labels as DICOM of an image that was not read from a DICOM series, before anything is computed.

    Raises
    ------
    SettingsError
        If it was not.
    """
    if str(out).lower().endswith(".dcm") and not image.meta.get("series_uid"):
        raise SettingsError(
            f"{out}: labels in DICOM refer to the series that they were drawn on, and {image.name} is not a DICOM series; use .nii.gz, "
            ".nrrd or .mha."
        )


def check_csv(path: str | None) -> None:
    """Refuse a table whose name does not end in .csv, before anything is computed.

    Raises
    ------
    SettingsError
        If it does not.
    """
    if path and not path.lower().endswith(".csv"):
        raise SettingsError(f"{path}: the table is written as .csv.")


# -- progress and answers --------------------------------------------------------------------------------------------
def bar() -> Progress:
    """A progress bar on a terminal's stderr; in a log, which is not a terminal, a line for each minute that the work takes."""
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    last = [-math.inf if terminal else started]

    def show(done: int, total: int, message: str) -> None:
        now = time.monotonic()
        if now - last[0] < (_REDRAW_S if terminal else _LOG_S) and not (terminal and done >= total):
            return
        last[0] = now
        share = min(done / max(total, 1), 1.0)
        facts = f"{share:4.0%} {now - started:4.0f} s  {printable(message)}"
        if not terminal:
            print(facts, file=sys.stderr, flush=True)
            return
        filled = round(30 * share)
        line = f"[{'#' * filled}{'.' * (30 - filled)}] {facts}"
        print(f"\r{line[:110]:<110}", end="\n" if done >= total else "", file=sys.stderr, flush=True)

    return show


def complain(message: str) -> None:
    """Print an error that does not end the command on stderr, on one line."""
    print(f"napari-medseq: error: {printable(' '.join(message.split()))}", file=sys.stderr)


def answer(args: argparse.Namespace, facts: Mapping[str, Any] | Sequence[Any], text: str) -> None:
    """Print `facts` as JSON where ``--json`` was given, else `text`."""
    ascii_only = (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8"
    print(json.dumps(plain(facts), indent=2, ensure_ascii=ascii_only) if args.json else printable(text))


def printable(text: str) -> str:
    r"""Text that is safe for a terminal even if it holds names of files: invisible characters are written as their
    codes.

    An escape sequence in a file name or a DICOM description could otherwise colour, overwrite or forge the output, and
    a name that is not valid text could not be printed at all. Line ends stay.

    Examples
    --------
    >>> printable("scan" + chr(27) + "[2J.nii")
    'scan\\x1b[2J.nii'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: without NaN and numpy types, and with dates as ISO text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if value != value:  # true for NaN and NaT
        return None
    if isinstance(value, float):
        return value if abs(value) != float("inf") else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def rows_of(frame: DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as mappings from column names to values."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as aligned text."""
    if not rows:
        return "(nothing)"
    columns = list(columns or rows[0])
    cells = [[str(c) for c in columns]] + [[cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def cell(value: object) -> str:
    """A value as text in a table: empty for None and NaN, four digits, the items of a list joined by ×."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "×".join(cell(v) for v in value)
    return " ".join(str(value).split("\n"))
