"""The part of a label layer that is edited, as an array of three axes: the volume at the visit and frame that are
shown, or one slice of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.geometry import spacing as spacing_of_affine
from napari_medseq.sequence import SPACE, check_same_grid
from napari_medseq.viewer.editing.active import shown_visit, visit_of
from napari_medseq.viewer.editing.marks import Values, Voxels
from napari_medseq.viewer.layers.conversion import KEY, from_layer, layer_kind, true_world_matrix
from napari_medseq.viewer.layers.placement import along_of
from napari_medseq.viewer.layers.studies import facts_of, series_name
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer


@dataclass(frozen=True)
class Region:
    """The position in a layer's data of the three spatial axes that are edited.

    Attributes
    ----------
    index : tuple
        Index into the layer's data: one visit and frame, and the whole volume or one slice.
    axis : int
        The axis, of the three, along which slices follow one another.
    slice_index : int
        The slice that is shown, along that axis.
    spacing : tuple of float
        Millimetres per axis.
    flat : bool
        Whether the layer has only two spatial axes; the array then gets a third one of length 1 in front.
    """

    index: tuple[int | slice, ...]
    axis: int
    slice_index: int
    spacing: tuple[float, float, float]
    flat: bool

    def of(self, data: Values) -> Values:
        """This part of an array of the layer's shape, three axes."""
        part = np.asarray(data[self.index])
        return part[np.newaxis] if self.flat else part

    def voxels(self, shape: tuple[int, ...], changed: NDArray[np.bool_]) -> Voxels:
        """Flat indices, into data of the layer's shape, of the voxels that are True in an array of this part."""
        lead: list[NDArray[np.intp]] = []
        inside = list(np.nonzero(changed[0] if self.flat else changed))
        count = len(inside[0])
        for place in self.index:
            if isinstance(place, slice):
                lead.append(inside.pop(0) + (place.start or 0))
            else:
                lead.append(np.full(count, place, np.intp))
        return np.asarray(np.ravel_multi_index(tuple(lead), shape))


def region_of(viewer: ViewerModel, layer: Labels, *, this_slice: bool = False) -> Region:
    """The part of a label layer that a tool edits: the visit and frame that are shown, and all slices or the one that
    is shown.

    Raises
    ------
    MedseqError
        If the layer belongs to another visit than the one that is shown, or the slice that is shown lies outside of it.
    """
    own_visit, shown = visit_of(layer), shown_visit(viewer)
    if own_visit is not None and shown is not None and own_visit != shown:
        raise MedseqError(
            f"{layer.name} is a mask of visit {own_visit + 1}, and the slider shows visit {shown + 1}. "
            "Move the slider there, or choose the mask of that visit."
        )
    names = [str(a) for a in layer.axis_labels]
    space = [k for k, name in enumerate(names) if name in SPACE] or list(range(max(layer.ndim - 3, 0), layer.ndim))
    if len(space) not in (2, 3):
        raise MedseqError(f"{layer.name} has {len(space)} spatial axis; a mask needs two or three.")
    point = np.asarray(viewer.dims.point)[viewer.dims.ndim - layer.ndim :]
    at = np.round(np.asarray(layer.world_to_data(point), dtype=float)).astype(int)
    shape = layer.data.shape
    index: list[int | slice] = [
        slice(None) if k in space else int(np.clip(at[k], 0, shape[k] - 1)) for k in range(layer.ndim)
    ]
    along, flat = along_of(viewer), len(space) == 2
    axis = 0 if flat else next((k for k, a in enumerate(space) if names[a] == along), 0)
    number = 0 if flat else int(at[space[axis]])
    if this_slice and not flat:
        _check_shown(layer, number, shape[space[axis]])
        index[space[axis]] = slice(number, number + 1)
    return Region(tuple(index), axis, number, _spacing(layer), flat)


def _check_shown(layer: Labels, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise MedseqError(
            f"{layer.name} has {how_many(count, 'slice')}, and what is shown would be slice {number + 1}."
        )


def _spacing(layer: Labels) -> tuple[float, float, float]:
    """Millimetres along the layer's z, y and x axes: the true ones, not those of the slice view."""
    if layer.metadata.get(KEY):
        z, y, x = np.linalg.norm(true_world_matrix(layer)[:3, :3], axis=0)
    else:
        x, y, z = spacing_of_affine(from_layer(layer).affine)
    return float(z), float(y), float(x)


def image_under(viewer: ViewerModel, layer: Labels, image: Image | None = None) -> Image | None:
    """The image on a mask's grid: `image`, or its counterpart at the mask's visit; None if none has the same grid.

    Without `image` it is the topmost visible one on that grid, else any.
    """
    candidates = [other for other in viewer.layers if layer_kind(other) == "image" and _same_grid(other, layer)]
    if image is not None:
        if image in candidates:
            return image
        name = series_name(facts_of(image))
        candidates = [other for other in candidates if name and series_name(facts_of(other)) == name]
    seen = [other for other in candidates if other.visible]
    return (seen or candidates or [None])[-1]


def _same_grid(image: Layer, layer: Labels) -> bool:
    """Whether every voxel of the mask is a voxel of the image at the same visit; frames and colours do not matter."""
    if getattr(image, "rgb", False) or getattr(image, "multiscale", False):
        return False
    a, b = facts_of(image), facts_of(layer)
    if not a or not b:
        same_shape = image.data.shape[-layer.ndim :] == layer.data.shape
        return bool(same_shape and np.allclose(image.translate[-layer.ndim :], layer.translate))
    near = np.allclose(np.asarray(a["affine"]), np.asarray(b["affine"]), atol=1e-3)
    turned = (list(a["order"]), list(a["flips"])) == (list(b["order"]), list(b["flips"]))
    return bool(list(a["grid"]) == list(b["grid"]) and near and turned and visit_of(image) in (None, visit_of(layer)))


def intensities(viewer: ViewerModel, image: Image, region: Region) -> NDArray[np.generic]:
    """The intensities of an image in a region of a mask on its grid, three axes; of a series of frames, those of the
    frame that is shown."""
    names = [str(a) for a in image.axis_labels]
    point = np.asarray(viewer.dims.point)[viewer.dims.ndim - image.ndim :]
    at = np.round(np.asarray(image.world_to_data(point), dtype=float)).astype(int)
    space = list(region.index[-2:] if region.flat else region.index[-3:])
    lead = image.ndim - len(space)
    frames: list[int | slice] = [
        0 if names[k] == "visit" else int(np.clip(at[k], 0, image.data.shape[k] - 1)) for k in range(lead)
    ]
    values = np.asarray(image.data[(*frames, *space)])
    return values[np.newaxis] if region.flat else values


def why_not_together(image: Layer, labels: Layer) -> str:
    """Why labels cannot have been painted on an image (they lie on another grid); "" if they can. Frames do not
    matter."""
    try:
        check_same_grid(from_layer(image), from_layer(labels), frames=False)
    except MedseqError:
        return f"{labels.name} does not lie on the grid of {image.name}: choose labels that do, or press New labels"
    return ""
