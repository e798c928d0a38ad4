"""The results of following that are shown, one per patient: shown, corrected and saved without losing what was
painted.

A result that is shown again (corrected, followed again or run again) keeps the painting that it does not hold yet,
under the numbers that its lesions have now. Every change is a step of `napari_medseq.viewer.editing.model`, so it can be
taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary, ref

import numpy as np

from napari_medseq.errors import MedseqError, warn
from napari_medseq.sequence import ImageSequence, Study
from napari_medseq.viewer.alignments import keep_alignments
from napari_medseq.viewer.editing.marks import PAINTED, PENDING, Values, carry
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers import conversion as _layers
from napari_medseq.viewer.layers import studies as _studies
from napari_medseq.viewer.layers.placement import along_of
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.showing import add_layers, lesion_colormap, study_for
from napari_medseq.wording import how_many

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap
    from napari.utils.events import Event

    from napari_medseq.progression import Progression
    from napari_medseq.progression.earlier import Earlier

Correction = Literal["link", "unlink", "merge", "split", "exclude"]

#: the masks as a job copied them; what was painted later is not in its result
Taken = Mapping["Labels", Values]


@dataclass(eq=False)
class Followed:
    """A result that is shown.

    Attributes
    ----------
    progression : Progression
    source : Study
        The study that it was made from.
    layers : list of Labels
        One per visit that has a mask.
    visits : list of int
        The visit, in the progression, of each layer.
    card : str
        The card of the model that made the masks; "" if people made them.
    places : list of int
        The ordinal, in the study, that each visit of the progression has now; its visits may have been put in another order since.
    days : list of str or None
        The date, in the study, that each visit of the progression had when it was followed.
    regrouped : bool
        Whether an image or mask was assigned to another visit since.
    """

    progression: Progression
    source: Study
    layers: list[Labels] = field(default_factory=list)
    visits: list[int] = field(default_factory=list)
    card: str = ""
    places: list[int] = field(kw_only=True)
    days: list[str | None] = field(default_factory=list)
    regrouped: bool = False

    @property
    def earlier(self) -> Earlier:
        """What a new result takes over from this one, in the present order of the visits."""
        order = sorted(range(len(self.places)), key=self.places.__getitem__)
        return self.progression.earlier.in_order(order)

    def layer_at(self, visit: int) -> Labels | None:
        """The layer of a visit; None if it has no mask."""
        return self.layers[self.visits.index(visit)] if visit in self.visits else None

    def visit_of(self, layer: Labels | None) -> int | None:
        """The visit of a layer; None if the layer is none of these."""
        return next((v for v, layers in zip(self.visits, self.layers, strict=True) if layers == layer), None)

    @property
    def shown(self) -> list[tuple[Labels, ImageSequence]]:
        """Each layer with the labels that the result has for it."""
        labels = self.progression.labels
        pairs = [(layer, labels[visit]) for layer, visit in zip(self.layers, self.visits, strict=True)]
        return [(layer, seq) for layer, seq in pairs if seq is not None]


_RESULTS: WeakKeyDictionary[Editing, dict[str, Followed]] = WeakKeyDictionary()


def results_of(viewer: ViewerModel) -> dict[str, Followed]:
    """The results that are shown, by the name of their study; with a patient's last layer goes the result, too."""
    editing = editing_of(viewer)
    if editing not in _RESULTS:
        _RESULTS[editing] = {}
        weak = ref(editing)

        def forget(_event: Event) -> None:
            alive = weak()
            if alive is not None:
                _forget_closed(alive)

        editing.viewer.layers.events.removed.connect(forget)
    return _RESULTS[editing]


def _forget_closed(editing: Editing) -> None:
    """Drop the results of patients of whom nothing is open any more: the next one may have the same name."""
    results = _RESULTS[editing]
    closed = set(results) - set(_studies.studies_in(editing.viewer.layers)) if results else set()
    for name in closed:
        del results[name]
    if closed:
        editing.events.changed()


