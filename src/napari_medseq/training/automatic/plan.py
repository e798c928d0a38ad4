"""The plan of a training, decided from the data set's fingerprint and the time; each choice is recorded with its
reason.

The plan is written as YAML beside the result; it may be edited and used again with ``plan=``. Rules without another
source follow nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import Field

from napari_medseq.inference.doubts import Doubt
from napari_medseq.inference.inputs.working import Scheme, StepAxis
from napari_medseq.models.info import COLOURS
from napari_medseq.settings import PathText
from napari_medseq.training.automatic.fingerprint import THICKER, ChannelFacts, Fingerprint
from napari_medseq.training.automatic.kind import four_digits
from napari_medseq.training.automatic.plan_file import PlanFile
from napari_medseq.training.loops.muon import Kind
from napari_medseq.training.loops.slab_windows import SlabAugment

Triple = tuple[int, int, int]
Three = tuple[float, float, float]
T = TypeVar("T")

THICK = 1.8  # steps this many times as far apart as pixels: the planes are seen by themselves first
_WINDOW_VOXELS = 170_000  # voxels of a window; larger ones cost time, so that fewer changes of the weights fit into it
_LARGEST_VOLUME = 4_000_000  # voxels of a working volume
_PASSES = 8.0  # how often all training voxels should be seen
_VOXELS_PER_SECOND = {True: 800_000.0, False: 150_000.0}  # learned per second and core, with and without bfloat16 units
_FRAMES_APART = 4.0  # distance of frames, in pixels
_ACROSS = 8.0  # least working voxels across an object of the smallest class, where pixels are made larger
_FOCUS_CASES = 20  # cases from which on it is certain enough that all labels lie in the middle
_MARGIN = 1.4  # factor of the focus on the extent of the labels
_FOCUS = 0.75  # largest share of an image's sides for a focus; it saves little otherwise
#: largest distance of the labels' centre from the image's middle, as a share of its size, in centred images
_CENTRED = 0.08
_WIDTHS = (16, 32, 64, 96, 128)
_SMALLEST_CELL = 5  # rows and columns of the coarsest level, at least
_SMALL_WINDOW = 40_000  # voxels; a batch has four smaller windows, or two larger ones

_WHY_NO_RECURRENCE = (
    "a recurrence along the steps did not pay beside 3D convolutions where it was measured (docs/benchmarks.md)"
)
_WHY_MUON = "it learns the same from far fewer windows (docs/benchmarks.md)"
_WHY_BFLOAT16 = {
    True: "convolutions were faster in it on this processor",
    False: "this processor computes it no faster",
}
_WHY_OWN_SLICES = "slices are thick, and lie in another direction of the body in some patients than in others"
_WHY_LARGEST = {
    True: "what is labelled is one piece in nearly every case",
    False: "a class may lie in several pieces",
}


class Plan(PlanFile):
    """Everything that training and inference need to know about a data set.

    Attributes
    ----------
    axis : {"z", "y", "x", "t"}
        The axis along which the steps run.
    spacing_mm : tuple of (float or None)
        Working spacing of step, row, column; None: each image's own.
    window : (int, int, int)
        Steps, rows and columns that the network sees at once.
    batch : int
        Windows that are learned from at once.
    widths : tuple of int
        Channels of the levels, the finest first.
    strides : tuple of (int, int, int)
        Factors of step, row and column by which each level is coarser than the one before.
    mix_levels : tuple of int
        Levels with a recurrence along the steps.
    start_from : str or None
        Model whose weights the network starts from, as far as they fit: a name or a folder. None: random weights.
    dropout : float
        Share of the channels that training sets to zero.
    focus : tuple of (int or None)
        Working voxels of step, row and column about the image's middle that are used; None: all.
    position : (float, float, float) or None
        Working voxels from the middle at which the channel of positions is 1; None: there is none.
    schemes : tuple of Scheme
        Units of each channel.
    augment : SlabAugment
    optimiser : {"adamw", "muon"}
        How the weights are changed.
    rate, weight_decay, average : float
        Learning rate and weight decay of the optimiser, and decay of the moving average of the weights.
    bfloat16 : bool
        Whether the network computes in bfloat16.
    mirrored : tuple of {"step", "row", "column"}
        Axes along which inference averages with the mirrored image.
    keep_largest : bool
        Whether only the largest component of each class is kept.
    trimmed, own_slices : bool
        As in `Working`.
    step_mm : float or None
        As in `Working`: the least distance of slices that was learned from.
    doubt : Doubt or None
        The limits beyond which an answer is doubted; how sure it must be is measured on the validation patients.
    """

    axis: StepAxis
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    window: Triple
    batch: int = Field(2, ge=1)
    widths: tuple[int, ...] = _WIDTHS[:4]
    strides: tuple[Triple, ...]
    mix_levels: tuple[int, ...] = ()
    start_from: PathText | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    focus: tuple[int | None, int | None, int | None] = (None, None, None)
    position: Three | None = None
    schemes: tuple[Scheme, ...]
    augment: SlabAugment
    optimiser: Kind = "adamw"
    rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    average: float = Field(0.995, ge=0, lt=1)
    bfloat16: bool
    mirrored: tuple[Literal["step", "row", "column"], ...] = ()
    keep_largest: bool = False
    trimmed: bool = False
    own_slices: bool = False
    step_mm: float | None = Field(None, gt=0)
    doubt: Doubt | None = None
    unlisted: ClassVar = ("augment", "schemes")


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
    """Decide; each decision is a function of its own, which returns what it chose and why.

    Parameters
    ----------
    facts : Fingerprint
    seconds : float
        Time for training.
    bfloat16 : bool, optional
        Whether it pays; measured when None.
    cores : int
        Number of cores that compute together.
    """
    low = bfloat16_pays() if bfloat16 is None else bfloat16
    axis, why_axis = _axis(facts)
    own = _own_spacing(facts, axis)
    focus_mm, why_focus = _focus_mm(facts, axis, own)
    shape, largest = (_cut(_in_order(size, axis), own, focus_mm) for size in (facts.shape, facts.largest))
    spacing, why_spacing = _spacing(facts, own, shape, seconds * _VOXELS_PER_SECOND[low] * cores)
    working = _resampled(shape, own, spacing)
    first = _window(working, _resampled(largest, own, spacing), spacing)
    strides = _strides(first, spacing)
    window = _multiples(first, strides)
    position, why_position = (None, None) if focus_mm is None else _position(facts, axis, window)
    thick = spacing[0] >= THICK * max(spacing[1:]) or window[0] < 8 or facts.frames
    mirror, why_mirrored = _mirror(facts, axis)
    schemes = [_scheme(channel) for channel in facts.channels]
    step_mm, why_step = _step_mm(facts, axis, thick)
    doubt = doubt_of(facts, schemes[0][0])
    reasons = {
        "axis": why_axis,
        "focus": why_focus,
        "spacing_mm": why_spacing,
        "window": (
            f"volumes are {_times(working)} at this spacing; a window of about {_WINDOW_VOXELS:,} voxels trains fastest"
        ),
        "strides": (
            f"each level halves what is finest, down to about {_SMALLEST_CELL} pixels; spacing is {_times(spacing)} mm"
        ),
        "mix_levels": _WHY_NO_RECURRENCE,
        "optimiser": _WHY_MUON,
        "batch": f"windows of {math.prod(window):,} voxels",
        "bfloat16": _WHY_BFLOAT16[low],
        "keep_largest": _WHY_LARGEST[facts.one_piece],
        "mirrored": why_mirrored,
        **({} if why_position is None else {"position": why_position}),
        "trimmed": "borders of one value are padding, which must not change the answer",
        **({"own_slices": _WHY_OWN_SLICES} if facts.own_slices else {}),
        **({} if why_step is None else {"step_mm": why_step}),
        "doubt": facts.kind.why(doubt),
        "schemes": "; ".join(why for _, why in schemes),
    }
    return Plan(
        axis=axis,
        spacing_mm=_kept_spacing(spacing, thick),
        window=window,
        batch=4 if math.prod(window) < _SMALL_WINDOW else 2,
        widths=_WIDTHS[: len(strides) + 1],
        strides=strides,
        dropout=0.1 if facts.patients < 30 else 0.0,
        focus=_focus(focus_mm, spacing, window),
        position=position,
        schemes=tuple(scheme for scheme, _ in schemes),
        augment=_augment(facts, spacing, thick, mirror),
        optimiser="muon",
        bfloat16=low,
        keep_largest=facts.one_piece,
        mirrored=("column",) if mirror[2] else (),
        trimmed=True,
        own_slices=facts.own_slices,
        step_mm=step_mm,
        doubt=doubt,
        reasons=reasons,
    )


def doubt_of(facts: Fingerprint, first: Scheme) -> Doubt | None:
    """The limits beyond which an answer is doubted; values count where the first channel is in fixed units and never missing."""
    in_units = first.kind == "fixed" and not facts.channels[0].missing
    return facts.kind.doubt(values=in_units, always_there=facts.always_there)


def _axis(facts: Fingerprint) -> tuple[StepAxis, str]:
    """The axis of the steps: time, else across the thickest slices, else the longest side."""
    if facts.frames:
        return "t", "the images have frames, which follow each other in time"
    if facts.own_slices:
        return "z", "the slices, in whichever direction of the body they lie"
    spacing = dict(zip(("x", "y", "z"), facts.spacing_mm, strict=True))
    length = {a: n * spacing[a] for a, n in zip(("x", "y", "z"), facts.shape, strict=True)}
    thickest = max(spacing, key=lambda a: spacing[a])
    others = [v for a, v in spacing.items() if a != thickest]
    axes: dict[str, StepAxis] = {"x": "x", "y": "y", "z": "z"}
    if min(facts.shape) == 1:
        return axes["xyz"[facts.shape.index(1)]], "images are single slices"
    if spacing[thickest] >= THICKER * max(others):
        return axes[thickest], (
            f"slices lie {spacing[thickest]:.3g} mm apart along {thickest}, pixels {max(others):.3g} mm"
        )
    longest = max(length, key=lambda a: (length[a], a))
    return axes[longest], (
        f"voxels are about as long as wide; {longest} is the longest side ({length[longest]:.0f} mm)"
    )


def _own_spacing(facts: Fingerprint, axis: StepAxis) -> Three:
    """The images' own spacing of step, row and column; frames have no distance and count as far apart as thick slices."""
    own = _in_order(facts.spacing_mm, axis)
    if facts.frames or min(facts.shape) == 1:
        return _FRAMES_APART * max(own[1:]), own[1], own[2]
    return own


