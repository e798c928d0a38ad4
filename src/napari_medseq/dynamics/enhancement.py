"""Dynamic series: the time-intensity curve of each lesion, and what is read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.colours import LUMINANCE
from napari_medseq.errors import GeometryError, MedseqError
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.sequence import ImageSequence

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def time_intensity(
    image: ImageSequence,
    labels: ImageSequence,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> pd.DataFrame:
    """Mean intensity of each label value in each frame.

    Parameters
    ----------
    image : ImageSequence
        With axis ``t``; read frame by frame when lazy. Colours are taken as luminance (ITU-R BT.601).
    labels : ImageSequence
        On the same grid, without ``t`` (one mask for all frames) or with one mask per frame.
    progress, cancelled : callables, optional

    Returns
    -------
    DataFrame
        Tidy: ``lesion``, ``label``, ``frame``, ``time_s``, ``voxels``, ``mean``, ``sd``; voxels that are not finite do not enter the last
        two.

    Raises
    ------
    MedseqError
        If the image has no ``t``, or the masks have another number of frames.
    GeometryError
        If the grids differ.
    """
    import pandas as pd

    if "t" not in image.axes or image.times is None:
        raise MedseqError(f"{image.name} has axes {image.axes}; a time-intensity curve needs a 't' axis.")
    if not image.same_grid(labels):
        raise GeometryError(f"{labels.name} is not on the grid of {image.name}; resample the mask onto it first.")
    frames = image.size("t")
    if "t" in labels.axes and labels.size("t") != frames:
        raise MedseqError(
            f"{labels.name} has {labels.size('t')} frames, {image.name} has {frames}; give one mask per frame."
        )
    still = None if "t" in labels.axes else labels.volume_zyx()
    rows: list[dict[str, Any]] = []
    for frame in with_progress(range(frames), frames, "curves", progress, cancelled):
        mask = still if still is not None else labels.frame(frame).volume_zyx()
        volume = _grey(image.frame(frame))
        where = np.nonzero(mask)
        inside, values = mask[where], volume[where]
        for lesion in np.unique(inside).tolist():
            own = values[inside == lesion]
            known = own[np.isfinite(own)]
            rows.append(
                {
                    "lesion": int(lesion),
                    "label": labels.label_names.get(int(lesion), "lesion"),
                    "frame": frame,
                    "time_s": float(image.times[frame]),
                    "voxels": own.size,
                    "mean": float(known.mean()) if known.size else float("nan"),
                    "sd": float(known.std()) if known.size else float("nan"),
                }
            )
    columns = ["lesion", "label", "frame", "time_s", "voxels", "mean", "sd"]
    return pd.DataFrame(rows, columns=columns).sort_values(["lesion", "frame"], ignore_index=True)


def _grey(frame: ImageSequence) -> NDArray[np.float64]:
    """A frame as a volume (z, y, x); colours as luminance."""
    if "c" not in frame.axes:
        return np.asarray(frame.volume_zyx(), dtype=np.float64)
    colours = np.moveaxis(np.asarray(frame.data), frame.axes.index("c"), -1)[..., :3]
    axes = tuple(a for a in frame.axes if a != "c")
    grey = frame.replace(data=colours.astype(np.float64) @ np.array(LUMINANCE), axes=axes)
    return np.asarray(grey.volume_zyx(), dtype=np.float64)


def curve_measures(curves: pd.DataFrame, *, baseline_frames: int = 1) -> pd.DataFrame:
    """Baseline, peak, time to peak, wash-in and wash-out slopes, and area under the curve of each lesion.

    Parameters
    ----------
    curves : DataFrame
        The table of `time_intensity`; its rows may be in any order.
    baseline_frames : int
        Number of the first frames of the series, before contrast arrives; their mean is the baseline.

    Returns
    -------
    DataFrame
        One row per lesion. The peak is the highest mean from the last baseline frame on. Slopes are in intensity per second (wash-in:
        baseline to peak; wash-out: least squares from the peak on), the area is that above the baseline, in intensity times seconds.
        True times are used, uniform or not. What needs a baseline is NaN for a lesion that no baseline frame shows, and so is the
        enhancement in percent where the baseline is not above 0 (fat or lung in HU), because a share of it would have no meaning.

    Raises
    ------
    MedseqError
        If there is no baseline frame.
    """
    import pandas as pd

    if baseline_frames < 1:
        raise MedseqError(f"{baseline_frames} baseline frames are too few; give 1 or more.")
    rows = []
    for lesion in sorted(curves["lesion"].unique().tolist()):
        own = curves[curves["lesion"] == lesion].sort_values("frame")
        of_lesion = own[own["mean"].notna()]  # a frame without a finite voxel says nothing
        early = int((of_lesion["frame"] < baseline_frames).sum())
        measures = _measures(of_lesion["time_s"].to_numpy(float), of_lesion["mean"].to_numpy(float), early)
        rows.append({"lesion": int(lesion), "label": own["label"].iloc[0], **measures})
    return pd.DataFrame(rows)


_MEASURES = (
    "baseline", "peak", "enhancement_percent", "time_to_peak_s", "wash_in_per_s", "wash_out_per_s", "auc_s",
)  # fmt: skip


def _measures(time: NDArray[np.float64], mean: NDArray[np.float64], early: int) -> dict[str, float]:
    """The measures of one curve, of which the first `early` points are its baseline."""
    if not mean.size:
        return dict.fromkeys(_MEASURES, float("nan"))
    last = max(early - 1, 0)
    base = float(mean[:early].mean()) if early else float("nan")
    start = float(time[last]) if early else float("nan")
    top = last + int(mean[last:].argmax())
    rise = time[top] - start
    after_time, after = time[top:], mean[top:]
    return {
        "baseline": base,
        "peak": float(mean[top]),
        "enhancement_percent": 100 * (float(mean[top]) - base) / base if base > 0 else float("nan"),
        "time_to_peak_s": float(time[top] - start),
        "wash_in_per_s": float((mean[top] - base) / rise) if rise > 0 else float("nan"),
        "wash_out_per_s": float(np.polyfit(after_time, after, 1)[0]) if len(after) > 1 else float("nan"),
        "auc_s": float(np.trapezoid(mean - base, time)) if len(time) > 1 else float("nan"),
    }


def plot_curves(curves: pd.DataFrame, axes: Axes) -> dict[int, list[Any]]:
    """One line per lesion on its true times; the artists by lesion."""
    from napari_medseq.colours import lesion_colour

    shown: dict[int, list[Any]] = {}
    for lesion in sorted(curves["lesion"].unique().tolist()):
        of_lesion = curves[curves["lesion"] == lesion].sort_values("time_s")
        shown[int(lesion)] = axes.plot(
            of_lesion["time_s"],
            of_lesion["mean"],
            "-o",
            markersize=3,
            color=lesion_colour(int(lesion)),
            label=f"lesion {lesion}",
            picker=5,
        )
    axes.set_xlabel("time (s)")
    axes.set_ylabel("mean intensity")
    return shown
