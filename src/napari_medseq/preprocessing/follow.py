"""Applying the spatial steps of an image to its mask: registrations, grids and crops, but no change of brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from napari_medseq.errors import MedseqError, SettingsError
from napari_medseq.progress import Cancelled, Progress, part
from napari_medseq.registration.transform import Transform
from napari_medseq.registration.transform_file import TransformRecord
from napari_medseq.sequence import ImageSequence
from napari_medseq.settings import checked
from napari_medseq.volumes.grid import Interpolation, resample

#: key under which a result stores the transforms of its registrations, in order
META = "transforms"


def with_transforms(seq: ImageSequence, transforms: Sequence[Transform | None]) -> ImageSequence:
    """The sequence with one more registration in its record: one transform, or one for each frame (None: the frame did
    not move)."""
    records = [None if t is None else t.to_record().model_dump(mode="json") for t in transforms]
    return seq.replace(meta={**seq.meta, META: [*cast("list[object]", seq.meta.get(META, [])), records]})


def transforms_of(result: ImageSequence) -> list[list[Transform | None]]:
    """The transforms of every registration among the steps of a result, in the order in which they were run.

    Returns
    -------
    list of list of (Transform or None)
        For each registration one transform, or for a motion correction one per frame, with None for frames that did
        not move. Each maps points of the fixed image to the moving one; `Transform.save` writes it.

    Raises
    ------
    MedseqError
        If the record holds something else.
    """
    rows = result.meta.get(META, [])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise MedseqError(f"{result.name}: its record of transforms cannot be read.")
    where = f"a transform of {result.name}"
    return [
        [
            None
            if one is None
            else Transform.from_record(checked(TransformRecord, one, where=where, error=MedseqError))
            for one in row
        ]
        for row in rows
    ]


def follow(
    seq: ImageSequence,
    result: ImageSequence,
    *,
    interpolation: Interpolation | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> ImageSequence:
    """Move a mask, or another image, as an image was moved by preprocessing.

    A sequence in the space of the image before its steps is moved to the space of the result, on the result's grid: by
    each registration that was run, and by true positions for resampling, crops and selections of slices.

    Parameters
    ----------
    seq : ImageSequence
        A sequence in the space of the image before its steps, on any grid. Registrations that its own record lists are
        not applied again.
    result : ImageSequence
        The result of `preprocess` for that image.
    interpolation : optional
        Default nearest for labels, linear for images.

    Returns
    -------
    ImageSequence
        On the grid of `result`.

    Raises
    ------
    SettingsError
        If a motion correction moved each frame, and `seq` has another number of frames.
    MedseqError
        If `seq` was moved by a registration that the result does not have.
    """
    done, recorded = seq.meta.get(META, []), result.meta.get(META, [])
    if done != recorded[: len(done)]:
        raise MedseqError(
            f"{seq.name} was registered differently from {result.name}; choose a mask of the image that was preprocessed."
        )
    moved = _brought(seq, result, transforms_of(result)[len(done) :], interpolation, progress, cancelled)
    return moved.replace(meta={**moved.meta, META: recorded}) if recorded else moved


def _brought(
    seq: ImageSequence,
    result: ImageSequence,
    steps: Sequence[Sequence[Transform | None]],
    interpolation: Interpolation | None,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> ImageSequence:
    moved = seq
    for number, row in enumerate(steps):
        report = part(progress, number / (len(steps) + 1), (number + 1) / (len(steps) + 1))
        if len(row) == 1 and row[0] is not None:
            only = row[0]
            if number == len(steps) - 1:  # directly onto the last grid, so that voxels are interpolated only once
                return only.apply(
                    moved, reference=result, interpolation=interpolation, fill=0 if seq.kind == "labels" else None,
                    progress=report, cancelled=cancelled,
                )  # fmt: skip
            if only.matrix is not None:  # by its place alone: nothing is cut off or interpolated on the way
                moved = moved.replace(affine=only.to_fixed_matrix @ moved.affine)
                continue
            moved = only.apply(moved, interpolation=interpolation, progress=report, cancelled=cancelled)
        else:
            moved = _frame_by_frame(moved, row, interpolation, cancelled)
    return resample(
        moved, result.affine, result.grid, interpolation=interpolation, antialias=False, cancelled=cancelled
    )


def _frame_by_frame(
    seq: ImageSequence,
    row: Sequence[Transform | None],
    interpolation: Interpolation | None,
    cancelled: Cancelled | None,
) -> ImageSequence:
    import numpy as np

    if seq.size("t") != len(row) or "t" not in seq.axes:
        raise SettingsError(
            f"{seq.name} has {seq.size('t')} frames, but the motion of {len(row)} was corrected; give a mask for each frame."
        )
    frames = []
    for number, transform in enumerate(row):
        frame = seq.frame(number).compute()
        moved = frame if transform is None else transform.apply(frame, interpolation=interpolation, cancelled=cancelled)
        frames.append(np.asarray(moved.data, dtype=seq.data.dtype if seq.kind == "labels" else np.float32))
    return seq.like(np.stack(frames, axis=seq.axis("t")))
