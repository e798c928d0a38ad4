"""NRRD: headers parsed here (sheared grids, lists, sequences and Slicer's keys are lost by other readers), voxels by `raw`.

Source: the NRRD format definition (teem.sourceforge.net/nrrd/format.html); Slicer's ``.seq.nrrd`` keys as its
documentation of the sequence storage node names them.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import GeometryError, ReadError, WriteError
from napari_medseq.geometry import RAS_LPS, Affine, as_affine
from napari_medseq.io import naming
from napari_medseq.io.nifti import as_labels
from napari_medseq.io.placing import place, restored
from napari_medseq.io.raw import Laziness, is_wanted_lazy, lazily, lazy_block, load_block, native
from napari_medseq.sequence import ImageSequence, Kind

_TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
    "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {word: code for code, words in _TYPES.items() for word in words.split(",")}
_WRITTEN = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32", "i8": "int64",
            "u8": "uint64", "f4": "float", "f8": "double"}  # fmt: skip
_SPACES = {
    "left-posterior-superior": RAS_LPS, "lps": RAS_LPS, "right-anterior-superior": np.eye(4), "ras": np.eye(4),
    "left-anterior-superior": np.diag([-1.0, 1, 1, 1]), "las": np.diag([-1.0, 1, 1, 1]),
}  # fmt: skip
_LONGEST_HEADER = 1 << 22
_COLOURS = {"rgb-color": 3, "3-color": 3, "rgba-color": 4, "4-color": 4}


@dataclass
class Header:
    """A checked NRRD header; per-axis lists are in the file's order, fastest axis first."""

    path: Path
    data_path: Path
    dtype: np.dtype[Any]
    sizes: list[int]
    kinds: list[str]
    encoding: str
    offset: int
    affine: Affine
    oriented: bool
    domain: list[int]
    fields: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def _text_of(path: Path) -> tuple[list[str], int]:
    """Header lines and the offset of what follows the empty line."""
    with open(path, "rb") as file:
        block = file.read(_LONGEST_HEADER)
    match = re.search(rb"\r?\n\r?\n", block)
    end = match.end() if match else len(block)
    if match is None and len(block) == _LONGEST_HEADER:
        raise ReadError(f"{path}: the NRRD header has no end; the file is damaged.")
    lines = block[: match.start() if match else end].decode("utf-8", "replace").splitlines()
    return lines, end


def read_header(path: str | Path) -> Header:
    """Parse and check an NRRD header without touching the voxels.

    Raises
    ------
    ReadError
        If it is no NRRD, or a field is missing or cannot be true.
    """
    path = Path(path)
    lines, end = _text_of(path)
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        if ":=" in line and (": " not in line or line.index(":=") < line.index(": ")):
            key, _, value = line.partition(":=")
            keys[key.strip()] = value.replace("\\n", "\n").replace("\\\\", "\\")
        elif ":" in line:
            key, _, value = line.partition(":")
            fields[key.strip().lower()] = value.strip()
    notes: list[str] = []
    try:
        dtype = np.dtype(_DTYPES[fields["type"].lower()])
        sizes = [int(n) for n in fields["sizes"].split()]
        dimension = int(fields["dimension"])
    except (KeyError, ValueError) as error:
        raise ReadError(
            f"{path}: the NRRD header lacks or garbles type, dimension or sizes ({error}); export it again."
        ) from error
    if dimension != len(sizes) or not 2 <= dimension <= 5 or min(sizes) < 1:
        raise ReadError(f"{path}: dimension {dimension} and sizes {sizes} do not make an image; export it again.")
    if dtype.itemsize > 1 and fields.get("endian", "little").lower() == "big":
        dtype = dtype.newbyteorder(">")
    kinds = [k.lower() for k in fields.get("kinds", "").split()]
    kinds = kinds if len(kinds) == dimension else [""] * dimension
    encoding = fields.get("encoding", "raw").lower()
    data_path, offset = _data_file(path, fields, end)
    domain, affine, oriented = _place(path, fields, kinds, dimension, notes)
    return Header(path, data_path, dtype, sizes, kinds, encoding, offset, affine, oriented, domain, fields, keys, notes)