def _cut(shape: Triple, own: Three, focus_mm: tuple[float, float] | None) -> Triple:
    """The number of steps, rows and columns that are used."""
    if focus_mm is None:
        return shape
    rows, columns = (min(shape[k], math.ceil(focus_mm[k - 1] / own[k])) for k in (1, 2))
    return shape[0], rows, columns


def _resampled(shape: Triple, own: Three, spacing: Three) -> Triple:
    """A number of voxels at another spacing."""
    steps, rows, columns = (max(1, round(n * (o / s))) for n, o, s in zip(shape, own, spacing, strict=True))
    return steps, rows, columns


def _focus(focus_mm: tuple[float, float] | None, spacing: Three, window: Triple) -> tuple[None, int | None, int | None]:
    """The focus in working voxels, no smaller than the window."""
    if focus_mm is None:
        return None, None, None
    rows, columns = (max(window[k], math.ceil(focus_mm[k - 1] / spacing[k])) for k in (1, 2))
    return None, rows, columns


def _kept_spacing(spacing: Three, thick: bool) -> tuple[float | None, float, float]:
    """Thick slices and frames are taken as they come; between them nothing could be interpolated."""
    return None if thick else four_digits(spacing[0]), four_digits(spacing[1]), four_digits(spacing[2])


def _step_mm(facts: Fingerprint, axis: StepAxis, thick: bool) -> tuple[float | None, str | None]:
    """The least distance of slices, where these are taken as they come."""
    if not thick or facts.least_mm is None or _in_order(facts.shape, axis)[0] == 1:
        return None, None
    least = four_digits(_in_order(facts.least_mm, axis)[0])
    return least, f"no slices that were learned from lie less than {least:.3g} mm apart: much thinner ones are averaged"


