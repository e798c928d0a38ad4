"""`retest`: measure the same scan repeatedly through the same pipeline, and estimate the smallest change that is
real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq import geometry, models
from napari_medseq.errors import MedseqError, ModelError, unheard, warn
from napari_medseq.models import Model
from napari_medseq.progress import Cancelled, Progress, check, part
from napari_medseq.progression import track
from napari_medseq.progression.repeatability import Implant, Repeatability, Retested
from napari_medseq.repeatability import growth, implants, rescanning
from napari_medseq.repeatability.settings import RetestSettings
from napari_medseq.sequence import ImageSequence, check_images
from napari_medseq.settings import checked
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.turning import turned

if TYPE_CHECKING:
    from napari_medseq.progression import Progression

Images = ImageSequence | Mapping[str, ImageSequence]
#: computes the labels of an image, or of a mapping of channels, on the (first) image's grid
Segmenter = Callable[[Images], ImageSequence]
#: events after which a lesion's volume is no longer that of the same lesion alone
_NOT_ONE = ("merged", "split", "complex", "cut off", "resolved")
#: mL of the lesions that are added, unless it follows from the patient's own, and its limits
_IMPLANT_ML, _LEAST_ML, _MOST_ML = 0.5, 0.05, 10.0


def retest(
    images: Images,
    model: Model | Segmenter | str | PathLike[str],
    *,
    device: str = "auto",
    settings: RetestSettings | Mapping[str, object] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Repeatability:
    """Estimate the smallest change of volume that one scan and one model can detect.

    The scan is moved, resampled and given new noise several times; each time the model segments it and its lesions are
    matched. Then lesions of known volume are added, grown by known amounts, and measured in the same way.

    Parameters
    ----------
    images : ImageSequence or mapping of channel to ImageSequence
        One visit, as `ms.segment` takes it: axes z, y, x.
    model : Model, name, bundle folder, or callable
        A segmentation model, or any function that computes labels of images.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    settings : RetestSettings or mapping, optional
    force : bool
        Continue even if the model's modality does not match the image's.
    progress, cancelled : callables, optional

    Returns
    -------
    Repeatability
        Pass it to `Progression.use_repeatability`, so that table and report say which changes are real.

    Raises
    ------
    ModelError
        If the model does not segment single visits, or does not fit the images.
    MedseqError
        If an image has frames or colours.

    Notes
    -----
    The noise is added to that of the scan, so that a retest is noisier than a second scan would be, by a factor of up
    to √2. Scanner drift, another position of coils or timing of contrast agent, and changes of the patient are not
    included.
    """
    chosen = checked(RetestSettings, settings)
    channels = dict(images) if isinstance(images, Mapping) else {"": images}
    for image in channels.values():
        check_images(image=image)
        if set(image.axes) & {"t", "c"}:
            raise MedseqError(f"{image.name} has axes {image.axes}; a scan that is measured again has z, y, x.")
    # noise and places of lesions are drawn in the order of the voxels, which is that of readers
    channels = {name: _upright(image.compute()) for name, image in channels.items()}
    with unheard():  # every run gives the same warnings
        segmenter, name = _segmenter(model, device, force, cancelled)
        study = _Study(channels, isinstance(images, Mapping), segmenter, chosen, progress, cancelled)
        lesions, grown, doubts = study.run()
    for doubt in doubts:
        warn(doubt)
    first = next(iter(channels.values()))
    return Repeatability(lesions, grown, first.name, name, chosen.model_dump(mode="json"), doubts)


def _upright(image: ImageSequence) -> ImageSequence:
    """A volume in the orientation of readers, voxels in their order."""
    if "z" not in image.axes or not image.oriented:
        return image
    upright = turned(image, geometry.to_codes(image.affine))
    return upright.replace(data=np.ascontiguousarray(upright.data))


def _segmenter(
    model: Model | Segmenter | str | PathLike[str], device: str, force: bool, cancelled: Cancelled | None
) -> tuple[Callable[[Images, Progress | None], ImageSequence], str]:
    """The function that computes labels of images, and its name."""
    from napari_medseq.inference import segment

    if not isinstance(model, Model | str | PathLike):
        return lambda images, _progress: model(images), getattr(model, "__name__", type(model).__name__)
    loaded = models.loaded(model)
    if loaded.info.task != "segmentation" or loaded.info.sequence_axis == "visit":
        raise ModelError(
            f"{loaded.info.name} does not segment single visits, so that one scan cannot be measured again by it."
        )

    def labels(images: Images, progress: Progress | None) -> ImageSequence:
        segmentation = segment(images, loaded, device=device, force=force, progress=progress, cancelled=cancelled)
        return segmentation.labels

    return labels, loaded.info.name


@dataclass
class _Study:
    """One run of `retest`: the scan, the function that segments it, and the progress."""

    channels: dict[str, ImageSequence]
    several: bool
    segmenter: Callable[[Images, Progress | None], ImageSequence]
    settings: RetestSettings
    progress: Progress | None
    cancelled: Cancelled | None

    def run(self) -> tuple[tuple[Retested, ...], tuple[Implant, ...], tuple[str, ...]]:
        rng = np.random.default_rng(self.settings.seed)
        first = next(iter(self.channels.values()))
        centre = geometry.apply_points(first.affine, (np.array(first.grid, float)[None] - 1) / 2)[0]
        self.noise = {name: rescanning.noise_of(image) for name, image in self.channels.items()}
        self.jobs = 1 + self.settings.repeats + (2 if self.settings.growths else 0) + len(self.settings.own_growths)
        scan = self.segmented(self.channels, 0, "the scan")
        volumes_of: dict[int, list[float]] = {}
        for k in range(self.settings.repeats):
            how = rescanning.draw_rescan(rng, centre, self.settings)
            repeat = self.segmented(self.moved(self.channels, how), 1 + k, f"retest {k + 1} of {self.settings.repeats}")
            self.take(volumes_of, self.tracked(scan, repeat, how), k)
        lesions = tuple(Retested(lesion, tuple(volumes)) for lesion, volumes in sorted(volumes_of.items()))
        doubts = [] if lesions else ["No lesion was found in the scan; the smallest real change is not known."]
        grown = [*self.own_grown(rng, scan, centre), *self.implanted(rng, scan, centre, doubts)]
        if self.progress is not None:
            self.progress(1000, 1000, "measured")
        return lesions, tuple(grown), tuple(doubts)

    def segmented(self, channels: dict[str, ImageSequence], job: int, title: str) -> ImageSequence:
        check(self.cancelled)
        share = part(self.progress, job / self.jobs, (job + 1) / self.jobs, f"{title}: ")
        images: Images = channels if self.several else next(iter(channels.values()))
        labels = self.segmenter(images, share)
        check(self.cancelled)
        if share is not None:
            share(1, 1, "segmented")
        return labels

    def moved(self, channels: dict[str, ImageSequence], how: rescanning.Rescan) -> dict[str, ImageSequence]:
        return {
            name: rescanning.rescan(image, how, self.noise[name], self.settings, channel=k)
            for k, (name, image) in enumerate(channels.items())
        }

    def tracked(self, scan: ImageSequence, repeat: ImageSequence, how: rescanning.Rescan) -> Progression:
        """The lesions of the scan and of a retest, each at its position in the patient."""
        back = np.linalg.inv(how.motion)
        pair = [scan.replace(acquired=None), repeat.replace(acquired=None, meta=scan.meta)]
        return track(pair, settings=self.settings.track, transforms=[None, back], force=True, cancelled=self.cancelled)

    def take(self, volumes_of: dict[int, list[float]], pair: Progression, repeat: int) -> None:
        """Add the volumes of one retest to those of each lesion that the scan shows completely."""
        table = pair.lesions
        before = table[(table["visit"] == 0) & table["measured"].astype(bool) & ~table["cut_off"].astype(bool)]
        after = table[(table["visit"] == 1) & ~table["event"].isin(_NOT_ONE)].set_index("lesion")["volume_ml"]
        for lesion, volume in zip(before["lesion"].tolist(), before["volume_ml"].tolist(), strict=True):
            volumes = volumes_of.setdefault(int(lesion), [float(volume)] + [0.0] * self.settings.repeats)
            volumes[1 + repeat] = float(after.get(lesion, 0.0))

    # -- known growth ----------------------------------------------------------------------------------
    def own_grown(self, rng: np.random.Generator, scan: ImageSequence, centre: NDArray[np.float64]) -> list[Implant]:
        """Grow the patient's largest lesion in place, each time in a retest of its own."""
        alone = track([scan.replace(acquired=None)], settings=self.settings.track)
        table, labels = alone.lesions, alone.labels[0]
        whole = table[table["measured"].astype(bool) & ~table["cut_off"].astype(bool)]
        if whole.empty or labels is None:
            return []
        volumes = whole["volume_ml"].to_numpy(float)
        lesion, before = int(whole["lesion"].to_numpy(int)[volumes.argmax()]), float(volumes.max())
        place, radius = growth.ball_of(np.asarray(labels.volume_zyx() == lesion), labels.affine)
        implants = []
        for k, share in enumerate(self.settings.own_growths):
            how = rescanning.draw_rescan(rng, centre, self.settings)
            grown = {n: growth.with_growth(i, growth.Growth(place, radius, share)) for n, i in self.channels.items()}
            job = 1 + self.settings.repeats + k
            repeat = self.segmented(self.moved(grown, how), job, f"own lesion grown by {100 * share:.0f} %")
            after = self.tracked(scan, repeat, how).lesions
            row = after[(after["visit"] == 1) & (after["lesion"] == lesion) & ~after["event"].isin(_NOT_ONE)]
            seen = float(row["volume_ml"].iloc[0]) if len(row) else 0.0
            implants.append(Implant(before, before * (1 + share), before, seen, own=True))
        return implants

    def implanted(
        self, rng: np.random.Generator, scan: ImageSequence, centre: NDArray[np.float64], doubts: list[str]
    ) -> list[Implant]:
        """Add lesions, grow them, and measure them before and after."""
        growths = self.settings.growths
        if not growths:
            return []
        first = next(iter(self.channels.values()))
        own = scan.volume_zyx().astype(np.int64) > 0
        contrasts = {name: self.contrast(image, own, scan) for name, image in self.channels.items()}
        contrasts_known = {name: value for name, value in contrasts.items() if value is not None}
        if len(contrasts_known) < len(contrasts):
            doubts.append("The scan has no lesion whose contrast could be used, so none was added; give contrast=.")
            return []
        volume = self.settings.implant_ml or self.usual_ml(scan)
        blobs = implants.draw_blobs(
            rng,
            foreground(first.volume_zyx()),
            own if scan.same_grid(first) else np.zeros(first.volume_zyx().shape, bool),
            first.affine,
            [volume] * len(growths),
            [volume * (1 + g) for g in growths],
        )
        if len(blobs) < len(growths):
            doubts.append(f"There was room for {len(blobs)} of {len(growths)} lesions of {volume:.2g} mL in the scan.")
        if not blobs:
            return []
        grown = [blob.grown(g) for blob, g in zip(blobs, growths, strict=False)]
        how = rescanning.draw_rescan(rng, centre, self.settings)
        job = 1 + self.settings.repeats + len(self.settings.own_growths)
        before = self.segmented(self.with_blobs(blobs, contrasts_known), job, "lesions put in")
        after = self.segmented(self.moved(self.with_blobs(grown, contrasts_known), how), job + 1, "lesions grown")
        return self.recovered(blobs, grown, self.tracked(before, after, how), how)

    def contrast(self, image: ImageSequence, own: NDArray[np.bool_], scan: ImageSequence) -> float | None:
        if self.settings.contrast is not None:
            return self.settings.contrast
        return implants.contrast_of(image, own) if scan.same_grid(image) else None

    def usual_ml(self, scan: ImageSequence) -> float:
        """The median volume of the scan's own lesions, within limits."""
        if not scan.data.any():
            return _IMPLANT_ML
        table = track([scan.replace(acquired=None)], settings=self.settings.track).lesions
        volumes = table.loc[table["measured"].astype(bool), "volume_ml"]
        return float(np.clip(volumes.median() if len(volumes) else _IMPLANT_ML, _LEAST_ML, _MOST_ML))

    def with_blobs(self, blobs: list[implants.Blob], contrasts: Mapping[str, float]) -> dict[str, ImageSequence]:
        with_shares = {}
        for name, image in self.channels.items():
            z, y, x = image.volume_zyx().shape
            shares = np.zeros((z, y, x), np.float32)
            for blob in blobs:
                shares += blob.share(image.affine, (z, y, x))
            with_shares[name] = implants.with_blobs(image, shares, contrasts[name])
        return with_shares

    def recovered(
        self, blobs: list[implants.Blob], grown: list[implants.Blob], pair: Progression, how: rescanning.Rescan
    ) -> list[Implant]:
        """The measurement of each added lesion: of the lesion that covers its position, before and after."""
        labels = [mask for mask in pair.labels if mask is not None]
        volumes = pair.lesions.set_index(["visit", "lesion"])["volume_ml"]
        measured = []
        for small, large in zip(blobs, grown, strict=True):
            true, seen = [], []
            for visit, (blob, motion) in enumerate(((small, np.eye(4)), (large, how.motion))):
                mask = labels[visit]
                # the position in the grid of the patient as moved in that visit
                values = mask.volume_zyx().astype(np.int64)
                z, y, x = values.shape
                share = blob.share(geometry.as_affine(np.linalg.inv(motion) @ mask.affine), (z, y, x))
                true.append(float(share.sum()) * geometry.voxel_volume_mm3(mask.affine) / 1000)
                under = values[share > 0.5]
                under = under[under > 0]
                lesion = int(np.bincount(under).argmax()) if len(under) else 0
                seen.append(float(volumes.get((visit, lesion), 0.0)) if lesion else 0.0)
            measured.append(Implant(true[0], true[1], seen[0], seen[1]))
        return measured
