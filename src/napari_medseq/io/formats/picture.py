"""Pictures (PNG, JPEG, BMP, GIF) and video (MP4, AVI): unoriented, in pixels, for X-ray, dermoscopy and ultrasound exports.

Animated GIF and PNG files are frames. A photograph is turned as its EXIF orientation says, as every viewer does.

Pictures through Pillow; video through PyAV or imageio where one is installed, else an error names what to install.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError, ReadError
from napari_medseq.io import naming
from napari_medseq.io.detection import detect
from napari_medseq.io.formats.colours import COLOURS, TURNED, upright, without_grey_colours
from napari_medseq.io.formats.packing import cannot_hold
from napari_medseq.io.formats.raw import Laziness
from napari_medseq.io.formats.reader import Facts
from napari_medseq.io.label_values import labels_or_image
from napari_medseq.io.placing import place
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import ImageSequence, Kind, Voxels, affine_from

_MOST_PIXELS = 1 << 28
_MOST_COLOURS = 1024  # of a mask that are given a name
_MOST_VIDEO = 1 << 33
_ORIENTATION = 274  # the tag of EXIF
_ANIMATED = ("GIF", "PNG")
_OPAQUE = 255
_SHOWN_MS = 100  # of a frame that does not say how long it is shown, as browsers have it
_HARMLESS = 1 << 26  # bytes of a picture that are unpacked whatever the file's size


def _sequence(
    array: Voxels, axes: tuple[str, ...], path: Path, kind: Kind | None, times: Any = None, *, turned: bool = False
) -> ImageSequence:
    notes = [
        "A picture does not state its size in millimetres: one pixel counts as 1 mm.",
        *([TURNED] if turned else []),
    ]
    label_names: dict[int, str] = {}
    if kind == "labels" and "c" in axes:
        array, label_names = _of_colours(np.asarray(array))
        axes = axes[:-1]
        notes.append("The mask is in colours: each is a label of its own, called by its colour; black is none.")
    labels = kind == "labels" or (kind is None and naming.names_labels(path) and "c" not in axes)
    if labels:
        array, axes, labels = labels_or_image(
            array, axes, where=path, labels_asked=kind == "labels", notes=notes, has_times=times is not None
        )
    meta = {"source": str(path), "dtype": str(array.dtype), "format": path.suffix.lstrip(".").upper()}
    return place(
        array, axes, affine_from((1, 1, 1)), oriented=False, times=times, kind="labels" if labels else "image",
        name=naming.readable(naming.stem(path)), meta=meta, warnings=tuple(notes), label_names=label_names,
    )  # fmt: skip


def _of_colours(array: NDArray[np.generic]) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Labels from red, green and blue: 65536 × red + 256 × green + blue, the same in every file, and their names as HTML has them."""
    red, green, blue = (array[..., k].astype(np.int32) for k in range(3))
    values = 65536 * red + 256 * green + blue
    colours = np.unique(values)[:_MOST_COLOURS].tolist()
    return values, {v: f"#{v:06x}" for v in colours if v}


def _is_coloured(image: Any) -> bool:
    """Whether a palette holds colours, so that its indices are classes; shades of grey are values themselves."""
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[np.unique(np.asarray(image))]
    return bool((colours != colours[:, :1]).any())


def read(
    path: Path,
    *,
    lazy: Laziness = False,  # noqa: ARG001 - a picture is read whole
    kind: Kind | None = None,
    cancelled: Cancelled | None = None,
) -> list[ImageSequence]:
    """Read a PNG, JPEG, BMP, GIF or a video; grey pictures stored as colour become grey.

    Raises
    ------
    ReadError
        If it is damaged or too large.
    """
    if detect(path) == "video":
        return _video(path, kind=kind, cancelled=cancelled)
    image_module: Any = import_module("PIL.Image")
    times: NDArray[np.float64] | None = None
    try:
        with image_module.open(path) as image:
            count = _frames_in(image)
            size = count * image.width * image.height * len(image.getbands())
            if cannot_hold(path.stat().st_size, size, harmless=_HARMLESS):
                raise ReadError(
                    f"{path}: {path.stat().st_size:,} bytes cannot hold {image.width}×{image.height} pixels."
                )
            if image.width * image.height > _MOST_PIXELS or size > _MOST_VIDEO:
                raise ReadError(f"{path}: {image.width}×{image.height} pixels are more than are read; make it smaller.")
            orientation = image.getexif().get(_ORIENTATION)
            if count > 1:
                array, times = _animation(image, count, cancelled)
            else:
                indexed = kind == "labels" or (kind is None and naming.names_labels(path))
                array = _pixels(image, indexed=indexed)
    except MedseqError:
        raise
    except Exception as error:  # Pillow's decoders raise of their own on damaged files
        raise ReadError(f"{path}: the picture is damaged ({error}); export it again.") from error
    if array.dtype == bool:
        array = array.astype(np.uint8)
    axes = (*(() if times is None else ("t",)), "y", "x", "c")[: array.ndim]
    array, turned, _ = upright(array, axes, orientation)
    return [_sequence(*without_grey_colours(array, axes), path, kind, times, turned=turned)]