def result_of(viewer: ViewerModel, study: str | None = None) -> Followed:
    """The result of a study; `study` is needed if there are several.

    Raises
    ------
    MedseqError
        If there is none, or several and `study` does not say which.
    """
    results = results_of(viewer)
    if study is None and len(results) == 1:
        return next(iter(results.values()))
    if study is not None and study in results:
        return results[study]
    if study is None and results:
        raise MedseqError(
            f"There are results of {len(results)} patients ({', '.join(results)}). Say which one is meant."
        )
    raise MedseqError(
        f"No lesions are followed{f' in {study}' if study else ''} yet. Run, or follow label layers, first."
    )


def show_progression(
    viewer: ViewerModel,
    progression: Progression,
    study: Study | None = None,
    *,
    card: str = "",
    taken: Taken | None = None,
    overwrite: bool = False,
    places: Sequence[int] | None = None,
) -> list[Labels]:
    """Show tracked lesions: one Labels layer per visit, value = identity, coloured as in every plot.

    Layers of an earlier result of the same study are updated, not doubled; what was painted in them and not yet followed stays.

    Parameters
    ----------
    viewer : ViewerModel
    progression : Progression
    study : Study, optional
        The study that it was made from; by default a study with its dates and images.
    card : str
        The card of the model that made the masks.
    taken : mapping of Labels to ndarray, optional
        Copies of the masks from which this result was followed; painting that they hold is part of it.
    overwrite : bool
        Painting up to that moment is not part of the result, and is no longer protected.
    places : sequence of int, optional
        The ordinal in `study` of each visit of the progression, if its visits were put in another order since it was followed.

    Returns
    -------
    list of Labels
        One per visit that has a mask.
    """
    study = study or study_for(progression)
    keep_alignments(viewer, progression, study)
    progression.provenance.setdefault("patient", study.name)  # files that are saved name the patient
    editing, results = editing_of(viewer), results_of(viewer)
    at = _studies.ordinals(study, progression) if places is None else list(places)
    before = results.get(study.name)
    now = Followed(progression, study, card=card, places=at, days=_days(viewer, study.name, at))
    with editing.step(f"following the lesions of {study.name}"):
        previous = None if before is None else _in_places(before, at)
        _show(viewer, now, previous, taken or {}, overwrite)
        _remember(editing, results, before, now)
    return now.layers


def _in_places(before: Followed, places: Sequence[int]) -> list[ImageSequence | None]:
    """The labels that a result has for visits, by their present ordinals; None where it has none."""
    labels = dict(zip(before.places, before.progression.labels, strict=True))
    return [labels.get(place) for place in places]


def _remember(editing: Editing, results: dict[str, Followed], before: Followed | None, now: Followed) -> None:
    """Put a result in the place of another one, in a way that can be taken back."""
    name = now.source.name

    def put(followed: Followed | None) -> None:
        if followed is None:
            results.pop(name, None)
        else:
            results[name] = followed
            _dress(followed)

    put(now)
    if before is not None:
        editing.act(lambda: put(before), lambda: put(now), of=name)


