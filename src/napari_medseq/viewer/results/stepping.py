"""Moving from lesion to lesion and from visit to visit, and the actions of the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medseq.errors import MedseqError
from napari_medseq.viewer.editing.active import shown_visit
from napari_medseq.viewer.identity import patient_in_front
from napari_medseq.viewer.layers.studies import facts_of, visits_of
from napari_medseq.viewer.results.followed import Followed, results_of
from napari_medseq.viewer.results.showing import go_to

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: key → its action; none of them is used by napari or its menus
KEYS = {
    "Alt-Right": "go to the next visit",
    "Alt-Left": "go to the previous visit",
    "Alt-PageDown": "go to the next lesion of the visit",
    "Alt-PageUp": "go to the previous lesion of the visit",
    "Alt-S": "propagate what is painted",
    "Alt-N": "look at the slice of the answer that is worth it next",
    "Alt-A": "accept the slice of the answer that is shown",
    "Alt-X": "reject the slice of the answer that is shown",
    "Alt-K": "link the selected lesion with the other one",
    "Alt-E": "exclude the selected lesion",
}


def next_visit(viewer: ViewerModel, by: int = 1) -> int | None:
    """Move the slider of visits by `by` visits and return the visit that is then shown, from 0; None if there is no
    such slider."""
    now = shown_visit(viewer)
    if now is None:
        return None
    front = patient_in_front(viewer)
    of_patient = [layer for layer in viewer.layers if front is None or facts_of(layer).get("study") == front]
    target = min(max(now + by, 0), visits_of(of_patient) - 1)
    viewer.dims.set_point(list(viewer.dims.axis_labels).index("visit"), float(target))
    return target


def next_lesion(viewer: ViewerModel, by: int = 1) -> int | None:
    """Go to the lesion that comes `by` lesions after the selected one at the visit that is shown, in order of
    decreasing size.

    Returns
    -------
    int or None
        Its identity; None if the visit has no lesion.

    Raises
    ------
    MedseqError
        If the lesions of the patient in front are not followed.
    """
    followed = results_of(viewer).get(patient_in_front(viewer) or "")
    if followed is None:
        raise MedseqError("No lesions of this patient are followed yet. Open Progression and press Run first.")
    visit = _visit(viewer, followed)
    layer = None if visit is None else followed.layer_at(visit)
    if layer is None:
        return None
    table = followed.progression.lesions
    at_visit = table[(table["visit"] == visit) & (table["volume_ml"] > 0)].sort_values("volume_ml", ascending=False)
    lesions = [int(v) for v in at_visit["lesion"]]
    if not lesions:
        return None
    now = int(layer.selected_label)
    at = lesions.index(now) + by if viewer.layers.selection.active == layer and now in lesions else 0
    lesion = lesions[at % len(lesions)]
    go_to(viewer, [layer], 0, lesion)
    return lesion


def _visit(viewer: ViewerModel, followed: Followed) -> int | None:
    """The visit of the result that the slider shows."""
    shown, places = shown_visit(viewer), followed.places
    return 0 if shown is None and len(places) == 1 else places.index(shown) if shown in places else None