def _frames_in(image: Any) -> int:
    """Frames of an animation; 1 of other files, such as a photograph that holds its own thumbnail."""
    return int(getattr(image, "n_frames", 1)) if image.format in _ANIMATED else 1


def _pixels(image: Any, *, indexed: bool) -> NDArray[np.generic]:
    """The pixels of a picture (y, x) or (y, x, c); with `indexed` the indices of a coloured palette."""
    keep = image.mode == "P" and indexed and _is_coloured(image)
    if image.mode in ("CMYK", "YCbCr", "LA", "PA") or (image.mode == "P" and not keep):
        image = image.convert("RGB")
    array = np.array(image)
    if image.mode == "RGBA" and (array[..., COLOURS] == _OPAQUE).all():  # as screenshots are
        array = array[..., :COLOURS]
    return array


def _animation(image: Any, count: int, cancelled: Cancelled | None) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The frames (t, y, x, c) of an animation and their times in seconds, from how long each is shown."""
    frames, times, now = [], [], 0.0
    for number in range(count):
        check(cancelled)
        image.seek(number)
        frames.append(np.array(image.convert("RGB")))
        times.append(now)
        now += float(image.info.get("duration") or _SHOWN_MS) / 1000
    return np.stack(frames), np.array(times)


def _video(path: Path, *, kind: Kind | None, cancelled: Cancelled | None) -> list[ImageSequence]:
    """Read a video as frames in time (RGB, or grey where all channels agree).

    Raises
    ------
    ReadError
        If no decoder is installed, or it is damaged or too large.
    """
    try:
        av: Any = import_module("av")
    except ImportError as error:
        raise ReadError(f"{path}: reading video needs PyAV; install it with: pip install av") from error
    frames, times, size = [], [], 0
    try:
        with av.open(str(path)) as container:
            rate = float(container.streams.video[0].average_rate or 0) or 25.0
            for number, frame in enumerate(container.decode(video=0)):
                check(cancelled)
                frames.append(frame.to_ndarray(format="rgb24"))
                times.append(float(frame.time) if frame.time is not None else number / rate)
                size += frames[-1].nbytes
                if size > _MOST_VIDEO:
                    raise ReadError(f"{path}: the video unpacks to more than 8 GiB; cut it first.")
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise ReadError(f"{path}: the video is damaged or has no pictures ({error}); export it again.") from error
    if not frames:
        raise ReadError(f"{path}: the video has no pictures in it.")
    array, axes = without_grey_colours(np.stack(frames), ("t", "y", "x", "c"))
    return [_sequence(array, axes, path, kind, np.array(times) - times[0])]


def facts(path: Path) -> list[Facts]:
    """Header facts of a picture for `info` (a video's size is not known without decoding)."""
    image_module: Any = import_module("PIL.Image")
    shape: tuple[int, ...] = ()
    frames: int | None = None
    try:
        with image_module.open(path) as image:
            shape, count = (image.width, image.height), _frames_in(image)
            if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
                shape = shape[::-1]
            if count > 1:
                shape, frames = (*shape, 1, count), count
    except Exception as error:  # no picture: a video, or damaged
        if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".gif"):
            raise ReadError(f"{path}: the picture is damaged ({error}); export it again.") from error
    form = "picture" if shape else "video"
    return [Facts(name=naming.stem(path), kind="image", format=form, source=str(path), shape=shape, frames=frames)]
