"""Preprocessing of layers: the job, its results as layers with their recipe, and applying the recipe to other layers.

This is what the *Preprocess* widget does, for scripts; it needs no Qt, a `ViewerModel` is enough. A recipe is a list
of steps as `ms.preprocess` takes them, and the viewer shows exactly the voxels that `ms.preprocess` returns for the
sequence of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_medseq import preprocessing as steps_of
from napari_medseq.cohort.preprocessed import brings_onto_another
from napari_medseq.errors import MedseqError, OperationCancelled, RegistrationError
from napari_medseq.progress import Cancelled, Progress, part
from napari_medseq.sequence import ImageSequence
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.conversion import from_layer, layer_kind
from napari_medseq.viewer.results.showing import show_derived

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_medseq.preprocessing import Step
    from napari_medseq.preprocessing.pipeline import Steps
    from napari_medseq.registration import Transform

_TITLED = 3


def preprocess(
    viewer: ViewerModel,
    layers: Layer | Sequence[Layer],
    steps: Steps,
    *,
    reference: Layer | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Layer]:
    """Run steps on layers with `ms.preprocess`, and show each result as a new layer at its true place and visit.

    A Labels layer whose image is among `layers` follows its image: by the same registration and onto the same grid,
    with nearest neighbours and without any other step. One without its image gets only the steps of geometry.

    Parameters
    ----------
    viewer : ViewerModel
    layers : Image or Labels layer, or several of them
    steps : steps, as `ms.preprocess` takes them
    reference : Layer, optional
        The target of *Register*, whose grid *Resample* takes too if no spacing is given.

    Returns
    -------
    list of Layer
        One per given layer, in that order.

    Raises
    ------
    SettingsError
        If a step cannot be used.
    MedseqError
        If a step cannot work on a layer; the results of the others are shown nevertheless.
    """
    job = Preprocessing([*layers] if isinstance(layers, Sequence) else [layers], steps, reference=reference)
    shown = job.show(viewer, job.run(progress, cancelled))
    if job.failures:
        raise MedseqError(" ".join(job.failures))
    return shown


@dataclass
class Preprocessing:
    """Steps on layers as a job: created where layers may be read, run in any thread, shown where layers may be added.

    Attributes
    ----------
    layers : list of Layer
    steps : as `ms.preprocess` takes them
    reference : Layer or None
    notes : list of str
        Messages for the user at the end, such as which steps were left out for labels.
    failures : list of str
        The layers that failed and why, after `run`.
    """

    layers: list[Layer]
    steps: Steps
    reference: Layer | None = None
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sequences = [_taken(layer) for layer in self.layers]
        self._fixed = None if self.reference is None else _taken(self.reference)
        self._images = [_image_of(k, self.layers, self._sequences) for k in range(len(self.layers))]

    def run(
        self, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> list[tuple[Layer, ImageSequence]]:
        """Each layer with its result; layers that failed are left out and stand in `failures`. No layer is touched.

        Raises
        ------
        SettingsError
            If a step cannot be used.
        MedseqError
            If there is only one layer, and it fails.
        """
        chain = steps_of.parse(self.steps)
        results: dict[int, ImageSequence] = {}
        # images come first, because their masks follow them
        order = sorted(range(len(self.layers)), key=lambda k: self._sequences[k].kind == "labels")
        for done, k in enumerate(order):
            prefix = f"{self.layers[k].name}: " if len(order) > 1 else ""
            share = part(progress, done / len(order), (done + 1) / len(order), prefix)
            try:
                results[k] = self._one(k, chain, results, share, cancelled)
            except OperationCancelled:
                raise
            except MedseqError as error:
                if len(order) == 1:
                    raise
                self.failures.append(f"{self.layers[k].name}: {error}")
        return [(self.layers[k], results[k]) for k in sorted(results)]

    def _one(
        self,
        k: int,
        chain: list[Step],
        results: dict[int, ImageSequence],
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> ImageSequence:
        seq, image = self._sequences[k], self._images[k]
        if seq.kind == "labels" and image is not None:
            if image not in results:
                raise MedseqError("it follows its image, which could not be preprocessed.")
            return steps_of.follow(seq, results[image])
        steps = chain
        if seq.kind == "labels":
            steps, left_out = steps_for_labels(chain)
            if not steps:
                raise MedseqError(
                    f"{self.layers[k].name} holds labels, whose values are names: none of the steps "
                    f"({step_titles(left_out)}) is for labels. Choose the image, and tick this mask beside it."
                )
            if left_out:
                self.notes.append(f"{self.layers[k].name} holds labels: {step_titles(left_out)} left out.")
        return steps_of.preprocess(seq, steps, reference=self._fixed, progress=progress, cancelled=cancelled)

    def show(self, viewer: ViewerModel, results: Sequence[tuple[Layer, ImageSequence]]) -> list[Layer]:
        """Show the results of `run`, each beside the layer that it was made from."""
        chain = steps_of.parse(self.steps)
        # a result on the grid of another layer is shown at the visit of that layer
        onto = self.reference if any(brings_onto_another(step) for step in chain) else None
        title = short_title(chain)
        return [_show(viewer, layer, seq, f"{layer.name} ({title})", onto) for layer, seq in results]


# -- before it is run --------------------------------------------------------------------------------------------------
def steps_for_labels(steps: Steps) -> tuple[list[Step], list[Step]]:
    """The steps that make sense for labels (they move voxels and keep values), and those that do not."""
    chain = steps_of.parse(steps)
    return [s for s in chain if s.takes_labels], [s for s in chain if not s.takes_labels]


def step_titles(steps: Sequence[Step]) -> str:
    """The titles of steps, for messages."""
    return ", ".join(step.title or step.kind for step in steps)


def short_title(steps: Sequence[Step]) -> str:
    """The kinds of steps, short enough for the name of a layer."""
    kinds = [step.kind for step in steps]
    return ", ".join(kinds) if len(kinds) <= _TITLED else f"{', '.join(kinds[: _TITLED - 1])} … {len(kinds)} steps"


# -- after it was run --------------------------------------------------------------------------------------------------
def recipe_of(layer: Layer) -> list[Step]:
    """The steps by which a layer was made, ready for other layers, a script or a file; none if preprocessing did not
    make it."""
    meta = _studies.facts_of(layer).get("meta") or {}
    return steps_of.parse(meta.get("steps") or [])


def transform_of(layer: Layer) -> Transform:
    """The registration by which a layer was made, as it was kept with it.

    Raises
    ------
    RegistrationError
        If it was not registered.
    """
    transforms = [row[0] for row in steps_of.transforms_of(from_layer(layer)) if len(row) == 1]
    if not transforms or transforms[-1] is None:
        raise RegistrationError(
            f"{layer.name} was not registered; choose a layer that the step 'register' made, or run it first."
        )
    return transforms[-1]


def bring_along(viewer: ViewerModel, masks: Layer | Sequence[Layer], source: Layer) -> list[Layer]:
    """Resample layers to where a preprocessed layer is: by the registrations kept in it, onto its grid, by nearest
    neighbour.

    Parameters
    ----------
    viewer : ViewerModel
    masks : Labels or Image layer, or several
        Layers in the space of the image that `source` was made from.
    source : Layer
        A layer that `preprocess` made.

    Raises
    ------
    MedseqError
        If `source` was not preprocessed.
    """
    if not recipe_of(source):
        raise MedseqError(f"{source.name} was not made by preprocessing; choose a layer that was.")
    result = from_layer(source)
    several = [*masks] if isinstance(masks, Sequence) else [masks]
    followers = [(layer, steps_of.follow(_taken(layer), result)) for layer in several]
    return [_show(viewer, layer, seq, f"{layer.name} on {source.name}", source) for layer, seq in followers]


# -- what belongs together ---------------------------------------------------------------------------------------------
def masks_of(viewer: ViewerModel, image: Layer) -> list[Labels]:
    """The Labels layers of an image: those of its visit, or, without a study, those on its grid."""
    seq = from_layer(image)
    return [
        layer
        for layer in viewer.layers
        if layer_kind(layer) == "labels" and layer != image and _belongs(layer, image, seq)
    ]


def other_visits(viewer: ViewerModel, layer: Layer) -> list[Layer]:
    """The layers of the same series at the other visits of the study, by visit; for a mask these are masks."""
    facts = _studies.facts_of(layer)
    if facts.get("study") is None:
        return []
    name = _studies.series_name(facts)
    siblings = [
        other
        for other in viewer.layers
        if layer_kind(other) == layer_kind(layer)
        and (about := _studies.facts_of(other)).get("study") == facts["study"]
        and about.get("ordinal") != facts.get("ordinal")
        and about.get("role") == facts.get("role")
        and _studies.series_name(about) == name
    ]
    return sorted(siblings, key=lambda other: int(_studies.facts_of(other)["ordinal"]))


def _belongs(mask: Layer, image: Layer, seq: ImageSequence) -> bool:
    own, image_facts = _studies.facts_of(mask), _studies.facts_of(image)
    if own.get("study") != image_facts.get("study") or own.get("ordinal") != image_facts.get("ordinal"):
        return False
    if own.get("role") == _studies.DERIVED:
        return False
    return own.get("study") is not None or from_layer(mask).same_grid(seq)


def _image_of(k: int, layers: Sequence[Layer], sequences: Sequence[ImageSequence]) -> int | None:
    """Which of the layers is the image of the mask `k`: on its grid, or at least of its visit; None if there is
    none."""
    if sequences[k].kind != "labels":
        return None
    images = [
        i
        for i, seq in enumerate(sequences)
        if seq.kind == "image" and (_belongs(layers[k], layers[i], seq) or seq.same_grid(sequences[k]))
    ]
    return min(images, key=lambda i: not sequences[i].same_grid(sequences[k]), default=None)


def _taken(layer: Layer) -> ImageSequence:
    """The sequence of a layer; labels are copied, because painting may go on meanwhile."""
    seq = from_layer(layer)
    return seq.replace(data=np.array(seq.data)) if seq.kind == "labels" else seq


def _show(viewer: ViewerModel, layer: Layer, seq: ImageSequence, name: str, reference: Layer | None) -> Layer:
    extra: dict[str, object] = {"name": name}
    if seq.kind == "labels":
        extra["opacity"] = 0.6
    derived = show_derived(viewer, layer, seq, reference=reference, **extra)
    # nor does a mask become one of the study's, because lesions are followed in masks on their native grids
    _studies.facts_of(derived).setdefault("role", _studies.DERIVED)
    return derived
