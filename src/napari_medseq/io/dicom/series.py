"""From files to sequences: headers once, then frames, stacks and pixels; a bad series does not stop the others.

No patient's name, ID or birth date leaves this module unless asked for.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io import naming
from napari_medseq.io.dicom import dicomdir, pixels, stored, suv
from napari_medseq.io.dicom.frame import Frame
from napari_medseq.io.dicom.frames import frames_of
from napari_medseq.io.dicom.grouping import split
from napari_medseq.io.dicom.headers import FileHeader, parse
from napari_medseq.io.dicom.identity import separated
from napari_medseq.io.dicom.privacy import pseudonym, without_identifiers
from napari_medseq.io.dicom.stacks import Stack, stack
from napari_medseq.io.dicom.values import integer, number, text, texts
from napari_medseq.io.formats.raw import Laziness, empty, is_wanted_lazy, lazily
from napari_medseq.io.notes import collect_failures
from napari_medseq.io.parallel import in_threads
from napari_medseq.io.placing import place
from napari_medseq.progress import Cancelled, Progress, check, with_progress
from napari_medseq.sequence import ImageSequence, Voxels

#: Size in bytes below which threads do not pay off, and the number of failing first frames after which a series is abandoned.
_SMALL, _MOST_THREADS, _HOPELESS = 4 << 20, 8, 8
#: SOP classes of labels on an image, which modules of their own read.
SEG, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
LABELMAP_SEG = "1.2.840.10008.5.1.4.1.1.66.7"


FACTS = {
    "frame_of_reference": "FrameOfReferenceUID",
    "series_uid": "SeriesInstanceUID",
    "study_uid": "StudyInstanceUID",
    "manufacturer": "Manufacturer",
    "study_date": "StudyDate",
    "body_part": "BodyPartExamined",
}


@dataclass
class Scan:
    """The headers of many files: image frames by series, files of labels, and files that could not be opened."""

    series: dict[str, list[Frame]] = field(default_factory=dict)
    labels: list[FileHeader] = field(default_factory=list)
    others: list[FileHeader] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stacks: list[tuple[Stack, str]] = field(default_factory=list)
    alike: dict[object, Frame] = field(default_factory=dict)


def scan(
    paths: Iterable[str | os.PathLike[str]], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> Scan:
    """Parse each file's header once."""
    files = [os.fspath(p) for p in paths]
    out = Scan()
    for path in with_progress(files, len(files), "Reading headers", progress, cancelled):
        with collect_failures(path, out.failures):
            directory = _sorted_in(parse(path), out)
            if directory is not None:
                listed, problems = dicomdir.referenced(directory)
                out.failures.extend(problems)
                listed_paths = {os.path.realpath(p) for p in files}
                for other in [p for p in listed if p not in listed_paths]:
                    check(cancelled)
                    with collect_failures(other, out.failures):
                        _sorted_in(parse(other), out)
    return out


def _sorted_in(file: FileHeader, out: Scan) -> FileHeader | None:
    """Add a parsed file to the scan; a DICOMDIR is returned."""
    if "DirectoryRecordSequence" in file.ds:
        return file
    if text(file.ds, "SOPClassUID") in (SEG, LABELMAP_SEG, RTSTRUCT):
        out.labels.append(file)
    elif not file.pixel_keyword or "Rows" not in file.ds:
        out.others.append(file)
    else:
        doubt = stored.check_promise(file)
        if doubt:
            file.notes.append(doubt)
        for frame in frames_of(file, out.alike):
            uid = text(file.ds, "SeriesInstanceUID") or os.path.dirname(file.path)
            out.series.setdefault(uid, []).append(frame)
    return None


