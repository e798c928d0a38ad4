"""Every preprocessing step beside what others have for it, in one run: seconds, and how far the answers agree.

    python benchmarks/preprocess.py [--runs 5] [--quick]

Others: SimpleITK, MONAI, scikit-image, scipy, nibabel, and torchio where it is installed (it is not a dependency). Each pair runs in turn,
so that a disturbance meets both; times are medians with the fastest and slowest, on one thread each; what loads libraries runs once
before. The image is a synthetic head in MR (and from it a CT-like one and a series), so that it runs anywhere. Agreement is the largest
difference of the two answers as a share of the answer's range (1st to 99th percentile), or what the row says instead. Then: the brain mask
against the brain that ten synthetic heads were painted with, and how well `estimate_seconds` foretold the time of the whole.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

import napari_medseq as ms
from napari_medseq.preprocessing import TISSUES, Gabor, Tissue, estimate_seconds, gabor_responses, learn_landmarks
from napari_medseq.preprocessing.nyul import PERCENTILES
from napari_medseq.sequence import ImageSequence, affine_from
from napari_medseq.volumes.grid import to_itk

Array = np.ndarray
Agreement = Callable[[Array, Array], str]


@dataclass(frozen=True)
class Pair:
    """One step and one rival."""

    step: str
    rival: str
    ours: Callable[[], Array]
    theirs: Callable[[], Array]
    agree: Agreement


def head(seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[ImageSequence, Array]:
    """A synthetic head in MR, and the share of each voxel that was painted as brain."""
    from napari_medseq.synthetic.anatomy import Head
    from napari_medseq.synthetic.fields import Grid

    rng = np.random.default_rng(seed)
    grid = Grid(shape, spacing)
    signal, brain = Head(rng).paint(grid)
    data = grid.thicken(signal) * 300
    noisy = np.hypot(data + rng.normal(0, 6, data.shape), rng.normal(0, 6, data.shape)).astype(np.float32)
    affine = affine_from(spacing[::-1])
    return ImageSequence(noisy, ("z", "y", "x"), affine, modality="MR", name=f"head {seed}"), grid.thicken(brain)


def known_drift(image: ImageSequence) -> Array:
    """A smooth brightness drift of a factor of about two from end to end, no polynomial or spline of low order."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.data.shape), indexing="ij")
    return np.exp(0.3 * np.sin(1.7 * x + 0.4) + 0.25 * np.cos(1.4 * y - 0.5) * (1 + 0.3 * x) + 0.15 * z)


def largest(one: Array, other: Array) -> str:
    """Largest difference as a share of the range."""
    low, high = np.percentile(one, (1, 99))
    return f"{np.abs(one.astype(float) - other).max() / max(float(high - low), 1e-9):.1e}"


def inside(one: Array, other: Array) -> str:
    """The same without the outermost voxels, where edges are met differently."""
    cut = tuple(slice(2, -2) for _ in range(3))
    return f"{largest(one[cut], other[cut])} (inside)"


def same(one: Array, other: Array) -> str:
    """Share of equal voxels."""
    return f"{np.mean(one == other):.1%} equal" if one.shape == other.shape else f"{one.shape} against {other.shape}"


def alike(one: Array, other: Array) -> str:
    """Correlation."""
    return f"r = {np.corrcoef(one.ravel(), other.ravel())[0, 1]:.4f}"


