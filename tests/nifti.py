"""Images as nibabel, the reader that we did not write, sees them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage


def load(path: str | PathLike[str]) -> SpatialImage:
    """An image with voxels and an affine."""
    image = nib.load(path)
    assert isinstance(image, SpatialImage)
    return image


def write_sparse(path: Path, shape: tuple[int, int, int, int]) -> Path:
    """A NIfTI of (x, y, z, t) int16 zeros that takes no room on the disk, however large it is."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_zooms((1, 1, 1, 2))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(np.eye(4), 1)
    with path.open("wb") as stream:
        stream.write(header.binaryblock + b"\0\0\0\0")
        stream.truncate(352 + 2 * int(np.prod(shape, dtype=np.int64)))
    return path