def read_scan(
    scan: Scan, *, lazy: Laziness = False, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> list[ImageSequence]:
    """The images of a scan, series by series; failures are added to ``found.failures``."""
    arranged = sort(scan)
    total = sum(len(s.grid) * len(s.grid[0]) for s, _ in arranged)
    done = 0

    def step(name: str) -> None:
        nonlocal done
        check(cancelled)
        done += 1
        if progress is not None:
            progress(done, total, f"Reading {name}")

    out = []
    for stack_of_name, name in arranged:
        with collect_failures(name, scan.failures):
            out.append(sequence(stack_of_name, name, lazy=lazy, step=step))
    return out


def sort(scan: Scan) -> list[tuple[Stack, str]]:
    """All stacks of a scan with their names, kept in ``found.stacks``; contradictory series are failures."""
    for frames, reason in images(scan):
        with collect_failures(series_name(frames[0]), scan.failures):
            scan.stacks.extend(named(arrange(frames, reason)))
    return scan.stacks


def images(scan_result: Scan) -> list[tuple[list[Frame], str]]:
    """The frames of each series of a scan, with the reason why files of one SeriesInstanceUID are several series (""
    if they are one)."""
    return [part for frames in scan_result.series.values() for part in separated(frames)]


_SHARED = {
    "owner": "Files of other studies or patients carry the same SeriesInstanceUID; they are read as images of their own.",
    "date": "Files of other days carry the same SeriesInstanceUID; they are read as images of their own.",
    "folder": "Another folder holds the same slices under the same SeriesInstanceUID; each folder is read as an image of its own.",
}


def arrange(frames: Sequence[Frame], shared: str = "") -> list[Stack]:
    """All stacks of one series; `shared` is the reason why it does not hold all files of its SeriesInstanceUID."""
    out = [one_stack for group in split(frames) for one_stack in stack(group)]
    for one_stack in out if shared else ():
        one_stack.notes.append(_SHARED[shared])
        one_stack.facts = dict(one_stack.facts, shares_uid_with=shared)
    return out


def nearest(file: FileHeader, stacks: Sequence[Stack]) -> list[Stack]:
    """Of stacks that share a SeriesInstanceUID across visits, those with the day and folder of a file that refers to
    it."""
    if not any("shares_uid_with" in one.facts for one in stacks):
        return list(stacks)

    def closeness(one: Stack) -> tuple[bool, int]:
        image = one.first.file
        same_day = text(image.ds, "StudyDate") == text(file.ds, "StudyDate")
        return same_day, len(os.path.commonpath([os.path.abspath(image.path), os.path.abspath(file.path)]))

    best = max(closeness(one) for one in stacks)
    return [one for one in stacks if closeness(one) == best]


def series_name(frame: Frame) -> str:
    """A readable name: the series' description, else its protocol, else modality and number."""
    ds = frame.file.ds
    for keyword in ("SeriesDescription", "ProtocolName"):
        description = without_identifiers(text(ds, keyword), ds)
        if description:
            return naming.readable(description)
    number_ = integer(ds, "SeriesNumber", 0)
    return naming.readable(
        f"{text(ds, 'Modality') or 'image'}_{number_}" if number_ else text(ds, "Modality") or "image"
    )


def named(stacks: list[Stack]) -> list[tuple[Stack, str]]:
    """Names for the stacks of one series, distinguished by the facts in which they differ."""
    base = series_name(stacks[0].first)
    if len(stacks) == 1:
        component = _component(stacks[0])
        return [(stacks[0], f"{base}_{component}" if component and component not in base.lower() else base)]
    tellers: list[Callable[[Stack], str]] = [
        _plane, _component, _echo, _type, _size, lambda s: s.first.kind.part, lambda s: s.first.kind.recon,
        lambda s: f"s{s.first.kind.series_number}", lambda s: s.first.kind.stack and f"stack{s.first.kind.stack}", _block,
    ]  # fmt: skip
    labels = [""] * len(stacks)
    for tell in tellers:
        descriptions = [naming.readable(words) if (words := tell(s)) else "" for s in stacks]
        if len(set(descriptions)) > 1:
            labels = [f"{label}_{s}" if s else label for label, s in zip(labels, descriptions, strict=True)]
        if len(set(labels)) == len(stacks):
            break
    return [(s, base + label) for s, label in zip(stacks, labels, strict=True)]


def _plane(stack: Stack) -> str:
    normal = stack.first.normal if stack.oriented else None
    return "" if normal is None else ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))]


def _echo(stack: Stack) -> str:
    kind = stack.first.kind
    return f"e{kind.echo}" if kind.echo > 0 else "" if kind.echo_time is None else f"TE{kind.echo_time:g}"


def _component(stack: Stack) -> str:
    kind = stack.first.kind
    words = {*kind.image_type, kind.component}
    for word, name in (("P", "phase"), ("PHASE", "phase"), ("PHASE MAP", "phase"), ("REAL", "real"), ("R", "real"),
                       ("IMAGINARY", "imaginary"), ("I", "imaginary")):  # fmt: skip
        if word in words:
            return name
    return ""


def _type(stack: Stack) -> str:
    return "-".join(stack.first.kind.image_type[2:4]).lower()


def _size(stack: Stack) -> str:
    return "x".join(str(n) for n in stack.first.shape)


def _block(stack: Stack) -> str:
    block = stack.facts.get("block")
    return f"slices{block[0] + 1}-{block[1]}" if isinstance(block, list) else ""


