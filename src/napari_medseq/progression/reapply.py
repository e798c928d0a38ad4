"""Corrections that outlive the result they were made on: each remembers where the lesions lay that it names.

Names may change when masks are painted and tracked again, places do not. A correction that the new result agrees with already is only
written down; one whose lesion is gone is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseq.errors import MedseqError
from napari_medseq.progression import corrections
from napari_medseq.progression.components import Key
from napari_medseq.progression.graph import Graph

Verb = Literal["link", "unlink", "merge", "split", "exclude"]
_VERBS: tuple[Verb, ...] = ("link", "unlink", "merge", "split", "exclude")
#: into what a lesion is split: its components, a number of parts, or one part around each (r, a, s) point in mm
Parts = int | Sequence[Sequence[float]] | None

#: how a correction's words name a visit
_VISIT = re.compile(r"at visit (\d+)")
#: voxels of a lesion that are remembered
_MOST = 200
#: a lesion is recognised where it holds this share of them
_ENOUGH = 0.25


@dataclass(frozen=True, eq=False)
class Place:
    """The position of a lesion: its visit, and voxels (z, y, x) spread over it."""

    visit: int
    voxels: NDArray[np.int32]

    def renumbered(self, visits: Mapping[int, int]) -> Place:
        """The same place where visits have other numbers (old → new)."""
        return Place(visits[self.visit], self.voxels)

    @classmethod
    def of(cls, graph: Graph, key: Key) -> Place:
        """The place of a lesion."""
        index = graph.lesions[key].index
        return cls(key[0], index[:: max(1, len(index) // _MOST)])

    def lesions(self, graph: Graph) -> list[Key]:
        """The lesions of a graph that lie there, the one with the largest share first."""
        remembered = {tuple(v) for v in self.voxels.tolist()}
        shares = {}
        low, high = self.voxels.min(axis=0), self.voxels.max(axis=0)
        for lesion in graph.at(self.visit):
            if lesion.key in graph.excluded:
                continue
            near = lesion.index[((lesion.index >= low) & (lesion.index <= high)).all(axis=1)]
            shares[lesion.key] = sum(tuple(v) in remembered for v in near.tolist()) / len(remembered)
        enough = [key for key, share in shares.items() if share >= _ENOUGH]
        return sorted(enough, key=lambda key: -shares[key])


@dataclass(frozen=True, eq=False)
class Correction:
    """One correction as it was asked for.

    Attributes
    ----------
    text : str
        The correction in words, with the names that lesions had then.
    verb : str
    places : tuple of Place
        Positions of the lesions that it names: child and parent of a link, all those merged or excluded. Empty for one
        that was saved by an earlier version, which kept words alone.
    parts : int, list of points or None
        The parts into which a lesion is split: their number, or a point in each.
    """

    text: str
    verb: Verb
    places: tuple[Place, ...]
    parts: Parts = None

    def renumbered(self, visits: Mapping[int, int]) -> Correction:
        """The same correction where visits have other numbers (old → new), in its words, too."""
        text = _VISIT.sub(lambda found: f"at visit {visits.get(int(found[1]) - 1, int(found[1]) - 1) + 1}", self.text)
        places = [place.renumbered(visits) for place in self.places]
        if self.verb == "exclude":  # sightings are in the order of visits
            places.sort(key=lambda place: place.visit)
        return Correction(text, self.verb, tuple(places), self.parts)

    def as_dict(self) -> dict[str, object]:
        """The correction as JSON has it."""
        places = [{"visit": p.visit, "voxels": p.voxels.tolist()} for p in self.places]
        parts = self.parts if self.parts is None or isinstance(self.parts, int) else [list(p) for p in self.parts]
        return {"text": self.text, "verb": self.verb, "places": places, "parts": parts}

    @classmethod
    def from_dict(cls, facts: Mapping[str, object] | str) -> Correction:
        """Read back what `as_dict` gave, or the words alone.

        Raises
        ------
        ValueError
            If it is no such mapping.
        """
        if isinstance(facts, str):
            return cls(facts, _verb(facts.split(" ", 1)[0]), ())
        places, parts = facts["places"], facts.get("parts")
        if not isinstance(places, list):
            raise ValueError("a correction has no places")
        read = tuple(Place(int(p["visit"]), np.array(p["voxels"], np.int32).reshape(-1, 3)) for p in places)
        points = [tuple(float(v) for v in p) for p in parts] if isinstance(parts, list) else None
        return cls(str(facts["text"]), _verb(facts["verb"]), read, parts if isinstance(parts, int) else points)


def _verb(word: object) -> Verb:
    for verb in _VERBS:
        if verb == word:
            return verb
    raise ValueError(f"{word!r} is not a correction")


def remember(graph: Graph, text: str, verb: Verb, keys: Iterable[Key], parts: Parts = None) -> Correction:
    """A correction of the lesions `keys` of the graph as it is before."""
    return Correction(text, verb, tuple(Place.of(graph, key) for key in keys), parts)


def reapply(graph: Graph, correction: Correction, min_volume_ml: float) -> list[tuple[Graph, Correction]]:
    """Make a correction of another result on this graph; smaller lesions than `min_volume_ml` do not count in merges.

    Returns
    -------
    list of (Graph, Correction)
        What follows from it, step by step; empty where it holds already.

    Raises
    ------
    MedseqError
        If it cannot be made: a lesion that it names is gone.
    """
    if not correction.places:
        raise MedseqError("an earlier version saved it without the place of its lesions")
    keys_of_place = [place.lesions(graph) for place in correction.places]
    if correction.verb == "exclude":
        return _exclude(graph, _continued(graph, [keys[0] if keys else None for keys in keys_of_place]), min_volume_ml)
    for place, keys in zip(correction.places, keys_of_place, strict=True):
        if not keys:
            raise MedseqError(f"no lesion is there any more at visit {place.visit + 1}")
    first = [keys[0] for keys in keys_of_place]
    if correction.verb == "link":
        return _link(graph, first[0], first[1])
    if correction.verb == "unlink":
        return _unlink(graph, first[0], set(first[1:]))
    if correction.verb == "merge":
        members = list(dict.fromkeys(first))
        return [merge(graph, first[0][0], [graph.identities[k] for k in members])] if len(members) > 1 else []
    return (
        [split(graph, first[0][0], graph.identities[first[0]], correction.parts)] if len(keys_of_place[0]) == 1 else []
    )


def _continued(graph: Graph, found: Sequence[Key | None]) -> list[Key]:
    """Of the lesions where sightings of an excluded one were, in the order of visits, those that are sightings of it: the first, and
    later ones unless they continue only others. Where it was a part of a common outline, the rest of that outline lies there too.
    """
    kept = list[Key]()
    for number, key in enumerate(found):
        if key is None:
            continue
        parents = {e.parent for e in graph.parents[key] if e.parent not in graph.excluded}
        if number == 0 or not parents or parents & set(kept):
            kept.append(key)
    return kept


def _exclude(graph: Graph, keys: Sequence[Key], min_volume_ml: float) -> list[tuple[Graph, Correction]]:
    found = sorted(set(keys))
    if not found:
        return []
    visit = found[0][0] if len(found) == 1 else None
    new = corrections.exclude_keys(graph, found, min_volume_ml)
    return [_excluded(graph, new, graph.identities[found[0]], visit)]


def _link(graph: Graph, child: Key, source: Key) -> list[tuple[Graph, Correction]]:
    if any(edge.parent == source for edge in graph.parents[child]):
        return []
    names = graph.identities
    return [link(graph, child[0], names[child], names[source], source[0])]


def _unlink(graph: Graph, child: Key, sources: set[Key]) -> list[tuple[Graph, Correction]]:
    parents = {edge.parent for edge in graph.parents[child]}
    removed = parents & sources
    if removed and removed == parents:
        return [unlink(graph, child[0], graph.identities[child], None)]
    steps = []
    for parent in sorted(removed):
        steps.append(unlink(graph, child[0], graph.identities[child], graph.identities[parent]))
        graph = steps[-1][0]
    return steps


# -- each correction, with what has to be remembered to make it again -------------------------------------------------
def link(graph: Graph, visit: int, lesion: int, parent: int, parent_visit: int | None) -> tuple[Graph, Correction]:
    """See `corrections.link`."""
    text = f"link lesion {lesion} at visit {visit + 1} to lesion {parent}"
    new = corrections.link(graph, visit, lesion, parent, parent_visit)
    child = corrections.find(graph, visit, lesion)
    source = next(e.parent for e in new.parents[child] if e.how == "manual" and new.identities[e.parent] == parent)
    return new, remember(graph, text, "link", [child, source])


def unlink(graph: Graph, visit: int, lesion: int, parent: int | None) -> tuple[Graph, Correction]:
    """See `corrections.unlink`."""
    text = f"unlink lesion {lesion} at visit {visit + 1} from {'all' if parent is None else f'lesion {parent}'}"
    new = corrections.unlink(graph, visit, lesion, parent)
    child = corrections.find(graph, visit, lesion)
    parents = [e.parent for e in graph.parents[child] if parent is None or graph.identities[e.parent] == parent]
    return new, remember(graph, text, "unlink", [child, *parents])


def merge(graph: Graph, visit: int, lesions: Sequence[int]) -> tuple[Graph, Correction]:
    """See `corrections.merge`."""
    text = f"merge lesions {', '.join(str(n) for n in lesions)} at visit {visit + 1}"
    new = corrections.merge(graph, visit, list(lesions))
    return new, remember(graph, text, "merge", sorted({corrections.find(graph, visit, n) for n in lesions}))


def split(graph: Graph, visit: int, lesion: int, parts: Parts) -> tuple[Graph, Correction]:
    """See `corrections.split`."""
    text = f"split lesion {lesion} at visit {visit + 1}"
    new = corrections.split(graph, visit, lesion, parts)
    return new, remember(graph, text, "split", [corrections.find(graph, visit, lesion)], parts)


def exclude(graph: Graph, lesion: int, visit: int | None, min_volume_ml: float) -> tuple[Graph, Correction]:
    """See `corrections.exclude`."""
    return _excluded(graph, corrections.exclude(graph, lesion, visit, min_volume_ml), lesion, visit)


def _excluded(graph: Graph, new: Graph, lesion: int, visit: int | None) -> tuple[Graph, Correction]:
    text = f"exclude lesion {lesion}{'' if visit is None else f' at visit {visit + 1}'}"
    return new, remember(new, text, "exclude", sorted(new.excluded - graph.excluded))
