"""The plan of a training, decided from the data set's fingerprint and the time; each choice is recorded with its
reason.

The plan is written as YAML beside the result; it may be edited and used again with ``plan=``. Rules without another
source follow nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import Field

from napari_medseq.inference.working import Scheme, StepAxis
from napari_medseq.models.info import COLOURS
from napari_medseq.settings import checked
from napari_medseq.training.fingerprint import ChannelFacts, Fingerprint
from napari_medseq.training.plan_file import PlanFile
from napari_medseq.training.slab_windows import SlabAugment

Triple = tuple[int, int, int]
Three = tuple[float, float, float]
T = TypeVar("T")

THICK = 1.8  # steps this many times as far apart as pixels: the planes are seen by themselves first
_WINDOW_VOXELS = 170_000  # of a window; more costs time, and fewer changes of the weights fit into it
_LARGEST_VOLUME = 4_000_000  # voxels of a working volume
_PASSES = 8.0  # times that all training voxels should be seen
_VOXELS_PER_SECOND = {True: 800_000.0, False: 150_000.0}  # learned per second and core, with and without bfloat16 units
_FRAMES_APART = 4.0  # pixels
_ACROSS = 8.0  # working voxels across what the smallest class consists of, where pixels are made larger
_FOCUS_CASES = 20  # from which it can be told that all labels lie in the middle
_MARGIN = 1.4  # of the focus, beyond what is labelled
_FOCUS = 0.75  # of the sides of an image that a focus has at most; it spares little otherwise
_CENTRED = 0.08  # of the image's size: as far from its middle lies the centre of what the image is about
_WIDTHS = (16, 32, 64, 96, 128)
_SMALLEST_CELL = 5  # rows and columns of the coarsest level, at least


class Plan(PlanFile):
    """Everything that training and inference need to know of a data set.

    Attributes
    ----------
    axis : {"z", "y", "x", "t"}
        Along which the steps run.
    spacing_mm : tuple of (float or None)
        Working spacing of step, row, column; None: each image's own.
    window : (int, int, int)
        Steps, rows and columns that the network sees at once.
    batch : int
    widths : tuple of int
    strides : tuple of (int, int, int)
    mix_levels : tuple of int
        Levels with a recurrence along the steps.
    dropout : float
    focus : tuple of (int or None)
        Working voxels of step, row and column about the image's middle that are looked at; None: all.
    position : (float, float, float) or None
        Working voxels from the middle at which the channel of positions is 1; None: there is none.
    schemes : tuple of Scheme
        Units of each channel.
    augment : SlabAugment
    rate, weight_decay, average : float
    bfloat16 : bool
    mirrored : tuple of {"step", "row", "column"}
        Axes along which inference averages with the mirrored image.
    keep_largest : bool
    """

    axis: StepAxis
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    window: Triple
    batch: int = Field(2, ge=1)
    widths: tuple[int, ...] = _WIDTHS[:4]
    strides: tuple[Triple, ...]
    mix_levels: tuple[int, ...] = ()
    dropout: float = Field(0.0, ge=0, lt=1)
    focus: tuple[int | None, int | None, int | None] = (None, None, None)
    position: Three | None = None
    schemes: tuple[Scheme, ...]
    augment: SlabAugment
    rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    average: float = Field(0.995, ge=0, lt=1)
    bfloat16: bool
    mirrored: tuple[Literal["step", "row", "column"], ...] = ()
    keep_largest: bool = False
    unlisted: ClassVar = ("augment", "schemes")


def read_plan(path: Path) -> Plan:
    """A plan from its YAML file.

    Raises
    ------
    SettingsError
        If it cannot be read or is no plan.
    """
    from napari_medseq.yaml_text import read_settings

    return checked(Plan, read_settings(path), where=str(path))


def bfloat16_pays() -> bool:
    """Whether convolutions are faster in bfloat16 on this processor, by a quick measurement."""
    x = torch.randn(1, 16, 16, 40, 40).contiguous(memory_format=torch.channels_last_3d)
    conv = torch.nn.Conv3d(16, 16, 3, padding=1, bias=False).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    best = {}
    with torch.inference_mode():
        for low in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                seconds = []
                for _ in range(4):
                    began = time.perf_counter()
                    conv(x)
                    seconds.append(time.perf_counter() - began)
            best[low] = min(seconds)
    return best[True] < 0.8 * best[False]


def make_plan(facts: Fingerprint, *, seconds: float, bfloat16: bool | None = None, cores: int = 1) -> Plan:
    """Decide.

    Parameters
    ----------
    facts : Fingerprint
    seconds : float
        For training.
    bfloat16 : bool, optional
        Whether it pays; measured when None.
    cores : int
        That compute together.
    """
    low = bfloat16_pays() if bfloat16 is None else bfloat16
    why: dict[str, str] = {}
    axis = _axis(facts, why)
    own = _in_order(facts.spacing_mm, axis)
    if facts.frames or min(facts.shape) == 1:  # frames have no distance: as far apart as thick slices
        own = (_FRAMES_APART * max(own[1:]), own[1], own[2])
    shape, largest = _in_order(facts.shape, axis), _in_order(facts.largest, axis)
    focus_mm = _focus_mm(facts, axis, own, why)
    if focus_mm is not None:
        shape, largest = (
            (s[0], min(s[1], math.ceil(focus_mm[0] / own[1])), min(s[2], math.ceil(focus_mm[1] / own[2])))
            for s in (shape, largest)
        )
    spacing = _spacing(facts, own, shape, seconds * _VOXELS_PER_SECOND[low] * cores, why)
    scale = [o / s for o, s in zip(own, spacing, strict=True)]
    working = tuple(max(1, round(n * f)) for n, f in zip(shape, scale, strict=True))
    reach = tuple(max(1, round(n * f)) for n, f in zip(largest, scale, strict=True))
    first = _window(working, reach, spacing)
    strides = _strides(first, spacing)
    window = _multiples(first, strides)
    focus: tuple[int | None, int | None, int | None] = (None, None, None)
    if focus_mm is not None:
        rows, columns = (max(window[k], math.ceil(focus_mm[k - 1] / spacing[k])) for k in (1, 2))
        focus = (None, rows, columns)
    thick = spacing[0] >= THICK * max(spacing[1:]) or window[0] < 8 or facts.frames
    why["window"] = (
        f"volumes are {_times(working)} at this spacing; a window of about {_WINDOW_VOXELS:,} voxels trains fastest"
    )
    why["strides"] = (
        f"each level halves what is finest, down to about {_SMALLEST_CELL} pixels; spacing is {_times(spacing)} mm"
    )
    why["mix_levels"] = (
        "a recurrence along the steps did not pay beside 3D convolutions where it was measured (docs/benchmarks.md)"
    )
    batch = 4 if math.prod(window) < 40_000 else 2
    why["batch"] = f"windows of {math.prod(window):,} voxels"
    why["bfloat16"] = (
        "convolutions were faster in it on this processor" if low else "this processor computes it no faster"
    )
    why["keep_largest"] = (
        "what is labelled is one piece in nearly every case" if facts.one_piece else "a class may lie in several pieces"
    )
    mirror = _mirror(facts, axis, why)
    names: tuple[Literal["step", "row", "column"], ...] = ("step", "row", "column")
    # thick slices and frames are taken as they come; between them nothing could be interpolated
    kept_spacing = (None if thick else _rounded(spacing[0]), _rounded(spacing[1]), _rounded(spacing[2]))
    return Plan(
        axis=axis,
        spacing_mm=kept_spacing,
        window=window,
        batch=batch,
        widths=_WIDTHS[: len(strides) + 1],
        strides=strides,
        dropout=0.1 if facts.patients < 30 else 0.0,
        focus=focus,
        position=_position(facts, axis, window, why) if focus_mm is not None else None,
        schemes=tuple(_scheme(c, why) for c in facts.channels),
        augment=_augment(facts, spacing, thick, mirror),
        bfloat16=low,
        keep_largest=facts.one_piece,
        mirrored=tuple(n for n, share in zip(names, mirror, strict=True) if share and n == "column"),
        reasons=why,
    )


def _axis(facts: Fingerprint, why: dict[str, str]) -> StepAxis:
    if facts.frames:
        why["axis"] = "the images have frames, which follow each other in time"
        return "t"
    spacing = dict(zip(("x", "y", "z"), facts.spacing_mm, strict=True))
    length = {a: n * spacing[a] for a, n in zip(("x", "y", "z"), facts.shape, strict=True)}
    thickest = max(spacing, key=lambda a: spacing[a])
    others = [v for a, v in spacing.items() if a != thickest]
    axes: dict[str, StepAxis] = {"x": "x", "y": "y", "z": "z"}
    if min(facts.shape) == 1:
        why["axis"] = "images are single slices"
        return axes["xyz"[facts.shape.index(1)]]
    if spacing[thickest] >= 1.3 * max(others):
        why["axis"] = f"slices lie {spacing[thickest]:.3g} mm apart along {thickest}, pixels {max(others):.3g} mm"
        return axes[thickest]
    longest = max(length, key=lambda a: (length[a], a))
    why["axis"] = f"voxels are about as long as wide; {longest} is the longest side ({length[longest]:.0f} mm)"
    return axes[longest]


def _in_order(xyz: tuple[T, T, T], axis: StepAxis) -> tuple[T, T, T]:
    """(x, y, z) as (step, row, column); of frames the third is the frame."""
    named = dict(zip(("x", "y", "z"), xyz, strict=True))
    if axis == "t":
        return named["z"], named["y"], named["x"]
    others = [a for a in ("z", "y", "x") if a != axis]
    return named[axis], named[others[0]], named[others[1]]


def _spacing(facts: Fingerprint, own: Three, shape: Triple, affordable: float, why: dict[str, str]) -> Three:
    """Larger voxels where the time does not suffice for so many, but not so large that the smallest things are lost."""
    voxels = float(math.prod(shape))
    needed = max(_PASSES * voxels * facts.cases / affordable, voxels / _LARGEST_VOLUME)
    sizes = [c.across_mm for c in facts.classes.values() if c.across_mm > 0]
    across = min(sizes) / _ACROSS if sizes and not facts.frames else math.inf
    spacing = list(own)
    planar, limit = facts.frames or shape[0] == 1, ""
    while needed > 1.02:
        finest = min(spacing[1:] if planar else spacing)
        near = [k for k in range(1 if planar else 0, 3) if spacing[k] < 1.05 * finest]
        factor = min(needed ** (1 / len(near)), 1.1)
        if finest * factor > max(across, finest):
            limit = f"; larger ones would lose what is {min(sizes):.3g} mm across"
            break
        for k in near:
            spacing[k] *= factor
        needed /= factor ** len(near)
    if spacing == list(own):
        why["spacing_mm"] = (
            f"the images' own{limit}" if limit else "the images' own: there is time enough for all voxels"
        )
    else:
        why["spacing_mm"] = (
            f"{_times(own)} mm would be {voxels / 1e6:.1f} million voxels in each of {facts.cases} cases; in this time "
            f"{_times(spacing)} mm can be learned well{limit}"
        )
    return spacing[0], spacing[1], spacing[2]


def _focus_mm(facts: Fingerprint, axis: StepAxis, own: Three, why: dict[str, str]) -> tuple[float, float] | None:
    """Rows and columns about the middle that hold all labels, with a margin, where that is much less than the image."""
    why["focus"] = "what is labelled lies anywhere in the images"
    if facts.reach_mm is None or facts.measured < _FOCUS_CASES or min(facts.shape) == 1:
        return None
    reach, shape = _in_order(facts.reach_mm, axis), _in_order(facts.shape, axis)
    side = 2 * _MARGIN * max(reach[1:])  # planes are turned, so as far one way as the other
    sides = (min(side, shape[1] * own[1]), min(side, shape[2] * own[2]))
    if sides[0] * sides[1] > _FOCUS**2 * shape[1] * own[1] * shape[2] * own[2]:
        return None
    why["focus"] = (
        f"what is labelled reaches {max(reach[1:]):.3g} mm from the images' middle, so no more than their middle "
        "is looked at; settings: {focus: [null, null, null]} looks everywhere"
    )
    return sides


def _position(facts: Fingerprint, axis: StepAxis, window: Triple, why: dict[str, str]) -> Three | None:
    """Half the window, where the image's middle says what is meant."""
    if facts.off_middle_mm is None:
        return None
    off, shape, own = (_in_order(v, axis) for v in (facts.off_middle_mm, facts.shape, facts.spacing_mm))
    if any(off[k] > _CENTRED * shape[k] * own[k] for k in (1, 2)):
        return None
    why["position"] = "images are centred on what is labelled, so the network is told where the middle is"
    return window[0] / 2, window[1] / 2, window[2] / 2


