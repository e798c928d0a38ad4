"""From the files of a layout to what a network learns from: measured once, then brought to the working grid and kept in memory.

Images are kept in half precision and labels in a byte; files are decoded once where memory allows it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, MedseqWarning
from napari_medseq.inference.working import Working, grey_channels, working_volume
from napari_medseq.io.naming import stem
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import ImageSequence
from napari_medseq.training.fingerprint import Fingerprint, Measuring
from napari_medseq.training.layouts import Entry
from napari_medseq.training.layouts.entries import LOSSY
from napari_medseq.training.slab_windows import SlabCase

#: says that the time for something is over
Late = Callable[[], bool]

_LEAST_CASES = 2
APART_MM = 0.1  # corners of image and labels
_DARK, _BRIGHT, _CLEAR = (
    64,
    191,
    0.9,
)  # grey values of a blurred mask, and the share of pixels that must lie outside of these
_KEPT_BYTES = 3 << 30  # of decoded images held between measuring and framing


class Decoded:
    """Reads the cases of a layout; what fits into memory is read once."""

    def __init__(self, entries: Sequence[Entry], modalities: Mapping[str, str]) -> None:
        self.entries, self.modalities = list(entries), dict(modalities)
        self.kept: dict[str, tuple[dict[str, ImageSequence], ImageSequence]] = {}
        self.bytes = 0

    def read(self, entry: Entry) -> tuple[dict[str, ImageSequence], ImageSequence]:
        """A case's channels, colours apart, and its labels.

        Raises
        ------
        MedseqError
            If labels and image do not share a grid.
        """
        if entry.case in self.kept:
            return self.kept[entry.case]
        channels, labels = _of_dicom(entry) if entry.labels[0].is_dir() else self._of_files(entry)
        first = next(iter(channels.values()))
        if labels.grid != first.grid or not labels.same_grid(first, APART_MM):
            raise MedseqError(
                f"{entry.case}: the labels do not lie on the grid of the first image; resample them first."
            )
        size = sum(np.asarray(c.data).nbytes for c in (*channels.values(), labels))
        if self.bytes + size <= _KEPT_BYTES:
            self.kept[entry.case] = (channels, labels)
            self.bytes += size
        return channels, labels

    def _of_files(self, entry: Entry) -> tuple[dict[str, ImageSequence], ImageSequence]:
        channels: dict[str, ImageSequence] = {}
        for name, paths in entry.images.items():
            seq = _stacked(paths, "image")
            if name in self.modalities:
                seq = seq.replace(modality=self.modalities[name])
            parts = grey_channels(seq)
            channels |= {name: parts["image"]} if "image" in parts else parts
        if not entry.classes:
            return channels, _stacked(entry.labels, "labels")
        masks = [(_stacked((path,), "labels"), entry.classes[stem(path)]) for path in entry.labels]
        return channels, _merged(entry.case, [(m, {int(v): of for v in np.unique(m.data) if v}) for m, of in masks])

    def all(
        self, message: str, progress: Progress | None, cancelled: Cancelled | None, late: Late | None = None
    ) -> Iterator[tuple[Entry, dict[str, ImageSequence], ImageSequence]]:
        """Every case, or as many as there is time for; one that cannot be read is left out with a warning.

        Parameters
        ----------
        message, progress, cancelled
        late : callable, optional
            Says that the time for this is over; two cases are read in any case.
        """
        done = 0
        for entry in with_progress(list(self.entries), len(self.entries), message, progress, cancelled):
            if late is not None and done >= _LEAST_CASES and late():
                return
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", MedseqWarning)
                    images, labels = self.read(entry)
            except MedseqError as error:
                self.entries.remove(entry)
                warnings.warn(f"{entry.case} is left out: {error}", MedseqWarning, stacklevel=2)
                continue
            done += 1
            yield entry, images, labels


def _stacked(paths: Sequence[Path], kind: str) -> ImageSequence:
    """A file's image, or those of several files as frames."""
    from napari_medseq.io import read

    images = [read(p, kind="labels" if kind == "labels" else "image")[0] for p in paths]
    if kind == "labels":
        images = [
            _brighter_than_half(f, p) if p.suffix.lower() in LOSSY else f for f, p in zip(images, paths, strict=True)
        ]
    if len(images) == 1:
        return images[0]
    if len({f.data.shape for f in images}) > 1:
        raise MedseqError(f"The frames beside {paths[0]} are not all of one size.")
    first = images[0]
    axes = ("t", *(a for a in first.axes if a != "z"))
    data = np.stack([np.asarray(f.data)[0] if "z" in f.axes else np.asarray(f.data) for f in images])
    times = np.arange(len(images), dtype=np.float64)
    return first.replace(data=data, axes=axes, name=paths[0].parent.parent.name, times=times)


