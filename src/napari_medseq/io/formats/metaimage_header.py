"""The header of a MetaImage (``.mha``, ``.mhd``), and its voxels: raw, zlib-packed or text, in one file, a list or a pattern.

SimpleITK is not asked: its reader hands out memory that nothing was written to where unpacking fails, follows lists and
patterns out of the folder, and is killed by some numbers of dimensions.
Source: the MetaIO documentation of Kitware (itk.org/Wiki/MetaIO).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import ReadError
from napari_medseq.io import label_names
from napari_medseq.io.formats.raw import Laziness, block, empty, lazy_packed, load_packed, on_demand
from napari_medseq.sequence import Voxels

_TYPES = {
    "MET_CHAR": "i1", "MET_ASCII_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
#: a field of our own
ORIENTED = "Oriented"
_LONGEST_HEADER = 1 << 20
_MOST_FILES = 100_000
#: A pattern of file names: one number between plain texts.
_PATTERN = re.compile(r"[^%]*%0?\d{0,2}[du][^%]*")


@dataclass
class Header:
    """A checked header.

    Attributes
    ----------
    path : Path
    dtype : numpy.dtype
    sizes, spacing, origin : lists, x first
    direction : list of float
        Direction cosines row by row, as ITK has them.
    components : int
    files : list of (Path, offset)
        Where the voxels lie, in order: one file, or one for each slab along the last axis.
    packed, text : bool
    times : list of float
        Seconds of the frames where they are not even, in a field of our own that other programs pass over.
    label_names : dict of int to str, or None
        In a field of our own, too; None where it does not say that the voxels are labels.
    oriented : bool
        False where a field of our own says that the directions are not those of a patient, as of pictures and plain ultrasound.
    notes : list of str
    """

    path: Path
    dtype: np.dtype[np.generic]
    sizes: list[int]
    spacing: list[float]
    origin: list[float]
    direction: list[float]
    components: int
    files: list[tuple[Path, int]]
    packed: bool
    text: bool
    times: list[float]
    label_names: dict[int, str] | None = None
    oriented: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the voxels in C order, components last."""
        return (*reversed(self.sizes), *((self.components,) if self.components > 1 else ()))


def read_header(path: Path) -> Header:
    """Parse and check a header without touching the voxels.

    Raises
    ------
    ReadError
        If a field is missing or cannot be true, or a data file is missing or lies outside the header's folder.
    """
    fields, at = _fields(path)
    try:
        return _checked(path, fields, at)
    except KeyError as error:
        raise ReadError(f"{path}: the MetaImage header lacks {error}; export it again.") from error
    except (ValueError, OverflowError) as error:
        raise ReadError(f"{path}: a number in the MetaImage header is none ({error}); export it again.") from error


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields by lower-case name up to the data file's, the lines of a list of files, and the offset behind them."""
    with open(path, "rb") as file:
        block = file.read(_LONGEST_HEADER)
    fields: dict[str, str] = {}
    at = 0
    while "elementdatafile" not in fields:
        end = block.find(b"\n", at)
        line = block[at : end if end >= 0 else len(block)].decode("latin-1")
        key, equals, value = line.partition("=")
        if line.strip() and not equals:
            raise ReadError(f"{path}: this is not a MetaImage header, or it has no end; export it again.")
        if equals:
            fields[key.strip().lower()] = value.strip()
        if end < 0:
            break
        at = end + 1
    if fields.get("elementdatafile", "").split(" ")[0].upper() == "LIST":
        fields["list"] = block[at:].decode("latin-1")
    return fields, at


def _checked(path: Path, fields: dict[str, str], at: int) -> Header:
    n = int(fields["ndims"])
    if not 2 <= n <= 4:
        raise ReadError(f"{path}: it has {n} dimensions; 2 to 4 (x, y, z, time) are read.")
    sizes = [int(v) for v in fields["dimsize"].split()]
    components = int(fields.get("elementnumberofchannels", "1"))
    kind = fields["elementtype"].upper().removesuffix("_ARRAY")
    if len(sizes) != n or min(sizes) < 1 or not 1 <= components <= 4096 or kind not in _TYPES:
        raise ReadError(
            f"{path}: size {sizes}, {components} channels and type {fields['elementtype']!r} do not make an image; export it again."
        )
    swapped = _is_true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")))
    notes: list[str] = []
    spacing = _numbers(fields, ("elementspacing", "elementsize"), [1.0] * n, notes)
    if min(spacing) <= 0:
        notes.append(f"Spacing {spacing} has zero or negative parts; their magnitude, or 1 mm, is used.")
        spacing = [abs(s) or 1.0 for s in spacing]
    origin = _numbers(fields, ("offset", "position", "origin"), [0.0] * n, notes)
    axes = _numbers(fields, ("transformmatrix", "rotation", "orientation"), np.eye(n).ravel().tolist(), notes)
    header = Header(
        path=path,
        dtype=np.dtype((">" if swapped else "<") + _TYPES[kind]),
        sizes=sizes,
        spacing=spacing,
        origin=origin,
        direction=np.array(axes).reshape(n, n).T.ravel().tolist(),
        components=components,
        files=[],
        packed=_is_true(fields.get("compresseddata", "False")),
        text=not _is_true(fields.get("binarydata", "True")),
        times=[float(v) for v in fields.get("frametimes", "").split()],
        label_names=label_names.from_text(fields.get(label_names.FIELD.lower())),
        oriented=_is_true(fields.get(ORIENTED.lower(), "True")),
        notes=notes,
    )
    header.files = _data_files(header, fields, at)
    return header


