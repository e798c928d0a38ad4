"""Images as nibabel, the reader that we did not write, sees them."""

from __future__ import annotations

from os import PathLike

import nibabel as nib
from nibabel.spatialimages import SpatialImage


def load(path: str | PathLike[str]) -> SpatialImage:
    """An image with voxels and an affine."""
    image = nib.load(path)
    assert isinstance(image, SpatialImage)
    return image
