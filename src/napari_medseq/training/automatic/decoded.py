"""The cases of a layout, read from their files as images and labels on one grid; what fits into memory is decoded only once.

Nothing is resampled here: `prepared` makes training cases of what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry
from napari_medseq.errors import MedseqError, unheard, warn
from napari_medseq.inference.inputs.working import grey_channels, stacked_channels
from napari_medseq.io.naming import stem
from napari_medseq.io.numbered_pictures import stack, stack_frames
from napari_medseq.memory import LARGE, available_bytes
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import ImageSequence, describe_grid, placed_like
from napari_medseq.training.automatic.budget import Deadline
from napari_medseq.training.automatic.fingerprint import label_counts
from napari_medseq.training.automatic.labelled_frames import labelled_frames
from napari_medseq.training.layouts import Entry
from napari_medseq.training.layouts.entries import LOSSY
from napari_medseq.wording import how_many, some

_LEAST_CASES = 2
_APART_MM, _APART_VOXELS = 0.1, 0.5  # largest distance of the corners of image and labels
_DARK, _BRIGHT = 64, 191  # grey values between which a blurred mask is neither black nor white
_CLEAR = 0.9  # share of pixels that must lie outside of these
_HIDDEN = 0.01  # share of a mask under others from which a warning names it
_SAMPLE = 1000  # voxels that are compared first
_KEPT_BYTES = 3 << 30  # most bytes of decoded images held between measuring and framing


@dataclass(frozen=True, eq=False)
class Read:
    """The images and labels of an entry; for a series of volumes those of one frame, with a name of its own."""

    entry: Entry
    name: str
    images: dict[str, ImageSequence]
    labels: ImageSequence


class Decoded:
    """Reads the cases of a layout; what fits into memory is read once."""

    def __init__(
        self,
        entries: Sequence[Entry],
        modalities: Mapping[str, str],
        *,
        channels: Sequence[str] = (),
        merge: bool = False,
        ignored: Sequence[int] = (),
    ) -> None:
        self.ignored = tuple(ignored)
        self.entries, self.modalities = list(entries), dict(modalities)
        self.channels, self.merge = list(channels), merge
        self.most = min(_KEPT_BYTES, int(LARGE * (available_bytes() or _KEPT_BYTES)))
        self.kept: dict[str, tuple[dict[str, ImageSequence], ImageSequence]] = {}
        self.bytes = 0
        self.left_out: list[str] = []

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
        labels = placed_like(labels, first)
        if labels.grid != first.grid or not lies_on(labels, first):
            raise MedseqError(f"{entry.case}: {_apart(labels, first)}")
        if labels.size("t") != first.size("t"):
            raise MedseqError(
                f"{entry.case}: the image has {how_many(first.size('t'), 'frame')}, but the labels have {labels.size('t')}; give "
                "labels with as many frames (those without a label are not learned from), or the frame that was labelled as an image of "
                "its own. If these are channels, name as many in dataset.json, or save each as a file of its own."
            )
        if self.ignored:
            data = np.asarray(labels.data)
            wide = np.int64 if data.dtype.itemsize > 4 else np.promote_types(data.dtype, np.int8)
            labels = labels.replace(data=np.where(np.isin(data, self.ignored), -1, data.astype(wide)))
        if self.merge:
            labels = labels.replace(data=np.sign(np.asarray(labels.data)).astype(np.int8), label_names={})
        size = sum(np.asarray(c.data).nbytes for c in (*channels.values(), labels))
        if self.bytes + size <= self.most:
            self.kept[entry.case] = (channels, labels)
            self.bytes += size
        return channels, labels

    def images(self, entry: Entry) -> dict[str, ImageSequence]:
        """A case's channels, colours apart; they are not kept."""
        channels: dict[str, ImageSequence] = {}
        for name, paths in entry.images.items():
            channels |= self._channels_of(name, _sequence_of(paths, "image"), alone=len(entry.images) == 1)
        return channels

    def _of_files(self, entry: Entry) -> tuple[dict[str, ImageSequence], ImageSequence]:
        channels = self.images(entry)
        if entry.at:
            return _labelled_of(entry, channels)
        if not entry.classes:
            return channels, _sequence_of(entry.labels, "labels")
        masks = [(_sequence_of((path,), "labels"), entry.classes[stem(path)]) for path in entry.labels]
        return channels, _merged(
            entry.case, [(m, dict.fromkeys(label_counts(np.asarray(m.data)), of)) for m, of in masks]
        )

    def _channels_of(self, name: str, seq: ImageSequence, *, alone: bool) -> dict[str, ImageSequence]:
        """The channels that a file holds: its colours, or those along its fourth axis where the data set names as many."""
        parts = stacked_channels(seq, self.channels) if alone else {}
        if not parts:
            grey = grey_channels(seq)
            parts = {name: grey["image"]} if "image" in grey else grey
        return {
            n: p.replace(modality=self.modalities.get(n, self.modalities.get(name, p.modality)))
            for n, p in parts.items()
        }

    def all(
        self, message: str, progress: Progress | None, cancelled: Cancelled | None, late: Deadline | None = None
    ) -> Iterator[Read]:
        """Every case, or as many as there is time for, of series of volumes each labelled frame; one that cannot be read is left out with
        a warning.

        Parameters
        ----------
        message, progress, cancelled
        late : Deadline, optional
            When the time for this is over; two cases are read in any case.
        """
        given_out = 0
        for entry in with_progress(list(self.entries), len(self.entries), message, progress, cancelled):
            if late is not None and given_out >= _LEAST_CASES and late():
                return
            try:
                with unheard():
                    parts = list(labelled_frames(entry.case, *_showing(entry.case, *self.read(entry))))
            except MedseqError as error:
                self.leave_out(entry, error)
                continue
            given_out += 1
            for name, images, labels in parts:
                yield Read(entry, name, images, labels)

    def leave_out(self, entry: Entry, error: MedseqError) -> None:
        """Warn why a case cannot be used, and go on without it."""
        self.entries = [e for e in self.entries if e is not entry]
        self.left_out.append(f"{entry.case} is left out: {str(error).removeprefix(f'{entry.case}: ')}")
        warn(self.left_out[-1])

    def nothing_left(self, what: str) -> MedseqError:
        """The error that nothing is left, with the first reason and how many more there are."""
        more = f" ({len(self.left_out) - 1} more: the warnings say why.)" if len(self.left_out) > 1 else ""
        return MedseqError(f"{what}. {''.join(self.left_out[:1])}{more}")