def _show(
    viewer: ViewerModel,
    followed: Followed,
    previous: Sequence[ImageSequence | None] | None,
    snapshot: Taken,
    overwrite: bool = False,
) -> None:
    """Write the labels of a result into its layers, with the painting that it does not hold yet."""
    study, editing = followed.source, editing_of(viewer)
    at = followed.places
    tracked: list[Labels] = []
    dropped: list[str] = []
    visits: list[int] = []
    for visit, (ordinal, seq) in enumerate(zip(at, followed.progression.labels, strict=True)):
        if seq is None:  # a visit without a mask
            continue
        visits.append(visit)
        old = tracked_layer(viewer, study.name, ordinal)
        along = along_of(viewer) if old is None else str(_studies.facts_of(old).get("along", "z"))
        data, kwargs, kind = lesion_layer_data(study, ordinal, seq, followed.progression, along)
        if old is None or old.data.shape != data.shape:
            if old is not None:
                _set_aside(old)
            tracked += add_layers(viewer, [(np.array(data), kwargs, kind)])
            continue
        marks, now = editing.marks(old), np.asarray(old.data)
        if real(old) in snapshot:
            start: Values | None = snapshot[real(old)]
            painted = now != start
        else:
            painted = marks.pending
            before = None if previous is None else previous[visit]
            start = None if before is None else np.asarray(_display(old, before))
            start = start if start is not None and start.shape == now.shape else None
        carried = carry(now, painted, start, np.asarray(data))
        protected = np.zeros(marks.shape, np.uint8) if overwrite else marks.flags & PAINTED
        flags = protected | np.where(carried.kept, PAINTED | PENDING, np.uint8(0))
        flags[painted & ~carried.kept] = 0
        editing.write(old, carried.data, flags=flags)
        dropped += [
            f"{how_many(n, 'voxel')} painted as lesion {v} at visit {visit + 1}" for v, n in carried.dropped.items()
        ]
        tracked.append(real(old))
    followed.layers, followed.visits = tracked, visits
    _dress(followed)
    if dropped:
        text = f"{'; '.join(dropped)} went out with that lesion. Undo brings them back."
        warn(text)


def lesion_layer_data(
    study: Study, ordinal: int, seq: ImageSequence, progression: Progression, along: str = "z"
) -> _layers.LayerData:
    """Layer data of the lesions of one visit of a study, in their colours; touches no viewer, so that a worker may do
    it."""
    name = f"{_studies.visit_title(study, ordinal)} lesions"
    data = _studies.visit_layer_data(
        study, ordinal, seq, visit=None if len(study.visits) == 1 else ordinal, name=name, along=along,
        colormap=_colormap(progression), opacity=0.7,
    )  # fmt: skip
    data[1]["metadata"][_layers.KEY] |= {"role": _studies.TRACKED, "along": along}
    return data


def _colormap(progression: Progression) -> DirectLabelColormap:
    return lesion_colormap({int(v) for v in progression.lesions["lesion"]})


def _display(layer: Labels, seq: ImageSequence) -> Values:
    """The voxels of a sequence as its layer holds them."""
    data: Values = _layers.to_layer_data(seq, visit=_studies.facts_of(layer).get("visit"))[0]
    return data


def _dress(followed: Followed) -> None:
    """Give the layers the names and colours of the result's lesions."""
    colours = _colormap(followed.progression)
    for layer, seq in followed.shown:
        layer.features = _layers.features(seq.label_names)
        layer.colormap = colours
        facts = _studies.facts_of(layer)
        facts |= {"label_names": dict(seq.label_names), "dtype": str(seq.data.dtype)}
        facts["meta"] = {**facts["meta"], "dtype": str(seq.data.dtype)}


def _set_aside(layer: Labels) -> None:
    """Keep tracked labels whose grid is not that of the new ones as a layer of its own, because they cannot be taken
    over."""
    _studies.facts_of(layer)["role"] = _studies.SET_ASIDE
    layer.name, layer.visible = f"{layer.name} (earlier grid)", False


def tracked_layer(viewer: ViewerModel, study: str, ordinal: int) -> Labels | None:
    """The layer of the followed lesions of a visit; None if there is none."""
    for layer in viewer.layers:
        facts = _studies.facts_of(layer)
        if _studies.is_tracked(layer) and (facts.get("study"), facts.get("ordinal")) == (study, ordinal):
            return layer
    return None