def pairs(image: ImageSequence) -> list[Pair]:
    """All pairs on one image."""
    found: list[Pair] = []
    data, body = np.asarray(image.data), image.data > 60

    def run(step: object, seq: ImageSequence = image, **more: object) -> Callable[[], Array]:
        return lambda: np.asarray(ms.preprocess(seq, [step], **more).data)  # type: ignore[list-item, arg-type]

    def add(
        name: str, rival: str, ours: Callable[[], Array], theirs: Callable[[], Array], agree: Agreement = largest
    ) -> None:
        found.append(Pair(name, rival, ours, theirs, agree))

    drift = known_drift(image)
    biased = image.replace(data=(data * drift).astype(np.float32))

    def n4_alone() -> Array:
        itk, mask = to_itk(np.asarray(biased.data), image.affine), to_itk(body.astype(np.uint8), image.affine)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        small = sitk.Shrink(itk, [4, 4, 1])
        n4.Execute(small, sitk.Shrink(mask, [4, 4, 1]))
        return np.asarray(biased.data / np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(itk))))

    def left(one: Array, other: Array) -> str:
        """Spread of what is left of the drift, in the body, as a share of what there was."""
        there = float(np.log(drift[body]).std())
        rest = [float(np.log(np.maximum(r[body], 1e-3) / data[body]).std()) / there for r in (one, other)]
        return f"of the drift are left {rest[0]:.0%}, theirs {rest[1]:.0%}"

    add("n4", "SimpleITK N4, its defaults, shrunk by 4", run("n4", biased), n4_alone, left)
    add("n3", "our n4", run("n3", biased), run("n4", biased), left)
    itk = to_itk(data, image.affine)
    add("median", "scipy", run("median"), lambda: ndimage.median_filter(data, (1, 3, 3), mode="nearest"))
    add("median", "SimpleITK", run("median"), lambda: sitk.GetArrayFromImage(sitk.Median(itk, [1, 1, 0])))
    finest = min(image.spacing.values())
    unit = to_itk(data, np.diag([1 / finest, 1 / finest, 1 / finest, 1]) @ image.affine)
    add(
        "curvature-flow",
        "SimpleITK",
        run("curvature-flow"),
        lambda: sitk.GetArrayFromImage(sitk.CurvatureFlow(unit, 0.0625, 5)),
    )
    add(
        "diffusion", "SimpleITK", run("diffusion"),
        lambda: sitk.GetArrayFromImage(sitk.GradientAnisotropicDiffusion(unit, 0.0625, 3.0, 1, 5)),
    )  # fmt: skip

    def nlm() -> Array:
        from skimage.restoration import denoise_nl_means

        return np.stack(
            [denoise_nl_means(s, patch_size=5, patch_distance=6, h=0.8 * 6, sigma=6, fast_mode=True) for s in data]
        )

    add("nlm", "scikit-image", run({"kind": "nlm", "sigma": 6}), nlm)

    def gabor() -> Array:
        from skimage.filters import gabor as theirs

        size = finest  # skimage knows pixels only
        rows = [theirs(s, 0.1 * size, np.deg2rad(30), sigma_x=5 / size, sigma_y=5 / size, mode="reflect") for s in data]
        return np.stack([np.hypot(*r) for r in rows])

    bank = Gabor(frequencies=(0.1,), orientations=1, first_angle=30, gamma=1, sigma_mm=5, zero_mean=False)
    add(
        "gabor, one filter",
        "scikit-image",
        lambda: np.asarray(gabor_responses(image, settings=bank)[0].magnitude.data),
        gabor,
    )

    step = (3.0, 1.5, 1.5)

    def resampled() -> Array:
        new = ms.preprocess(image, {"kind": "resample", "spacing": step, "antialias": False})
        grid = to_itk(np.zeros(new.data.shape, np.uint8), new.affine)
        return np.asarray(
            sitk.GetArrayFromImage(sitk.Resample(itk, grid, sitk.Transform(), sitk.sitkLinear, float(data.min())))
        )

    add(
        "resample",
        "SimpleITK (with the search of the grid)",
        run({"kind": "resample", "spacing": step, "antialias": False}),
        resampled,
    )
    ct = image.replace(data=(data * 4 - 1000).astype(np.int16), modality="CT")

    def thresholds() -> Array:
        source, out = to_itk(np.asarray(ct.data), ct.affine), np.zeros(ct.data.shape, np.uint8)
        for number, name in enumerate(Tissue().tissues, start=1):
            low, high = TISSUES[name]
            out[sitk.GetArrayViewFromImage(sitk.BinaryThreshold(source, low, high - 1)) == 1] = number
        return out

    add("tissue", "SimpleITK thresholds", run("tissue", ct), thresholds, same)
    series = image.replace(
        data=np.stack([data[4:8] * (1 + 0.02 * k) for k in range(24)]),
        axes=("t", "z", "y", "x"),
        times=0.5 * np.arange(24.0),
    )

    def along_time() -> Array:
        return np.asarray(ndimage.gaussian_filter1d(series.data, 2, axis=0, mode="constant", truncate=8))

    def middle(one: Array, other: Array) -> str:
        return f"{largest(one[10:14], other[10:14])} (middle frames)"

    add("temporal", "scipy", run({"kind": "temporal", "width_s": 1.0}, series), along_time, middle)
    import nibabel as nib

    def turned() -> Array:
        theirs = nib.Nifti1Image(data.transpose(2, 1, 0), image.affine)
        return np.asarray(nib.as_closest_canonical(theirs).dataobj).transpose(2, 1, 0).copy()

    add("reorient", "nibabel", lambda: run({"kind": "reorient", "codes": "RAS"})().copy(), turned, same)
    return [*found, *monai_pairs(image, run), *torchio_pairs(image, run)]


