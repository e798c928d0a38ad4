"""Choosing the image of each visit that a model is run on: by the user's pattern, by the model's card, or because
only one fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_medseq.errors import ModelError, ReadError, warn
from napari_medseq.models import ModelInfo, why_unsuitable
from napari_medseq.models.info import takes_colours
from napari_medseq.sequence import ImageSequence, Study, Visit, matches

Series = str | Sequence[str] | None


@dataclass(frozen=True)
class Chosen:
    """The images of one visit that a model is run on.

    Attributes
    ----------
    visit : Visit
    channels : dict of str to ImageSequence
        Channel name → image, in the model's order; one entry for a model of one channel.
    several : bool
        Whether the model has several channels, of which some may be missing.
    """

    visit: Visit
    channels: dict[str, ImageSequence]
    several: bool = False

    @property
    def image(self) -> ImageSequence:
        """The image whose grid the labels are on: the first channel."""
        return next(iter(self.channels.values()))

    @property
    def images(self) -> ImageSequence | dict[str, ImageSequence]:
        """The input of `ms.segment`: the image, or the channels if there are several."""
        return self.channels if self.several or len(self.channels) > 1 else self.image


def choose_images(study: Study, info: ModelInfo, *, series: Series = None, force: bool = False) -> list[Chosen]:
    """Pick the image of each visit that a model is run on; an ambiguous choice is an error that lists the candidates.

    `series` decides where given; else the name patterns of the model's card; else the only image that fits. Masks in the
    study are never chosen. A visit without any image is left out with a warning.

    Raises
    ------
    ReadError
        If no visit has an image.
    ModelError
        If the model is not for segmentation, or in some visit no image, or more than one, fits.
    """
    if info.task != "segmentation":
        raise ModelError(f"{info.name} is a {info.task} model; following lesions needs a segmentation model.")
    patterns = [series] if isinstance(series, str) else list(series or [])
    qualifier = f" called like {', '.join(patterns)}" if patterns else ""
    chosen = []
    for number, visit in enumerate(study.visits):
        where = f"{study.name}, visit {number + 1} ({visit.name or visit.date or 'undated'})"
        images = [i for i in visit.images if i.kind == "image"]
        if not images or (patterns and not any(matches(i, patterns) for i in images)):
            _warn(f"{where} is left out: it has no image{qualifier} (images: {_names(images)}).")
            continue
        chosen.append(Chosen(visit, _channels(images, info, patterns, where, force), _several(info)))
    if not chosen:
        every = _names([i for v in study.visits for i in v.images])
        raise ReadError(
            f"{study.name}: no visit has an image{qualifier}; the images are: {every}. Masks that lie in a study are not segmented."
        )
    return chosen


def choose_image(
    images: Sequence[ImageSequence],
    info: ModelInfo,
    *,
    series: Series = None,
    where: str = "images",
    force: bool = False,
) -> ImageSequence | dict[str, ImageSequence]:
    """Pick the image (or channel → image) for a model out of what one file or folder holds, as `choose_images` does.

    Raises
    ------
    ModelError
        If no image, or more than one, fits.
    """
    patterns = [series] if isinstance(series, str) else list(series or [])
    channels = _channels([i for i in images if i.kind == "image"], info, patterns, where, force)
    return channels if _several(info) else next(iter(channels.values()))


def _warn(text: str) -> None:
    warn(text)


def _names(images: Sequence[ImageSequence]) -> str:
    return ", ".join(sorted({i.name for i in images})) or "none"


def _several(info: ModelInfo) -> bool:
    """Whether each channel of a model is an image of its own."""
    return len(info.channels) > 1 and not takes_colours(info)


def _channels(
    images: Sequence[ImageSequence], info: ModelInfo, patterns: Sequence[str], where: str, force: bool
) -> dict[str, ImageSequence]:
    """Channel → image of one visit."""
    if not _several(info):
        name = info.channels[0] if len(info.channels) == 1 else "image"
        return {name: _one(images, info, patterns or list(info.name_patterns), where, force, given=bool(patterns))}
    # several channels: each is the image whose name holds the channel's name, or else the one of that modality
    pool = [i for i in images if matches(i, patterns)] if patterns else list(images)
    known = known_channels(pool, info)
    of_channel = {c: _not_of_others(pool, info, c) for c in info.channels}
    named = [c for c in info.channels if c in known or any(matches(i, [f"*{c}*"]) for i in of_channel[c])]
    without = [c for c in info.channels if c not in named] if info.missing_channels and named else []
    if without:
        _warn(f"{where}: no image is called like {' or '.join(without)}; {info.name} goes on without.")
    return {
        c: known[c]
        if c in known
        else _one(of_channel[c], info, [f"*{c}*"], f"{where}, channel {c!r}", force, given=True)
        for c in info.channels
        if c not in without
    }


#: channels that are called otherwise than their modality in DICOM
_MODALITIES = {"PET": "PT", "MRI": "MR"}


def _modality(channel: str) -> str:
    return _MODALITIES.get(channel.upper(), channel.upper())


def known_channels(images: Sequence[ImageSequence], info: ModelInfo) -> dict[str, ImageSequence]:
    """Channel → image, for the channels of a model of which one image alone holds the name, or else is of the modality."""
    known: dict[str, ImageSequence] = {}
    for channel in info.channels:
        pool = [i for i in _not_of_others(images, info, channel) if why_unsuitable(info, i) is None]
        modality = _modality(channel)
        fitting = [i for i in pool if matches(i, [f"*{channel}*"])] or [i for i in pool if i.modality == modality]
        if len(fitting) == 1:
            known[channel] = fitting[0]
    return known


def looks_meant(images: Sequence[ImageSequence], info: ModelInfo) -> bool:
    """Whether images are called like those of a model: one of them after its patterns, or one after each of its channels, or of that
    modality."""
    fitting = [i for i in images if why_unsuitable(info, i) is None]
    if len(info.channels) == 1:
        return bool(info.name_patterns) and any(matches(i, info.name_patterns) for i in fitting)
    return all(
        any(matches(i, [f"*{c}*"]) or i.modality == _modality(c) for i in _not_of_others(fitting, info, c))
        for c in info.channels
    )


def _not_of_others(images: Sequence[ImageSequence], info: ModelInfo, channel: str) -> list[ImageSequence]:
    """The images except those of another channel: by a name that contains this one's ("t1ce" is not "t1"), or by the modality (a PET
    series called "PET-CT" is not the CT)."""
    longer = [f"*{c}*" for c in info.channels if channel.casefold() in c.casefold() and c != channel]
    others = {_modality(c) for c in info.channels} - {_modality(channel)}
    return [i for i in images if not matches(i, longer) and i.modality not in others]


def _one(
    images: Sequence[ImageSequence], info: ModelInfo, patterns: Sequence[str], where: str, force: bool, given: bool
) -> ImageSequence:
    """The one image whose name matches `patterns` and that fits the model; without such a name, the only one that fits."""
    # names may repeat
    reasons = [(i, None if force and i.kind == "image" else why_unsuitable(info, i)) for i in images]
    named = [i for i in images if matches(i, patterns)]
    fitting = [i for i, reason in reasons if reason is None and matches(i, patterns)]
    if len(fitting) == 1:
        return fitting[0]
    if not named and not given:
        fitting = [i for i, reason in reasons if reason is None]
        if len(fitting) == 1:
            if patterns:
                _warn(
                    f"{where}: {fitting[0].name} is taken for {info.name} as the only image that fits, not by its name."
                )
            return fitting[0]
    if len(fitting) > 1:
        raise ModelError(
            f"{where}: {len(fitting)} images could be meant for {info.name}: {_names(fitting)}. Choose one with series=."
        )
    if any(reason for _, reason in reasons):
        why = "; ".join(sorted({r for i, r in reasons if r and (not named or matches(i, patterns))}))
        raise ModelError(
            f"{where}: no image fits {info.name}: {why}. Choose another model, or force=True if the modality is wrong."
        )
    raise ModelError(
        f"{where}: no image is called like {', '.join(patterns)}; the images are: {_names(images)}. Choose one with series=."
    )