def _window(working: Sequence[int], reach: Sequence[int], spacing: Three) -> list[int]:
    """The whole volume where it is small enough, else a cut whose sides are about as long in mm."""
    window = [min(max(w, r), math.ceil(1.25 * w)) for w, r in zip(working, reach, strict=True)]
    while math.prod(window) > _WINDOW_VOXELS:
        longest = max(range(3), key=lambda k: window[k] * spacing[k] * (1 if window[k] > 8 else 0))
        window[longest] = math.floor(window[longest] * 0.95)
    return window


def _strides(window: Sequence[int], spacing: Three) -> tuple[Triple, ...]:
    """Rows and columns are halved while they are large enough; steps, once they lie closer than the pixels of the level below."""
    size, apart = list(window), list(spacing)
    strides: list[Triple] = []
    while len(strides) < len(_WIDTHS) - 1:
        stride = [1, 1, 1]
        for k in (1, 2):
            if size[k] / 2 >= _SMALLEST_CELL - 1 and apart[k] < THICK * min(apart[1:]):
                stride[k] = 2
        below = max(apart[k] * stride[k] for k in (1, 2))
        if size[0] >= 8 and 2 * apart[0] < below:
            stride[0] = 2
        if stride == [1, 1, 1]:
            break
        size = [math.ceil(n / s) for n, s in zip(size, stride, strict=True)]
        apart = [a * s for a, s in zip(apart, stride, strict=True)]
        strides.append((stride[0], stride[1], stride[2]))
    return tuple(strides) or ((1, 2, 2),)


