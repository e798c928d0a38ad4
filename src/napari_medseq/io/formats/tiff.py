"""TIFF by tifffile: stacks of ImageJ, OME-TIFF, and pages that do not state what they are, which are taken for slices.

Axes and pixel sizes are those of the file's first series. Colours stay together; channels of another meaning become images of their own.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseq.errors import ReadError
from napari_medseq.io import naming
from napari_medseq.io.formats.colours import COLOURS, TURNED, upright, without_grey_colours
from napari_medseq.io.formats.packing import cannot_hold
from napari_medseq.io.formats.raw import Laziness
from napari_medseq.io.formats.reader import Facts
from napari_medseq.io.label_values import labels_or_image
from napari_medseq.io.placing import place
from napari_medseq.progress import Cancelled
from napari_medseq.sequence import ImageSequence, Kind, affine_from

#: tifffile's letters to axes of ours; pages without a meaning (I, Q) are slices, samples (S) are colours
_AXES = {"T": "t", "Z": "z", "I": "z", "Q": "z", "Y": "y", "X": "x", "S": "c", "C": "c"}
_MILLIMETRES = {
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "µm": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "micrometer": 1e-3,
    "nm": 1e-6,
    "m": 1e3,
}
#: Units of time that ImageJ and OME write, in seconds.
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("µs", "us", "usec"), 1e-6),
    "ns": 1e-9,
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_HARMLESS = 1 << 26  # bytes that are unpacked whatever the file's size


def read(
    path: Path,
    *,
    lazy: Laziness = False,  # noqa: ARG001 - a TIFF is read whole
    kind: Kind | None = None,
    cancelled: Cancelled | None = None,  # noqa: ARG001
) -> list[ImageSequence]:
    """Read the first series of a TIFF.

    Raises
    ------
    ReadError
        If it is damaged, unpacks to far more than it holds, or has axes that no image sequence has.
    """
    tifffile: Any = import_module("tifffile")
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            if cannot_hold(path.stat().st_size, series.nbytes, harmless=_HARMLESS):
                raise ReadError(f"{path}: {path.stat().st_size:,} bytes cannot hold {series.nbytes:,} bytes of pixels.")
            letters, array = str(series.axes), np.asarray(series.asarray())
            if not (kind == "labels" or (kind is None and naming.names_labels(path))):
                letters, array = _as_seen(tif, letters, array)
            notes, sizes, step_s = _facts_of(tif)
            others, orientation = len(tif.series) - 1, _orientation(tif)
    except ReadError:
        raise
    except Exception as error:  # tifffile and its codecs raise of their own on damaged files
        raise ReadError(f"{path}: the TIFF is damaged ({error}); export it again.") from error
    if others:
        notes.append(f"The file holds {others} more series, which are left out.")
    array, axes = _ours(path, array, letters, notes)
    array, turned, exchanged = upright(array, axes, orientation)
    if turned:
        notes.append(TURNED)
    if exchanged:
        sizes = (sizes[1], sizes[0], sizes[2])
    known = 0 < step_s < np.inf
    if "t" in axes and not known:
        notes.append("The TIFF does not state the time between frames; frames are counted as 1 s apart.")
    times = np.arange(array.shape[axes.index("t")]) * step_s if "t" in axes and known else None
    colours = "c" in axes and array.shape[-1] == COLOURS
    split = "c" in axes and not colours
    parts = [array[..., k] for k in range(array.shape[-1])] if split else [array]
    name = naming.readable(naming.stem(path))
    return [
        _sequence(
            part, axes[:-1] if split else axes, path, kind, f"{name}_channel{k}" if split else name, sizes, times, notes
        )
        for k, part in enumerate(parts)
    ]


def _sequence(
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], axes: tuple[str, ...], path: Path, kind: Kind | None, name: str,
    sizes: tuple[float, float, float], times: Any, notes: list[str],
) -> ImageSequence:  # fmt: skip
    own = list(notes)
    values: Any = array.astype(np.uint8) if array.dtype == bool else array
    labels = kind == "labels" or (kind is None and naming.names_labels(path) and "c" not in axes)
    if labels:
        values, axes, labels = labels_or_image(
            values, axes, where=path, labels_asked=kind == "labels", notes=own, has_times=times is not None
        )
    meta = {"source": str(path), "dtype": str(values.dtype), "format": "TIFF"}
    return place(
        values, axes, affine_from(sizes), oriented=False, times=times if "t" in axes else None, kind="labels" if labels else "image",
        name=name, meta=meta, warnings=tuple(own),
    )  # fmt: skip


def _ours(path: Path, array: Any, letters: str, notes: list[str]) -> tuple[Any, tuple[str, ...]]:
    """The array with our axes in our order (t, z, y, x, c); axes of one voxel that are not of space go."""
    unknown = [a for a, n in zip(letters, array.shape, strict=True) if a not in _AXES and n > 1]
    array = array.reshape([n for a, n in zip(letters, array.shape, strict=True) if a in _AXES])
    letters = "".join(a for a in letters if a in _AXES)
    names = [_AXES[a] for a in letters]
    if unknown or len(set(names)) < len(names) or not {"y", "x"} <= set(names):
        raise ReadError(
            f"{path}: axes {letters}{''.join(unknown)} are not those of an image sequence; export it as a plain stack."
        )
    if set(letters) & {"I", "Q"}:
        notes.append("The file does not say what its pages are; they are taken for slices.")
    order = [a for a in ("t", "z", "y", "x", "c") if a in names]
    array = array.transpose([names.index(a) for a in order])
    if "c" in order and array.shape[-1] == COLOURS + 1 and "S" in letters:
        array = array[..., :COLOURS]  # without opacity
    if "c" in order and array.shape[-1] == 1:
        array, order = array[..., 0], order[:-1]
    return without_grey_colours(array, tuple(order))


def _as_seen(tif: Any, letters: str, array: Any) -> tuple[str, Any]:
    """Pixels as a viewer shows them: colours of a palette looked up, and white above black where the file says the opposite.

    ImageJ and OME use both for display only, and the stored numbers are the measured ones.
    """
    page = tif.series[0].keyframe
    if tif.is_imagej or tif.is_ome:
        return letters, array
    photometric = getattr(page.photometric, "name", "")
    if photometric == "PALETTE" and page.colormap is not None:
        return f"{letters}S", np.moveaxis(page.colormap[:, array] >> 8, 0, -1).astype(np.uint8)
    if photometric == "MINISWHITE" and array.dtype.kind == "b":
        return letters, ~array
    if photometric == "MINISWHITE" and array.dtype.kind == "u":
        return letters, ((1 << page.bitspersample) - 1 - array).astype(array.dtype)
    return letters, array


def _orientation(tif: Any) -> int:
    """How rows and columns run (tag 274); as stored where ImageJ or OME wrote the file, which never look at it."""
    tag = tif.pages[0].tags.get("Orientation")
    return 1 if tag is None or tif.is_imagej or tif.is_ome else int(tag.value)


def _facts_of(tif: Any) -> tuple[list[str], tuple[float, float, float], float]:
    """Doubts, voxel sizes in mm along x, y, z, and seconds between frames (0: not said), as ImageJ or OME say them."""
    notes: list[str] = []
    if tif.is_ome:
        pixels = _ome_pixels(tif.ome_metadata)
        declared = [(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "XYZ"]
        sizes = [float(v) * _MILLIMETRES.get(u, 0.0) if v else 0.0 for v, u in declared]
        step, clock = float(pixels.get("TimeIncrement", 0.0)), str(pixels.get("TimeIncrementUnit", "s"))
    else:
        imagej = tif.imagej_metadata or {}
        unit = _MILLIMETRES.get(_plain(imagej.get("unit", "")), 0.0)
        sizes = [unit * v for v in (*_pixel(tif.pages[0]), float(imagej.get("spacing", 0.0)))]
        step, clock = float(imagej.get("finterval", 0.0)), _plain(imagej.get("tunit", "sec"))
    step *= _SECONDS.get(clock, 0.0)
    if not all(s > 0 and np.isfinite(s) for s in sizes[:2]):
        notes.append("The TIFF does not state its size in millimetres: one pixel counts as 1 mm.")
        return notes, (1.0, 1.0, 1.0), step
    if not sizes[2] > 0:
        notes.append("The TIFF does not state the distance between slices: it counts as a pixel's width.")
        sizes[2] = sizes[0]
    return notes, (sizes[0], sizes[1], sizes[2]), step


def _plain(unit: object) -> str:
    """A unit of ImageJ in one spelling."""
    return str(unit).replace("\\u00B5", "µ").strip().lower()


def _pixel(page: Any) -> tuple[float, float]:
    """Width and height of a pixel in the unit that ImageJ names; 0 where there is none."""
    sizes = []
    for tag in ("XResolution", "YResolution"):
        above, below = page.tags[tag].value if tag in page.tags else (0, 1)
        sizes.append(below / above if above else 0.0)
    return sizes[0], sizes[1]


def _ome_pixels(text: str) -> dict[str, Any]:
    """The OME description of the first image's pixels."""
    image = import_module("tifffile").xml2dict(text)["OME"]["Image"]
    pixels: dict[str, Any] = (image[0] if isinstance(image, list | tuple) else image)["Pixels"]
    return pixels


def facts(path: Path) -> list[Facts]:
    """Header facts of a TIFF for `info`."""
    tifffile: Any = import_module("tifffile")
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            notes, sizes, _ = _facts_of(tif)
            length = dict(zip((_AXES.get(a, a) for a in series.axes), series.shape, strict=True))
            order = ("x", "y", "z", "t")
            if _orientation(tif) in (5, 6, 7, 8):
                order, sizes = ("y", "x", "z", "t"), (sizes[1], sizes[0], sizes[2])
            shape = tuple(int(length[a]) for a in order if a in length)
            dtype = str(series.dtype)
            coloured = length.get("c", 1) >= COLOURS or getattr(series.keyframe.photometric, "name", "") == "PALETTE"
    except Exception as error:  # as in `read`
        raise ReadError(f"{path}: the TIFF is damaged ({error}); export it again.") from error
    labels: Kind = "labels" if naming.names_labels(path) else "image"
    return [
        Facts(
            name=naming.stem(path), kind=labels, format="TIFF", source=str(path), shape=shape, spacing_mm=sizes, frames=length.get("t"),
            dtype=dtype, warnings=tuple(notes), stored_in_colour=coloured,
        )
    ]  # fmt: skip
