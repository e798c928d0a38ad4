"""Corrections made again on a new result: each remembers where the lesions lay that it names, since names may change.

A correction that the new result agrees with already is only written down; one whose lesion is gone is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.progression import corrections as _corrections
from napari_medseq.progression.components import Key
from napari_medseq.progression.graph import Graph

if TYPE_CHECKING:
    from napari_medseq.progression.progression import Progression

Verb = Literal["link", "unlink", "merge", "split", "exclude"]

#: voxels of a lesion that are remembered
_MOST = 200
#: a lesion is found again where it holds this share of them
_ENOUGH = 0.25


@dataclass(frozen=True, eq=False)
class Place:
    """Where a lesion lay: its visit, and voxels (z, y, x) spread over it."""

    visit: int
    voxels: NDArray[np.int32]

    @classmethod
    def of(cls, graph: Graph, key: Key) -> Place:
        """The place of a lesion."""
        index = graph.lesions[key].index
        return cls(key[0], index[:: max(1, len(index) // _MOST)])

    def lesions(self, graph: Graph) -> list[Key]:
        """The lesions of a graph that lie there, the one with the largest share first."""
        here = {tuple(v) for v in self.voxels.tolist()}
        shares = {}
        for lesion in graph.at(self.visit):
            if lesion.key in graph.excluded:
                continue
            low, high = self.voxels.min(axis=0), self.voxels.max(axis=0)
            near = lesion.index[((lesion.index >= low) & (lesion.index <= high)).all(axis=1)]
            shares[lesion.key] = sum(tuple(v) in here for v in near.tolist()) / len(here)
        found = [key for key, share in shares.items() if share >= _ENOUGH]
        return sorted(found, key=lambda key: -shares[key])


@dataclass(frozen=True, eq=False)
class Correction:
    """One correction as it was asked for.

    Attributes
    ----------
    text : str
        In words, with the names that lesions had then.
    verb : str
    places : tuple of Place
        Of the lesions that it names: child and parent of a link, all those merged or excluded.
    parts : int, list of points or None
        Into what a lesion is split.
    """

    text: str
    verb: Verb
    places: tuple[Place, ...]
    parts: Any = None


def remember(graph: Graph, text: str, verb: Verb, keys: Iterable[Key], parts: Any = None) -> Correction:
    """A correction of the lesions `keys` of the graph as it is before."""
    return Correction(text, verb, tuple(Place.of(graph, key) for key in keys), parts)


def again(progression: Progression, corrections: Sequence[Correction], *, exclusions: bool) -> list[str]:
    """Make corrections of another result on this one, in their order; what could not be made, with the reason."""
    missed = []
    for correction in corrections:
        if correction.verb == "exclude" and not exclusions:
            progression.note(correction)
            continue
        try:
            if not _make(progression, correction):
                progression.note(correction)
        except MedseqError as error:
            missed.append(f"{correction.text}: {error}")
    return missed


def _make(progression: Progression, correction: Correction) -> bool:
    """Make one; False where it holds already."""
    graph = progression.graph
    there = [place.lesions(graph) for place in correction.places]
    names = [[graph.identities[key] for key in keys] for keys in there]
    if correction.verb == "exclude":
        every = [(key[0], graph.identities[key]) for keys in there for key in keys[:1]]
        for visit, lesion in every:
            progression.exclude(lesion, visit)
        return bool(every)
    for place, keys in zip(correction.places, there, strict=True):
        if not keys:
            raise MedseqError(f"no lesion is there any more at visit {place.visit}")
    visit = correction.places[0].visit
    if correction.verb == "link":
        source = there[1][0]
        if any(edge.parent == source for edge in graph.parents[there[0][0]]):
            return False
        progression.link(visit, names[0][0], names[1][0], parent_visit=source[0])
    elif correction.verb == "unlink":
        parents = {edge.parent for edge in graph.parents[there[0][0]]}
        gone = parents & {keys[0] for keys in there[1:]}
        if gone == parents and gone:
            progression.unlink(visit, names[0][0])
            return True
        for parent in sorted(gone):
            now = progression.graph.identities
            progression.unlink(visit, now[there[0][0]], now[parent])
        return bool(gone)
    elif correction.verb == "merge":
        members = list(dict.fromkeys(keys[0] for keys in there))
        if len(members) < 2:
            return False
        progression.merge(visit, [graph.identities[key] for key in members])
    else:
        if len(there[0]) > 1:
            return False
        progression.split(visit, names[0][0], correction.parts)
    return True


def parents_of(graph: Graph, visit: int, lesion: int, parent: int | None) -> list[Key]:
    """The lesion and the parents from which `unlink` takes it."""
    child = _corrections.find(graph, visit, lesion)
    edges = graph.parents[child]
    return [child, *(e.parent for e in edges if parent is None or graph.identities[e.parent] == parent)]
