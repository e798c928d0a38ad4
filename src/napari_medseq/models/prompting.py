"""The input channels of the prompted network, computed from an object's painted steps by classical methods.

Distances to the painted outline, the shape interpolated between painted steps, which intensities are the object's, and what the
painted steps on either side look like: the network corrects them. Everything is tensors of windows, (batch, step, y, x), on whatever
device they lie; lengths are in pixels of the window. A `PromptedSequence` makes the channels of any stretch of steps, so that a long
sequence never has all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_medseq.masks.interpolation import Between, middles, nearest_annotated, signed_distance

#: signed distances beyond this many pixels are not told apart
FAR = 40.0
#: pixels around a painted shape whose intensities stand for what it is not
RING = 12.0
#: bins of the histograms of intensities, and the normalised intensity, in spreads, at which they end
BINS, RANGE = 64, 3.0
_ROUNDING = 1e-6  # relative difference of intensities that single precision does not resolve
#: steps, and radii of the shape, beyond which distances to the painted steps are not told apart
HORIZON = (99.0, 4.0)
#: channels per step: image, prompt, flag, two of the shape, two of the intensities, images and shapes of the painted steps on either
#: side, five of where and how far
CHANNELS = 16


def annotated_distance(mask: Tensor, annotated: Tensor) -> Tensor:
    """Signed distances of the annotated steps, zero elsewhere.

    An empty annotated step lies as far outside as the thickest shape's middle lies inside, so that between the two the shape ends
    halfway.

    Parameters
    ----------
    mask : Tensor of bool, (batch, step, y, x)
    annotated : Tensor of bool, (batch, step)
    """
    out = torch.zeros(mask.shape, device=mask.device)
    out[annotated] = signed_distance(mask[annotated]).clamp(-FAR, FAR)
    filled = mask.flatten(2).any(2)
    depth = torch.where(filled, out.flatten(2).amax(2), 0).amax(1)
    level = -depth.clamp_min(2.0)[:, None].expand(annotated.shape)
    empty = annotated & ~filled
    out[empty] = level[empty][:, None, None]
    return out


@dataclass(frozen=True)
class PromptedSequence:
    """Windows of sequences with an object painted on some of their steps; `of` makes one.

    Attributes
    ----------
    image : Tensor, (batch, step, y, x)
        Intensities about the painted shape and its surroundings: zero mean and unit spread there, bent to ±`RANGE`.
    distance : Tensor, (batch, step, y, x)
        See `annotated_distance`.
    annotated : Tensor of bool, (batch, step)
    before, after : Tensor, (batch, step)
        See `nearest_annotated`.
    middle : Tensor, (batch, step, 2)
        Centres of the painted shapes along y and x; see `napari_medseq.masks.interpolation.middles`.
    filled : Tensor of bool, (batch, step)
        Where there is a painted shape.
    ratios : Tensor, (batch, 2, bins)
        Log ratio of how often an intensity occurs in the painted shapes and around them, of the image and of its local mean.
    away : Tensor, (batch, step)
        Distance to the nearest annotated step in radii of the shape, up to 4, divided by 4; −0.25 where unknown.
    share : Tensor, (batch, step)
        The same in usual gaps between annotated steps, up to 2, divided by 2; −0.25 where only one is annotated.
    farthest : float
        Distance in steps to the painted ones beyond which distances are not distinguished.
    """

    image: Tensor
    distance: Tensor
    annotated: Tensor
    before: Tensor
    after: Tensor
    middle: Tensor
    filled: Tensor
    ratios: Tensor
    away: Tensor
    share: Tensor
    farthest: float = HORIZON[0]

    @classmethod
    def of(
        cls, image: Tensor, mask: Tensor, annotated: Tensor, gap: Tensor, horizon: tuple[float, float] = HORIZON
    ) -> PromptedSequence:
        """Measure the painted steps.

        Parameters
        ----------
        image : Tensor, (batch, step, y, x)
            Intensities in any unit.
        mask : Tensor of bool, (batch, step, y, x)
            The painted shape; looked at on annotated steps only.
        annotated : Tensor of bool, (batch, step)
            At least one per sequence.
        gap : Tensor, (batch,)
            Distance of two steps in pixels of the window; 0 where there is none (frames, visits).
        horizon : (float, float)
            Steps, and radii of the shape, beyond which distances to the painted steps are not distinguished: farther steps look as if
            they were that near, so that an object that continues in the image does not end because it is long.
        """
        mask = mask & annotated[..., None, None]
        distance = annotated_distance(mask, annotated)
        filled_steps = annotated.any(0).nonzero()[:, 0]  # what is measured, is measured on these
        filled = mask.flatten(2).any(2)  # a step that is painted empty does not say where the object's surroundings are
        near = filled[:, filled_steps, None, None] & (distance[:, filled_steps] > -RING)
        picture = _normalised(image, near, filled_steps)
        before, after = nearest_annotated(annotated)
        ratios = _intensity_ratios(picture[:, filled_steps], mask[:, filled_steps], near & ~mask[:, filled_steps])
        radius = (mask.flatten(2).sum(2).amax(1) / torch.pi).sqrt().clamp_min(1)
        steps = torch.minimum(*_steps_to(before, after))
        scaled = (steps * gap[:, None] / radius[:, None]).clamp_max(min(horizon[1], HORIZON[1])) / HORIZON[1]
        away = torch.where(gap[:, None] > 0, scaled, -0.25)
        share = _share_of_gap(annotated, steps)
        return cls(picture, distance, annotated, before, after, middles(mask), filled, ratios, away, share, horizon[0])

    def prior(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Signed distance (batch, step, y, x) of the interpolated shape on steps `start` to `stop`, in pixels.

        Blended between annotated steps, the shapes on either side brought over each other first
        (`napari_medseq.masks.interpolation.Between`), and copied beyond the outermost.
        """
        place = self._between(start, stop)
        low, high = place.aligned([self.distance], self.middle, self.filled)
        return place.blended(low[:, :, 0], high[:, :, 0])

    def channels(
        self, start: int = 0, stop: int | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor]:
        """The network's input (batch, step, `CHANNELS`, y, x) on steps `start` to `stop`, and the `prior` of these steps.

        The input is of `dtype`, or of the image's.
        """
        cut = slice(start, stop)
        picture, shown, place = self.image[:, cut], self.annotated[:, cut], self._between(start, stop)
        if place.rests:  # beyond the outermost painted steps all look back on the same one
            place = place.first()
        low, high = place.aligned([self.distance, self.image], self.middle, self.filled)
        prior = place.blended(low[:, :, 0], high[:, :, 0])
        x = picture.new_empty(*picture.shape[:2], CHANNELS, *picture.shape[2:], dtype=dtype)
        every = prior.expand(picture.shape)
        x[:, :, 0], x[:, :, 1], x[:, :, 2] = picture, 0, shown[..., None, None]
        x[:, :, 1][shown] = torch.tanh(every[shown] / 3).to(x.dtype)
        x[:, :, 3], x[:, :, 4] = torch.tanh(prior / 2), torch.tanh(prior / 10)
        for k, p in enumerate((picture, smoothed(smoothed(picture)))):
            x[:, :, 5 + k] = _looked_up(p, self.ratios[:, k])
        x[:, :, 7], x[:, :, 8] = low[:, :, 1], high[:, :, 1]
        x[:, :, 9] = torch.tanh(low[:, :, 0] / 3)
        x[:, :, 10] = x[:, :, 9] if high is low else torch.tanh(high[:, :, 0] / 3)
        far_before, far_after = (f[:, cut].clamp_max(self.farthest) for f in _steps_to(self.before, self.after))
        near = torch.minimum(far_before, far_after).clamp_max(40) / 20
        steady = [1 / (1 + far_before), 1 / (1 + far_after), near, self.away[:, cut], self.share[:, cut]]
        x[:, :, 11:] = torch.stack(steady, 2)[..., None, None]
        return x, every

    def _between(self, start: int, stop: int | None) -> Between:
        cut = slice(start, stop)
        steps = torch.arange(self.image.shape[1], device=self.image.device)[cut]
        return Between.of(self.before[:, cut], self.after[:, cut], steps)