def _data_file(path: Path, fields: Mapping[str, str], end: int) -> tuple[Path, int]:
    """Where the voxels lie; a detached file only beside the header or below it."""
    name = fields.get("data file", fields.get("datafile"))
    if fields.get("line skip", "0") not in ("", "0"):
        raise ReadError(f"{path}: 'line skip' is not supported; save it as one .nrrd file.")
    try:
        skip = int(fields.get("byte skip", fields.get("byteskip", "0")) or 0)
    except ValueError as error:
        raise ReadError(f"{path}: 'byte skip' is no number; save it as one .nrrd file.") from error
    if name is None:
        if skip > 0:
            end += skip
        return path, end
    if name.upper().startswith("LIST") or "%" in name:
        raise ReadError(f"{path}: voxels in many files are not supported; save it as one .nrrd file.")
    data = (path.parent / name).resolve()
    if not data.is_relative_to(path.parent.resolve()):
        raise ReadError(f"{path}: its data file {name!r} lies outside the header's folder, which is not followed.")
    if not data.is_file():
        raise ReadError(f"{path}: its data file {name!r} is missing; put it beside the header.")
    return data, max(skip, 0)


def _vectors(text: str) -> list[NDArray[np.float64] | None]:
    out: list[NDArray[np.float64] | None] = []
    for inside, _ in re.findall(r"\(([^)]*)\)|(none)", text):
        try:
            out.append(np.array([float(v) for v in inside.split(",")]) if inside else None)
        except ValueError:
            out.append(None)
    return out


def _place(
    path: Path, fields: Mapping[str, str], kinds: list[str], dimension: int, notes: list[str]
) -> tuple[list[int], Affine, bool]:
    """Spatial axes, affine to RAS and whether the file knows the patient."""
    directions = _vectors(fields.get("space directions", ""))
    space = fields.get("space", "").lower()
    domain = (
        [k for k, v in enumerate(directions) if v is not None and v.shape == (3,)]
        if len(directions) == dimension
        else []
    )
    matrix = np.eye(4)
    if len(domain) in (2, 3):
        for column, k in enumerate(domain):
            matrix[:3, column] = directions[k]
        if len(domain) == 2:
            normal = np.cross(matrix[:3, 0], matrix[:3, 1])
            matrix[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12)
        origin = _vectors(fields.get("space origin", ""))
        if origin and origin[0] is not None and origin[0].shape == (3,):
            matrix[:3, 3] = origin[0]
        try:
            return domain, as_affine(_SPACES.get(space, np.eye(4)) @ matrix), space in _SPACES
        except GeometryError:
            notes.append("The space directions are zero or parallel; spacing alone is used, orientation unknown.")
    domain = [k for k in range(dimension) if kinds[k] in ("", "domain", "space")][:3]
    spacings = fields.get("spacings", "").split()
    steps = [1.0, 1.0, 1.0]
    for column, k in enumerate(domain):
        try:
            step = abs(float(spacings[k]))
            steps[column] = step if np.isfinite(step) and step > 0 else 1.0
        except (IndexError, ValueError):
            pass
    if len(domain) < 2:
        raise ReadError(f"{path}: only {len(domain)} spatial axes were found; an image needs two or three.")
    notes.append("The file does not say how the image lies in the patient; spacing alone is used, orientation unknown.")
    return domain, as_affine(np.diag([-steps[0], -steps[1], steps[2], 1.0])), False


def load(header: Header, *, lazy: bool = False) -> Any:
    """The voxels in C order (slowest axis first).

    Raises
    ------
    ReadError
        If they are cut short, damaged, or in an encoding that is not known.
    """
    shape, path = tuple(reversed(header.sizes)), header.data_path
    wanted = int(np.prod(shape, dtype=object)) * header.dtype.itemsize
    size = path.stat().st_size
    if header.encoding == "raw":
        return (lazy_block if lazy else load_block)(path, header.offset, header.dtype, shape)
    if header.encoding not in ("gzip", "gz", "bzip2", "bz2", "ascii", "text", "txt"):
        raise ReadError(f"{path}: encoding {header.encoding!r} is not known; save it as raw or gzip.")
    if wanted > max(size * 1100, 1 << 20):
        raise ReadError(
            f"{path}: the header promises {wanted:,} bytes of voxels, which {size:,} bytes cannot hold; save it again."
        )
    with open(path, "rb") as file:
        file.seek(header.offset)
        block = file.read()
    try:
        if header.encoding in ("gzip", "gz"):
            data: Any = zlib.decompressobj(wbits=47).decompress(block, wanted)
        elif header.encoding in ("bzip2", "bz2"):
            data = bz2.BZ2Decompressor().decompress(block, wanted)
        else:
            data = np.array(block.split(), dtype=header.dtype).tobytes()
    except (zlib.error, OSError, ValueError) as error:
        raise ReadError(f"{path}: its voxels are damaged ({error}); copy or save it again.") from error
    if len(data) < wanted:
        raise ReadError(
            f"{path}: {wanted - len(data):,} of {wanted:,} bytes of voxels are missing; the file was cut short."
        )
    array = native(np.frombuffer(bytearray(data[:wanted]), header.dtype).reshape(shape))
    if lazy:
        return lazily(array, (1,) * (array.ndim - 2) + array.shape[-2:], array.dtype)
    return array


