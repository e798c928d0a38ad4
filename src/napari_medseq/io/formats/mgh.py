"""FreeSurfer's MGH and MGZ, through nibabel."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import GeometryError, ReadError
from napari_medseq.geometry import as_affine
from napari_medseq.io import naming
from napari_medseq.io.formats.raw import Laziness, check_size, is_gzip, on_demand
from napari_medseq.io.formats.reader import Facts
from napari_medseq.io.label_values import labels_or_image
from napari_medseq.io.placing import place
from napari_medseq.progress import Cancelled, check
from napari_medseq.sequence import ImageSequence, Kind

_HEADER = 284
#: FreeSurfer's segmentations carry these names.
_LABELS = ("aseg", "aparc", "wmparc", "ribbon")


def _opened(path: Path) -> Any:
    nib: Any = import_module("nibabel")
    try:
        image = nib.MGHImage.from_filename(path)
        voxels = int(np.prod(image.shape, dtype=object)) * image.header.get_data_dtype().itemsize
    except Exception as error:  # nibabel lets many kinds through for damaged headers
        raise ReadError(f"{path}: the MGH header is damaged ({error}); export it again.") from error
    check_size(path, voxels, _HEADER)
    return image


def _voxels(path: Path, image: Any) -> NDArray[np.generic]:
    """All voxels in C order and native byte order."""
    try:
        array: NDArray[np.generic] = np.asanyarray(image.dataobj).T
    except Exception as error:  # nibabel lets many kinds through for damaged files
        raise ReadError(f"{path}: its voxels are damaged or cut short ({error}); copy it again.") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read(
    path: Path, *, lazy: Laziness = False, kind: Kind | None = None, cancelled: Cancelled | None = None
) -> list[ImageSequence]:
    """Read an MGH or MGZ volume, with frames as time.

    Raises
    ------
    ReadError
        If it is cut short or damaged.
    """
    image = _opened(path)
    check(cancelled)
    try:
        affine = as_affine(image.affine)
    except GeometryError as error:
        raise ReadError(f"{path}: {error}") from error
    dtype, shape = image.get_data_dtype(), tuple(reversed(image.shape))
    array = on_demand(partial(_voxels, path, image), dtype, shape) if lazy is True else _voxels(path, image)
    axes: tuple[str, ...] = ("t", "z", "y", "x")[-array.ndim :]
    times = None
    if "t" in axes:
        step = float(image.header["tr"]) / 1000.0
        times = np.arange(array.shape[0]) * (step if np.isfinite(step) and step > 0 else 1.0)
    labels = kind == "labels" or (kind is None and _says_labels(path))
    notes: list[str] = []
    if labels:
        array, axes, labels = labels_or_image(array, axes, where=path, labels_asked=kind == "labels", notes=notes)
        times = times if "t" in axes else None
    meta = {"source": str(path), "dtype": str(array.dtype), "format": "MGH"}
    name = naming.readable(naming.stem(path))
    return [
        place(
            array,
            axes,
            affine,
            times=times,
            kind="labels" if labels else "image",
            name=name,
            meta=meta,
            modality="MR",
            warnings=tuple(notes),
        )
    ]


def _says_labels(path: Path) -> bool:
    return naming.names_labels(path) or naming.stem(path).lower().startswith(_LABELS)


def facts(path: Path) -> list[Facts]:
    """Header facts of one file for `info`."""
    image = _opened(path)
    return [
        Facts(
            name=naming.stem(path),
            kind="labels" if _says_labels(path) else "image",
            format="MGH",
            source=str(path),
            shape=tuple(int(n) for n in image.shape),
            spacing_mm=tuple(float(v) for v in image.header.get_zooms()[:3]),
            frames=int(image.shape[3]) if len(image.shape) > 3 else 1,
            dtype=str(image.get_data_dtype().newbyteorder("=")),
            compressed=is_gzip(path),
        )
    ]
