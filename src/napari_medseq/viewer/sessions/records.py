"""The files of a session for a layer: plain JSON for its facts, and a sparse file for labels and the marks of
painting."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import date, datetime
from os import PathLike
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np

from napari_medseq.errors import ReadError
from napari_medseq.viewer.editing.marks import Flags, Values

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

_ARRAY, _ITEMS = "__array__", "__items__"


def plain(value: object) -> Plain:
    """A value in a form that JSON can hold, and that `restored` turns back. Tuples become lists, and dates become
    text."""
    if isinstance(value, np.ndarray):
        return {_ARRAY: value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        if all(isinstance(k, str) for k in value):
            return {str(k): plain(v) for k, v in value.items()}
        return {_ITEMS: [[plain(k), plain(v)] for k, v in value.items()]}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def restored(value: Plain) -> object:
    """The value that `plain` was given."""
    if isinstance(value, list):
        return [restored(v) for v in value]
    if isinstance(value, dict):
        if _ARRAY in value:
            return np.array(value[_ARRAY], dtype=str(value["dtype"]))
        items = value.get(_ITEMS)
        if isinstance(items, list):
            return {restored(pair[0]): restored(pair[1]) for pair in items if isinstance(pair, list)}
        return {k: restored(v) for k, v in value.items()}
    return value


def write_labels(file: str | PathLike[str] | IO[bytes], data: Values, flags: Flags) -> None:
    """Write labels and marks of painting as the voxels that are not 0."""
    where, marked = np.flatnonzero(data), np.flatnonzero(flags)
    np.savez_compressed(
        file, shape=np.array(data.shape), dtype=np.array(str(data.dtype)), where=_small(where), values=data.reshape(-1)[where],
        marked=_small(marked), flags=flags.reshape(-1)[marked],
    )  # fmt: skip


def _small(index: np.ndarray) -> np.ndarray:
    return index.astype(np.uint32) if not len(index) or index[-1] < 2**32 else index


def read_labels(file: Path) -> tuple[Values, Flags]:
    """Read back what `write_labels` wrote.

    Raises
    ------
    ReadError
        If the file is damaged.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            shape = tuple(int(n) for n in archive["shape"])
            data = np.zeros(shape, np.dtype(str(archive["dtype"])))
            flags = np.zeros(shape, np.uint8)
            if data.dtype.kind not in "iub":
                raise ValueError(f"{data.dtype} is not an integer type")
            data.reshape(-1)[archive["where"]] = archive["values"]
            flags.reshape(-1)[archive["marked"]] = archive["flags"]
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        IndexError,
        TypeError,
        MemoryError,
        BadZipFile,
        zlib.error,
    ) as error:
        raise ReadError(f"{file} holds no labels of a session: {error}.") from error
    return data, flags