def _showing(
    case: str, images: dict[str, ImageSequence], labels: ImageSequence
) -> tuple[dict[str, ImageSequence], ImageSequence]:
    """A case as it is.

    Raises
    ------
    MedseqError
        If something is labelled where every voxel has one value.
    """
    if all(is_constant(i) for i in images.values()) and (np.asarray(labels.data) > 0).any():
        raise MedseqError(f"{case}: every voxel of the image has one value, so it does not show what is labelled.")
    return images, labels


def is_constant(image: ImageSequence) -> bool:
    """Whether every voxel has the same value."""
    data = np.asarray(image.data)
    some_of_it = data.ravel()[:: max(1, data.size // _SAMPLE)]
    return bool(data.size) and bool((some_of_it == some_of_it[0]).all()) and bool((data == some_of_it[0]).all())


def lies_on(seq: ImageSequence, image: ImageSequence) -> bool:
    """Whether a sequence has the grid of an image, within the rounding of files: 0.1 mm, and no more than half a voxel."""
    return seq.same_grid(image, min(_APART_MM, _APART_VOXELS * min(image.spacing.values())))


def _apart(labels: ImageSequence, image: ImageSequence) -> str:
    """The message that labels lie elsewhere than their image: where both are, and what to do."""
    places = f"the labels do not lie on the grid of the image: they have {describe_grid(labels)}, the image has {describe_grid(image)}"
    if labels.grid != image.grid:
        return f"{places}. Resample the labels onto the image."
    corners = geometry.corners(image.grid)
    apart = geometry.apply_points(labels.affine, corners) - geometry.apply_points(image.affine, corners)
    far = float(np.linalg.norm(apart, axis=1).max())
    return (
        f"{places}; corners lie up to {far:.3g} mm apart. If they belong together voxel by voxel, save the labels with the image's header "
        "(its affine); otherwise resample them onto the image."
    )


def _sequence_of(paths: Sequence[Path], kind: str) -> ImageSequence:
    """A file's image, or those of several files as frames or slices."""
    from napari_medseq.io import read

    images = [_only(read(p, kind="labels" if kind == "labels" else "image"), p) for p in paths]
    if kind == "labels":
        images = [
            _brighter_than_half(f, p) if p.suffix.lower() in LOSSY else f for f, p in zip(images, paths, strict=True)
        ]
    if len(images) == 1:
        return images[0]
    return stack(images, np.arange(len(images)), paths[0].parent.parent.name)


def _only(sequences: Sequence[ImageSequence], path: Path) -> ImageSequence:
    """The one image of a file or folder.

    Raises
    ------
    MedseqError
        If there are several: which one is meant is not to be guessed.
    """
    if len(sequences) != 1:
        raise MedseqError(
            f"{path} holds {len(sequences)} images ({some([s.name for s in sequences])}); give the file, or the folder of the series, that "
            "is meant."
        )
    return sequences[0]


def _labelled_of(entry: Entry, channels: Mapping[str, ImageSequence]) -> tuple[dict[str, ImageSequence], ImageSequence]:
    """The labelled frames of a video, and their labels.

    Raises
    ------
    MedseqError
        If a label frame lies beyond the video's end.
    """
    length = next(iter(channels.values())).size("t")
    beyond = next((p for number, p in zip(entry.at, entry.labels, strict=True) if number >= length), None)
    if beyond is not None:
        raise MedseqError(
            f"{entry.case}: there is no frame for {beyond.name}; the video has the frames 0 to {length - 1}, so the first label frame is "
            "number 0."
        )
    at = list(entry.at)
    chosen = {
        n: s.replace(data=np.asarray(s.data)[at], times=None if s.times is None else np.asarray(s.times)[at])
        for n, s in channels.items()
    }
    pictures = [_sequence_of((p,), "labels") for p in entry.labels]
    return chosen, stack_frames(pictures, np.asarray(at, np.float64), entry.case)


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
    image = next((s for s in sequences if s.kind == "image" and masks and lies_on(s, masks[0])), None)
    if image is None:
        raise MedseqError(
            f"{entry.case}: no image in {entry.labels[0]} has the grid of its labels; put the one that they were drawn on there."
        )
    own = [s for s in masks if lies_on(s, image)]
    if len(own) < len(masks):
        elsewhere = some([s.name for s in masks if not lies_on(s, image)])
        warn(f"{entry.case}: {elsewhere} lie on another grid than {image.name} and are left out.")
    values = [(s, {v: entry.classes[n] for v, n in s.label_names.items() if n in entry.classes}) for s in own]
    return grey_channels(image), _merged(entry.case, values)


def _merged(case: str, masks: Sequence[tuple[ImageSequence, Mapping[int, int]]]) -> ImageSequence:
    """One image of labels of several, each with the class of each of its values; where masks overlap the smaller one is seen (a tumour's
    core in the whole tumour), and a warning says what is hidden."""
    first = masks[0][0]
    parts: list[tuple[int, str, NDArray[np.bool_], int]] = []
    for mask, classes in masks:
        if not lies_on(mask, first):
            raise MedseqError(f"{case}: {mask.name} lies on another grid than {first.name}.")
        values = np.asarray(mask.data)
        for value, of in classes.items():
            where = values == value
            parts.append((int(np.count_nonzero(where)), mask.label_names.get(value, mask.name), where, of))
    merged = np.zeros(first.data.shape, np.uint8)
    for _, _, where, of in sorted(parts, key=lambda p: -p[0]):
        merged[where] = of
    hidden = [
        f"{share:.0%} of {name}"
        for count, name, where, of in parts
        if count and (share := 1 - np.count_nonzero(merged[where] == of) / count) > _HIDDEN
    ]
    if hidden:
        warn(f"{case}: masks overlap, and the smaller one counts: {some(hidden)} lies under another.")
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