def monai_pairs(image: ImageSequence, run: Callable[..., Callable[[], Array]]) -> list[Pair]:
    """What MONAI has."""
    import torch
    from monai.data import MetaTensor
    from monai.transforms import (
        MedianSmooth,
        NormalizeIntensity,
        Orientation,
        ScaleIntensityRange,
        ScaleIntensityRangePercentiles,
        Spacing,
    )

    torch.set_num_threads(1)
    tensor = MetaTensor(
        torch.from_numpy(image.data.transpose(2, 1, 0).copy())[None], affine=torch.from_numpy(np.array(image.affine))
    )

    def theirs(transform: Callable[[MetaTensor], MetaTensor]) -> Callable[[], Array]:
        return lambda: np.asarray(transform(tensor)[0]).transpose(2, 1, 0)

    rows = [
        (
            "window",
            {"kind": "window", "level": 200, "width": 400},
            ScaleIntensityRange(0, 400, 0, 1, clip=True),
            largest,
        ),
        ("percentile", "percentile", ScaleIntensityRangePercentiles(0.5, 99.5, 0, 1, clip=True), largest),
        ("zscore, all voxels", {"kind": "zscore", "inside": "all"}, NormalizeIntensity(), largest),
        ("median, 3×3×3", {"kind": "median"}, MedianSmooth(1), largest),
        (
            "resample",
            {"kind": "resample", "spacing": (3.0, 1.5, 1.5), "antialias": False},
            Spacing((1.5, 1.5, 3.0)),
            same,
        ),
        ("reorient", {"kind": "reorient", "codes": "RAS"}, Orientation("RAS", labels=None), same),
    ]
    cubes = image.replace(affine=affine_from((1, 1, 1)))
    return [
        Pair(name, "MONAI", run(step, cubes) if name.startswith("median") else run(step), theirs(transform), agree)
        for name, step, transform, agree in rows
    ]