def _multiples(window: Sequence[int], strides: Sequence[Triple]) -> Triple:
    """The window as a multiple of all strides together; the nearest, for no image is padded by much."""
    whole = [math.prod(s[k] for s in strides) for k in range(3)]
    a, b, c = (max(m, m * math.ceil(n / m - 0.25)) for n, m in zip(window, whole, strict=True))
    return a, b, c


def _mirror(facts: Fingerprint, axis: StepAxis, why: dict[str, str]) -> Three:
    """How often step, row and column are mirrored."""
    sided = _in_order(facts.one_sided, axis)
    left_right = _in_order((True, False, False), axis)
    shares = [0.5 if left_right[k] and not sided[k] else 0.0 for k in range(3)]
    why["mirrored"] = (
        "left and right are alike for the classes"
        if any(shares)
        else "a class is told by its side, so nothing is mirrored"
    )
    return shares[0], shares[1], shares[2]


def _scheme(channel: ChannelFacts, why: dict[str, str]) -> Scheme:
    reasons = why.get("schemes", "")
    if channel.modality == "CT" and channel.std > 0:
        why["schemes"] = (
            f"{reasons}{channel.name}: Hounsfield units, {channel.low:.0f} to {channel.high:.0f} as in what is labelled. "
        )
        bounds = ((channel.low - channel.mean) / channel.std, (channel.high - channel.mean) / channel.std)
        return Scheme(kind="fixed", centre=channel.mean, scale=channel.std, low=bounds[0], high=bounds[1])
    why["schemes"] = f"{reasons}{channel.name}: units mean nothing by themselves, so each image's own foreground. "
    return Scheme()


def _augment(facts: Fingerprint, spacing: Three, thick: bool, mirror: Three) -> SlabAugment:
    """Out-of-plane turns only where steps are close; a network of several channels, not of colours, learns to do without each."""
    pixel = max(spacing[1:])
    names = {c.name for c in facts.channels}
    several = (len(names) > 1 and names != set(COLOURS)) or any(c.missing for c in facts.channels)
    coils = any(c.modality == "MR" for c in facts.channels)
    return SlabAugment(
        rotate=0.5 if thick else 0.3,
        tilt=0.0 if thick else 0.25,
        zoom=0.25 if thick else 0.2,
        stretch=0.1,
        elastic_mm=1.5 * pixel,
        mirror=mirror,
        drop_channel=0.25 if several else 0.0,
        shading=0.4 if coils else 0.0,
    )


def _rounded(value: float) -> float:
    """To four digits: for people, and far less than makes a difference."""
    return float(f"{value:.4g}")


def _times(values: Sequence[float]) -> str:
    return "×".join(f"{v:.3g}" for v in values)