def _steps_to(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Steps to the nearest annotated one on either side; 99 where there is none."""
    index = torch.arange(before.shape[1], device=before.device).expand_as(before)
    return torch.where(before < 0, 99, index - before), torch.where(after < 0, 99, after - index)


def _share_of_gap(annotated: Tensor, near: Tensor) -> Tensor:
    """Steps to the nearest annotated one, `near`, in usual gaps between annotated steps; see `PromptedSequence.share`."""
    index = torch.arange(annotated.shape[1], device=annotated.device).expand_as(annotated)
    count = annotated.sum(1)
    span = torch.where(annotated, index, -1).amax(1) - torch.where(annotated, index, 10**6).amin(1)
    usual = span / (count - 1).clamp_min(1)
    return torch.where(count[:, None] > 1, (near / usual[:, None].clamp_min(1)).clamp_max(2) / 2, -0.25)


def _normalised(image: Tensor, near: Tensor, filled_steps: Tensor) -> Tensor:
    """Intensities with zero mean and unit spread where `near` (batch, some steps, y, x) says, bent to ±`RANGE` beyond."""
    weight = near.flatten(1).to(image.dtype)
    flat = image[:, filled_steps].flatten(1)
    total = weight.sum(1).clamp_min(1)
    mean = (flat * weight).sum(1) / total
    spread = ((flat - mean[:, None]).square() * weight).sum(1).div(total).sqrt()
    least = torch.maximum(0.02 * image.flatten(1).std(1), _ROUNDING * mean.abs())  # units may be as small as 1e-9
    spread = torch.maximum(spread, least).clamp_min(torch.finfo(image.dtype).tiny)
    scaled = (image - mean[:, None, None, None]).div_(spread[:, None, None, None])  # in place: it is large
    return scaled.div_(RANGE).tanh_().mul_(RANGE)


def smoothed(image: Tensor) -> Tensor:
    """A 3 × 3 binomial mean of each step."""
    kernel = image.new_tensor([1.0, 2.0, 1.0]) / 4
    kernel = (kernel[:, None] * kernel)[None, None]
    flat = image.flatten(0, 1)[:, None]
    return functional.conv2d(functional.pad(flat, (1, 1, 1, 1), mode="replicate"), kernel)[:, 0].view(image.shape)


def _bins(image: Tensor) -> Tensor:
    return (image / RANGE).add_(1).div_(2).mul_(BINS).clamp_(0, BINS - 1).long().flatten(1)


def _intensity_ratios(picture: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Log ratios (batch, 2, bins) over 4 of smoothed histograms inside and outside, of the image and of its local mean."""
    kernel = torch.exp(-0.5 * (torch.arange(-6, 7, device=picture.device) / 2.0) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    weights = [w.flatten(1).float() for w in (inside, outside)]
    ratios = []
    for p in (picture, smoothed(smoothed(picture))):
        place = _bins(p)
        zero = torch.zeros(len(p), BINS, device=p.device)
        counts = torch.stack([zero.scatter_add(1, place, w) for w in weights], 1)
        counts = functional.conv1d(counts.flatten(0, 1)[:, None], kernel, padding=6).view(len(p), 2, BINS)
        share = counts / counts.sum(2, keepdim=True).clamp_min(1e-6)
        ratios.append(torch.log((share[:, 0] + 2e-3) / (share[:, 1] + 2e-3)) / 4)
    return torch.stack(ratios, 1)


def _looked_up(picture: Tensor, ratios: Tensor) -> Tensor:
    """The log ratio for each pixel's intensity, within ±1."""
    return ratios.gather(1, _bins(picture)).view(picture.shape).clamp(-1, 1)