def read(path: str | Path, *, lazy: Laziness = False, kind: Kind | None = None) -> list[ImageSequence]:
    """Read an NRRD: an image, labels, a Slicer sequence (``.seq.nrrd``) or segmentation (``.seg.nrrd``).

    Raises
    ------
    ReadError
        If the header or the voxels cannot be used.
    """
    header = read_header(path)
    if "Segment0_ID" in header.keys or any(re.match(r"Segment\d+_", k) for k in header.keys):
        from napari_medseq.io import slicer

        if kind != "image":
            return slicer.segments(header, load(header, lazy=lazy is True))
    if lazy == "auto":
        size = int(np.prod(header.sizes, dtype=object)) * header.dtype.itemsize
        frames = max((header.sizes[k] for k in range(len(header.sizes)) if k not in header.domain), default=1)
        labelled = kind == "labels" or (kind is None and naming.names_labels(path))
        lazy = header.encoding == "raw" and not labelled and is_wanted_lazy(lazy, size, frames)
    array, notes = load(header, lazy=lazy), list(header.warnings)
    others = [k for k in range(len(header.sizes)) if k not in header.domain]
    colour = next((k for k in others if header.sizes[k] in (3, 4) and _is_colour(header, k)), None)
    along = [k for k in others if k != colour]
    if len(along) > 1:
        raise ReadError(f"{path}: it has {len(along)} axes beside space; one (time) is read. Split it first.")
    order = ([along[0]] if along else []) + list(reversed(header.domain)) + ([colour] if colour is not None else [])
    array = array.transpose([len(header.sizes) - 1 - k for k in order])
    axes = (("t",) if along else ()) + ("z", "y", "x")[-len(header.domain) :] + (("c",) if colour is not None else ())
    times = frame_times(header, along[0], notes) if along else None
    if (
        along
        and header.kinds[along[0]] in ("vector", "3-vector", "covariant-vector", "3-gradient", "list", "complex")
        and times is None
    ):
        if "index" not in " ".join(header.keys):
            notes.append(f"Axis t holds a {header.kinds[along[0]]}, not time.")
        times = np.arange(header.sizes[along[0]], dtype=float)
    labels = kind == "labels" or (kind is None and naming.names_labels(path) and colour is None)
    if labels:
        array, whole = as_labels(array)
        if not whole:
            if kind == "labels":
                raise ReadError(
                    f"{path}: values are not whole numbers, so it cannot be opened as labels; threshold it first."
                )
            notes.append("The name says labels, but values are not whole numbers; opened as an image.")
            labels = False
    seq = place(
        array, axes, header.affine, oriented=header.oriented, times=times, kind="labels" if labels else "image",
        name=naming.readable(naming.stem(path)), warnings=tuple(notes), meta=facts_of(header),
    )  # fmt: skip
    return [seq]


def _is_colour(header: Header, k: int) -> bool:
    return header.kinds[k] in _COLOURS or (header.kinds[k] == "vector" and header.dtype == np.uint8)


def facts_of(header: Header) -> dict[str, Any]:
    """Facts for ``meta``."""
    return {"source": str(header.path), "dtype": str(header.dtype.newbyteorder("=")), "format": "NRRD"}


def frame_times(header: Header, k: int, notes: list[str]) -> NDArray[np.float64] | None:
    """Seconds of the frames along axis `k`: Slicer's index values, else spacing; None if there is neither."""
    count = header.sizes[k]
    said = (
        header.keys.get(f"axis {k} index values")
        or header.keys.get("axis 0 index values")
        or header.keys.get("MultiVolume.FrameLabels")
    )
    units = re.findall(r'"([^"]*)"', header.fields.get("units", ""))
    unit = (units[k] if len(units) == len(header.sizes) else "").strip().lower()
    scale = {"ms": 1e-3, "msec": 1e-3, "us": 1e-6, "min": 60.0}.get(unit, 1.0)
    if said is not None:
        try:
            values = np.array([float(v) for v in re.split(r"[\s,]+", said.strip())])
            if values.shape == (count,) and np.isfinite(values).all():
                return np.asarray((values - values[0]) * scale, dtype=np.float64)
        except ValueError:
            pass
        notes.append("The index values of the sequence are no numbers; frames are counted 1 s apart.")
        return np.arange(count, dtype=np.float64)
    spacings = header.fields.get("spacings", "").split()
    try:
        step = float(spacings[k])
    except (IndexError, ValueError):
        return None
    return np.arange(count, dtype=np.float64) * (step * scale) if np.isfinite(step) and step > 0 else None


