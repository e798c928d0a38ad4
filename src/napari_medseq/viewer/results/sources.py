"""The images that a result was made from, among those of its study, which its DICOM files and a retest need. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari_medseq.errors import MedseqError
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.results.followed import Followed


def recorded_images(followed: Followed, visit: int) -> dict[str, ImageSequence | None]:
    """Channel → the image of a visit that the masks were made from; None if it is not open; empty if none is
    recorded."""
    inputs = followed.progression.provenance.get("inputs")
    facts = inputs[visit] if isinstance(inputs, Sequence) and visit < len(inputs) else None
    images = facts.get("images") if isinstance(facts, Mapping) else None
    if not isinstance(images, Mapping):
        return {}
    by_name = {i.name: i for i in followed.source.visits[followed.places[visit]].images}
    return {str(c): by_name.get(str(i.get("name"))) for c, i in images.items() if isinstance(i, Mapping)}


def dicom_series(followed: Followed) -> list[ImageSequence | None]:
    """The DICOM series on which each visit's lesions were drawn, as `Progression.export_dicom` takes them; None for a
    visit without a mask.

    Raises
    ------
    MedseqError
        If the images of a visit with a mask are not DICOM, or are not open.
    """
    progression = followed.progression
    series: list[ImageSequence | None] = [None] * len(progression.dates)
    for visit in progression.seen:
        candidates = [progression.images[visit], *recorded_images(followed, visit).values()]
        from_dicom = [image for image in candidates if image is not None and image.meta.get("series_uid")]
        if not from_dicom:
            raise MedseqError(
                f"The image of visit {visit + 1} is not an open DICOM series, on which its file would stand"
            )
        mask = progression.labels[visit]
        assert mask is not None  # it is visible
        series[visit] = next((image for image in from_dicom if image.same_grid(mask)), from_dicom[0])
    return series


def model_of(followed: Followed) -> str:
    """The name of the model that made the masks.

    Raises
    ------
    MedseqError
        If no model made them.
    """
    model = followed.progression.provenance.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    if not name:
        raise MedseqError("No model made these masks, so that nothing can segment the scan again")
    return str(name)


def scan_to_retest(followed: Followed) -> ImageSequence | dict[str, ImageSequence]:
    """The scan of the last visit, as `ms.retest` takes it: one image, or channel → image.

    Raises
    ------
    MedseqError
        If its images are not recorded, or not open.
    """
    visit = len(followed.progression.dates) - 1
    recorded = recorded_images(followed, visit)
    images = {channel: image for channel, image in recorded.items() if image is not None}
    if not images or len(images) < len(recorded):
        raise MedseqError(f"The images of visit {visit + 1} that the model was given are not open")
    return images if len(images) > 1 else next(iter(images.values()))
