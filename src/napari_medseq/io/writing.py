"""`write`: a sequence to a file in the orientation, affine and units that it came with, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq import files, memory
from napari_medseq.errors import MedseqError, WriteError
from napari_medseq.geometry import Affine
from napari_medseq.io.formats.raw import storable
from napari_medseq.io.placing import restored
from napari_medseq.sequence import ImageSequence, check_images

if TYPE_CHECKING:
    from napari_medseq.io.dicom.sources import Reference


def write(
    seq: ImageSequence,
    path: str | os.PathLike[str],
    *,
    reference: Reference | None = None,
    identifiers: bool = False,
    format: Literal["seg", "rtstruct"] | None = None,
) -> Path:
    """Write a sequence; the ending of `path` chooses the format.

    Parameters
    ----------
    seq : ImageSequence
    path : path-like
        ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha``; for labels also ``.seg.nrrd`` and ``.dcm`` (see `format`).
    reference : path-like or sequence of path-like, optional
        For ``.dcm``: the DICOM series that the labels were drawn on.
    identifiers : bool
        For ``.dcm``: keep the patient's name and ID of the reference.
    format : {"seg", "rtstruct"}, optional
        For ``.dcm``: a DICOM segmentation (the default), or an RT structure set, whose contours follow the edges of voxels.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    WriteError
        If the ending is unknown, the labels do not fit the format, voxels that are still to be read do not fit in memory, or the
        disk refuses.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_medseq as ms
    >>> voxels = np.zeros((4, 6, 6), np.uint8)
    >>> voxels[1:3, 2:4, 2:4] = 1
    >>> mask = ms.ImageSequence(voxels, ("z", "y", "x"), np.diag([2.0, 2.0, 5.0, 1.0]), kind="labels")
    >>> import tempfile
    >>> path = ms.write(mask, tempfile.mkdtemp() + "/lesions.seg.nrrd")
    >>> (again,) = ms.read(path)
    >>> again.kind, bool((again.data == mask.data).all())
    ('labels', True)
    """
    check_images(seq=seq)
    target = files.path_of(path)
    lower = target.name.lower()
    ending = next((e for e in (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".dcm") if lower.endswith(e)), None)
    if format not in (None, "seg", "rtstruct"):
        raise WriteError(f"There is no format {format!r} of .dcm; choose seg or rtstruct.")
    if format is not None and ending != ".dcm":
        raise WriteError(f"{target}: {format} is written to a file that ends in .dcm.")
    if ending is None:
        raise WriteError(
            f"{target}: the ending is not known; use .nii, .nii.gz, .nrrd, .mha, or for labels .seg.nrrd or .dcm."
        )
    if ending in (".seg.nrrd", ".dcm") and seq.kind != "labels":
        raise WriteError(f"{target}: {ending} holds labels, but {seq.name} is an image; use .nii.gz, .nrrd or .mha.")
    if seq.is_lazy and memory.is_too_much(seq.data.nbytes):
        raise WriteError(
            f"{target}: {seq.data.nbytes / 2**30:,.1f} GB of voxels are still to be read and do not fit in the memory that is free; write "
            "the image in parts, such as frame by frame (image.frame(0))."
        )
    writer = _writer(ending, format)
    with files.replacing(target) as temporary:
        writer(seq, temporary, reference, identifiers)
    return target


def _writer(ending: str, format: str | None) -> Callable[[ImageSequence, Path, Reference | None, bool], None]:
    """The function that writes a sequence to (path, reference, identifiers)."""
    if ending in (".nii", ".nii.gz"):
        return lambda seq, path, _reference, _identifiers: _write_nifti(seq, path)
    if ending == ".nrrd":
        from napari_medseq.io.formats import nrrd

        return lambda seq, path, _reference, _identifiers: nrrd.write(seq, path)
    if ending == ".seg.nrrd":
        from napari_medseq.io.formats import slicer

        return lambda seq, path, _reference, _identifiers: slicer.write(seq, path)
    if ending == ".mha":
        from napari_medseq.io.formats import metaimage

        return lambda seq, path, _reference, _identifiers: metaimage.write(seq, path)
    from napari_medseq.io.dicom import rtstruct_write, seg_write

    return rtstruct_write.write if format == "rtstruct" else seg_write.write


def _write_nifti(seq: ImageSequence, path: Path) -> None:
    nib: Any = import_module("nibabel")
    array, axes, affine = restored(seq)
    array = _in_few_bytes(storable(array))
    order = [axes.index(a) for a in ("x", "y", "z", "t") if a in axes]
    if "c" in axes:
        array = _colours(seq.name, array, axes)
    image_type = nib.Nifti1Image if max(array.shape) < 32768 else nib.Nifti2Image
    image = image_type(array.transpose(order), affine, dtype=array.dtype)  # nibabel asks for the type of 64-bit numbers
    image.header.set_xyzt_units("mm", "sec" if "t" in axes else None)
    _place(image, affine, oriented=seq.oriented)
    extras = _describe(image.header, seq)
    if extras:
        text = json.dumps({"napari-medseq": extras}).encode()
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", text))
    try:
        nib.save(image, path)
    except (MedseqError, OSError):
        raise
    except Exception as error:
        raise WriteError(f"{seq.name}: NIfTI cannot hold this ({error}); use .nrrd.") from error


def _in_few_bytes(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """64-bit whole numbers, which few programs read, in the smallest type that holds them."""
    if array.dtype.itemsize < 8 or array.dtype.kind not in "iu":
        return array
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    fits = next((t for t in (np.uint8, np.int16, np.int32) if np.iinfo(t).min <= low and high <= np.iinfo(t).max), None)
    return array if fits is None else array.astype(fits)


def _colours(name: str, array: NDArray[np.generic], axes: Sequence[str]) -> NDArray[np.generic]:
    """Colours as the records of red, green, blue (and alpha) that NIfTI knows."""
    if "t" in axes:
        raise WriteError(f"{name}: colour in time cannot be stored as NIfTI; write it as .nrrd or .mha.")
    if array.dtype != np.uint8:
        raise WriteError(
            f"{name}: NIfTI holds colours of 8 bits, and these are {array.dtype}; use .nrrd or .mha, or convert them to uint8."
        )
    fields = ("R", "G", "B", "A")[: array.shape[axes.index("c")]]
    return np.ascontiguousarray(array).view(np.dtype([(field, "u1") for field in fields]))[..., 0]


def _place(image: Any, affine: Affine, *, oriented: bool) -> None:
    """Set the sform, the qform where it can hold the affine, and the sizes of voxels."""
    code = 1 if oriented else 0
    image.set_sform(affine, code)
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    rigid = oriented and np.abs(cosines.T @ cosines - np.eye(3)).max() < 1e-5  # a qform cannot shear
    image.set_qform(affine if rigid else None, code if rigid else 0)
    if not oriented:
        image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)


def _describe(header: Any, seq: ImageSequence) -> dict[str, Any]:
    """Set the time between frames and the intent of a header; returned is what NIfTI has no field for."""
    extras: dict[str, Any] = {}
    if not seq.oriented:  # whose place NIfTI derives from the size of the voxels alone
        extras["affine"] = restored(seq)[2].tolist()
    if seq.times is not None:
        steps = np.diff(seq.times)
        header["pixdim"][4] = float(np.mean(steps)) if len(steps) else 1.0
        if (len(steps) and float(np.ptp(steps)) > 1e-6) or seq.kind == "labels":  # a mask's fourth axis may be classes
            extras["times"] = [float(v) for v in seq.times]
    if seq.kind == "labels":
        header.set_intent("label")
        if seq.label_names:
            extras["label_names"] = {str(k): v for k, v in seq.label_names.items()}
    return extras