def sequence(stack: Stack, name: str, *, lazy: Laziness, step: Callable[[str], None]) -> ImageSequence:
    """Decode a stack into a sequence in house orientation.

    Raises
    ------
    ReadError
        If none of its frames can be decoded or it does not fit in memory.
    """
    notes = list(stack.notes)
    for file in {id(f.file): f.file for row in stack.grid for f in row}.values():
        notes.extend(n for n in file.notes if n not in notes)
    source = pixels.FrameArray(stack)
    size = int(np.prod(source.shape, dtype=object)) * source.dtype.itemsize
    if is_wanted_lazy(lazy, size, source.shape[0]):
        array: Voxels = _lazy(source)
    else:
        array = _eager(pixels.FrameArray(stack, defer=True), name, notes, step)
    axes: tuple[str, ...] = ("t", "z", "y", "x")
    if source.ndim == 5:
        axes = (*axes, "c")
    if len(stack.grid) == 1:
        array, axes = array[0], axes[1:]
    if not stack.oriented and array.shape[axes.index("z")] == 1:
        array, axes = array[(slice(None),) * axes.index("z") + (0,)], tuple(a for a in axes if a != "z")
    meta, ds = facts_of(stack), stack.first.file.ds
    meta["dtype"] = str(stored.stored_dtype(ds, stack.first.file.pixel_keyword).newbyteorder("="))
    return place(
        array, axes, stack.affine, oriented=stack.oriented, times=stack.times if "t" in axes else None,
        slice_axis=slice_axis_of(stack), acquired=stack.first.acquired, modality=text(ds, "Modality") or None,
        name=name, meta=meta, warnings=tuple(notes),
    )  # fmt: skip


def slice_axis_of(stack: Stack) -> str | None:
    """The axis of acquisition: the file's z, unless voxels are nearly equal in size (then the general rule of the
    package holds)."""
    if len(stack.grid[0]) == 1:
        return "z"
    steps = np.linalg.norm(stack.affine[:3, :3], axis=0)
    return "z" if steps[2] > 1.25 * max(steps[0], steps[1]) else None


def _eager(source: pixels.FrameArray, name: str, notes: list[str], step: Callable[[str], None]) -> NDArray[np.generic]:
    out = empty(source.shape, source.dtype, f"{name}: ")
    failed: list[str] = []
    blank: list[tuple[int, int]] = []
    places = [(t, z) for t in range(source.shape[0]) for z in range(source.shape[1])]

    def one(place: tuple[int, int]) -> str | None:
        try:
            source.fill(*place, out[place])
        except ReadError as error:
            out[place] = 0
            blank.append(place)
            return str(error)
        return None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = 1 if stack_is_tiled(source) or out.nbytes < _SMALL else min(os.cpu_count() or 1, _MOST_THREADS)
        for done, problem in enumerate(in_threads(one, places, threads), start=1):
            step(name)
            if problem is not None:
                failed.append(problem)
            if len(failed) == done == _HOPELESS:
                raise ReadError(failed[0])
    total = len(places)
    if len(failed) == total:
        raise ReadError(failed[0])
    out = source.settled(out)
    for missing in blank:
        out[missing] = 0
    if failed:
        notes.append(f"{len(failed)} of {total} slices could not be decoded and are 0: {failed[0]}")
    return out


def stack_is_tiled(source: pixels.FrameArray) -> bool:
    """Whether frames are tiles of mosaics, which are best decoded one after the other."""
    return source.grid[0][0].tile is not None


def _lazy(source: pixels.FrameArray) -> Voxels:
    return lazily(source, source.dtype, source.ndim - 2)


def facts_of(stack: Stack) -> dict[str, Any]:
    """Plain facts for ``meta``, without the patient's name, ID or birth date."""
    first, ds = stack.first, stack.first.file.ds
    meta: dict[str, Any] = {
        "source": os.path.dirname(first.file.path)
        if len({f.file.path for r in stack.grid for f in r}) > 1
        else first.file.path,
        "format": "DICOM",
        "patient": pseudonym(ds),
    }
    for key, keyword in FACTS.items():
        content = text(ds, keyword)
        if content:
            meta[key] = content
    if integer(ds, "SeriesNumber", -1) >= 0:
        meta["series_number"] = integer(ds, "SeriesNumber")
    windows = Counter(f.window for r in stack.grid for f in r if f.window is not None)
    if windows and not stored.is_colour(first):
        meta["contrast_limits"] = [float(v) for v in windows.most_common(1)[0][0]]
    padding = pixels.padding_of(stack)
    if padding is not None:
        meta["padding_value"] = padding
    if text(ds, "PhotometricInterpretation") == "MONOCHROME1":
        meta["colormap"] = "gray_r"
    for key, keyword in (
        ("repetition_time_ms", "RepetitionTime"),
        ("echo_time_ms", "EchoTime"),
        ("units", "Units"),
        ("contrast_agent", "ContrastBolusAgent"),
    ):
        found_ = (
            number(ds, keyword)
            if keyword not in ("Units", "ContrastBolusAgent")
            else without_identifiers(text(ds, keyword), ds)
        )
        if found_ not in (None, ""):
            meta[key] = found_
    if text(ds, "Modality") == "PT":
        times = [f.acquired for r in stack.grid for f in r if f.acquired is not None and "acquired" in f.clock]
        scale, why = suv.factor(ds, times)
        meta.update({"suv_missing": why} if scale is None else {"suv_bw": scale})
    if "DERIVED" in texts(ds, "ImageType"):
        meta["derived"] = True
    meta.update(stack.facts)
    return meta
