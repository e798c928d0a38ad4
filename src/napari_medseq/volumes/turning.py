"""A sequence with its voxels in another order of axes: permuted and mirrored, nothing resampled."""

from __future__ import annotations

from collections.abc import Callable

from napari_medseq import geometry
from napari_medseq.geometry import Reorientation
from napari_medseq.sequence import AXES, ImageSequence


def turned(seq: ImageSequence, turn: Reorientation) -> ImageSequence:
    """The same voxels at the same places in the patient, in another order; lazy if the sequence was.

    Parameters
    ----------
    seq : ImageSequence
        An image with or without "z"; without it `turn` must leave that axis where it is.
    turn : Reorientation

    Returns
    -------
    ImageSequence
        Its affine and slice axis follow. What was noted of the order in the file that it came from is left out.
    """
    names = ["xyz"[k] for k in turn.order]
    flips = {"xyz"[old]: flip for old, flip in zip(turn.order, turn.flips, strict=True)}
    source = [names["xyz".index(axis)] if axis in "xyz" else axis for axis in AXES if axis in seq.axes]
    data = seq.data.transpose([seq.axis(axis) for axis in source])
    data = data[tuple(slice(None, None, -1 if flips.get(axis) else 1) for axis in source)]
    meta = {k: v for k, v in seq.meta.items() if k not in ("stored", "slice_positions_mm")}
    return seq.replace(
        data=data,
        affine=geometry.as_affine(turn.apply_affine(seq.affine, seq.grid)),
        slice_axis="xyz"[names.index(seq.slice_axis)],
        meta=meta,
    )


def upright_meanwhile(seq: ImageSequence, change: Callable[[ImageSequence], ImageSequence]) -> ImageSequence:
    """What a change that keeps the grid makes of a volume turned as readers turn files, in the volume's own order again.

    For changes that go through slices from foot to head, or depend a little on the order of voxels, such as by drawing some of them.

    Parameters
    ----------
    seq : ImageSequence
    change : callable
        It gives an image on the grid of the one that it gets.
    """
    turn = geometry.to_codes(seq.affine) if "z" in seq.axes and seq.oriented else Reorientation()
    if turn == Reorientation():
        return change(seq)
    back = turned(change(turned(seq, turn)), turn.inverse)
    return back.replace(affine=seq.affine, slice_axis=seq.slice_axis, meta={**seq.meta, **back.meta})