def facts(path: str | Path) -> list[dict[str, Any]]:
    """Header facts of one NRRD for `info`."""
    header = read_header(path)
    segments = any(re.match(r"Segment\d+_", k) for k in header.keys)
    others = [
        header.sizes[k] for k in range(len(header.sizes)) if k not in header.domain and header.kinds[k] not in _COLOURS
    ]
    return [
        {
            "name": naming.stem(path),
            "kind": "labels" if segments or naming.names_labels(path) else "image",
            "format": "NRRD",
            "shape": [header.sizes[k] for k in header.domain] + others,
            "spacing_mm": [round(float(v), 6) for v in np.linalg.norm(header.affine[:3, :3], axis=0)],
            "frames": int(np.prod(others)) if others and not segments else 1,
            "dtype": str(header.dtype),
            "source": str(path),
            "warnings": header.warnings,
        }
    ]


def vector(values: Sequence[float] | NDArray[np.float64]) -> str:
    """A vector as NRRD writes it, to full precision."""
    return "(" + ",".join(repr(float(v)) for v in values) + ")"


def write(seq: ImageSequence, path: Path) -> None:
    """Write an image or labels; time as a list axis with Slicer's index keys.

    Raises
    ------
    WriteError
        If the voxels' type is unknown to NRRD.
    """
    array, axes, affine = restored(seq)
    keys: dict[str, str] = {}
    lead = ["t"] if "t" in axes else []
    order = (["c"] if "c" in axes else []) + ["x", "y", "z"] + lead
    kinds = ["RGB-color" if seq.size("c") == 3 else "RGBA-color"] if "c" in axes else []
    kinds += ["domain"] * 3 + ["list"] * len(lead)
    if seq.times is not None:
        k = order.index("t")
        keys[f"axis {k} index type"] = "numeric"
        keys[f"axis {k} index values"] = " ".join(repr(float(v)) for v in seq.times)
    block = np.asarray(array).transpose([axes.index(a) for a in reversed(order)])
    units = None
    if lead:
        units = " ".join('"s"' if a == "t" else '""' for a in order)
    write_block(path, block, affine, seq.oriented, order, kinds, keys, units)


def write_block(
    path: Path,
    block: NDArray[Any],
    affine: Affine,
    oriented: bool,
    order: Sequence[str],
    kinds: Sequence[str],
    keys: Mapping[str, str],
    units: str | None = None,
) -> None:
    """Write a C-ordered block whose axes are `order` reversed, gzipped, with key/value pairs."""
    from napari_medseq.io.writing import storable

    block = storable(block)
    code = block.dtype.newbyteorder("=").str[1:]
    if code not in _WRITTEN:
        raise WriteError(f"NRRD cannot store voxels of type {block.dtype}; convert them first.")
    columns = dict(zip("xyz", (RAS_LPS @ affine).T[:3, :3], strict=True))
    lines = ["NRRD0005", f"type: {_WRITTEN[code]}", f"dimension: {block.ndim}"]
    if oriented:
        lines.append("space: left-posterior-superior")
    lines.append("sizes: " + " ".join(str(n) for n in reversed(block.shape)))
    if oriented:
        lines.append("space directions: " + " ".join(vector(columns[a]) if a in columns else "none" for a in order))
    else:
        steps = dict(zip("xyz", np.linalg.norm(affine[:3, :3], axis=0), strict=True))
        lines.append("spacings: " + " ".join(repr(float(steps[a])) if a in steps else "nan" for a in order))
    lines.append("kinds: " + " ".join(kinds))
    if units:
        lines.append(f"units: {units}")
    lines += ["endian: little", "encoding: gzip"]
    if oriented:
        lines.append("space origin: " + vector((RAS_LPS @ affine)[:3, 3]))
    lines += [f"{k}:={v}".replace("\n", "\\n") for k, v in keys.items()]
    packer = zlib.compressobj(3, zlib.DEFLATED, 31)
    with open(path, "wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        for plane in np.ascontiguousarray(block.astype(block.dtype.newbyteorder("<"), copy=False)):
            file.write(packer.compress(plane.tobytes()))
        file.write(packer.flush())