def _of_dicom(entry: Entry) -> tuple[dict[str, ImageSequence], ImageSequence]:
    """The labels of a folder of DICOM, as the classes that their names say, and the image on whose grid they lie.

    Raises
    ------
    MedseqError
        If no image has the grid of the labels.
    """
    from napari_medseq.io import read

    sequences = read(entry.labels[0])
    masks = [s for s in sequences if s.kind == "labels"]
    image = next((s for s in sequences if s.kind == "image" and masks and s.same_grid(masks[0], APART_MM)), None)
    if image is None:
        raise MedseqError(
            f"{entry.case}: no image in {entry.labels[0]} has the grid of its labels; put the one that they were drawn on there."
        )
    own = [s for s in masks if s.same_grid(image, APART_MM)]
    values = [(s, {v: entry.classes[n] for v, n in s.label_names.items() if n in entry.classes}) for s in own]
    return grey_channels(image), _merged(entry.case, values)


def _merged(case: str, masks: Sequence[tuple[ImageSequence, Mapping[int, int]]]) -> ImageSequence:
    """One image of labels of several, each with the class of each of its values; where two overlap the first one stays."""
    first = masks[0][0]
    merged = np.zeros(first.data.shape, np.uint8)
    for mask, classes in masks:
        if not mask.same_grid(first, APART_MM):
            raise MedseqError(f"{case}: {mask.name} lies on another grid than {first.name}.")
        values = np.asarray(mask.data)
        for value, of in classes.items():
            merged[(merged == 0) & (values == value)] = of
    return first.replace(data=merged, label_names={})


def _brighter_than_half(labels: ImageSequence, path: Path) -> ImageSequence:
    """A mask that JPEG has blurred, as 0 and 1.

    Raises
    ------
    MedseqError
        If its values do not lie about black and white: which classes they were cannot be told.
    """
    values = np.asarray(labels.data)
    if values.size and np.mean((values < _DARK) | (values > _BRIGHT)) < _CLEAR:
        raise MedseqError(f"{path}: JPEG has changed the values of these labels; save them as PNG.")
    if 0 < values.max(initial=0) < _DARK:
        raise MedseqError(f"{path}: labels in JPEG are told only as black and white; save them as PNG.")
    return labels.replace(data=(values > 127).astype(np.uint8))


def measured(
    decoded: Decoded,
    classes: Mapping[int, str],
    progress: Progress | None,
    cancelled: Cancelled | None,
    late: Late | None = None,
) -> tuple[Fingerprint, dict[int, str]]:
    """The fingerprint, and the classes: as named, else a name for each label that is there.

    Raises
    ------
    MedseqError
        If no case can be read, or no label is in any.
    """
    measuring: Measuring | None = None
    for entry, images, labels in decoded.all("measuring", progress, cancelled, late):
        if measuring is None:
            measuring = Measuring([])
        for name in images:
            measuring.know(name)
        measuring.add(entry.patient, images, labels)
    if measuring is None:
        raise MedseqError("No case could be read; the warnings say why.")
    values = sorted(measuring.volumes)
    if not values:
        raise MedseqError("No case holds any label; there is nothing to learn.")
    names = dict(classes) or ({255: "foreground"} if values == [255] else {v: f"class {v}" for v in values})
    return measuring.result(names, cases=len(decoded.entries)), names


def slab_cases(
    decoded: Decoded,
    names: Sequence[str],
    classes: Mapping[int, str],
    working: Working,
    progress: Progress | None,
    cancelled: Cancelled | None,
    late: Late | None = None,
) -> list[SlabCase]:
    """Working volumes of the cases, with class k of `classes` as index k + 1 in its order; a warning where time ended before."""
    cases = []
    for entry, images, labels in decoded.all("preparing", progress, cancelled, late):
        image, grid = working_volume(images, names, working)
        values = grid.read_labels(labels)
        index: NDArray[np.uint8] = np.zeros(values.shape, np.uint8)
        for k, value in enumerate(classes, 1):
            index[values == value] = k
        tensor = torch.from_numpy(image).half()
        cases.append(SlabCase(entry.patient, entry.case, tensor, torch.from_numpy(index)))
        decoded.kept.pop(entry.case, None)
    if len(cases) < len(decoded.entries):
        warnings.warn(
            f"Reading took so long that {len(decoded.entries) - len(cases)} of {len(decoded.entries)} cases are left out; "
            "give more minutes.",
            MedseqWarning,
            stacklevel=3,
        )
    return cases
