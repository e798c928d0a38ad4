"""Writing labels as a DICOM segmentation that refers to its source series: same geometry, references kept, patient
left blank.

Each label value is one segment. Its tracking UID is computed from the patient, the value and the user's key of
pseudonyms, so that a lesion that keeps its identity over visits keeps its tracking UID in all files, and nobody else
can find the patient's ID by trial. Files are written through highdicom.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import WriteError
from napari_medseq.io.dicom.sources import (
    Reference,
    anonymise,
    label_values,
    on_stack,
    patient_key,
    sources,
    stack_for,
    tracking_uid,
)
from napari_medseq.io.dicom.stacks import Stack
from napari_medseq.io.notes import silenced
from napari_medseq.sequence import ImageSequence
from napari_medseq.version import __version__
from napari_medseq.volumes.labelled import replaced

if TYPE_CHECKING:
    import highdicom as hd


def write(seq: ImageSequence, path: Path, reference: Reference | None, identifiers: bool) -> None:
    """Write labels as a binary DICOM SEG.

    Parameters
    ----------
    seq : ImageSequence
        Labels on the grid of the reference.
    path : Path
    reference : path-like, sequence of path-like, ImageSequence or None
        The DICOM series; None takes the one that the labels' image was read from.
    identifiers : bool
        Keep the patient's name, ID and birth date.

    Raises
    ------
    WriteError
        If there is no reference, or the labels do not lie on its grid.
    """
    if "t" in seq.axes:
        raise WriteError(
            f"{seq.name}: a DICOM segmentation of frames in time cannot be written; write its frames one by one."
        )
    with silenced():
        _write(seq, path, stack_for(seq, reference), identifiers)


def _write(seq: ImageSequence, path: Path, stack: Stack, identifiers: bool) -> None:
    labels = on_stack(seq, stack)
    assert labels is not None
    values = label_values(seq, labels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _made(seq, stack, labels, values, identifiers).save_as(path)
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise WriteError(
            f"{seq.name}: the reference series lacks what a DICOM segmentation needs ({error}); write .seg.nrrd."
        ) from error


def _made(
    seq: ImageSequence, stack: Stack, labels: NDArray[np.generic], values: Sequence[int], identifiers: bool
) -> hd.seg.Segmentation:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    patient = patient_key(seq, stack)
    tracking = seq.meta.get("tracking")
    model = seq.meta.get("model")
    algorithm = None
    if model:
        algorithm = hd.AlgorithmIdentificationSequence(
            name=str(model), version=__version__, family=codes.DCM.ArtificialIntelligence
        )
    described = []
    for number, value in enumerate(values, start=1):
        name = seq.label_names.get(value, f"Lesion {value}")
        described.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=codes.SCT.Lesion,
                algorithm_type="AUTOMATIC" if model else "MANUAL",
                algorithm_identification=algorithm,
                tracking_uid=tracking_uid(tracking, patient, value),
                tracking_id=f"Lesion {value}",
            )
        )
    images, order, extra = sources(stack, identifiers)
    numbered = replaced(labels[order], {v: k for k, v in enumerate(values, 1)}, np.min_scalar_type(len(values)))
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=numbered,
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=int(seq.meta.get("series_number", 0) or 0) + 1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="napari-medseq",
        manufacturer_model_name="napari-medseq",
        software_versions=__version__,
        device_serial_number="0",
        series_description=seq.name[:64],
        **extra,
    )
    if not identifiers:
        anonymise(segmentation, stack.first.file.ds)
    return segmentation