def torchio_pairs(image: ImageSequence, run: Callable[..., Callable[[], Array]]) -> list[Pair]:
    """What torchio has, where it is installed."""
    try:
        import torchio as tio
    except ImportError:
        print("torchio is not installed and left out.\n")
        return []
    import torch

    tensor = torch.from_numpy(image.data.transpose(2, 1, 0).copy())[None]
    scan = tio.ScalarImage(tensor=tensor, affine=np.array(image.affine))

    def theirs(transform: Callable[[object], object]) -> Callable[[], Array]:
        return lambda: np.asarray(transform(scan).data[0]).transpose(2, 1, 0)  # type: ignore[attr-defined]

    learnt = learn_landmarks([image], inside="all")
    wanted = np.interp(tio_percentiles(), PERCENTILES, learnt.values)
    standard = tio.HistogramStandardization({"default_image_name": wanted})
    return [
        Pair("zscore, all voxels", "torchio", run({"kind": "zscore", "inside": "all"}), theirs(tio.ZNormalization()), largest),
        Pair("percentile", "torchio", run("percentile"), theirs(tio.RescaleIntensity((0, 1), percentiles=(0.5, 99.5))), largest),
        Pair("nyul", "torchio", run({"kind": "nyul", "landmarks": learnt.model_dump()}), theirs(standard), alike),
        Pair("reorient", "torchio", run({"kind": "reorient", "codes": "RAS"}), theirs(tio.ToCanonical()), same),
        Pair(
            "resample", "torchio", run({"kind": "resample", "spacing": (3.0, 1.5, 1.5), "antialias": False}),
            theirs(tio.Resample((1.5, 1.5, 3.0))), same,
        ),
    ]  # fmt: skip


def tio_percentiles() -> Array:
    """The percentiles of torchio's landmarks: 1, deciles and quartiles, 99."""
    return np.array([1, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 99], dtype=float)


def timed(pair: Pair, runs: int) -> tuple[list[float], list[float], str]:
    """Seconds of both, in turn, and how their answers agree."""
    agreement = pair.agree(pair.ours(), pair.theirs())
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(runs):
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            (pair.ours, pair.theirs)[which]()
            seconds[which].append(time.perf_counter() - began)
    return seconds[0], seconds[1], agreement


def shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f})"


def brains(seeds: range) -> None:
    """The brain mask against the brain that was painted."""
    scores = []
    for seed in seeds:
        image, share = head(seed, (26, 110, 96), (5.0, 2.0, 2.0))
        mask, truth = np.asarray(ms.preprocess(image, "brain").data) > 0, share > 0.5
        both = np.count_nonzero(mask & truth)
        scores.append((2 * both / (mask.sum() + truth.sum()), both / truth.sum(), both / mask.sum()))
    print("\n| brain mask on synthetic heads | mean | lowest |\n|---|---:|---:|")
    for name, values in zip(
        ("Dice", "share of the brain found", "share of the mask that is brain"), zip(*scores, strict=True), strict=True
    ):
        print(f"| {name} (n = {len(values)}) | {statistics.mean(values):.3f} | {min(values):.3f} |")


def estimates(image: ImageSequence) -> None:
    """What was foretold, and what it took."""
    print("\n| step | estimated s | took s | estimated / took |\n|---|---:|---:|---:|")
    seq = image.replace(modality=None)
    for step in ("window:lung", "zscore", "median", "nlm", "curvature-flow", "n4", "n3", "gabor", "brain"):
        guess = estimate_seconds(seq, step)
        began = time.perf_counter()
        ms.preprocess(seq, step)
        took = time.perf_counter() - began
        said = ("cannot be tried", "") if guess is None else (f"{guess:.2f}", f"{guess / took:.2f}")
        print(f"| {step} | {said[0]} | {took:.2f} | {said[1]} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small image and two runs")
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    shape, spacing = ((12, 96, 88), (6.0, 2.2, 2.2)) if a.quick else ((30, 176, 152), (4.5, 1.25, 1.25))
    image, _ = head(0, shape, spacing)
    print(f"One image of {'×'.join(map(str, shape))} voxels, {a.runs} runs each, in turn, one thread.\n")
    rows = pairs(image)
    print("| step | beside | ours s | theirs s | ours / theirs | answers |\n|---|---|---:|---:|---:|---|")
    for pair in rows:
        ours, theirs, agreement = timed(pair, 2 if a.quick else a.runs)
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(
            f"| {pair.step} | {pair.rival} | {shown(ours)} | {shown(theirs)} | {ratio:.2f} | {agreement} |", flush=True
        )
    brains(range(2 if a.quick else 10))
    estimates(image)


if __name__ == "__main__":
    main()