def _in_order(xyz: tuple[T, T, T], axis: StepAxis) -> tuple[T, T, T]:
    """(x, y, z) as (step, row, column); of frames the third is the frame."""
    named = dict(zip(("x", "y", "z"), xyz, strict=True))
    if axis == "t":
        return named["z"], named["y"], named["x"]
    others = [a for a in ("z", "y", "x") if a != axis]
    return named[axis], named[others[0]], named[others[1]]


def _spacing(facts: Fingerprint, own: Three, shape: Triple, affordable: float) -> tuple[Three, str]:
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
        return own, f"the images' own{limit}" if limit else "the images' own: there is time enough for all voxels"
    return (spacing[0], spacing[1], spacing[2]), (
        f"{_times(own)} mm would be {voxels / 1e6:.1f} million voxels in each of {facts.cases} cases; in this time "
        f"{_times(spacing)} mm can be learned well{limit}"
    )


def _focus_mm(facts: Fingerprint, axis: StepAxis, own: Three) -> tuple[tuple[float, float] | None, str]:
    """Rows and columns about the middle that hold all labels, with a margin, where that is much less than the image."""
    anywhere = "what is labelled lies anywhere in the images"
    if facts.reach_mm is None or facts.measured < _FOCUS_CASES or min(facts.shape) == 1:
        return None, anywhere
    reach, shape = _in_order(facts.reach_mm, axis), _in_order(facts.shape, axis)
    side = 2 * _MARGIN * max(reach[1:])  # planes are turned, so as far one way as the other
    sides = (min(side, shape[1] * own[1]), min(side, shape[2] * own[2]))
    if sides[0] * sides[1] > _FOCUS**2 * shape[1] * own[1] * shape[2] * own[2]:
        return None, anywhere
    return sides, (
        f"what is labelled reaches {max(reach[1:]):.3g} mm from the images' middle, so no more than their middle "
        "is looked at; settings: {focus: [null, null, null]} looks everywhere"
    )