def _is_true(value: str) -> bool:
    return value.strip().lower() in ("true", "1", "t", "yes")


def _numbers(fields: dict[str, str], names: tuple[str, ...], default: list[float], notes: list[str]) -> list[float]:
    """A list of finite numbers under one of several names; the default where it is missing or of another length."""
    for name in names:
        if name in fields:
            values = [float(v) for v in fields[name].split()]
            if len(values) == len(default) and np.isfinite(values).all():
                return values
            notes.append(f"{name} in the header does not hold {len(default)} finite numbers; {default} is used.")
    return default


def _data_files(header: Header, fields: dict[str, str], at: int) -> list[tuple[Path, int]]:
    name, path = fields["elementdatafile"], header.path
    skip = int(fields.get("headersize", "0") or 0)
    words = name.split()
    if name.upper() == "LOCAL":
        return [(path, at)]
    if words and words[0].upper() == "LIST":
        if header.sizes[-1] > _MOST_FILES:
            raise ReadError(
                f"{path}: {header.sizes[-1]:,} data files are more than are read; save it as one .mha file."
            )
        names = [line.strip() for line in fields.get("list", "").splitlines() if line.strip()]
    elif "%" in name:
        names = _by_pattern(header, words)
    else:
        names = [name]
    if len(names) not in (1, header.sizes[-1]):
        raise ReadError(
            f"{path}: it names {len(names)} data files for {header.sizes[-1]} slices; save it as one .mha file."
        )
    files = [_near(path, one) for one in names]
    one_size = int(np.prod(header.sizes, dtype=object)) * header.components * header.dtype.itemsize // len(files)
    return [(file, max(file.stat().st_size - one_size, 0) if skip == -1 else max(skip, 0)) for file in files]


def _by_pattern(header: Header, words: list[str]) -> list[str]:
    """File names of a pattern such as ``slice_%03d.raw 1 20 1``."""
    if len(words) > 4 or not _PATTERN.fullmatch(words[0]):
        raise ReadError(
            f"{header.path}: the pattern of data files {words[0]!r} is not understood; save it as one .mha file."
        )
    first, last, step = ([int(w) for w in words[1:]] + [1, header.sizes[-1], 1][len(words) - 1 :])[:3]
    numbers = range(first, last + 1, max(step, 1))
    if not 0 < len(numbers) <= _MOST_FILES:
        raise ReadError(
            f"{header.path}: the pattern of data files names {len(numbers):,} files; save it as one .mha file."
        )
    return [words[0] % number for number in numbers]


def _near(path: Path, name: str) -> Path:
    """A data file, which must lie beside the header or below it."""
    data = (path.parent / name).resolve()
    if "\0" in name or not data.is_relative_to(path.parent.resolve()):
        raise ReadError(f"{path}: its data file {name!r} lies outside the header's folder, which is not followed.")
    if not data.is_file():
        raise ReadError(f"{path}: its data file {name!r} is missing; put it beside the header.")
    return data


def load(header: Header, *, lazy: Laziness = False) -> Voxels:
    """The voxels in C order.

    Raises
    ------
    ReadError
        If a file is shorter than the header promises, or damaged.
    """
    shape = header.shape
    if len(header.files) == 1:
        return _part(header, header.files[0], shape, lazy)
    frame_shape = (1, *shape[1:])
    if lazy is not True:
        out = empty(shape, header.dtype.newbyteorder("="), f"{header.path}: ")
        for k, file in enumerate(header.files):
            out[k] = _part(header, file, frame_shape, False)[0]
        return out
    return on_demand(partial(_whole, header), header.dtype, shape)


def _whole(header: Header) -> NDArray[np.generic]:
    return np.asarray(load(header))


def _part(header: Header, file: tuple[Path, int], shape: tuple[int, ...], lazy: Laziness) -> Voxels:
    path, offset = file
    if header.text:
        return (
            on_demand(partial(_text, header, path, offset, shape), header.dtype, shape)
            if lazy is True
            else _text(header, path, offset, shape)
        )
    if header.packed:
        return (lazy_packed if lazy is True else load_packed)(path, offset, header.dtype, shape)
    return block(path, offset, header.dtype, shape, lazy=lazy)


def _text(header: Header, path: Path, offset: int, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Voxels written as numbers in text."""
    voxel_count = int(np.prod(shape, dtype=object))
    if 2 * voxel_count > path.stat().st_size - offset + 1:
        raise ReadError(
            f"{path}: the header promises {voxel_count:,} voxels, which its text cannot hold; export it again."
        )
    with open(path, "rb") as file:
        file.seek(offset)
        words = file.read().split()
    try:
        return np.array(words[:voxel_count], dtype=header.dtype.newbyteorder("=")).reshape(shape)
    except ValueError as error:
        raise ReadError(f"{path}: its voxels are damaged ({error}); copy or export it again.") from error
