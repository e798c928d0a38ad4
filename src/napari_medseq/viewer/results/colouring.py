"""The meaning of the colour of a tracked lesion: its identity, its change, or the patient's response."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal
from weakref import WeakKeyDictionary, ref

from napari_medseq.colours import lesion_colour
from napari_medseq.errors import MedseqError
from napari_medseq.progression.response import assess
from napari_medseq.viewer.editing.model import Editing, editing_of
from napari_medseq.viewer.layers.proxies import real
from napari_medseq.viewer.results.followed import Followed, result_of, results_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    from napari_medseq.progression import Progression

Meaning = Literal["identity", "change", "response"]
Colour = tuple[float, float, float, float]


def _rgb(code: str) -> Colour:
    red, green, blue = (int(code[k : k + 2], 16) / 255 for k in (0, 2, 4))
    return red, green, blue, 1.0


#: distinguishable for the colour-blind too (Okabe and Ito 2008, jfly.uni-koeln.de/color)
WORSE, NEW, BETTER, STABLE, OTHER, UNKNOWN = (
    _rgb(c) for c in ("d55e00", "cc79a7", "009e73", "56b4e9", "0072b2", "999999")
)
#: event of a lesion → its colour
CHANGES: dict[str, Colour] = {
    "new": NEW,
    "reappeared": NEW,
    "growing": WORSE,
    "stable": STABLE,
    "baseline": UNKNOWN,
    "shrinking": BETTER,
    "merged": OTHER,
    "split": OTHER,
    "complex": OTHER,
    "cut off": UNKNOWN,
}
#: beginning of the name of a response category → its colour; the first one that fits counts
_RESPONSES: tuple[tuple[str, Colour], ...] = (
    ("CR", BETTER),
    ("PR", BETTER),
    ("response", BETTER),
    ("SD", STABLE),
    ("non-CR", STABLE),
    ("stable", STABLE),
    ("no growth", STABLE),
    ("not active", STABLE),
    ("PD", WORSE),
    ("progression", WORSE),
    ("growth", WORSE),
    ("active", WORSE),
    ("not evaluable", UNKNOWN),
)


def colour_by(
    viewer: ViewerModel, meaning: Meaning = "identity", *, study: str | None = None, rule: str = "recist-1.1"
) -> dict[str, Colour]:
    """Colour the tracked lesions by identity, by their change since the previous visit, or by response.

    The choice is kept when lesions are corrected or followed again.

    Parameters
    ----------
    viewer : ViewerModel
    meaning : {"identity", "change", "response"}
        What colours mean. With "response", all lesions of a visit get the colour of that visit's category.
    study : str, optional
        The study whose lesions are meant, if there are results of several patients.
    rule : str
        The response rule; see `Progression.response`.

    Returns
    -------
    dict of str to colour
        The legend: the meaning of each colour that is used.

    Raises
    ------
    MedseqError
        If no lesions are followed, or the rule or the meaning is unknown.
    """
    if meaning not in ("identity", "change", "response"):
        raise MedseqError(f"Lesions cannot be coloured by {meaning!r}; use 'identity', 'change' or 'response'.")
    return _Colouring.of(viewer).apply(result_of(viewer, study), meaning, rule)


def meaning_of_colours(viewer: ViewerModel, study: str) -> Meaning:
    """The current meaning of the colours of a patient's lesions."""
    return colours_chosen(viewer, study)[0]


def colours_chosen(viewer: ViewerModel, study: str) -> tuple[Meaning, str]:
    """The current meaning of the colours of a patient's lesions, and the response rule that was chosen ("" if none)."""
    return _Colouring.of(viewer).chosen.get(study, ("identity", ""))


def _meanings(
    progression: Progression, meaning: Meaning, rule: str
) -> tuple[dict[int, dict[int, Colour]], dict[str, Colour]]:
    """Visit → lesion → colour, and the legend."""
    rows = progression.lesions
    events = [
        (int(r["visit"]), int(r["lesion"]), str(r["event"]))
        for r in rows.to_dict(orient="records")
        if r["volume_ml"] > 0
    ]
    by_visit: dict[int, dict[int, Colour]] = {}
    legend: dict[str, Colour] = {}
    categories = {} if meaning != "response" else {v.visit: v.category for v in assess(progression, rule).verdicts}
    for visit, lesion, event in events:
        if meaning == "identity":
            text, colour = f"lesion {lesion}", lesion_colour(lesion)
        elif meaning == "change":
            text, colour = event, CHANGES.get(event, UNKNOWN)
        else:
            text = categories.get(visit, "baseline")
            colour = response_colour(text)
        by_visit.setdefault(visit, {})[lesion] = colour
        legend[text] = colour
    return by_visit, legend


def response_colour(category: str) -> Colour:
    """The colour of a category of a response rule; dark blue for categories that are neither better, stable nor worse,
    such as those of Lung-RADS."""
    if category == "baseline":
        return UNKNOWN
    return next((colour for start, colour in _RESPONSES if category.startswith(start)), OTHER)


def _colormap(colours: dict[int, Colour]) -> DirectLabelColormap:
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, Colour] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
    return DirectLabelColormap(color_dict=table | dict(sorted(colours.items())))


class _Colouring:
    """The choice made in one viewer, applied again whenever a result is shown again in its own colours."""

    _all: ClassVar[WeakKeyDictionary[Editing, _Colouring]] = WeakKeyDictionary()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self.chosen: dict[str, tuple[Meaning, str]] = {}
        self._given: WeakKeyDictionary[Labels, DirectLabelColormap] = WeakKeyDictionary()
        editing_of(viewer).events.changed.connect(self.again)

    @classmethod
    def of(cls, viewer: ViewerModel) -> _Colouring:
        viewer = real(viewer)
        editing = editing_of(viewer)
        if editing not in cls._all:
            cls._all[editing] = cls(viewer)
        return cls._all[editing]

    def again(self, _event: object = None) -> None:
        viewer = self._viewer()
        if viewer is None:
            return
        for name, followed in results_of(viewer).items():
            meaning, rule = self.chosen.get(name, ("identity", ""))
            anew = any(self._given.get(layer) is not layer.colormap for layer in followed.layers)
            if meaning != "identity" and anew:
                self.apply(followed, meaning, rule)

    def apply(self, followed: Followed, meaning: Meaning, rule: str) -> dict[str, Colour]:
        """Colour the layers of a result, and return the legend."""
        by_visit, legend = _meanings(followed.progression, meaning, rule)
        for layer, visit in zip(followed.layers, followed.visits, strict=True):
            layer.colormap = _colormap(by_visit.get(visit, {}))
            self._given[layer] = layer.colormap
        self.chosen[followed.source.name] = (meaning, rule)
        return legend