def _position(facts: Fingerprint, axis: StepAxis, window: Triple) -> tuple[Three, str] | tuple[None, None]:
    """Half the window, where the position about the image's middle shows which organ is meant."""
    if facts.off_middle_mm is None:
        return None, None
    off, shape, own = (_in_order(v, axis) for v in (facts.off_middle_mm, facts.shape, facts.spacing_mm))
    if any(off[k] > _CENTRED * shape[k] * own[k] for k in (1, 2)):
        return None, None
    half = (window[0] / 2, window[1] / 2, window[2] / 2)
    return half, "images are centred on what is labelled, so the network is told where the middle is"


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
    """The window as a multiple of all strides together; the nearest one, since no image is padded by much."""
    whole = [math.prod(s[k] for s in strides) for k in range(3)]
    a, b, c = (max(m, m * math.ceil(n / m - 0.25)) for n, m in zip(window, whole, strict=True))
    return a, b, c


def _mirror(facts: Fingerprint, axis: StepAxis) -> tuple[Three, str]:
    """How often step, row and column are mirrored."""
    if facts.own_slices:
        return (0.0, 0.0, 0.0), "left and right are along another axis in each patient, so nothing is mirrored"
    if not facts.left_right:
        return (0.0, 0.0, 0.0), "the frames are sagittal planes, which show no left and right, so nothing is mirrored"
    sided = _in_order(facts.one_sided, axis)
    left_right = _in_order((True, False, False), axis)
    step, row, column = (0.5 if left_right[k] and not sided[k] else 0.0 for k in range(3))
    if step or row or column:
        return (step, row, column), "left and right are alike for the classes"
    return (step, row, column), "a class is told by its side, so nothing is mirrored"


def _scheme(channel: ChannelFacts) -> tuple[Scheme, str]:
    """The units of a channel: Hounsfield units as they are, others by each image's own foreground."""
    if channel.modality == "CT" and channel.std > 0:
        bounds = ((channel.low - channel.mean) / channel.std, (channel.high - channel.mean) / channel.std)
        scheme = Scheme(kind="fixed", centre=channel.mean, scale=channel.std, low=bounds[0], high=bounds[1])
        return scheme, (
            f"{channel.name}: Hounsfield units, {channel.low:.0f} to {channel.high:.0f} as in what is labelled"
        )
    return Scheme(), f"{channel.name}: units mean nothing by themselves, so each image's own foreground"


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


def _times(values: Sequence[float]) -> str:
    return "×".join(f"{v:.3g}" for v in values)