# -- corrections -------------------------------------------------------------------------------------------------------
def correct(viewer: ViewerModel, how: Correction, *names: Any, study: str | None = None, **options: Any) -> Progression:
    """Correct what was followed: `Progression.link`, ``unlink``, ``merge``, ``split`` or ``exclude``, on the result that is shown.

    What was painted and not yet followed stays, under the numbers that its lesions have afterwards. One step of undo.

    Parameters
    ----------
    viewer : ViewerModel
    how : {"link", "unlink", "merge", "split", "exclude"}
    *names, **options
        Arguments of that method of `Progression`.
    study : str, optional
        The study whose result is meant, if there are several.

    Returns
    -------
    Progression
        The corrected result.

    Raises
    ------
    MedseqError
        If there is no result, or the correction makes no sense; nothing changes then.
    """
    followed, editing = result_of(viewer, study), editing_of(viewer)
    progression, previous = followed.progression, followed.progression.labels
    if how not in get_args(Correction):
        raise MedseqError(f"There is no correction {how!r}; choose {', '.join(get_args(Correction))}.")
    verb: Callable[..., None] = getattr(progression, how)

    def make() -> None:
        verb(*names, **options)

    def undo() -> None:
        progression.undo()
        _dress(followed)

    def redo() -> None:
        make()
        _dress(followed)

    make()
    with editing.step(progression.corrections[-1]):
        # taken back after the voxels and made again before them, so that the colours always fit the numbers
        editing.act(undo, redo, of=followed.source.name)
        _show(viewer, followed, previous, {})
    return progression


def undo(viewer: ViewerModel) -> str:
    """Take back the latest step in a viewer, a stroke as well as a correction; returns what it was, in words.

    Raises
    ------
    MedseqError
        If there is none.
    """
    return editing_of(viewer).undo()


def redo(viewer: ViewerModel) -> str:
    """Make the step again that was taken back last; returns what it was, in words.

    Raises
    ------
    MedseqError
        If there is none.
    """
    return editing_of(viewer).redo()


def painted(viewer: ViewerModel, study: str | None = None) -> dict[str, int]:
    """Number of voxels painted and not yet followed, by the name of each label layer; with `study` only for the layers
    of its result."""
    layers = None if study is None else result_of(viewer, study).layers
    return {layer.name: count for layer, count in editing_of(viewer).pending(layers).items()}


def _days(viewer: ViewerModel, study: str, places: Sequence[int]) -> list[str | None]:
    """The date that the layers of each of these visits of a study have now."""
    days = _studies.days_of(layer for layer in viewer.layers if _studies.facts_of(layer).get("study") == study)
    return [days.get(place) for place in places]


def rearranged_since(viewer: ViewerModel, followed: Followed) -> str:
    """How the visits of a result were arranged differently since it was followed, in a sentence; "" if they were not."""
    if followed.places != sorted(followed.places):
        return "The visits are in another order than when the lesions were followed."
    days = _days(viewer, followed.source.name, followed.places)
    open_now = {
        f.get("ordinal") for f in map(_studies.facts_of, viewer.layers) if f.get("study") == followed.source.name
    }
    for place, then, now in zip(followed.places, followed.days, days, strict=True):
        if place in open_now and then != now:
            return f"Visit {place + 1} has another date than when the lesions were followed."
    if followed.regrouped:
        return "An image or mask was assigned to another visit since the lesions were followed."
    return ""


def why_outdated(viewer: ViewerModel, followed: Followed) -> str:
    """Why a result is not that of what is on the screen, in a sentence; "" if it is."""
    why = rearranged_since(viewer, followed)
    return why or ("There is painting that is not followed yet." if _is_painted(viewer, followed) else "")


def differs(viewer: ViewerModel, followed: Followed) -> bool:
    """Whether the masks on the screen, or the order and dates of their visits, differ from those of the result, however
    they were changed."""
    return bool(why_outdated(viewer, followed))


def _is_painted(viewer: ViewerModel, followed: Followed) -> bool:
    return any(layer in viewer.layers and not as_followed(viewer, layer, seq) for layer, seq in followed.shown)


def as_followed(viewer: ViewerModel, layer: Labels, seq: ImageSequence) -> bool:
    """Whether a layer is open and holds the labels that a result has for it."""
    return layer in viewer.layers and np.array_equal(np.asarray(layer.data), _display(layer, seq))
