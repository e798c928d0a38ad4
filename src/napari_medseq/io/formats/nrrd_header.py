"""The header of an NRRD file, parsed and checked without touching the voxels.

Source: the NRRD format definition (teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import GeometryError, ReadError
from napari_medseq.geometry import RAS_LPS, Affine, as_affine

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
_SPACES = {
    "left-posterior-superior": RAS_LPS, "lps": RAS_LPS, "right-anterior-superior": np.eye(4), "ras": np.eye(4),
    "left-anterior-superior": np.diag([-1.0, 1, 1, 1]), "las": np.diag([-1.0, 1, 1, 1]),
}  # fmt: skip
#: Of a world of space and time the last direction is that of time.
_TIMED = {"rast": "ras", "last": "las", "lpst": "lps"} | {f"{name}-time": name for name in _SPACES if "-" in name}
_LENGTHS = {
    "m": 1e3, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "nm": 1e-6,
}  # fmt: skip
_LONGEST_HEADER = 1 << 22


@dataclass
class Header:
    """A checked NRRD header; per-axis lists are in the file's order, fastest axis first."""

    path: Path
    data_path: Path
    dtype: np.dtype[np.generic]
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
    text = block[: match.start() if match else end].decode("utf-8", "replace")
    return [line.removesuffix("\r") for line in text.split("\n")], end


_ESCAPES = {"\\n": "\n", "\\\\": "\\"}


def one_line(text: str) -> str:
    """A key or value as one line of a header: line feeds and backslashes escaped, other control characters and separators blank."""
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return "".join(c if c.isprintable() else " " for c in escaped)


def _unescaped(text: str) -> str:
    return re.sub(r"\\[n\\]", lambda match: _ESCAPES[match[0]], text)


def read_header(path: str | Path) -> Header:
    """Parse and check an NRRD header without touching the voxels.

    Raises
    ------
    ReadError
        If it is not an NRRD, or a field is missing or cannot be true.
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
            keys[key.strip()] = _unescaped(value)
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
    byte_count = int(np.prod(sizes, dtype=object)) * dtype.itemsize
    data_path, offset = _data_file(path, fields, end, byte_count if encoding == "raw" else None)
    domain, affine, oriented = _place(path, fields, kinds, dimension, notes)
    return Header(path, data_path, dtype, sizes, kinds, encoding, offset, affine, oriented, domain, fields, keys, notes)


def _data_file(path: Path, fields: Mapping[str, str], end: int, byte_count: int | None) -> tuple[Path, int]:
    """The file of the voxels and the offset at which they begin; a detached one must be beside the header or below it.

    `byte_count` is the size of raw voxels, which "byte skip: -1" puts at the end of the file.
    """
    name = fields.get("data file", fields.get("datafile"))
    if fields.get("line skip", "0") not in ("", "0"):
        raise ReadError(f"{path}: 'line skip' is not supported; save it as one .nrrd file.")
    try:
        skip = int(fields.get("byte skip", fields.get("byteskip", "0")) or 0)
    except ValueError as error:
        raise ReadError(f"{path}: 'byte skip' is not a number; save it as one .nrrd file.") from error
    if name is None:
        return path, max(path.stat().st_size - byte_count, end) if skip == -1 and byte_count else end + max(skip, 0)
    if name.upper().startswith("LIST") or "%" in name:
        raise ReadError(f"{path}: voxels in many files are not supported; save it as one .nrrd file.")
    data = (path.parent / name).resolve()
    if not data.is_relative_to(path.parent.resolve()):
        raise ReadError(f"{path}: its data file {name!r} lies outside the header's folder, which is not followed.")
    if not data.is_file():
        raise ReadError(f"{path}: its data file {name!r} is missing; put it beside the header.")
    return data, max(data.stat().st_size - byte_count, 0) if skip == -1 and byte_count else max(skip, 0)


def _vectors(text: str) -> list[NDArray[np.float64] | None]:
    out: list[NDArray[np.float64] | None] = []
    for inside, _ in re.findall(r"\(([^)]*)\)|(none)", text):
        try:
            out.append(np.array([float(v) for v in inside.split(",")]) if inside else None)
        except ValueError:
            out.append(None)
    return out


def _is_block(directions: list[NDArray[np.float64] | None]) -> bool:
    """Whether four directions of four numbers are those of space and, apart from it, of time."""
    if len(directions) != 4 or any(v is None or v.shape != (4,) for v in directions):
        return False
    matrix = np.array(directions, dtype=np.float64)
    return not matrix[:3, 3].any() and not matrix[3, :3].any()


def time_step(fields: Mapping[str, str], axis: int) -> float | None:
    """The step along a time axis: in the spacings, else in the directions of a four-dimensional world."""
    directions = _vectors(fields.get("space directions", ""))
    if _is_block(directions) and axis == 3 and directions[3] is not None:
        return float(abs(directions[3][3]))
    try:
        return float(fields.get("spacings", "").split()[axis])
    except (IndexError, ValueError):
        return None


def _millimetres(text: str, count: int) -> list[float]:
    """The millimetres in the unit of each axis; 1 where it is none of length, or not given for each axis."""
    units = [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', text)]
    return [_LENGTHS.get(unit, 1.0) for unit in units[:count]] if len(units) >= count else [1.0] * count


def _place(
    path: Path, fields: Mapping[str, str], kinds: list[str], dimension: int, notes: list[str]
) -> tuple[list[int], Affine, bool]:
    """Spatial axes, affine to RAS and whether the file knows the patient."""
    directions = _vectors(fields.get("space directions", ""))
    space = fields.get("space", "").lower()
    if dimension == 4 and _is_block(directions):  # ITK's four-dimensional images, whose world is LPS and time
        directions, space = (
            [None if k == 3 else v[:3] for k, v in enumerate(directions) if v is not None],
            _TIMED.get(space, space or "lps"),
        )
    domain = (
        [k for k, v in enumerate(directions) if v is not None and v.shape == (3,)]
        if len(directions) == dimension
        else []
    )
    matrix = np.eye(4)
    world = np.diag([*_millimetres(fields.get("space units", ""), 3), 1.0])
    if len(domain) in (2, 3):
        for column, k in enumerate(domain):
            matrix[:3, column] = directions[k]
        if len(domain) == 2:
            normal = np.cross(matrix[:3, 0], matrix[:3, 1])
            matrix[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12) / world[2, 2]
        origin = _vectors(fields.get("space origin", ""))
        if origin and origin[0] is not None and origin[0].shape in ((3,), (4,)):
            matrix[:3, 3] = origin[0][:3]
        try:
            return domain, as_affine(_SPACES.get(space, np.eye(4)) @ world @ matrix), space in _SPACES
        except GeometryError:
            notes.append("The space directions are zero or parallel; spacing alone is used, orientation unknown.")
    domain = [k for k in range(dimension) if kinds[k] in ("", "domain", "space")][:3]
    spacings = fields.get("spacings", "").split()
    to_mm = _millimetres(fields.get("units", ""), dimension)
    steps = [1.0, 1.0, 1.0]
    for column, k in enumerate(domain):
        try:
            step = abs(float(spacings[k])) * to_mm[k]
            steps[column] = step if np.isfinite(step) and step > 0 else 1.0
        except (IndexError, ValueError):
            pass
    if len(domain) < 2:
        raise ReadError(f"{path}: only {len(domain)} spatial axes were found; an image needs two or three.")
    notes.append("The file does not say how the image lies in the patient; spacing alone is used, orientation unknown.")
    return domain, as_affine(np.diag([-steps[0], -steps[1], steps[2], 1.0])), False
